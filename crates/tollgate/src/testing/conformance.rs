//! Whether a store keeps its contract: what [`Store`] promises, tried out, and held against the models.
//!
//! Two kinds of cases. Each promise has one that shows it alone, so that a failure says what is broken. And random
//! sequences of everything at once, over all algorithms, are compared answer by answer with a reference store made of
//! [models](super::model), so that what nobody thought of is found as well.

mod promises;
mod sequences;

use std::{fmt::Debug, ops::Range};

use crate::{
    algorithm::{Outcome, Verdict},
    clock::{ManualClock, Timestamp},
    key::Key,
    policy::{Mode, Quotas},
    quota::Algorithm,
    store::{Charge, GiveBack, Store, Taken},
};

/// Tries everything on stores that `make` makes: new ones, empty, which read the time from the clock they are given.
///
/// ```
/// use tollgate::{store::memory::MemoryStore, testing::conformance::conformance};
///
/// let suite = conformance(|clock| MemoryStore::new(10_000, clock.into()));
/// # use std::{future::Future, pin::pin, task::{Context, Waker}};
/// # // The memory store answers at once, so one poll is a whole runtime.
/// # assert!(pin!(suite).poll(&mut Context::from_waker(Waker::noop())).is_ready());
/// ```
///
/// # Panics
///
/// When the store breaks a promise: the message says which, or shows where in which sequence, with both answers.
pub async fn conformance<S: Store>(make: impl Fn(ManualClock) -> S) {
    for algorithm in Algorithm::ALL {
        promises::keep(algorithm, &make).await;
    }
    sequences(0..SEQUENCES, &make).await;
}

/// Tries random sequences of everything alone, one for each seed: for whoever wants more of them, or others.
///
/// # Panics
///
/// As [`conformance`] does.
pub async fn sequences<S: Store>(seeds: Range<u64>, make: impl Fn(ManualClock) -> S) {
    for seed in seeds {
        sequences::equals_the_models(seed, &make).await;
    }
}

/// Enough that every kind of step follows every other on every algorithm, and few enough for a store behind a network.
const SEQUENCES: u64 = 100;

/// Noon on 2026-02-27, a Friday two days before a month ends.
const START: Timestamp = Timestamp::from_micros(1_772_193_600_000_000);

/// A store on a stage: its clock, and the promise or the sequence that it is tried for.
struct Stage<S> {
    store: S,
    clock: ManualClock,
    title: String,
}

impl<S: Store> Stage<S> {
    fn new(make: impl Fn(ManualClock) -> S, title: String) -> Self {
        let clock = ManualClock::new(START);
        Self { store: make(clock.clone()), clock, title }
    }

    async fn take(&self, charges: &[Charge<'_>]) -> Taken {
        self.answered(self.store.take(charges).await, charges)
    }

    async fn look(&self, charges: &[Charge<'_>]) -> Taken {
        self.answered(self.store.look(charges).await, charges)
    }

    async fn give_back(&self, given: &[GiveBack<'_>]) {
        if let Err(error) = self.store.give_back(given).await {
            panic!("{}: could not give back {given:?}: {error}", self.title);
        }
    }

    async fn clear(&self, charges: &[Charge<'_>]) {
        if let Err(error) = self.store.clear(charges).await {
            panic!("{}: could not clear {charges:?}: {error}", self.title);
        }
    }

    fn answered(&self, answer: Result<Taken, S::Error>, charges: &[Charge<'_>]) -> Taken {
        let taken = answer.unwrap_or_else(|error| panic!("{}: could not answer {charges:?}: {error}", self.title));
        self.same("the time of the answer", &taken.at, &self.clock.now());
        self.same("how many outcomes", &taken.outcomes.len(), &charges.iter().map(|charge| charge.quotas.len()).sum());
        taken
    }

    fn same<T: PartialEq + Debug>(&self, what: &str, store: &T, expected: &T) {
        let Self { title, clock, .. } = self;
        assert!(
            store == expected,
            "{title}: {what}, {:?} after the start\n   store: {store:?}\nexpected: {expected:?}",
            clock.now().since(START)
        );
    }
}

/// A rule as a store sees it, with the quotas that overrides or a changed policy can give it.
struct Tried {
    name: String,
    mode: Mode,
    variants: Vec<Quotas>,
}

impl Tried {
    fn new(name: &str, mode: Mode, algorithm: Algorithm, variants: &[&str]) -> Self {
        let quotas = |text: &&str| {
            let limits = text.parse().unwrap_or_else(|error| panic!("{error}"));
            Quotas::new(name, &limits, Some(algorithm)).unwrap_or_else(|error| panic!("{error}"))
        };
        Self { name: name.to_owned(), mode, variants: variants.iter().map(quotas).collect() }
    }

    fn charge<'a>(&'a self, variant: usize, key: &'a Key, cost: u64) -> Charge<'a> {
        Charge { rule: &self.name, mode: self.mode, key, quotas: &self.variants[variant], cost }
    }
}

fn all_allow(outcomes: &[Outcome]) -> bool {
    outcomes.iter().all(|outcome| outcome.verdict == Verdict::Allow)
}
