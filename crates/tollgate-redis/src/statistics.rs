//! What a store has done since it was made, and what it holds: for whoever has to find out why decisions are as they are.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a store has done since it was made, and what it holds.
///
/// A store that is left alone during an outage is not asked, and counts nothing: [`Stores`](tollgate::store::Stores) tells since when that is and
/// how often it was, and the log how many decisions of which rule were made without it.
///
/// ```no_run
/// # async fn shared() -> Result<(), Box<dyn std::error::Error>> {
/// use tollgate_redis::{RedisStore, Settings};
///
/// let store = RedisStore::connect(Settings::at("redis://127.0.0.1:6379".parse()?));
/// let statistics = store.statistics();
/// println!("{} of {} failed", statistics.failed, statistics.failed + statistics.asked);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Decisions that the servers were asked for, and answered in time.
    pub asked: u64,
    /// Decisions that the servers were asked for, and did not answer.
    pub failed: u64,
    /// Decisions made here, by leases that were at hand.
    pub by_leases: u64,
    /// Decisions made here, since they were known to be denied.
    pub by_denials: u64,
    /// Counters of which leases are held.
    pub leases: usize,
    /// Units of these that can still be spent: what would be lost if this process ended.
    pub leased_units: u64,
    /// Denials that are kept.
    pub denials: usize,
}

/// What is counted of it while decisions are made.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    asked: AtomicU64,
    failed: AtomicU64,
    by_leases: AtomicU64,
    by_denials: AtomicU64,
}

impl Counts {
    pub(crate) fn note_asked(&self, is_answered: bool) {
        increment(if is_answered { &self.asked } else { &self.failed });
    }

    pub(crate) fn note_lease(&self) {
        increment(&self.by_leases);
    }

    pub(crate) fn note_denial(&self) {
        increment(&self.by_denials);
    }

    /// With nothing held.
    pub(crate) fn statistics(&self) -> Statistics {
        let [asked, failed, by_leases, by_denials] =
            [&self.asked, &self.failed, &self.by_leases, &self.by_denials].map(|count| count.load(Ordering::Relaxed));
        Statistics { asked, failed, by_leases, by_denials, ..Statistics::default() }
    }
}

fn increment(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}
