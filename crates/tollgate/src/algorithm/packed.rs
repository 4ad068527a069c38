//! A state in 82 bits, so that it fits a slot of the memory store beside the tag of its key: an instant and a count.
//!
//! What fits is narrow: amounts up to 2³⁰ − 1 units (2¹⁵ − 1 for a sliding window, which has two counts), windows and
//! refills up to 2⁵⁰ µs, which are 35 years. A log never is.

use super::{Outcome, State, Told, calendar_window, fixed_window, sliding_window, token_bucket};
use crate::quota::{Algorithm, Quota};

/// Bits of a packed state.
pub(crate) const BITS: u32 = INSTANT_BITS + COUNT_BITS;
/// Microseconds since the origin: 142 years.
const INSTANT_BITS: u32 = 52;
const COUNT_BITS: u32 = 2 * HALF_BITS;
pub(super) const HALF_BITS: u32 = 15;
pub(super) const MAX_HALF: u64 = (1 << HALF_BITS) - 1;
const MAX_INSTANT: u64 = (1 << INSTANT_BITS) - 1;
const MAX_COUNT: u64 = (1 << COUNT_BITS) - 1;
const MAX_SPAN: u64 = 1 << 50;

/// Whether every state that this quota can bring about can be packed.
pub(crate) fn is_narrow(quota: &Quota) -> bool {
    let span = u128::from(quota.window_micros());
    let (span, amount) = match quota.algorithm() {
        Algorithm::SlidingLog => return false,
        Algorithm::SlidingWindow => (span, quota.amount() << HALF_BITS),
        Algorithm::FixedWindow | Algorithm::CalendarWindow => (span, quota.amount()),
        // What refills a full burst.
        Algorithm::TokenBucket => {
            (span * u128::from(quota.capacity()) / u128::from(quota.amount().max(1)), quota.amount())
        }
    };
    span <= u128::from(MAX_SPAN) && amount <= MAX_COUNT
}

/// The step [`charge`](super::charge) on a packed state, without the detour over [`State`]: what most decisions come to.
///
/// Inlined, with what it calls and what calls it: an outcome is large, and handing it on through memory costs as much as the step.
#[inline(always)]
pub(crate) fn charge<T: Told>(bits: u128, by: &Quota, quota: &Quota, cost: u64, now: u64, origin: u64) -> (u128, T) {
    match quota.algorithm() {
        Algorithm::FixedWindow => {
            let state = fixed_window::State::unpack(bits, origin);
            let (state, verdict) = fixed_window::charge(state, quota, cost, now);
            let outcome = match T::TELLS_STATUS {
                true => fixed_window::outcome(state, verdict, quota, cost, now),
                false => Outcome::untold(verdict),
            };
            (state.map_or(0, |state| state.pack(origin)), T::of(outcome))
        }
        Algorithm::CalendarWindow => {
            let state = fixed_window::State::unpack(bits, origin);
            let (state, verdict) = calendar_window::charge(state, quota, cost, now);
            let outcome = match T::TELLS_STATUS {
                true => fixed_window::outcome(state, verdict, quota, cost, now),
                false => Outcome::untold(verdict),
            };
            (state.map_or(0, |state| state.pack(origin)), T::of(outcome))
        }
        Algorithm::SlidingWindow => {
            let state = sliding_window::State::unpack(bits, origin);
            let (state, verdict) = sliding_window::charge(state, quota, cost, now);
            let outcome = match T::TELLS_STATUS {
                true => sliding_window::outcome(state, verdict, quota, cost, now),
                false => Outcome::untold(verdict),
            };
            (state.map_or(0, |state| state.pack(origin)), T::of(outcome))
        }
        Algorithm::TokenBucket => {
            let state = token_bucket::State::unpack(bits, origin, by.amount());
            let (state, verdict) = token_bucket::charge(state, quota, cost, now);
            let outcome = match T::TELLS_STATUS {
                true => token_bucket::outcome(state, verdict, quota, cost, now),
                false => Outcome::untold(verdict),
            };
            (state.map_or(0, |state| state.pack(origin)), T::of(outcome))
        }
        Algorithm::SlidingLog => unreachable!("a log is never packed"),
    }
}

/// The state in bits; 0 for one that is as new.
pub(crate) fn pack(state: Option<&State>, origin: u64) -> u128 {
    match state {
        Some(State::Window(state)) => state.pack(origin),
        Some(State::SlidingWindow(state)) => state.pack(origin),
        Some(State::TokenBucket(state)) => state.pack(origin),
        Some(State::SlidingLog(_)) | None => 0,
    }
}

/// The state that was packed by a charge of this quota.
pub(crate) fn unpack(bits: u128, quota: &Quota, origin: u64) -> Option<State> {
    match quota.algorithm() {
        Algorithm::FixedWindow | Algorithm::CalendarWindow => {
            fixed_window::State::unpack(bits, origin).map(State::Window)
        }
        Algorithm::SlidingWindow => sliding_window::State::unpack(bits, origin).map(State::SlidingWindow),
        Algorithm::TokenBucket => token_bucket::State::unpack(bits, origin, quota.amount()).map(State::TokenBucket),
        Algorithm::SlidingLog => None,
    }
}

/// Whether [`unpack`] with this quota brings back what [`pack`] made of a state.
pub(crate) fn was_packed_by(state: &State, quota: &Quota) -> bool {
    match state {
        State::TokenBucket(state) => state.refills_as(quota),
        State::Window(_) | State::SlidingWindow(_) | State::SlidingLog(_) => true,
    }
}

pub(super) fn join(instant: u64, origin: u64, count: u64) -> u128 {
    let since = instant.saturating_sub(origin).min(MAX_INSTANT);
    u128::from(since) << COUNT_BITS | u128::from(count.min(MAX_COUNT))
}

pub(super) fn split(bits: u128, origin: u64) -> (u64, u64) {
    // Neither has more than 52 bits.
    let number = |bits: u128| u64::try_from(bits).unwrap_or_default();
    (origin.saturating_add(number(bits >> COUNT_BITS)), number(bits & u128::from(MAX_COUNT)))
}
