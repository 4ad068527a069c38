//! Leases: shares of a window's quota that this instance has taken in one trip and spends by itself.
//!
//! A lease is charged in the server when it is taken, so that nothing is ever admitted twice; what is not spent when the window ends is
//! lost. When that is, is reckoned from before the trip, so that nobody here spends from a window that has ended there.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tollgate::{
    algorithm::{Outcome, Status, Verdict},
    clock::Timestamp,
    quota::Quota,
};

use crate::ask::Counter;

/// So many at most. For a newcomer when there are more, one is given up that may still have something left: that is lost, as if it had
/// not been spent.
const MAX_LEASES: usize = 10_000;
/// Of so many, the one with the least left.
const LOOKED_AT: usize = 16;

/// What this instance holds.
#[derive(Debug, Default)]
pub(crate) struct Leases(Mutex<HashMap<Vec<u8>, Arc<Lease>>>);

/// The share of one counter.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    share: Mutex<Share>,
    /// Who makes the trip for more. The others wait for what he brings.
    pub(crate) trip: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Share {
    /// The largest amount that it was taken by: so much of the window can be charged. Whoever is given less has to ask whether that is used.
    amount: u64,
    left: u64,
    /// What was left in the server, for others.
    elsewhere: u64,
    /// Since when it is held, by the clock of the server.
    server_since: Timestamp,
    /// When the window ends, by the clock of this process.
    ends: Timestamp,
    /// The same by the server's: it names the window.
    server_ends: Timestamp,
    /// When a trip was begun, by the clock of this process, that brought nothing.
    refused: Timestamp,
}

/// What was spent of a lease.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    pub(crate) outcome: Outcome,
    /// When, by the clock of the server.
    pub(crate) at: Timestamp,
}

impl Leases {
    pub(crate) fn held(&self, key: &[u8]) -> Option<Arc<Lease>> {
        lock(&self.0).get(key).cloned()
    }

    pub(crate) fn of(&self, key: &[u8]) -> Arc<Lease> {
        let mut leases = lock(&self.0);
        if let Some(lease) = leases.get(key) {
            return lease.clone();
        }
        if leases.len() >= MAX_LEASES {
            let least = leases.iter().take(LOOKED_AT).min_by_key(|(_, lease)| lock(&lease.share).left);
            let least = least.map(|(key, _)| key.clone());
            least.and_then(|least| leases.remove(&least));
        }
        match leases.entry(key.to_vec()) {
            Entry::Occupied(lease) => lease.get().clone(),
            Entry::Vacant(place) => place.insert(Arc::default()).clone(),
        }
    }

    /// Puts what was charged at that time, by the clock of the server, back into the lease that it was spent of, and tells whether that is
    /// still held. If not, it can only be given back in the server, where the lease was charged.
    pub(crate) fn give_back(&self, counter: &Counter, at: Timestamp) -> bool {
        let leases = lock(&self.0);
        let Some(lease) = leases.get(&counter.key) else { return false };
        let mut share = lock(&lease.share);
        let is_held = (share.server_since..share.server_ends).contains(&at);
        if is_held {
            share.left = share.left.saturating_add(counter.cost);
        }
        is_held
    }

    /// Forgets what is held of a counter that is as new now.
    pub(crate) fn forget(&self, key: &[u8]) {
        lock(&self.0).remove(key);
    }
}

impl Lease {
    /// Takes a cost from what is held, if there is enough.
    pub(crate) fn spend(&self, quota: &Quota, cost: u64, now: Timestamp) -> Option<Spent> {
        let mut share = lock(&self.share);
        if now >= share.ends || share.left < cost || quota.amount() < share.amount {
            return None;
        }
        share.left -= cost;
        let until_end = share.ends.since(now);
        let status = Status {
            limit: quota.amount(),
            remaining: share.left.saturating_add(share.elsewhere).min(quota.amount()),
            refill_after: Some(until_end),
            reset_after: until_end,
        };
        let outcome = Outcome { verdict: Verdict::Allow, status, retry_after: None };
        Some(Spent { outcome, at: earlier(share.server_ends, until_end) })
    }

    /// Puts back what a request has spent that was denied elsewhere, if its window is still the one.
    pub(crate) fn put_back(&self, cost: u64, spent: &Spent) {
        let mut share = lock(&self.share);
        if spent.at + spent.outcome.status.reset_after == share.server_ends {
            share.left = share.left.saturating_add(cost);
        }
    }

    /// Whether what is held is for larger amounts than this one.
    pub(crate) fn is_for_more(&self, quota: &Quota, now: Timestamp) -> bool {
        let share = lock(&self.share);
        now < share.ends && quota.amount() < share.amount
    }

    /// Notes that a trip has brought nothing.
    pub(crate) fn refuse(&self, asked_at: Timestamp) {
        lock(&self.share).refused = asked_at;
    }

    /// Whether a trip that was begun since then has brought nothing: then another one would not either.
    pub(crate) fn was_refused_since(&self, since: Timestamp) -> bool {
        lock(&self.share).refused >= since
    }

    /// Holds what a trip has brought that was begun at `asked_at`, and what the counter says of itself after it.
    pub(crate) fn hold(
        &self,
        brought: u64,
        quota: &Quota,
        status: &Status,
        asked_at: Timestamp,
        server_now: Timestamp,
    ) {
        let mut share = lock(&self.share);
        let server_ends = server_now + status.reset_after;
        let same_window = server_ends == share.server_ends;
        *share = Share {
            amount: if same_window { share.amount.max(quota.amount()) } else { quota.amount() },
            left: if same_window { share.left.saturating_add(brought) } else { brought },
            elsewhere: status.remaining,
            server_since: if same_window { share.server_since } else { server_now },
            ends: asked_at + status.reset_after,
            server_ends,
            refused: share.refused,
        };
    }
}

fn earlier(at: Timestamp, span: Duration) -> Timestamp {
    let span = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    Timestamp::from_micros(at.as_micros().saturating_sub(span))
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // Numbers that are right at any time.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
