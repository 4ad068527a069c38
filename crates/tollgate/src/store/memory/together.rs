//! All counters of a request at one time: where each of them is, and how they are charged together or not at all.
//!
//! A request looks at all its counters, and if they let it pass, charges one after the other. When somebody else has been
//! faster at one of them, those before are given back and everything is looked at anew: a request can be denied for what
//! another one takes off again a moment later, but nothing is ever admitted twice.

use std::{hint, time::Duration};

use smallvec::SmallVec;

use super::{
    MemoryStore,
    counters::{Counter, Done, Step},
    registry::Registered,
    shard::CounterKey,
    wide::Locked,
};
use crate::{
    algorithm::{Outcome, Verdict},
    clock::Timestamp,
    policy::{CounterId, Quotas},
    quota::Quota,
    store::{Charge, Outcomes, Taken, passes},
};

/// How often a request looks anew after somebody else was faster, waiting longer each time. That many losses in a row have
/// not been seen with any number of threads; whoever has them is denied, for somebody must be.
const MAX_RACES: u32 = 1_000;
/// What he is told to wait.
const AFTER_RACES: Duration = Duration::from_millis(1);

/// The counters of one request, in the order of its charges.
pub(super) type Asked<'a> = SmallVec<[Ask<'a>; 4]>;

/// What is asked of one counter.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    pub(super) quota: &'a Quota,
    pub(super) cost: u64,
    pub(super) seat: Seat<'a>,
}

/// Where a counter lives.
#[derive(Debug)]
pub(super) enum Seat<'a> {
    Table(Counter<'a>),
    Wide(CounterKey<'a>),
}

impl MemoryStore {
    pub(super) fn asked<'a>(&'a self, charges: &[Charge<'a>]) -> Asked<'a> {
        let mut asked = Asked::new();
        for charge in charges {
            for (id, quota) in charge.quotas.iter() {
                asked.push(self.ask(charge, id, quota));
            }
        }
        asked
    }

    pub(super) fn ask<'a>(&'a self, charge: &Charge<'a>, id: CounterId, quota: &'a Quota) -> Ask<'a> {
        Ask { quota, cost: charge.cost, seat: self.seat(charge, id, quota) }
    }

    #[inline(always)]
    pub(super) fn seat<'a>(&'a self, charge: &Charge<'a>, id: CounterId, quota: &Quota) -> Seat<'a> {
        let hash = self.secret.hash(id.as_u64(), charge.key.as_bytes());
        match self.registered(charge.quotas, id, quota) {
            Some(registered) => Seat::Table(self.counters.counter(registered, hash)),
            None => Seat::Wide(CounterKey { hash, id, key: charge.key }),
        }
    }

    /// A quota as the table knows it. None: it is counted outside.
    #[inline(always)]
    pub(super) fn registered(&self, quotas: &Quotas, id: CounterId, quota: &Quota) -> Option<&Registered> {
        if quotas.are_wide() { None } else { self.counters.registered(id, quota) }
    }

    pub(super) fn lock<'a>(&'a self, asked: &[Ask<'_>]) -> Locked<'a> {
        let wide =
            asked.iter().filter_map(|asked| if let Seat::Wide(key) = &asked.seat { Some(key.hash) } else { None });
        self.wide.lock(wide)
    }

    #[inline(never)]
    pub(super) fn take_together(&self, charges: &[Charge<'_>], asked: &[Ask<'_>], at: Option<Timestamp>) -> Taken {
        let mut wide = self.lock(asked);
        let at = at.unwrap_or_else(|| self.clock.now());
        for race in 0..MAX_RACES {
            (0..race).for_each(|_| hint::spin_loop());
            let (mut outcomes, mut steps) = (Outcomes::new(), SmallVec::<[Step<'_>; 4]>::new());
            for asked in asked {
                let (outcome, step) = self.look(asked, asked.cost, &mut wide, at);
                outcomes.push(outcome);
                steps.push(step);
            }
            let taken = taken(charges, &outcomes);
            if self.take_all(asked, &steps, &taken, &mut wide, at) {
                self.uncharge(asked, &taken, &mut outcomes, &mut wide, at);
                return Taken::new(at, outcomes);
            }
        }
        let mut outcomes: Outcomes = asked.iter().map(|asked| self.look(asked, 0, &mut wide, at).0).collect();
        for outcome in &mut outcomes {
            (outcome.verdict, outcome.retry_after) = (Verdict::Deny, Some(AFTER_RACES));
        }
        Taken::new(at, outcomes)
    }

    #[inline(always)]
    pub(super) fn look<'a>(
        &'a self,
        asked: &Ask<'a>,
        cost: u64,
        wide: &mut Locked<'_>,
        at: Timestamp,
    ) -> (Outcome, Step<'a>) {
        match &asked.seat {
            Seat::Table(counter) => self.counters.look(counter, cost, at),
            Seat::Wide(key) => (wide.shard(key).look(key, asked.quota, cost, at), Step::Nothing),
        }
    }

    /// Charges those that are to be, or none if somebody was faster at one of them.
    fn take_all<'a>(
        &'a self,
        asked: &[Ask<'a>],
        steps: &[Step<'a>],
        taken: &[bool],
        wide: &mut Locked<'_>,
        at: Timestamp,
    ) -> bool {
        let mut done: SmallVec<[(&Counter<'_>, Done<'a>, u64); 4]> = SmallVec::new();
        for ((asked, step), _) in asked.iter().zip(steps).zip(taken).filter(|(_, taken)| **taken) {
            let Seat::Table(counter) = &asked.seat else { continue };
            let Some(what) = self.counters.make(counter, *step, asked.cost, at) else {
                done.into_iter().for_each(|(counter, what, cost)| self.counters.take_back(counter, what, cost, at));
                return false;
            };
            done.push((counter, what, asked.cost));
        }
        // Nobody can have come in between here: the maps are locked.
        for (asked, _) in asked.iter().zip(taken).filter(|(_, taken)| **taken) {
            if let Seat::Wide(key) = &asked.seat
                && asked.cost > 0
            {
                wide.shard(key).charge(key, asked.quota, asked.cost, at);
            }
        }
        true
    }

    /// Says of those that are not charged how they stand without it.
    pub(super) fn uncharge(
        &self,
        asked: &[Ask<'_>],
        taken: &[bool],
        outcomes: &mut Outcomes,
        wide: &mut Locked<'_>,
        at: Timestamp,
    ) {
        for ((asked, outcome), taken) in asked.iter().zip(outcomes).zip(taken) {
            // A denial says so already.
            if !taken && outcome.verdict == Verdict::Allow {
                outcome.status = self.look(asked, 0, wide, at).0.status;
            }
        }
    }
}

/// For each quota of each charge whether it is taken: all of an enforced request, a shadow charge by itself.
pub(super) fn taken(charges: &[Charge<'_>], outcomes: &[Outcome]) -> SmallVec<[bool; 4]> {
    // As of most requests.
    if outcomes.iter().all(|outcome| outcome.verdict == Verdict::Allow) {
        return SmallVec::from_elem(true, outcomes.len());
    }
    let passes = passes(charges, outcomes);
    let (mut taken, mut rest) = (SmallVec::new(), outcomes);
    for charge in charges {
        let (of_charge, others) = rest.split_at(charge.quotas.len());
        rest = others;
        let is_taken = passes && of_charge.iter().all(|outcome| outcome.verdict == Verdict::Allow);
        taken.resize(taken.len() + of_charge.len(), is_taken);
    }
    taken
}
