//! What a limiter counts in when instances share a store: that one, and this instance's memory for what is not shared and for
//! when the shared one cannot answer.
//!
//! A request whose rules count in both is charged in memory first, since that is at hand. If it is denied there, the shared store
//! is not bothered; if the shared store denies it, it is given back in memory. So it can be denied for what another one takes
//! off again a moment later, but nothing is admitted twice.

use std::{fmt, pin::Pin, sync::Arc};

use smallvec::SmallVec;

use super::{
    Answerer, Answerers, Charge, GiveBack, Outcomes, Store, Taken,
    breaker::{Breaker, MayAsk},
    memory::MemoryStore,
    outage::{Health, Outage},
    passes,
};
use crate::{
    algorithm::{Outcome, Verdict},
    clock::Timestamp,
    policy::{Mode, OnStoreError, Place},
};

/// How many counters of this instance stand in for those of a shared store, and for rules that are not shared.
pub const LOCAL_COUNTERS: usize = 100_000;

/// Where the rules of a policy count: in the memory of this instance alone, or in a store that it shares with others.
///
/// While the shared store cannot answer, each rule has its own word ([`OnStoreError`]). What is counted in memory then stays there
/// until it counts no more, so that one outage after another refills nothing. After some failures in a row, the store is left
/// alone for pauses of 100 ms to 1 s. The first request after one has it [tried](Store::probe), or tries it. Clones are the same
/// stores.
#[derive(Clone)]
pub struct Stores {
    memory: Arc<MemoryStore>,
    shared: Option<Arc<Shared>>,
}

struct Shared {
    store: Box<dyn AnyStore>,
    breaker: Breaker,
    outage: Outage,
}

/// Why a shared store could not do what it was asked to.
pub type StoreError = Box<dyn std::error::Error + Send + Sync>;

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stores").field("memory", &self.memory).finish_non_exhaustive()
    }
}

impl From<Arc<MemoryStore>> for Stores {
    fn from(memory: Arc<MemoryStore>) -> Self {
        Self { memory, shared: None }
    }
}

impl Stores {
    /// Counts in `store`, and in `memory` what is not shared or cannot be. `tell` is told when the store does not answer and when
    /// it does again, once each, for somebody to read.
    pub fn sharing(
        store: impl Store + 'static,
        memory: MemoryStore,
        tell: impl Fn(Health) + Send + Sync + 'static,
    ) -> Self {
        let shared = Shared { store: Box::new(store), breaker: Breaker::default(), outage: Outage::new(tell) };
        Self { memory: Arc::new(memory), shared: Some(Arc::new(shared)) }
    }

    /// The memory of this instance.
    pub fn memory(&self) -> &MemoryStore {
        &self.memory
    }

    /// The memory, if that is all there is: then nobody has to wait for an answer.
    pub(crate) fn memory_alone(&self) -> Option<&MemoryStore> {
        self.shared.is_none().then_some(&*self.memory)
    }

    /// Whether a charge is counted in memory even when the shared store answers.
    pub(crate) fn counts_in_memory(&self, charge: &Charge<'_>) -> bool {
        self.shared.is_none() || !is_shared(charge)
    }

    /// Since when the shared store has not answered, by the clock of the memory; none if it does.
    pub fn degraded_since(&self) -> Option<Timestamp> {
        self.shared.as_ref().and_then(|shared| shared.outage.since())
    }

    /// How many times the shared store has stopped to answer, as it was told.
    pub fn outages(&self) -> u64 {
        self.shared.as_ref().map_or(0, |shared| shared.outage.begun())
    }

    /// Takes all the enforced charges or none; shadow charges each by itself if the request passes.
    pub async fn take(&self, charges: &[Charge<'_>]) -> Taken {
        self.decide(charges, Spending::Yes).await
    }

    /// Tells what [`take`](Self::take) would answer, and takes nothing.
    pub async fn look(&self, charges: &[Charge<'_>]) -> Taken {
        self.decide(charges, Spending::No).await
    }

    /// Takes charges off again, as far as they still count and their store answers.
    pub async fn give_back(&self, given: &[GiveBack<'_>]) {
        let is_theirs = |given: &GiveBack<'_>| given.taken_by == Answerer::Store && is_shared(&given.charge);
        let (theirs, ours): (SmallVec<[_; 4]>, SmallVec<[_; 4]>) = given.iter().copied().partition(is_theirs);
        match &self.shared {
            None => self.memory.give_back_now(given),
            Some(shared) => {
                self.memory.give_back_now(&ours);
                if !theirs.is_empty() {
                    // Whatever cannot be given back stays charged.
                    let _ = self.ask(shared, shared.store.give_back(&theirs)).await;
                }
            }
        }
    }

    /// Makes the counters of these charges as new, here and in the shared store.
    ///
    /// # Errors
    ///
    /// The shared store could not.
    pub async fn clear(&self, charges: &[Charge<'_>]) -> Result<(), StoreError> {
        self.memory.clear_now(charges);
        let theirs: Charges<'_> = charges.iter().filter(|charge| is_shared(charge)).copied().collect();
        match &self.shared {
            Some(shared) if !theirs.is_empty() => shared.store.clear(&theirs).await,
            _ => Ok(()),
        }
    }

    /// Tells the shared store that other rules hold from now on.
    pub fn rules_changed(&self) {
        if let Some(shared) = &self.shared {
            shared.store.rules_changed();
        }
    }

    async fn decide(&self, charges: &[Charge<'_>], spending: Spending) -> Taken {
        let (theirs, ours): (Charges<'_>, Charges<'_>) = charges.iter().copied().partition(is_shared);
        let Some(shared) = self.shared.as_ref().filter(|_| !theirs.is_empty()) else {
            return self.in_memory(charges, spending);
        };
        let taken_here = self.in_memory(&ours, spending);
        if !passes(&ours, &taken_here.outcomes) {
            return join(charges, |charge| here_or(Answerer::Unasked, charge), None, taken_here);
        }
        // That nobody had to be asked says nothing of whether anybody would answer.
        let at_hand = if spending == Spending::Yes { shared.store.take_at_hand(&theirs) } else { None };
        let answer = match (at_hand, spending) {
            (Some(answer), _) => Some(answer),
            (None, Spending::Yes) => self.ask(shared, shared.store.take(&theirs)).await,
            (None, Spending::No) => self.ask(shared, shared.store.look(&theirs)).await,
        };
        match answer {
            Some(answer) if pass(&theirs, &answer) => {
                join(charges, |charge| here_or(Answerer::Store, charge), Some(answer), taken_here)
            }
            Some(answer) => {
                let left = self.give_back_here(&ours, taken_here, spending);
                join(charges, |charge| here_or(Answerer::Store, charge), Some(answer), left)
            }
            None => {
                self.give_back_here(&ours, taken_here, spending);
                shared.outage.note(theirs.iter().map(|charge| charge.rule));
                self.without_store(charges, spending)
            }
        }
    }

    fn in_memory(&self, charges: &[Charge<'_>], spending: Spending) -> Taken {
        match spending {
            Spending::Yes => self.memory.take_now(charges),
            Spending::No => self.memory.look_now(charges),
        }
    }

    /// What is charged here is not to be, since the request is denied elsewhere.
    fn give_back_here(&self, ours: &[Charge<'_>], mut taken: Taken, spending: Spending) -> Taken {
        for (charge, outcomes) in by_charge_mut(ours, &mut taken.outcomes) {
            if outcomes.iter().any(|outcome| outcome.verdict == Verdict::Deny) {
                continue;
            }
            if spending == Spending::Yes {
                self.memory.give_back_now(&[GiveBack::new(*charge, taken.at)]);
            }
            let left = self.memory.look_now(&[Charge { cost: 0, ..*charge }]);
            for (outcome, left) in outcomes.iter_mut().zip(left.outcomes) {
                outcome.status = left.status;
            }
        }
        taken
    }

    /// Each rule has its own word.
    fn without_store(&self, charges: &[Charge<'_>], spending: Spending) -> Taken {
        let on_error = |charge: &Charge<'_>| charge.quotas.sharing().on_store_error;
        let denies = |charge: &Charge<'_>| {
            is_shared(charge) && charge.mode == Mode::Enforce && on_error(charge) == OnStoreError::Deny
        };
        if charges.iter().any(denies) {
            let answerer = |charge: &Charge<'_>| if denies(charge) { Answerer::Unreachable } else { Answerer::Unasked };
            let nothing = Taken::new(self.memory.now(), Outcomes::new());
            return join(charges, answerer, None, nothing);
        }
        let is_here = |charge: &Charge<'_>| !is_shared(charge) || on_error(charge) == OnStoreError::Local;
        let ours: Charges<'_> = charges.iter().filter(|charge| is_here(charge)).copied().collect();
        let answerer = |charge: &Charge<'_>| if is_here(charge) { Answerer::Memory } else { Answerer::Unreachable };
        join(charges, answerer, None, self.in_memory(&ours, spending))
    }

    /// What a shared store answers; none if it does not, or is left alone since it did not.
    async fn ask<T>(&self, shared: &Arc<Shared>, asked: Asked<'_, T>) -> Option<T> {
        let asked_at = self.memory.now();
        match shared.breaker.may_ask(asked_at) {
            MayAsk::Yes => {}
            MayAsk::No => return None,
            MayAsk::Try if self.probe(shared) => return None,
            MayAsk::Try => {}
        }
        let answer = asked.await;
        shared.note(asked_at, self.memory.now(), answer.as_ref().map(|_| ()).map_err(|error| &**error));
        answer.ok()
    }

    /// Has the store tried by nobody's request: whoever breaks off his requests could keep it from being found.
    fn probe(&self, shared: &Arc<Shared>) -> bool {
        let (told, memory, asked_at) = (shared.clone(), self.memory.clone(), self.memory.now());
        let tell = move |answer: Result<(), StoreError>| {
            told.note(asked_at, memory.now(), answer.as_ref().map(|_| ()).map_err(|error| &**error));
        };
        shared.store.probe(Box::new(tell))
    }
}

impl Shared {
    /// Notes whether the store has answered what it was asked.
    fn note(
        &self,
        asked_at: Timestamp,
        now: Timestamp,
        answer: Result<(), &(dyn std::error::Error + Send + Sync + 'static)>,
    ) {
        match answer {
            Ok(()) => {
                self.breaker.answered(asked_at);
                self.outage.answered(asked_at);
            }
            Err(error) => {
                self.breaker.failed(asked_at, now);
                self.outage.failed(now, error);
            }
        }
    }
}

type Charges<'a> = SmallVec<[Charge<'a>; 4]>;

/// Whether what is asked is to be taken, or only looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spending {
    Yes,
    No,
}

fn is_shared(charge: &Charge<'_>) -> bool {
    charge.quotas.sharing().place == Place::Shared
}

/// The memory answers for what is counted there, and this one for the rest.
fn here_or(other: Answerer, charge: &Charge<'_>) -> Answerer {
    if is_shared(charge) { other } else { Answerer::Memory }
}

/// Whether a request passes that a store has answered, perhaps not about all of its charges.
fn pass(charges: &[Charge<'_>], taken: &Taken) -> bool {
    let is_silent = |(answerer, _): &(Answerer, Timestamp)| !answerer.has_answered();
    match &taken.answerers {
        // A store leaves out charges of requests alone that it denies for others.
        Some(answerers) if answerers.of_charges.iter().any(is_silent) => false,
        _ => passes(charges, &taken.outcomes),
    }
}

/// One answer of what the store and the memory say of these charges.
fn join(
    charges: &[Charge<'_>],
    answerer: impl Fn(&Charge<'_>) -> Answerer,
    store: Option<Taken>,
    memory: Taken,
) -> Taken {
    let memory_at = memory.at;
    let Taken { at, outcomes, answerers } = store.unwrap_or(Taken::new(memory_at, Outcomes::new()));
    let mut of_store = answerers.map(|answerers| answerers.of_charges).unwrap_or_default().into_iter();
    let answerer = |charge: &Charge<'_>| match answerer(charge) {
        Answerer::Store => of_store.next().unwrap_or((Answerer::Store, at)),
        other => (other, memory_at),
    };
    let of_charges: SmallVec<[(Answerer, Timestamp); 4]> = charges.iter().map(answerer).collect();
    if of_charges.iter().all(|answerer| *answerer == (Answerer::Store, at)) {
        return Taken::new(at, outcomes);
    }
    let (mut theirs, mut ours) = (outcomes.into_iter(), memory.outcomes.into_iter());
    let mut outcomes = Outcomes::new();
    for (charge, (answerer, _)) in charges.iter().zip(&of_charges) {
        match answerer {
            Answerer::Store => outcomes.extend(theirs.by_ref().take(charge.quotas.len())),
            Answerer::Memory => outcomes.extend(ours.by_ref().take(charge.quotas.len())),
            Answerer::Unasked | Answerer::Unreachable => {}
        }
    }
    Taken { at, outcomes, answerers: Some(Box::new(Answerers { of_charges })) }
}

/// The outcomes of each charge.
fn by_charge_mut<'a, 'b>(
    charges: &'a [Charge<'b>],
    outcomes: &'a mut Outcomes,
) -> impl Iterator<Item = (&'a Charge<'b>, &'a mut [Outcome])> {
    let mut rest = outcomes.as_mut_slice();
    charges.iter().map(move |charge| {
        let (of_charge, others) = std::mem::take(&mut rest).split_at_mut(charge.quotas.len());
        rest = others;
        (charge, of_charge)
    })
}

/// What was asked of a shared store.
type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Any shared store: the box of its answer is nothing beside the way there.
trait AnyStore: Send + Sync {
    fn probe(&self, tell: Box<dyn FnOnce(Result<(), StoreError>) + Send>) -> bool;
    fn take_at_hand(&self, charges: &[Charge<'_>]) -> Option<Taken>;
    fn take<'a>(&'a self, charges: &'a [Charge<'a>]) -> Asked<'a, Taken>;
    fn look<'a>(&'a self, charges: &'a [Charge<'a>]) -> Asked<'a, Taken>;
    fn give_back<'a>(&'a self, given: &'a [GiveBack<'a>]) -> Asked<'a, ()>;
    fn clear<'a>(&'a self, charges: &'a [Charge<'a>]) -> Asked<'a, ()>;
    fn rules_changed(&self);
}

impl<S: Store> AnyStore for S {
    fn probe(&self, tell: Box<dyn FnOnce(Result<(), StoreError>) + Send>) -> bool {
        Store::probe(self, tell)
    }

    fn take_at_hand(&self, charges: &[Charge<'_>]) -> Option<Taken> {
        Store::take_at_hand(self, charges)
    }

    fn take<'a>(&'a self, charges: &'a [Charge<'a>]) -> Asked<'a, Taken> {
        Box::pin(async { Ok(Store::take(self, charges).await?) })
    }

    fn look<'a>(&'a self, charges: &'a [Charge<'a>]) -> Asked<'a, Taken> {
        Box::pin(async { Ok(Store::look(self, charges).await?) })
    }

    fn give_back<'a>(&'a self, given: &'a [GiveBack<'a>]) -> Asked<'a, ()> {
        Box::pin(async { Ok(Store::give_back(self, given).await?) })
    }

    fn clear<'a>(&'a self, charges: &'a [Charge<'a>]) -> Asked<'a, ()> {
        Box::pin(async { Ok(Store::clear(self, charges).await?) })
    }

    fn rules_changed(&self) {
        Store::rules_changed(self);
    }
}
