//! How long answers took, to within 2 %, in bounded memory however many there are.

use std::time::Duration;

/// Counts of latencies in buckets that grow with them: 64 for every doubling.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    count: u64,
    max: Duration,
}

impl Histogram {
    pub(super) fn add(&mut self, latency: Duration) {
        let bucket = bucket(micros(latency));
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.count += 1;
        self.max = self.max.max(latency);
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn max(&self) -> Duration {
        self.max
    }

    /// What so many of a hundred answers took at most.
    pub(super) fn percentile(&self, percent: u64) -> Duration {
        let rank = u128::from(self.count) * u128::from(percent);
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += u128::from(*count) * 100;
            seen >= rank
        });
        found.map_or(Duration::ZERO, |bucket| Duration::from_micros(last_micros(bucket)).min(self.max))
    }
}

const PER_DOUBLING: u64 = 64;
/// About twelve days, far longer than a load lasts that somebody waits for.
const MAX_MICROS: u64 = 1 << 40;

fn micros(latency: Duration) -> u64 {
    u64::try_from(latency.as_micros()).unwrap_or(MAX_MICROS).min(MAX_MICROS)
}

/// Up to 128 µs each has its own; from there on the seven highest bits tell.
fn bucket(micros: u64) -> usize {
    let dropped_bits = (micros | PER_DOUBLING).ilog2() - PER_DOUBLING.ilog2();
    let bucket = u64::from(dropped_bits) * PER_DOUBLING + (micros >> dropped_bits);
    usize::try_from(bucket).unwrap_or(usize::MAX)
}

/// The most that falls into a bucket.
fn last_micros(bucket: usize) -> u64 {
    let bucket = u64::try_from(bucket).unwrap_or(u64::MAX);
    let dropped_bits = (bucket / PER_DOUBLING).saturating_sub(1);
    let highest_bits = bucket - dropped_bits * PER_DOUBLING;
    ((highest_bits + 1) << dropped_bits) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_at_most_2_percent_too_long_and_never_too_short() {
        for scale in [1, 37, 1_000, 123_456] {
            let mut histogram = Histogram::default();
            (1..=1_000).for_each(|i| histogram.add(Duration::from_micros(i * scale)));
            for (percent, exact) in [(50, 500 * scale), (90, 900 * scale), (99, 990 * scale), (100, 1_000 * scale)] {
                let found = micros(histogram.percentile(percent));
                assert!((exact..=exact + exact / 50).contains(&found), "p{percent} of {scale}: {found}, not {exact}");
            }
        }
        assert_eq!(Histogram::default().percentile(99), Duration::ZERO);
    }

    #[test]
    fn every_latency_falls_into_its_bucket_and_there_are_few_of_them() {
        let around_powers = (0..63).flat_map(|bits| [(1_u64 << bits) - 1, 1 << bits, (1 << bits) + 1]);
        for latency in around_powers.map(|micros| micros.min(MAX_MICROS)) {
            let bucket = bucket(latency);
            assert!(latency <= last_micros(bucket), "{latency} in {bucket}");
            assert!(bucket == 0 || latency > last_micros(bucket - 1), "{latency} in {bucket}");
            assert!(bucket < 2_500);
        }
    }
}
