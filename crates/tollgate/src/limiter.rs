//! A policy and the store it counts in: the one thing that adapters ask.

use std::sync::Arc;

use crate::{
    client::Proxies,
    clock::Clock,
    decision::{Concern, Decision},
    policy::{Policy, PolicyError, Rule, Terms, UnknownRule},
    quota::{Limits, LimitsError},
    request::Request,
    store::{
        StoreError, Stores,
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

/// How a request that had been allowed was answered, for what does not count after all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// With this status code by whatever does the work: rules that count only some answers may give it back.
    Status(u16),
    /// By Tollgate itself, since nobody else did: such rules never count that.
    ByUs,
    /// In a way that the application does not count, whatever the rules say: everything is given back.
    Uncounted,
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

    /// The same store, by another policy. Counters go on that have the same identity in both, as [`changes`](crate::policy::changes) tells.
    ///
    /// ```
    /// use tollgate::{algorithm::Verdict, limiter::Limiter, policy::{Policy, Rule}, request::Request};
    ///
    /// let few = Limiter::of([Rule::of("api", "1/hour")?])?;
    /// few.check_now(&Request::default());
    /// let more = few.following(Policy::new(Default::default(), None, Vec::new(), vec![Rule::of("api", "2/hour")?])?);
    /// assert_eq!(more.check_now(&Request::default()).verdict(), Verdict::Allow);
    /// assert_eq!(more.check_now(&Request::default()).verdict(), Verdict::Deny);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn following(&self, policy: Policy) -> Self {
        Self { policy: Arc::new(policy), store: self.store.clone() }
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

/// Whoever counts in memory alone can be asked as if he shared a store.
impl From<Limiter<MemoryStore>> for Limiter<Stores> {
    fn from(limiter: Limiter<MemoryStore>) -> Self {
        Self { policy: limiter.policy, store: Arc::new(Stores::from(limiter.store)) }
    }
}

/// What instances ask that share a store: the answer can be some time on its way, and if none comes, each rule has its own word.
impl Limiter<Stores> {
    /// Decides one request, spending from every counter it concerns.
    ///
    /// ```
    /// use tollgate::{algorithm::Verdict, limiter::Limiter, request::Request, store::Stores};
    ///
    /// # async fn asked() -> Result<(), Box<dyn std::error::Error>> {
    /// let limiter: Limiter<Stores> = Limiter::allowing("5/minute")?.into();
    /// let decision = limiter.check(&Request::default()).await;
    /// assert_eq!(decision.verdict(), Verdict::Allow);
    /// # Ok(())
    /// # }
    /// # use std::{pin::pin, task::{Context, Waker}};
    /// # assert!(pin!(asked()).poll(&mut Context::from_waker(Waker::noop())).is_ready());
    /// ```
    pub async fn check(&self, request: &Request<'_>) -> Decision {
        match self.begin(request, &Terms::default()) {
            Ok(decision) => decision,
            Err(undecided) => undecided.take().await,
        }
    }

    /// Tells what [`check`](Self::check) would decide, and spends nothing.
    pub async fn peek(&self, request: &Request<'_>) -> Decision {
        let concern = Concern::of(request, &self.policy, &Terms::default());
        let seen = self.store.look(&concern.charges()).await;
        concern.decided(seen)
    }

    /// Decides one request at once, if everything is counted in memory.
    ///
    /// # Errors
    ///
    /// A shared store has to be asked. What is known until then holds nothing of the request, so that whoever asks can pass that on.
    pub fn begin(&self, request: &Request<'_>, terms: &Terms) -> Result<Decision, Undecided> {
        let concern = Concern::of(request, &self.policy, terms);
        let Some(memory) = self.store.memory_alone() else {
            return Err(Undecided { concern, stores: self.store.clone() });
        };
        let taken = memory.take_now(&concern.charges());
        Ok(concern.decided(taken))
    }

    /// Gives back what does not count, once the answer is known. Call it at most once a decision; without an answer, not at all:
    /// what was charged then stays charged, as it does if its store cannot be reached.
    pub async fn settle(&self, decision: &Decision, answered: Answered) {
        if !self.settle_now(decision, answered) {
            self.store.give_back(&decision.uncounted(answered)).await;
        }
    }

    /// Does what [`settle`](Self::settle) does if it has nothing to wait for, and tells whether that was so.
    #[must_use = "if it is false, settling has to be awaited"]
    pub fn settle_now(&self, decision: &Decision, answered: Answered) -> bool {
        let given = decision.uncounted(answered);
        let memory = self.store.memory_alone();
        if let Some(memory) = memory {
            memory.give_back_now(&given);
        }
        memory.is_some() || given.is_empty()
    }

    /// Makes every counter as new that this request concerns.
    ///
    /// # Errors
    ///
    /// The shared store could not.
    pub async fn clear(&self, request: &Request<'_>) -> Result<(), StoreError> {
        self.store.clear(&Concern::of(request, &self.policy, &Terms::default()).charges()).await
    }
}

/// A request whose rules and keys are known, and whose charges no store has answered yet.
#[derive(Debug)]
pub struct Undecided {
    concern: Concern,
    stores: Arc<Stores>,
}

impl Undecided {
    /// Takes the charges.
    pub async fn take(self) -> Decision {
        let taken = self.stores.take(&self.concern.charges()).await;
        self.concern.decided(taken)
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

    /// Decides one request, spending from every counter it concerns.
    pub fn check_now(&self, request: &Request<'_>) -> Decision {
        self.check_on_terms_now(request, &Terms::default())
    }

    /// The same on terms that the rules do not know.
    pub fn check_on_terms_now(&self, request: &Request<'_>, terms: &Terms) -> Decision {
        let concern = Concern::of(request, &self.policy, terms);
        let taken = self.store.take_now(&concern.charges());
        concern.decided(taken)
    }

    /// Tells what [`check_now`](Self::check_now) would decide, and spends nothing.
    pub fn peek_now(&self, request: &Request<'_>) -> Decision {
        let concern = Concern::of(request, &self.policy, &Terms::default());
        let seen = self.store.look_now(&concern.charges());
        concern.decided(seen)
    }

    /// Makes every counter as new that this request concerns.
    pub fn clear_now(&self, request: &Request<'_>) {
        self.store.clear_now(&Concern::of(request, &self.policy, &Terms::default()).charges());
    }

    /// Gives back what does not count, once the answer is known. Call it at most once a decision; without an answer, not at all:
    /// what was charged then stays charged.
    pub fn settle_now(&self, decision: &Decision, answered: Answered) {
        self.store.give_back_now(&decision.uncounted(answered));
    }
}
