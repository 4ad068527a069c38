//! Limits for any action by counters that instances share: what [`Throttle`] does in memory, with answers that are awaited, and
//! the rule's own word while none comes.

use std::time::Duration;

use smallvec::smallvec;

use super::{Admission, Attempt, AttemptError, Denied, Throttle, reset_after, shown};
use crate::{
    algorithm::{Outcome, Status, Verdict},
    clock::Timestamp,
    decision::UNAVAILABLE_FOR,
    key::Key,
    limiter::Limiter,
    policy::{OnStoreError, UnknownRule},
    store::{Answerer, Charge, Outcomes, StoreError, Stores, Taken},
};

impl Limiter<Stores> {
    /// The counters of one rule for callers without a request: the same ones that requests are counted by, if the keys are.
    ///
    /// ```
    /// use tollgate::{limiter::Limiter, policy::Rule, store::Stores};
    ///
    /// # async fn mails() -> Result<(), Box<dyn std::error::Error>> {
    /// let limiter: Limiter<Stores> = Limiter::of([Rule::of("mails", "2/hour")?])?.into();
    /// let mails = limiter.throttle("mails")?;
    /// assert_eq!(mails.attempt("ann", async { "sent" }).await, Ok("sent"));
    /// assert_eq!(mails.remaining("ann").await, 1);
    /// # Ok(())
    /// # }
    /// # use std::{pin::pin, task::{Context, Waker}};
    /// # assert!(pin!(mails()).poll(&mut Context::from_waker(Waker::noop())).is_ready());
    /// ```
    ///
    /// # Errors
    ///
    /// No rule is called so, ignoring case.
    pub fn throttle(&self, rule: &str) -> Result<Throttle<Stores>, UnknownRule> {
        Ok(Throttle::of_rule(self.policy().named(rule)?, self.shared_store()))
    }
}

/// By counters that instances share. While their store cannot answer, a rule counts in memory, lets everything pass as if it had no
/// limit, or denies everything for a second at a time, as its [`OnStoreError`] says.
impl Throttle<Stores> {
    /// Takes the cost of one action.
    ///
    /// # Errors
    ///
    /// It does not fit, and nothing is taken.
    pub async fn check(&self, key: impl Into<Key>) -> Result<Admission, Denied> {
        let key = key.into();
        let charge = self.charge(&key, self.cost);
        let taken = self.answered(&charge, self.store.take(&[charge]).await);
        match self.denied_by(&taken) {
            Some(denied) => Err(denied),
            None => {
                let Answered { at, outcomes, by } = taken;
                Ok(Admission { status: shown(&outcomes), key, cost: self.cost, at, taken_by: by })
            }
        }
    }

    /// Tells what [`check`](Self::check) would answer, and takes nothing.
    ///
    /// # Errors
    ///
    /// It would not fit.
    pub async fn peek(&self, key: impl Into<Key>) -> Result<Status, Denied> {
        let seen = self.look(&key.into(), self.cost).await;
        self.denied_by(&seen).map_or_else(|| Ok(shown(&seen.outcomes)), Err)
    }

    /// How the key stands: by the quota with the least remaining.
    pub async fn status(&self, key: impl Into<Key>) -> Status {
        shown(&self.look(&key.into(), 0).await.outcomes)
    }

    /// How many units could be taken now; `u64::MAX` if there is no limit.
    pub async fn remaining(&self, key: impl Into<Key>) -> u64 {
        self.status(key).await.remaining
    }

    /// Time until the key is as new.
    pub async fn reset_after(&self, key: impl Into<Key>) -> Duration {
        reset_after(&self.look(&key.into(), 0).await.outcomes)
    }

    /// Makes the key as new.
    ///
    /// # Errors
    ///
    /// The shared store could not: then it is as new in memory alone.
    pub async fn clear(&self, key: impl Into<Key>) -> Result<(), StoreError> {
        self.store.clear(&[self.charge(&key.into(), 0)]).await
    }

    /// Gives back what this throttle or a clone of it has taken, as far as it still counts and its store answers.
    pub async fn give_back(&self, admission: Admission) {
        self.store.give_back(&[self.given(&admission)]).await;
    }

    /// Awaits the action if it may run. What it took stays charged if it panics or is cancelled, for then nobody is there to wait
    /// for the store; unless that was counted in memory, which gives it back.
    ///
    /// # Errors
    ///
    /// It may not, and has not been polled. Whatever the action returns is a value.
    pub async fn attempt<T>(&self, key: impl Into<Key>, action: impl Future<Output = T>) -> Result<T, Denied> {
        let attempt = self.begin(key).await?;
        let value = action.await;
        attempt.succeeded();
        Ok(value)
    }

    /// Awaits the action if it may run, and gives back what it took if it fails. If it panics or is cancelled, what
    /// [`attempt`](Self::attempt) says.
    ///
    /// # Errors
    ///
    /// It may not, and has not been polled; or it failed.
    pub async fn try_attempt<T, E>(
        &self,
        key: impl Into<Key>,
        action: impl Future<Output = Result<T, E>>,
    ) -> Result<T, AttemptError<E>> {
        let attempt = self.begin(key).await?;
        match action.await {
            Ok(value) => {
                attempt.succeeded();
                Ok(value)
            }
            Err(error) => {
                attempt.failed().await;
                Err(AttemptError::Failed(error))
            }
        }
    }

    /// Takes the cost of one action, and sleeps until it fits, but for no longer than `at_most` in all by the clock of the memory.
    /// `sleep` is the one of the caller's runtime, such as `tokio::time::sleep`. Who comes first when it fits has it: there is no
    /// queue.
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
        let now = || self.store.memory().now();
        let (key, deadline) = (key.into(), now() + at_most);
        loop {
            match self.check(key.clone()).await {
                Ok(admission) => return Ok(admission),
                Err(denied) => sleep(denied.sleep(now(), deadline)?).await,
            }
        }
    }

    async fn begin(&self, key: impl Into<Key>) -> Result<Attempt<'_, Stores>, Denied> {
        let admission = self.check(key).await?;
        Ok(Attempt::new(self, self.store.memory(), admission))
    }

    async fn look(&self, key: &Key, cost: u64) -> Answered {
        let charge = self.charge(key, cost);
        self.answered(&charge, self.store.look(&[charge]).await)
    }

    fn answered(&self, charge: &Charge<'_>, taken: Taken) -> Answered {
        let Taken { at, outcomes, answerers } = taken;
        let (by, at) = match answerers.and_then(|answerers| answerers.of_charges.first().copied()) {
            Some(answered) => answered,
            None if self.store.counts_in_memory(charge) => (Answerer::Memory, at),
            None => (Answerer::Store, at),
        };
        let denies = by == Answerer::Unreachable && charge.quotas.sharing().on_store_error == OnStoreError::Deny;
        Answered { at, outcomes: if denies { smallvec![UNAVAILABLE] } else { outcomes }, by }
    }

    fn denied_by(&self, answered: &Answered) -> Option<Denied> {
        let denied = self.denied(&answered.outcomes)?;
        Some(match answered.by {
            Answerer::Unreachable => Denied { limit: None, ..denied },
            _ => denied,
        })
    }
}

impl Attempt<'_, Stores> {
    async fn failed(mut self) {
        if let Some(admission) = self.admission.take() {
            self.throttle.give_back(admission).await;
        }
    }
}

/// What was answered to one charge, and by whom.
struct Answered {
    at: Timestamp,
    /// None of a rule that lets everything pass since its store cannot answer.
    outcomes: Outcomes,
    by: Answerer,
}

/// What a rule answers that denies since its store cannot.
const UNAVAILABLE: Outcome = Outcome {
    verdict: Verdict::Deny,
    status: Status { limit: 0, remaining: 0, refill_after: Some(UNAVAILABLE_FOR), reset_after: UNAVAILABLE_FOR },
    retry_after: Some(UNAVAILABLE_FOR),
};
