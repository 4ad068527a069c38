//! The five algorithms: one pure step each, `(state, quota, cost, now) → (state, outcome)`.
//!
//! Each lives in its own file and knows nothing of keys, stores or threads. The arithmetic is in integers: instants and
//! spans in microseconds, units and tokens up to 10¹², products in 128 bits, everything saturating at the edges. Every
//! one has a naive twin in [`testing`](crate::testing) that a property test holds it against.
//!
//! What all of them keep: a cost of 0 asks and changes nothing; a cost that can never fit is denied with no
//! `retry_after`; a denial changes no state; a state that counts for nothing any more is no state.

mod calendar_window;
mod fixed_window;
pub(crate) mod packed;
mod sliding_log;
mod sliding_window;
mod token_bucket;

use std::time::Duration;

use crate::{
    clock::Timestamp,
    quota::{Algorithm, Quota},
};

/// The answer to a charge or to a whole request.
// As wide as what stands beside it in an outcome: a byte that is copied with its padding, in one access after it was written
// in another, holds the processor up. That was a tenth of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u64)]
pub enum Verdict {
    /// It may pass.
    Allow,
    /// It may not.
    Deny,
}

/// How one counter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// How many units may pass: the amount, or the burst of a bucket.
    pub limit: u64,
    /// How many units could pass now; never above `limit`.
    pub remaining: u64,
    /// Time until `remaining` rises; none if it cannot.
    pub refill_after: Option<Duration>,
    /// Time until the counter is as new.
    pub reset_after: Duration,
}

/// What one counter answered to one charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the charge fitted.
    pub verdict: Verdict,
    /// How the counter stands after it.
    pub status: Status,
    /// Time until this cost could pass, if nobody else charges: only on a denial, and none if it can never fit.
    pub retry_after: Option<Duration>,
}

impl Outcome {
    fn allow(status: Status) -> Self {
        Self { verdict: Verdict::Allow, status, retry_after: None }
    }

    fn deny(status: Status, retry_after: Option<Duration>) -> Self {
        Self { verdict: Verdict::Deny, status, retry_after }
    }

    /// One of which nothing but the verdict is asked.
    #[inline(always)]
    fn untold(verdict: Verdict) -> Self {
        let status = Status { limit: 0, remaining: 0, refill_after: None, reset_after: Duration::ZERO };
        Self { verdict, status, retry_after: None }
    }

    #[inline(always)]
    fn new(verdict: Verdict, status: Status, retry_after: impl FnOnce() -> Option<Duration>) -> Self {
        match verdict {
            Verdict::Allow => Self::allow(status),
            Verdict::Deny => Self::deny(status, retry_after()),
        }
    }
}

/// How much a charge is to tell. How the counter stands is worked out from its state after the step, and not at all for
/// those who ask for the verdict alone: not by a closure, for those are not inlined here, and outcomes are large.
pub(crate) trait Told {
    const TELLS_STATUS: bool;

    fn of(outcome: Outcome) -> Self;

    fn verdict(&self) -> Verdict;
}

impl Told for Outcome {
    const TELLS_STATUS: bool = true;

    #[inline(always)]
    fn of(outcome: Outcome) -> Self {
        outcome
    }

    fn verdict(&self) -> Verdict {
        self.verdict
    }
}

impl Told for Verdict {
    const TELLS_STATUS: bool = false;

    #[inline(always)]
    fn of(outcome: Outcome) -> Self {
        outcome.verdict
    }

    fn verdict(&self) -> Verdict {
        *self
    }
}

/// What a store remembers of one counter; no state is a counter that is as new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// A window and what was used of it, wherever it began.
    Window(fixed_window::State),
    /// Two adjoining windows.
    SlidingWindow(sliding_window::State),
    /// Every charge that still counts.
    SlidingLog(sliding_log::State),
    /// What is missing in a bucket.
    TokenBucket(token_bucket::State),
}

impl State {
    /// How many charges it remembers one by one; 0 for every algorithm but the log.
    pub(crate) fn log_len(&self) -> usize {
        match self {
            Self::SlidingLog(log) => log.len(),
            Self::Window(_) | Self::SlidingWindow(_) | Self::TokenBucket(_) => 0,
        }
    }
}

/// A state as the numbers that another process needs to make the same step, as [`State::numbers`] gives them.
///
/// | algorithm | first | second | third |
/// |---|---|---|---|
/// | `fixed-window`, `calendar-window` | the window's end | units used | 0 |
/// | `sliding-window` | the current window's start | units in the window before it | units in it |
/// | `token-bucket` | when it will be full | parts of a microsecond later | how many of them make one: the amount |
///
/// Instants are in microseconds since the Unix epoch.
pub type Numbers = [u64; 3];

impl State {
    /// The state as numbers; a log has as many as charges, and so none here.
    pub fn numbers(&self) -> Option<Numbers> {
        match self {
            Self::Window(window) => Some(window.numbers()),
            Self::SlidingWindow(windows) => Some(windows.numbers()),
            Self::SlidingLog(_) => None,
            Self::TokenBucket(bucket) => Some(bucket.numbers()),
        }
    }

    /// The state that these numbers are of a counter with this quota. Of numbers that no counter could have, none: that is as new.
    /// Where another clock was ahead of `now`, no window ends later than one that begins now.
    pub fn from_numbers(numbers: Numbers, quota: &Quota, now: Timestamp) -> Option<Self> {
        let now = now.as_micros();
        match quota.algorithm() {
            Algorithm::FixedWindow => {
                fixed_window::State::from_numbers(numbers, now.saturating_add(quota.window_micros())).map(Self::Window)
            }
            Algorithm::CalendarWindow => {
                let latest_end = calendar_window::window_end(quota.limit(), now);
                fixed_window::State::from_numbers(numbers, latest_end).map(Self::Window)
            }
            Algorithm::SlidingWindow => sliding_window::State::from_numbers(numbers, now).map(Self::SlidingWindow),
            Algorithm::SlidingLog => None,
            Algorithm::TokenBucket => token_bucket::State::from_numbers(numbers).map(Self::TokenBucket),
        }
    }
}

/// Asks what a charge would get, and how the counter would stand after it.
pub fn look(state: Option<&State>, quota: &Quota, cost: u64, now: Timestamp) -> Outcome {
    match (quota.algorithm(), state) {
        (Algorithm::SlidingLog, Some(State::SlidingLog(log))) => sliding_log::look(log, quota, cost, now.as_micros()),
        (Algorithm::SlidingLog, _) => sliding_log::look(&sliding_log::State::default(), quota, cost, now.as_micros()),
        // Every other state is a few numbers: the step on a copy is the answer.
        (_, state) => charge(state.cloned(), quota, cost, now).1,
    }
}

/// Takes a charge if it fits: the step that every store makes.
///
/// A state of another algorithm counts for nothing: stores keep counters of different algorithms apart.
pub fn charge(state: Option<State>, quota: &Quota, cost: u64, now: Timestamp) -> (Option<State>, Outcome) {
    let now = now.as_micros();
    match quota.algorithm() {
        Algorithm::FixedWindow => {
            let (state, verdict) = fixed_window::charge(window(state), quota, cost, now);
            (state.map(State::Window), fixed_window::outcome(state, verdict, quota, cost, now))
        }
        Algorithm::CalendarWindow => {
            let (state, verdict) = calendar_window::charge(window(state), quota, cost, now);
            (state.map(State::Window), fixed_window::outcome(state, verdict, quota, cost, now))
        }
        Algorithm::SlidingWindow => {
            let (state, verdict) = sliding_window::charge(sliding(state), quota, cost, now);
            (state.map(State::SlidingWindow), sliding_window::outcome(state, verdict, quota, cost, now))
        }
        Algorithm::SlidingLog => {
            let (state, outcome) = sliding_log::charge(log(state), quota, cost, now);
            (state.map(State::SlidingLog), outcome)
        }
        Algorithm::TokenBucket => {
            let (state, verdict) = token_bucket::charge(bucket(state), quota, cost, now);
            (state.map(State::TokenBucket), token_bucket::outcome(state, verdict, quota, cost, now))
        }
    }
}

/// Takes the cost of one charge off again, if it still counts.
///
/// `at`, when it was made, names the window or the entry it was charged to. Whoever gives back after that has gone, gives
/// nothing.
pub fn give_back(state: Option<State>, quota: &Quota, cost: u64, at: Timestamp, now: Timestamp) -> Option<State> {
    let (at, now) = (at.as_micros(), now.as_micros());
    match quota.algorithm() {
        Algorithm::FixedWindow => fixed_window::give_back(window(state)?, quota, cost, at, now).map(State::Window),
        Algorithm::CalendarWindow => {
            calendar_window::give_back(window(state)?, quota, cost, at, now).map(State::Window)
        }
        Algorithm::SlidingWindow => {
            sliding_window::give_back(sliding(state)?, quota, cost, at, now).map(State::SlidingWindow)
        }
        Algorithm::SlidingLog => sliding_log::give_back(log(state)?, quota, cost, at, now).map(State::SlidingLog),
        Algorithm::TokenBucket => token_bucket::give_back(bucket(state)?, quota, cost, at, now).map(State::TokenBucket),
    }
}

/// A state that owes at least what either of these does, now and at any time to come.
pub(crate) fn join(one: Option<State>, other: Option<State>, quota: &Quota, now: Timestamp) -> Option<State> {
    let at = now.as_micros();
    match (one, other) {
        (Some(State::Window(one)), Some(State::Window(other))) => fixed_window::join(one, other, at).map(State::Window),
        (Some(State::SlidingWindow(one)), Some(State::SlidingWindow(other))) => {
            sliding_window::join(one, other, quota.window_micros(), at).map(State::SlidingWindow)
        }
        (Some(State::TokenBucket(one)), Some(State::TokenBucket(other))) => {
            token_bucket::join(one, other, at).map(State::TokenBucket)
        }
        (one, other) => one.or(other),
    }
}

fn window(state: Option<State>) -> Option<fixed_window::State> {
    if let Some(State::Window(state)) = state { Some(state) } else { None }
}

fn sliding(state: Option<State>) -> Option<sliding_window::State> {
    if let Some(State::SlidingWindow(state)) = state { Some(state) } else { None }
}

fn log(state: Option<State>) -> Option<sliding_log::State> {
    if let Some(State::SlidingLog(state)) = state { Some(state) } else { None }
}

fn bucket(state: Option<State>) -> Option<token_bucket::State> {
    if let Some(State::TokenBucket(state)) = state { Some(state) } else { None }
}
