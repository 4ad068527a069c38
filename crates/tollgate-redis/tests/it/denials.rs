//! Denials that are known to last, answered without asking: for a second at most, never for longer than they last, and of no more keys than
//! a bound.

use std::time::Duration;

use testbed::{Fault, FaultProxy, Server};
use tollgate::{
    algorithm::Verdict,
    clock::{Clock, ManualClock, Timestamp},
    quota::Algorithm,
    store::{Answerer, GiveBack, Store, Taken},
};
use tollgate_redis::RedisStore;

use crate::rig::{PATIENCE, Subject, at, back, calls, only, patient, settings, subject};

/// A store that keeps denials, as all do unless they are told otherwise. By a clock that stands still, none lapses before the test is over.
fn keeping(url: impl std::fmt::Display) -> RedisStore {
    keeping_by(url, &ManualClock::new(NOON))
}

fn keeping_by(url: impl std::fmt::Display, clock: &ManualClock) -> RedisStore {
    RedisStore::connect(settings(url).timeout(PATIENCE).clock(clock.clone().into()))
}

const NOON: Timestamp = Timestamp::from_micros(1_800_014_400_000_000);

/// A rule of which everything is taken, and one request was denied.
async fn exhausted(store: &RedisStore, limits: &str) -> Subject {
    let subject = subject("r", limits, Algorithm::FixedWindow);
    let amount = only(&subject.take(store).await.expect("it answers")).status.remaining;
    assert_eq!(subject.admitted(store, amount + 1).await, amount);
    subject
}

#[tokio::test]
async fn a_denial_is_answered_without_asking_for_a_second_at_most() {
    let (server, clock) = (Server::redis(), ManualClock::new(NOON));
    let store = keeping_by(at(&server), &clock);
    let subject = exhausted(&store, "3/hour").await;
    let before = calls(&server);
    for _ in 0..3 {
        clock.advance(Duration::from_micros(333_333));
        assert_eq!(subject.passes(&store).await, Some(false));
    }
    assert_eq!(calls(&server), before);
    clock.advance(Duration::from_micros(1));
    assert_eq!(subject.admitted(&store, 10).await, 0);
    assert_eq!(calls(&server), before + 1);
}

#[tokio::test]
async fn a_denial_ends_when_it_has_said_that_it_does() {
    let (server, clock) = (Server::redis(), ManualClock::new(NOON));
    let store = keeping_by(at(&server), &clock);
    for _ in 0..5 {
        let subject = exhausted(&store, "2/250ms").await;
        let ends = |taken: &Taken| clock.now() + only(taken).retry_after.expect("it ends");
        let first = ends(&subject.take(&store).await.expect("it answers"));
        let passed_at = loop {
            let taken = subject.take(&store).await.expect("it answers");
            if only(&taken).verdict == Verdict::Allow {
                break clock.now();
            }
            assert_eq!(ends(&taken), first);
            clock.advance(Duration::from_millis(1));
        };
        assert_eq!(passed_at, first);
        clock.advance(Duration::from_millis(260));
    }
}

/// Where the server counts by its own time, a denial that is kept is of a moment before.
#[tokio::test]
async fn a_denial_by_the_servers_time_does_not_end_before_it_has_said_that_it_does() {
    let (server, clock) = (Server::redis(), Clock::system());
    let store = RedisStore::connect(settings(at(&server)).timeout(PATIENCE));
    let subject = subject("r", "2/250ms", Algorithm::FixedWindow);
    for _ in 0..5 {
        let mut ends = None;
        let passed_at = loop {
            let asked_at = clock.now();
            let taken = subject.take(&store).await.expect("it answers");
            match (only(&taken).retry_after, ends) {
                (Some(wait), _) => ends = ends.max(Some(asked_at + wait)),
                (None, Some(_)) => break clock.now(),
                (None, None) => {}
            }
        };
        let ends = ends.expect("one was denied");
        // Two clocks can be a little apart.
        assert!(passed_at + Duration::from_millis(5) >= ends, "{passed_at:?} is before {ends:?}");
    }
}

#[tokio::test]
async fn it_names_the_rules_that_deny_and_is_silent_on_the_others() {
    let server = Server::redis();
    let store = keeping(at(&server));
    let denying = exhausted(&store, "1/hour").await;
    let (other, shadow) = (
        subject("other", "9/hour", Algorithm::TokenBucket),
        subject("shadow", "9/hour", Algorithm::TokenBucket).in_shadow(),
    );
    let charges = [other.charge(1), denying.charge(1), shadow.charge(1)];
    let before = calls(&server);
    let taken = store.take(&charges).await.expect("it answers");
    assert_eq!(calls(&server), before);
    let answerers = taken.answerers.as_ref().expect("not all are answered");
    let answered = answerers.of_charges.iter().map(|(answerer, _)| *answerer).collect::<Vec<_>>();
    assert_eq!(answered, [Answerer::Unasked, Answerer::Store, Answerer::Unasked]);
    assert_eq!(only(&taken).verdict, Verdict::Deny);
    assert_eq!(other.remaining(&store).await, 9);
}

#[tokio::test]
async fn a_smaller_cost_is_asked_about() {
    let server = Server::redis();
    let (store, subject) = (keeping(at(&server)), subject("r", "10/hour", Algorithm::SlidingWindow));
    let verdict = async |cost| only(&store.take(&[subject.charge(cost)]).await.expect("it answers")).verdict;
    assert_eq!(verdict(7).await, Verdict::Allow);
    assert_eq!(verdict(5).await, Verdict::Deny);
    let before = calls(&server);
    assert_eq!(verdict(5).await, Verdict::Deny);
    assert_eq!(verdict(6).await, Verdict::Deny);
    assert_eq!(calls(&server), before);
    assert_eq!(verdict(3).await, Verdict::Allow);
}

/// A rule that only watches would otherwise keep what others charge from being charged.
#[tokio::test]
async fn a_rule_in_shadow_is_asked_about() {
    let server = Server::redis();
    let store = keeping(at(&server));
    let watching = exhausted(&store, "5/hour").await.in_shadow();
    let other = subject("other", "10/hour", Algorithm::SlidingWindow);
    let charges = [watching.charge(1), other.charge(1)];
    for left in [9, 8] {
        let taken = store.take(&charges).await.expect("it answers");
        assert_eq!(taken.outcomes.len(), 2);
        assert_eq!(other.remaining(&store).await, left);
    }
}

#[tokio::test]
async fn it_is_forgotten_when_it_may_be_wrong() {
    let server = Server::redis();
    let proxy = FaultProxy::to(server.addr());
    let store = keeping(format!("redis://{}", proxy.addr()));
    let subject = exhausted(&store, "5/hour").await;
    let charges = [subject.charge(1)];
    let denied = store.take(&charges).await.expect("it answers");

    store.give_back(&[GiveBack::new(charges[0], denied.at)]).await.expect("it answers");
    assert_eq!(subject.admitted(&store, 2).await, 1, "given back");
    store.clear(&charges).await.expect("it answers");
    assert_eq!(subject.admitted(&store, 6).await, 5, "cleared");
    server.command(&["FLUSHALL"]);
    assert_eq!(subject.admitted(&store, 1).await, 0, "nobody here knows of it");
    store.forget_denials();
    assert_eq!(subject.admitted(&store, 6).await, 5, "told to forget");
    server.command(&["FLUSHALL"]);
    proxy.set(Fault::Reset);
    assert!(subject.of("somebody else").take(&store).await.is_err());
    proxy.set(Fault::Pass);
    let (_, answered) = back(&subject, &store).await;
    assert_eq!(answered.admitted, 1, "after an error nothing is known");
}

#[tokio::test]
async fn who_wants_to_be_asked_is_asked_every_time() {
    let server = Server::redis();
    let store = patient(at(&server));
    let subject = exhausted(&store, "1/hour").await;
    let before = calls(&server);
    assert_eq!(subject.admitted(&store, 20).await, 0);
    assert_eq!(calls(&server), before + 20);
}

#[tokio::test]
async fn of_a_flood_of_denied_keys_only_some_are_kept() {
    const KEYS: usize = 25_000;
    let server = Server::redis();
    // By a clock that stands still, none of them is ever too old.
    let clock = ManualClock::new(Timestamp::from_micros(1_800_000_000_000_000));
    let store = RedisStore::connect(settings(at(&server)).timeout(4 * PATIENCE).clock(clock.into()));
    let all = subject("r", "1/hour", Algorithm::FixedWindow);
    let subjects: Vec<Subject> = (0..KEYS).map(|key| all.of(&key.to_string())).collect();
    let flood = async || {
        let mut denied = 0;
        for some in subjects.chunks(1_000) {
            let asked = futures_util::future::join_all(some.iter().map(|subject| subject.passes(&store))).await;
            denied += asked.iter().filter(|passed| **passed == Some(false)).count();
        }
        denied
    };
    assert_eq!(flood().await, 0);
    assert_eq!(flood().await, KEYS);
    server.command(&["FLUSHALL"]);
    let kept = flood().await;
    println!("{kept} of {KEYS} denials were kept");
    assert!((5_000..=20_000).contains(&kept), "{kept} were kept");
}
