//! The queue of those who wait for a server: whoever waits at the same moment shares a call. Nobody waits for others to come: while as many
//! calls as may are on their way, those who come meanwhile are the next one; and who is alone calls by himself.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::timeout,
};
use tollgate::clock::{Clock, Timestamp};

use crate::{
    Settings,
    ask::{Answer, Ask, Verb},
    batch::Batch,
    error::RedisError,
    link::Link,
    replay,
};

/// So many decisions wait at most: more than a server answers in the time that one waits.
pub(crate) const MAX_WAITING: usize = 20_000;
/// One call is read while the next one is on its way.
const MAX_CALLS: u32 = 2;
/// A call that decides more keeps the server from others for too long.
const MAX_ASKS: usize = 256;
/// Nor does one call concern more counters than this and those of its last request: a script takes so many arguments at once.
const MAX_COUNTERS: usize = 2_000;
/// In a Cluster, a call that is not answered for so long makes room for others, which may concern masters that are not silent.
const SILENCE: Duration = Duration::from_millis(5);

/// Where those who ask go.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    settings: Arc<Settings>,
    /// The system's, whatever counters go by: it tells how long somebody has waited.
    clock: Clock,
    calls: Arc<Semaphore>,
    links: Arc<Links>,
    waiting: mpsc::Sender<Waiting>,
}

/// Somebody who has asked.
#[derive(Debug)]
struct Waiting {
    ask: Ask,
    reply: oneshot::Sender<Result<Answer, RedisError>>,
}

impl Queue {
    /// The queue, and whoever serves it as long as somebody can ask.
    pub(crate) fn new(settings: Arc<Settings>) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (waiting, asked) = mpsc::channel(MAX_WAITING);
        let calls = Arc::new(Semaphore::new(MAX_CALLS as usize));
        let links = Arc::new(Links::default());
        let served = serve(settings.clone(), calls.clone(), links.clone(), asked);
        (Self { settings, clock: Clock::system(), calls, links, waiting }, served)
    }

    /// What the servers say, however long it takes.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<Answer, RedisError> {
        if let Some((link, _call)) = self.is_alone() {
            // A little less than whoever waits does, whose time began before.
            let ends = self.clock.now() + self.settings.timeout * 9 / 10;
            let _patience = Patience { used: &link, clock: &self.clock, ends };
            match call(&self.settings, &link, &[&ask]).await {
                // It may have been closed while nobody asked, so it is asked once more on another one. At worst this is charged twice;
                // what is given back twice would be admitted twice.
                Err(RedisError::Disconnected(_)) if !matches!(ask.verb, Verb::GiveBack(_)) => {}
                answers => return answers?.pop().ok_or_else(|| RedisError::Odd("no answer to a question".to_owned())),
            }
        }
        let ended = || RedisError::Disconnected("its runtime has ended".to_owned());
        let (reply, answer) = oneshot::channel();
        self.waiting.try_send(Waiting { ask, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => RedisError::Busy,
            mpsc::error::TrySendError::Closed(_) => ended(),
        })?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Why nothing comes in time: to connect can take longer than a decision waits, and whoever waits then is to hear why it fails.
    pub(crate) fn why_silent(&self) -> RedisError {
        lock(&self.links.refused).clone().unwrap_or(RedisError::TimedOut)
    }

    /// A connection and the place of a call, if nobody else is on his way.
    fn is_alone(&self) -> Option<(Used, OwnedSemaphorePermit)> {
        let mut all = self.calls.clone().try_acquire_many_owned(MAX_CALLS).ok()?;
        Some((self.links.current()?, all.split(1)?))
    }
}

/// Somebody who waits for his own call. If he gives up when it takes too long, the connection leads nowhere; if sooner, nothing is known of it.
struct Patience<'a> {
    used: &'a Used,
    clock: &'a Clock,
    ends: Timestamp,
}

impl Drop for Patience<'_> {
    fn drop(&mut self) {
        if self.clock.now() >= self.ends {
            self.used.failed(&RedisError::TimedOut);
        }
    }
}

/// Answers those who ask, until nobody can any more.
async fn serve(settings: Arc<Settings>, calls: Arc<Semaphore>, links: Arc<Links>, mut asked: mpsc::Receiver<Waiting>) {
    loop {
        // Only whoever has somebody to call for takes the place of a call: with one of them taken, nobody would ever be alone.
        let Some(first) = asked.recv().await else { return };
        // Nobody closes it.
        let Ok(call) = calls.clone().acquire_owned().await else { return };
        let mut counters = first.ask.counters.len();
        let mut waiting = vec![first];
        while waiting.len() < MAX_ASKS
            && counters < MAX_COUNTERS
            && let Ok(next) = asked.try_recv()
        {
            counters += next.ask.counters.len();
            waiting.push(next);
        }
        // Whoever has given up meanwhile is not charged.
        waiting.retain(|waiting| !waiting.reply.is_closed());
        if waiting.is_empty() {
            continue;
        }
        match links.open(&settings).await {
            Ok(link) => {
                let settings = settings.clone();
                tokio::spawn(async move {
                    let places = places(&link.link, waiting);
                    let mut answered = pin!(join_all(places.into_iter().map(|of| answer(&settings, &link, of))));
                    match link.link {
                        Link::Cluster(_) if timeout(SILENCE, answered.as_mut()).await.is_ok() => {}
                        Link::Cluster(_) => {
                            drop(call);
                            answered.await;
                        }
                        Link::Whole(_) => drop((answered.await, call)),
                    }
                });
            }
            Err(error) => tell_all(waiting, &error),
        }
    }
}

/// Those who can share a call: in a Cluster, those whose counters are in one slot, as the counters of one request here always are.
fn places(link: &Link, waiting: Vec<Waiting>) -> Vec<Vec<Waiting>> {
    if let Link::Whole(_) = link {
        return vec![waiting];
    }
    let mut places: HashMap<Vec<u8>, Vec<Waiting>> = HashMap::new();
    for waiting in waiting {
        let tag = waiting.ask.counters.first().map(|counter| counter.tag().to_vec()).unwrap_or_default();
        places.entry(tag).or_default().push(waiting);
    }
    places.into_values().collect()
}

async fn answer(settings: &Settings, link: &Used, waiting: Vec<Waiting>) {
    let asks: Vec<&Ask> = waiting.iter().map(|waiting| &waiting.ask).collect();
    match call(settings, link, &asks).await {
        Ok(answers) => {
            for (waiting, answer) in waiting.into_iter().zip(answers) {
                // Whoever does not wait any more is charged all the same.
                let _ = waiting.reply.send(Ok(answer));
            }
        }
        Err(error) => tell_all(waiting, &error),
    }
}

fn tell_all(waiting: Vec<Waiting>, error: &RedisError) {
    for waiting in waiting {
        let _ = waiting.reply.send(Err(error.clone()));
    }
}

/// One call that answers all of them.
async fn call(settings: &Settings, used: &Used, asks: &[&Ask]) -> Result<Vec<Answer>, RedisError> {
    let batch = Batch::of(asks);
    let now = settings.clock.as_ref().map(|clock| clock.now().as_micros().to_string()).unwrap_or_default();
    let answer = used.link.clone().call(batch.script(), &batch.keys, &batch.arguments(now.as_bytes())).await;
    let answers = answer.and_then(|answer| replay::answers(asks, &batch, &answer));
    answers.inspect_err(|error| used.failed(error))
}

/// The connection, made anew when it has failed.
#[derive(Debug, Default)]
struct Links {
    open: Mutex<Option<Used>>,
    /// Why there was none the last time that somebody tried.
    refused: Mutex<Option<RedisError>>,
}

/// A connection, and whether it leads nowhere.
#[derive(Clone, Debug)]
struct Used {
    link: Link,
    is_useless: Arc<AtomicBool>,
}

impl Links {
    fn current(&self) -> Option<Used> {
        lock(&self.open).as_ref().filter(|used| !used.is_useless.load(Ordering::Relaxed)).cloned()
    }

    async fn open(&self, settings: &Settings) -> Result<Used, RedisError> {
        if let Some(used) = self.current() {
            return Ok(used);
        }
        let opened = Link::open(settings).await;
        *lock(&self.refused) = opened.as_ref().err().cloned();
        let used = Used { link: opened?, is_useless: Arc::default() };
        *lock(&self.open) = Some(used.clone());
        Ok(used)
    }
}

impl Used {
    /// Notes that the connection leads nowhere, if that is what the error says.
    fn failed(&self, error: &RedisError) {
        if self.link.is_useless_after(error) {
            self.is_useless.store(true, Ordering::Relaxed);
        }
    }
}

fn lock<T>(of: &Mutex<Option<T>>) -> MutexGuard<'_, Option<T>> {
    // Something or nothing, at any time.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
