//! What the tests of this crate share: rules to ask about, stores to ask, and tasks that ask many times and write down what came of it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use testbed::{Cluster, Reply, Server};
use tollgate::{
    algorithm::Outcome,
    clock::{Clock, Timestamp},
    key::Key,
    policy::{Mode, Quotas, Sharing},
    quota::Algorithm,
    store::{Charge, Store, Taken, passes},
};
use tollgate_redis::{RedisError, RedisStore, Settings};

/// The default of a decision's patience, which these tests leave as it is.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(100);
/// A store that can be asked again is asked again within this.
pub(crate) const BACK_WITHIN: Duration = Duration::from_secs(2);
/// A key that tests count by, which decides in a Cluster where its counters lie.
pub(crate) const HOT: &str = "client";

/// A Cluster by all of its nodes.
pub(crate) fn cluster_url(cluster: &Cluster) -> String {
    let addrs: Vec<_> = cluster.addrs().iter().map(ToString::to_string).collect();
    format!("redis+cluster://{}", addrs.join(","))
}

/// A rule and whom it counts.
#[derive(Clone)]
pub(crate) struct Subject {
    pub(crate) rule: String,
    pub(crate) key: Key,
    pub(crate) quotas: Quotas,
    pub(crate) mode: Mode,
}

/// A rule with a counter of its own.
pub(crate) fn subject(rule: &str, limits: &str, algorithm: Algorithm) -> Subject {
    let limits = limits.parse().expect("tests write good limits");
    let quotas = Quotas::new(rule, &limits, Some(algorithm)).expect("tests write limits that can be counted");
    Subject { rule: rule.to_owned(), key: Key::of([HOT]), quotas, mode: Mode::Enforce }
}

impl Subject {
    /// The same, of which an instance takes so much in one trip.
    pub(crate) fn leased(self, lease: u64) -> Self {
        let sharing = Sharing { lease: std::num::NonZeroU64::new(lease), ..Sharing::default() };
        Self { quotas: self.quotas.shared(sharing), ..self }
    }

    pub(crate) fn in_shadow(self) -> Self {
        Self { mode: Mode::Shadow, ..self }
    }

    /// The same rule for somebody else.
    pub(crate) fn of(&self, client: &str) -> Self {
        Self { key: Key::of([client]), ..self.clone() }
    }

    pub(crate) fn charge(&self, cost: u64) -> Charge<'_> {
        Charge { rule: &self.rule, mode: self.mode, key: &self.key, quotas: &self.quotas, cost }
    }

    /// Asks for one unit.
    pub(crate) async fn take(&self, store: &RedisStore) -> Result<Taken, RedisError> {
        store.take(&[self.charge(1)]).await
    }

    /// Whether one unit passes; `None` if nobody says so.
    pub(crate) async fn passes(&self, store: &RedisStore) -> Option<bool> {
        let charges = [self.charge(1)];
        let taken = store.take(&charges).await.ok()?;
        Some(passes(&charges, &taken.outcomes))
    }

    /// How many of so many requests, one after the other, pass. On a busy machine one may not be answered in time.
    pub(crate) async fn admitted(&self, store: &RedisStore, requests: u64) -> u64 {
        let mut admitted = 0;
        for _ in 0..requests {
            match self.take(store).await {
                Ok(taken) => admitted += u64::from(passes(&[self.charge(1)], &taken.outcomes)),
                Err(RedisError::TimedOut) => {}
                Err(error) => panic!("it answers: {error}"),
            }
        }
        admitted
    }

    /// Asks until so many have passed, or one is denied, however often there is no answer in time.
    pub(crate) async fn spend(&self, store: &RedisStore, units: u64) -> Run {
        let mut run = Run::default();
        while run.admitted < units && run.denied == 0 {
            match self.take(store).await {
                Ok(taken) if passes(&[self.charge(1)], &taken.outcomes) => run.admitted += 1,
                Ok(_) => run.denied += 1,
                Err(error @ RedisError::TimedOut) => run.errors.push(error),
                Err(error) => panic!("it answers: {error}"),
            }
        }
        run
    }

    /// How many units are left.
    pub(crate) async fn remaining(&self, store: &RedisStore) -> u64 {
        let charges = [self.charge(0)];
        loop {
            match store.look(&charges).await {
                Ok(looked) => return only(&looked).status.remaining,
                // On a busy machine.
                Err(RedisError::TimedOut) => {}
                Err(error) => panic!("it answers: {error}"),
            }
        }
    }
}

pub(crate) fn only(taken: &Taken) -> &Outcome {
    let [outcome] = taken.outcomes.as_slice() else { panic!("expected one outcome, got {taken:?}") };
    outcome
}

/// A store that keeps no denials, so that all requests are counted by the server.
pub(crate) fn store(url: impl std::fmt::Display) -> RedisStore {
    let separator = if url.to_string().contains('?') { '&' } else { '?' };
    RedisStore::connect(settings(format!("{url}{separator}denials=ask")))
}

/// The same, that waits for a machine that is busy with everything else: where it is not asked how long that takes.
pub(crate) fn patient(url: impl std::fmt::Display) -> RedisStore {
    let separator = if url.to_string().contains('?') { '&' } else { '?' };
    RedisStore::connect(settings(format!("{url}{separator}denials=ask")).timeout(PATIENCE))
}

/// No machine is that busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn settings(url: impl std::fmt::Display) -> Settings {
    Settings::at(url.to_string().parse().expect("tests write good URLs")).timeout(TIMEOUT)
}

pub(crate) fn at(server: &Server) -> String {
    format!("redis://{}", server.addr())
}

/// How many scripts a server has been told to run.
pub(crate) fn calls(server: &Server) -> u64 {
    let info = server.command(&["INFO", "commandstats"]);
    let of = |name: &str| {
        let line = info.text().lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split(',').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    of("cmdstat_evalsha:calls=") + of("cmdstat_eval:calls=")
}

/// The keys that a server holds.
pub(crate) fn keys(server: &Server) -> Vec<String> {
    let mut keys: Vec<_> =
        server.command(&["KEYS", "*"]).array().iter().map(|key: &Reply| key.text().to_owned()).collect();
    keys.sort();
    keys
}

/// What came of many requests.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(crate) admitted: u64,
    pub(crate) denied: u64,
    pub(crate) errors: Vec<RedisError>,
    pub(crate) took: Vec<Duration>,
}

impl Run {
    /// How long so much of a thousand took at most.
    pub(crate) fn took_at_most(&mut self, per_mille: usize) -> Duration {
        self.took.sort();
        self.took
            .get((self.took.len() * per_mille / 1_000).min(self.took.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }

    /// Nobody waits longer than a decision may: on a machine with nothing else to do all of them answer within 10 ms of that, and what a busy
    /// one does meanwhile is not counted.
    #[track_caller]
    pub(crate) fn check_patience(&mut self, what: &str) {
        let (median, most, longest) = (self.took_at_most(500), self.took_at_most(990), self.took_at_most(1_000));
        println!("{what}: {} requests, median {median:?}, 99 % {most:?}, longest {longest:?}", self.took.len());
        assert!(median <= TIMEOUT + Duration::from_millis(10), "{what}: median {median:?}");
        assert!(longest <= TIMEOUT + Duration::from_millis(400), "{what}: longest {longest:?}");
    }
}

/// Time that passes only while this runtime runs: a step that takes long, since the machine does something else, counts as a short one. So
/// it tells how long those who are served are kept waiting by the code.
#[derive(Clone, Debug)]
pub(crate) struct Attended(Arc<Mutex<Passed>>);

#[derive(Debug)]
struct Passed {
    clock: Clock,
    looked_at: Timestamp,
    passed: Timestamp,
}

impl Attended {
    /// To be called in the runtime.
    pub(crate) fn start() -> Self {
        let (clock, passed) = (Clock::system(), Timestamp::from_micros(0));
        let attended = Self(Arc::new(Mutex::new(Passed { looked_at: clock.now(), clock, passed })));
        let steps = attended.clone();
        tokio::spawn(async move {
            // Until nobody else is left who could ask.
            while Arc::strong_count(&steps.0) > 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
                steps.now();
            }
        });
        attended
    }

    pub(crate) fn now(&self) -> Timestamp {
        let mut time = self.0.lock().expect("nobody panics");
        let now = time.clock.now();
        let step = now.since(time.looked_at).min(LONGEST_STEP);
        (time.looked_at, time.passed) = (now, time.passed + step);
        time.passed
    }
}

/// Twice as long as a timer of a millisecond is late where there is nothing else to do.
const LONGEST_STEP: Duration = Duration::from_millis(4);

/// For what is a race with real time by its nature, such as answers that have to come within a tenth of a second: a busy machine can lose
/// one or the other, and wrong code wins none.
pub(crate) async fn in_one_of_several(mut attempt: impl AsyncFnMut() -> Result<(), String>) {
    let mut lost = Vec::new();
    while lost.len() < ATTEMPTS {
        match attempt().await {
            Ok(()) => return,
            Err(why) => lost.push(why),
        }
    }
    panic!("{lost:#?}");
}

/// As many as a machine that is busy all the time may need.
pub(crate) const ATTEMPTS: usize = 5;

/// Some tasks that ask for this long, each as soon as it is answered and has had a rest.
pub(crate) async fn hammer(subject: &Subject, store: &RedisStore, tasks: usize, span: Duration) -> Run {
    let clock = Attended::start();
    let end = clock.now() + span;
    let task = async || {
        let mut run = Run::default();
        while clock.now() < end {
            let asked_at = clock.now();
            let charges = [subject.charge(1)];
            match store.take(&charges).await {
                Ok(taken) if passes(&charges, &taken.outcomes) => run.admitted += 1,
                Ok(_) => run.denied += 1,
                Err(error) => run.errors.push(error),
            }
            run.took.push(clock.now().since(asked_at));
            tokio::time::sleep(REST).await;
        }
        run
    };
    let mut all = Run::default();
    for run in futures_util::future::join_all((0..tasks).map(|_| task())).await {
        all.admitted += run.admitted;
        all.denied += run.denied;
        all.errors.extend(run.errors);
        all.took.extend(run.took);
    }
    all
}

/// Between two requests of a task, so that tests leave each other some of the machine.
pub(crate) const REST: Duration = Duration::from_millis(2);

/// Asks until there is an answer, and tells how long that took and what came of it.
#[track_caller]
pub(crate) fn back<'a>(subject: &'a Subject, store: &'a RedisStore) -> impl Future<Output = (Duration, Run)> + 'a {
    back_since(subject, store, Attended::start())
}

async fn back_since(subject: &Subject, store: &RedisStore, clock: Attended) -> (Duration, Run) {
    let (since, mut run) = (clock.now(), Run::default());
    while run.admitted + run.denied == 0 {
        match subject.take(store).await {
            Ok(taken) if passes(&[subject.charge(1)], &taken.outcomes) => run.admitted += 1,
            Ok(_) => run.denied += 1,
            Err(error) => {
                let after = clock.now().since(since);
                assert!(after < BACK_WITHIN + TIMEOUT, "after {after:?} still: {error}");
                run.errors.push(error);
                tokio::time::sleep(REST).await;
            }
        }
    }
    (clock.now().since(since), run)
}

/// What a probe says of a store that is not let in, once it has heard it in time.
pub(crate) async fn why_refused(store: &RedisStore) -> String {
    for _ in 0..30 {
        match store.probe().await.expect_err("it is not let in") {
            RedisError::TimedOut => {}
            error => return error.to_string(),
        }
    }
    panic!("nobody says why");
}

/// Numbers that look random and are the same in every run.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    /// Below this.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        // Steele and Vigna, "Computationally easy, spectrally good multipliers".
        self.0 = self.0.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let wide = u128::from(self.0 ^ (self.0 >> 32)) * u128::from(end);
        u64::try_from(wide >> 64).expect("it is less than the end")
    }

    /// One of these.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let place = self.below(of.len().try_into().expect("there are few"));
        &of[usize::try_from(place).expect("it is one of them")]
    }
}
