//! An outage of the store that instances share: when it began, how many decisions of each rule were made without it, and when it
//! is over. Told twice, once when it begins and once when it ends.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::clock::Timestamp;

/// A store that answers again has to go on doing so for this long: while it answers only now and then, there is one outage.
const CALM: Duration = Duration::from_secs(1);

/// What is told of the store that instances share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does not answer: each rule goes by its `on_store_error` now.
    Degraded {
        /// What it said, or what happened to it.
        error: String,
    },
    /// It answers again.
    Recovered {
        /// How long it did not.
        after: Duration,
        /// How many decisions were made without it, for each rule that had any.
        without: Vec<(String, u64)>,
    },
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Degraded { error } => write!(f, "the shared store does not answer: {error}"),
            Self::Recovered { after, without } => {
                write!(f, "the shared store answers again, after {:.1} s", after.as_secs_f64())?;
                let mut before = "; decided without it: ";
                for (rule, decisions) in without {
                    write!(f, "{before}{rule} {decisions}")?;
                    before = ", ";
                }
                Ok(())
            }
        }
    }
}

pub(super) struct Outage {
    now: Mutex<Option<Now>>,
    begun: AtomicU64,
    tell: Box<dyn Fn(Health) + Send + Sync>,
}

/// One that goes on.
struct Now {
    since: Timestamp,
    last_failure: Timestamp,
    /// Bounded by the rules of a policy.
    without: BTreeMap<String, u64>,
}

impl Outage {
    pub(super) fn new(tell: impl Fn(Health) + Send + Sync + 'static) -> Self {
        Self { now: Mutex::new(None), begun: AtomicU64::new(0), tell: Box::new(tell) }
    }

    /// A question that was not answered, and why.
    pub(super) fn failed(&self, at: Timestamp, error: &dyn std::error::Error) {
        let begins = {
            let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
            let begins = now.is_none();
            now.get_or_insert_with(|| Now { since: at, last_failure: at, without: BTreeMap::new() }).last_failure = at;
            begins
        };
        if begins {
            self.begun.fetch_add(1, Ordering::Relaxed);
            (self.tell)(Health::Degraded { error: error.to_string() });
        }
    }

    /// A question asked at that time was answered.
    pub(super) fn answered(&self, asked_at: Timestamp) {
        let over = {
            let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
            now.take_if(|now| asked_at >= now.last_failure + CALM)
        };
        if let Some(Now { since, without, .. }) = over {
            let (after, without) = (asked_at.since(since), without.into_iter().collect());
            (self.tell)(Health::Recovered { after, without });
        }
    }

    /// Takes note of rules that were decided about without the store.
    pub(super) fn note<'a>(&self, rules: impl Iterator<Item = &'a str>) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(now) = now.as_mut() else { return };
        for rule in rules {
            match now.without.get_mut(rule) {
                Some(decisions) => *decisions += 1,
                None => _ = now.without.insert(rule.to_owned(), 1),
            }
        }
    }

    /// How many there have been, with the one that goes on.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Since when the store has not answered; none if it does.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|now| now.since)
    }
}
