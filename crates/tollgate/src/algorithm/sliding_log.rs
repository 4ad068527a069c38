//! Sliding log: every charge with its time. What was charged at t no longer counts at t + W.
//!
//! The only algorithm that never lets more than the amount pass in *any* window, and the only one whose state grows: by
//! one entry a charge, at most [`MAX_LOG_AMOUNT`](crate::quota::MAX_LOG_AMOUNT) of them.

use std::{collections::VecDeque, time::Duration};

use super::{Outcome, Status};
use crate::quota::Quota;

/// The charges that may still count, oldest first, and their sum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    charges: VecDeque<Entry>,
    sum: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    at: u64,
    cost: u64,
}

impl State {
    pub(super) fn len(&self) -> usize {
        self.charges.len()
    }
}

pub(super) fn charge(state: Option<State>, quota: &Quota, cost: u64, now: u64) -> (Option<State>, Outcome) {
    let mut log = forget(state.unwrap_or_default(), quota, now);
    let outcome = look(&log, quota, cost, now);
    if outcome.verdict == super::Verdict::Allow && cost > 0 {
        // Threads can reach a counter in another order than they read the clock; the log stays sorted all the same.
        let at = log.charges.back().map_or(now, |newest| newest.at.max(now));
        match log.charges.back_mut().filter(|newest| newest.at == at) {
            Some(newest) => newest.cost += cost,
            None => log.charges.push_back(Entry { at, cost }),
        }
        log.sum += cost;
    }
    (Some(log).filter(|log| log.sum > 0), outcome)
}

/// What [`charge`] would answer.
pub(super) fn look(log: &State, quota: &Quota, cost: u64, now: u64) -> Outcome {
    let counted = Counted::of(log, quota, now);
    if cost == 0 {
        return Outcome::allow(counted.status(quota, 0, now));
    }
    if counted.sum.saturating_add(cost) > quota.amount() {
        let retry_after = quota.amount().checked_sub(cost).map(|rest| counted.until_at_most(rest, quota, now));
        return Outcome::deny(counted.status(quota, 0, now), retry_after);
    }
    Outcome::allow(counted.status(quota, cost, now))
}

pub(super) fn give_back(state: State, quota: &Quota, cost: u64, at: u64, now: u64) -> Option<State> {
    let mut log = forget(state, quota, now);
    if let Ok(i) = log.charges.binary_search_by_key(&at, |entry| entry.at) {
        let entry = &mut log.charges[i];
        let given = cost.min(entry.cost);
        entry.cost -= given;
        log.sum -= given;
        if entry.cost == 0 {
            log.charges.remove(i);
        }
    }
    Some(log).filter(|log| log.sum > 0)
}

/// Drops what no longer counts. Every entry is dropped once, so that a charge costs a constant time on average.
fn forget(mut log: State, quota: &Quota, now: u64) -> State {
    while let Some(oldest) = log.charges.front().copied().filter(|oldest| !counts(oldest, quota, now)) {
        log.sum -= oldest.cost;
        log.charges.pop_front();
    }
    log
}

fn counts(entry: &Entry, quota: &Quota, now: u64) -> bool {
    now < expiry(entry, quota)
}

fn expiry(entry: &Entry, quota: &Quota) -> u64 {
    entry.at.saturating_add(quota.window_micros())
}

/// The part of a log that counts at one instant.
struct Counted<'a> {
    log: &'a State,
    /// How many of the oldest entries count no more.
    skip: usize,
    sum: u64,
}

impl<'a> Counted<'a> {
    fn of(log: &'a State, quota: &Quota, now: u64) -> Self {
        let gone = log.charges.iter().take_while(|entry| !counts(entry, quota, now));
        let (skip, gone) = gone.fold((0, 0), |(n, sum), entry| (n + 1, sum + entry.cost));
        Self { log, skip, sum: log.sum - gone }
    }

    /// Time until no more than `target` units count. At 0 that is when the last of them has gone.
    fn until_at_most(&self, target: u64, quota: &Quota, now: u64) -> Duration {
        let mut left = self.sum;
        let mut entries = self.log.charges.iter().skip(self.skip);
        let mut at = now;
        while left > target
            && let Some(entry) = entries.next()
        {
            left -= entry.cost;
            at = expiry(entry, quota);
        }
        Duration::from_micros(at - now)
    }

    /// How the counter stands once `cost` more is charged at `now`.
    fn status(&self, quota: &Quota, cost: u64, now: u64) -> Status {
        let limit = quota.amount();
        let sum = self.sum + cost;
        let newest = self.log.charges.back().filter(|_| self.sum > 0).map(|entry| entry.at);
        let newest = if cost > 0 { Some(newest.map_or(now, |newest| newest.max(now))) } else { newest };
        let newest_gone =
            newest.map(|at| Duration::from_micros(at.saturating_add(quota.window_micros()) - now)).unwrap_or_default();
        // With more counted than a lowered amount allows, `remaining` rises only once the sum is below the amount.
        let refill_after = sum.min(limit).checked_sub(1).map(|less| match self.sum {
            0 => newest_gone,
            _ => self.until_at_most(less.saturating_sub(cost), quota, now),
        });
        Status { limit, remaining: limit.saturating_sub(sum), refill_after, reset_after: newest_gone }
    }
}
