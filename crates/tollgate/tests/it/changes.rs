//! What differs between two policies, and what becomes of the counters.

use tollgate::{algorithm::Verdict, policy::changes};

use crate::rig::{policy, rig};

/// What is said when the one policy takes over from the other.
#[track_caller]
fn check(old: &str, new: &str, said: &[&str]) {
    let changes = changes(&policy(old), &policy(new), true);
    let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(changes, said, "{old} → {new}");
}

/// The same of a single rule, `api`, given what it says beside its name.
#[track_caller]
fn check_rule(old: &str, new: &str, said: &str) {
    let rule = |says: &str| format!("user: cookie:sid\nrules: [{{ name: api, {says} }}]");
    check(&rule(old), &rule(new), &[&format!("api {said}")]);
}

#[test]
fn rules_are_told_apart_by_their_names() {
    let rules = |rules: &str| format!("rules: [{rules}]");
    let (a, b) = ("{ name: a, limit: 5/hour }", "{ name: b, limit: 5/hour }");
    check(&rules(a), &rules(a), &[]);
    check(&rules(a), &rules(&format!("{a}, {b}")), &["rule b added"]);
    check(&rules(a), &rules(b), &["rule a removed", "rule b added"]);
    check(&rules(a), &rules("{ name: A, limit: 5/hour }"), &["rule a removed", "rule A added"]);
    check(&rules(&format!("{a}, {b}")), &rules(&format!("{b}, {a}")), &["rules in another order"]);
    check(&rules(a), "rules: []", &["rule a removed"]);
}

#[test]
fn another_amount_or_burst_keeps_the_counters() {
    check_rule("limit: 5/hour", "limit: 10/hour", "5/hour → 10/hour keeps its counters");
    check_rule("limit: 5/hour burst 5", "limit: 5/hour burst 9", "5/hour burst 5 → 5/hour burst 9 keeps its counters");
    check_rule("limit: 5/hour", "limit: 0/hour", "5/hour → 0/hour keeps its counters");
    check_rule("limit: 60/60 minutes", "limit: 60/hour", "60/60 minutes → 60/hour keeps its counters");
}

#[test]
fn another_window_algorithm_or_key_begins_anew() {
    check_rule("limit: 5/hour", "limit: 5/minute", "5/hour → 5/minute begins anew unless it counted so before");
    check_rule(
        "limit: 5/hour",
        "limit: 5/hour, algorithm: sliding-log",
        "fixed-window → sliding-log begins anew unless it counted so before",
    );
    check_rule(
        "limit: 5/hour",
        "limit: 9/hour burst 20",
        "5/hour → 9/hour burst 20 and fixed-window → token-bucket begins anew unless it counted so before",
    );
    check_rule(
        "limit: 5/hour",
        "limit: 5/hour, by: [path, host]",
        "by client → path, host begins anew unless it counted so before",
    );
    check_rule(
        "limit: 5/hour",
        "limit: 5/hour, by: []",
        "by client → everybody together begins anew unless it counted so before",
    );
    check_rule("limit: 5/month", "limit: 5/30 days", "5/month → 5/30 days keeps its counters");
    check_rule("limit: unlimited", "limit: 5/hour", "unlimited → 5/hour begins anew unless it counted so before");
    check_rule("limit: 5/hour", "limit: unlimited", "5/hour → unlimited");
    // In memory such an amount fits no slot of the table.
    check_rule(
        "limit: 5/hour",
        "limit: 2000000000/hour",
        "5/hour → 2000000000/hour begins anew unless it counted so before",
    );
}

#[test]
fn of_several_limits_each_has_its_own_counters() {
    check_rule(
        "limit: 10/second; 500/day",
        "limit: 20/second; 500/hour",
        "10/second; 500/day → 20/second; 500/hour keeps its counters of 20/second and begins anew with 500/hour unless it counted so before",
    );
    check_rule(
        "limit: 5/hour",
        "limit: 5/hour, overrides: [{ method: POST, limit: 9/hour }]",
        "overrides changed keeps its counters",
    );
    check_rule(
        "limit: 5/hour",
        "limit: 5/hour, overrides: [{ method: POST, limit: 9/day }]",
        "overrides changed keeps its counters of 5/hour and begins anew with 9/day unless it counted so before",
    );
}

#[test]
fn what_only_says_whom_or_what_keeps_the_counters() {
    let check = |new: &str, said: &str| {
        check_rule("limit: 5/hour", &format!("limit: 5/hour, {new}"), &format!("{said} keeps its counters"));
    };
    check("match: { path: /api/** }", "match changed");
    check("except: [{ client: 127.0.0.1 }]", "except changed");
    check("cost: 2", "cost 1 → 2");
    check("cost: { header: X-Cost, default: 2 }", "cost changed");
    check("count: { status: [401] }", "count changed");
    check("mode: shadow", "enforce → shadow");
    check("headers: []", "headers changed");
    check("on_limit: { status: 503 }", "on_limit changed");
    check("mode: shadow, cost: 3", "cost 1 → 3 and enforce → shadow");
    check_rule(
        "limit: 5/hour, by: route, match: { path: [/a, /b] }",
        "limit: 5/hour, by: route, match: { path: [/a, /c] }",
        "match changed keeps its counters where the route is the same",
    );
}

#[test]
fn without_a_shared_store_every_rule_counts_in_memory_whatever_it_says() {
    let (old, new) = ("rules: [{ name: api, limit: 5/hour }]", "rules: [{ name: api, limit: 5/hour, store: memory }]");
    check(old, new, &["api store shared → memory begins anew unless it counted so before"]);
    assert_eq!(changes(&policy(old), &policy(new), false), []);
}

#[test]
fn what_stands_above_the_rules_is_told_too() {
    let rules = "rules: [{ name: a, limit: 5/hour }]";
    check(&format!("user: cookie:sid\n{rules}"), rules, &["user cookie:sid → nobody for all rules"]);
    check(rules, &format!("except: [{{ client: 127.0.0.1 }}]\n{rules}"), &["except changed for all rules"]);
    let trusting = |from: &str| format!("trusted_proxies: [{{ from: {from}, header: X-Forwarded-For }}]\n{rules}");
    check(&trusting("10.0.0.0/8"), &trusting("10.0.0.0/8"), &[]);
    check(&trusting("10.0.0.0/8"), &trusting("10.0.0.0/9"), &["trusted_proxies changed for all rules"]);
}

/// A reload that refilled what somebody had used up would be a pardon for the asking.
#[test]
fn what_was_used_stays_used_under_another_amount() {
    for algorithm in ["fixed-window", "calendar-window", "sliding-window", "sliding-log", "token-bucket"] {
        let rule =
            |amount: u32| format!("rules: [{{ name: api, by: [], limit: {amount}/hour, algorithm: {algorithm} }}]");
        let rig = rig(&rule(6));
        let request = Default::default();
        (0..4).for_each(|_| drop(rig.limiter.check_now(&request)));
        // What would be left after one more.
        let left = |amount: u32| {
            let decision = rig.limiter.following(policy(&rule(amount))).peek_now(&request);
            (decision.verdict(), decision.shown().map(|counted| counted.status().remaining))
        };
        assert_eq!(left(6), (Verdict::Allow, Some(1)), "{algorithm}");
        assert_eq!(left(9), (Verdict::Allow, Some(4)), "{algorithm}");
        assert_eq!(left(3), (Verdict::Deny, Some(0)), "{algorithm}");
    }
}
