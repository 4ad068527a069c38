use super::*;
use crate::{
    algorithm::Outcome,
    policy::{CounterId, Quotas},
    quota::{Algorithm, Quota},
    testing::dice::Dice,
};

const START: u64 = 1_000_000_000;
/// All keys are in the same cell.
const TAG: u32 = 7;

/// A registry with the same rule at different amounts.
fn on_stage(algorithm: Algorithm, limits: &[&str], play: impl Fn(&Registry, &[&Registered]) + Send + Sync + 'static) {
    let quota = |limit: &&str| -> (CounterId, Quota) {
        let limits = limit.parse().expect("a test writes limits well");
        let quotas = Quotas::new("api", &limits, Some(algorithm)).expect("the algorithm can count it");
        quotas.iter().next().map(|(id, quota)| (id, *quota)).expect("there is one")
    };
    let quotas: Vec<_> = limits.iter().map(quota).collect();
    let play = move || {
        let registry = Registry::new(1, Timestamp::from_micros(START));
        let all: Vec<_> = quotas.iter().filter_map(|(id, quota)| registry.number(*id, quota)).collect();
        play(&registry, &all);
    };
    // Cells yield to other threads, though there are none.
    shuttle::check_random(play, 1);
}

fn used(quota: &Quota, cost: u64, now: Timestamp) -> State {
    algorithm::charge(None, quota, cost, now).0.expect("it fits")
}

#[test]
fn a_charge_tells_whether_something_was_kept_after_it() {
    on_stage(Algorithm::FixedWindow, &["10/hour"], |registry, quotas| {
        let now = Timestamp::from_micros(START);
        let more = registry.charge(quotas[0], TAG, 5, now).expect("it fits");
        let charged = registry.charge(quotas[0], TAG, 1, now).expect("it fits");
        assert!(more.is_followed_by_no_keep() && charged.is_followed_by_no_keep());
        // Even if the cell owes more already.
        assert!(registry.keep(quotas[0], TAG, &used(&quotas[0].quota, 2, now), now));
        assert!(!more.is_followed_by_no_keep() && !charged.is_followed_by_no_keep());
    });
}

#[test]
fn taking_a_charge_back_takes_nothing_of_another() {
    on_stage(Algorithm::TokenBucket, &["10/hour"], |registry, quotas| {
        let now = Timestamp::from_micros(START);
        let remaining = |tag| {
            let inherited = registry.inherited(quotas[0], tag, now);
            registry.charged::<Outcome>(inherited, quotas[0], 0, now).1.status.remaining
        };
        registry.charge(quotas[0], TAG, 1, now).expect("it fits").take_back();
        assert_eq!(remaining(TAG), 10);
        let charged = registry.charge(quotas[0], TAG, 1, now).expect("it fits");
        assert!(registry.keep(quotas[0], TAG, &used(&quotas[0].quota, 9, now), now));
        charged.take_back();
        assert_eq!(remaining(TAG), 1);
    });
}

/// A key, with a slot or without, and what it owed after its last charge.
struct Key<'a> {
    by: &'a Registered,
    has_slot: bool,
    state: Option<State>,
}

#[test]
fn a_cell_owes_at_least_what_each_of_its_keys_does() {
    const LIMITS: [&str; 4] = ["100/hour", "2/hour", "10000/hour", "7/hour"];
    for algorithm in
        [Algorithm::FixedWindow, Algorithm::SlidingWindow, Algorithm::CalendarWindow, Algorithm::TokenBucket]
    {
        on_stage(algorithm, &LIMITS, |registry, quotas| {
            let mut dice = Dice::new(1);
            let (mut kept, mut charged, mut now) = (0, 0, START);
            let new_key = |i: usize| Key { by: quotas[i % quotas.len()], has_slot: false, state: None };
            let mut keys: Vec<_> = (0..12).map(new_key).collect();
            for _ in 0..20_000 {
                now += if dice.once_in(200) { dice.span_below(10_000_000_000) } else { dice.span_below(100_000_000) };
                let at = Timestamp::from_micros(now);
                let key = dice.below(keys.len());
                let key = &mut keys[key];
                if key.has_slot && dice.once_in(4) {
                    key.has_slot = false;
                    if let Some(state) = &key.state {
                        assert!(registry.keep(key.by, TAG, state, at));
                        kept += 1;
                    }
                } else {
                    // Mostly so little that the keys of small amounts have a turn as well.
                    let cost = if dice.once_in(10) { 1 + dice.span_below(key.by.quota.amount()) } else { 1 };
                    let own = Word::settled(TAG, key.by.number, registry.pack(key.state.as_ref()));
                    let word = if key.has_slot { own } else { registry.inherited(key.by, TAG, at) };
                    let (state, verdict) = registry.charged::<Verdict>(word, key.by, cost, at);
                    if verdict == Verdict::Allow {
                        key.state = registry.state(Word::settled(TAG, key.by.number, state));
                        key.has_slot |= dice.once_in(2);
                        if !key.has_slot {
                            registry.charge(key.by, TAG, cost, at).expect("it has just fitted");
                            charged += 1;
                        }
                    }
                }
                for key in keys.iter().filter(|key| !key.has_slot) {
                    let inherited = registry.inherited(key.by, TAG, at);
                    let cell = registry.charged::<Outcome>(inherited, key.by, 0, at).1.status;
                    let truth = algorithm::look(key.state.as_ref(), &key.by.quota, 0, at).status;
                    assert!(cell.remaining <= truth.remaining, "{cell:?} {truth:?}");
                    assert!(cell.reset_after >= truth.reset_after, "{cell:?} {truth:?}");
                }
            }
            assert!(kept > 300 && charged > 300, "{kept} {charged}");
        });
    }
}

#[test]
fn what_was_kept_counts_no_longer_than_it_did() {
    on_stage(Algorithm::TokenBucket, &["10000/hour", "10/hour"], |registry, quotas| {
        let now = Timestamp::from_micros(START);
        let slow = used(&quotas[1].quota, 9, now);
        for _ in 0..10 {
            assert!(registry.keep(quotas[1], TAG, &slow, now));
            assert!(registry.keep(quotas[0], TAG, &used(&quotas[0].quota, 9_000, now), now));
        }
        let at = now + algorithm::look(Some(&slow), &quotas[1].quota, 0, now).status.reset_after;
        for by in quotas {
            let inherited = registry.inherited(by, TAG, at);
            assert_eq!(registry.charged::<Outcome>(inherited, by, 0, at).1.status.remaining, by.quota.amount());
        }
    });
}
