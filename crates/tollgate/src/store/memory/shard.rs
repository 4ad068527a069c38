//! One of the maps for what fits no slot of the table: from counters to their states, bounded.

use std::hash::{BuildHasherDefault, Hash, Hasher};

use indexmap::{Equivalent, IndexMap};

use crate::{
    algorithm::{self, Outcome, State, Status, Verdict},
    clock::Timestamp,
    key::Key,
    policy::CounterId,
    quota::{Algorithm, Quota},
};

/// How many counters are compared to find the one closest to new.
const SAMPLE: usize = 8;
/// How many counters each newcomer looks at in turn to drop those that no longer count: more than one, so that a store
/// empties faster than it fills.
const SWEEP: usize = 2;
/// How many charges in a log take the place of one counter: about equal in memory.
const LOG_CHARGES_PER_COUNTER: usize = 4;

#[derive(Debug)]
pub(super) struct Shard {
    counters: IndexMap<OwnedKey, Counter, BuildHasherDefault<HashedAlready>>,
    capacity: usize,
    /// Charges remembered one by one, in all logs together.
    log_charges: usize,
    /// Where the next sweep begins.
    hand: usize,
    given_up: u64,
}

#[derive(Debug)]
struct Counter {
    state: Option<State>,
    as_new_at: Timestamp,
    /// The used share of the limit, in 65,535ths.
    debt: u16,
}

impl Shard {
    pub(super) fn new(capacity: usize) -> Self {
        Self { counters: IndexMap::default(), capacity, log_charges: 0, hand: 0, given_up: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.counters.len()
    }

    pub(super) fn given_up(&self) -> u64 {
        self.given_up
    }

    pub(super) fn look(&self, key: &CounterKey<'_>, quota: &Quota, cost: u64, now: Timestamp) -> Outcome {
        let counter = self.counters.get(key);
        let outcome = algorithm::look(counter.and_then(|counter| counter.state.as_ref()), quota, cost, now);
        let grows = counter.is_none() || quota.algorithm() == Algorithm::SlidingLog;
        match outcome.verdict {
            Verdict::Allow if cost > 0 && grows && self.is_full() && self.victim(key, now).is_none() => {
                // Nobody goes uncounted: who finds no room must wait until somebody's counter counts no more.
                let status = algorithm::look(counter.and_then(|counter| counter.state.as_ref()), quota, 0, now).status;
                let soonest = self.sample(key).map(|(_, counter)| counter.as_new_at).min();
                Outcome { verdict: Verdict::Deny, status, retry_after: soonest.map(|at| at.since(now)) }
            }
            _ => outcome,
        }
    }

    /// Charges a counter. The caller has looked: a charge that does not fit would change nothing.
    pub(super) fn charge(&mut self, key: &CounterKey<'_>, quota: &Quota, cost: u64, now: Timestamp) -> Outcome {
        if let Some(counter) = self.counters.get_mut(key) {
            let log_charges = counter.log_charges();
            let outcome = counter.charge(quota, cost, now);
            self.log_charges = self.log_charges + counter.log_charges() - log_charges;
            // Only a log grows once it is there.
            if counter.log_charges() > log_charges {
                self.make_room(0, 0, key, now);
            }
            return outcome;
        }
        let mut counter = Counter { state: None, as_new_at: now, debt: 0 };
        let outcome = counter.charge(quota, cost, now);
        // Before anything else changes, so that whom the look found to give up is found again.
        self.make_room(1, counter.log_charges(), key, now);
        self.sweep(now);
        self.log_charges += counter.log_charges();
        self.counters.insert(key.to_owned(), counter);
        outcome
    }

    pub(super) fn give_back(&mut self, key: &CounterKey<'_>, quota: &Quota, cost: u64, at: Timestamp, now: Timestamp) {
        let Some(counter) = self.counters.get_mut(key) else { return };
        let log_charges = counter.log_charges();
        counter.state = algorithm::give_back(counter.state.take(), quota, cost, at, now);
        let standing = algorithm::look(counter.state.as_ref(), quota, 0, now);
        counter.stands(&standing.status, now);
        self.log_charges = self.log_charges + counter.log_charges() - log_charges;
    }

    pub(super) fn remove(&mut self, key: &CounterKey<'_>) {
        if let Some(counter) = self.counters.swap_remove(key) {
            self.log_charges -= counter.log_charges();
        }
    }

    /// Drops what no longer counts among the next few counters.
    fn sweep(&mut self, now: Timestamp) {
        for _ in 0..SWEEP {
            self.hand = self.next(self.hand);
            if self.counters.get_index(self.hand).is_some_and(|(_, counter)| counter.as_new_at <= now) {
                self.remove_at(self.hand);
            }
        }
    }

    /// Gives counters up until the rest and so many more of them, and charges in logs, fit. The caller has looked, and found
    /// one that can be.
    fn make_room(&mut self, counters: usize, log_charges: usize, key: &CounterKey<'_>, now: Timestamp) {
        while self.would_be(counters, log_charges) > self.capacity {
            let Some(victim) = self.victim(key, now) else { return };
            self.given_up += u64::from(self.counters[victim].as_new_at > now);
            self.remove_at(victim);
        }
    }

    /// Whether a counter more, or a charge more in a log, can mean that another is given up.
    fn is_full(&self) -> bool {
        self.would_be(1, 1) > self.capacity
    }

    /// How many counters it would hold with so many more of them, and of charges in logs.
    fn would_be(&self, counters: usize, log_charges: usize) -> usize {
        self.len() + counters + (self.log_charges + log_charges) / LOG_CHARGES_PER_COUNTER
    }

    /// Of a few counters, one that no longer counts, else the one with the smallest debt, else the one soonest as new; but
    /// none that has nothing left, for it is denying somebody.
    fn victim(&self, newcomer: &CounterKey<'_>, now: Timestamp) -> Option<usize> {
        let may_go = |counter: &Counter| counter.as_new_at <= now || counter.debt < u16::MAX;
        let candidates = self.sample(newcomer).filter(|(_, counter)| may_go(counter));
        let first = candidates.min_by_key(|(_, counter)| (counter.as_new_at > now, counter.debt, counter.as_new_at));
        first.map(|(i, _)| i)
    }

    /// A few counters, the same for a key as long as nothing changes, and not its own.
    fn sample(&self, key: &CounterKey<'_>) -> impl Iterator<Item = (usize, &Counter)> {
        let first = usize::try_from(key.hash >> 8).unwrap_or_default() % self.len().max(1);
        let some = (0..SAMPLE.min(self.len())).map(move |i| (first + i) % self.len().max(1));
        let with_keys = some.filter_map(|i| self.counters.get_index(i).map(|(other, counter)| (i, other, counter)));
        with_keys.filter(|(_, other, _)| !key.equivalent(other)).map(|(i, _, counter)| (i, counter))
    }

    fn remove_at(&mut self, index: usize) {
        if let Some((_, counter)) = self.counters.swap_remove_index(index) {
            self.log_charges -= counter.log_charges();
        }
    }

    fn next(&self, index: usize) -> usize {
        if index + 1 < self.len() { index + 1 } else { 0 }
    }
}

impl Counter {
    fn charge(&mut self, quota: &Quota, cost: u64, now: Timestamp) -> Outcome {
        let (state, outcome) = algorithm::charge(self.state.take(), quota, cost, now);
        self.state = state;
        self.stands(&outcome.status, now);
        outcome
    }

    fn stands(&mut self, status: &Status, now: Timestamp) {
        let used = u128::from(status.limit - status.remaining) * u128::from(u16::MAX);
        let debt = used.checked_div(status.limit.into()).and_then(|debt| u16::try_from(debt).ok());
        self.debt = debt.unwrap_or(u16::MAX);
        self.as_new_at = now + status.reset_after;
    }

    fn log_charges(&self) -> usize {
        self.state.as_ref().map_or(0, State::log_len)
    }
}

/// The counter of a request, with its hash worked out.
#[derive(Debug)]
pub(super) struct CounterKey<'a> {
    pub(super) hash: u64,
    pub(super) id: CounterId,
    pub(super) key: &'a Key,
}

impl CounterKey<'_> {
    fn to_owned(&self) -> OwnedKey {
        OwnedKey { hash: self.hash, id: self.id, key: self.key.clone() }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct OwnedKey {
    hash: u64,
    id: CounterId,
    key: Key,
}

impl Equivalent<OwnedKey> for CounterKey<'_> {
    fn equivalent(&self, other: &OwnedKey) -> bool {
        self.hash == other.hash && self.id == other.id && *self.key == other.key
    }
}

impl Hash for CounterKey<'_> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.hash);
    }
}

impl Hash for OwnedKey {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.hash);
    }
}

/// Passes on the hash that the store has made with its secret.
#[derive(Default)]
struct HashedAlready(u64);

impl Hasher for HashedAlready {
    fn write(&mut self, _: &[u8]) {
        unreachable!("counter keys write their hash as one u64")
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
