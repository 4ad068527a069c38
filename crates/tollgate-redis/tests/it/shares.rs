//! Many who ask at once: they share calls, and each is answered as if they had come one after the other.

use std::time::Duration;

use testbed::{Cluster, Server};
use tollgate::{
    algorithm::Verdict,
    quota::Algorithm,
    store::{Charge, Store, passes},
};
use tollgate_redis::RedisStore;

use crate::rig::{Dice, Subject, at, calls, only, patient, subject};

#[tokio::test]
async fn who_ask_at_the_same_moment_share_calls_and_get_different_units() {
    let server = Server::redis();
    let store = patient(at(&server));
    for algorithm in Algorithm::ALL {
        let subject = subject("r", "100/hour", algorithm);
        assert!(subject.of("somebody else").take(&store).await.is_ok());
        let before = calls(&server);
        let taken = futures_util::future::join_all((0..300).map(|_| subject.take(&store))).await;
        let taken: Vec<_> = taken.into_iter().map(|taken| *only(&taken.expect("it answers"))).collect();
        let mut left: Vec<u64> =
            taken.iter().filter(|one| one.verdict == Verdict::Allow).map(|one| one.status.remaining).collect();
        left.sort_unstable();
        assert_eq!(left, (0..100).collect::<Vec<_>>(), "{algorithm}");
        let calls = calls(&server) - before;
        println!("{algorithm}: 300 decisions in {calls} calls");
        assert!(calls <= 10, "{algorithm}: {calls} calls for 300 decisions");
    }
}

/// A rule and whom it counts, and how many units of it were admitted.
type Counted = (Subject, u64);

/// Requests of some rules each, from several instances at once, until nothing more is to be had.
async fn check_all_or_none(stores: &[RedisStore], what: &str) {
    let limits = [("a", "40/hour", Algorithm::FixedWindow), ("b", "60/hour", Algorithm::SlidingWindow)];
    let more = [("c", "50/hour", Algorithm::TokenBucket), ("d", "45/day", Algorithm::SlidingLog)];
    let two = [("e", "70/day; 55/hour", Algorithm::CalendarWindow)];
    let rules = limits.iter().chain(&more).chain(&two);
    let clients = ["one", "another"];
    let subjects: Vec<Subject> = rules
        .flat_map(|(rule, limits, algorithm)| clients.map(|client| subject(rule, limits, *algorithm).of(client)))
        .collect();
    let task = async |seed: usize| {
        let (mut dice, mut admitted) = (Dice::new(seed as u64), vec![0; subjects.len()]);
        for _ in 0..40 {
            let mut asked: Vec<usize> = (0..subjects.len()).filter(|_| dice.below(4) == 0).collect();
            // Of one rule there is one charge.
            asked.dedup_by_key(|place| *place / clients.len());
            let costs: Vec<u64> = asked.iter().map(|_| 1 + dice.below(3)).collect();
            let charges: Vec<Charge<'_>> =
                asked.iter().zip(&costs).map(|(place, cost)| subjects[*place].charge(*cost)).collect();
            let taken = stores[seed % stores.len()].take(&charges).await.expect("it answers");
            if passes(&charges, &taken.outcomes) {
                asked.iter().zip(&costs).for_each(|(place, cost)| admitted[*place] += cost);
            }
            if dice.below(4) == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        admitted
    };
    let admitted = futures_util::future::join_all((0..12).map(task)).await;
    let total = |place: usize| admitted.iter().map(|of_task| of_task[place]).sum::<u64>();
    let counted: Vec<Counted> = subjects.iter().cloned().enumerate().map(|(i, subject)| (subject, total(i))).collect();
    let mut full = 0;
    for (subject, admitted) in &counted {
        let charges = [subject.charge(0)];
        for outcome in &stores[0].look(&charges).await.expect("it answers").outcomes {
            let (limit, left) = (outcome.status.limit, outcome.status.remaining);
            assert!(*admitted <= limit, "{what}: {admitted} of {limit} by {}", subject.rule);
            // A bucket of 50 an hour refills while this goes on, by a token in 72 s.
            let refilled = u64::from(subject.rule == "c");
            assert!(
                (*admitted..=admitted + refilled).contains(&(limit - left)) || limit - left + refilled == *admitted,
                "{what}: {admitted} admitted by {} {}, and {} counted",
                subject.rule,
                subject.key,
                limit - left
            );
            full += u64::from(left < 3);
        }
    }
    assert!(full >= 4, "{what}: it was not asked often enough");
}

#[tokio::test]
async fn requests_of_several_rules_are_all_or_none_and_no_quota_is_exceeded() {
    let server = Server::redis();
    let stores: Vec<_> = (0..3).map(|_| patient(at(&server))).collect();
    check_all_or_none(&stores, "one server").await;
}

#[tokio::test]
async fn they_are_all_or_none_in_several_slots_of_a_cluster_as_well() {
    let cluster = Cluster::redis();
    let stores: Vec<_> = (0..3).map(|_| patient(format!("redis+cluster://{}", cluster.addrs()[0]))).collect();
    check_all_or_none(&stores, "Cluster").await;
}

/// A crowd of requests with 64 charges each made one call of more keys than a script can take, and all of them failed.
#[tokio::test]
async fn a_crowd_of_requests_with_many_rules_is_answered() {
    let server = Server::redis();
    let store = patient(at(&server));
    let rules: Vec<Subject> = (0..64).map(|n| subject(&format!("r{n}"), "5/hour", Algorithm::FixedWindow)).collect();
    let clients: Vec<Vec<Subject>> =
        (0..300).map(|n| rules.iter().map(|rule| rule.of(&format!("client-{n}"))).collect()).collect();
    let ask = async |of: &Vec<Subject>| {
        let charges: Vec<Charge<'_>> = of.iter().map(|rule| rule.charge(1)).collect();
        store.take(&charges).await.expect("it answers").outcomes.iter().all(|one| one.status.remaining == 4)
    };
    let all = futures_util::future::join_all(clients.iter().map(ask)).await;
    assert!(all.into_iter().all(|is_right| is_right));
}

/// Whoever asked for more than was left of a long log had the server look at all of it.
#[tokio::test]
async fn a_long_log_is_searched_by_halves() {
    let server = Server::redis();
    let clock = tollgate::clock::ManualClock::new(tollgate::clock::Timestamp::from_micros(1_772_193_600_000_000));
    let store = RedisStore::connect(
        tollgate_redis::Settings::at(format!("{}?denials=ask", at(&server)).parse().expect("a URL"))
            .timeout(Duration::from_secs(20))
            .clock(clock.clone().into()),
    );
    let log = subject("log", "5000/day", Algorithm::SlidingLog);
    for _ in 0..4_000 {
        clock.advance(Duration::from_micros(1));
        assert!(log.take(&store).await.is_ok());
    }
    let looked = |server: &Server| {
        let statistics = server.command(&["INFO", "commandstats"]).text().to_owned();
        let count = |name: &str| {
            let line = statistics.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
            line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0_u64)
        };
        count("lindex") + count("lrange")
    };
    let before = looked(&server);
    let charge = [log.charge(4_500)];
    let denied = *only(&store.take(&charge).await.expect("it answers"));
    assert_eq!((denied.verdict, denied.status.remaining), (Verdict::Deny, 1_000));
    // Of 4,000 charges, one each microsecond, 3,500 have to expire.
    assert_eq!(denied.retry_after, Some(Duration::from_secs(86_400) - Duration::from_micros(500)));
    assert!(looked(&server) - before <= 40, "{} entries looked at", looked(&server) - before);
}
