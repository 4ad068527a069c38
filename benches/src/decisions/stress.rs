//! Eighty million decisions by eight threads about sixteen keys: whatever their order, each key is admitted exactly its
//! quota. What is measured here is not speed but whether the store counts.

use std::thread;

use anyhow::ensure;
use tollgate::{clock::Clock, key::Key, quota::Algorithm};

use super::{contestants::Ours, keys::Numbered};

const THREADS: u64 = 8;
const DECISIONS_PER_THREAD: u64 = 10_000_000;
const KEYS: usize = 16;
/// A fifth of what is asked of each key, so that the threads meet at the moment when it runs out.
const QUOTA: u64 = 1_000_000;

pub(crate) fn run() -> anyhow::Result<()> {
    // The bucket refills one token in a quarter of an hour, and the run takes less. More years would not fit a slot of the
    // table, which is what is to be tested.
    check(Algorithm::TokenBucket, &format!("{QUOTA}/30years"))?;
    check(Algorithm::FixedWindow, &format!("{QUOTA}/year"))
}

fn check(algorithm: Algorithm, limits: &str) -> anyhow::Result<()> {
    let store = &Ours::with(1_000, ["a"], limits, algorithm);
    let keys: &[Key; KEYS] = &std::array::from_fn(|key| Key::of([key.to_string()]));
    let clock = Clock::system();
    let start = clock.now();
    let admitted = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || admitted(store, keys, thread))).collect();
        let mut sums = [0; KEYS];
        for thread in threads {
            let admitted = thread.join().expect("no decision panics");
            sums.iter_mut().zip(admitted).for_each(|(sum, admitted)| *sum += admitted);
        }
        sums
    });
    let took = clock.now().since(start).as_secs_f64();
    let decisions = THREADS * DECISIONS_PER_THREAD;
    println!("{decisions} decisions of {algorithm} by {THREADS} threads about {KEYS} keys: {took:.1} s");
    ensure!(admitted == [QUOTA; KEYS], "{algorithm}: the keys were admitted {admitted:?}, expected {QUOTA} each");
    Ok(())
}

/// How often one thread was admitted by each key.
fn admitted(store: &Ours<1>, keys: &[Key; KEYS], thread: u64) -> [u64; KEYS] {
    let mut admitted = [0; KEYS];
    for i in thread * DECISIONS_PER_THREAD..(thread + 1) * DECISIONS_PER_THREAD {
        let key = usize::from(u64::numbered(i).to_be_bytes()[0]) % KEYS;
        if store.allows(&keys[key]) {
            admitted[key] += 1;
        }
    }
    admitted
}
