//! Shares of a quota that instances take in one trip and spend by themselves. However they are spent, lost, given back or outlived: no window
//! ever admits more than its amount.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use testbed::{Fault, FaultProxy, Server};
use tollgate::{
    algorithm::Verdict,
    clock::{Clock, ManualClock, Timestamp},
    quota::Algorithm,
    store::{GiveBack, Store, passes},
};
use tollgate_redis::{RedisError, RedisStore};

use crate::rig::{Attended, BACK_WITHIN, Dice, PATIENCE, Subject, at, calls, only, patient, settings, store, subject};

fn instances(server: &Server, count: usize) -> Vec<RedisStore> {
    (0..count).map(|_| patient(at(server))).collect()
}

/// Two that have the same time, which is turned by hand, so that a window is over when the test says so.
fn two_by_hand(server: &Server) -> ([RedisStore; 2], ManualClock) {
    let clock = ManualClock::new(Timestamp::from_micros(1_800_014_400_000_000));
    let by_hand = || {
        let settings = settings(format!("{}?denials=ask", at(server))).timeout(PATIENCE);
        RedisStore::connect(settings.clock(clock.clone().into()))
    };
    ([by_hand(), by_hand()], clock)
}

#[tokio::test]
async fn instances_share_a_window_to_its_last_unit_in_few_trips() {
    const AMOUNT: u64 = 2_000;
    for algorithm in [Algorithm::FixedWindow, Algorithm::CalendarWindow] {
        let server = Server::redis();
        let leased = subject("r", &format!("{AMOUNT}/year"), algorithm).leased(100);
        let stores = instances(&server, 4);
        let ask = async |store: &RedisStore| leased.admitted(store, 450).await;
        let admitted: u64 = futures_util::future::join_all(stores.iter().map(ask)).await.iter().sum();
        assert_eq!(admitted, 1_800, "{algorithm}: there is enough for everybody");
        assert!(calls(&server) <= 25, "{algorithm}: {} calls for 1,800 decisions", calls(&server));

        // Each holds a part, and all of it can be spent.
        let ask = async |store: &RedisStore| leased.admitted(store, 200).await;
        let rest: u64 = futures_util::future::join_all(stores.iter().map(ask)).await.iter().sum();
        assert_eq!(admitted + rest, AMOUNT, "{algorithm}");
        for store in &stores {
            let (charges, clock) = ([leased.charge(1)], Clock::system());
            let asked_at = clock.now();
            let denied = store.take(&charges).await.expect("it answers");
            let (outcome, looked) = (*only(&denied), *only(&store.look(&charges).await.expect("it answers")));
            assert_eq!(outcome.verdict, Verdict::Deny);
            let (told, known) = (outcome.retry_after.expect("the window ends"), looked.status.reset_after);
            let meanwhile = clock.now().since(asked_at);
            assert!(told >= known && told - known < Duration::from_secs(1) + meanwhile, "{told:?} of {known:?}");
        }
    }
}

#[tokio::test]
async fn short_windows_never_admit_more_than_their_amount() {
    const AMOUNT: usize = 40;
    const WINDOW: u64 = 100_000;
    let server = Server::redis();
    let clock = Clock::system();
    let leased = subject("r", &format!("{AMOUNT}/100ms"), Algorithm::CalendarWindow).leased(10);
    let stores = instances(&server, 4);
    let window_now = || clock.now().as_micros() / WINDOW;
    let (end, at_most) = (window_now() + 30, window_now() + 600);
    // How many windows are more than half full, which takes longer where the machine does something else.
    let windows = RefCell::new(BTreeMap::<u64, usize>::new());
    let full = || windows.borrow().values().filter(|admitted| **admitted > AMOUNT / 2).count();
    // In every other window all leases are taken and hardly spent, and in the next one everybody takes what he can.
    let ask = async |store: &RedisStore| {
        let mut asked_in = 0;
        while window_now() < end || full() <= 5 && window_now() < at_most {
            let window = window_now();
            if window.is_multiple_of(2) && asked_in == window {
                tokio::time::sleep(Duration::from_micros(200)).await;
                continue;
            }
            asked_in = window;
            let taken = leased.take(store).await.expect("it answers");
            // Whoever is answered in the next one is of either.
            if only(&taken).verdict == Verdict::Allow && window_now() == window {
                *windows.borrow_mut().entry(window).or_default() += 1;
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    };
    futures_util::future::join_all(stores.iter().map(ask)).await;
    assert!(full() > 5, "it was not asked often enough: {windows:?}");
    let windows = windows.into_inner();
    let admitted: usize = windows.values().sum();
    println!("{} windows, {admitted} admitted, at most {:?} in one", windows.len(), windows.values().max());
    assert!(windows.values().all(|admitted| *admitted <= AMOUNT), "{windows:?}");
}

#[tokio::test]
async fn what_is_not_spent_lapses_with_its_window() {
    let server = Server::redis();
    let leased = subject("r", "10/200ms", Algorithm::FixedWindow).leased(6);
    let ([one, other], clock) = two_by_hand(&server);
    for _ in 0..4 {
        assert_eq!(leased.admitted(&one, 1).await, 1);
        assert_eq!(leased.admitted(&other, 10).await, 4, "six are the first one's, and only in this window");
        clock.advance(Duration::from_millis(205));
    }
}

#[tokio::test]
async fn a_crash_loses_the_lease_and_no_more() {
    let server = Server::redis();
    let leased = subject("r", "100/hour", Algorithm::FixedWindow).leased(10);
    for _ in 0..3 {
        assert_eq!(leased.admitted(&patient(at(&server)), 1).await, 1);
    }
    assert_eq!(leased.admitted(&patient(at(&server)), 200).await, 70);
}

#[tokio::test]
async fn a_trip_that_nobody_waits_for_any_more_is_not_in_vain() {
    let server = Server::redis();
    let leased = subject("r", "100/hour", Algorithm::FixedWindow).leased(60);
    let store = patient(at(&server));
    assert_eq!(leased.of("somebody else").admitted(&store, 1).await, 1);
    server.pause();
    for _ in 0..5 {
        let gave_up = tokio::time::timeout(Duration::from_millis(10), leased.take(&store)).await;
        assert!(gave_up.is_err(), "it takes longer");
    }
    server.resume();
    assert_eq!(leased.admitted(&store, 200).await, 100);
}

#[tokio::test]
async fn given_back_into_the_lease_and_after_it() {
    let server = Server::redis();
    let leased = subject("r", "10/hour", Algorithm::FixedWindow).leased(4);
    let ([one, other], clock) = two_by_hand(&server);
    let charges = [leased.charge(1)];
    let taken = one.take(&charges).await.expect("it answers");
    let before = calls(&server);
    one.give_back(&[GiveBack::new(charges[0], taken.at)]).await.expect("it answers");
    assert_eq!(calls(&server), before, "it is this instance's own");
    assert_eq!(leased.admitted(&one, 4).await, 4);
    assert_eq!(calls(&server), before);
    // To one who holds no lease it can only be given back in the server.
    other.give_back(&[GiveBack::new(charges[0], taken.at)]).await.expect("it answers");
    assert_eq!(leased.admitted(&other, 20).await, 7);
    // It is void after its window.
    let short = subject("short", "3/100ms", Algorithm::FixedWindow).leased(3);
    let taken = one.take(&[short.charge(3)]).await.expect("it answers");
    assert_eq!(only(&taken).verdict, Verdict::Allow);
    clock.advance(Duration::from_millis(101));
    assert_eq!(short.admitted(&one, 1).await, 1);
    one.give_back(&[GiveBack::new(short.charge(3), taken.at)]).await.expect("it answers");
    assert_eq!(short.admitted(&one, 5).await, 2);
}

#[tokio::test]
async fn whoever_is_cleared_begins_anew_with_nothing_held() {
    let server = Server::redis();
    let store = patient(at(&server));
    let leased = subject("r", "10/hour", Algorithm::FixedWindow).leased(10);
    assert_eq!(leased.admitted(&store, 3).await, 3);
    store.clear(&[leased.charge(1)]).await.expect("it answers");
    assert_eq!(leased.admitted(&store, 30).await, 10);
}

#[tokio::test]
async fn a_rule_with_two_quotas_keeps_both() {
    let server = Server::redis();
    let leased = subject("r", "5/200ms; 12/hour", Algorithm::FixedWindow).leased(4);
    let ([one, other], clock) = two_by_hand(&server);
    let mut admitted = 0;
    for _ in 0..8 {
        let (a, b) = (leased.admitted(&one, 6).await, leased.admitted(&other, 6).await);
        assert!(a + b <= 5, "{a} and {b} of 5 in one window");
        admitted += a + b;
        clock.advance(Duration::from_millis(205));
    }
    assert_eq!(admitted, 12);
}

#[tokio::test]
async fn what_one_quota_denies_says_nothing_of_what_is_held_of_the_other() {
    let server = Server::redis();
    let leased = subject("r", "4/500ms; 10/hour", Algorithm::FixedWindow).leased(5);
    let ([one, other], clock) = two_by_hand(&server);
    assert_eq!(leased.admitted(&other, 1).await, 1);
    clock.advance(Duration::from_millis(505));
    // All of the second window is the first one's, and all of the hour is leased: five by each of them.
    assert_eq!(leased.admitted(&one, 1).await, 1);
    let taken = other.take(&[leased.charge(1)]).await.expect("it answers");
    let [short, long] = taken.outcomes.as_slice() else { panic!("two quotas: {taken:?}") };
    assert_eq!(short.verdict, Verdict::Deny);
    assert_eq!(long.verdict, Verdict::Allow, "five of the hour are held here: {long:?}");
    assert!(short.retry_after.expect("the window ends") <= Duration::from_millis(500));
}

#[tokio::test]
async fn a_mixed_request_is_all_or_none() {
    let server = Server::redis();
    let leased = subject("leased", "10/hour", Algorithm::FixedWindow).leased(10);
    let plain = subject("plain", "3/hour", Algorithm::SlidingWindow);
    let store = patient(at(&server));
    let charges = [leased.charge(1), plain.charge(1)];
    let mut admitted = 0;
    for _ in 0..6 {
        let taken = store.take(&charges).await.expect("it answers");
        assert_eq!(taken.outcomes.len(), 2);
        admitted += u64::from(passes(&charges, &taken.outcomes));
    }
    assert_eq!(admitted, 3);
    assert_eq!(leased.admitted(&store, 20).await, 7, "what the other rule denied cost nothing here");
    let (plenty, fresh) = (subject("plenty", "99/hour", Algorithm::SlidingLog), leased.of("somebody else"));
    for _ in 0..4 {
        assert!(store.take(&[plenty.charge(1), fresh.charge(1)]).await.is_ok());
    }
    assert_eq!(fresh.remaining(&store).await, 0, "it is leased whole, wherever it stands in the request");
    let plainer = subject("plain", "5/hour", Algorithm::SlidingWindow);
    let taken = store.take(&[leased.charge(1), plainer.charge(1)]).await.expect("it answers");
    assert_eq!(taken.outcomes[0].verdict, Verdict::Deny);
    assert_eq!(plainer.remaining(&store).await, 2, "and the other way round");
}

#[tokio::test]
async fn what_is_held_of_one_rule_is_not_spent_where_another_denies() {
    let server = Server::redis();
    let store = patient(at(&server));
    let leased = |rule, limits| subject(rule, limits, Algorithm::FixedWindow).leased(10);
    let (plenty, few) = (leased("plenty", "10/hour"), leased("few", "2/hour"));
    let charges = [plenty.charge(1), few.charge(1)];
    let mut admitted = 0;
    for _ in 0..9 {
        let taken = store.take(&charges).await.expect("it answers");
        admitted += u64::from(passes(&charges, &taken.outcomes));
    }
    assert_eq!(admitted, 2);
    assert_eq!(plenty.admitted(&store, 20).await, 8);
}

#[tokio::test]
async fn a_cost_larger_than_the_lease_is_taken_whole() {
    let server = Server::redis();
    let leased = subject("r", "100/hour", Algorithm::FixedWindow).leased(10);
    let store = patient(at(&server));
    let mut spent = 0;
    for cost in [25, 1, 9, 40, 60, 25, 1] {
        let taken = store.take(&[leased.charge(cost)]).await.expect("it answers");
        let passed = only(&taken).verdict == Verdict::Allow;
        assert_eq!(passed, spent + cost <= 100, "{cost} after {spent}");
        spent += if passed { cost } else { 0 };
    }
    assert_eq!(spent, 100);
}

#[tokio::test]
async fn whatever_happens_no_more_is_admitted_than_the_amount() {
    const AMOUNT: u64 = 600;
    let server = Server::redis();
    let proxy = FaultProxy::to(server.addr());
    let leased = subject("r", &format!("{AMOUNT}/hour"), Algorithm::FixedWindow).leased(20);
    let mut stores: Vec<RedisStore> = (0..3).map(|_| store(format!("redis://{}", proxy.addr()))).collect();
    let (mut dice, mut held) = (Dice::new(9), 0);
    let faults = [Fault::Pass, Fault::Reset, Fault::Pass, Fault::CutReplies(0), Fault::Pass, Fault::CutRequests(9)];
    for round in 0..40 {
        proxy.set(faults[round % faults.len()]);
        let ask = async |store: &RedisStore, cost: u64, gives_back: bool| {
            let charges = [leased.charge(cost)];
            match store.take(&charges).await {
                Ok(taken) if passes(&charges, &taken.outcomes) && gives_back => {
                    // Whatever cannot be given back stays charged.
                    let _ = store.give_back(&[GiveBack::new(charges[0], taken.at)]).await;
                    0
                }
                Ok(taken) if passes(&charges, &taken.outcomes) => cost,
                _ => 0,
            }
        };
        let asked = (0..12).map(|i| ask(&stores[i % 3], 1 + dice.below(3), dice.below(4) == 0));
        held += futures_util::future::join_all(asked.collect::<Vec<_>>()).await.iter().sum::<u64>();
        if dice.below(8) == 0 {
            stores[0] = store(format!("redis://{}", proxy.addr()));
        }
    }
    proxy.set(Fault::Pass);
    for store in &stores {
        let clock = Attended::start();
        let since = clock.now();
        while leased.take(store).await.map(|taken| held += u64::from(only(&taken).verdict == Verdict::Allow)).is_err() {
            assert!(clock.now().since(since) < BACK_WITHIN);
        }
        held += leased.admitted(store, AMOUNT).await;
    }
    println!("{held} of {AMOUNT} admitted");
    assert!(held <= AMOUNT && held > AMOUNT / 2, "{held} of {AMOUNT}");
}

/// What a lease was taken by one amount was lost when somebody with another amount came, and each burnt the other's.
#[tokio::test]
async fn a_lease_serves_larger_amounts_than_its_own_and_no_smaller_ones() {
    let server = Server::redis();
    let store = patient(at(&server));
    let of = |limits| subject("r", limits, Algorithm::FixedWindow).leased(100);
    let (some, others, few) = (of("1000/hour"), of("2000/hour"), of("50/hour"));
    for _ in 0..400 {
        assert_eq!(some.admitted(&store, 1).await, 1);
        assert_eq!(others.admitted(&store, 1).await, 1);
    }
    assert_eq!(few.admitted(&store, 5).await, 0, "more than their amount is used");
    assert!(some.admitted(&store, 300).await >= 100, "what is left to them");
    assert!(calls(&server) < 400, "{} calls", calls(&server));
}

#[tokio::test]
async fn rules_whose_quotas_have_one_identity_spend_each_of_their_own_lease() {
    let server = Server::redis();
    let store = patient(at(&server));
    let leased = subject("r", "10/hour", Algorithm::FixedWindow).leased(10);
    // As when a rule is made from another one.
    let renamed = Subject { rule: "other".to_owned(), ..leased.clone() };
    assert_eq!(leased.admitted(&store, 1).await, 1);
    assert_eq!(renamed.admitted(&store, 30).await, 10);
    assert_eq!(leased.admitted(&store, 30).await, 9);
}

/// Whoever asked at a cost of 0 had a whole lease taken.
#[tokio::test]
async fn whoever_only_asks_leases_nothing() {
    let server = Server::redis();
    let (one, another) = (patient(at(&server)), patient(at(&server)));
    let leased = subject("r", "100/hour", Algorithm::FixedWindow).leased(100);
    let asked = one.take(&[leased.charge(0)]).await.expect("it answers");
    assert_eq!((only(&asked).verdict, only(&asked).status.remaining), (Verdict::Allow, 100));
    assert_eq!(leased.admitted(&another, 200).await, 100, "nothing is held elsewhere");
}

/// Whoever came when a lease was spent waited for all who had come before him, each with a trip of his own, and most of what a trip had brought went to
/// those who asked at the right moment. Of 512 who asked all the time, some waited for half a second.
#[tokio::test]
async fn who_waits_is_handed_his_share_in_his_turn() {
    const TASKS: u64 = 500;
    /// By all of them together: on a fast machine in less than a second.
    const DECISIONS: u64 = 60 * TASKS;
    let (server, clock) = (Server::redis(), Clock::system());
    let store = patient(at(&server));
    let leased = subject("r", "1000000000/year", Algorithm::FixedWindow).leased(100);
    assert_eq!(leased.admitted(&store, 1).await, 1);
    let made = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..TASKS {
        let (store, leased, clock, made) = (store.clone(), leased.clone(), clock.clone(), made.clone());
        tasks.spawn(async move {
            let (mut times, mut longest) = (0_u64, Duration::ZERO);
            while made.fetch_add(1, Ordering::Relaxed) < DECISIONS {
                let asked_at = clock.now();
                leased.take(&store).await.expect("it answers");
                longest = longest.max(clock.now().since(asked_at));
                times += 1;
            }
            (times, longest)
        });
    }
    let ran = tasks.join_all().await;
    let all: u64 = ran.iter().map(|(times, _)| times).sum();
    let (fewest, longest) = (ran.iter().map(|run| run.0).min(), ran.iter().map(|run| run.1).max());
    let calls = calls(&server);
    println!("{all} decisions in {calls} calls, the fewest of a task {fewest:?}, the longest took {longest:?}");
    assert!(fewest >= Some(4), "somebody was overtaken: {fewest:?}, {longest:?}");
    assert!(all >= 120 * calls, "{calls} calls for {all} decisions");
}

/// A trip is for all who wait, and leaves no more than a lease.
#[tokio::test]
async fn one_trip_serves_all_who_wait_and_holds_no_more_than_a_lease() {
    let server = Server::redis();
    let (one, other) = (patient(at(&server)), patient(at(&server)));
    let leased = subject("r", "1000/year", Algorithm::FixedWindow).leased(50);
    // The connection is there.
    assert_eq!(leased.of("somebody else").admitted(&one, 1).await, 1);
    let before = calls(&server);
    let taken = futures_util::future::join_all((0..300).map(|_| leased.take(&one))).await;
    assert!(taken.iter().all(|taken| taken.as_ref().is_ok_and(|taken| only(taken).verdict == Verdict::Allow)));
    assert!(calls(&server) <= before + 2, "{} calls", calls(&server) - before);
    // Of the other counter there are 49.
    let held = one.statistics().leased_units - 49;
    assert!(held <= 50, "{held} units are held");
    assert_eq!(leased.admitted(&other, 1_000).await, 700 - held, "nothing else is charged");
    // Of what is left, all get what they can, and the others are denied.
    let rest = futures_util::future::join_all((0..300).map(|_| leased.take(&one))).await;
    let admitted = rest.iter().filter(|taken| taken.as_ref().is_ok_and(|taken| only(taken).verdict == Verdict::Allow));
    assert_eq!(admitted.count() as u64, held);
}

#[tokio::test]
async fn different_costs_wait_in_one_line_and_none_is_admitted_twice() {
    let server = Server::redis();
    let stores = instances(&server, 2);
    let leased = subject("r", "500/year", Algorithm::FixedWindow).leased(20);
    let mut spent = 0;
    for round in 0..4 {
        let costs: Vec<u64> = (0..60).map(|i| 1 + (i + round) % 7).collect();
        let asked = costs.iter().enumerate().map(async |(i, cost)| {
            let taken = stores[i % 2].take(&[leased.charge(*cost)]).await.expect("it answers");
            if only(&taken).verdict == Verdict::Allow { *cost } else { 0 }
        });
        spent += futures_util::future::join_all(asked).await.iter().sum::<u64>();
    }
    let held: u64 = stores.iter().map(|store| store.statistics().leased_units).sum();
    assert_eq!(spent + held, 500 - leased.remaining(&stores[0]).await, "what is charged is spent or held");
    assert!(spent > 400 && spent <= 500, "{spent} of 500");
}

/// A store of its own thread that is connected, to be asked from runtimes that end.
fn threaded(server: &Server, leased: &Subject) -> RedisStore {
    let settings = settings(format!("{}?denials=ask", at(server))).timeout(PATIENCE);
    let store = RedisStore::on_thread(settings).expect("there is a thread");
    assert_eq!(runtime().block_on(leased.of("somebody else").admitted(&store, 1)), 1);
    store
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A trip was made by the runtime of whoever had come first. When that ended, what the server had charged for it was lost, and all who waited
/// in other runtimes had no answer.
#[test]
fn a_trip_outlives_the_runtime_of_whoever_came_first() {
    let server = Server::redis();
    let leased = subject("r", "100/hour", Algorithm::FixedWindow).leased(60);
    let store = threaded(&server, &leased);
    server.pause();
    let gives_up = async { tokio::time::timeout(Duration::from_millis(50), leased.take(&store)).await };
    assert!(runtime().block_on(gives_up).is_err(), "it takes longer");
    let waited = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            server.resume();
        });
        runtime().block_on(leased.take(&store)).expect("the trip goes on")
    });
    assert_eq!(only(&waited).verdict, Verdict::Allow);
    assert_eq!(runtime().block_on(leased.admitted(&store, 200)), 99);
}

/// Whoever waits is told when nobody will come back.
#[test]
fn nobody_waits_for_a_runtime_that_has_ended() {
    let server = Server::redis();
    let proxy = FaultProxy::to(server.addr());
    let (of_store, leased) = (runtime(), subject("r", "100/hour", Algorithm::FixedWindow).leased(10));
    let store = of_store.block_on(async {
        let store = patient(format!("redis://{}", proxy.addr()));
        assert_eq!(leased.of("somebody else").admitted(&store, 1).await, 1);
        store
    });
    proxy.set(Fault::Delay(Duration::MAX));
    let is_told = |asked: Duration| {
        let waits = async { tokio::time::timeout(asked, leased.take(&store)).await };
        matches!(runtime().block_on(waits), Ok(Err(RedisError::Disconnected(_))))
    };
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| is_told(PATIENCE / 2));
        // By then a trip is on its way, nearly always; before, he is told the same.
        std::thread::sleep(Duration::from_millis(50));
        drop(of_store);
        assert!(waits.join().expect("it does not panic"), "he waits");
    });
    assert!(is_told(PATIENCE / 2), "there can be no other");
}

#[tokio::test]
async fn the_statistics_tell_who_has_decided_and_what_is_held() {
    let server = Server::redis();
    let proxy = FaultProxy::to(server.addr());
    let url = format!("redis://{}", proxy.addr());
    // Denials last, by a clock that stands still.
    let clock = ManualClock::new(Timestamp::from_micros(1_800_014_400_000_000));
    let store = RedisStore::connect(settings(url).timeout(PATIENCE).clock(clock.into()));
    let (leased, plain) = (
        subject("leased", "15/year", Algorithm::FixedWindow).leased(10),
        subject("plain", "3/hour", Algorithm::TokenBucket),
    );
    assert_eq!(store.statistics(), Default::default());
    assert_eq!(leased.admitted(&store, 4).await + plain.admitted(&store, 3).await, 7);
    let seen = store.statistics();
    assert_eq!((seen.asked, seen.by_leases, seen.by_denials, seen.failed), (4, 3, 0, 0));
    assert_eq!((seen.leases, seen.leased_units, seen.denials), (1, 6, 0));
    assert_eq!(plain.admitted(&store, 5).await, 0);
    let seen = store.statistics();
    assert_eq!((seen.asked, seen.by_denials, seen.denials), (5, 4, 1));
    proxy.set(Fault::Reset);
    assert!(plain.of("somebody else").take(&store).await.is_err());
    let seen = store.statistics();
    assert_eq!((seen.asked, seen.failed, seen.denials, seen.leased_units), (5, 1, 0, 6));
}
