//! How long each of many decisions took, in a few kilobytes however many they are: the memory of a store is measured
//! beside it.

use std::time::{Duration, Instant};

/// Each power of two is cut into as many steps, so that a figure is at most 3 % too low.
const STEPS: u64 = 32;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Up to 2³⁵ ns, half a minute; whatever takes longer counts as that.
const BUCKETS: usize = 1_000;

/// Counts of durations.
pub(crate) struct Histogram([u64; BUCKETS]);

impl Histogram {
    pub(crate) fn new() -> Self {
        Self([0; BUCKETS])
    }

    /// Does this and notes how long it took, one reading of the clock included.
    #[expect(
        clippy::disallowed_methods,
        reason = "a decision takes less than a microsecond, which is all a `Clock` tells"
    )]
    pub(crate) fn time<T>(&mut self, what: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = what();
        self.note(start.elapsed());
        result
    }

    /// The nanoseconds below which all stay but one in so many.
    pub(crate) fn all_but_one_in(&self, many: u64) -> f64 {
        let mut left = self.0.iter().sum::<u64>() / many;
        for (bucket, count) in self.0.iter().enumerate().rev() {
            if *count > left {
                return lowest(bucket as u64) as f64;
            }
            left -= count;
        }
        0.0
    }

    fn note(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = usize::try_from(bucket(nanos)).unwrap_or(BUCKETS);
        self.0[bucket.min(BUCKETS - 1)] += 1;
    }
}

/// One for each nanosecond up to twice `STEPS`, then `STEPS` for each power of two.
fn bucket(nanos: u64) -> u64 {
    let shift = (nanos | STEPS).ilog2() - STEP_BITS;
    u64::from(shift) * STEPS + (nanos >> shift)
}

/// The lowest number of nanoseconds in a bucket.
fn lowest(bucket: u64) -> u64 {
    let shift = (bucket / STEPS).saturating_sub(1);
    (bucket - shift * STEPS) << shift
}
