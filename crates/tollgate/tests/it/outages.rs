//! The store that instances share does not answer: each rule has its own word, what is counted meanwhile is kept, the store is left
//! alone and found again, and somebody is told.

use std::time::Duration;

use tollgate::{algorithm::Verdict, limiter::Answered, store::Health};

use crate::{
    rig::{Reply, get},
    shared_rig::{Mood, Shared, left, sharing},
};

const WORDS: &str = "
rules:
  - { name: local, match: { path: [/local, /all] }, limit: 2/minute }
  - { name: open, match: { path: [/open, /all] }, on_store_error: allow, limit: 2/minute }
  - { name: closed, match: { path: [/closed, /all] }, on_store_error: deny, limit: 2/minute }";

#[test]
fn each_rule_has_its_own_word() {
    let rig = sharing(WORDS);
    rig.store.set(Mood::Fails);
    assert_eq!(rig.admitted(5, &get("/local")), 2, "as many as it allows, in memory");
    assert_eq!(rig.admitted(5, &get("/open")), 5, "as if it were not there");
    assert_eq!(rig.admitted(5, &get("/closed")), 0);
    let open = rig.check(&get("/open"));
    assert!(open.shown().is_none() && open.headers(&()).is_empty(), "it says nothing of what it does not know");
    rig.millis(60_000);
    rig.store.set(Mood::Answers);
    assert_eq!(["/local", "/open", "/closed"].map(|path| rig.admitted(5, &get(path))), [2, 2, 2]);
}

#[test]
fn one_outage_after_another_refills_nothing() {
    let rig = sharing(WORDS);
    for admitted in [2, 0, 0] {
        rig.store.set(Mood::Fails);
        assert_eq!(rig.admitted(5, &get("/local")), admitted);
        rig.store.set(Mood::Answers);
        rig.millis(5_000);
        rig.check(&get("/local"));
        assert_eq!(rig.limiter.store().degraded_since(), None, "it is over");
    }
    rig.millis(60_000);
    rig.store.set(Mood::Fails);
    assert_eq!(rig.admitted(5, &get("/local")), 2, "a new minute");
}

#[test]
fn whoever_is_denied_for_want_of_the_store_is_told_so_whatever_else_denies_him() {
    let rig = sharing(WORDS);
    rig.store.set(Mood::Fails);
    rig.admitted(5, &get("/local"));
    let answer = |accept: (&str, &str)| {
        let call = get("/all").header(accept.0, accept.1);
        let denied = rig.check(&call);
        assert_eq!(denied.denied_by().collect::<Vec<_>>(), ["closed"]);
        assert_eq!(denied.unavailable_by().collect::<Vec<_>>(), ["closed"]);
        assert_eq!(denied.retry_after(), Some(Duration::from_secs(1)));
        Reply::of(&denied, &call).expect("a denial has one")
    };
    for (accept, content_type, part) in [
        ("*/*", "application/problem+json", "http-problem-types#temporary-reduced-capacity\",\"title\""),
        ("text/html", "text/html; charset=utf-8", "<h1>Temporary reduced capacity</h1>"),
        ("text/plain", "text/plain; charset=utf-8", "cannot be checked at the moment, try again in 1 s"),
    ] {
        let answer = answer(("Accept", accept));
        assert_eq!(answer.status_code, 503);
        assert!(answer.body.contains(part), "{}", answer.body);
        assert_eq!(answer.header("Content-Type"), Some(content_type));
        assert_eq!((answer.header("Retry-After"), answer.header("Cache-Control")), (Some("1"), Some("no-store")));
        assert_eq!(answer.header("RateLimit"), None, "no quota is exceeded");
    }
    let grpc = answer(("Content-Type", "application/grpc+proto"));
    assert_eq!((grpc.status_code, grpc.body.as_str()), (200, ""));
    assert!(grpc.headers.iter().any(|(name, value)| name == "Grpc-Status" && value == "14"), "{:?}", grpc.headers);
    rig.store.set(Mood::Answers);
    rig.millis(5_000);
    assert_eq!(left(&rig.check(&get("/all"))), "local 1, open 1, closed 1", "nothing was taken for it");
}

#[test]
fn a_request_that_is_denied_for_want_of_the_store_is_charged_nowhere() {
    let rig = sharing(
        "
rules:
  - { name: here, store: memory, limit: 2/minute }
  - { name: local, limit: 2/minute }
  - { name: closed, match: { path: /closed }, on_store_error: deny, limit: 2/minute }",
    );
    rig.store.set(Mood::Fails);
    assert_eq!(rig.admitted(5, &get("/closed")), 0);
    assert_eq!(left(&rig.check(&get("/"))), "here 1, local 1");
}

#[test]
fn rules_counted_in_memory_are_charged_once_when_the_store_does_not_answer() {
    let rig = sharing(
        "
rules:
  - { name: here, store: memory, limit: 3/minute }
  - { name: local, limit: 2/minute }
  - { name: open, on_store_error: allow, limit: 2/minute }",
    );
    rig.store.set(Mood::Fails);
    assert_eq!(left(&rig.check(&get("/"))), "here 2, local 1");
    assert_eq!(left(&rig.peek(&get("/"))), "here 1, local 0");
    assert_eq!(left(&rig.check(&get("/"))), "here 1, local 0");
    let denied = rig.check(&get("/"));
    assert_eq!(denied.denied_by().collect::<Vec<_>>(), ["local"]);
    assert_eq!(left(&denied), "here 1, local 0", "all or none");
}

#[test]
fn a_shadow_rule_denies_nothing_for_want_of_the_store() {
    let rig = sharing(
        "
rules:
  - { name: closed, mode: shadow, on_store_error: deny, limit: 1/minute }
  - { name: local, mode: shadow, limit: 1/minute }",
    );
    rig.store.set(Mood::Fails);
    for would_deny in [&[] as &[&str], &["local"]] {
        let decision = rig.check(&get("/"));
        assert_eq!(decision.verdict(), Verdict::Allow);
        assert_eq!(decision.shadow_denied_by().collect::<Vec<_>>(), would_deny);
        assert_eq!((decision.unavailable_by().count(), left(&decision).as_str()), (0, "local 0"));
    }
}

/// How often the store is asked while requests come every 10 ms for so long.
fn calls(rig: &Shared, millis: u64) -> usize {
    rig.store.calls();
    for _ in 0..millis / 10 {
        rig.check(&get("/open"));
        rig.millis(10);
    }
    rig.store.calls()
}

#[test]
fn a_store_that_does_not_answer_is_left_alone_and_found_again_within_a_second() {
    let rig = sharing(WORDS);
    rig.store.set(Mood::Fails);
    assert_eq!(calls(&rig, 100), 3, "three failures are no accident");
    assert_eq!(calls(&rig, 10_000), 3 + 10 - 1, "after 100, 200, 400 and 800 ms, then every second");
    rig.store.set(Mood::Answers);
    let asked = calls(&rig, 1_000);
    assert!(asked > 1, "it is asked all the time once it has answered, but was so {asked} times");
    assert_eq!(calls(&rig, 1_000), 100);
}

#[test]
fn one_failure_now_and_then_does_not_leave_the_store_alone() {
    let rig = sharing(WORDS);
    for _ in 0..20 {
        for mood in [Mood::Fails, Mood::Fails, Mood::Answers] {
            rig.store.set(mood);
            rig.check(&get("/open"));
        }
    }
    assert_eq!(rig.store.calls(), 60);
}

#[test]
fn one_who_tries_and_gives_up_does_not_keep_the_store_from_being_found() {
    let rig = sharing(WORDS);
    rig.store.set(Mood::Fails);
    calls(&rig, 100);
    rig.store.set(Mood::Hangs);
    rig.millis(1_000);
    rig.given_up(&get("/open"));
    assert_eq!(rig.check(&get("/closed")).verdict(), Verdict::Deny, "without waiting, since somebody tries");
    rig.store.set(Mood::Answers);
    rig.millis(1_000);
    assert_eq!(rig.admitted(5, &get("/closed")), 2);
}

#[test]
fn nobody_waits_for_giving_back_to_a_store_that_is_left_alone() {
    let rig = sharing("rules: [{ name: a, on_store_error: allow, count: { status: [401] }, limit: 9/minute }]");
    let decision = rig.check(&get("/"));
    rig.store.set(Mood::Fails);
    rig.admitted(3, &get("/"));
    rig.store.set(Mood::Hangs);
    rig.settle(&decision, Answered::Status(200));
}

#[test]
fn an_outage_is_told_once_and_its_end_with_what_was_decided_meanwhile() {
    let rig = sharing(WORDS);
    rig.check(&get("/all"));
    assert_eq!(rig.told(), [], "nothing is the matter");
    rig.store.set(Mood::Fails);
    let since = rig.now();
    rig.check(&get("/local"));
    assert_eq!(rig.told(), [Health::Degraded { error: "connection refused".to_owned() }]);
    assert_eq!(rig.limiter.store().degraded_since(), Some(since));
    rig.admitted(4, &get("/local"));
    rig.admitted(3, &get("/closed"));
    rig.check(&get("/all"));
    rig.millis(20_000);
    rig.check(&get("/open"));
    assert_eq!(rig.told(), []);

    rig.store.set(Mood::Answers);
    rig.millis(1_000);
    rig.check(&get("/all"));
    let without = [("closed", 4), ("local", 6), ("open", 2)].map(|(rule, times)| (rule.to_owned(), times));
    assert_eq!(rig.told(), [Health::Recovered { after: Duration::from_secs(21), without: without.into() }]);
    rig.millis(10_000);
    rig.check(&get("/all"));
    assert_eq!((rig.told(), rig.limiter.store().degraded_since()), (vec![], None));
    assert_eq!(rig.limiter.store().outages(), 1);
}

#[test]
fn a_store_that_answers_now_and_then_has_one_outage() {
    let rig = sharing(WORDS);
    for mood in [Mood::Fails, Mood::Answers].repeat(50) {
        rig.store.set(mood);
        rig.check(&get("/open"));
        rig.millis(300);
    }
    assert_eq!(rig.told().len(), 1);
    rig.millis(1_000);
    rig.check(&get("/open"));
    let told = rig.told();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].to_string(), "the shared store answers again, after 31.0 s; decided without it: open 50");
}

/// Seen with a lease: each decision that it could make by itself counted as an answer, so the store was never left alone and its outage
/// was said to be over.
#[test]
fn what_is_answered_without_asking_the_store_says_nothing_of_it() {
    let rig = sharing(
        "rules:
           - { name: leased, match: { path: /leased }, lease: 10, limit: 100/minute, on_store_error: deny }
           - { name: closed, match: { path: /closed }, limit: 100/minute, on_store_error: deny }",
    );
    rig.store.hold(20);
    rig.store.set(Mood::Fails);
    for _ in 0..10 {
        assert_eq!(rig.admitted(1, &get("/closed")), 0);
        assert_eq!(rig.admitted(1, &get("/leased")), 1, "it is paid for");
    }
    assert_eq!(rig.store.calls(), 3, "as many as make it clear that it does not answer");
    rig.millis(5_000);
    assert_eq!(rig.admitted(20, &get("/leased")), 10, "what it had in hand");
    assert!(matches!(rig.told()[..], [Health::Degraded { .. }]), "and it does not answer yet");
}

/// While requests had to try, whoever broke his off kept everybody from a store that was back.
#[test]
fn a_store_that_can_tell_is_tried_by_nobodys_request() {
    let rig = sharing(WORDS);
    rig.store.probe_by_itself();
    rig.store.set(Mood::Fails);
    rig.admitted(3, &get("/closed"));
    rig.store.calls();
    rig.millis(1_000);
    assert_eq!(rig.admitted(1, &get("/closed")), 0);
    assert_eq!(rig.store.calls(), 0, "it has found out by itself that it does not answer");
    rig.store.set(Mood::Answers);
    rig.millis(1_000);
    assert_eq!(rig.admitted(1, &get("/closed")), 0, "whoever has it found waits for nothing");
    assert_eq!(rig.admitted(1, &get("/closed")), 1, "and the next one asks it");
}
