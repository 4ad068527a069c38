//! Limits for any action, without a request: a mail, a report, a change to a model. Here by counters in memory, which answer at
//! once; by those that instances share, in `shared`.

mod denied;
mod shared;

use std::{cmp::Reverse, sync::Arc, time::Duration};

pub use denied::{AttemptError, Denied};

use crate::{
    algorithm::{Outcome, Status, Verdict},
    clock::{Clock, Timestamp},
    key::Key,
    limiter::Limiter,
    policy::{Mode, Quotas, Rule, UnknownRule},
    quota::{Limits, LimitsError},
    store::{
        Answerer, Charge, GiveBack,
        memory::{DEFAULT_COUNTERS, MemoryStore},
    },
};

/// So much of something for each key. Clones count in the same store: in memory, or in one that instances share, which has to be
/// awaited ([`Limiter::throttle`]).
///
/// ```
/// use tollgate::throttle::Throttle;
///
/// let reports = Throttle::new("3/hour")?;
/// for _ in 0..3 {
///     assert_eq!(reports.attempt("customer:42", || "sent"), Ok("sent"));
/// }
/// let denied = reports.attempt("customer:42", || "sent").unwrap_err();
/// assert!(denied.retry_after().is_some());
/// assert_eq!(reports.remaining("customer:43"), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Throttle<S = MemoryStore> {
    store: Arc<S>,
    rule: String,
    quotas: Quotas,
    cost: u64,
    keeps_failures: bool,
}

impl<S> Clone for Throttle<S> {
    fn clone(&self) -> Self {
        let Self { store, rule, quotas, cost, keeps_failures } = self;
        Self {
            store: store.clone(),
            rule: rule.clone(),
            quotas: quotas.clone(),
            cost: *cost,
            keeps_failures: *keeps_failures,
        }
    }
}

impl<S> Throttle<S> {
    fn of_rule(rule: &Rule, store: Arc<S>) -> Self {
        let (name, quotas) = (rule.name.clone(), rule.quotas.clone());
        Self { store, rule: name, quotas, cost: 1, keeps_failures: false }
    }

    /// The same, but each action takes `cost` units, 1 at least.
    #[must_use]
    pub fn costing(mut self, cost: u64) -> Self {
        self.cost = cost.max(1);
        self
    }

    /// The same, but an action that fails, panics or is cancelled stays charged.
    #[must_use]
    pub fn keeping_failures(mut self) -> Self {
        self.keeps_failures = true;
        self
    }

    fn charge<'a>(&'a self, key: &'a Key, cost: u64) -> Charge<'a> {
        Charge { rule: &self.rule, mode: Mode::Enforce, key, quotas: &self.quotas, cost }
    }

    fn given<'a>(&'a self, admission: &'a Admission) -> GiveBack<'a> {
        let Admission { key, cost, at, taken_by, .. } = admission;
        GiveBack { charge: self.charge(key, *cost), at: *at, taken_by: *taken_by }
    }

    fn denied(&self, outcomes: &[Outcome]) -> Option<Denied> {
        let denying = self.quotas.iter().zip(outcomes).filter(|(_, outcome)| outcome.verdict == Verdict::Deny);
        // Never is longer than any time.
        let ((_, quota), outcome) =
            denying.max_by_key(|(_, outcome)| (outcome.retry_after.is_none(), outcome.retry_after))?;
        let (status, retry_after) = (outcome.status, outcome.retry_after);
        Some(Denied { rule: self.rule.clone(), limit: Some(quota.limit().to_string()), status, retry_after })
    }
}

impl Throttle {
    /// Allows so much for each key, counted in memory of its own on the system's clock.
    ///
    /// # Errors
    ///
    /// A limit string that is none, or that no algorithm counts.
    pub fn new<L>(limits: L) -> Result<Self, LimitsError>
    where
        L: TryInto<Limits>,
        LimitsError: From<L::Error>,
    {
        Self::on_clock(limits, Clock::system())
    }

    /// The same on a clock of the caller's, such as one that a test turns by hand.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollgate::{clock::{ManualClock, Timestamp}, throttle::Throttle};
    ///
    /// let clock = ManualClock::new(Timestamp::from_micros(0));
    /// let logins = Throttle::on_clock("1/minute", clock.clone().into())?;
    /// assert!(logins.check("ann").is_ok() && logins.check("ann").is_err());
    /// clock.advance(Duration::from_secs(60));
    /// assert!(logins.check("ann").is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// What [`new`](Self::new) says.
    pub fn on_clock<L>(limits: L, clock: Clock) -> Result<Self, LimitsError>
    where
        L: TryInto<Limits>,
        LimitsError: From<L::Error>,
    {
        Ok(Self::of(&Rule::of("default", limits)?, clock))
    }

    /// Allows what a rule does, whose name is said in denials, by its algorithm.
    pub fn of(rule: &Rule, clock: Clock) -> Self {
        Self::of_rule(rule, Arc::new(MemoryStore::new(DEFAULT_COUNTERS, clock)))
    }

    /// Takes the cost of one action.
    ///
    /// # Errors
    ///
    /// It does not fit, and nothing is taken.
    pub fn check(&self, key: impl Into<Key>) -> Result<Admission, Denied> {
        let key = key.into();
        let taken = self.store.take_now(&[self.charge(&key, self.cost)]);
        match self.denied(&taken.outcomes) {
            Some(denied) => Err(denied),
            None => {
                let status = shown(&taken.outcomes);
                Ok(Admission { status, key, cost: self.cost, at: taken.at, taken_by: Answerer::Memory })
            }
        }
    }

    /// Takes the cost of one action if it fits, and tells no more than that: the cheapest way to ask, for callers that keep
    /// their keys.
    ///
    /// ```
    /// use tollgate::{algorithm::Verdict, key::Key, throttle::Throttle};
    ///
    /// let packets = Throttle::new("1/minute")?;
    /// let sender = Key::from("ann");
    /// assert_eq!(packets.take(&sender), Verdict::Allow);
    /// assert_eq!(packets.take(&sender), Verdict::Deny);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take(&self, key: &Key) -> Verdict {
        self.store.take_one_now(&self.charge(key, self.cost))
    }

    /// Tells what [`check`](Self::check) would answer, and takes nothing.
    ///
    /// # Errors
    ///
    /// It would not fit.
    pub fn peek(&self, key: impl Into<Key>) -> Result<Status, Denied> {
        let seen = self.store.look_now(&[self.charge(&key.into(), self.cost)]);
        self.denied(&seen.outcomes).map_or_else(|| Ok(shown(&seen.outcomes)), Err)
    }

    /// How the key stands: by the quota with the least remaining.
    pub fn status(&self, key: impl Into<Key>) -> Status {
        shown(&self.store.look_now(&[self.charge(&key.into(), 0)]).outcomes)
    }

    /// How many units could be taken now; `u64::MAX` if there is no limit.
    pub fn remaining(&self, key: impl Into<Key>) -> u64 {
        self.status(key).remaining
    }

    /// Time until the key is as new.
    pub fn reset_after(&self, key: impl Into<Key>) -> Duration {
        let seen = self.store.look_now(&[self.charge(&key.into(), 0)]);
        reset_after(&seen.outcomes)
    }

    /// Makes the key as new.
    pub fn clear(&self, key: impl Into<Key>) {
        self.store.clear_now(&[self.charge(&key.into(), 0)]);
    }

    /// Gives back what this throttle or a clone of it has taken, as far as it still counts.
    pub fn give_back(&self, admission: Admission) {
        self.store.give_back_now(&[self.given(&admission)]);
    }

    /// Runs the action if it may, and gives back what it took if it panics.
    ///
    /// # Errors
    ///
    /// It may not, and has not been run. Whatever the action returns, a failure too, is a value.
    pub fn attempt<T>(&self, key: impl Into<Key>, action: impl FnOnce() -> T) -> Result<T, Denied> {
        let attempt = self.begin(key)?;
        let value = action();
        attempt.succeeded();
        Ok(value)
    }

    /// Runs the action if it may, and gives back what it took if it fails or panics.
    ///
    /// ```
    /// use tollgate::throttle::{AttemptError, Throttle};
    ///
    /// let mails = Throttle::new("1/hour")?;
    /// let refused = mails.try_attempt("ann", || Err::<(), _>("the server is down"));
    /// assert_eq!(refused, Err(AttemptError::Failed("the server is down")));
    /// assert_eq!(mails.remaining("ann"), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// It may not, and has not been run; or it failed.
    pub fn try_attempt<T, E>(
        &self,
        key: impl Into<Key>,
        action: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, AttemptError<E>> {
        let attempt = self.begin(key)?;
        let value = action().map_err(AttemptError::Failed)?;
        attempt.succeeded();
        Ok(value)
    }

    /// Awaits the action if it may run, and gives back what it took if it panics or is cancelled.
    ///
    /// # Errors
    ///
    /// It may not, and has not been polled. Whatever the action returns is a value.
    pub async fn attempt_async<T>(&self, key: impl Into<Key>, action: impl Future<Output = T>) -> Result<T, Denied> {
        let attempt = self.begin(key)?;
        let value = action.await;
        attempt.succeeded();
        Ok(value)
    }

    /// Awaits the action if it may run, and gives back what it took if it fails, panics or is cancelled.
    ///
    /// # Errors
    ///
    /// It may not, and has not been polled; or it failed.
    pub async fn try_attempt_async<T, E>(
        &self,
        key: impl Into<Key>,
        action: impl Future<Output = Result<T, E>>,
    ) -> Result<T, AttemptError<E>> {
        let attempt = self.begin(key)?;
        let value = action.await.map_err(AttemptError::Failed)?;
        attempt.succeeded();
        Ok(value)
    }

    /// Takes the cost of one action, and sleeps until it fits, but for no longer than `at_most` in all by the store's clock. The
    /// engine has no timer: `sleep` is the one of the caller's runtime, such as `tokio::time::sleep`. Who comes first when it fits
    /// has it: there is no queue.
    ///
    /// # Errors
    ///
    /// It would take longer, or can never fit: said at once, without sleeping.
    pub async fn wait<S: Future<Output = ()>>(
        &self,
        key: impl Into<Key>,
        at_most: Duration,
        mut sleep: impl FnMut(Duration) -> S,
    ) -> Result<Admission, Denied> {
        let (key, deadline) = (key.into(), self.store.now() + at_most);
        loop {
            match self.check(key.clone()) {
                Ok(admission) => return Ok(admission),
                Err(denied) => sleep(denied.sleep(self.store.now(), deadline)?).await,
            }
        }
    }

    /// What [`wait`](Self::wait) does, for callers without a runtime, whose thread sleeps.
    ///
    /// # Errors
    ///
    /// What [`wait`](Self::wait) says.
    pub fn wait_now(&self, key: impl Into<Key>, at_most: Duration) -> Result<Admission, Denied> {
        let (key, deadline) = (key.into(), self.store.now() + at_most);
        loop {
            match self.check(key.clone()) {
                Ok(admission) => return Ok(admission),
                // What this is for: the caller has no runtime that could wait in place of his thread.
                Err(denied) => std::thread::sleep(denied.sleep(self.store.now(), deadline)?),
            }
        }
    }

    fn begin(&self, key: impl Into<Key>) -> Result<Attempt<'_>, Denied> {
        let admission = self.check(key)?;
        Ok(Attempt::new(self, &self.store, admission))
    }
}

impl Limiter<MemoryStore> {
    /// The counters of one rule for callers without a request: the same ones that requests are counted by, if the keys are.
    ///
    /// ```
    /// use std::net::IpAddr;
    /// use tollgate::{limiter::Limiter, policy::Rule, request::Request};
    ///
    /// let limiter = Limiter::of([Rule::new("login", &"5/hour".parse()?, None)?])?;
    /// let client = IpAddr::from([203, 0, 113, 7]);
    /// limiter.check_now(&Request { peer: Some(client), ..Request::default() });
    ///
    /// let logins = limiter.throttle("login")?;
    /// assert_eq!(logins.remaining(client), 4);
    /// logins.clear(client);
    /// assert_eq!(logins.remaining(client), 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// No rule is called so, ignoring case.
    pub fn throttle(&self, rule: &str) -> Result<Throttle, UnknownRule> {
        Ok(Throttle::of_rule(self.policy().named(rule)?, self.shared_store()))
    }
}

/// The strictest of several quotas.
fn shown(outcomes: &[Outcome]) -> Status {
    let unlimited = Status { limit: u64::MAX, remaining: u64::MAX, refill_after: None, reset_after: Duration::ZERO };
    let statuses = outcomes.iter().map(|outcome| outcome.status);
    statuses.min_by_key(|status| (status.remaining, Reverse(status.reset_after))).unwrap_or(unlimited)
}

/// The last of several quotas to be as new.
fn reset_after(outcomes: &[Outcome]) -> Duration {
    outcomes.iter().map(|outcome| outcome.status.reset_after).max().unwrap_or_default()
}

/// A charge that was taken: how the key stands after it, and what can be [given back](Throttle::give_back).
#[derive(Debug, PartialEq, Eq)]
pub struct Admission {
    status: Status,
    key: Key,
    cost: u64,
    at: Timestamp,
    taken_by: Answerer,
}

impl Admission {
    /// How the key stands: by the quota with the least remaining.
    pub fn status(&self) -> &Status {
        &self.status
    }
}

/// An action that has begun, and is given back if it does not come to a good end: by being dropped in memory, which needs no
/// waiting.
struct Attempt<'a, S = MemoryStore> {
    throttle: &'a Throttle<S>,
    memory: &'a MemoryStore,
    /// None: it stays charged whatever happens.
    admission: Option<Admission>,
}

impl<'a, S> Attempt<'a, S> {
    fn new(throttle: &'a Throttle<S>, memory: &'a MemoryStore, admission: Admission) -> Self {
        Self { throttle, memory, admission: Some(admission).filter(|_| !throttle.keeps_failures) }
    }

    fn succeeded(mut self) {
        self.admission = None;
    }
}

impl<S> Drop for Attempt<'_, S> {
    fn drop(&mut self) {
        let in_memory = self.admission.take_if(|admission| admission.taken_by == Answerer::Memory);
        if let Some(admission) = in_memory {
            self.memory.give_back_now(&[self.throttle.given(&admission)]);
        }
    }
}
