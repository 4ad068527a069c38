//! What each algorithm promises, whatever is asked of it: bounds on what passes, and the truth of every wait.

use std::time::Duration;

use proptest::prelude::*;
use tollgate::{
    algorithm::{State, Verdict, charge, give_back, look},
    clock::Timestamp,
    quota::{Algorithm, Quota},
};

use crate::rig::quota;

/// What passed: when, and how much.
type Passed = Vec<(u64, u64)>;

/// Charges costs after gaps, and checks on every step what every algorithm promises.
fn pass(quota: &Quota, start: u64, asked: &[(u64, u64)], peeks: &[u16]) -> Result<Passed, TestCaseError> {
    let mut passed = Vec::new();
    let mut state = None;
    let mut now = start;
    for (gap, cost) in asked {
        now += gap;
        let (next, outcome) = charge(state, quota, *cost, Timestamp::from_micros(now));
        state = next;
        prop_assert!(outcome.status.remaining <= outcome.status.limit);
        waits_are_true(state.as_ref(), quota, *cost, now, peeks)?;
        match outcome.verdict {
            Verdict::Allow => passed.push((now, *cost)),
            Verdict::Deny => prop_assert_eq!(outcome.retry_after.is_none(), *cost > quota.capacity()),
        }
    }
    Ok(passed)
}

/// Denied at every instant before `retry_after` and allowed at it; `remaining` rises at `refill_after` and not before;
/// as new at `reset_after` and not before.
fn waits_are_true(
    state: Option<&State>,
    quota: &Quota,
    cost: u64,
    now: u64,
    peeks: &[u16],
) -> Result<(), TestCaseError> {
    let at = |after: u64, cost: u64| look(state, quota, cost, Timestamp::from_micros(now + after));
    let standing = at(0, cost);
    let earlier =
        |wait: u64| peeks.iter().map(move |share| wait * u64::from(*share) / 65_536).chain(wait.checked_sub(1));
    if let Some(wait) = standing.retry_after.map(micros) {
        prop_assert!(wait > 0);
        for early in earlier(wait) {
            prop_assert_eq!(at(early, cost).verdict, Verdict::Deny, "{} µs of {}", early, wait);
        }
        prop_assert_eq!(at(wait, cost).verdict, Verdict::Allow, "at {} µs", wait);
    }
    let status = at(0, 0).status;
    if let Some(wait) = status.refill_after.map(micros) {
        for early in earlier(wait) {
            prop_assert_eq!(at(early, 0).status.remaining, status.remaining, "{} µs of {}", early, wait);
        }
        prop_assert!(at(wait, 0).status.remaining > status.remaining);
    } else {
        prop_assert_eq!(status.remaining, status.limit);
    }
    let as_new = at(micros(status.reset_after), 0).status;
    prop_assert_eq!((as_new.remaining, as_new.reset_after), (as_new.limit, Duration::ZERO));
    if let Some(early) = micros(status.reset_after).checked_sub(1) {
        prop_assert!(at(early, 0).status.reset_after > Duration::ZERO);
    }
    Ok(())
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap()
}

/// What passed from each charge on within one window of it, at most.
fn most_in_any_window(passed: &Passed, window: u64) -> u64 {
    let within =
        |start: u64| passed.iter().filter(move |(at, _)| (start..start + window).contains(at)).map(|(_, cost)| cost);
    passed.iter().map(|(start, _)| within(*start).sum()).max().unwrap_or(0)
}

/// Windows of 13 ms; gaps that are often a window or nothing.
fn asked() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let gap = prop_oneof![4 => Just(0), 6 => 0..4_000_u64, 1 => 12_999..=13_001_u64, 1 => 13_000..40_000_u64];
    prop::collection::vec((gap, 0..9_u64), 1..50)
}

fn peeks() -> impl Strategy<Value = Vec<u16>> {
    prop::collection::vec(any::<u16>(), 3)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_fixed_window_never_admits_more_than_the_amount(asked in asked(), peeks in peeks(), start in 0..1_u64 << 50) {
        let quota = quota("7/13 ms", Algorithm::FixedWindow);
        let passed = pass(&quota, start, &asked, &peeks)?;
        let mut rest = passed.as_slice();
        while let Some((opened, _)) = rest.iter().find(|(_, cost)| *cost > 0) {
            let (window, others): (Vec<_>, Vec<_>) = rest.iter().partition(|(at, _)| *at < opened + 13_000);
            prop_assert!(window.iter().map(|(_, cost)| cost).sum::<u64>() <= 7);
            rest = &rest[rest.len() - others.len()..];
        }
    }

    #[test]
    fn a_calendar_window_never_admits_more_than_the_amount(
        asked in asked(),
        peeks in peeks(),
        start in 0..1_u64 << 50,
    ) {
        let quota = quota("7/13 ms", Algorithm::CalendarWindow);
        let passed = pass(&quota, start, &asked, &peeks)?;
        for (at, _) in &passed {
            let in_it = passed.iter().filter(|(other, _)| other / 13_000 == at / 13_000);
            prop_assert!(in_it.map(|(_, cost)| cost).sum::<u64>() <= 7);
        }
    }

    #[test]
    fn a_sliding_window_never_admits_twice_the_amount(asked in asked(), peeks in peeks(), start in 0..1_u64 << 50) {
        let passed = pass(&quota("7/13 ms", Algorithm::SlidingWindow), start, &asked, &peeks)?;
        prop_assert!(most_in_any_window(&passed, 13_000) < 2 * 7);
    }

    #[test]
    fn a_sliding_log_never_admits_more_than_the_amount_in_any_window(
        asked in asked(),
        peeks in peeks(),
        start in 0..1_u64 << 50,
    ) {
        let passed = pass(&quota("7/13 ms", Algorithm::SlidingLog), start, &asked, &peeks)?;
        prop_assert!(most_in_any_window(&passed, 13_000) <= 7);
    }

    #[test]
    fn a_token_bucket_admits_at_most_its_burst_and_what_was_refilled(
        asked in asked(),
        peeks in peeks(),
        start in 0..1_u64 << 50,
    ) {
        let passed = pass(&quota("7/13 ms burst 5", Algorithm::TokenBucket), start, &asked, &peeks)?;
        for (i, (from, _)) in passed.iter().enumerate() {
            let mut sum = 0;
            for (to, cost) in &passed[i..] {
                sum += cost;
                prop_assert!(sum * 13_000 <= 5 * 13_000 + 7 * (to - from), "{} from {} to {}", sum, from, to);
            }
        }
    }

    /// Gifts that come late and in any order once let a bucket admit more: each was measured against what others had given
    /// back already. What stays on the bill would have passed if nothing else had ever been charged.
    #[test]
    fn what_is_not_given_back_would_have_passed_alone(
        steps in prop::collection::vec((0..4_000_u64, 1..5_u64, prop::option::of(0..8_usize)), 1..60),
    ) {
        for quota in [quota("7/13 ms burst 5", Algorithm::TokenBucket), quota("7/13 ms", Algorithm::SlidingLog)] {
            let (mut state, mut now) = (None, 0);
            let mut passed: Vec<(u64, u64, bool)> = Vec::new();
            for (gap, cost, gift) in &steps {
                now += gap;
                let gift = gift.and_then(|ago| passed.iter_mut().rev().filter(|(_, _, kept)| *kept).nth(ago));
                if let Some((at, cost, kept)) = gift {
                    *kept = false;
                    state = give_back(state, &quota, *cost, Timestamp::from_micros(*at), Timestamp::from_micros(now));
                }
                let (next, outcome) = charge(state, &quota, *cost, Timestamp::from_micros(now));
                state = next;
                if outcome.verdict == Verdict::Allow {
                    passed.push((now, *cost, true));
                }
            }
            let mut alone = None;
            for (at, cost, _) in passed.iter().filter(|(_, _, kept)| *kept) {
                let (next, outcome) = charge(alone, &quota, *cost, Timestamp::from_micros(*at));
                alone = next;
                prop_assert_eq!(outcome.verdict, Verdict::Allow, "{} at {} of {:?}", cost, at, passed);
            }
        }
    }
}
