//! Counters in this process: a map in shards, each behind a lock, bounded in all.
//!
//! A request locks the shards of its counters in order, looks at all of them, and charges all or none: no other request
//! can come in between, so nothing is ever admitted twice or denied for nothing. What no longer counts is dropped as
//! new counters come in; when the store is full a newcomer takes the place of the counter closest to new among a few, never
//! of a more indebted one while a fresher is at hand.

mod shard;

use std::{
    collections::hash_map::RandomState,
    convert::Infallible,
    hash::BuildHasher,
    sync::{Mutex, MutexGuard, PoisonError},
};

use smallvec::SmallVec;

use self::shard::{CounterKey, Shard};
use super::{Charge, GiveBack, Outcomes, Store, Taken, passes};
use crate::{
    algorithm::{Outcome, Verdict},
    clock::{Clock, Timestamp},
    policy::CounterId,
    quota::Quota,
};

/// How many counters a store holds unless told otherwise.
pub const DEFAULT_COUNTERS: usize = 1_000_000;
/// About how many bytes a counter takes, its key included: measured with keys of up to 40 bytes.
pub const BYTES_PER_COUNTER: usize = 200;

/// Enough that a handful of threads rarely meet.
const MAX_SHARDS: usize = 64;
/// Few enough shards that the longest log takes a quarter of one: it must not push everybody else out.
const MIN_COUNTERS_PER_SHARD: usize = 10_000;

/// Counters in this process.
///
/// ```
/// use tollgate::{clock::Clock, store::memory::MemoryStore};
///
/// let store = MemoryStore::new(100_000, Clock::system());
/// assert_eq!(store.statistics().in_use, 0);
/// ```
#[derive(Debug)]
pub struct MemoryStore {
    clock: Clock,
    /// Keys come from attackers, so the hash is keyed with a secret of this process.
    secret: RandomState,
    shards: Vec<Mutex<Shard>>,
    capacity: usize,
}

/// How full a store is, and what it had to give up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Counters held now, whether they still count or not.
    pub in_use: usize,
    /// Counters it can hold. Four charges remembered by a `sliding-log` take the place of one.
    pub capacity: usize,
    /// Counters given up since the start although they still counted, because it was full.
    pub given_up: u64,
}

impl MemoryStore {
    /// A store for at least `counters` counters (1 at the least) that reads the time from `clock`.
    pub fn new(counters: usize, clock: Clock) -> Self {
        let shards = (counters / MIN_COUNTERS_PER_SHARD).clamp(1, MAX_SHARDS);
        let per_shard = counters.div_ceil(shards).max(1);
        Self {
            clock,
            secret: RandomState::new(),
            shards: (0..shards).map(|_| Mutex::new(Shard::new(per_shard))).collect(),
            capacity: per_shard * shards,
        }
    }

    /// How full it is.
    pub fn statistics(&self) -> Statistics {
        let empty = Statistics { capacity: self.capacity, ..Statistics::default() };
        self.shards.iter().map(lock).fold(empty, |sum, shard| Statistics {
            in_use: sum.in_use + shard.len(),
            given_up: sum.given_up + shard.given_up(),
            ..sum
        })
    }

    /// Takes all the enforced charges or none: what [`Store::take`] does, for callers without a runtime.
    pub fn take_now(&self, charges: &[Charge<'_>]) -> Taken {
        let mut locked = self.lock_counters(charges);
        let at = self.clock.now();
        let mut outcomes = locked.look(charges, at);
        let taken = taken(charges, &outcomes);
        let asked = charges.iter().flat_map(|charge| charge.quotas.iter().map(|(_, quota)| (quota, charge.cost)));
        for (i, (quota, cost)) in asked.enumerate() {
            match taken[i] {
                // Who asks for nothing starts nothing, and takes no room.
                true if cost > 0 => outcomes[i] = locked.shard(i, |shard, key| shard.charge(key, quota, cost, at)),
                true => {}
                false => outcomes[i].status = locked.shard(i, |shard, key| shard.look(key, quota, 0, at)).status,
            }
        }
        Taken { at, outcomes }
    }

    /// Tells what [`take_now`](Self::take_now) would answer, and takes nothing.
    pub fn look_now(&self, charges: &[Charge<'_>]) -> Taken {
        let mut locked = self.lock_counters(charges);
        let at = self.clock.now();
        let mut outcomes = locked.look(charges, at);
        let taken = taken(charges, &outcomes);
        for (i, (_, quota)) in charges.iter().flat_map(|charge| charge.quotas.iter()).enumerate() {
            if !taken[i] {
                outcomes[i].status = locked.shard(i, |shard, key| shard.look(key, quota, 0, at)).status;
            }
        }
        Taken { at, outcomes }
    }

    /// Takes charges off again, as far as they still count.
    pub fn give_back_now(&self, given: &[GiveBack<'_>]) {
        let charges: SmallVec<[Charge<'_>; 4]> = given.iter().map(|given| given.charge).collect();
        let mut locked = self.lock_counters(&charges);
        let now = self.clock.now();
        let quotas = given.iter().flat_map(|given| given.charge.quotas.iter().map(move |(_, quota)| (given, quota)));
        for (i, (GiveBack { charge, at }, quota)) in quotas.enumerate() {
            locked.shard(i, |shard, key| shard.give_back(key, quota, charge.cost, *at, now));
        }
    }

    /// Makes the counters of these charges as new.
    pub fn clear_now(&self, charges: &[Charge<'_>]) {
        let mut locked = self.lock_counters(charges);
        for i in 0..locked.counters.len() {
            locked.shard(i, |shard, key| shard.remove(key));
        }
    }

    /// Locks the shards that hold the counters of these charges, in ascending order, so that no two requests can wait for
    /// each other.
    fn lock_counters<'a>(&'a self, charges: &'a [Charge<'a>]) -> Locked<'a> {
        let counters: SmallVec<[_; 4]> =
            charges.iter().flat_map(|charge| charge.quotas.iter().map(|(id, _)| self.place(id, charge))).collect();
        let mut wanted: SmallVec<[usize; 4]> = counters.iter().map(|(shard, _)| *shard).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let shards = wanted.into_iter().map(|i| (i, lock(&self.shards[i]))).collect();
        Locked { counters, shards }
    }

    fn place<'a>(&self, id: CounterId, charge: &Charge<'a>) -> (usize, CounterKey<'a>) {
        let hash = self.secret.hash_one((id, charge.key));
        // The map inside a shard uses the low bits and the topmost seven.
        let shard = (hash >> 32) as u32 as usize % self.shards.len();
        (shard, CounterKey { hash, id, key: charge.key })
    }
}

/// For each quota of each charge whether it is taken: all of an enforced request, a shadow charge by itself.
fn taken(charges: &[Charge<'_>], outcomes: &[Outcome]) -> SmallVec<[bool; 4]> {
    let passes = passes(charges, outcomes);
    let mut rest = outcomes;
    let of_charge = |charge: &Charge<'_>| {
        let (outcomes, others) = rest.split_at(charge.quotas.len());
        rest = others;
        let is_taken = passes && outcomes.iter().all(|outcome| outcome.verdict == Verdict::Allow);
        std::iter::repeat_n(is_taken, outcomes.len())
    };
    charges.iter().flat_map(of_charge).collect()
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // A panic while a shard was locked can have left one counter uncharged, but no shard broken.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The counters of one request, in the order of its charges, with their shards locked.
struct Locked<'a> {
    counters: SmallVec<[(usize, CounterKey<'a>); 4]>,
    shards: SmallVec<[(usize, MutexGuard<'a, Shard>); 4]>,
}

impl Locked<'_> {
    fn look(&self, charges: &[Charge<'_>], now: Timestamp) -> Outcomes {
        let quotas = charges.iter().flat_map(|charge| charge.quotas.iter().map(|(_, quota)| (quota, charge.cost)));
        let look = |((shard, key), (quota, cost)): (&(usize, CounterKey<'_>), (&Quota, u64))| {
            self.shards[self.held(*shard)].1.look(key, quota, cost, now)
        };
        self.counters.iter().zip(quotas).map(look).collect()
    }

    fn shard<R>(&mut self, counter: usize, act: impl FnOnce(&mut Shard, &CounterKey<'_>) -> R) -> R {
        let (shard, key) = &self.counters[counter];
        let held = self.held(*shard);
        act(&mut self.shards[held].1, key)
    }

    /// Where a shard stands among the locked ones: all shards of the counters are locked, in ascending order.
    fn held(&self, shard: usize) -> usize {
        self.shards.partition_point(|(i, _)| *i < shard)
    }
}

impl Store for MemoryStore {
    type Error = Infallible;

    async fn take(&self, charges: &[Charge<'_>]) -> Result<Taken, Infallible> {
        Ok(self.take_now(charges))
    }

    async fn look(&self, charges: &[Charge<'_>]) -> Result<Taken, Infallible> {
        Ok(self.look_now(charges))
    }

    async fn give_back(&self, given: &[GiveBack<'_>]) -> Result<(), Infallible> {
        self.give_back_now(given);
        Ok(())
    }

    async fn clear(&self, charges: &[Charge<'_>]) -> Result<(), Infallible> {
        self.clear_now(charges);
        Ok(())
    }
}
