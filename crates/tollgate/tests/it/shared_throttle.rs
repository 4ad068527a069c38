//! Limits for any action by counters that instances share.

use std::{
    cell::RefCell,
    future::{Future, pending, ready},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

use tollgate::{
    limiter::Limiter,
    policy::{OnStoreError, Rule},
    store::Stores,
    throttle::{AttemptError, Throttle},
};

use crate::{
    rig::{at_once, get},
    shared_rig::{Mood, Shared, sharing},
};

const CLIENT: [u8; 4] = [203, 0, 113, 7];

fn shared(on_store_error: OnStoreError) -> (Shared, Throttle<Stores>) {
    let rig =
        sharing(&format!("rules: [{{ name: mails, on_store_error: {}, limit: 3/minute }}]", on_store_error.name()));
    let mails = rig.limiter.throttle("mails").expect("a rule");
    (rig, mails)
}

fn remaining(throttle: &Throttle<Stores>) -> u64 {
    at_once(throttle.remaining("ann"))
}

#[test]
fn instances_share_what_may_be_done() {
    let (rig, mails) = shared(OnStoreError::Local);
    let elsewhere = rig.another().limiter.throttle("mails").expect("a rule");
    let admission = at_once(mails.check("ann")).expect("it fits");
    assert_eq!((admission.status().limit, admission.status().remaining), (3, 2));
    assert_eq!(at_once(elsewhere.attempt("ann", ready("sent"))), Ok("sent"));
    assert_eq!(at_once(elsewhere.peek("ann")).map(|status| status.remaining), Ok(0), "as it would stand");
    assert_eq!((remaining(&mails), remaining(&elsewhere)), (1, 1));
    at_once(elsewhere.give_back(admission));
    assert_eq!(remaining(&mails), 2);
    assert!(at_once(mails.clone().costing(3).check("ann")).is_err());
    assert!(at_once(mails.clone().costing(2).check("ann")).is_ok());
    let denied = at_once(elsewhere.check("ann")).unwrap_err();
    assert_eq!(denied.to_string(), "mails allows 3/minute, try again in 60 s");
    assert!(!denied.is_unavailable());
    assert_eq!(at_once(mails.peek("ann")), Err(denied));
    assert_eq!(at_once(mails.reset_after("ann")), Duration::from_secs(60));
    at_once(elsewhere.clear("ann")).expect("the store answers");
    assert_eq!((remaining(&mails), at_once(mails.reset_after("ann"))), (3, Duration::ZERO));
    assert_eq!(at_once(mails.status("ann")).limit, 3);
}

#[test]
fn a_rules_counters_are_those_of_its_requests() {
    let (rig, mails) = shared(OnStoreError::Local);
    rig.admitted(2, &get("/"));
    assert_eq!(at_once(mails.remaining(std::net::IpAddr::from(CLIENT))), 1);
    let error = rig.limiter.throttle("mail").unwrap_err();
    assert_eq!(error.to_string(), "there is no rule \"mail\", expected one of: mails");
}

#[test]
fn an_action_that_fails_is_given_back_unless_told_otherwise() {
    let (_, mails) = shared(OnStoreError::Local);
    assert_eq!(at_once(mails.attempt("ann", ready(Err::<(), _>("down")))), Ok(Err("down")), "a failure is a value");
    assert_eq!(remaining(&mails), 2);
    let failed = at_once(mails.try_attempt("ann", ready(Err::<(), _>("down"))));
    assert_eq!(failed, Err(AttemptError::Failed("down")));
    assert_eq!(remaining(&mails), 2);
    assert_eq!(at_once(mails.try_attempt("ann", ready(Ok::<_, &str>(5)))), Ok(5));
    assert_eq!(remaining(&mails), 1);
    let strict = mails.keeping_failures();
    assert!(at_once(strict.try_attempt("ann", ready(Err::<(), _>("down")))).is_err());
    assert_eq!(remaining(&strict), 0);
    let polled = async { panic!("it must not be polled") };
    assert!(at_once(strict.attempt("ann", polled)).map(|(): ()| ()).is_err(), "a denied action is not even begun");
}

/// What is left after one attempt panicked and one was cancelled.
fn left_after_bad_ends(mails: &Throttle<Stores>) -> u64 {
    let panics = catch_unwind(AssertUnwindSafe(|| at_once(mails.attempt("ann", async { panic!("as it must") }))));
    assert!(panics.map(|result| result.map(|(): ()| ())).is_err());
    {
        let mut cancelled = pin!(mails.try_attempt("ann", pending::<Result<(), ()>>()));
        assert!(cancelled.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    remaining(mails)
}

#[test]
fn an_action_that_panics_or_is_cancelled_stays_charged_but_in_memory() {
    let (rig, mails) = shared(OnStoreError::Local);
    rig.store.set(Mood::Fails);
    at_once(mails.check("ann")).expect("it fits");
    rig.store.set(Mood::Answers);
    assert_eq!(left_after_bad_ends(&mails), 1);
    rig.store.set(Mood::Fails);
    assert_eq!(left_after_bad_ends(&mails), 2, "counted in memory meanwhile");
    assert_eq!(left_after_bad_ends(&mails.keeping_failures()), 0);

    let here = sharing("rules: [{ name: mails, store: memory, limit: 3/minute }]");
    assert_eq!(left_after_bad_ends(&here.limiter.throttle("mails").expect("a rule")), 3);
    let alone: Limiter<Stores> =
        Limiter::of([Rule::of("mails", "3/minute").expect("a rule")]).expect("a policy").into();
    assert_eq!(left_after_bad_ends(&alone.throttle("mails").expect("a rule")), 3);
}

#[test]
fn while_the_store_does_not_answer_memory_counts() {
    let (rig, mails) = shared(OnStoreError::Local);
    at_once(mails.check("ann")).expect("it fits");
    rig.store.set(Mood::Fails);
    assert_eq!(at_once(mails.check("ann")).expect("it fits").status().remaining, 2);
    assert_eq!(at_once(mails.clear("ann")).unwrap_err().to_string(), "connection refused");
    assert_eq!(remaining(&mails), 3, "memory is as new");
    let local = at_once(mails.check("ann")).expect("it fits");
    rig.store.set(Mood::Answers);
    rig.millis(1_000);
    at_once(mails.give_back(local));
    assert_eq!(remaining(&mails), 2, "of the store nothing was taken");
    rig.store.set(Mood::Fails);
    assert_eq!(remaining(&mails), 3, "memory has it back");
}

#[test]
fn while_the_store_does_not_answer_a_rule_can_allow_everything() {
    let (rig, mails) = shared(OnStoreError::Allow);
    at_once(mails.check("ann")).expect("it fits");
    rig.store.set(Mood::Fails);
    for _ in 0..9 {
        let admission = at_once(mails.check("ann")).expect("nothing limits it");
        assert_eq!(*admission.status(), at_once(mails.status("ann")));
        assert_eq!(admission.status().remaining, u64::MAX);
    }
    assert_eq!(at_once(mails.reset_after("ann")), Duration::ZERO);
    let unlimited = at_once(mails.check("ann")).expect("nothing limits it");
    rig.store.set(Mood::Answers);
    rig.millis(1_000);
    at_once(mails.give_back(unlimited));
    assert_eq!(remaining(&mails), 2);
}

#[test]
fn while_the_store_does_not_answer_a_rule_can_deny_everything_and_say_why() {
    let (rig, mails) = shared(OnStoreError::Deny);
    rig.store.set(Mood::Fails);
    let polled = async { panic!("it must not be polled") };
    let denied = at_once(mails.attempt("ann", polled)).map(|(): ()| ()).unwrap_err();
    assert!(denied.is_unavailable());
    assert_eq!(denied.retry_after(), Some(Duration::from_secs(1)));
    assert_eq!(denied.to_string(), "mails cannot be checked at the moment, try again in 1 s");
    assert_eq!((remaining(&mails), at_once(mails.reset_after("ann"))), (0, Duration::from_secs(1)));
    assert_eq!(at_once(mails.peek("ann")), Err(denied));
    rig.store.set(Mood::Answers);
    rig.millis(1_000);
    assert_eq!(remaining(&mails), 3);
}

#[test]
fn waiting_takes_as_long_as_it_must_for_a_quota_or_for_the_store() {
    let (rig, mails) = shared(OnStoreError::Deny);
    let slept = RefCell::new(Vec::new());
    let sleep = |span: Duration| {
        slept.borrow_mut().push(span.as_secs());
        rig.millis(u64::try_from(span.as_millis()).expect("a minute"));
        if slept.borrow().len() == 2 {
            rig.store.set(Mood::Answers);
        }
        ready(())
    };
    rig.store.set(Mood::Fails);
    assert!(at_once(mails.wait("ann", Duration::from_secs(5), sleep)).is_ok());
    assert_eq!(*slept.borrow(), [1, 1]);
    at_once(mails.clone().costing(2).check("ann")).expect("it fits");
    assert!(at_once(mails.wait("ann", Duration::from_secs(60), sleep)).is_ok());
    assert!(at_once(mails.clone().costing(3).wait("ann", Duration::from_secs(59), sleep)).is_err());
    assert_eq!(*slept.borrow(), [1, 1, 60], "whoever will be denied anyway does not sleep");
}
