//! The counters that no slot of the table can hold: logs, and numbers too large. They live in maps behind locks.
//!
//! A request locks the maps of its counters in order before it looks, so that no two requests can wait for each other, and
//! nobody comes in between its look and its charge.

use std::sync::{Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

use super::shard::{CounterKey, Shard};

/// Enough that a handful of threads rarely meet.
const MAX_SHARDS: usize = 64;
/// Few enough shards that the longest log takes a quarter of one: it must not push everybody else out.
const MIN_COUNTERS_PER_SHARD: usize = 10_000;

#[derive(Debug)]
pub(super) struct Wide {
    shards: Vec<Mutex<Shard>>,
}

impl Wide {
    pub(super) fn new(counters: usize) -> Self {
        let shards = (counters / MIN_COUNTERS_PER_SHARD).clamp(1, MAX_SHARDS);
        let per_shard = counters.div_ceil(shards).max(1);
        Self { shards: (0..shards).map(|_| Mutex::new(Shard::new(per_shard))).collect() }
    }

    /// How many counters there are, and how many were given up.
    pub(super) fn sizes(&self) -> (usize, u64) {
        self.shards.iter().map(lock).fold((0, 0), |(len, up), shard| (len + shard.len(), up + shard.given_up()))
    }

    /// Locks the maps that hold these counters.
    pub(super) fn lock<'a>(&'a self, counters: impl Iterator<Item = u64>) -> Locked<'a> {
        let mut wanted: SmallVec<[usize; 4]> = counters.map(|hash| self.shard_of(hash)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        Locked { wide: self, shards: wanted.into_iter().map(|i| (i, lock(&self.shards[i]))).collect() }
    }

    fn shard_of(&self, hash: u64) -> usize {
        // The map inside a shard uses the low bits and the topmost seven.
        (hash >> 32) as u32 as usize % self.shards.len()
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // A panic while a shard was locked can have left one counter uncharged, but no shard broken.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The maps of a request's counters.
pub(super) struct Locked<'a> {
    wide: &'a Wide,
    shards: SmallVec<[(usize, MutexGuard<'a, Shard>); 1]>,
}

impl Locked<'_> {
    /// The map that holds this counter, which is one of those it was locked for.
    pub(super) fn shard(&mut self, key: &CounterKey<'_>) -> &mut Shard {
        let shard = self.wide.shard_of(key.hash);
        let held = self.shards.partition_point(|(i, _)| *i < shard);
        &mut self.shards[held].1
    }
}
