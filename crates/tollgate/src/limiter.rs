//! A policy and the store it counts in: the one thing that adapters ask.

use std::sync::Arc;

use crate::{
    decision::{Decision, charges},
    policy::Policy,
    request::Request,
    store::{Store, memory::MemoryStore},
};

/// Decides requests by a policy, counting in a store.
///
/// ```
/// use tollgate::{
///     algorithm::Verdict, clock::Clock, limiter::Limiter, policy::{Policy, Rule}, request::Request, store::memory::MemoryStore,
/// };
///
/// let rule = Rule::new("api", &"5/minute".parse()?, None)?;
/// let policy = Policy::new(Default::default(), None, Vec::new(), vec![rule])?;
/// let limiter = Limiter::new(policy, MemoryStore::new(10_000, Clock::system()));
///
/// let request = Request { peer: Some([203, 0, 113, 7].into()), ..Request::default() };
/// let verdicts: Vec<_> = (0..6).map(|_| limiter.check_now(&request).verdict()).collect();
/// assert_eq!(verdicts[4..], [Verdict::Allow, Verdict::Deny]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Limiter<S = MemoryStore> {
    policy: Arc<Policy>,
    store: S,
}

/// How a request that had been allowed was answered, for rules that count only some answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// With this status code by whatever does the work.
    Status(u16),
    /// By Tollgate itself, since nobody else did: that never counts.
    ByUs,
}

impl Answered {
    fn status_code(self) -> Option<u16> {
        match self {
            Self::Status(code) => Some(code),
            Self::ByUs => None,
        }
    }
}

impl<S> Limiter<S> {
    /// Counts in `store` by `policy`.
    pub fn new(policy: Policy, store: S) -> Self {
        Self { policy: Arc::new(policy), store }
    }

    /// The policy it decides by.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The store it counts in.
    pub fn store(&self) -> &S {
        &self.store
    }
}

impl<S: Store> Limiter<S> {
    /// Decides one request, spending from every counter it concerns.
    ///
    /// # Errors
    ///
    /// The store could not answer.
    pub async fn check(&self, request: &Request<'_>) -> Result<Decision, S::Error> {
        let (client, fits) = self.policy.concern(request);
        let taken = self.store.take(&charges(&self.policy, &fits)).await?;
        Ok(Decision::new(self.policy.clone(), client, fits, taken))
    }

    /// Tells what [`check`](Self::check) would decide, and spends nothing.
    ///
    /// # Errors
    ///
    /// The store could not answer.
    pub async fn peek(&self, request: &Request<'_>) -> Result<Decision, S::Error> {
        let (client, fits) = self.policy.concern(request);
        let seen = self.store.look(&charges(&self.policy, &fits)).await?;
        Ok(Decision::new(self.policy.clone(), client, fits, seen))
    }

    /// Gives back what rules with `count: { status: … }` do not count, once the answer is known. Call it at most once a
    /// decision; without an answer, not at all: what was charged then stays charged.
    ///
    /// # Errors
    ///
    /// The store could not answer; what was to be given back stays charged.
    pub async fn settle(&self, decision: &Decision, answered: Answered) -> Result<(), S::Error> {
        match decision.uncounted(answered.status_code()) {
            given if given.is_empty() => Ok(()),
            given => self.store.give_back(&given).await,
        }
    }

    /// Makes every counter as new that this request concerns.
    ///
    /// # Errors
    ///
    /// The store could not answer.
    pub async fn clear(&self, request: &Request<'_>) -> Result<(), S::Error> {
        let (_, fits) = self.policy.concern(request);
        self.store.clear(&charges(&self.policy, &fits)).await
    }
}

impl Limiter<MemoryStore> {
    /// What [`check`](Self::check) decides, for callers without a runtime.
    pub fn check_now(&self, request: &Request<'_>) -> Decision {
        let (client, fits) = self.policy.concern(request);
        let taken = self.store.take_now(&charges(&self.policy, &fits));
        Decision::new(self.policy.clone(), client, fits, taken)
    }

    /// What [`settle`](Self::settle) does, for callers without a runtime.
    pub fn settle_now(&self, decision: &Decision, answered: Answered) {
        self.store.give_back_now(&decision.uncounted(answered.status_code()));
    }
}
