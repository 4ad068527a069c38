//! Fixed window: the window opens with the key's first charge, `[t0, t0 + W)`, and allows what is left of the amount.
//!
//! A window is remembered by its end, which also names it: [`calendar-window`](super::calendar_window) counts in the same
//! way and differs only in where a window ends.

use std::time::Duration;

use super::{Numbers, Outcome, Status, Verdict, packed::Packed};
use crate::quota::Quota;

/// An open window: when it ends, and how many units were used of it. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    end: u64,
    used: u64,
}

pub(super) fn charge(state: Option<State>, quota: &Quota, cost: u64, now: u64) -> (Option<State>, Verdict) {
    charge_until(state, quota, cost, now, || now.saturating_add(quota.window_micros()))
}

/// The step for any kind of window; `end` tells where one that opens now would end.
pub(super) fn charge_until(
    state: Option<State>,
    quota: &Quota,
    cost: u64,
    now: u64,
    end: impl FnOnce() -> u64,
) -> (Option<State>, Verdict) {
    let open = still_open(state, now);
    if cost == 0 {
        return (open, Verdict::Allow);
    }
    let used = open.map_or(0, |open| open.used).saturating_add(cost);
    if used > quota.amount() {
        return (open, Verdict::Deny);
    }
    (Some(State { end: open.map_or_else(end, |open| open.end), used }), Verdict::Allow)
}

/// What a charge gets that has left the window like this.
pub(super) fn outcome(open: Option<State>, verdict: Verdict, quota: &Quota, cost: u64, now: u64) -> Outcome {
    Outcome::new(verdict, status(open, quota, now), || {
        // One that fits into an empty window does so once this one has ended.
        open.filter(|_| cost <= quota.amount()).map(|open| left(open, now))
    })
}

pub(super) fn give_back(state: State, quota: &Quota, cost: u64, at: u64, now: u64) -> Option<State> {
    take_off(state, cost, now, |end| (end.saturating_sub(quota.window_micros())..end).contains(&at))
}

/// Takes a cost off the open window if that is the one it was charged to.
pub(super) fn take_off(state: State, cost: u64, now: u64, was_charged_to: impl Fn(u64) -> bool) -> Option<State> {
    let mut open = still_open(Some(state), now)?;
    if was_charged_to(open.end) {
        open.used = open.used.saturating_sub(cost);
    }
    Some(open).filter(|open| open.used > 0)
}

/// The later and the fuller of two windows: whatever either refuses, it refuses.
pub(super) fn join(one: State, other: State, now: u64) -> Option<State> {
    match (still_open(Some(one), now), still_open(Some(other), now)) {
        (Some(one), Some(other)) => Some(State { end: one.end.max(other.end), used: one.used.max(other.used) }),
        (one, other) => one.or(other),
    }
}

impl State {
    pub(super) fn numbers(&self) -> Numbers {
        [self.end, self.used, 0]
    }

    /// A window that ends at the latest then.
    pub(super) fn from_numbers([end, used, _]: Numbers, latest_end: u64) -> Option<Self> {
        (used > 0).then_some(Self { end: end.min(latest_end), used })
    }

    /// Its end and what was used.
    pub(super) fn pack(&self, origin: u64) -> Packed {
        Packed::new(self.end, origin, self.used)
    }

    pub(super) fn unpack(packed: Packed, origin: u64) -> Option<Self> {
        let (end, used) = packed.parts(origin);
        (used > 0).then_some(Self { end, used })
    }
}

fn still_open(state: Option<State>, now: u64) -> Option<State> {
    state.filter(|state| now < state.end)
}

fn left(open: State, now: u64) -> Duration {
    Duration::from_micros(open.end - now)
}

fn status(open: Option<State>, quota: &Quota, now: u64) -> Status {
    let limit = quota.amount();
    let left = open.map(|open| left(open, now));
    Status {
        limit,
        remaining: limit.saturating_sub(open.map_or(0, |open| open.used)),
        refill_after: left.filter(|_| limit > 0),
        reset_after: left.unwrap_or_default(),
    }
}
