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
}

pub(super) fn charge(state: Option<State>, quota: &Quota, cost: u64, now: u64) -> (Option<State>, Outcome) {
    let bucket = Bucket::of(quota);
    let open = bucket.refill(state, now);
    let missing = open.map_or(0, |open| open.missing);
    // Whoever takes nothing leaves the bucket as it was found: its refill is at the rate of whoever takes next.
    if cost == 0 {
        return (state, Outcome::allow(bucket.status(missing)));
    }
    let wanted = bucket.units(cost);
    if missing + wanted > bucket.capacity {
        let retry_after = (wanted <= bucket.capacity).then(|| bucket.until(missing + wanted - bucket.capacity));
        return (state, Outcome::deny(bucket.status(missing), retry_after));
    }
    let missing = missing + wanted;
    let at = open.map_or(now, |open| open.at);
    (Some(State { at, missing }), Outcome::allow(bucket.status(missing)))
}

/// Gives back what of the charge has not been refilled yet: tokens come back in the order they were taken, so at `until`
/// there is nothing left to give, and a late gift never admits what would not have passed without the charge.
pub(super) fn give_back(state: State, quota: &Quota, cost: u64, until: u64, now: u64) -> Option<State> {
    let bucket = Bucket::of(quota);
    let open = bucket.refill(Some(state), now)?;
    let unpaid = bucket.rate.saturating_mul(u128::from(until.saturating_sub(now)));
    let missing = open.missing.saturating_sub(bucket.units(cost).min(unpaid));
    (missing > 0).then_some(State { missing, ..open })
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

    /// What is still missing at `now`; nothing is no state.
    fn refill(&self, state: Option<State>, now: u64) -> Option<State> {
        let State { at, missing } = state?;
        // A thread that read the clock a little earlier than the last one finds the bucket as that one left it.
        let now = now.max(at);
        let missing = missing.saturating_sub(self.rate * u128::from(now - at));
        (missing > 0).then_some(State { at: now, missing })
    }

    /// Time until `units` have been refilled. Nothing refills an amount of 0, and no promise is made about it.
    fn until(&self, units: u128) -> Duration {
        let micros = if self.rate == 0 { 0 } else { units.div_ceil(self.rate) };
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    fn status(&self, missing: u128) -> Status {
        // An override with a smaller burst can find more missing than it holds.
        let whole = self.capacity.saturating_sub(missing) / self.window;
        let to_next = (missing + (whole + 1) * self.window).saturating_sub(self.capacity);
        Status {
            limit: self.tokens(self.capacity),
            remaining: self.tokens(self.capacity.saturating_sub(missing)),
            refill_after: (missing > 0 && self.rate > 0).then(|| self.until(to_next)),
            reset_after: self.until(missing),
        }
    }

    fn tokens(&self, units: u128) -> u64 {
        // At most the burst, which came from 64 bits.
        u64::try_from(units / self.window).unwrap_or(u64::MAX)
    }
}
