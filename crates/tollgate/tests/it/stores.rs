//! Rules that are counted in a store that instances share, beside others that each counts in its memory: all or none, and what is
//! given back where.

use std::time::Duration;

use tollgate::{algorithm::Verdict, limiter::Answered};

use crate::{
    rig::{at_once, get},
    shared_rig::{Mood, left, sharing, sharing_ahead},
};

const MIXED: &str = "
rules:
  - { name: shared, match: { path: /both }, limit: 3/minute }
  - { name: here, store: memory, limit: 2/minute }";

#[test]
fn instances_share_what_is_counted_in_the_store_and_nothing_else() {
    let one = sharing(MIXED);
    let two = one.another();
    assert_eq!((one.admitted(5, &get("/both")), two.admitted(5, &get("/both"))), (2, 1));
    assert_eq!(two.admitted(5, &get("/")), 1, "of its own two");
}

#[test]
fn a_request_that_memory_denies_is_not_charged_in_the_store_which_is_not_even_asked() {
    let rig = sharing(MIXED);
    assert_eq!(rig.admitted(2, &get("/")), 2);
    assert_eq!(rig.store.calls(), 0, "no rule is shared");
    let denied = rig.check(&get("/both"));
    assert_eq!((denied.verdict(), rig.store.calls()), (Verdict::Deny, 0));
    assert_eq!(denied.denied_by().collect::<Vec<_>>(), ["here"]);
    assert_eq!(left(&denied), "here 0", "nothing is said of what was not asked");
    assert_eq!(denied.retry_after(), Some(Duration::from_secs(60)));
    assert_eq!(rig.another().admitted(5, &get("/both")), 2, "its own two of the three that are shared");
}

#[test]
fn a_request_that_the_store_denies_is_not_charged_in_memory() {
    let rig = sharing(MIXED);
    assert_eq!([rig.another(), rig.another()].map(|other| other.admitted(2, &get("/both"))), [2, 1]);
    for _ in 0..5 {
        let denied = rig.check(&get("/both"));
        assert_eq!(denied.denied_by().collect::<Vec<_>>(), ["shared"]);
        assert_eq!(left(&denied), "shared 0, here 2", "as it stands after the decision");
    }
    assert_eq!(left(&rig.check(&get("/"))), "here 1");
}

#[test]
fn peeking_spends_nothing_on_either_side() {
    let rig = sharing(MIXED);
    for _ in 0..5 {
        assert_eq!(left(&rig.peek(&get("/both"))), "shared 2, here 1");
    }
    assert_eq!(left(&rig.check(&get("/both"))), "shared 2, here 1");
    rig.another().admitted(5, &get("/both"));
    for _ in 0..5 {
        assert_eq!(left(&rig.peek(&get("/both"))), "shared 0, here 1");
    }
    assert_eq!(left(&rig.check(&get("/"))), "here 0");
}

#[test]
fn a_shadow_rule_is_charged_only_when_the_request_passes_wherever_it_is_counted() {
    let rig = sharing(
        "
rules:
  - { name: shadow-here, mode: shadow, store: memory, limit: 1/minute }
  - { name: shadow-shared, mode: shadow, limit: 2/minute }
  - { name: here, store: memory, match: { path: /here }, limit: 0/minute }
  - { name: shared, match: { path: /shared }, limit: 0/minute }",
    );
    assert_eq!(left(&rig.check(&get("/here"))), "shadow-here 1, here 0");
    assert_eq!(left(&rig.check(&get("/shared"))), "shadow-here 1, shadow-shared 2, shared 0");
    assert_eq!(left(&rig.check(&get("/"))), "shadow-here 0, shadow-shared 1");
    let second = rig.check(&get("/"));
    assert_eq!((second.verdict(), left(&second).as_str()), (Verdict::Allow, "shadow-here 0, shadow-shared 0"));
    assert_eq!(second.shadow_denied_by().collect::<Vec<_>>(), ["shadow-here"]);
    let denied = rig.check(&get("/shared"));
    assert_eq!(denied.shadow_denied_by().collect::<Vec<_>>(), ["shadow-here", "shadow-shared"]);
    assert_eq!(denied.denied_by().collect::<Vec<_>>(), ["shared"]);
}

const FAILED_LOGINS: &str = "
rules:
  - { name: shared, count: { status: [401] }, limit: 3/minute }
  - { name: here, count: { status: [401] }, store: memory, limit: 3/minute }";

// Each side is given back by the time at which it was charged there.
#[test]
fn what_does_not_count_is_given_back_on_both_sides_whatever_the_time_is_there() {
    let rig = sharing_ahead(FAILED_LOGINS, Duration::from_secs(3_600));
    for (answered, expected) in [
        (Answered::Status(401), "shared 2, here 2"),
        (Answered::Status(200), "shared 1, here 1"),
        (Answered::ByUs, "shared 1, here 1"),
        (Answered::Uncounted, "shared 1, here 1"),
    ] {
        rig.millis(10);
        let decision = rig.check(&get("/"));
        assert_eq!(left(&decision), expected, "before it is {answered:?}");
        rig.settle(&decision, answered);
    }
    assert_eq!(left(&rig.peek(&get("/"))), "shared 1, here 1");
}

#[test]
fn a_decision_with_nothing_to_give_back_is_settled_without_waiting() {
    let rig = sharing(FAILED_LOGINS);
    let decision = rig.check(&get("/"));
    assert!(rig.limiter.settle_now(&decision, Answered::Status(401)));
    assert!(!rig.limiter.settle_now(&decision, Answered::Status(200)), "the store has to be asked");
    assert_eq!(left(&rig.peek(&get("/"))), "shared 1, here 1", "which nobody has done");
}

const LOCAL_LOGINS: &str = "rules: [{ name: a, count: { status: [401] }, limit: 3/minute }]";

#[test]
fn a_charge_that_memory_took_in_an_outage_is_not_given_back_to_the_store_after_it() {
    let rig = sharing(LOCAL_LOGINS);
    assert_eq!(left(&rig.check(&get("/"))), "a 2");
    rig.store.set(Mood::Fails);
    let local = rig.check(&get("/"));
    assert_eq!(left(&local), "a 2", "in memory");
    rig.store.set(Mood::Answers);
    rig.store.calls();
    rig.settle(&local, Answered::Status(200));
    assert_eq!(rig.store.calls(), 0);
    assert_eq!(left(&rig.peek(&get("/"))), "a 1", "in the store");
    rig.store.set(Mood::Fails);
    assert_eq!(left(&rig.check(&get("/"))), "a 2", "in memory, which has it back");
}

#[test]
fn a_charge_that_the_store_took_is_not_given_back_in_memory_during_an_outage_and_stays_charged() {
    let rig = sharing(LOCAL_LOGINS);
    rig.store.set(Mood::Fails);
    assert_eq!(left(&rig.check(&get("/"))), "a 2", "in memory");
    rig.store.set(Mood::Answers);
    let shared = rig.check(&get("/"));
    rig.store.set(Mood::Fails);
    rig.settle(&shared, Answered::Status(200));
    assert_eq!(left(&rig.check(&get("/"))), "a 1", "in memory");
    rig.store.set(Mood::Answers);
    assert_eq!(left(&rig.check(&get("/"))), "a 1", "in the store");
}

#[test]
fn a_charge_that_nobody_took_is_given_back_nowhere() {
    let rig = sharing("rules: [{ name: a, on_store_error: allow, count: { status: [401] }, limit: 3/minute }]");
    let charged = rig.check(&get("/"));
    assert_eq!(left(&charged), "a 2");
    rig.store.set(Mood::Fails);
    let unlimited = rig.check(&get("/"));
    rig.store.set(Mood::Answers);
    rig.settle(&unlimited, Answered::Uncounted);
    assert_eq!(left(&rig.check(&get("/"))), "a 1");
}

#[test]
fn clearing_makes_as_new_in_the_store_and_in_memory() {
    let rig = sharing(MIXED);
    assert_eq!(rig.admitted(2, &get("/both")), 2);
    rig.store.set(Mood::Fails);
    assert_eq!(rig.admitted(2, &get("/both")), 0, "here it is used up");
    let error = at_once(rig.limiter.clear(&get("/both").shown())).unwrap_err();
    assert_eq!(error.to_string(), "connection refused");
    assert_eq!(left(&rig.peek(&get("/"))), "here 1", "memory is as new");
    assert!(at_once(rig.limiter.clear(&get("/").shown())).is_ok(), "nothing of it is shared");
    rig.store.set(Mood::Answers);
    at_once(rig.limiter.clear(&get("/both").shown())).unwrap();
    assert_eq!(left(&rig.check(&get("/both"))), "shared 2, here 1");
}
