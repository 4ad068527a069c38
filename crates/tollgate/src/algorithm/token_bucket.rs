//! Token bucket: full at first, refilled continuously at A tokens per W, holding at most `burst` (default A).
//!
//! The same as GCRA, kept as a meter: not the instant at which the bucket will be full, but how much is missing and
//! when that was true. A token is W units, so that one microsecond refills exactly A units and nothing is ever rounded.
//! And, unlike an instant, what is missing means the same under another amount: a customer who is given a larger
//! quota, by an override or a new policy, keeps the tokens used and not the wait they cost at the old rate.

use std::time::Duration;

use super::{Outcome, Status};
use crate::quota::Quota;

/// How many units of 1/W token were missing at an instant. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    at: u64,
    missing: u128,
    /// When it was to be full by the quota that took last. From then on it is, whoever asks, so that a store may forget
    /// it.
    full_at: u64,
}

pub(super) fn charge(state: Option<State>, quota: &Quota, cost: u64, now: u64) -> (Option<State>, Outcome) {
    let bucket = Bucket::of(quota);
    let open = bucket.refill(state, now);
    // Whoever takes nothing leaves the bucket as it was found: its refill is at the rate of whoever takes next.
    if cost == 0 {
        return (state, Outcome::allow(bucket.status(open)));
    }
    let missing = open.map_or(0, |open| open.missing);
    let wanted = bucket.units(cost);
    if missing + wanted > bucket.capacity {
        let until_it_fits = |open: State| bucket.wait(missing + wanted - bucket.capacity, open);
        let retry_after = open.filter(|_| wanted <= bucket.capacity).map(until_it_fits);
        return (state, Outcome::deny(bucket.status(open), retry_after));
    }
    let charged = bucket.missing(open.map_or(now, |open| open.at), missing + wanted);
    (charged, Outcome::allow(bucket.status(charged)))
}

/// Gives back what of the charge cannot have been refilled since, as if the bucket had refilled nothing else. What others
/// owed may in truth have been refilled first; but which of them were given back in turn the bucket does not know, and a
/// late gift must never admit what would not have passed without the charge.
pub(super) fn give_back(state: State, quota: &Quota, cost: u64, at: u64, now: u64) -> Option<State> {
    let bucket = Bucket::of(quota);
    let open = bucket.refill(Some(state), now)?;
    let refilled = bucket.rate.saturating_mul(u128::from(now.saturating_sub(at)));
    let unpaid = bucket.units(cost).saturating_sub(refilled);
    bucket.missing(open.at, open.missing.saturating_sub(unpaid))
}

/// A quota in units of 1/W token. Amounts are at most 10¹² and windows 3.2·10¹⁵ µs, so that no product leaves 128 bits.
struct Bucket {
    /// Units refilled each microsecond.
    rate: u128,
    /// Units in one token.
    window: u128,
    /// Units in a full bucket.
    capacity: u128,
}

impl Bucket {
    fn of(quota: &Quota) -> Self {
        let window = u128::from(quota.window_micros());
        Self { rate: quota.amount().into(), window, capacity: u128::from(quota.capacity()) * window }
    }

    fn units(&self, tokens: u64) -> u128 {
        u128::from(tokens) * self.window
    }

    /// So much is missing at an instant; nothing is no state.
    fn missing(&self, at: u64, missing: u128) -> Option<State> {
        (missing > 0).then(|| State { at, missing, full_at: at.saturating_add(self.micros(missing)) })
    }

    /// What is still missing at `now`.
    fn refill(&self, state: Option<State>, now: u64) -> Option<State> {
        let State { at, missing, full_at } = state?;
        // A thread that read the clock a little earlier than the last one finds the bucket as that one left it.
        let now = now.max(at);
        let missing = missing.saturating_sub(self.rate * u128::from(now - at));
        (missing > 0 && now < full_at).then_some(State { at: now, missing, full_at })
    }

    /// Microseconds until `units` have been refilled. Nothing refills an amount of 0, and no promise is made about it.
    fn micros(&self, units: u128) -> u64 {
        let micros = if self.rate == 0 { 0 } else { units.div_ceil(self.rate) };
        u64::try_from(micros).unwrap_or(u64::MAX)
    }

    /// Time until `units` of what is missing have been refilled, at the latest when the bucket is full anyway.
    fn wait(&self, units: u128, open: State) -> Duration {
        Duration::from_micros(self.micros(units).min(open.full_at - open.at))
    }

    fn status(&self, open: Option<State>) -> Status {
        let limit = self.tokens(self.capacity);
        let Some(open) = open else {
            return Status { limit, remaining: limit, refill_after: None, reset_after: Duration::ZERO };
        };
        // An override with a smaller burst can find more missing than it holds.
        let left = self.capacity.saturating_sub(open.missing);
        let to_next = open.missing + (left / self.window + 1) * self.window - self.capacity;
        Status {
            limit,
            remaining: self.tokens(left),
            refill_after: (self.rate > 0).then(|| self.wait(to_next, open)),
            reset_after: self.wait(open.missing, open),
        }
    }

    fn tokens(&self, units: u128) -> u64 {
        // At most the burst, which came from 64 bits.
        u64::try_from(units / self.window).unwrap_or(u64::MAX)
    }
}
