//! Denials that are known to last: answered here for a moment, without asking again what would be answered the same.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ahash::RandomState;
use smallvec::SmallVec;
use tollgate::{
    algorithm::{Outcome, Verdict},
    clock::Timestamp,
    policy::Mode,
    quota::Quota,
    store::{Answerer, Answerers, Charge, Outcomes, Taken},
};

use crate::ask::{Name, Want, wants};

/// So long at most: whoever is pardoned elsewhere waits no longer.
const LONGEST: Duration = Duration::from_secs(1);
/// So many at most in each of two generations. Whoever comes when there are more is asked about, as if there were none.
const MAX_DENIALS: usize = 10_000;

/// Denials of the last second. They are kept in two generations, of which the older one is dropped as a whole: nothing is ever searched
/// for what has expired.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    generations: Mutex<Generations>,
    hasher: RandomState,
}

/// By the hash of the first counter of a charge. Of two with one hash, which nobody will see, the later one is known.
#[derive(Debug, Default)]
struct Generations {
    current: HashMap<u64, Denial, RandomState>,
    previous: HashMap<u64, Denial, RandomState>,
    since: Timestamp,
}

/// What was denied to one rule's charge: this cost and any larger one, by the same quotas.
#[derive(Debug)]
struct Denial {
    of: Name,
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
    pub(crate) fn answer(&self, charges: &[Charge<'_>], now: Timestamp) -> Option<Taken> {
        let generations = self.generations();
        let mut answer: Option<(Timestamp, Outcomes)> = None;
        let mut of_charges = SmallVec::new();
        for charge in charges {
            let denial = match charge.mode {
                Mode::Enforce => first(charge).and_then(|want| generations.find(&want, want.hash(&self.hasher), now)),
                Mode::Shadow => None,
            };
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
    pub(crate) fn learn(&self, charges: &[Charge<'_>], taken: &Taken, asked_at: Timestamp) {
        if taken.outcomes.iter().all(|outcome| outcome.verdict == Verdict::Allow) {
            return;
        }
        let mut rest = taken.outcomes.as_slice();
        for charge in charges {
            let (outcomes, others) = rest.split_at(charge.quotas.len().min(rest.len()));
            rest = others;
            let lasts = outcomes.iter().filter_map(|outcome| outcome.retry_after).max();
            if let (Some(lasts), Mode::Enforce, Some(want)) = (lasts, charge.mode, first(charge)) {
                let denial = Denial {
                    of: want.name(),
                    quotas: charge.quotas.iter().map(|(_, quota)| *quota).collect(),
                    cost: charge.cost,
                    outcomes: outcomes.iter().copied().collect(),
                    asked_at,
                    until: asked_at + lasts.min(LONGEST),
                    answered_at: taken.at,
                };
                self.generations().insert(want.hash(&self.hasher), denial, asked_at);
            }
        }
    }

    /// Forgets what is known of this charge, since somebody has been given something back.
    pub(crate) fn forget(&self, charge: &Charge<'_>) {
        let mut generations = self.generations();
        for want in wants(std::slice::from_ref(charge)) {
            let hash = want.hash(&self.hasher);
            generations.current.remove(&hash);
            generations.previous.remove(&hash);
        }
    }

    /// Forgets everything.
    pub(crate) fn forget_all(&self) {
        *self.generations() = Generations::default();
    }

    fn generations(&self) -> MutexGuard<'_, Generations> {
        // A denial that is lost is asked for again.
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn find(&self, want: &Want<'_>, hash: u64, now: Timestamp) -> Option<&Denial> {
        let Charge { quotas, cost, .. } = want.charge;
        let holds = |denial: &&Denial| {
            let is_same = want.is_of(&denial.of) && denial.quotas.iter().eq(quotas.iter().map(|(_, quota)| quota));
            is_same && *cost >= denial.cost && now < denial.until
        };
        self.current.get(&hash).filter(holds).or_else(|| self.previous.get(&hash).filter(holds))
    }

    fn insert(&mut self, hash: u64, denial: Denial, now: Timestamp) {
        if now >= self.since + LONGEST {
            self.previous = std::mem::take(&mut self.current);
            self.since = now;
        }
        if self.current.len() < MAX_DENIALS {
            self.current.insert(hash, denial);
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

/// By which a charge is known.
fn first<'a>(charge: &'a Charge<'a>) -> Option<Want<'a>> {
    wants(std::slice::from_ref(charge)).next()
}
