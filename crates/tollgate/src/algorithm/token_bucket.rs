//! Token bucket: full at first, refilled continuously at A tokens per W, holding at most `burst` (default A).
//!
//! GCRA: all there is to remember is when the bucket will be full, in whole microseconds and parts of one. A token is W
//! units, so that one microsecond refills exactly A units and nothing is ever rounded. The amount A stands beside the
//! instant because a customer can be given another one, by an override or a new policy: what he keeps is the tokens used,
//! not the wait that they cost at the old rate.

use std::time::Duration;

use super::{Numbers, Outcome, Status, Verdict, packed::Packed};
use crate::quota::{Quota, Token};

/// When the bucket will be full: at `full_at` and `parts` / `amount` of a microsecond, refilled by `amount` units each
/// microsecond, which is the amount of whoever took last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    full_at: u64,
    parts: u64,
    amount: u64,
}

#[inline(always)]
pub(super) fn charge(state: Option<State>, quota: &Quota, cost: u64, now: u64) -> (Option<State>, Verdict) {
    let bucket = Bucket::of(quota);
    let open = still_filling(state, now);
    if cost == 0 {
        return (open, Verdict::Allow);
    }
    let missing = open.map_or(0, |open| open.missing(now)) + bucket.units(cost);
    if missing > bucket.capacity {
        return (open, Verdict::Deny);
    }
    match open.unwrap_or(State { full_at: now, parts: 0, amount: bucket.amount }) {
        // What most charges come to: the same as below, without a division.
        open if open.amount == bucket.amount => (Some(open.without(cost, quota)), Verdict::Allow),
        _ => (bucket.missing(missing, now), Verdict::Allow),
    }
}

/// What a charge gets that has left the bucket like this.
#[inline(always)]
pub(super) fn outcome(open: Option<State>, verdict: Verdict, quota: &Quota, cost: u64, now: u64) -> Outcome {
    let bucket = Bucket::of(quota);
    let missing = open.map_or(0, |open| open.missing(now));
    Outcome::new(verdict, bucket.status(open, missing, now), || {
        let most_before = bucket.capacity.checked_sub(bucket.units(cost))?;
        open.map(|open| open.until_missing(most_before, missing))
    })
}

/// Gives back what of the charge cannot have been refilled since, as if the bucket had refilled nothing else. What others
/// owed may in truth have been refilled first; but which of them were given back in turn the bucket does not know, and a
/// late gift must never admit what would not have passed without the charge.
pub(super) fn give_back(state: State, quota: &Quota, cost: u64, at: u64, now: u64) -> Option<State> {
    let bucket = Bucket::of(quota);
    let open = still_filling(Some(state), now)?;
    let refilled = u128::from(open.amount.max(quota.amount())).saturating_mul(now.saturating_sub(at).into());
    let unpaid = bucket.units(cost).saturating_sub(refilled);
    open.with_missing(open.missing(now).saturating_sub(unpaid), now)
}

/// The later and the faster of two buckets: full no sooner than either, and until then it misses at least what each does.
pub(super) fn join(one: State, other: State, now: u64) -> Option<State> {
    match (still_filling(Some(one), now), still_filling(Some(other), now)) {
        (Some(one), Some(other)) => {
            let amount = one.amount.max(other.amount);
            let (one, other) = (one.at_least_as_fast(amount), other.at_least_as_fast(amount));
            Some(if (one.full_at, one.parts) < (other.full_at, other.parts) { other } else { one })
        }
        (one, other) => one.or(other),
    }
}

/// A bucket that is full is as new.
fn still_filling(state: Option<State>, now: u64) -> Option<State> {
    state.filter(|state| now < state.full_at || (now == state.full_at && state.parts > 0))
}

impl State {
    pub(super) fn numbers(&self) -> Numbers {
        [self.full_at, self.parts, self.amount]
    }

    pub(super) fn from_numbers([full_at, parts, amount]: Numbers) -> Option<Self> {
        (parts < amount).then_some(Self { full_at, parts, amount })
    }

    /// When it is full; the amount is known from the quota of whoever took last.
    pub(super) fn pack(&self, origin: u64) -> Packed {
        Packed::new(self.full_at, origin, self.parts)
    }

    pub(super) fn unpack(packed: Packed, origin: u64, amount: u64) -> Option<Self> {
        let (full_at, parts) = packed.parts(origin);
        (packed != Packed::default()).then_some(Self { full_at, parts, amount: amount.max(1) })
    }

    /// A bucket that is full at the same time, or a part of a microsecond later, and refills by `amount`, which is no less.
    fn at_least_as_fast(self, amount: u64) -> Self {
        // Parts are fewer than the amount that they are parts of, so their share of another one is at most that one.
        let parts = narrow(product(self.parts, amount).div_ceil(self.amount.into()));
        let (micros, parts) = if parts < amount { (0, parts) } else { (1, 0) };
        Self { full_at: self.full_at.saturating_add(micros), parts, amount }
    }

    /// Whether it refills as a bucket of this quota does.
    pub(super) fn refills_as(&self, quota: &Quota) -> bool {
        self.amount == quota.amount().max(1)
    }

    /// Units missing at `now`.
    fn missing(&self, now: u64) -> u128 {
        u128::from(self.full_at - now) * u128::from(self.amount) + u128::from(self.parts)
    }

    /// The same bucket with so many more tokens taken, of a quota that refills by the same amount.
    #[inline(always)]
    fn without(&self, tokens: u64, quota: &Quota) -> Self {
        let Token { micros, parts } = quota.token();
        let (more, parts) = divide(product(tokens, parts) + u128::from(self.parts), self.amount);
        let micros = tokens.saturating_mul(micros).saturating_add(more);
        Self { full_at: self.full_at.saturating_add(micros), parts, amount: self.amount }
    }

    /// Time until no more than `target` units are missing of which `missing` are now.
    #[inline(always)]
    fn until_missing(&self, target: u128, missing: u128) -> Duration {
        Duration::from_micros(div_ceil(missing.saturating_sub(target), self.amount))
    }

    /// The same bucket with `missing` units missing at `now`; one that misses nothing is as new.
    #[inline(always)]
    fn with_missing(&self, missing: u128, now: u64) -> Option<Self> {
        let (micros, parts) = divide(missing, self.amount);
        (missing > 0).then_some(Self { full_at: now.saturating_add(micros), parts, amount: self.amount })
    }
}

/// A quota in units of 1/W token. Amounts are at most 10¹² and windows 3.2·10¹⁵ µs, so that no product leaves 128 bits.
struct Bucket {
    /// Units in one token.
    window: u64,
    /// Tokens in a full bucket.
    limit: u64,
    /// Units in it.
    capacity: u128,
    /// At least 1: nothing fits into one of amount 0, so none is ever made.
    amount: u64,
}

impl Bucket {
    fn of(quota: &Quota) -> Self {
        let window = quota.window_micros();
        Self {
            window,
            limit: quota.capacity(),
            capacity: product(quota.capacity(), window),
            amount: quota.amount().max(1),
        }
    }

    fn units(&self, tokens: u64) -> u128 {
        product(tokens, self.window)
    }

    /// A bucket of this quota with so much missing.
    fn missing(&self, missing: u128, now: u64) -> Option<State> {
        State { full_at: now, parts: 0, amount: self.amount }.with_missing(missing, now)
    }

    /// How a bucket stands in which so much is missing.
    #[inline(always)]
    fn status(&self, open: Option<State>, missing: u128, now: u64) -> Status {
        let limit = self.limit;
        let Some(open) = open else {
            return Status { limit, remaining: limit, refill_after: None, reset_after: Duration::ZERO };
        };
        // An override with a smaller burst can find more missing than it holds.
        let (remaining, _) = divide(self.capacity.saturating_sub(missing), self.window);
        let next = product(remaining + 1, self.window);
        Status {
            limit,
            remaining,
            refill_after: self.capacity.checked_sub(next).map(|target| open.until_missing(target, missing)),
            reset_after: Duration::from_micros(open.full_at - now + u64::from(open.parts > 0)),
        }
    }
}

fn product(a: u64, b: u64) -> u128 {
    u128::from(a) * u128::from(b)
}

/// Quotient and remainder. Divisions of 128 bits are slow, and hardly ever needed.
#[inline(always)]
fn divide(a: u128, b: u64) -> (u64, u64) {
    match u64::try_from(a) {
        Ok(a) if a < b => (0, a),
        Ok(a) => (a / b, a % b),
        Err(_) => divide_wide(a, b),
    }
}

#[cold]
fn divide_wide(a: u128, b: u64) -> (u64, u64) {
    (narrow(a / u128::from(b)), narrow(a % u128::from(b)))
}

#[inline(always)]
fn div_ceil(a: u128, b: u64) -> u64 {
    let (quotient, remainder) = divide(a, b);
    quotient.saturating_add(u64::from(remainder > 0))
}

/// Spans of at most 200 years in microseconds and counts of at most 10¹² fit; anything else is as good as for ever.
fn narrow(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
