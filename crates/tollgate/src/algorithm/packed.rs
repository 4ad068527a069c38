//! A state in 82 bits, so that it fits a slot of the memory store beside the tag of its key: an instant and a count.
//!
//! What fits is narrow: amounts up to 2³⁰ − 1 units (2¹⁵ − 1 for a sliding window, which has two counts), windows and
//! refills up to 2⁵⁰ µs, which are 35 years. A log never is.

use super::{Outcome, State, Told, calendar_window, fixed_window, sliding_window, token_bucket};
use crate::quota::{Algorithm, Quota};

/// Microseconds since the origin: 142 years.
pub(crate) const INSTANT_BITS: u32 = 52;
pub(crate) const COUNT_BITS: u32 = 2 * HALF_BITS;
pub(super) const HALF_BITS: u32 = 15;
pub(super) const MAX_HALF: u64 = (1 << HALF_BITS) - 1;
const MAX_INSTANT: u64 = (1 << INSTANT_BITS) - 1;
const MAX_COUNT: u64 = (1 << COUNT_BITS) - 1;
const MAX_SPAN: u64 = 1 << 50;

/// A packed state; zeroes are one that is as new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Packed {
    /// Microseconds since the origin, in [`INSTANT_BITS`] bits.
    pub(crate) instant: u64,
    /// In [`COUNT_BITS`] bits.
    pub(crate) count: u64,
}

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
pub(crate) fn charge<T: Told>(
    packed: Packed,
    by: &Quota,
    quota: &Quota,
    cost: u64,
    now: u64,
    origin: u64,
) -> (Packed, T) {
    // Not a closure, which would not be inlined.
    macro_rules! charged {
        ($state:expr, $charge:path, $outcome:path) => {{
            let (state, verdict) = $charge($state, quota, cost, now);
            let outcome = match T::TELLS_STATUS {
                true => $outcome(state, verdict, quota, cost, now),
                false => Outcome::untold(verdict),
            };
            (state.map_or(Packed::default(), |state| state.pack(origin)), T::of(outcome))
        }};
    }
    match quota.algorithm() {
        Algorithm::FixedWindow => {
            let state = fixed_window::State::unpack(packed, origin);
            charged!(state, fixed_window::charge, fixed_window::outcome)
        }
        Algorithm::CalendarWindow => {
            let state = fixed_window::State::unpack(packed, origin);
            charged!(state, calendar_window::charge, fixed_window::outcome)
        }
        Algorithm::SlidingWindow => {
            let state = sliding_window::State::unpack(packed, origin);
            charged!(state, sliding_window::charge, sliding_window::outcome)
        }
        Algorithm::TokenBucket => {
            let state = token_bucket::State::unpack(packed, origin, by.amount());
            charged!(state, token_bucket::charge, token_bucket::outcome)
        }
        Algorithm::SlidingLog => unreachable!("a log is never packed"),
    }
}

/// The state, packed.
pub(crate) fn pack(state: Option<&State>, origin: u64) -> Packed {
    match state {
        Some(State::Window(state)) => state.pack(origin),
        Some(State::SlidingWindow(state)) => state.pack(origin),
        Some(State::TokenBucket(state)) => state.pack(origin),
        Some(State::SlidingLog(_)) | None => Packed::default(),
    }
}

/// The state that was packed by a charge of this quota.
pub(crate) fn unpack(packed: Packed, quota: &Quota, origin: u64) -> Option<State> {
    match quota.algorithm() {
        Algorithm::FixedWindow | Algorithm::CalendarWindow => {
            fixed_window::State::unpack(packed, origin).map(State::Window)
        }
        Algorithm::SlidingWindow => sliding_window::State::unpack(packed, origin).map(State::SlidingWindow),
        Algorithm::TokenBucket => token_bucket::State::unpack(packed, origin, quota.amount()).map(State::TokenBucket),
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

impl Packed {
    pub(super) fn new(instant: u64, origin: u64, count: u64) -> Self {
        Self { instant: instant.saturating_sub(origin).min(MAX_INSTANT), count: count.min(MAX_COUNT) }
    }

    /// The instant since the epoch, and the count.
    pub(super) fn parts(self, origin: u64) -> (u64, u64) {
        (origin.saturating_add(self.instant), self.count)
    }
}
