//! A master that fails, and another that takes its place, while four processes ask for one key. Each counts what it admits; the test adds that
//! up for each window, and holds it against the bound.
//!
//! Of one window at most one quota is admitted while nothing fails. In a failover, each process admits at most one more by `local`, and what
//! the old master has counted and not handed on is counted again: at most another one, and mostly nothing, for a replica is some
//! milliseconds behind.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use testbed::{Cluster, Options, Sentinels};
use tollgate::{
    algorithm::Verdict,
    clock::{Clock, Timestamp},
    policy::{OnStoreError, Sharing},
    quota::Algorithm,
    store::{Answerer, LOCAL_COUNTERS, Stores, memory::MemoryStore},
};
use tollgate_redis::{RedisError, RedisStore};

use crate::rig::{
    ATTEMPTS, HOT, REST, Subject, back, cluster_url, hammer, in_one_of_several, settings, store, subject,
};

const PROCESSES: u64 = 4;
/// Of each window, which are those of the calendar, so that all processes have the same.
const AMOUNT: u64 = 100;
const WINDOW: Duration = Duration::from_millis(500);
/// One by the shared store, one of each process, and one that was counted and lost.
const BOUND: u64 = AMOUNT * (1 + PROCESSES + 1);
/// Where a process is told where the store is.
const STORE: &str = "TOLLGATE_TEST_STORE";
/// A failover is over within so long: a second or so until the others agree, as long until one of them is chosen, and a busy machine.
const OVER_WITHIN: Duration = Duration::from_secs(30);
/// By then all processes have found the way.
const FOUND_WITHIN: Duration = Duration::from_secs(2);

fn hammered(on_store_error: OnStoreError) -> Subject {
    let subject = subject(on_store_error.name(), "100/500ms", Algorithm::CalendarWindow);
    let quotas = subject.quotas.clone().shared(Sharing { on_store_error, ..Sharing::default() });
    Subject { quotas, ..subject }
}

/// What a process has counted.
#[derive(Debug, Default)]
struct Counted {
    /// Admitted in each window, which is named by its number since the epoch.
    windows: BTreeMap<u64, u64>,
    /// Of these, admitted by the processes themselves, for want of the shared store.
    by_themselves: BTreeMap<u64, u64>,
    decisions: u64,
    /// Decisions that nobody could make, and that are not let through.
    refused: u64,
    /// How many were not made by the shared store, and when the last one was.
    without: u64,
    last_without: u64,
    slowest: Duration,
}

impl Counted {
    fn add(&mut self, line: &str) {
        let words: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        match (line.split(' ').next(), words.as_slice()) {
            (Some("window"), [window, admitted, by_themselves]) => {
                *self.windows.entry(*window).or_default() += admitted;
                *self.by_themselves.entry(*window).or_default() += by_themselves;
            }
            (Some("total"), [decisions, refused, without, last_without, slowest]) => {
                self.decisions += decisions;
                self.refused += refused;
                self.without += without;
                self.last_without = self.last_without.max(*last_without);
                self.slowest = self.slowest.max(Duration::from_micros(*slowest));
            }
            _ => {}
        }
    }
}

/// One of the processes: asks until its input ends, and prints what it has counted.
#[test]
#[ignore = "started by the others here"]
fn asks_until_told_to_end() {
    let Ok(url) = env::var(STORE) else { return };
    let ended = Arc::new(AtomicBool::new(false));
    let ends = ended.clone();
    thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        ends.store(true, Ordering::Relaxed);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let counted = runtime.block_on(async {
        let memory = MemoryStore::new(LOCAL_COUNTERS, Clock::system());
        let stores = Stores::sharing(RedisStore::connect(settings(url)), memory, |_| {});
        let (local, allow) = (hammered(OnStoreError::Local), hammered(OnStoreError::Allow));
        let mut counted = Counted::default();
        println!("ready");
        while !ended.load(Ordering::Relaxed) {
            count(&mut counted, &stores, &local).await;
            count(&mut counted, &stores, &allow).await;
            tokio::time::sleep(REST).await;
        }
        counted
    });
    for (window, admitted) in &counted.windows {
        println!("window {window} {admitted} {}", counted.by_themselves.get(window).unwrap_or(&0));
    }
    let Counted { decisions, refused, without, last_without, slowest, .. } = counted;
    println!("total {decisions} {refused} {without} {last_without} {}", slowest.as_micros());
}

async fn count(counted: &mut Counted, stores: &Stores, subject: &Subject) {
    let clock = Clock::system();
    let asked_at = clock.now();
    let taken = stores.take(&[subject.charge(1)]).await;
    let now = clock.now();
    counted.decisions += 1;
    counted.slowest = counted.slowest.max(now.since(asked_at));
    let answerer = taken.answerers.as_ref().map_or(Answerer::Store, |answerers| answerers.of_charges[0].0);
    if answerer != Answerer::Store {
        counted.without += 1;
        counted.last_without = now.as_micros();
    }
    let is_local = subject.quotas.sharing().on_store_error == OnStoreError::Local;
    match taken.outcomes.first() {
        Some(outcome) if outcome.verdict == Verdict::Allow && is_local => {
            *counted.windows.entry(window(taken.at)).or_default() += 1;
            *counted.by_themselves.entry(window(taken.at)).or_default() += u64::from(answerer != Answerer::Store);
        }
        Some(_) => {}
        // Left out is let through, if that is what the rule says.
        None => counted.refused += u64::from(is_local || answerer != Answerer::Unreachable),
    }
}

fn window(at: Timestamp) -> u64 {
    at.as_micros() / u64::try_from(WINDOW.as_micros()).expect("it is short")
}

struct Processes(Vec<Child>);

impl Processes {
    fn start(url: &str) -> Self {
        let start = |_| {
            let mut child = Command::new(env::current_exe().expect("this program has a file"))
                .args(["--exact", "failover::asks_until_told_to_end", "--ignored", "--nocapture"])
                .env(STORE, url)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("this program starts");
            let output = child.stdout.as_mut().expect("it is piped");
            // One byte at a time, so that nothing of what follows is read.
            let mut said = Vec::new();
            while !said.ends_with(b"ready\n") {
                let mut byte = [0];
                output.read_exact(&mut byte).expect("it begins");
                said.push(byte[0]);
            }
            child
        };
        Self((0..PROCESSES).map(start).collect())
    }

    /// Ends them all, and adds up what they have counted.
    fn end(mut self) -> Counted {
        self.0.iter_mut().for_each(|child| drop(child.stdin.take()));
        let mut counted = Counted::default();
        for child in &mut self.0 {
            let output = BufReader::new(child.stdout.take().expect("it is piped"));
            output.lines().for_each(|line| counted.add(&line.expect("it is text")));
            child.wait().expect("it is our child");
        }
        counted
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// In one of several attempts, for what is late is so by the clock: a process that a busy machine keeps from its answers decides by itself
/// where nothing is amiss. Whatever is late, nothing is admitted that is not by the bound.
fn check_failover(mut attempt: impl FnMut() -> Result<(), String>) {
    let lost: Vec<_> = (0..ATTEMPTS).map_while(|_| attempt().err()).collect();
    assert!(lost.len() < ATTEMPTS, "{lost:#?}");
}

/// Processes ask, something happens, and they go on for a while after it is over. Fails if some of them were late.
fn fail_over(what: &str, url: &str, happens: impl FnOnce(), settled: impl FnOnce()) -> Result<(), String> {
    let clock = Clock::system();
    let processes = Processes::start(url);
    thread::sleep(2 * WINDOW);
    let failed_at = clock.now();
    happens();
    settled();
    let settled_after = clock.now().since(failed_at);
    // Until all have found the way, and for three windows after that.
    thread::sleep(FOUND_WITHIN + 3 * WINDOW);
    let counted = processes.end();

    // Until it is settled, a master that came back can go on counting for who is connected to it.
    let over_at = Timestamp::from_micros(counted.last_without).max(failed_at + settled_after);
    let first_back = window(over_at) + 1;
    let back_after = Timestamp::from_micros(counted.last_without).since(failed_at);
    let over: Vec<_> = counted.windows.iter().filter(|(_, admitted)| **admitted > AMOUNT).collect();
    let most = over.iter().map(|(_, admitted)| **admitted).max().unwrap_or(AMOUNT);
    println!(
        "{what}: settled after {settled_after:?}; the last decision without the shared store was made after {back_after:?}, \
         {} of {} were; {} windows over the amount of {AMOUNT}, the most {most}, the bound {BOUND}; slowest decision {:?}",
        counted.without,
        counted.decisions,
        over.len(),
        counted.slowest,
    );
    assert_eq!(counted.refused, 0, "{what}: clients were told of it");
    assert!(counted.without > 0, "{what}: nothing has happened");
    assert!(most <= BOUND, "{what}: {most} in one window, the bound is {BOUND}");
    // Outside of the failure the store gives no more than the amount. A process whose first question takes too long decides by itself even
    // there, as is said: once each, no more.
    let is_amiss = |number: &u64| (window(failed_at)..=first_back).contains(number);
    for (number, admitted) in over.into_iter().filter(|(number, _)| !is_amiss(number)) {
        let shared = admitted - counted.by_themselves[number];
        // Unless its servers have not heard of each other for so long that they change places once more.
        if shared > AMOUNT {
            return Err(format!("{what}: {shared} of {admitted} by the store where nothing was amiss, in {number}"));
        }
    }
    let alone: u64 =
        counted.by_themselves.iter().filter(|(number, _)| !is_amiss(number)).map(|(_, admitted)| admitted).sum();
    if alone > PROCESSES {
        return Err(format!("{what}: {alone} were admitted without the shared store where nothing was amiss"));
    }
    if back_after >= settled_after + FOUND_WITHIN || back_after >= OVER_WITHIN {
        return Err(format!("{what}: back after {back_after:?}"));
    }
    let after = counted.windows.range(first_back + 1..).filter(|(_, admitted)| **admitted == AMOUNT).count();
    if after < 2 {
        return Err(format!("{what}: they share nothing afterwards: {:?}", counted.windows));
    }
    Ok(())
}

fn sentinel_url(set: &Sentinels) -> String {
    let addrs: Vec<_> = set.sentinel_addrs().iter().map(ToString::to_string).collect();
    format!("redis+sentinel://{}/{}", addrs.join(","), Sentinels::SERVICE)
}

#[test]
fn valkeys_sentinels_name_another_master_when_it_is_killed() {
    let Some(options) = valkey() else { return };
    check_failover(|| {
        let set = Sentinels::start(options.clone());
        let url = sentinel_url(&set).replacen("redis", "valkey", 1);
        fail_over("Valkey's Sentinel, killed", &url, || _ = set.kill_master(), || set.await_settled())
    });
}

#[test]
fn a_replica_takes_over_in_a_cluster_of_valkey_when_a_master_is_killed() {
    let Some(options) = valkey() else { return };
    check_failover(|| {
        let cluster = Cluster::start(options.clone());
        let url = cluster_url(&cluster).replacen("redis", "valkey", 1);
        let kill = || _ = cluster.kill_master_of(HOT);
        fail_over("Cluster of Valkey, killed", &url, kill, || cluster.await_settled())
    });
}

/// Where there is one; else that is said.
fn valkey() -> Option<Options> {
    let options = Options::valkey();
    if options.is_none() {
        println!("skipped: there is no valkey-server");
    }
    options
}

#[test]
fn sentinels_name_another_master_when_it_is_killed() {
    check_failover(|| {
        let set = Sentinels::redis();
        fail_over("Sentinel, killed", &sentinel_url(&set), || _ = set.kill_master(), || set.await_settled())
    });
}

#[test]
fn sentinels_name_another_master_when_it_stands_still() {
    check_failover(|| {
        let set = Sentinels::redis();
        let master = set.master();
        let other = || {
            testbed::wait_for("another master", 2 * OVER_WITHIN, || {
                (set.master().addr() != master.addr()).then_some(())
            });
            // It comes back, and believes for a moment to be the master still.
            master.resume();
            set.await_settled();
        };
        fail_over("Sentinel, stood still", &sentinel_url(&set), || master.pause(), other)
    });
}

#[test]
fn a_replica_takes_over_in_a_cluster_when_a_master_is_killed() {
    check_failover(|| {
        let cluster = Cluster::redis();
        let kill = || _ = cluster.kill_master_of(HOT);
        fail_over("Cluster, killed", &cluster_url(&cluster), kill, || cluster.await_settled())
    });
}

#[test]
fn a_replica_takes_over_in_a_cluster_when_a_master_stands_still() {
    check_failover(|| {
        let cluster = Cluster::redis();
        let master = cluster.master_of(HOT);
        let other = || {
            testbed::wait_for("another master", 2 * OVER_WITHIN, || {
                (cluster.nodes().iter().any(testbed::Server::runs) && cluster_master(&cluster, master)).then_some(())
            });
            master.resume();
            cluster.await_settled();
        };
        fail_over("Cluster, stood still", &cluster_url(&cluster), || master.pause(), other)
    });
}

/// Whether somebody else than this one has the hot key, as those see it who run.
fn cluster_master(cluster: &Cluster, than: &testbed::Server) -> bool {
    cluster.master_of(HOT).addr() != than.addr()
}

#[tokio::test]
async fn a_failover_loses_at_most_what_the_master_had_not_handed_on() {
    in_one_of_several(loses_at_most_what_the_master_had_not_handed_on).await;
}

/// Fails if the replica was further behind than one is on a machine that runs it.
async fn loses_at_most_what_the_master_had_not_handed_on() -> Result<(), String> {
    const QUOTA: u64 = 1_000_000;
    let set = Sentinels::redis();
    let (store, subject) = (store(sentinel_url(&set)), subject("r", &format!("{QUOTA}/day"), Algorithm::FixedWindow));
    let mut run = hammer(&subject, &store, 32, Duration::from_millis(700)).await;
    // On a busy machine, some are not answered in time.
    let other = run.errors.iter().find(|error| !matches!(error, RedisError::TimedOut));
    assert!(other.is_none(), "{other:?}");
    let just_before = hammer(&subject, &store, 32, JUST_BEFORE).await.admitted;
    set.kill_master();
    set.await_settled();
    run.admitted += just_before + back(&subject, &store).await.1.admitted;
    // Those whose answers were lost are counted and were not admitted, so what is lost can be less than nothing.
    let counted = QUOTA - subject.remaining(&store).await;
    let lost = i128::from(run.admitted) - i128::from(counted);
    println!(
        "Sentinel: {lost} of {} admissions were lost, {just_before} were made in the last {JUST_BEFORE:?}",
        run.admitted
    );
    if lost <= i128::from(just_before) { Ok(()) } else { Err(format!("{lost} of {just_before}")) }
}

/// A replica is at most so far behind on a machine with anything to do.
const JUST_BEFORE: Duration = Duration::from_millis(300);
