//! The leases that this instance holds, found without spelling the keys of their counters.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use ahash::RandomState;
use tollgate::clock::Timestamp;

use crate::{
    ask::Want,
    lease::{Lease, Portion, Spent, lock},
};

/// So many at most. For a newcomer when there are more, one is given up that may still have something left: that is lost, as if it had
/// not been spent.
const MAX_LEASES: usize = 10_000;
/// Of so many, the one with the least left.
const LOOKED_AT: usize = 16;

/// What this instance holds.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    /// By the hash of their counters. Of two with one hash, which nobody will see, each would give up the other.
    leases: Mutex<HashMap<u64, Arc<Lease>, RandomState>>,
    hasher: RandomState,
}

impl Leases {
    /// Spends of what is held, if there is enough.
    pub(crate) fn spend(&self, want: &Want<'_>, now: Timestamp) -> Option<Spent> {
        self.held(want, |lease| lease.spend(want, now)).flatten()
    }

    /// The same for a request that may still be denied.
    pub(crate) fn spend_portion(&self, want: &Want<'_>, now: Timestamp) -> Option<Portion> {
        self.held(want, |lease| Some(lease.portion(lease.spend(want, now)?))).flatten()
    }

    /// Puts back what was spent of what is held.
    pub(crate) fn put_back(&self, want: &Want<'_>, spent: &Spent) {
        self.held(want, |lease| lease.put_back(spent));
    }

    /// Puts what was charged at that time, by the clock of the server, back into the lease that it was spent of, and tells whether that is
    /// still held. If not, it can only be given back in the server, where the lease was charged.
    pub(crate) fn give_back(&self, want: &Want<'_>, at: Timestamp) -> bool {
        self.held(want, |lease| lease.give_back(want.charge.cost, at)).unwrap_or(false)
    }

    /// The lease of a counter, with nothing in it if there was none.
    pub(crate) fn of(&self, want: &Want<'_>, prefix: &str) -> Arc<Lease> {
        let hash = want.hash(&self.hasher);
        let mut leases = lock(&self.leases);
        if let Some(lease) = leases.get(&hash).filter(|lease| lease.is_for(want)) {
            return lease.clone();
        }
        if leases.len() >= MAX_LEASES {
            let least = leases.iter().take(LOOKED_AT).min_by_key(|(_, lease)| lease.left());
            let least = least.map(|(hash, _)| *hash);
            least.and_then(|least| leases.remove(&least));
        }
        let lease = Arc::new(Lease::new(want, prefix));
        leases.insert(hash, lease.clone());
        lease
    }

    /// Of how many counters something is held, and how much of all together.
    pub(crate) fn held_now(&self, now: Timestamp) -> (usize, u64) {
        let held_now =
            lock(&self.leases).values().map(|lease| lease.held(now)).filter(|held| *held > 0).collect::<Vec<_>>();
        (held_now.len(), held_now.iter().sum())
    }

    /// Forgets what is held of a counter that is as new now.
    pub(crate) fn forget(&self, want: &Want<'_>) {
        lock(&self.leases).remove(&want.hash(&self.hasher));
    }

    fn held<T>(&self, want: &Want<'_>, use_it: impl FnOnce(&Arc<Lease>) -> T) -> Option<T> {
        let hash = want.hash(&self.hasher);
        lock(&self.leases).get(&hash).filter(|lease| lease.is_for(want)).map(use_it)
    }
}
