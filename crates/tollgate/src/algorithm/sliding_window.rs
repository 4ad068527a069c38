//! Sliding window: two adjoining windows, of which the earlier one fades as the current one passes.
//!
//! It counts ⌈previous · (what is left of the current window) / W⌉ + current: an estimate, as if the charges of the
//! previous window had been spread evenly, and so a promise about every window only on average.

use std::time::Duration;

use super::{
    Numbers, Outcome, Status, Verdict,
    packed::{self, Packed},
};
use crate::quota::Quota;

/// The current window's start, and the units charged in the window before it and in it. Never 0 and 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    start: u64,
    previous: u64,
    current: u64,
}

pub(super) fn charge(state: Option<State>, quota: &Quota, cost: u64, now: u64) -> (Option<State>, Verdict) {
    let (amount, window) = (quota.amount(), quota.window_micros());
    let open = advance(state, window, now);
    if cost == 0 {
        return (open, Verdict::Allow);
    }
    let estimate = open.map_or(0, |open| open.estimate(window, now));
    if estimate.saturating_add(cost) > amount {
        return (open, Verdict::Deny);
    }
    let mut charged = open.unwrap_or(State { start: now, previous: 0, current: 0 });
    charged.current += cost;
    (Some(charged), Verdict::Allow)
}

/// What a charge gets that has left the windows like this.
pub(super) fn outcome(open: Option<State>, verdict: Verdict, quota: &Quota, cost: u64, now: u64) -> Outcome {
    Outcome::new(verdict, status(open, quota, now), || {
        let until_it_fits = |open: State| {
            let most_before = quota.amount().checked_sub(cost)?;
            Some(open.until_at_most(most_before, quota.window_micros(), now))
        };
        open.and_then(until_it_fits)
    })
}

pub(super) fn give_back(state: State, quota: &Quota, cost: u64, at: u64, now: u64) -> Option<State> {
    let window = quota.window_micros();
    let mut open = advance(Some(state), window, now)?;
    if at >= open.start {
        open.current = open.current.saturating_sub(cost);
    } else if at >= open.start.saturating_sub(window) {
        open.previous = open.previous.saturating_sub(cost);
    }
    Some(open).filter(State::counts)
}

/// The windows as they lie at `now`: whatever has passed is previous, and what counts for nothing is gone.
fn advance(state: Option<State>, window: u64, now: u64) -> Option<State> {
    let state = state?;
    match now.saturating_sub(state.start) / window {
        0 => Some(state),
        1 => Some(State { start: state.start + window, previous: state.current, current: 0 }),
        _ => None,
    }
    .filter(State::counts)
}

/// The later and the fuller of two pairs of windows: it counts at least what either does, at any time to come.
pub(super) fn join(one: State, other: State, window: u64, now: u64) -> Option<State> {
    match (advance(Some(one), window, now), advance(Some(other), window, now)) {
        (Some(one), Some(other)) => Some(State {
            start: one.start.max(other.start),
            previous: one.previous.max(other.previous),
            current: one.current.max(other.current),
        }),
        (one, other) => one.or(other),
    }
}

impl State {
    pub(super) fn numbers(&self) -> Numbers {
        [self.start, self.previous, self.current]
    }

    /// Windows of which the current one has begun at the latest `now`.
    pub(super) fn from_numbers([start, previous, current]: Numbers, now: u64) -> Option<Self> {
        Some(Self { start: start.min(now), previous, current }).filter(Self::counts)
    }

    /// Its start and both counts.
    pub(super) fn pack(&self, origin: u64) -> Packed {
        Packed::new(self.start, origin, self.previous << packed::HALF_BITS | self.current)
    }

    pub(super) fn unpack(packed: Packed, origin: u64) -> Option<Self> {
        let (start, counts) = packed.parts(origin);
        let (previous, current) = (counts >> packed::HALF_BITS, counts & packed::MAX_HALF);
        Some(Self { start, previous, current }).filter(Self::counts)
    }

    fn counts(&self) -> bool {
        self.previous > 0 || self.current > 0
    }

    fn end(&self, window: u64) -> u64 {
        self.start.saturating_add(window)
    }

    fn estimate(&self, window: u64, now: u64) -> u64 {
        let left = (self.end(window) - now).min(window);
        let faded = (u128::from(self.previous) * u128::from(left)).div_ceil(u128::from(window));
        // Faded is at most `previous`, which came from 64 bits.
        u64::try_from(faded).unwrap_or(u64::MAX).saturating_add(self.current)
    }

    /// Time until the estimate is at most `target`, if nobody charges.
    fn until_at_most(&self, target: u64, window: u64, now: u64) -> Duration {
        // The estimate only falls: within the current window while `previous` fades, then while `current` does. `units`
        // of which a share is left count for at most `target` once no more than target · W / units is left.
        let left_when = |units: u64, target: u64| match units {
            0 => window,
            _ => u64::try_from(u128::from(target) * u128::from(window) / u128::from(units))
                .unwrap_or(u64::MAX)
                .min(window),
        };
        let end = self.end(window);
        let at = match target.checked_sub(self.current) {
            Some(for_previous) => end - left_when(self.previous, for_previous),
            None => end.saturating_add(window) - left_when(self.current, target),
        };
        Duration::from_micros(at.saturating_sub(now))
    }
}

fn status(open: Option<State>, quota: &Quota, now: u64) -> Status {
    let (limit, window) = (quota.amount(), quota.window_micros());
    let Some(open) = open else {
        return Status { limit, remaining: limit, refill_after: None, reset_after: Duration::ZERO };
    };
    // An amount that was lowered meanwhile can leave more counted than it allows.
    let counted = open.estimate(window, now).min(limit);
    let as_new = if open.current > 0 { open.end(window).saturating_add(window) } else { open.end(window) };
    Status {
        limit,
        remaining: limit - counted,
        refill_after: counted.checked_sub(1).map(|less| open.until_at_most(less, window, now)),
        reset_after: Duration::from_micros(as_new - now),
    }
}
