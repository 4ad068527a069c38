//! Time and memory of a contestant, and the rounds over all of them.

use std::{fs, ops::Range, thread};

use anyhow::{Context as _, ensure};
use tollgate::clock::Clock;

use super::{contestants::Contestant, keys::Numbered};
use crate::median;

/// Odd, for a median.
pub(crate) const ROUNDS: usize = 5;

/// Nanoseconds a decision, of all `threads` together, each of which takes its own part of `keys`, so many `times`. A
/// measurement in which another number than `expected` is allowed measures something else, and fails.
pub(crate) fn time<K: Sync>(
    contestant: &dyn Contestant<K>,
    keys: &[K],
    times: usize,
    threads: usize,
    expected: usize,
) -> anyhow::Result<f64> {
    let clock = Clock::system();
    let start = clock.now();
    let allowed: usize = thread::scope(|scope| {
        let parts = keys.chunks(keys.len().div_ceil(threads));
        let all_of = |part| (0..times).map(|_| contestant.allowed(part)).sum::<usize>();
        let threads: Vec<_> = parts.map(|part| scope.spawn(move || all_of(part))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no contestant panics")).sum()
    });
    let (took, decisions) = (clock.now().since(start), keys.len() * times);
    ensure!(allowed == expected, "{allowed} of {decisions} decisions allowed, expected {expected}");
    Ok(took.as_secs_f64() * 1e9 / decisions as f64)
}

/// For each contestant the median of what `measure` finds in the rounds, which go over all of them in turn.
pub(crate) fn medians<C>(
    contestants: &[(&'static str, C)],
    mut measure: impl FnMut(&C, usize) -> anyhow::Result<f64>,
) -> anyhow::Result<Vec<(&'static str, f64)>> {
    let mut figures = vec![Vec::new(); contestants.len()];
    for round in 0..ROUNDS {
        for ((name, contestant), figures) in contestants.iter().zip(&mut figures) {
            figures.push(measure(contestant, round).context(*name)?);
        }
    }
    Ok(contestants.iter().zip(figures).map(|((name, _), figures)| (*name, median(figures))).collect())
}

/// Makes one allowed decision about each of the keys of these numbers.
pub(crate) fn fill<K: Numbered>(contestant: &dyn Contestant<K>, numbers: Range<u64>) -> anyhow::Result<()> {
    /// Small beside the smallest store whose memory is measured.
    const AT_ONCE: usize = 1_000;
    for first in numbers.clone().step_by(AT_ONCE) {
        let batch: Vec<K> = (first..numbers.end).take(AT_ONCE).map(K::numbered).collect();
        let allowed = contestant.allowed(&batch);
        ensure!(allowed == batch.len(), "{allowed} of {} new keys allowed", batch.len());
    }
    Ok(())
}

/// The memory of this process that is in use now, from /proc: page by page, for the sum in `status` lags behind by more
/// than a flood may add.
pub(crate) fn resident_bytes() -> anyhow::Result<u64> {
    let sums = fs::read_to_string("/proc/self/smaps_rollup").context("/proc is needed")?;
    let line = sums.lines().find_map(|line| line.strip_prefix("Rss:")).context("no Rss in /proc/self/smaps_rollup")?;
    let kib = line.trim().strip_suffix(" kB").context("Rss is in kB")?;
    Ok(kib.parse::<u64>()? * 1024)
}
