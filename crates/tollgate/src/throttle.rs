//! Limits for any action, without a request: a mail, a report, a change to a model.

mod denied;

use std::{sync::Arc, time::Duration};

pub use denied::{AttemptError, Denied};

use crate::{
    algorithm::{Outcome, Status, Verdict},
    clock::{Clock, Timestamp},
    key::Key,
    limiter::Limiter,
    policy::{Mode, Quotas, Rule, UnknownRule},
    quota::{Limits, LimitsError},
    store::{
        Charge, GiveBack,
        memory::{DEFAULT_COUNTERS, MemoryStore},
    },
};

/// So much of something for each key. Clones count in the same store.
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
#[derive(Clone, Debug)]
pub struct Throttle {
    store: Arc<MemoryStore>,
    rule: String,
    quotas: Quotas,
    cost: u64,
    keeps_failures: bool,
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

    pub(crate) fn of_rule(rule: &Rule, store: Arc<MemoryStore>) -> Self {
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
            None => Ok(Admission { status: shown(&taken.outcomes), key, cost: self.cost, at: taken.at }),
        }
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
        seen.outcomes.iter().map(|outcome| outcome.status.reset_after).max().unwrap_or_default()
    }

    /// Makes the key as new.
    pub fn clear(&self, key: impl Into<Key>) {
        self.store.clear_now(&[self.charge(&key.into(), 0)]);
    }

    /// Gives back what this throttle or a clone of it has taken, as far as it still counts.
    pub fn give_back(&self, admission: Admission) {
        let Admission { key, cost, at, .. } = admission;
        self.store.give_back_now(&[GiveBack { charge: self.charge(&key, cost), at }]);
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
            match self.check_until(&key, deadline) {
                Ok(admission) => return Ok(admission),
                Err(Delay::Of(span)) => sleep(span).await,
                Err(Delay::TooLong(denied)) => return Err(denied),
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
            match self.check_until(&key, deadline) {
                Ok(admission) => return Ok(admission),
                // What this is for: the caller has no runtime that could wait in place of his thread.
                Err(Delay::Of(span)) => std::thread::sleep(span),
                Err(Delay::TooLong(denied)) => return Err(denied),
            }
        }
    }

    fn check_until(&self, key: &Key, deadline: Timestamp) -> Result<Admission, Delay> {
        let denied = match self.check(key.clone()) {
            Ok(admission) => return Ok(admission),
            Err(denied) => denied,
        };
        match denied.retry_after.filter(|span| self.store.now() + *span <= deadline) {
            Some(span) => Err(Delay::Of(span)),
            None => Err(Delay::TooLong(denied)),
        }
    }

    fn begin(&self, key: impl Into<Key>) -> Result<Attempt<'_>, Denied> {
        let admission = self.check(key)?;
        Ok(Attempt { throttle: self, admission: Some(admission).filter(|_| !self.keeps_failures) })
    }

    fn charge<'a>(&'a self, key: &'a Key, cost: u64) -> Charge<'a> {
        Charge { rule: &self.rule, mode: Mode::Enforce, key, quotas: &self.quotas, cost }
    }

    fn denied(&self, outcomes: &[Outcome]) -> Option<Denied> {
        let denying = self.quotas.iter().zip(outcomes).filter(|(_, outcome)| outcome.verdict == Verdict::Deny);
        // Never is longer than any time.
        let ((_, quota), outcome) =
            denying.max_by_key(|(_, outcome)| (outcome.retry_after.is_none(), outcome.retry_after))?;
        let limit = quota.limit().to_string();
        Some(Denied { rule: self.rule.clone(), limit, status: outcome.status, retry_after: outcome.retry_after })
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

/// What to do about a denial.
enum Delay {
    /// To sleep for so long, and try again.
    Of(Duration),
    /// To give up.
    TooLong(Denied),
}

/// The strictest of several quotas.
fn shown(outcomes: &[Outcome]) -> Status {
    let unlimited = Status { limit: u64::MAX, remaining: u64::MAX, refill_after: None, reset_after: Duration::ZERO };
    let statuses = outcomes.iter().map(|outcome| outcome.status);
    statuses.min_by_key(|status| (status.remaining, std::cmp::Reverse(status.reset_after))).unwrap_or(unlimited)
}

/// A charge that was taken: how the key stands after it, and what can be [given back](Throttle::give_back).
#[derive(Debug, PartialEq, Eq)]
pub struct Admission {
    status: Status,
    key: Key,
    cost: u64,
    at: Timestamp,
}

impl Admission {
    /// How the key stands: by the quota with the least remaining.
    pub fn status(&self) -> &Status {
        &self.status
    }
}

/// An action that has begun, and is given back if it does not come to a good end.
struct Attempt<'a> {
    throttle: &'a Throttle,
    /// None: it stays charged whatever happens.
    admission: Option<Admission>,
}

impl Attempt<'_> {
    fn succeeded(mut self) {
        self.admission = None;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(admission) = self.admission.take() {
            self.throttle.give_back(admission);
        }
    }
}
