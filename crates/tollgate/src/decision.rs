//! The whole answer to a request: a verdict, and how every counter stands that it concerned. The strictest speaks first.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use smallvec::SmallVec;

use crate::{
    algorithm::{Outcome, Status, Verdict},
    client::Client,
    clock::Timestamp,
    headers::{Members, whole_seconds},
    key::Key,
    policy::{Count, Fit, Mode, Policy, Quotas, Rule},
    quota::Quota,
    store::{Charge, GiveBack, Outcomes, Taken},
};

/// What was decided about one request, and why.
#[derive(Clone, Debug)]
pub struct Decision {
    policy: Arc<Policy>,
    client: Client,
    fits: SmallVec<[Fit; 4]>,
    at: Timestamp,
    outcomes: Outcomes,
    verdict: Verdict,
}

impl Decision {
    pub(crate) fn new(policy: Arc<Policy>, client: Client, fits: SmallVec<[Fit; 4]>, taken: Taken) -> Self {
        let Taken { at, outcomes } = taken;
        let mut decision = Self { policy, client, fits, at, outcomes, verdict: Verdict::Allow };
        if decision.denying().next().is_some() {
            decision.verdict = Verdict::Deny;
        }
        decision
    }

    /// Whether the request may pass.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Who asked.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// When it was decided, by the store's clock.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// Every quota of every rule that fitted, in file order, as it stands after the decision.
    pub fn counted(&self) -> impl Iterator<Item = Counted<'_>> {
        self.taken().flat_map(|(fit, rule, quotas, outcomes)| {
            quotas.iter().zip(outcomes).enumerate().map(move |(place, ((_, quota), outcome))| Counted {
                rule,
                key: &fit.key,
                place,
                quotas: quotas.len(),
                quota,
                members: quotas.members(place),
                outcome,
            })
        })
    }

    /// The rules that fitted, in file order: the place of each in the policy, the key it counted by, and whether one of its
    /// quotas was exceeded.
    pub fn rules(&self) -> impl Iterator<Item = (usize, &Rule, &Key, Verdict)> {
        self.taken().map(|(fit, rule, _, outcomes)| {
            let exceeded = outcomes.iter().find(|outcome| outcome.verdict == Verdict::Deny);
            (fit.rule, rule, &fit.key, exceeded.map_or(Verdict::Allow, |outcome| outcome.verdict))
        })
    }

    /// What was asked of the store, and what it answered.
    fn taken(&self) -> impl Iterator<Item = (&Fit, &Rule, &Quotas, &[Outcome])> {
        let mut rest = self.outcomes.as_slice();
        self.fits.iter().map(move |fit| {
            let rule = &self.policy.rules()[fit.rule];
            let quotas = fit.quotas(rule);
            let (outcomes, others) = rest.split_at(quotas.len());
            rest = others;
            (fit, rule, quotas, outcomes)
        })
    }

    /// How many units could pass now, by the quota to tell about; none if nothing limits the request.
    pub fn remaining(&self) -> Option<u64> {
        self.shown().map(|shown| shown.status().remaining)
    }

    /// Time until the counter of the quota to tell about is as new; none if nothing limits the request.
    pub fn reset_after(&self) -> Option<Duration> {
        self.shown().map(|shown| shown.status().reset_after)
    }

    /// The names of the rules that refused.
    pub fn denied_by(&self) -> impl Iterator<Item = &str> {
        self.exceeded(Mode::Enforce)
    }

    /// The names of the rules in shadow that would have refused.
    pub fn shadow_denied_by(&self) -> impl Iterator<Item = &str> {
        self.exceeded(Mode::Shadow)
    }

    /// Time until the request could pass, if nobody else is charged: the longest of those that refused. None if it was
    /// allowed, or if it can never fit.
    pub fn retry_after(&self) -> Option<Duration> {
        // Never is longer than any time.
        self.denying().map(|counted| counted.outcome.retry_after).max_by_key(|wait| longest(*wait))?
    }

    /// The same in whole seconds, rounded up and at least 1, as clients are told.
    pub fn retry_after_secs(&self) -> Option<u64> {
        self.retry_after().map(whole_seconds)
    }

    /// The quota to tell about: the refusing one with the longest wait, else the one with the least remaining, else the
    /// one longest until it is as new. Rules in shadow tell nothing.
    pub fn shown(&self) -> Option<Counted<'_>> {
        self.shown_of(|_| true)
    }

    pub(crate) fn shown_of(&self, which: impl Fn(&Rule) -> bool) -> Option<Counted<'_>> {
        self.enforced().filter(|counted| which(counted.rule)).min_by_key(|counted| {
            let Outcome { verdict, status, retry_after } = counted.outcome;
            match verdict {
                Verdict::Deny => (0, Reverse(longest(*retry_after)), 0, Reverse(status.reset_after)),
                Verdict::Allow => (1, Reverse((false, None)), status.remaining, Reverse(status.reset_after)),
            }
        })
    }

    /// Quotas of enforcing rules, in file order.
    pub(crate) fn enforced(&self) -> impl Iterator<Item = Counted<'_>> {
        self.counted().filter(|counted| counted.rule.mode == Mode::Enforce)
    }

    /// Quotas that refused the request.
    pub(crate) fn denying(&self) -> impl Iterator<Item = Counted<'_>> {
        self.enforced().filter(|counted| counted.outcome.verdict == Verdict::Deny)
    }

    fn exceeded(&self, mode: Mode) -> impl Iterator<Item = &str> {
        let exceeded = self.rules().filter(move |(_, rule, _, verdict)| rule.mode == mode && *verdict == Verdict::Deny);
        exceeded.map(|(_, rule, _, _)| rule.name.as_str())
    }

    /// What is to be given back once the answer's status code is known: charges of rules that do not count it.
    pub(crate) fn uncounted(&self, status_code: Option<u16>) -> SmallVec<[GiveBack<'_>; 2]> {
        let is_counted = |rule: &Rule| match &rule.count {
            Count::All => true,
            Count::Status(counted) => status_code.is_some_and(|code| counted.contains(&code)),
        };
        self.charged_by(|rule| !is_counted(rule))
    }

    /// Every charge of a request that was allowed.
    pub(crate) fn charged(&self) -> SmallVec<[GiveBack<'_>; 2]> {
        self.charged_by(|_| true)
    }

    fn charged_by(&self, which: impl Fn(&Rule) -> bool) -> SmallVec<[GiveBack<'_>; 2]> {
        let charged = self.taken().filter(|(_, rule, _, _)| self.verdict == Verdict::Allow && which(rule));
        charged.map(|(fit, rule, _, _)| GiveBack { charge: charge(rule, fit), at: self.at }).collect()
    }
}

/// The charges of the rules that fit, as a store takes them.
pub(crate) fn charges<'a>(policy: &'a Policy, fits: &'a [Fit]) -> SmallVec<[Charge<'a>; 4]> {
    fits.iter().map(|fit| charge(&policy.rules()[fit.rule], fit)).collect()
}

fn charge<'a>(rule: &'a Rule, fit: &'a Fit) -> Charge<'a> {
    Charge { rule: &rule.name, mode: rule.mode, key: &fit.key, quotas: fit.quotas(rule), cost: fit.cost }
}

/// Orders waits: one that never ends is the longest.
fn longest(wait: Option<Duration>) -> (bool, Option<Duration>) {
    (wait.is_none(), wait)
}

/// One quota that a request was counted by.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'a> {
    /// The rule it belongs to.
    pub rule: &'a Rule,
    /// What the request was counted by.
    pub key: &'a Key,
    /// Its place among the quotas that applied, from 0.
    pub place: usize,
    /// How many quotas of the rule applied.
    pub quotas: usize,
    /// The quota itself.
    pub quota: &'a Quota,
    /// What its counter answered.
    pub outcome: &'a Outcome,
    pub(crate) members: &'a Members,
}

impl Counted<'_> {
    /// How its counter stands.
    pub fn status(&self) -> &Status {
        &self.outcome.status
    }

    /// Its name in headers: the rule's, with its number if there are several.
    pub fn name(&self) -> String {
        match self.quotas {
            1 => self.rule.name.clone(),
            _ => format!("{}.{}", self.rule.name, self.place + 1),
        }
    }

    /// Time to wait as a client is told: until the cost could pass on a denial, else until the counter is as new.
    pub(crate) fn wait(&self) -> Option<Duration> {
        match self.outcome.verdict {
            Verdict::Deny => self.outcome.retry_after,
            Verdict::Allow => Some(self.outcome.status.reset_after),
        }
    }
}
