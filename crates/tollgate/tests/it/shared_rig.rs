//! A store that instances share as a test wants it: it answers, fails or hangs, and counts how often it is asked. And a limiter
//! that asks it, with memory on the same clock.

use std::{
    fmt,
    future::{Future, pending},
    mem,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tollgate::{
    algorithm::Verdict,
    clock::{Clock, ManualClock, Timestamp},
    decision::Decision,
    limiter::{Answered, Limiter},
    store::{Charge, GiveBack, Health, Store, StoreError, Stores, Taken, memory::MemoryStore},
};

use crate::rig::{Call, START, at_once, policy};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Answers,
    Fails,
    Hangs,
}

/// Clones are one store.
#[derive(Clone)]
pub(crate) struct SharedStore(Arc<Inside>);

struct Inside {
    counters: MemoryStore,
    mood: Mutex<Mood>,
    calls: AtomicUsize,
    /// Whether it finds out by itself whether it answers.
    probes: AtomicBool,
    /// What it has in hand of rules with a lease.
    in_hand: AtomicUsize,
}

#[derive(Debug)]
pub(crate) struct Down;

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("connection refused")
    }
}

impl std::error::Error for Down {}

impl SharedStore {
    fn on(clock: &ManualClock) -> Self {
        let counters = MemoryStore::new(10_000, clock.clone().into());
        Self(Arc::new(Inside {
            counters,
            mood: Mutex::new(Mood::Answers),
            calls: AtomicUsize::new(0),
            in_hand: AtomicUsize::new(0),
            probes: AtomicBool::new(false),
        }))
    }

    pub(crate) fn set(&self, mood: Mood) {
        *self.0.mood.lock().unwrap() = mood;
    }

    /// From now on it finds out by itself whether it answers.
    pub(crate) fn probe_by_itself(&self) {
        self.0.probes.store(true, Ordering::Relaxed);
    }

    /// Puts so many requests of rules with a lease in its hand.
    pub(crate) fn hold(&self, requests: usize) {
        self.0.in_hand.store(requests, Ordering::Relaxed);
    }

    /// How often it was asked since the last time that this was.
    pub(crate) fn calls(&self) -> usize {
        self.0.calls.swap(0, Ordering::Relaxed)
    }

    async fn answer<T>(&self, answer: impl FnOnce(&MemoryStore) -> T) -> Result<T, Down> {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        let mood = *self.0.mood.lock().unwrap();
        match mood {
            Mood::Answers => Ok(answer(&self.0.counters)),
            Mood::Fails => Err(Down),
            Mood::Hangs => pending().await,
        }
    }
}

impl Store for SharedStore {
    type Error = Down;

    async fn take(&self, charges: &[Charge<'_>]) -> Result<Taken, Down> {
        self.answer(|counters| counters.take_now(charges)).await
    }

    fn probe(&self, tell: Box<dyn FnOnce(Result<(), StoreError>) + Send>) -> bool {
        let probes = self.0.probes.load(Ordering::Relaxed);
        if probes {
            let answers = *self.0.mood.lock().unwrap() == Mood::Answers;
            tell(if answers { Ok(()) } else { Err(Box::new(Down)) });
        }
        probes
    }

    fn take_at_hand(&self, charges: &[Charge<'_>]) -> Option<Taken> {
        let is_leased = charges.iter().all(|charge| charge.quotas.sharing().lease.is_some());
        let held = &self.0.in_hand;
        let spends =
            is_leased && held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| held.checked_sub(1)).is_ok();
        spends.then(|| self.0.counters.take_now(charges))
    }

    async fn look(&self, charges: &[Charge<'_>]) -> Result<Taken, Down> {
        self.answer(|counters| counters.look_now(charges)).await
    }

    async fn give_back(&self, given: &[GiveBack<'_>]) -> Result<(), Down> {
        self.answer(|counters| counters.give_back_now(given)).await
    }

    async fn clear(&self, charges: &[Charge<'_>]) -> Result<(), Down> {
        self.answer(|counters| counters.clear_now(charges)).await
    }
}

/// Instances, and the store that they share.
pub(crate) struct Shared {
    pub(crate) limiter: Limiter<Stores>,
    pub(crate) store: SharedStore,
    clocks: [ManualClock; 2],
    source: String,
    told: Arc<Mutex<Vec<Health>>>,
}

pub(crate) fn sharing(source: &str) -> Shared {
    sharing_ahead(source, Duration::ZERO)
}

/// The same with a store whose clock is so far ahead.
pub(crate) fn sharing_ahead(source: &str, ahead: Duration) -> Shared {
    let clocks = [START, START + ahead].map(ManualClock::new);
    let store = SharedStore::on(&clocks[1]);
    instance(source, store, clocks)
}

fn instance(source: &str, store: SharedStore, clocks: [ManualClock; 2]) -> Shared {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = told.clone();
    let memory = MemoryStore::new(10_000, clocks[0].clone().into());
    let stores = Stores::sharing(store.clone(), memory, move |health| tell.lock().unwrap().push(health));
    Shared { limiter: Limiter::new(policy(source), stores), store, clocks, source: source.to_owned(), told }
}

impl Shared {
    /// Another instance by the same policy.
    pub(crate) fn another(&self) -> Self {
        instance(&self.source, self.store.clone(), self.clocks.clone())
    }

    pub(crate) fn check(&self, request: &Call) -> Decision {
        at_once(self.limiter.check(&request.shown()))
    }

    pub(crate) fn peek(&self, request: &Call) -> Decision {
        at_once(self.limiter.peek(&request.shown()))
    }

    /// How many of `n` such requests pass.
    pub(crate) fn admitted(&self, n: usize, request: &Call) -> usize {
        (0..n).filter(|_| self.check(request).verdict() == Verdict::Allow).count()
    }

    /// Begins to decide a request, and gives it up before there is an answer.
    pub(crate) fn given_up(&self, request: &Call) {
        let shown = request.shown();
        let asked = pin!(self.limiter.check(&shown)).poll(&mut Context::from_waker(Waker::noop())).map(drop);
        assert_eq!(asked, Poll::Pending);
    }

    pub(crate) fn settle(&self, decision: &Decision, answered: Answered) {
        at_once(self.limiter.settle(decision, answered));
    }

    pub(crate) fn millis(&self, millis: u64) {
        self.clocks.iter().for_each(|clock| clock.advance(Duration::from_millis(millis)));
    }

    pub(crate) fn now(&self) -> Timestamp {
        Clock::from(self.clocks[0].clone()).now()
    }

    /// What has been told of the store since the last time that this was asked.
    pub(crate) fn told(&self) -> Vec<Health> {
        mem::take(&mut self.told.lock().unwrap())
    }
}

/// What is left of each quota that was answered for: `api 3, login.1 0`.
pub(crate) fn left(decision: &Decision) -> String {
    let each = decision.counted().map(|counted| format!("{} {}", counted.name(), counted.status().remaining));
    each.collect::<Vec<_>>().join(", ")
}
