//! The quotas that counters are charged by, numbered, so that a word can say which in a few bits.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use super::{
    overflow::{Budget, Overflow},
    word::{QUOTA_BITS, Word},
};
use crate::{
    algorithm::{
        State, Told,
        packed::{self, Packed},
    },
    clock::Timestamp,
    policy::CounterId,
    quota::Quota,
};

const QUOTAS: usize = 1 << QUOTA_BITS;
/// How far from its usual place a quota is looked for.
const MAX_STEPS: usize = 16;

/// All quotas seen, in a table of fixed size. A quota that is here stays here; reading takes no lock.
#[derive(Debug)]
pub(super) struct Registry {
    quotas: Box<[OnceLock<Box<Registered>>; QUOTAS]>,
    /// By the counters they are for: quotas that differ in their amounts alone share them.
    overflows: Mutex<HashMap<CounterId, Arc<Overflow>>>,
    /// What is left for overflows that are not there yet.
    pub(super) budget: Budget,
    /// The store's beginning, from which packed instants count.
    origin: Timestamp,
}

/// A quota, and the number it has in words.
#[derive(Debug)]
pub(super) struct Registered {
    pub(super) id: CounterId,
    pub(super) number: u16,
    pub(super) quota: Quota,
    pub(super) overflow: Arc<Overflow>,
}

impl Registered {
    fn is(&self, id: CounterId, quota: &Quota) -> bool {
        // The identity tells the algorithm and the window, so these are what all else follows from.
        self.id == id && self.quota.amount() == quota.amount() && self.quota.capacity() == quota.capacity()
    }
}

impl Registry {
    /// For a table of so many counters.
    pub(super) fn new(counters: usize, origin: Timestamp) -> Self {
        // Not by way of an array, which would be on the stack first.
        let quotas: Box<[_]> = (0..QUOTAS).map(|_| OnceLock::new()).collect();
        let quotas = quotas.try_into().expect("there are as many");
        Self { quotas, overflows: Mutex::default(), budget: Budget::new(counters), origin }
    }

    /// The quota with its number, which it gets now if it has none. None: too many are there already.
    #[inline(always)]
    pub(super) fn number(&self, id: CounterId, quota: &Quota) -> Option<&Registered> {
        // Below `QUOTAS`.
        let first = usize::try_from(id.mixed_with(quota) % QUOTAS as u64).unwrap_or_default();
        match self.quotas[first].get() {
            Some(here) if here.is(id, quota) => Some(here),
            _ => self.number_from(first, id, quota),
        }
    }

    #[cold]
    fn number_from(&self, first: usize, id: CounterId, quota: &Quota) -> Option<&Registered> {
        for step in 0..MAX_STEPS {
            let index = (first + step) % QUOTAS;
            let here = self.quotas[index].get_or_init(|| Box::new(self.register(index, id, quota)));
            if here.is(id, quota) {
                return Some(here);
            }
        }
        None
    }

    fn register(&self, index: usize, id: CounterId, quota: &Quota) -> Registered {
        let mut overflows = self.overflows.lock().unwrap_or_else(PoisonError::into_inner);
        let overflow = overflows.entry(id).or_default().clone();
        // Below `QUOTAS`.
        let number = u16::try_from(index).unwrap_or_default();
        Registered { id, number, quota: *quota, overflow }
    }

    /// The quota with this number, which some word has.
    pub(super) fn of(&self, word: Word) -> Option<&Registered> {
        self.quotas[usize::from(word.quota())].get().map(|registered| &**registered)
    }

    /// The state in a word, packed by the quota that it names.
    pub(super) fn state(&self, word: Word) -> Option<State> {
        let registered = self.of(word)?;
        packed::unpack(word.state(), &registered.quota, self.origin.as_micros())
    }

    pub(super) fn pack(&self, state: Option<&State>) -> Packed {
        packed::pack(state, self.origin.as_micros())
    }

    /// What a charge of this quota makes of the state in a word, and gets.
    #[inline(always)]
    pub(super) fn charged<T: Told>(&self, word: Word, by: &Registered, cost: u64, now: Timestamp) -> (Packed, T) {
        // Who charged it last, by the amount that it refills with.
        let last = if word.quota() == by.number { Some(by) } else { self.of(word) };
        let (last, origin) = (&last.unwrap_or(by).quota, self.origin.as_micros());
        packed::charge(word.state(), last, &by.quota, cost, now.as_micros(), origin)
    }
}
