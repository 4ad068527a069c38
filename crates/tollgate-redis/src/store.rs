//! The store: charges in, what the servers say out, or within the time that a decision waits the reason why not.

use std::{
    io,
    pin::{Pin, pin},
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::runtime;
use tollgate::{
    clock::{Clock, Timestamp},
    key::Key,
    policy::{Mode, Quotas},
    quota::{Algorithm, Limits},
    store::{Charge, GiveBack, Outcomes, Store, StoreError, Taken},
};

use crate::{
    Settings,
    ask::{Answer, Ask, Counters, Verb, Want, counters, wants},
    denials::Denials,
    error::RedisError,
    leases::Leases,
    queue::Queue,
    statistics::{Counts, Statistics},
    take::Took,
    url::Servers,
};

/// Counters in Redis or Valkey. Clones are the same store.
///
/// It connects by itself, and again whenever it has to; a server that is away makes decisions fail, after the time that they wait at
/// most, and nothing else. [`Stores`](tollgate::store::Stores) says what holds then.
#[derive(Clone, Debug)]
pub struct RedisStore {
    pub(crate) settings: Arc<Settings>,
    /// For what is answered here.
    pub(crate) clock: Clock,
    queue: Queue,
    /// That of the connection, for what has to come to its end when whoever began it is gone.
    pub(crate) runtime: runtime::Handle,
    denials: Arc<Denials>,
    pub(crate) leases: Arc<Leases>,
    counts: Arc<Counts>,
}

impl RedisStore {
    /// A store whose connection is served by the current runtime, for as long as the store or a clone of it is there.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn connect(settings: Settings) -> Self {
        let (store, queue) = Self::with_queue(settings, runtime::Handle::current());
        tokio::spawn(queue);
        store
    }

    /// A store whose connection is served by a thread of its own: for those who have several runtimes, or a busy one. Whoever waits for
    /// a decision still needs one of tokio's.
    ///
    /// # Errors
    ///
    /// The system gives no thread.
    pub fn on_thread(settings: Settings) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (store, queue) = Self::with_queue(settings, runtime.handle().clone());
        thread::Builder::new().name("store".to_owned()).spawn(move || runtime.block_on(queue))?;
        Ok(store)
    }

    /// Whether the servers answer: asked again and again for a second, or for as long as a decision waits if that is longer.
    ///
    /// # Errors
    ///
    /// Why they did not the last time.
    pub async fn probe(&self) -> Result<(), RedisError> {
        let mut answer = Err(RedisError::TimedOut);
        let asking = async {
            loop {
                answer = self.probe_once().await;
                if answer.is_ok() {
                    break;
                }
                tokio::time::sleep(PROBE_AGAIN_AFTER).await;
            }
        };
        // An error is told by the last answer.
        let _ = tokio::time::timeout(self.settings.timeout.max(PROBE_AT_LEAST), asking).await;
        answer
    }

    /// The same for callers without a runtime.
    ///
    /// # Errors
    ///
    /// Why they did not the last time.
    pub fn probe_now(&self) -> Result<(), RedisError> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| RedisError::Disconnected(error.to_string()))?.block_on(self.probe())
    }

    /// Forgets the denials that it has in mind, as when the rules have changed.
    pub fn forget_denials(&self) {
        self.denials.forget_all();
    }

    /// What it has done since it was made, and what it holds.
    pub fn statistics(&self) -> Statistics {
        let ((leases, leased_units), denials) = (self.leases.held_now(self.clock.now()), self.denials.len());
        Statistics { leases, leased_units, denials, ..self.counts.statistics() }
    }

    fn with_queue(settings: Settings, runtime: runtime::Handle) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let settings = Arc::new(settings);
        let (queue, served) = Queue::new(settings.clone());
        let clock = settings.clock.clone().unwrap_or_default();
        let (denials, leases, counts) = Default::default();
        (Self { settings, clock, queue, runtime, denials, leases, counts }, served)
    }

    /// By a charge, which a replica or a full server refuses.
    async fn probe_once(&self) -> Result<(), RedisError> {
        let limits = Limits::per_second(u32::MAX);
        let Ok(quotas) = Quotas::new("probe", &limits, Some(Algorithm::FixedWindow)) else { return Ok(()) };
        let key = self.probed();
        let charge = Charge { rule: "probe", mode: Mode::Enforce, key: &key, quotas: &quotas, cost: 1 };
        self.in_time(pin!(self.ask(Verb::Take, self.counters(&[charge])))).await.map(|_| ())
    }

    /// Whose counter is charged. In a Cluster not always the same one, for it would always be the same master that is tried.
    fn probed(&self) -> Key {
        match self.settings.url.servers {
            Servers::Cluster(_) => Key::of([(self.clock.now().as_micros() % PROBED).to_string()]),
            _ => Key::default(),
        }
    }

    /// What can be answered without asking anybody: from leases, or since it is known to be denied.
    fn at_hand(&self, charges: &[Charge<'_>], now: Timestamp) -> Option<Taken> {
        if let Some(all_spent) = self.spend_at_hand(charges, now) {
            self.counts.note_lease();
            return Some(Took::OfLeases(all_spent).taken(charges, now));
        }
        self.denials.answer(charges, now).inspect(|_| self.counts.note_denial())
    }

    /// What the servers say, and what it says of others like it.
    async fn ask_all(&self, charges: &[Charge<'_>], asked_at: Timestamp) -> Result<Taken, RedisError> {
        let took = self.in_time(pin!(self.take_all(charges))).await;
        self.counts.note_asked(took.is_ok());
        match &took {
            Ok(Took::OfServers(taken)) if self.settings.url.keeps_denials => {
                self.denials.learn(charges, taken, asked_at)
            }
            Ok(_) => {}
            Err(_) => self.denials.forget_all(),
        }
        took.map(|took| took.taken(charges, asked_at))
    }

    pub(crate) fn counters(&self, charges: &[Charge<'_>]) -> Counters {
        counters(&self.settings.url.prefix, charges)
    }

    /// What the servers say, however long it takes.
    pub(crate) async fn ask(&self, verb: Verb, counters: Counters) -> Result<Answer, RedisError> {
        if counters.is_empty() {
            return Ok(Answer { taken: Box::new(Taken::new(self.clock.now(), Outcomes::new())), leased: 0 });
        }
        self.queue.ask(Ask { verb, counters }).await
    }

    /// The answer where it is: futures are large, and to hand one on is to copy it.
    async fn in_time<T>(&self, answer: Pin<&mut impl Future<Output = Result<T, RedisError>>>) -> Result<T, RedisError> {
        tokio::time::timeout(self.settings.timeout, answer).await.unwrap_or_else(|_| Err(self.queue.why_silent()))
    }

    /// What is to be given back of one charge to the servers, and not into the leases that it was spent of.
    fn not_of_leases(&self, given: &GiveBack<'_>) -> Counters {
        let charges = std::slice::from_ref(&given.charge);
        let is_charged_there = |want: &Want<'_>| want.lease() == 0 || !self.leases.give_back(want, given.at);
        let counters = self.counters(charges);
        let of_servers = wants(charges).zip(counters.iter()).filter(|(want, _)| is_charged_there(want));
        of_servers.map(|(_, counter)| counter.clone()).collect()
    }
}

const PROBE_AT_LEAST: Duration = Duration::from_secs(1);
/// So many are enough to meet every master.
const PROBED: u64 = 16;
const PROBE_AGAIN_AFTER: Duration = Duration::from_millis(20);

impl Store for RedisStore {
    type Error = RedisError;

    async fn take(&self, charges: &[Charge<'_>]) -> Result<Taken, RedisError> {
        let asked_at = self.clock.now();
        match self.at_hand(charges, asked_at) {
            Some(taken) => Ok(taken),
            None => self.ask_all(charges, asked_at).await,
        }
    }

    fn probe(&self, tell: Box<dyn FnOnce(Result<(), StoreError>) + Send>) -> bool {
        let Ok(runtime) = runtime::Handle::try_current() else { return false };
        let store = self.clone();
        runtime.spawn(async move { tell(store.probe_once().await.map_err(StoreError::from)) });
        true
    }

    fn take_at_hand(&self, charges: &[Charge<'_>]) -> Option<Taken> {
        // Most requests find nothing, and need no clock to know that.
        let may_lease = charges.iter().any(|charge| charge.quotas.sharing().lease.is_some());
        let may_find = may_lease || !self.denials.is_empty();
        may_find.then(|| self.at_hand(charges, self.clock.now())).flatten()
    }

    async fn look(&self, charges: &[Charge<'_>]) -> Result<Taken, RedisError> {
        self.in_time(pin!(self.look_everywhere(charges))).await
    }

    async fn give_back(&self, given: &[GiveBack<'_>]) -> Result<(), RedisError> {
        self.in_time(pin!(async {
            let mut all = Ok(());
            for given in given {
                let given_back = self.ask(Verb::GiveBack(given.at), self.not_of_leases(given)).await;
                // What was denied meanwhile may fit now.
                self.denials.forget(&given.charge);
                all = all.and(given_back.map(|_| ()));
            }
            all
        }))
        .await
    }

    async fn clear(&self, charges: &[Charge<'_>]) -> Result<(), RedisError> {
        self.in_time(pin!(async {
            for charge in charges {
                let alone = std::slice::from_ref(charge);
                wants(alone).for_each(|want| self.leases.forget(&want));
                self.ask(Verb::Clear, self.counters(alone)).await?;
                self.denials.forget(charge);
            }
            Ok(())
        }))
        .await
    }

    fn rules_changed(&self) {
        self.forget_denials();
    }
}
