//! One case for each promise of the contract, for each algorithm.

use std::time::Duration;

use super::{Stage, Tried, all_allow};
use crate::{
    algorithm::{Outcome, Verdict},
    clock::ManualClock,
    key::Key,
    policy::Mode,
    quota::Algorithm,
    store::{GiveBack, Store},
};

pub(super) async fn keep<S: Store>(algorithm: Algorithm, make: impl Fn(ManualClock) -> S) {
    let stage = |promise: &str| Stage::new(&make, format!("{algorithm}: {promise}"));
    takes_all_or_none(algorithm, stage("all or none")).await;
    looks_and_takes_nothing(algorithm, stage("looking takes nothing")).await;
    lets_shadow_charges_deny_nothing(algorithm, stage("shadow denies nothing")).await;
    charges_a_shadow_only_when_the_request_passes(algorithm, stage("shadow is charged only when all pass")).await;
    gives_back(algorithm, stage("giving back makes as new")).await;
    gives_back_nothing_after_it_has_gone(algorithm, stage("giving back what has gone")).await;
    clears_one_counter(algorithm, stage("clearing")).await;
    keeps_rules_and_keys_apart(algorithm, stage("rules and keys apart")).await;
    keeps_equal_quotas_of_a_rule_apart(algorithm, stage("equal quotas of one rule apart")).await;
    starts_nothing_at_cost_0(algorithm, stage("cost 0 starts nothing")).await;
    denies_for_ever_what_can_never_fit(algorithm, stage("what can never fit")).await;
    admits_exactly_the_amount_while_time_stands(algorithm, stage("time standing still")).await;
    keeps_what_was_used_when_the_amount_changes(algorithm, stage("another amount on the same counter")).await;
    allows_exactly_at_retry_after(algorithm, stage("retry_after")).await;
}

async fn takes_all_or_none<S: Store>(algorithm: Algorithm, stage: Stage<S>) {
    let (wide, narrow) = (enforced("wide", algorithm, "5/minute"), enforced("narrow", algorithm, "2/minute"));
    let key = Key::of(["k"]);
    for order in [[&wide, &narrow], [&narrow, &wide]] {
        let charges = order.map(|rule| rule.charge(0, &key, 1));
        stage.clear(&charges).await;
        for _ in 0..4 {
            stage.take(&charges).await;
        }
        let left = stage.look(&order.map(|rule| rule.charge(0, &key, 0))).await;
        let expected = order.map(|rule| if rule.name == "wide" { 3 } else { 0 });
        stage.same("what is left after four requests of which two pass", &remaining(&left.outcomes), &expected.into());
    }
}

async fn looks_and_takes_nothing<S: Store>(algorithm: Algorithm, stage: Stage<S>) {
    let (wide, narrow) = (enforced("wide", algorithm, "5/minute"), enforced("narrow", algorithm, "1/minute"));
    let key = Key::of(["k"]);
    let charges = [wide.charge(0, &key, 1), narrow.charge(0, &key, 1)];
    for request in ["the first request", "the second request, which is denied"] {
        let looked = stage.look(&charges).await;
        stage.same("a second look", &stage.look(&charges).await.outcomes, &looked.outcomes);
        stage.same(request, &stage.take(&charges).await.outcomes, &looked.outcomes);
    }
}

async fn lets_shadow_charges_deny_nothing<S: Store>(algorithm: Algorithm, stage: Stage<S>) {
    let (enforced, shadow) = (enforced("api", algorithm, "3/minute"), shadow("new", algorithm, "1/minute"));
    let key = Key::of(["k"]);
    let charges = [shadow.charge(0, &key, 1), enforced.charge(0, &key, 1)];
    let mut verdicts = Vec::new();
    for _ in 0..4 {
        verdicts.extend(stage.take(&charges).await.outcomes.iter().map(|outcome| outcome.verdict));
    }
    let (allow, deny) = (Verdict::Allow, Verdict::Deny);
    stage.same("shadow and enforced verdicts", &verdicts, &vec![allow, allow, deny, allow, deny, allow, deny, deny]);
}

async fn charges_a_shadow_only_when_the_request_passes<S: Store>(algorithm: Algorithm, stage: Stage<S>) {
    let enforced = enforced("api", algorithm, "1/minute");
    let shadow = shadow("new", algorithm, "5/minute; 3/hour");
    let key = Key::of(["k"]);
    for _ in 0..3 {
        stage.take(&[shadow.charge(0, &key, 2), enforced.charge(0, &key, 1)]).await;
    }
    let left = stage.look(&[shadow.charge(0, &key, 0)]).await;
    stage.same("what the shadow has left after one request passed", &remaining(&left.outcomes), &vec![3, 1]);

    stage.take(&[shadow.charge(0, &key, 2)]).await;
    let left = stage.look(&[shadow.charge(0, &key, 0)]).await;
    stage.same("after one that only its first quota has room for", &remaining(&left.outcomes), &vec![3, 1]);
}

async fn gives_back<S: Store>(algorithm: Algorithm, stage: Stage<S>) {
    let rule = enforced("api", algorithm, "5/minute; 9/hour");
    let key = Key::of(["k"]);
    let first = rule.charge(0, &key, 2);
    let taken_first = stage.take(&[first]).await;
    let second = rule.charge(0, &key, 3);
    let taken_second = stage.take(&[second]).await;
    stage.same("what is left after 2 and 3", &remaining(&taken_second.outcomes), &vec![0, 4]);

    stage.give_back(&[GiveBack::new(second, taken_second.at)]).await;
    let left = stage.look(&[rule.charge(0, &key, 0)]).await;
    stage.same("what is left once 3 are given back", &remaining(&left.outcomes), &vec![3, 7]);

    stage.give_back(&[GiveBack::new(first, taken_first.at)]).await;
    let left = stage.look(&[rule.charge(0, &key, 0)]).await;
    stage.same("what is left once all is given back", &remaining(&left.outcomes), &vec![5, 9]);
    let resets: Vec<Duration> = left.outcomes.iter().map(|outcome| outcome.status.reset_after).collect();
    stage.same("when it is as new", &resets, &vec![Duration::ZERO; 2]);
}

async fn gives_back_nothing_after_it_has_gone<S: Store>(algorithm: Algorithm, stage: Stage<S>) {
    let rule = enforced("api", algorithm, "5/minute");
    let key = Key::of(["k"]);
    let charge = rule.charge(0, &key, 3);
    let taken = stage.take(&[charge]).await;
    stage.clock.advance(taken.outcomes[0].status.reset_after);
    stage.take(&[charge]).await;
    stage.give_back(&[GiveBack::new(charge, taken.at)]).await;
    let left = stage.look(&[rule.charge(0, &key, 0)]).await;
    stage.same("what is left of the next window", &remaining(&left.outcomes), &vec![2]);
}

async fn clears_one_counter<S: Store>(algorithm: Algorithm, stage: Stage<S>) {
    let rule = enforced("api", algorithm, "1/minute; 5/hour");
    let keys = [Key::of(["a"]), Key::of(["b"])];
    for key in &keys {
        stage.take(&[rule.charge(0, key, 1)]).await;
    }
    stage.clear(&[rule.charge(0, &keys[0], 1)]).await;
    for (key, left) in keys.iter().zip([vec![1, 5], vec![0, 4]]) {
        let looked = stage.look(&[rule.charge(0, key, 0)]).await;
        stage.same("what is left of both once the first is cleared", &remaining(&looked.outcomes), &left);
    }
}

async fn keeps_rules_and_keys_apart<S: Store>(algorithm: Algorithm, stage: Stage<S>) {
    let rules = [enforced("api", algorithm, "1/minute"), enforced("API2", algorithm, "1/minute")];
    let keys =
        [Key::of(["a", "b c"]), Key::of(["a b", "c"]), Key::of(["a", "b", "c"]), Key::of(["a|b", "c"]), Key::default()];
    for rule in &rules {
        for key in &keys {
            let taken = stage.take(&[rule.charge(0, key, 1)]).await;
            let what = format!("the first request of {} by {key}", rule.name);
            stage.same(&what, &taken.outcomes[0].verdict, &Verdict::Allow);
        }
    }
}

async fn keeps_equal_quotas_of_a_rule_apart<S: Store>(algorithm: Algorithm, stage: Stage<S>) {
    let rule = enforced("api", algorithm, "3/minute; 5/minute");
    let key = Key::of(["k"]);
    let taken = stage.take(&[rule.charge(0, &key, 1)]).await;
    stage.same("what is left of two quotas with one window", &remaining(&taken.outcomes), &vec![2, 4]);
}

async fn starts_nothing_at_cost_0<S: Store>(algorithm: Algorithm, stage: Stage<S>) {
    let rule = enforced("api", algorithm, "2/hour");
    let key = Key::of(["k"]);
    let asked = stage.take(&[rule.charge(0, &key, 0)]).await;
    stage.same("asking of a new counter", &asked.outcomes[0].status.reset_after, &Duration::ZERO);

    stage.clock.advance(Duration::from_secs(1));
    let taken = stage.take(&[rule.charge(0, &key, 2)]).await;
    stage.clock.advance(Duration::from_micros(1));
    let asked = stage.take(&[rule.charge(0, &key, 0)]).await;
    stage.same("asking of an exhausted counter", &asked.outcomes[0].verdict, &Verdict::Allow);
    let one_later = taken.outcomes[0].status.reset_after - Duration::from_micros(1);
    stage.same("when it is as new", &asked.outcomes[0].status.reset_after, &one_later);
}

async fn denies_for_ever_what_can_never_fit<S: Store>(algorithm: Algorithm, stage: Stage<S>) {
    let rule = Tried::new("api", Mode::Enforce, algorithm, &["5/minute", "0/minute"]);
    let key = Key::of(["k"]);
    for (variant, cost) in [(0, 6), (1, 1)] {
        let denied = stage.take(&[rule.charge(variant, &key, cost)]).await.outcomes[0];
        stage.same("more than there ever is", &(denied.verdict, denied.retry_after), &(Verdict::Deny, None));
    }
    let left = stage.look(&[rule.charge(0, &key, 0)]).await;
    stage.same("what is left afterwards", &remaining(&left.outcomes), &vec![5]);
}

async fn admits_exactly_the_amount_while_time_stands<S: Store>(algorithm: Algorithm, stage: Stage<S>) {
    let rule = enforced("api", algorithm, "10/second");
    let key = Key::of(["k"]);
    let mut admitted = 0;
    for _ in 0..30 {
        admitted += usize::from(all_allow(&stage.take(&[rule.charge(0, &key, 1)]).await.outcomes));
    }
    stage.same("how many of 30 at one instant pass", &admitted, &10);
}

async fn keeps_what_was_used_when_the_amount_changes<S: Store>(algorithm: Algorithm, stage: Stage<S>) {
    let rule = Tried::new("api", Mode::Enforce, algorithm, &["5/minute", "10/minute", "2/minute"]);
    let key = Key::of(["k"]);
    stage.take(&[rule.charge(0, &key, 4)]).await;
    for (variant, left) in [(1, 6), (2, 0), (0, 1)] {
        let looked = stage.look(&[rule.charge(variant, &key, 0)]).await;
        let what = format!("what is left of variant {variant} once 4 are used");
        stage.same(&what, &remaining(&looked.outcomes), &vec![left]);
    }
}

async fn allows_exactly_at_retry_after<S: Store>(algorithm: Algorithm, stage: Stage<S>) {
    let rule = enforced("api", algorithm, "7/13 milliseconds");
    let key = Key::of(["k"]);
    let charge = rule.charge(0, &key, 3);
    let mut denied = stage.take(&[charge]).await.outcomes[0];
    while denied.verdict == Verdict::Allow {
        denied = stage.take(&[charge]).await.outcomes[0];
    }
    let Some(wait) = denied.retry_after else { panic!("{}: 3 of 7 fit some time: {denied:?}", stage.title) };
    stage.clock.advance(wait - Duration::from_micros(1));
    let early = stage.take(&[charge]).await.outcomes[0];
    let last = (Verdict::Deny, Some(Duration::from_micros(1)));
    stage.same("a microsecond before retry_after", &(early.verdict, early.retry_after), &last);
    stage.clock.advance(Duration::from_micros(1));
    stage.same("at retry_after", &stage.take(&[charge]).await.outcomes[0].verdict, &Verdict::Allow);
}

fn enforced(name: &str, algorithm: Algorithm, limits: &str) -> Tried {
    Tried::new(name, Mode::Enforce, algorithm, &[limits])
}

fn shadow(name: &str, algorithm: Algorithm, limits: &str) -> Tried {
    Tried::new(name, Mode::Shadow, algorithm, &[limits])
}

fn remaining(outcomes: &[Outcome]) -> Vec<u64> {
    outcomes.iter().map(|outcome| outcome.status.remaining).collect()
}
