//! The limiters that are compared, behind one small trait. Each runs as its documentation says a user should run it, reads
//! its own clock for every decision, and is asked through a slice, so that its own code is inlined into the loop.
//!
//! limitador is left out. Even without default features it comes with 96 crates, 42 of them new to this workspace, among
//! them generators for protobuf and a runtime for ANTLR, and checking the workspace would take 20 s longer.

use std::{
    hash::Hash,
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use throttlecrab::PeriodicStore;
use tollgate::{
    algorithm::Verdict,
    clock::Clock,
    key::Key,
    policy::{Mode, Quotas},
    quota::{Algorithm, Limits},
    store::{Charge, memory::MemoryStore},
};

use super::keys::{Numbered, Ready};

/// Something that limits.
pub(crate) trait Contestant<K>: Sync {
    /// Decides about each of these in turn, and tells how many were allowed.
    fn allowed(&self, keys: &[K]) -> usize;

    /// Live counters that it gave up for want of room; `None` if it grows instead.
    fn given_up(&self) -> Option<u64> {
        None
    }
}

/// Keys that some contestants can count by.
pub(crate) trait Contestants: Numbered {
    const NAME: &str;

    /// All that can, governor first.
    fn contestants() -> Vec<Entry<Self>>;
}

/// A contestant that can be opened for a number of keys.
pub(crate) struct Entry<K> {
    pub(crate) name: &'static str,
    pub(crate) open: fn(u64, Allowance) -> Box<dyn Contestant<K>>,
}

impl Contestants for Ready<u64> {
    const NAME: &str = "u64";

    fn contestants() -> Vec<Entry<Self>> {
        // throttlecrab takes strings only.
        vec![Entry { name: "governor", open: governor }, Entry { name: "tollgate", open: tollgate }]
    }
}

impl Contestants for Ready<String> {
    const NAME: &str = "str24";

    fn contestants() -> Vec<Entry<Self>> {
        vec![
            Entry { name: "governor", open: governor },
            Entry { name: "throttlecrab", open: throttlecrab },
            Entry { name: "tollgate", open: tollgate },
        ]
    }
}

/// How much each key may: a burst, and then one every so many minutes.
#[derive(Clone, Copy)]
pub(crate) enum Allowance {
    /// More than is ever asked for.
    Plenty,
    /// Two, as long as a measurement lasts. Not one: throttlecrab keeps no counter without a burst.
    Two,
}

impl Allowance {
    fn burst(self) -> u32 {
        match self {
            Self::Plenty => 10_000_000,
            Self::Two => 2,
        }
    }

    fn minutes_each(self) -> u32 {
        match self {
            Self::Plenty => 1,
            Self::Two => 60,
        }
    }
}

pub(crate) fn governor<K: Clone + Hash + Eq + Send + Sync + 'static>(
    _: u64,
    allowance: Allowance,
) -> Box<dyn Contestant<Ready<K>>> {
    let each = Duration::from_secs(60) * allowance.minutes_each();
    let quota = Quota::with_period(each).expect("a span above zero");
    let burst = NonZeroU32::new(allowance.burst()).expect("a burst above zero");
    let limiter: DefaultKeyedRateLimiter<K> = RateLimiter::dashmap(quota.allow_burst(burst));
    Box::new(limiter)
}

/// Measured: hashing the key, its shard's lock, the clock (quanta), the decision. The key is cloned when it is new.
impl<K: Clone + Hash + Eq + Send + Sync> Contestant<Ready<K>> for DefaultKeyedRateLimiter<K> {
    fn allowed(&self, keys: &[Ready<K>]) -> usize {
        keys.iter().filter(|key| self.check_key(&key.plain).is_ok()).count()
    }
}

/// The smallest and fastest of its stores. It needs `&mut`, so threads need a lock.
struct Throttlecrab {
    limiter: Mutex<throttlecrab::RateLimiter<PeriodicStore>>,
    allowance: Allowance,
    clock: Clock,
}

fn throttlecrab(keys: u64, allowance: Allowance) -> Box<dyn Contestant<Ready<String>>> {
    let store = PeriodicStore::with_capacity(usize::try_from(keys).unwrap_or(usize::MAX));
    let limiter = Mutex::new(throttlecrab::RateLimiter::new(store));
    Box::new(Throttlecrab { limiter, allowance, clock: Clock::system() })
}

/// Measured: the clock (the system's, like ours), the lock, the decision. The key is copied when it is new.
impl Contestant<Ready<String>> for Throttlecrab {
    fn allowed(&self, keys: &[Ready<String>]) -> usize {
        let (burst, seconds) = (self.allowance.burst().into(), (60 * self.allowance.minutes_each()).into());
        let allows = |key: &&Ready<String>| {
            let now = SystemTime::UNIX_EPOCH + Duration::from_micros(self.clock.now().as_micros());
            let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
            limiter.rate_limit(&key.plain, burst, 1, seconds, 1, now).is_ok_and(|(allowed, _)| allowed)
        };
        keys.iter().filter(allows).count()
    }
}

/// Tollgate's memory store, with one token bucket in each of `RULES` rules.
pub(crate) struct Ours<const RULES: usize> {
    store: MemoryStore,
    rules: [Quotas; RULES],
}

fn tollgate<K>(keys: u64, allowance: Allowance) -> Box<dyn Contestant<Ready<K>>> {
    Box::new(Ours::open(keys, ["a"], allowance))
}

impl<const RULES: usize> Ours<RULES> {
    /// A store rated for `counters`, no more: what it has to give up at that is part of the measurement.
    pub(crate) fn open(counters: u64, rules: [&str; RULES], allowance: Allowance) -> Self {
        let limits = format!("1/{}minutes burst {}", allowance.minutes_each(), allowance.burst());
        Self::with(counters, rules, &limits, Algorithm::TokenBucket)
    }

    /// The same with other limits.
    pub(crate) fn with(counters: u64, rules: [&str; RULES], limits: &str, algorithm: Algorithm) -> Self {
        let limits: Limits = limits.parse().expect("a limit as the documentation has it");
        let quotas = |rule| Quotas::new(rule, &limits, Some(algorithm)).expect("only a bucket has a burst");
        let counters = usize::try_from(counters).unwrap_or(usize::MAX);
        Self { store: MemoryStore::new(counters, Clock::system()), rules: rules.map(quotas) }
    }

    fn charges<'a>(&'a self, key: &'a Key) -> [Charge<'a>; RULES] {
        self.rules.each_ref().map(|quotas| Charge { rule: "a", mode: Mode::Enforce, key, quotas, cost: 1 })
    }
}

impl Ours<1> {
    /// Takes one from this key's counter.
    pub(crate) fn allows(&self, key: &Key) -> bool {
        self.store.take_one_now(&self.charge(key)) == Verdict::Allow
    }

    fn charge<'a>(&'a self, key: &'a Key) -> Charge<'a> {
        let [charge] = self.charges(key);
        charge
    }
}

/// Measured: the charge, hashing, the clock (the system's), and the decision, of which, as from governor, no more is asked
/// than whether it allows.
impl<K> Contestant<Ready<K>> for Ours<1> {
    fn allowed(&self, keys: &[Ready<K>]) -> usize {
        keys.iter().filter(|key| self.allows(&key.key)).count()
    }

    fn given_up(&self) -> Option<u64> {
        Some(self.store.statistics().given_up)
    }
}

/// The same, but asked for the status of every counter as well, which a limiter tells its clients and governor does not know.
pub(crate) struct Telling<const RULES: usize>(pub(crate) Ours<RULES>);

impl<K, const RULES: usize> Contestant<Ready<K>> for Telling<RULES> {
    fn allowed(&self, keys: &[Ready<K>]) -> usize {
        let is_allowed = |key: &&Ready<K>| {
            let taken = self.0.store.take_now(&self.0.charges(&key.key));
            taken.outcomes.iter().all(|outcome| outcome.verdict == Verdict::Allow)
        };
        keys.iter().filter(is_allowed).count()
    }
}

/// Tollgate's memory store with one rule, asked about 16 requests a call, as one who reads them from sockets in batches can.
pub(crate) struct Batched(pub(crate) Ours<1>);

const BATCH: usize = 16;

/// Measured: the same, but the clock is read once a call. Those too few for a batch are decided one by one.
impl<K> Contestant<Ready<K>> for Batched {
    fn allowed(&self, keys: &[Ready<K>]) -> usize {
        let (batches, rest) = keys.as_chunks::<BATCH>();
        let mut verdicts = Vec::with_capacity(BATCH);
        let allowed = |batch: &[Ready<K>; BATCH]| {
            let charges = batch.each_ref().map(|key| self.0.charge(&key.key));
            verdicts.clear();
            self.0.store.take_each_now(&charges, &mut verdicts);
            verdicts.iter().filter(|verdict| **verdict == Verdict::Allow).count()
        };
        batches.iter().map(allowed).sum::<usize>() + self.0.allowed(rest)
    }
}
