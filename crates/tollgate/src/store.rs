//! The counters: every charge of a request taken together, or none.
//!
//! [`Store`] is the contract; the [`memory`] store keeps it within one process. Whatever a store is made of, the suite in
//! [`testing`](crate::testing) tells whether it keeps the contract too. [`Stores`] is what a limiter counts in when instances
//! share a store: that one, and memory for what is not shared and for when it cannot answer.

mod breaker;
pub mod memory;
mod outage;
mod stores;

use smallvec::SmallVec;

pub use outage::Health;
pub use stores::{LOCAL_COUNTERS, StoreError, Stores};

use crate::{
    algorithm::{Outcome, Verdict},
    clock::Timestamp,
    key::Key,
    policy::{Mode, Quotas},
};

/// What one rule asks of a store for one request: a cost, from each of its quotas, under one key.
#[derive(Clone, Copy, Debug)]
pub struct Charge<'a> {
    /// The rule's name.
    pub rule: &'a str,
    /// Whether the rule denies.
    pub mode: Mode,
    /// What the request is counted by.
    pub key: &'a Key,
    /// The quotas, each with the identity of its counters.
    pub quotas: &'a Quotas,
    /// Units to take from each; 0 only asks.
    pub cost: u64,
}

/// What a store answered to the charges of one request.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// The store's time when it answered.
    pub at: Timestamp,
    /// An outcome for each quota of each charge, in the order given, as it stands after the decision; of those charges that
    /// nobody has answered, none.
    pub outcomes: Outcomes,
    /// Who has answered which charge and when, if not the store all of them at one time.
    pub answerers: Option<Box<Answerers>>,
}

impl Taken {
    /// All outcomes by one store.
    pub fn new(at: Timestamp, outcomes: Outcomes) -> Self {
        Self { at, outcomes, answerers: None }
    }
}

/// Who has answered the charges of one request, and when.
#[derive(Clone, Debug, Default)]
pub struct Answerers {
    /// Who has answered each charge, in the order given, and when by the clock of whoever that was.
    pub of_charges: SmallVec<[(Answerer, Timestamp); 4]>,
}

/// Who has answered a charge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answerer {
    /// The store.
    #[default]
    Store,
    /// The memory of this instance, in its place.
    Memory,
    /// Nobody, since the request was denied for other charges and this one did not matter.
    Unasked,
    /// Nobody, since the store cannot answer.
    Unreachable,
}

impl Answerer {
    /// Whether there are outcomes.
    pub(crate) fn has_answered(self) -> bool {
        matches!(self, Self::Store | Self::Memory)
    }
}

/// Outcomes in order; a few of them need no allocation.
pub type Outcomes = SmallVec<[Outcome; 4]>;

/// A charge that is not to count after all.
#[derive(Clone, Copy, Debug)]
pub struct GiveBack<'a> {
    /// The charge as it was taken.
    pub charge: Charge<'a>,
    /// When it was: [`Taken::at`], or what its [`Answerers`] say of this charge. It names the windows and entries that were charged.
    pub at: Timestamp,
    /// Who took it.
    pub taken_by: Answerer,
}

impl<'a> GiveBack<'a> {
    /// What a store took at this time is given back to it.
    pub fn new(charge: Charge<'a>, at: Timestamp) -> Self {
        Self { charge, at, taken_by: Answerer::Store }
    }
}

/// Where counters live.
///
/// - [`take`](Self::take) takes the enforced charges of a request together: all of them or none, under any
///   interleaving. Each shadow charge is looked at always, and taken by itself, all its quotas or none, if the request
///   passes.
/// - No counter ever admits more than its quota. Time never goes back for a counter.
/// - It can tell instants until 100 years after it was made, no longer.
/// - The charges of one call concern different counters, as those of different rules do.
pub trait Store: Send + Sync {
    /// Why a store could not answer. A denial is an answer.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Takes all the enforced charges or none.
    fn take(&self, charges: &[Charge<'_>]) -> impl Future<Output = Result<Taken, Self::Error>> + Send;

    /// Takes all the enforced charges if it can tell that they fit, or that they do not, without asking anybody: from what it has in hand.
    /// None, or always none for a store that has nothing: [`take`](Self::take) has to be asked.
    fn take_at_hand(&self, _charges: &[Charge<'_>]) -> Option<Taken> {
        None
    }

    /// Asks whether the store answers, apart from any request, and tells when it is clear. False, or always false for a store that
    /// cannot: then a request has to try, and if its client gives it up, nobody has tried.
    fn probe(&self, _tell: Box<dyn FnOnce(Result<(), StoreError>) + Send>) -> bool {
        false
    }

    /// Tells what [`take`](Self::take) would answer, and takes nothing.
    fn look(&self, charges: &[Charge<'_>]) -> impl Future<Output = Result<Taken, Self::Error>> + Send;

    /// Takes charges off again, as far as they still count.
    fn give_back(&self, given: &[GiveBack<'_>]) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Makes the counters of these charges as new.
    fn clear(&self, charges: &[Charge<'_>]) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Is told that other rules hold from now on. A store that answers anything from memory of what it was asked forgets that.
    fn rules_changed(&self) {}
}

/// Whether a request with these outcomes passes: no quota of an enforcing rule denies it.
pub fn passes(charges: &[Charge<'_>], outcomes: &[Outcome]) -> bool {
    let mut rest = outcomes;
    charges.iter().all(|charge| {
        let (of_charge, others) = rest.split_at(charge.quotas.len());
        rest = others;
        charge.mode == Mode::Shadow || of_charge.iter().all(|outcome| outcome.verdict == Verdict::Allow)
    })
}
