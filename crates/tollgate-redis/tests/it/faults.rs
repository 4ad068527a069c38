//! What the network and the server can do to a store by itself. Whatever it is, decisions are answered in time, with an error if need be;
//! nothing is admitted twice; and when it is over, the same store goes on.

use std::{cell::Cell, thread, time::Duration};

use testbed::{Fault, FaultProxy, Options, Reply, Server};
use tollgate::{
    clock::Timestamp,
    quota::Algorithm,
    store::{GiveBack, Store, passes},
};
use tollgate_redis::{RedisError, RedisStore};

use crate::rig::{
    BACK_WITHIN, Dice, PATIENCE, Subject, at, back, hammer, keys, patient, settings, store, subject, why_refused,
};

const QUOTA: u64 = 400;

/// The line is faulty for a while, between two in which all is well.
async fn check_line(server: &Server, fault: Fault) {
    let what = format!("{fault:?}");
    let proxy = FaultProxy::to(server.addr());
    let store = store(format!("redis://{}", proxy.addr()));
    let subject = subject(&what, &format!("{QUOTA}/hour"), Algorithm::FixedWindow);
    let before = subject.spend(&store, 20).await;
    assert_eq!(before.admitted, 20);

    proxy.set(fault);
    let mut faulty = hammer(&subject, &store, 4, Duration::from_millis(700)).await;
    proxy.set(Fault::Pass);
    faulty.check_patience(&what);
    assert!(!faulty.errors.is_empty(), "{what}: it is no fault");

    let (after, first) = back(&subject, &store).await;
    println!("{what}: back after {after:?}");
    assert!(after < BACK_WITHIN, "{what}: back only after {after:?}");
    let rest = hammer(&subject, &store, 8, Duration::from_millis(500)).await;
    let others = rest.errors.iter().find(|error| !matches!(error, RedisError::TimedOut));
    // On a busy machine, one or the other is not answered in time.
    assert!(
        others.is_none() && rest.errors.len() * 2 <= rest.took.len(),
        "{what}: it is over, and {} times {:?}",
        rest.errors.len(),
        rest.errors[0]
    );
    let end = subject.spend(&store, QUOTA).await;
    let admitted = before.admitted + faulty.admitted + first.admitted + rest.admitted + end.admitted;
    println!("{what}: {admitted} of {QUOTA} admitted");
    assert!(admitted <= QUOTA, "{what}: {admitted} of {QUOTA} admitted");
    assert_eq!(subject.remaining(&store).await, 0, "{what}: was not asked often enough");
    if !matches!(fault, Fault::Delay(_) | Fault::CutReplies(_)) {
        // At most what was on its way was charged for nothing, then and whenever else an answer was late.
        let late = [before, rest, end].iter().map(|run| run.errors.len() as u64).sum::<u64>();
        assert!(admitted + late >= QUOTA - 50, "{what}: only {admitted} of {QUOTA} admitted, and {late} late");
    }
}

#[tokio::test]
async fn no_fault_of_the_network_makes_a_decision_late_or_admits_more() {
    let server = Server::redis();
    let faults = [
        Fault::Delay(Duration::from_millis(150)),
        Fault::Delay(Duration::MAX),
        Fault::Blackhole,
        Fault::Reset,
        Fault::Refuse,
        Fault::CutRequests(0),
        Fault::CutRequests(100),
        Fault::CutReplies(0),
        Fault::CutReplies(50),
    ];
    futures_util::future::join_all(faults.map(|fault| check_line(&server, fault))).await;
}

/// The server does something for a while that keeps it from answering, and then goes on.
async fn check_silence(server: &Server, what: &str, begin: impl FnOnce(&Server), end: impl FnOnce(&Server)) {
    let (store, subject) = (store(at(server)), subject("r", &format!("{QUOTA}/hour"), Algorithm::SlidingWindow));
    let mut admitted = subject.spend(&store, 10).await.admitted;
    begin(server);
    let mut silent = hammer(&subject, &store, 4, Duration::from_millis(500)).await;
    end(server);
    silent.check_patience(what);
    assert!(!silent.errors.is_empty(), "{what}: it is no fault");
    let (after, first) = back(&subject, &store).await;
    println!("{what}: back after {after:?}");
    admitted += silent.admitted + first.admitted + subject.admitted(&store, QUOTA).await;
    assert!(admitted <= QUOTA, "{what}: {admitted} of {QUOTA} admitted");
}

/// A command that takes its time, on a connection of its own.
fn in_background(server: &Server, words: &'static [&'static str]) {
    let mut connection = server.connect().expect("it runs");
    // It is there before anything else is asked.
    connection.send(words).expect("it reads");
    thread::spawn(move || connection.reply());
}

#[tokio::test]
async fn a_server_that_is_silent_for_a_while_goes_on() {
    let server = Server::redis();
    check_silence(&server, "CLIENT PAUSE", |server| drop(server.command(&["CLIENT", "PAUSE", "600", "ALL"])), |_| {})
        .await;
}

#[tokio::test]
async fn a_server_that_sleeps_wakes_up() {
    let server = Server::start(Options::redis().with(&["--enable-debug-command", "yes"]));
    check_silence(&server, "DEBUG SLEEP", |server| in_background(server, &["DEBUG", "SLEEP", "0.6"]), |_| {}).await;
}

#[tokio::test]
async fn a_process_that_stands_still_goes_on() {
    let server = Server::redis();
    check_silence(&server, "SIGSTOP", Server::pause, Server::resume).await;
}

#[tokio::test]
async fn a_script_of_somebody_else_that_does_not_end_is_survived() {
    let server = Server::start(Options::redis().with(&["--busy-reply-threshold", "50"]));
    let (store, subject) = (store(at(&server)), subject("r", "1000/hour", Algorithm::FixedWindow));
    assert_eq!(subject.spend(&store, 3).await.admitted, 3);
    in_background(&server, &["EVAL", "while true do end", "0"]);
    let mut busy = hammer(&subject, &store, 2, Duration::from_millis(400)).await;
    busy.check_patience("BUSY");
    let said = busy.errors.iter().any(|error| error.to_string().contains("BUSY"));
    assert!(said, "nobody says so: {:?}", busy.errors);
    assert_eq!(server.command(&["SCRIPT", "KILL"]).text(), "OK");
    let (after, _) = back(&subject, &store).await;
    println!("BUSY: back after {after:?}");
}

#[tokio::test]
async fn nobody_notices_that_scripts_are_forgotten() {
    let server = Server::redis();
    let (store, subject) = (patient(at(&server)), subject("r", "50/hour", Algorithm::TokenBucket));
    let mut admitted = 0;
    for _ in 0..10 {
        admitted += subject.admitted(&store, 7).await;
        server.command(&["SCRIPT", "FLUSH"]);
    }
    assert_eq!(admitted, 50);
}

#[tokio::test]
async fn counters_that_are_flushed_begin_anew() {
    let server = Server::redis();
    for algorithm in Algorithm::ALL {
        let (store, subject) = (patient(at(&server)), subject("r", "5/hour", algorithm));
        assert_eq!(subject.admitted(&store, 7).await, 5, "{algorithm}");
        server.command(&["FLUSHALL"]);
        assert_eq!(subject.admitted(&store, 7).await, 5, "{algorithm}");
    }
}

#[tokio::test]
async fn a_server_whose_memory_is_full_says_so_and_loses_nothing() {
    let server = Server::redis();
    for algorithm in Algorithm::ALL {
        let (store, subject) = (patient(at(&server)), subject("r", "20/hour", algorithm));
        assert_eq!(subject.admitted(&store, 5).await, 5, "{algorithm}");
        server.command(&["CONFIG", "SET", "maxmemory", "1"]);
        for _ in 0..10 {
            let error = subject.take(&store).await.expect_err("there is no memory");
            assert!(error.to_string().contains("OOM"), "{algorithm}: {error}");
        }
        assert_eq!(subject.remaining(&store).await, 15, "{algorithm}: to look needs no memory");
        server.command(&["CONFIG", "SET", "maxmemory", "0"]);
        assert_eq!(subject.admitted(&store, 20).await, 15, "{algorithm}");
    }
}

/// What was counted is read again after a restart, and as long as that takes nobody is told that he is the first.
#[tokio::test]
async fn a_server_that_reads_its_data_says_so_and_has_them_then() {
    // Each key takes some microseconds, and between any two it answers those who ask.
    let slow = ["--key-load-delay", "50", "--loading-process-events-interval-bytes", "1024"];
    let server = Server::start(Options::redis().with(&slow));
    let (store, subject) = (store(at(&server)), subject("r", "100/hour", Algorithm::FixedWindow));
    let before = subject.spend(&store, 30).await;
    let others = "for i = 1, 10000 do redis.call('SET', 'other:' .. i, string.rep('x', 100)) end";
    server.command(&["EVAL", others, "0"]);
    assert_eq!(server.command(&["SAVE"]).text(), "OK");
    server.restart();
    let mut loading = hammer(&subject, &store, 2, Duration::from_millis(400)).await;
    loading.check_patience("LOADING");
    let said = loading.errors.iter().filter(|error| error.to_string().contains("LOADING")).count();
    println!("LOADING: said {said} times of {}", loading.took.len());
    assert!(said > 0, "nobody says so: {:?}", loading.errors);
    testbed::wait_for("a server to have read its data", 4 * PATIENCE, || {
        server.command(&["INFO", "persistence"]).text().lines().any(|line| line == "loading:0").then_some(())
    });
    let (after, first) = back(&subject, &store).await;
    println!("LOADING: back after {after:?}");
    let end = subject.spend(&store, 100).await;
    let admitted = before.admitted + loading.admitted + first.admitted + end.admitted;
    // On a busy machine, whoever is not answered in time is charged for nothing.
    let is_late = |error: &&RedisError| matches!(error, RedisError::TimedOut);
    let late = [before, loading, first, end].iter().flat_map(|run| &run.errors).filter(is_late).count() as u64;
    assert!(
        admitted <= 100 && admitted + late >= 100,
        "as many as without the restart, and not {admitted}, {late} late"
    );
}

/// A server that cannot write its data to disk refuses to change them.
#[tokio::test]
async fn a_server_that_cannot_keep_its_data_says_so_and_loses_nothing() {
    let server = Server::redis();
    let (store, subject) = (patient(at(&server)), subject("r", "20/hour", Algorithm::FixedWindow));
    assert_eq!(subject.admitted(&store, 5).await, 5);
    // A folder is in the way of its file.
    std::fs::create_dir(server.folder().join("dump.rdb")).expect("the folder is ours");
    server.command(&["CONFIG", "SET", "save", "3600 1"]);
    server.command(&["BGSAVE"]);
    testbed::wait_for("a save to fail", PATIENCE, || {
        server.command(&["INFO", "persistence"]).text().contains("rdb_last_bgsave_status:err").then_some(())
    });
    for _ in 0..5 {
        let error = subject.take(&store).await.expect_err("it changes nothing").to_string();
        assert!(error.contains("MISCONF"), "{error}");
    }
    assert_eq!(subject.remaining(&store).await, 15, "to look changes nothing");
    server.command(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]);
    assert_eq!(subject.admitted(&store, 20).await, 15);
}

/// All algorithms with a key as they name it.
fn named() -> impl Iterator<Item = (Algorithm, String)> {
    Algorithm::ALL.into_iter().map(|algorithm| (algorithm, format!("tollgate:{{client}}:r:{}/1h", algorithm.name())))
}

#[tokio::test]
async fn whatever_else_has_the_name_of_a_counter_is_no_counter() {
    let server = Server::redis();
    let store = patient(at(&server));
    for (algorithm, key) in named() {
        let subject = subject("r", "3/hour", algorithm);
        let others: [&[&str]; 6] = [
            &["SET", &key, "a string"],
            &["RPUSH", &key, "a", "list", "of", "words"],
            &["RPUSH", &key, "3", "a list that begins well"],
            &["HSET", &key, "a", "hash"],
            &["SADD", &key, "a set"],
            &["ZADD", &key, "1", "a sorted set"],
        ];
        for other in others {
            server.command(other);
            assert_eq!(subject.admitted(&store, 5).await, 3, "{algorithm} after {other:?}");
            server.command(&["DEL", &key]);
        }
    }
}

/// Something of the size and kind that a counter has, and of sizes that none has.
fn garbage(dice: &mut Dice) -> Vec<u8> {
    let numbers = [0.0, 1.0, -1.0, 0.5, 2e9, 2e15, 9e15, 1e16, 1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    let number = |dice: &mut Dice| match dice.below(3) {
        0 => f64::from_bits(dice.below(u64::MAX)),
        _ => *dice.pick(&numbers),
    };
    match dice.below(4) {
        0 => (0..dice.below(40)).map(|_| dice.below(256).to_le_bytes()[0]).collect(),
        n => (0..n).flat_map(|_| number(dice).to_le_bytes()).collect(),
    }
}

#[tokio::test]
async fn no_value_at_a_counters_place_breaks_it() {
    let server = Server::redis();
    let mut connection = server.connect().expect("it runs");
    let (store, mut dice) = (patient(at(&server)), Dice::new(5));
    for (algorithm, key) in named() {
        let subject = subject("r", "3/hour", algorithm);
        for _ in 0..300 {
            let value = garbage(&mut dice);
            let wrote = match (algorithm, dice.below(8)) {
                (Algorithm::SlidingLog, 1..) => {
                    let sum = [&b"0"[..], b"1", b"3", b"-1", b"1.5", b"nan", b"1e300", b"x", b"99999"];
                    let mut list = vec![b"RPUSH".to_vec(), key.clone().into(), dice.pick(&sum).to_vec()];
                    list.extend((0..dice.below(4)).map(|_| garbage(&mut dice)));
                    list
                }
                _ => vec![b"SET".to_vec(), key.clone().into(), value],
            };
            connection.command(&wrote).expect("it answers");
            for _ in 0..2 {
                let answer = subject.take(&store).await;
                assert!(answer.is_ok(), "{algorithm}: {answer:?} of {wrote:?}");
            }
            let given = [GiveBack::new(subject.charge(1), answer_at(&subject, &store).await)];
            store.give_back(&given).await.unwrap_or_else(|error| panic!("{algorithm}: {error} of {wrote:?}"));
            connection.command(&["DEL", &key]).expect("it answers");
        }
    }
}

async fn answer_at(subject: &Subject, store: &RedisStore) -> Timestamp {
    store.look(&[subject.charge(1)]).await.expect("it answers").at
}

#[tokio::test]
async fn a_master_that_has_become_a_replica_is_left_and_asked_again() {
    let server = Server::redis();
    let proxy = FaultProxy::to(server.addr());
    let (store, subject) =
        (store(format!("redis://{}", proxy.addr())), subject("r", "100/hour", Algorithm::FixedWindow));
    assert_eq!(subject.spend(&store, 3).await.admitted, 3);
    server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    let mut replica = hammer(&subject, &store, 2, Duration::from_millis(100)).await;
    replica.check_patience("READONLY");
    // It is on another connection that another master may be found.
    while proxy.accepted() <= 5 {
        let more = hammer(&subject, &store, 2, Duration::from_millis(100)).await;
        assert!(!more.errors.is_empty() && replica.errors.len() < 10_000, "{} connections", proxy.accepted());
        replica.errors.extend(more.errors);
    }
    let said = replica.errors.iter().any(|error| error.to_string().contains("READONLY"));
    assert!(said, "nobody says so: {:?}", replica.errors);
    server.command(&["REPLICAOF", "NO", "ONE"]);
    let (after, _) = back(&subject, &store).await;
    println!("READONLY: back after {after:?}");
}

#[tokio::test]
async fn a_wrong_password_is_named_at_once() {
    let server = Server::start(Options { password: Some("s3cret".to_owned()), ..Options::redis() });
    let subject = subject("r", "100/hour", Algorithm::FixedWindow);
    for (login, expected) in [
        ("", "NOAUTH"),
        (":wrong@", "Password authentication failed"),
        ("nobody:s3cret@", "Password authentication failed"),
    ] {
        let store = patient(format!("redis://{login}{}", server.addr()));
        let error = subject.take(&store).await.expect_err("it is not let in").to_string();
        assert!(error.contains(expected), "{login:?}: {error}");
        assert!(!error.contains("s3cret") && !error.contains(":wrong"), "{error}");
        let error = why_refused(&crate::rig::store(format!("redis://{login}{}", server.addr()))).await;
        assert!(error.contains(expected), "{login:?}: {error}");
    }
    let store = patient(format!("redis://:s3cret@{}", server.addr()));
    assert_eq!(subject.admitted(&store, 3).await, 3);
}

#[tokio::test]
async fn a_server_that_asks_for_a_password_later_is_told_it() {
    let server = Server::redis();
    let (store, subject) =
        (patient(format!("redis://:s3cret@{}", server.addr())), subject("r", "9/hour", Algorithm::FixedWindow));
    // Nobody asks for it now, and a server that is told one all the same refuses.
    let refused = subject.take(&store).await.expect_err("it has none").to_string();
    assert!(refused.contains("authentication"), "{refused}");
    server.command(&["CONFIG", "SET", "requirepass", "s3cret"]);
    let (after, _) = back(&subject, &store).await;
    println!("password: back after {after:?}");
}

#[tokio::test]
async fn a_server_that_restarts_is_found_again() {
    let server = Server::redis();
    let (store, subject) = (store(at(&server)), subject("r", "100/hour", Algorithm::FixedWindow));
    for _ in 0..3 {
        assert_eq!(subject.spend(&store, 3).await.admitted, 3);
        server.restart();
        let (after, _) = back(&subject, &store).await;
        println!("restart: back after {after:?}");
        assert!(after < BACK_WITHIN);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_at_the_start_is_found_when_it_comes() {
    let server = Server::redis();
    server.kill9();
    let (store, subject) = (store(at(&server)), subject("r", "100/hour", Algorithm::FixedWindow));
    let mut away = hammer(&subject, &store, 2, Duration::from_millis(300)).await;
    away.check_patience("not there");
    let is_told = away.errors.iter().any(|error| matches!(error, RedisError::Disconnected(_)));
    assert!(is_told, "{:?}", away.errors[0]);
    server.restart();
    let (after, _) = back(&subject, &store).await;
    println!("not there: back after {after:?}");
}

#[tokio::test]
async fn no_more_than_a_bound_wait_and_the_others_are_told() {
    const ASKED: usize = 25_000;
    let server = Server::redis();
    let url = format!("{}?denials=ask", at(&server));
    let store = RedisStore::connect(settings(url).timeout(3 * PATIENCE));
    let subject = subject("r", "1000000/hour", Algorithm::FixedWindow);
    assert_eq!(subject.admitted(&store, 1).await, 1);
    server.pause();
    let asked = Cell::new(0);
    let ask = async || {
        asked.set(asked.get() + 1);
        subject.take(&store).await
    };
    let asking = futures_util::future::join_all((0..ASKED).map(|_| ask()));
    let going_on = async {
        while asked.get() < ASKED {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.resume();
    };
    let (answers, ()) = tokio::join!(asking, going_on);
    let busy = answers.iter().filter(|answer| matches!(answer, Err(RedisError::Busy))).count();
    let answered = answers.iter().filter(|answer| answer.is_ok()).count();
    println!("{answered} answered, {busy} told that too many wait");
    assert!(busy >= ASKED - 21_000, "only {busy} of {ASKED} were told");
    assert!(answered >= 19_000, "only {answered} of those who waited were answered");
    assert_eq!(subject.admitted(&store, 10).await, 10);
}

#[tokio::test]
async fn callers_that_give_up_leave_nothing_broken() {
    const QUOTA: u64 = 3_000;
    let server = Server::redis();
    let store = patient(at(&server));
    let plain = subject("plain", &format!("{QUOTA}/hour"), Algorithm::FixedWindow);
    let leased = subject("leased", &format!("{QUOTA}/hour"), Algorithm::FixedWindow).leased(10);
    let mut dice = Dice::new(1);
    let mut admitted = [0, 0];
    for _ in 0..40 {
        let patience: Vec<_> = (0..50).map(|_| Duration::from_micros(dice.below(3_000))).collect();
        let asked = patience.iter().enumerate().map(async |(i, patience)| {
            let of = i % 2;
            let charges = [[&plain, &leased][of].charge(1)];
            let taken = tokio::time::timeout(*patience, store.take(&charges)).await;
            (of, matches!(taken, Ok(Ok(taken)) if passes(&charges, &taken.outcomes)))
        });
        for (of, passed) in futures_util::future::join_all(asked).await {
            admitted[of] += u64::from(passed);
        }
    }
    for (of, subject) in [&plain, &leased].into_iter().enumerate() {
        let left = subject.admitted(&store, QUOTA).await;
        println!("{}: {} admitted while others gave up, {left} later", subject.rule, admitted[of]);
        assert!(admitted[of] + left <= QUOTA);
        assert!(left >= QUOTA - 1_000, "whoever gives up costs no more than what he asked for");
    }
    assert_eq!(keys(&server).len(), 2);
}

#[tokio::test]
async fn nobody_is_asked_for_those_who_have_all_given_up() {
    let server = Server::redis();
    let (store, subject) = (patient(at(&server)), subject("r", "100/hour", Algorithm::FixedWindow));
    assert_eq!(subject.admitted(&store, 1).await, 1);
    server.pause();
    for _ in 0..3 {
        let asked = (0..10).map(|_| tokio::time::timeout(Duration::from_millis(5), subject.take(&store)));
        futures_util::future::join_all(asked).await;
    }
    server.resume();
    tokio::time::sleep(Duration::from_millis(50)).await;
    back(&subject, &store).await;
    let info = server.command(&["INFO", "commandstats"]);
    let of_scripts = info.text().lines().find(|line| line.starts_with("cmdstat_eval:")).expect("they are known by now");
    assert!(of_scripts.ends_with("failed_calls=0"), "a script without keys fails: {of_scripts}");
}

#[tokio::test]
async fn a_connection_that_was_closed_while_nobody_asked_is_made_anew_without_an_error() {
    let server = Server::redis();
    let (store, subject) = (patient(at(&server)), subject("r", "100/hour", Algorithm::FixedWindow));
    assert_eq!(subject.admitted(&store, 3).await, 3);
    for _ in 0..3 {
        let closed = server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        assert!(matches!(closed, Reply::Integer(1..)), "{closed:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        subject.take(&store).await.expect("it connects anew");
    }
    assert_eq!(subject.remaining(&store).await, 94);
}
