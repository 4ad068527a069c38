//! What threads can do to each other at one key or in one bucket, tried out: shuttle runs them one access at a time, in
//! thousands of random orders. Tables are so small that newcomers meet in their slots, and the clock stands still.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::MemoryStore;
use crate::{
    algorithm::Verdict,
    clock::{ManualClock, Timestamp},
    key::Key,
    policy::{Mode, Quotas},
    quota::Algorithm,
    store::{Charge, GiveBack, Taken},
};

const ORDERS: usize = 3_000;
const START: Timestamp = Timestamp::from_micros(1_000_000_000);

/// A store with rules, which threads share.
struct Stage {
    store: MemoryStore,
    rules: Vec<Quotas>,
}

impl Stage {
    fn new(counters: usize, algorithm: Algorithm, limits: &[&str]) -> Self {
        let quotas = |(i, limit): (usize, &&str)| {
            let limits = limit.parse().expect("a test writes limits well");
            Quotas::new(&format!("rule-{i}"), &limits, Some(algorithm)).expect("the algorithm can count it")
        };
        let clock = ManualClock::new(START);
        Self { store: MemoryStore::new(counters, clock.into()), rules: limits.iter().enumerate().map(quotas).collect() }
    }

    fn charges<'a>(&'a self, key: &'a Key, cost: u64) -> Vec<Charge<'a>> {
        self.rules.iter().map(|quotas| Charge { rule: "rule", mode: Mode::Enforce, key, quotas, cost }).collect()
    }

    fn take(&self, key: &str) -> Taken {
        self.store.take_now(&self.charges(&Key::of([key]), 1))
    }

    /// How much of a cost passed.
    fn take_some(&self, key: &str, cost: u64) -> u64 {
        if passed(&self.store.take_now(&self.charges(&Key::of([key]), cost))) { cost } else { 0 }
    }

    fn give_back(&self, key: &str, cost: u64) {
        let (key, at) = (Key::of([key]), START);
        let given: Vec<_> = self.charges(&key, cost).into_iter().map(|charge| GiveBack::new(charge, at)).collect();
        self.store.give_back_now(&given);
    }

    fn used(&self, key: &str) -> Vec<u64> {
        let answer = self.store.look_now(&self.charges(&Key::of([key]), 0));
        answer.outcomes.iter().map(|outcome| outcome.status.limit - outcome.status.remaining).collect()
    }
}

fn passed(taken: &Taken) -> bool {
    taken.outcomes.iter().all(|outcome| outcome.verdict == Verdict::Allow)
}

/// Runs a thread for each of these scripts on a new stage, in many orders, and then has a look at what is left.
fn try_out<S: Copy + Send + Sync + 'static>(
    stage: impl Fn() -> Stage + Send + Sync + 'static,
    scripts: &'static [S],
    run: impl Fn(&Stage, S) -> u64 + Copy + Send + Sync + 'static,
    look: impl Fn(&Stage, u64) + Send + Sync + 'static,
) {
    shuttle::check_random(
        move || {
            let stage = Arc::new(stage());
            let sum = Arc::new(AtomicU64::new(0));
            let start = |script: &S| {
                let (stage, sum, script) = (stage.clone(), sum.clone(), *script);
                shuttle::thread::spawn(move || {
                    sum.fetch_add(run(&stage, script), Ordering::SeqCst);
                })
            };
            let threads: Vec<_> = scripts.iter().map(start).collect();
            threads.into_iter().for_each(|thread| thread.join().expect("no thread panics"));
            look(&stage, sum.load(Ordering::SeqCst));
        },
        ORDERS,
    );
}

#[test]
fn threads_that_bring_one_key_make_one_counter() {
    for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingWindow, Algorithm::TokenBucket] {
        // Two buckets, so that the same key can be brought to different ones.
        try_out(
            move || Stage::new(4, algorithm, &["3/hour"]),
            &["key"; 3],
            |stage, key| (0..2).filter(|_| passed(&stage.take(key))).count() as u64,
            |stage, admitted| {
                assert_eq!(admitted, 3);
                assert_eq!(stage.used("key"), [3]);
            },
        );
    }
}

#[test]
fn threads_that_bring_one_key_while_its_buckets_fill_make_one_counter() {
    // Of the eight slots of two buckets.
    for taken in [0, 3, 5, 7] {
        try_out(
            move || {
                let stage = Stage::new(4, Algorithm::FixedWindow, &["2/hour"]);
                assert!((0..taken).all(|other| passed(&stage.take(&format!("before-{other}")))));
                stage
            },
            &["key", "other", "another", "key", "a third", "key"],
            |stage, key| u64::from(passed(&stage.take(key)) && key == "key"),
            // Where all slots are taken it can be denied for what others did, or be given up to the cell that it shares.
            |stage, admitted| {
                assert!(admitted <= 2, "{admitted}");
                assert!(stage.used("key")[0] >= admitted);
            },
        );
    }
}

#[test]
fn newcomers_to_a_full_bucket_are_each_admitted_their_quota_at_most() {
    try_out(
        || {
            let stage = Stage::new(1, Algorithm::FixedWindow, &["2/hour"]);
            assert!(["a", "b", "c", "d"].iter().all(|key| passed(&stage.take(key))));
            stage
        },
        &["a", "new", "new", "newer"],
        // Of the same key, twice by one thread and twice by another.
        |stage, key| (0..2).map(|_| u64::from(passed(&stage.take(key))) << (8 * u32::from(key == "new"))).sum(),
        |_, admitted| {
            let (new, others) = (admitted >> 8, admitted & 0xFF);
            assert!(new <= 2, "{new} of the new key");
            // `a` had one before.
            assert!(others <= 1 + 2, "{others}");
        },
    );
}

#[test]
fn several_rules_are_charged_all_or_none() {
    try_out(
        || Stage::new(4, Algorithm::FixedWindow, &["5/hour", "2/hour", "3/hour"]),
        &["key"; 3],
        |stage, key| u64::from(passed(&stage.take(key))),
        |stage, admitted| {
            // Each can be denied for what another was about to give back, but nobody twice over.
            assert!(admitted <= 2);
            assert_eq!(stage.used("key"), [admitted; 3]);
        },
    );
}

#[test]
fn what_is_given_back_is_there_for_another() {
    try_out(
        || Stage::new(1, Algorithm::TokenBucket, &["2/hour"]),
        &[true, false, true],
        |stage, gives_back| {
            let taken = stage.take_some("key", 1);
            if taken > 0 && gives_back {
                stage.give_back("key", 1);
                return 0;
            }
            taken
        },
        |stage, kept| {
            assert!(kept <= 1);
            assert_eq!(stage.used("key"), [kept]);
        },
    );
}

#[test]
fn who_is_charged_without_a_slot_and_with_one_is_charged_for_both() {
    try_out(
        || {
            let stage = Stage::new(1, Algorithm::FixedWindow, &["10/hour"]);
            assert!(["a", "b", "c", "d"].iter().all(|key| stage.take_some(key, 3) == 3));
            stage
        },
        // One finds nobody to give up for so little, and the other does.
        &[1, 5],
        |stage, cost| (0..2).map(|_| stage.take_some("key", cost)).sum(),
        |_, admitted| assert!(admitted <= 10, "{admitted}"),
    );
}
