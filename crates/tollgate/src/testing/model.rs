//! One counter, modelled naively: it remembers every charge, and looks its answers up in the future.
//!
//! An algorithm is only a way of counting: how much of what was charged still counts at an instant. Everything else is
//! the same for all of them and follows from that by its definition. `remaining` is what is left of the limit. Every
//! wait is the first microsecond at which something holds, found by trying: `retry_after` that the cost fits,
//! `refill_after` that `remaining` has risen, `reset_after` that nothing counts any more.

mod bucket;
mod calendar;
mod sliding;
mod windows;

use std::time::Duration;

use crate::{
    algorithm::{Outcome, Status, Verdict},
    clock::Timestamp,
    quota::{Algorithm, Quota},
};

/// What a counter should answer.
///
/// Its charges may name different quotas, as those of an override do: the same algorithm and window, another amount or
/// burst.
///
/// ```
/// use tollgate::{algorithm::Verdict, clock::Timestamp, quota::{Algorithm, Limits, Quota}, testing::model::Model};
///
/// let limits: Limits = "2/minute".parse()?;
/// let quota = Quota::new(limits.as_slice()[0], Algorithm::SlidingLog)?;
/// let now = Timestamp::from_micros(1_700_000_000_000_000);
///
/// let mut model = Model::default();
/// assert_eq!(model.charge(&quota, 2, now).verdict, Verdict::Allow);
/// assert_eq!(model.look(&quota, 1, now).verdict, Verdict::Deny);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Model {
    charges: Vec<Charged>,
}

/// A charge that was taken, or a part of one that was given back.
#[derive(Clone, Debug)]
struct Charged {
    at: u64,
    cost: u64,
    quota: Quota,
    /// When the window of the calendar ends in which it was made; without a calendar, never asked for.
    window_end: u128,
    /// Parts of a unit, of which there are as many as the window has microseconds, given back at `at`.
    given: i128,
}

impl Model {
    /// What a charge would get, and how the counter would stand after it.
    pub fn look(&self, quota: &Quota, cost: u64, now: Timestamp) -> Outcome {
        self.clone().charge(quota, cost, now)
    }

    /// Takes a charge if it fits.
    pub fn charge(&mut self, quota: &Quota, cost: u64, now: Timestamp) -> Outcome {
        let now = now.as_micros();
        if cost == 0 {
            return Outcome { verdict: Verdict::Allow, status: self.status(quota, now), retry_after: None };
        }
        if !self.fits(quota, cost, now.into()) {
            let can_fit = cost <= limit(quota);
            let retry_after = can_fit.then(|| self.first(now, |at| self.fits(quota, cost, at)));
            return Outcome { verdict: Verdict::Deny, status: self.status(quota, now), retry_after };
        }
        if self.counted(quota, now.into()) == 0 {
            self.charges.clear();
        }
        let window_end = calendar::window_end(quota.limit(), now);
        self.charges.push(Charged { at: now, cost, quota: *quota, window_end, given: 0 });
        Outcome { verdict: Verdict::Allow, status: self.status(quota, now), retry_after: None }
    }

    /// Takes the cost of a charge that was made `at` off again, as far as it still counts.
    pub fn give_back(&mut self, quota: &Quota, cost: u64, at: Timestamp, now: Timestamp) {
        let (at, now) = (at.as_micros(), now.as_micros());
        if quota.algorithm() == Algorithm::TokenBucket {
            let given = bucket::unpaid(&self.charges, quota, cost, at, now);
            self.charges.push(Charged { at: now, cost: 0, quota: *quota, window_end: 0, given });
        } else {
            let mut left = cost;
            for charged in self.charges.iter_mut().filter(|charged| charged.at == at) {
                let given = left.min(charged.cost);
                charged.cost -= given;
                left -= given;
            }
        }
        if self.counted(quota, now.into()) == 0 {
            self.charges.clear();
        }
    }

    /// Makes the counter as new.
    pub fn clear(&mut self) {
        self.charges.clear();
    }

    fn status(&self, quota: &Quota, now: u64) -> Status {
        let remaining = self.remaining(quota, now.into());
        let can_rise = remaining < limit(quota);
        Status {
            limit: limit(quota),
            remaining,
            refill_after: can_rise.then(|| self.first(now, |at| self.remaining(quota, at) > remaining)),
            reset_after: self.first(now, |at| self.counted(quota, at) == 0),
        }
    }

    fn fits(&self, quota: &Quota, cost: u64, at: u128) -> bool {
        self.whole(quota, at) + u128::from(cost) <= limit(quota).into()
    }

    fn remaining(&self, quota: &Quota, at: u128) -> u64 {
        let remaining = u128::from(limit(quota)).saturating_sub(self.whole(quota, at));
        u64::try_from(remaining).expect("it is at most the limit")
    }

    /// Whole units that count: a part of one takes the place of a whole one.
    fn whole(&self, quota: &Quota, at: u128) -> u128 {
        self.counted(quota, at).div_ceil(window(quota))
    }

    /// What counts at an instant, in parts of a unit: as many as the window has microseconds.
    fn counted(&self, quota: &Quota, at: u128) -> u128 {
        match quota.algorithm() {
            Algorithm::FixedWindow => windows::fixed(&self.charges, at) * window(quota),
            Algorithm::CalendarWindow => windows::calendar(&self.charges, at) * window(quota),
            Algorithm::SlidingLog => windows::log(&self.charges, at) * window(quota),
            Algorithm::SlidingWindow => sliding::counted(&self.charges, quota, at),
            Algorithm::TokenBucket => bucket::missing(&self.charges, at),
        }
    }

    /// Time until something holds that, once it does, goes on holding: the first microsecond at which it does, by
    /// halving.
    fn first(&self, now: u64, holds: impl Fn(u128) -> bool) -> Duration {
        let now = u128::from(now);
        if holds(now) {
            return Duration::ZERO;
        }
        let (mut fails, mut holds_at) = (0, 1);
        while !holds(now + holds_at) {
            assert!(holds_at < 1 << 100, "what is waited for never comes: {self:?}");
            (fails, holds_at) = (holds_at, holds_at * 2);
        }
        while holds_at - fails > 1 {
            let middle = fails.midpoint(holds_at);
            match holds(now + middle) {
                true => holds_at = middle,
                false => fails = middle,
            }
        }
        Duration::from_micros(u64::try_from(holds_at).unwrap_or(u64::MAX))
    }
}

fn limit(quota: &Quota) -> u64 {
    match (quota.algorithm(), quota.limit().burst()) {
        (Algorithm::TokenBucket, Some(burst)) => burst,
        _ => quota.amount(),
    }
}

/// The window in microseconds.
fn window(quota: &Quota) -> u128 {
    quota.window().as_micros()
}
