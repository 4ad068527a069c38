//! One of the maps for what fits no slot of the table: from counters to their states, bounded.

use std::hash::{BuildHasherDefault, Hash, Hasher};

use indexmap::{Equivalent, IndexMap};

use crate::{
    algorithm::{self, Outcome, State, Status},
    clock::Timestamp,
    key::Key,
    policy::CounterId,
    quota::Quota,
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
        algorithm::look(self.counters.get(key).and_then(|counter| counter.state.as_ref()), quota, cost, now)
    }

    /// Charges a counter. The caller has looked: a charge that does not fit would change nothing.
    pub(super) fn charge(&mut self, key: &CounterKey<'_>, quota: &Quota, cost: u64, now: Timestamp) -> Outcome {
        if let Some(counter) = self.counters.get_mut(key) {
            let log_charges = counter.log_charges();
            let outcome = counter.charge(quota, cost, now);
            self.log_charges = self.log_charges + counter.log_charges() - log_charges;
            // Only a log grows once it is there.
            if counter.log_charges() > log_charges {
                self.keep_within_capacity(key, now);
            }
            return outcome;
        }
        let mut counter = Counter { state: None, as_new_at: now, debt: 0 };
        let outcome = counter.charge(quota, cost, now);
        self.sweep(now);
        self.log_charges += counter.log_charges();
        self.counters.insert(key.to_owned(), counter);
        self.keep_within_capacity(key, now);
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

    /// Gives counters up, but never the newcomer, until the rest fits.
    fn keep_within_capacity(&mut self, newcomer: &CounterKey<'_>, now: Timestamp) {
        while self.len() + self.log_charges / LOG_CHARGES_PER_COUNTER > self.capacity {
            let Some(victim) = self.closest_to_new(newcomer, now) else { return };
            self.given_up += u64::from(self.counters[victim].as_new_at > now);
            self.remove_at(victim);
        }
    }

    /// Of a few counters, one that no longer counts, else the one with the smallest debt, else the one soonest as new.
    fn closest_to_new(&mut self, newcomer: &CounterKey<'_>, now: Timestamp) -> Option<usize> {
        let mut candidates = Vec::with_capacity(SAMPLE);
        for _ in 0..SAMPLE.min(self.len()) {
            self.hand = self.next(self.hand);
            candidates.push(self.hand);
        }
        candidates.retain(|i| self.counters.get_index(*i).is_some_and(|(key, _)| !newcomer.equivalent(key)));
        candidates.into_iter().min_by_key(|i| {
            let counter = &self.counters[*i];
            (counter.as_new_at > now, counter.debt, counter.as_new_at)
        })
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
