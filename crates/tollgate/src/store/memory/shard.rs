//! One part of the memory store: a bounded map from counters to their states.

use std::hash::{BuildHasherDefault, Hash, Hasher};

use indexmap::{Equivalent, IndexMap, map::Entry};

use crate::{
    algorithm::{self, Outcome, State},
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
        self.make_room(key, now);
        let counter = match self.counters.entry(key.to_owned()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Counter { state: None, as_new_at: now, debt: 0 }),
        };
        let log_charges = counter.log_charges();
        let (state, outcome) = algorithm::charge(counter.state.take(), quota, cost, now);
        let status = outcome.status;
        *counter = Counter { state, as_new_at: now + status.reset_after, debt: debt(status.limit, status.remaining) };
        self.log_charges = self.log_charges + counter.log_charges() - log_charges;
        outcome
    }

    pub(super) fn give_back(&mut self, key: &CounterKey<'_>, quota: &Quota, cost: u64, until: Timestamp, now: Timestamp) {
        let Some(counter) = self.counters.get_mut(key) else { return };
        let log_charges = counter.log_charges();
        counter.state = algorithm::give_back(counter.state.take(), quota, cost, until, now);
        let status = algorithm::look(counter.state.as_ref(), quota, 0, now).status;
        counter.as_new_at = now + status.reset_after;
        counter.debt = debt(status.limit, status.remaining);
        self.log_charges = self.log_charges + counter.log_charges() - log_charges;
    }

    pub(super) fn remove(&mut self, key: &CounterKey<'_>) {
        if let Some(counter) = self.counters.swap_remove(key) {
            self.log_charges -= counter.log_charges();
        }
    }

    /// Sees to it that one more counter, or one more charge in a log, fits.
    fn make_room(&mut self, newcomer: &CounterKey<'_>, now: Timestamp) {
        for _ in 0..SWEEP {
            self.hand = self.next(self.hand);
            let swept = self.counters.get_index(self.hand);
            if swept.is_some_and(|(key, counter)| counter.as_new_at <= now && !newcomer.equivalent(key)) {
                self.remove_at(self.hand);
            }
        }
        // A counter that is there already and grows is no newcomer, unless it is a log that grows without end.
        let is_held = self.counters.contains_key(newcomer);
        while self.len() + self.log_charges / LOG_CHARGES_PER_COUNTER + usize::from(!is_held) > self.capacity {
            let Some(victim) = self.closest_to_new(newcomer, now) else { return };
            let still_counted = self.counters[victim].as_new_at > now;
            self.given_up += u64::from(still_counted);
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
    fn log_charges(&self) -> usize {
        self.state.as_ref().map_or(0, State::log_len)
    }
}

/// The used share of a limit, in 65,535ths.
fn debt(limit: u64, remaining: u64) -> u16 {
    let used = u128::from(limit - remaining) * u128::from(u16::MAX);
    used.checked_div(limit.into()).and_then(|debt| u16::try_from(debt).ok()).unwrap_or(u16::MAX)
}

/// The counter of a request, with its hash worked out.
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
