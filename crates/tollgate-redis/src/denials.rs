//! Denials that are known to last: answered here for a moment, without asking again what would be answered the same.

use std::{
    collections::{HashMap, hash_map::RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use smallvec::SmallVec;
use tollgate::{
    algorithm::{Outcome, Verdict},
    clock::Timestamp,
    policy::Mode,
    quota::Quota,
    store::{Answerer, Answerers, Charge, Outcomes, Taken},
};

use crate::ask::Counter;

/// So long at most: whoever is pardoned elsewhere waits no longer.
const LONGEST: Duration = Duration::from_secs(1);
/// So many at most in each of two generations. Whoever comes when there are more is asked about, as if there were none.
const MAX_DENIALS: usize = 10_000;

/// Denials of the last second. They are kept in two generations, of which the older one is dropped as a whole: nothing is ever searched
/// for what has expired.
#[derive(Debug, Default)]
pub(crate) struct Denials(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    current: HashMap<Vec<u8>, Denial, RandomState>,
    previous: HashMap<Vec<u8>, Denial, RandomState>,
    since: Timestamp,
}

/// What was denied to one rule's charge: this cost and any larger one, by the same quotas.
#[derive(Clone, Debug)]
struct Denial {
    quotas: SmallVec<[Quota; 2]>,
    cost: u64,
    outcomes: Outcomes,
    /// When it was asked for, by the clock of this process: the answer is no older than that.
    asked_at: Timestamp,
    until: Timestamp,
    /// When it was answered, by the clock of the server.
    answered_at: Timestamp,
}

impl Denials {
    /// The answer, if one of the enforced charges is known to be denied. It is silent on the others.
    pub(crate) fn answer(&self, charges: &[Charge<'_>], counters: &[Counter], now: Timestamp) -> Option<Taken> {
        let generations = self.generations();
        let mut answer: Option<(Timestamp, Outcomes)> = None;
        let mut of_charges = SmallVec::new();
        for (charge, counters) in by_charge(charges, counters) {
            let denial = generations.find(counters, now).filter(|_| charge.mode == Mode::Enforce);
            let answerer = if denial.is_some() { Answerer::Store } else { Answerer::Unasked };
            of_charges.push((answerer, denial.map_or(now, |denial| denial.answered_at)));
            if let Some(denial) = denial {
                let elapsed = now.since(denial.asked_at);
                let (_, outcomes) = answer.get_or_insert_with(|| (denial.answered_at + elapsed, Outcomes::new()));
                outcomes.extend(denial.outcomes.iter().map(|outcome| later(outcome, elapsed)));
            }
        }
        let (at, outcomes) = answer?;
        Some(Taken { at, outcomes, answerers: Some(Box::new(Answerers { of_charges })) })
    }

    pub(crate) fn len(&self) -> usize {
        let generations = self.generations();
        generations.current.len() + generations.previous.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Remembers what was denied of these charges, which were asked for at that time.
    pub(crate) fn learn(&self, charges: &[Charge<'_>], counters: &[Counter], taken: &Taken, asked_at: Timestamp) {
        if taken.outcomes.iter().all(|outcome| outcome.verdict == Verdict::Allow) {
            return;
        }
        let mut rest = taken.outcomes.as_slice();
        for (charge, counters) in by_charge(charges, counters) {
            let (outcomes, others) = rest.split_at(counters.len().min(rest.len()));
            rest = others;
            let lasts = outcomes.iter().filter_map(|outcome| outcome.retry_after).max();
            if let (Some(lasts), Mode::Enforce, Some(first)) = (lasts, charge.mode, counters.first()) {
                let denial = Denial {
                    quotas: counters.iter().map(|counter| counter.quota).collect(),
                    cost: charge.cost,
                    outcomes: outcomes.iter().copied().collect(),
                    asked_at,
                    until: asked_at + lasts.min(LONGEST),
                    answered_at: taken.at,
                };
                self.generations().insert(first.key.clone(), denial, asked_at);
            }
        }
    }

    /// Forgets what is known of these counters, since somebody has been given something back.
    pub(crate) fn forget(&self, counters: &[Counter]) {
        let mut generations = self.generations();
        for counter in counters {
            generations.current.remove(&counter.key);
            generations.previous.remove(&counter.key);
        }
    }

    /// Forgets everything.
    pub(crate) fn forget_all(&self) {
        *self.generations() = Generations::default();
    }

    fn generations(&self) -> MutexGuard<'_, Generations> {
        // A denial that is lost is asked for again.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn find(&self, counters: &[Counter], now: Timestamp) -> Option<&Denial> {
        let key = &counters.first()?.key;
        let holds = |denial: &&Denial| {
            let is_same = denial.quotas.iter().eq(counters.iter().map(|counter| &counter.quota));
            is_same && counters[0].cost >= denial.cost && now < denial.until
        };
        self.current.get(key).filter(holds).or_else(|| self.previous.get(key).filter(holds))
    }

    fn insert(&mut self, key: Vec<u8>, denial: Denial, now: Timestamp) {
        if now >= self.since + LONGEST {
            self.previous = std::mem::take(&mut self.current);
            self.since = now;
        }
        if self.current.len() < MAX_DENIALS {
            self.current.insert(key, denial);
        }
    }
}

/// The same answer some time later, before it is time to ask again.
fn later(outcome: &Outcome, elapsed: Duration) -> Outcome {
    let left = |span: Duration| span.saturating_sub(elapsed).max(Duration::from_micros(1));
    let mut outcome = *outcome;
    outcome.retry_after = outcome.retry_after.map(left);
    outcome.status.refill_after = outcome.status.refill_after.map(left);
    outcome.status.reset_after = outcome.status.reset_after.saturating_sub(elapsed);
    outcome
}

/// Each charge with its counters.
pub(crate) fn by_charge<'a, 'b>(
    charges: &'a [Charge<'b>],
    counters: &'a [Counter],
) -> impl Iterator<Item = (&'a Charge<'b>, &'a [Counter])> {
    let mut rest = counters;
    charges.iter().map(move |charge| {
        let (of_charge, others) = rest.split_at(charge.quotas.len().min(rest.len()));
        rest = others;
        (charge, of_charge)
    })
}
