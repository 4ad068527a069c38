//! The whole answer to a request: all rules or none, shadow, giving back by status code, and who speaks.

use std::time::Duration;

use tollgate::{
    algorithm::Verdict,
    limiter::{Answered, Limiter},
    store::Stores,
};

use crate::rig::{at_once, get, rig};

/// What is left of each quota: `api 3, login.1 0`.
fn left(decision: &tollgate::decision::Decision) -> String {
    let each = decision.counted().map(|counted| format!("{} {}", counted.name(), counted.status().remaining));
    each.collect::<Vec<_>>().join(", ")
}

#[test]
fn a_denied_request_spends_nothing_anywhere() {
    let rig = rig("
rules:
  - { name: wide, limit: '10/minute; 100/hour' }
  - { name: narrow, match: { path: /login }, limit: 2/minute }");
    assert_eq!(rig.admitted(5, &get("/login")), 2);
    assert_eq!(left(&rig.check(&get("/"))), "wide.1 7, wide.2 97");
    let denied = rig.check(&get("/login"));
    assert_eq!(left(&denied), "wide.1 7, wide.2 97, narrow 0");
    assert_eq!(denied.denied_by().collect::<Vec<_>>(), ["narrow"]);
}

#[test]
fn every_rule_that_refused_is_named_in_file_order() {
    let rig = rig("
rules:
  - { name: z, limit: 1/minute }
  - { name: open, limit: 10/minute }
  - { name: a, limit: 1/hour }");
    assert_eq!(rig.check(&get("/")).denied_by().count(), 0);
    let denied = rig.check(&get("/"));
    assert_eq!(denied.denied_by().collect::<Vec<_>>(), ["z", "a"]);
    assert_eq!(denied.retry_after(), Some(Duration::from_secs(3_600)));
    assert_eq!(denied.shown().map(|shown| shown.name()), Some("a".to_owned()));
    assert_eq!(denied.rules().map(|(index, ..)| index).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn retry_after_is_none_if_one_of_them_can_never_fit() {
    let rig = rig("
rules:
  - { name: a, limit: 1/minute }
  - { name: never, match: { path: /never }, limit: 0/hour }");
    assert_eq!(rig.check(&get("/")).retry_after(), None);
    assert_eq!(rig.check(&get("/")).retry_after(), Some(Duration::from_secs(60)));
    let denied = rig.check(&get("/never"));
    assert_eq!(denied.denied_by().collect::<Vec<_>>(), ["a", "never"]);
    assert_eq!(denied.retry_after(), None);
    assert_eq!(denied.shown().map(|shown| shown.name()), Some("never".to_owned()));
}

#[test]
fn among_those_that_allow_the_least_remaining_speaks_then_the_longest_reset() {
    let check = |limits: &str, shown: &str| {
        let rig = rig(&format!("rules: [{{ name: r, limit: '{limits}' }}]"));
        assert_eq!(rig.check(&get("/")).shown().map(|shown| shown.name()), Some(shown.to_owned()), "{limits}");
    };
    check("5/minute; 3/hour; 9/day", "r.2");
    check("3/minute; 3/hour; 3/second", "r.2");
    check("3/hour; 3/hour", "r.1");
    check("5/minute", "r");
}

#[test]
fn shadow_never_denies_and_never_speaks() {
    let rig = rig("
rules:
  - { name: new, mode: shadow, limit: 1/hour }
  - { name: api, limit: 3/hour }");
    assert_eq!(rig.admitted(3, &get("/")), 3);
    let denied = rig.check(&get("/"));
    assert_eq!(denied.denied_by().collect::<Vec<_>>(), ["api"]);
    assert_eq!(denied.shadow_denied_by().collect::<Vec<_>>(), ["new"]);
    assert_eq!(denied.shown().map(|shown| shown.name()), Some("api".to_owned()));
}

#[test]
fn a_shadow_rule_alone_denies_nothing_and_shows_nothing() {
    let rig = rig("rules: [{ name: new, mode: shadow, limit: 0/hour }]");
    let decision = rig.check(&get("/"));
    assert_eq!(decision.verdict(), Verdict::Allow);
    assert_eq!(decision.shadow_denied_by().collect::<Vec<_>>(), ["new"]);
    assert!(decision.shown().is_none() && decision.headers(&()).is_empty() && decision.answer(&()).is_none());
}

#[test]
fn a_shadow_rule_is_charged_only_when_the_request_passes() {
    let rig = rig("
rules:
  - { name: new, mode: shadow, limit: '9/hour; 2/day' }
  - { name: api, match: { path: /api }, limit: 1/hour }");
    assert_eq!(rig.admitted(5, &get("/api")), 1);
    assert_eq!(left(&rig.check(&get("/"))), "new.1 7, new.2 0");
    // All its quotas or none: the day is spent, so the hour is not touched.
    assert_eq!(left(&rig.check(&get("/"))), "new.1 7, new.2 0");
}

#[test]
fn only_answers_that_count_stay_on_the_bill() {
    let rig = rig("rules: [{ name: login, count: { status: [401, 403] }, limit: 2/hour }]");
    let login = get("/login");
    for _ in 0..9 {
        assert_eq!(rig.answered(200, &login).verdict(), Verdict::Allow);
    }
    rig.answered(401, &login);
    rig.answered(403, &login);
    assert_eq!(rig.answered(200, &login).verdict(), Verdict::Deny);
    rig.seconds(3_600);
    assert_eq!(rig.answered(200, &login).verdict(), Verdict::Allow);
}

#[test]
fn a_request_is_on_the_bill_until_it_is_answered() {
    let rig = rig("rules: [{ name: login, count: { status: [401] }, limit: 2/hour }]");
    let login = get("/login");
    let (first, second) = (rig.check(&login), rig.check(&login));
    assert!(!rig.allows(&login));
    rig.limiter.settle_now(&first, Answered::ByUs);
    assert!(rig.allows(&login));
    // Without an answer it stays charged.
    drop(second);
    assert!(!rig.allows(&login));
}

#[test]
fn an_answer_after_the_window_gives_the_next_window_nothing() {
    let rig = rig("rules: [{ name: login, count: { status: [401] }, limit: 2/minute }]");
    let login = get("/login");
    let slow = rig.check(&login);
    rig.seconds(61);
    assert_eq!(rig.admitted(5, &login), 2);
    rig.limiter.settle_now(&slow, Answered::Status(200));
    assert!(!rig.allows(&login));
}

#[test]
fn a_denied_request_has_nothing_to_give_back() {
    let rig = rig("rules: [{ name: login, count: { status: [401] }, limit: 1/hour }]");
    rig.answered(401, &get("/"));
    rig.answered(200, &get("/"));
    assert!(!rig.allows(&get("/")));
}

// What the application does not count was given back to rules in shadow that had not taken it: they reported too little.
#[test]
fn a_shadow_rule_that_took_nothing_has_nothing_to_give_back() {
    let rig = rig("rules: [{ name: new, mode: shadow, limit: 2/hour }]");
    assert_eq!(rig.admitted(2, &get("/")), 2);
    rig.limiter.settle_now(&rig.check(&get("/")), Answered::Uncounted);
    assert_eq!(rig.check(&get("/")).shadow_denied_by().count(), 1);
}

#[test]
fn each_algorithm_gives_back_what_does_not_count() {
    for algorithm in tollgate::quota::Algorithm::ALL {
        let rig = rig(&format!(
            "rules: [{{ name: r, algorithm: {algorithm}, count: {{ status: [401] }}, limit: '3/minute; 9/day' }}]"
        ));
        for _ in 0..5 {
            rig.answered(200, &get("/"));
            rig.seconds(1);
        }
        assert_eq!(left(&rig.check(&get("/"))), "r.1 2, r.2 8", "{algorithm}");
    }
}

#[test]
fn peeking_spends_nothing_and_clearing_makes_as_new() {
    let rig = rig("rules: [{ name: r, limit: '2/hour; 5/day' }]");
    let limiter: Limiter<Stores> = rig.limiter.clone().into();
    let call = get("/");
    for _ in 0..5 {
        let peeked = at_once(limiter.peek(&call.shown()));
        assert_eq!((peeked.verdict(), left(&peeked).as_str()), (Verdict::Allow, "r.1 1, r.2 4"));
    }
    assert_eq!(rig.admitted(5, &call), 2);
    assert_eq!(at_once(limiter.peek(&call.shown())).verdict(), Verdict::Deny);
    at_once(limiter.clear(&call.shown())).unwrap();
    let checked = at_once(limiter.check(&call.shown()));
    assert_eq!(left(&checked), "r.1 1, r.2 4");
}

#[test]
fn equal_limits_of_one_rule_are_counted_once_each() {
    let rig = rig("rules: [{ name: r, limit: '2/hour; 2/hour' }]");
    assert_eq!(rig.admitted(5, &get("/")), 2);
}

#[test]
fn rules_do_not_share_counters() {
    let rig = rig("
rules:
  - { name: a, match: { path: /a }, limit: 1/hour }
  - { name: b, match: { path: /b }, limit: 1/hour }");
    assert!(rig.allows(&get("/a")));
    assert!(rig.allows(&get("/b")));
}

#[test]
fn who_fits_no_rule_passes_and_is_told_nothing() {
    let rig = rig("rules: [{ name: a, match: { path: /a }, limit: 1/hour }]");
    let decision = rig.check(&get("/b"));
    assert_eq!(decision.verdict(), Verdict::Allow);
    assert!(decision.headers(&()).is_empty());
}
