//! The whole answer to a request: a verdict, and how every counter stands that it concerned. The strictest speaks first.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use smallvec::SmallVec;

use crate::{
    algorithm::{Outcome, Status, Verdict},
    client::Client,
    clock::Timestamp,
    headers::{Members, whole_seconds},
    key::Key,
    limiter::Answered,
    policy::{Count, Fit, Fits, Mode, OnStoreError, Policy, Quotas, Rule, Terms},
    quota::Quota,
    request::Request,
    store::{Answerer, Answerers, Charge, GiveBack, Outcomes, Taken},
};

/// What somebody is told to wait whom a rule denies for want of its store. A guess: it can be back sooner or later.
pub(crate) const UNAVAILABLE_FOR: Duration = Duration::from_secs(1);

/// What was decided about one request, and why. Clones are the same decision.
// It is large, and handed from one to the next, so what is handed on is where it is.
#[derive(Clone, Debug)]
pub struct Decision(Arc<Decided>);

/// A request whose rules and keys are known, and that no store has decided yet.
#[derive(Debug)]
pub(crate) struct Concern(Arc<Decided>);

#[derive(Debug)]
struct Decided {
    policy: Arc<Policy>,
    client: Client,
    fits: Fits,
    at: Timestamp,
    outcomes: Outcomes,
    verdict: Verdict,
    /// What is not as it mostly is: that one store has answered for all rules.
    apart: Option<Box<Apart>>,
}

/// What a decision remembers when not one store has answered for all rules that fit.
#[derive(Clone, Debug)]
struct Apart {
    /// Who has answered for each of the rules that were answered.
    answerers: Answerers,
    /// Rules, by their place in the policy, that deny while their store cannot answer.
    unavailable: SmallVec<[usize; 4]>,
}

impl Concern {
    /// Finds out who asks, and which rules fit.
    pub(crate) fn of(request: &Request<'_>, policy: &Arc<Policy>, terms: &Terms) -> Self {
        let mut concern = Self(Arc::new(Decided {
            policy: policy.clone(),
            client: policy.proxies().identify(request),
            fits: Fits::new(),
            at: Timestamp::default(),
            outcomes: Outcomes::new(),
            verdict: Verdict::Allow,
            apart: None,
        }));
        let Decided { client, fits, .. } = concern.make();
        policy.fit(request, client, terms, fits);
        concern
    }

    /// The charges of the rules that fit, as a store takes them.
    pub(crate) fn charges(&self) -> SmallVec<[Charge<'_>; 4]> {
        let Decided { policy, fits, .. } = &*self.0;
        fits.iter().map(|fit| charge(&policy.rules()[fit.rule], fit)).collect()
    }

    /// What a store has answered to them is the decision.
    #[inline]
    pub(crate) fn decided(mut self, taken: Taken) -> Decision {
        let decided = self.make();
        (decided.at, decided.outcomes) = (taken.at, taken.outcomes);
        if let Some(answerers) = taken.answerers {
            decided.leave_out_unanswered(*answerers);
        }
        // Few are denied, and of those some in shadow.
        if decided.apart.is_some() || decided.outcomes.iter().any(|outcome| outcome.verdict == Verdict::Deny) {
            decided.verdict = decided.judge();
        }
        Decision(self.0)
    }

    fn make(&mut self) -> &mut Decided {
        Arc::get_mut(&mut self.0).expect("nobody else has it until it is decided")
    }
}

impl Decided {
    /// Rules that nobody has answered for have nothing to tell, but those that deny in such a case.
    fn leave_out_unanswered(&mut self, mut answerers: Answerers) {
        let denies = |rule: &Rule| rule.mode == Mode::Enforce && rule.sharing.on_store_error == OnStoreError::Deny;
        let of_fits = || self.fits.iter().zip(&answerers.of_charges);
        let unreachable =
            of_fits().filter(|(_, (answerer, _))| *answerer == Answerer::Unreachable).map(|(fit, _)| fit.rule);
        let unavailable = unreachable.filter(|rule| denies(&self.policy.rules()[*rule])).collect();
        let mut has_answered = answerers.of_charges.iter().map(|(answerer, _)| answerer.has_answered());
        self.fits.retain(|_| has_answered.next().unwrap_or(false));
        answerers.of_charges.retain(|(answerer, _)| answerer.has_answered());
        self.apart = Some(Box::new(Apart { answerers, unavailable }));
    }

    /// Rules in shadow do not deny.
    fn judge(&self) -> Verdict {
        let is_unavailable = self.apart.as_ref().is_some_and(|apart| !apart.unavailable.is_empty());
        let denies = |outcomes: &[Outcome]| outcomes.iter().any(|outcome| outcome.verdict == Verdict::Deny);
        let mut enforced = self.taken().filter(|(_, rule, ..)| rule.mode == Mode::Enforce);
        match is_unavailable || enforced.any(|(.., outcomes)| denies(outcomes)) {
            true => Verdict::Deny,
            false => Verdict::Allow,
        }
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
}

impl Decision {
    /// Whether the request may pass.
    pub fn verdict(&self) -> Verdict {
        self.0.verdict
    }

    /// Who asked.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// When it was decided, by the store's clock.
    pub fn at(&self) -> Timestamp {
        self.0.at
    }

    /// Every quota of every rule that fitted, in file order, as it stands after the decision.
    pub fn counted(&self) -> impl Iterator<Item = Counted<'_>> {
        self.0.taken().flat_map(|(fit, rule, quotas, outcomes)| counted(fit, rule, quotas, outcomes))
    }

    /// The rules that fitted, in file order: the place of each in the policy, the key it counted by, and whether one of its
    /// quotas was exceeded.
    pub fn rules(&self) -> impl Iterator<Item = (usize, &Rule, &Key, Verdict)> {
        self.0.taken().map(|(fit, rule, _, outcomes)| {
            let exceeded = outcomes.iter().find(|outcome| outcome.verdict == Verdict::Deny);
            (fit.rule, rule, &fit.key, exceeded.map_or(Verdict::Allow, |outcome| outcome.verdict))
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

    /// The names of the rules that refused, those first that did so for want of their store.
    pub fn denied_by(&self) -> impl Iterator<Item = &str> {
        self.unavailable_by().chain(self.exceeded(Mode::Enforce))
    }

    /// The names of the rules that refused since the store that instances share could not answer: not for what anybody did.
    pub fn unavailable_by(&self) -> impl Iterator<Item = &str> {
        let unavailable = self.0.apart.iter().flat_map(|apart| &apart.unavailable);
        unavailable.map(|rule| self.0.policy.rules()[*rule].name.as_str())
    }

    /// The names of the rules in shadow that would have refused.
    pub fn shadow_denied_by(&self) -> impl Iterator<Item = &str> {
        self.exceeded(Mode::Shadow)
    }

    /// Time until the request could pass, if nobody else is charged: the longest of those that refused. None if it was
    /// allowed, or if it can never fit.
    pub fn retry_after(&self) -> Option<Duration> {
        // Of those that refused, the one to tell about has the longest wait.
        let shown = self.shown().filter(|shown| shown.outcome.verdict == Verdict::Deny);
        let refused = shown.map(|shown| shown.outcome.retry_after);
        let unavailable = self.unavailable_by().next().map(|_| Some(UNAVAILABLE_FOR));
        // Never is longer than any time.
        refused.into_iter().chain(unavailable).max_by_key(|wait| longest(*wait))?
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
        let mut shown = None::<Counted<'_>>;
        self.each_enforced(which, |other| {
            if shown.as_ref().is_none_or(|first| is_stricter(other.outcome, first.outcome)) {
                shown = Some(other);
            }
        });
        shown
    }

    /// Rules that fitted and enforce, in file order.
    pub(crate) fn enforced_rules(&self) -> impl Iterator<Item = &Rule> {
        let rules = self.0.fits.iter().map(|fit| &self.0.policy.rules()[fit.rule]);
        rules.filter(|rule| rule.mode == Mode::Enforce)
    }

    /// Shows the quotas of those enforcing rules, in file order.
    pub(crate) fn each_enforced<'a>(&'a self, which: impl Fn(&Rule) -> bool, mut show: impl FnMut(Counted<'a>)) {
        for (fit, rule, quotas, outcomes) in self.0.taken() {
            if rule.mode == Mode::Enforce && which(rule) {
                counted(fit, rule, quotas, outcomes).for_each(&mut show);
            }
        }
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

    /// Whether a rule that has fitted counts only some answers.
    pub(crate) fn counts_some_answers(&self) -> bool {
        self.0.fits.iter().any(|fit| self.0.policy.rules()[fit.rule].count != Count::All)
    }

    /// What is to be given back once it is known how the request was answered.
    pub(crate) fn uncounted(&self, answered: Answered) -> SmallVec<[GiveBack<'_>; 2]> {
        let is_counted = |rule: &Rule| match (answered, &rule.count) {
            (Answered::Uncounted, _) => false,
            (_, Count::All) => true,
            (Answered::ByUs, Count::Status(_)) => false,
            (Answered::Status(code), Count::Status(counted)) => counted.contains(&code),
        };
        // Rules in shadow can have taken nothing although the request has passed.
        let has_taken = |outcomes: &[Outcome]| outcomes.iter().all(|outcome| outcome.verdict == Verdict::Allow);
        let mut uncounted = SmallVec::new();
        if self.0.verdict == Verdict::Allow {
            for (place, (fit, rule, _, outcomes)) in self.0.taken().enumerate() {
                if !is_counted(rule) && has_taken(outcomes) {
                    uncounted.push(self.given_back(place, charge(rule, fit)));
                }
            }
        }
        uncounted
    }

    fn given_back<'a>(&self, place: usize, charge: Charge<'a>) -> GiveBack<'a> {
        let Some(Apart { answerers, .. }) = self.0.apart.as_deref() else { return GiveBack::new(charge, self.0.at) };
        let (taken_by, at) = answerers.of_charges.get(place).copied().unwrap_or((Answerer::Store, self.0.at));
        GiveBack { charge, at, taken_by }
    }
}

fn counted<'a>(
    fit: &'a Fit,
    rule: &'a Rule,
    quotas: &'a Quotas,
    outcomes: &'a [Outcome],
) -> impl Iterator<Item = Counted<'a>> {
    quotas.iter().zip(outcomes).enumerate().map(move |(place, ((_, quota), outcome))| Counted {
        rule,
        key: &fit.key,
        place,
        quotas: quotas.len(),
        quota,
        members: quotas.members(place),
        outcome,
    })
}

fn charge<'a>(rule: &'a Rule, fit: &'a Fit) -> Charge<'a> {
    Charge { rule: &rule.name, mode: rule.mode, key: &fit.key, quotas: fit.quotas(rule), cost: fit.cost }
}

/// Whether the quota with the one outcome is told about rather than that with the other.
fn is_stricter(one: &Outcome, other: &Outcome) -> bool {
    match (one.verdict, other.verdict) {
        (Verdict::Deny, Verdict::Allow) => true,
        (Verdict::Allow, Verdict::Deny) => false,
        (Verdict::Deny, Verdict::Deny) => {
            let rank = |outcome: &Outcome| (longest(outcome.retry_after), outcome.status.reset_after);
            rank(one) > rank(other)
        }
        (Verdict::Allow, Verdict::Allow) => {
            let rank = |outcome: &Outcome| (Reverse(outcome.status.remaining), outcome.status.reset_after);
            rank(one) > rank(other)
        }
    }
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
