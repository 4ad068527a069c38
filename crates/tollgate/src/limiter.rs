//! A policy and the store it counts in: the one thing that adapters ask.

use std::sync::Arc;

use crate::{
    client::Proxies,
    clock::Clock,
    decision::{Decision, charges},
    policy::{Policy, PolicyError, Rule, Terms, UnknownRule},
    quota::{Limits, LimitsError},
    request::Request,
    store::{
        Store,
        memory::{DEFAULT_COUNTERS, MemoryStore},
    },
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
///
/// Clones count in the same store.
#[derive(Debug)]
pub struct Limiter<S = MemoryStore> {
    policy: Arc<Policy>,
    store: Arc<S>,
}

impl<S> Clone for Limiter<S> {
    fn clone(&self) -> Self {
        Self { policy: self.policy.clone(), store: self.store.clone() }
    }
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
        Self { policy: Arc::new(policy), store: Arc::new(store) }
    }

    /// The rule of this name alone, counted in the same store: what several routes refer to by name, they share.
    ///
    /// ```
    /// use tollgate::{limiter::Limiter, policy::Rule};
    ///
    /// let limiter = Limiter::of([Rule::new("api", &"100/minute".parse()?, None)?])?;
    /// assert_eq!(limiter.named("api")?.policy().rules().len(), 1);
    /// assert_eq!(limiter.named("apu").unwrap_err().to_string(), "there is no rule \"apu\", expected one of: api");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// No rule is called so, ignoring case.
    pub fn named(&self, name: &str) -> Result<Self, UnknownRule> {
        let policy = self.policy.only(self.policy.named(name)?);
        Ok(Self { policy: Arc::new(policy), store: self.store.clone() })
    }

    /// The same, but these proxies are believed in who the client is.
    #[must_use]
    pub fn trusting(self, proxies: Proxies) -> Self {
        let policy = Arc::unwrap_or_clone(self.policy).trusting(proxies);
        Self { policy: Arc::new(policy), store: self.store }
    }

    /// The policy it decides by.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The store it counts in.
    pub fn store(&self) -> &S {
        &self.store
    }

    pub(crate) fn shared_store(&self) -> Arc<S> {
        self.store.clone()
    }
}

impl<S: Store> Limiter<S> {
    /// Decides one request, spending from every counter it concerns.
    ///
    /// # Errors
    ///
    /// The store could not answer.
    pub async fn check(&self, request: &Request<'_>) -> Result<Decision, S::Error> {
        let (client, fits) = self.policy.concern(request, &Terms::default());
        let taken = self.store.take(&charges(&self.policy, &fits)).await?;
        Ok(Decision::new(self.policy.clone(), client, fits, taken))
    }

    /// Tells what [`check`](Self::check) would decide, and spends nothing.
    ///
    /// # Errors
    ///
    /// The store could not answer.
    pub async fn peek(&self, request: &Request<'_>) -> Result<Decision, S::Error> {
        let (client, fits) = self.policy.concern(request, &Terms::default());
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
        let (_, fits) = self.policy.concern(request, &Terms::default());
        self.store.clear(&charges(&self.policy, &fits)).await
    }
}

impl Limiter<MemoryStore> {
    /// Counts by these rules, in memory of its own for [`DEFAULT_COUNTERS`] counters, on the system's clock.
    ///
    /// # Errors
    ///
    /// What [`Policy::new`] says of these rules.
    pub fn of(rules: impl IntoIterator<Item = Rule>) -> Result<Self, PolicyError> {
        let policy = Policy::new(Proxies::default(), None, Vec::new(), rules.into_iter().collect())?;
        Ok(Self::new(policy, MemoryStore::new(DEFAULT_COUNTERS, Clock::system())))
    }

    /// Allows each client so much: one rule, `default`.
    ///
    /// # Errors
    ///
    /// A limit string that is none, or that no algorithm counts.
    pub fn allowing<L>(limits: L) -> Result<Self, LimitsError>
    where
        L: TryInto<Limits>,
        LimitsError: From<L::Error>,
    {
        let policy = Policy::of_one(Rule::of("default", limits)?);
        Ok(Self::new(policy, MemoryStore::new(DEFAULT_COUNTERS, Clock::system())))
    }

    /// The same rules and an empty store of the same size on another clock, such as one that a test turns by hand.
    ///
    /// ```
    /// use tollgate::{clock::{ManualClock, Timestamp}, limiter::Limiter};
    ///
    /// let clock = ManualClock::new(Timestamp::from_micros(0));
    /// let limiter = Limiter::allowing("5/minute")?.on_clock(clock.clone().into());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn on_clock(self, clock: Clock) -> Self {
        let store = MemoryStore::new(self.store.capacity(), clock);
        Self { policy: self.policy, store: Arc::new(store) }
    }

    /// What [`check`](Self::check) decides, for callers without a runtime.
    pub fn check_now(&self, request: &Request<'_>) -> Decision {
        self.check_on_terms_now(request, &Terms::default())
    }

    /// The same on terms that the rules do not know.
    pub fn check_on_terms_now(&self, request: &Request<'_>, terms: &Terms) -> Decision {
        let (client, fits) = self.policy.concern(request, terms);
        let taken = self.store.take_now(&charges(&self.policy, &fits));
        Decision::new(self.policy.clone(), client, fits, taken)
    }

    /// Gives everything back that an allowed request was charged, as far as it still counts. Call it at most once a decision.
    pub fn give_back_now(&self, decision: &Decision) {
        self.store.give_back_now(&decision.charged());
    }

    /// What [`settle`](Self::settle) does, for callers without a runtime.
    pub fn settle_now(&self, decision: &Decision, answered: Answered) {
        self.store.give_back_now(&decision.uncounted(answered.status_code()));
    }
}
