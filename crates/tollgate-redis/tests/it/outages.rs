//! An outage of the store under load, as those see it who ask a limiter: each rule has its own word, nobody waits long, it is told once that
//! it has begun and once that it is over, and soon after that all count together again.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use testbed::{Fault, FaultProxy, Server};
use tollgate::{
    algorithm::Verdict,
    clock::{Clock, Timestamp},
    limiter::Limiter,
    policy::{OnStoreError, Policy, Rule, Sharing},
    quota::Algorithm,
    request::Request,
    store::{Health, LOCAL_COUNTERS, Stores, memory::MemoryStore},
};
use tollgate_redis::RedisStore;

use crate::rig::{Attended, BACK_WITHIN, REST, Run, TIMEOUT, at, in_one_of_several, settings, subject};

const QUOTA: u64 = 300;
/// How many ask at the same time, for each rule.
const TASKS: usize = 3;

/// A limiter of one rule.
fn limiter(stores: &Stores, on_store_error: OnStoreError) -> Limiter<Stores> {
    let rule = Rule::of(on_store_error.name(), format!("{QUOTA}/hour").as_str()).expect("tests write good limits");
    let rule = rule.counting_with(Algorithm::FixedWindow).expect("it counts everything");
    let rule = rule.sharing(Sharing { on_store_error, ..Sharing::default() });
    let policy = Policy::new(Default::default(), None, Vec::new(), vec![rule]).expect("it is a good policy");
    Limiter::new(policy, stores.clone())
}

/// What was decided while the store was away.
async fn ask_until(limiter: &Limiter<Stores>, clock: &Attended, end: Timestamp) -> Run {
    let request = Request { peer: Some([203, 0, 113, 7].into()), ..Request::default() };
    let mut run = Run::default();
    while clock.now() < end {
        let asked_at = clock.now();
        match limiter.check(&request).await.verdict() {
            Verdict::Allow => run.admitted += 1,
            Verdict::Deny => run.denied += 1,
        }
        run.took.push(clock.now().since(asked_at));
        tokio::time::sleep(REST).await;
    }
    run
}

async fn all_ask(limiters: &[Limiter<Stores>], span: Duration) -> Vec<Run> {
    let clock = Attended::start();
    let end = clock.now() + span;
    let of = async |limiter: &Limiter<Stores>| {
        let mut all = Run::default();
        for run in futures_util::future::join_all((0..TASKS).map(|_| ask_until(limiter, &clock, end))).await {
            all.admitted += run.admitted;
            all.denied += run.denied;
            all.took.extend(run.took);
        }
        all
    };
    futures_util::future::join_all(limiters.iter().map(of)).await
}

/// The store goes while it is asked, stays away for a while, and comes back.
async fn check_outage(what: &str, url: String, begin: impl Fn(), end: impl Fn()) {
    in_one_of_several(async || try_outage(what, url.clone(), &begin, &end).await).await;
}

/// Fails if the store seemed to be away before it was: when a busy machine lets it answer three times too late.
async fn try_outage(what: &str, url: String, begin: impl FnOnce(), end: impl FnOnce()) -> Result<(), String> {
    let clock = Attended::start();
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = {
        let told = told.clone();
        move |health| told.lock().expect("nobody panics").push(health)
    };
    let stores =
        Stores::sharing(RedisStore::connect(settings(url)), MemoryStore::new(LOCAL_COUNTERS, Clock::system()), tell);
    let limiters = OnStoreError::ALL.map(|on_store_error| limiter(&stores, on_store_error));
    let before = all_ask(&limiters, Duration::from_millis(100)).await;
    if !told.lock().expect("nobody panics").is_empty() {
        return Err(format!("{what}: told before anything has happened: {told:?}"));
    }
    assert!(before.iter().all(|run| run.admitted > 0), "{what}: it answers before");

    let away = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        begin();
        tokio::time::sleep(Duration::from_millis(450)).await;
    };
    // Under way when it goes.
    let (mut first, ()) = tokio::join!(all_ask(&limiters, Duration::from_millis(500)), away);
    let mut while_away = all_ask(&limiters, Duration::from_millis(1_500)).await;
    for run in first.iter_mut().chain(&mut while_away) {
        run.check_patience(what);
    }
    for run in &mut while_away {
        // But for the few who try.
        let nearly_all = run.took_at_most(950);
        assert!(nearly_all < Duration::from_millis(5), "{what}: 95 % take up to {nearly_all:?}");
    }
    let [local, allow, deny] = while_away.as_slice() else { unreachable!("there are three") };
    assert!(first[0].admitted + local.admitted <= 2 * QUOTA, "{what}: one more quota, and not {}", local.admitted);
    assert!(local.denied > 0, "{what}: it was asked often enough");
    assert_eq!(allow.denied, 0, "{what}");
    assert_eq!(deny.admitted, 0, "{what}");
    assert!(matches!(told.lock().expect("nobody panics").as_slice(), [Health::Degraded { .. }]), "{what}: {told:?}");

    end();
    let since = clock.now();
    let shared = subject("shared", "1000000/hour", Algorithm::FixedWindow);
    let back = loop {
        let answered = stores.take(&[shared.charge(1)]).await.answerers.is_none();
        let after = clock.now().since(since);
        if answered {
            break after;
        }
        assert!(after < BACK_WITHIN + TIMEOUT, "{what}: not back after {after:?}");
        tokio::time::sleep(REST).await;
    };
    println!("{what}: back after {back:?}");
    assert!(back < BACK_WITHIN, "{what}: back after {back:?}");
    // It is over when all has been calm for a second.
    for _ in 0..30 {
        all_ask(&limiters, Duration::from_millis(1_300)).await;
        if told.lock().expect("nobody panics").len() > 1 {
            break;
        }
    }
    let told = told.lock().expect("nobody panics");
    println!("{what}: {}", told.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
    // On a busy machine, an answer can be late once more after that.
    let [Health::Degraded { .. }, Health::Recovered { after, without }, ..] = told.as_slice() else {
        panic!("{what}: told {told:?}")
    };
    assert!(*after > Duration::from_millis(1_500), "{what}: {after:?}");
    assert_eq!(without.len(), 4, "{what}: {without:?}");
    assert_eq!(stores.degraded_since().is_some(), told.len() % 2 == 1, "{what}: {told:?}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_killed() {
    let server = Server::redis();
    check_outage("killed", at(&server), || server.kill9(), || server.restart()).await;
}

#[tokio::test]
async fn a_server_that_stands_still() {
    let server = Server::redis();
    check_outage("stands still", at(&server), || server.pause(), || server.resume()).await;
}

#[tokio::test]
async fn a_network_that_loses_everything() {
    let server = Server::redis();
    let proxy = FaultProxy::to(server.addr());
    let url = format!("redis://{}", proxy.addr());
    check_outage("lost", url, || proxy.set(Fault::Blackhole), || proxy.set(Fault::Pass)).await;
}

#[tokio::test]
async fn a_server_that_is_full() {
    let server = Server::redis();
    let limit = |bytes: &str| drop(server.command(&["CONFIG", "SET", "maxmemory", bytes]));
    check_outage("full", at(&server), || limit("1"), || limit("0")).await;
}

#[tokio::test]
async fn a_store_that_comes_and_goes_refills_nothing_and_is_told_of_once() {
    let server = Server::redis();
    let redis = RedisStore::connect(settings(at(&server)));
    let told = Arc::new(AtomicU32::new(0));
    let tell = {
        let told = told.clone();
        move |_| _ = told.fetch_add(1, Ordering::Relaxed)
    };
    let stores = Stores::sharing(redis, MemoryStore::new(LOCAL_COUNTERS, Clock::system()), tell);
    let (local, request) = (limiter(&stores, OnStoreError::Local), Request::default());
    let mut admitted = 0;
    for _ in 0..3 {
        server.kill9();
        for _ in 0..QUOTA {
            admitted += u64::from(local.check(&request).await.verdict() == Verdict::Allow);
        }
        server.restart();
        let shared = subject("shared", "1000000/hour", Algorithm::FixedWindow);
        while stores.take(&[shared.charge(1)]).await.answerers.is_some() {
            tokio::time::sleep(REST).await;
        }
    }
    assert_eq!(admitted, QUOTA, "flapping refills nothing");
    assert_eq!(told.load(Ordering::Relaxed), 1, "it is one outage, which is not yet over");
}
