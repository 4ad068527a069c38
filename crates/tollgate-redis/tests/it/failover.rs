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
    store::{Answerer, LOCAL_COUNTERS, Store, Stores, memory::MemoryStore},
};
use tollgate_redis::RedisStore;

use crate::rig::{BACK_WITHIN, REST, Subject, TIMEOUT, back, hammer, settings, store, subject};

const PROCESSES: u64 = 4;
/// Of each window, which are those of the calendar, so that all processes have the same.
const AMOUNT: u64 = 100;
const WINDOW: Duration = Duration::from_millis(500);
/// One by the shared store, one of each process, and one that was counted and lost.
const BOUND: u64 = AMOUNT * (1 + PROCESSES + 1);
/// Where a process is told where the store is.
const STORE: &str = "TOLLGATE_TEST_STORE";
/// A failover is over within so long: a second or so until the others agree, as long until one of them is chosen, and a busy machine.
const OVER_WITHIN: Duration = Duration::from_secs(15);

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

/// Processes ask, something happens, and they go on for a while after it is over.
fn check_failover(what: &str, url: &str, happens: impl FnOnce(), settled: impl FnOnce()) {
    let clock = Clock::system();
    let processes = Processes::start(url);
    thread::sleep(2 * WINDOW);
    let failed_at = clock.now();
    happens();
    settled();
    let settled_after = clock.now().since(failed_at);
    // Until all have found the way, and for three windows after that.
    thread::sleep(BACK_WITHIN + 3 * WINDOW);
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
    // Outside of the failure the store gives no more than the amount. A process whose first question takes too long, or that a busy machine
    // keeps from its answer, decides by itself even there, as is said: once each, no more.
    let is_amiss = |number: &u64| (window(failed_at)..=first_back).contains(number);
    for (number, admitted) in over.into_iter().filter(|(number, _)| !is_amiss(number)) {
        let shared = admitted - counted.by_themselves[number];
        assert!(
            shared <= AMOUNT,
            "{what}: {shared} of {admitted} by the store where nothing was amiss, in window {number}"
        );
    }
    let alone: u64 =
        counted.by_themselves.iter().filter(|(number, _)| !is_amiss(number)).map(|(_, admitted)| admitted).sum();
    assert!(alone <= PROCESSES, "{what}: {alone} were admitted without the shared store where nothing was amiss");
    assert!(back_after < settled_after + BACK_WITHIN && back_after < OVER_WITHIN, "{what}: back after {back_after:?}");
    let after = counted.windows.range(first_back + 1..).filter(|(_, admitted)| **admitted == AMOUNT).count();
    assert!(after >= 2, "{what}: they share nothing afterwards: {:?}", counted.windows);
}

fn sentinel_url(set: &Sentinels) -> String {
    let addrs: Vec<_> = set.sentinel_addrs().iter().map(ToString::to_string).collect();
    format!("redis+sentinel://{}/{}", addrs.join(","), Sentinels::SERVICE)
}

fn cluster_url(cluster: &Cluster) -> String {
    let addrs: Vec<_> = cluster.addrs().iter().map(ToString::to_string).collect();
    format!("redis+cluster://{}", addrs.join(","))
}

/// What decides where the counters lie: the key in the braces.
const HOT: &str = "client";

#[test]
fn valkeys_sentinels_name_another_master_when_it_is_killed() {
    let Some(options) = valkey() else { return };
    let set = Sentinels::start(options);
    let url = sentinel_url(&set).replacen("redis", "valkey", 1);
    check_failover("Valkey's Sentinel, killed", &url, || _ = set.kill_master(), || set.await_settled());
}

#[test]
fn a_replica_takes_over_in_a_cluster_of_valkey_when_a_master_is_killed() {
    let Some(options) = valkey() else { return };
    let cluster = Cluster::start(options);
    let url = cluster_url(&cluster).replacen("redis", "valkey", 1);
    let kill = || _ = cluster.kill_master_of(HOT);
    check_failover("Cluster of Valkey, killed", &url, kill, || cluster.await_settled());
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
    let set = Sentinels::redis();
    check_failover("Sentinel, killed", &sentinel_url(&set), || _ = set.kill_master(), || set.await_settled());
}

#[test]
fn sentinels_name_another_master_when_it_stands_still() {
    let set = Sentinels::redis();
    let master = set.master();
    let other = || {
        testbed::wait_for("another master", OVER_WITHIN, || (set.master().addr() != master.addr()).then_some(()));
        // It comes back, and believes for a moment to be the master still.
        master.resume();
        set.await_settled();
    };
    check_failover("Sentinel, stood still", &sentinel_url(&set), || master.pause(), other);
}

#[test]
fn a_replica_takes_over_in_a_cluster_when_a_master_is_killed() {
    let cluster = Cluster::redis();
    let kill = || _ = cluster.kill_master_of(HOT);
    check_failover("Cluster, killed", &cluster_url(&cluster), kill, || cluster.await_settled());
}

#[test]
fn a_replica_takes_over_in_a_cluster_when_a_master_stands_still() {
    let cluster = Cluster::redis();
    let master = cluster.master_of(HOT);
    let other = || {
        testbed::wait_for("another master", OVER_WITHIN, || {
            (cluster.nodes().iter().any(testbed::Server::runs) && cluster_master(&cluster, master)).then_some(())
        });
        master.resume();
        cluster.await_settled();
    };
    check_failover("Cluster, stood still", &cluster_url(&cluster), || master.pause(), other);
}

/// Whether somebody else than this one has the hot key, as those see it who run.
fn cluster_master(cluster: &Cluster, than: &testbed::Server) -> bool {
    cluster.master_of(HOT).addr() != than.addr()
}

#[tokio::test]
async fn a_cluster_that_was_away_as_a_whole_is_found_again() {
    let cluster = Cluster::redis();
    let (store, subject) = (store(cluster_url(&cluster)), subject("r", "1000/hour", Algorithm::FixedWindow));
    assert_eq!(subject.admitted(&store, 3).await, 3);
    cluster.nodes().iter().for_each(testbed::Server::pause);
    for _ in 0..10 {
        assert!(subject.take(&store).await.is_err());
    }
    cluster.nodes().iter().for_each(testbed::Server::resume);
    cluster.await_settled();
    let (after, _) = back(&subject, &store).await;
    println!("Cluster, all stood still: back after {after:?}");
}

#[tokio::test]
async fn slots_that_move_are_followed_and_nothing_is_counted_twice() {
    const QUOTA: u64 = 500;
    let cluster = Cluster::redis();
    let store = store(format!("redis+cluster://{}", cluster.addrs()[0]));
    let hot = subject("hot", &format!("{QUOTA}/hour"), Algorithm::FixedWindow);
    let mut admitted = hot.admitted(&store, 100).await;
    // ASK: its keys are elsewhere already, and its slot is still here.
    cluster.set_migrating(HOT);
    admitted += hot.admitted(&store, 100).await;
    // MOVED.
    cluster.move_slot(HOT);
    admitted += hot.admitted(&store, 100).await;
    cluster.move_slot(HOT);
    admitted += hot.admitted(&store, 300).await;
    assert_eq!(admitted, QUOTA);
    assert_eq!(hot.remaining(&store).await, 0);
}

/// From one master to another and on, half-way and whole, while three instances ask all the time.
#[tokio::test]
async fn slots_that_move_under_load_admit_every_unit_once() {
    const QUOTA: u64 = 3_000;
    let cluster = Arc::new(Cluster::redis());
    let stores: Vec<_> = (0..3).map(|_| store(cluster_url(&cluster))).collect();
    let hot = subject("hot", &format!("{QUOTA}/hour"), Algorithm::FixedWindow);
    for store in &stores {
        store.probe().await.expect("it answers");
    }
    let moving = tokio::task::spawn_blocking(move || {
        let clock = Clock::system();
        let (end, mut times) = (clock.now() + Duration::from_secs(2), 0);
        while clock.now() < end {
            cluster.set_migrating(HOT);
            thread::sleep(Duration::from_millis(50));
            cluster.move_slot(HOT);
            thread::sleep(Duration::from_millis(50));
            times += 1;
        }
        (cluster, times)
    });
    let asking = stores.iter().map(|store| hammer(&hot, store, 4, Duration::from_secs(3)));
    let (runs, moved) = tokio::join!(futures_util::future::join_all(asking), moving);
    let (_cluster, times) = moved.expect("it moves");
    let (mut admitted, mut asked, mut failed) = (0, 0, 0);
    for mut run in runs {
        run.check_patience("a moving slot");
        admitted += run.admitted;
        asked += run.took.len();
        failed += run.errors.len();
    }
    println!("moved {times} times: {failed} of {asked} failed, {admitted} admitted");
    assert!(times >= 3, "moved {times} times");
    assert!(failed * 20 <= asked, "{failed} of {asked} failed");
    admitted += hot.admitted(&stores[0], QUOTA).await;
    // What was charged and not answered is lost, and nothing is admitted twice.
    assert!(admitted <= QUOTA && admitted + failed as u64 >= QUOTA, "{admitted} of {QUOTA}");
}

#[tokio::test]
async fn several_counters_in_a_slot_that_is_half_moved_wait_for_it_in_time() {
    let cluster = Cluster::redis();
    let store = store(cluster_url(&cluster));
    let two = subject("two", "100/hour; 200/day", Algorithm::FixedWindow);
    assert!(store.take(&[two.charge(1)]).await.is_ok());
    cluster.set_migrating(HOT);
    let clock = Clock::system();
    // Those that are all on one side are counted. Those of which some are new are on neither: TRYAGAIN.
    let moved = store.take(&[two.charge(1)]).await;
    assert!(moved.is_ok(), "{moved:?}");
    let new = subject("new", "100/hour; 200/day", Algorithm::FixedWindow);
    let asked_at = clock.now();
    let answer = store.take(&[new.charge(1)]).await;
    let took = clock.now().since(asked_at);
    println!("TRYAGAIN: {answer:?} after {took:?}");
    assert!(took < Duration::from_millis(300), "{took:?}");
    cluster.move_slot(HOT);
    let (after, _) = back(&new, &store).await;
    println!("TRYAGAIN: back after {after:?}");
    let taken = store.look(&[two.charge(0)]).await.expect("it answers");
    assert_eq!(taken.outcomes[0].status.remaining, 98);
}

#[tokio::test]
async fn a_failover_loses_at_most_what_the_master_had_not_handed_on() {
    const QUOTA: u64 = 1_000_000;
    let set = Sentinels::redis();
    let (store, subject) = (store(sentinel_url(&set)), subject("r", &format!("{QUOTA}/day"), Algorithm::FixedWindow));
    let mut run = hammer(&subject, &store, 32, Duration::from_millis(700)).await;
    assert!(run.errors.is_empty(), "{:?}", run.errors[0]);
    let just_before = hammer(&subject, &store, 32, JUST_BEFORE).await.admitted;
    set.kill_master();
    set.await_settled();
    run.admitted += just_before + u64::from(back(&subject, &store).await.1);
    // Those whose answers were lost are counted and were not admitted, so what is lost can be less than nothing.
    let counted = QUOTA - subject.remaining(&store).await;
    let lost = i128::from(run.admitted) - i128::from(counted);
    println!(
        "Sentinel: {lost} of {} admissions were lost, {just_before} were made in the last {JUST_BEFORE:?}",
        run.admitted
    );
    assert!(lost <= i128::from(just_before), "{lost} of {just_before}");
}

/// A replica is at most so far behind on a machine with anything to do.
const JUST_BEFORE: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_master_that_stands_still_keeps_nobody_from_the_others() {
    let cluster = Cluster::redis();
    let store = store(cluster_url(&cluster));
    let hot = subject("r", "1000000/day", Algorithm::FixedWindow);
    let silent = cluster.master_of(HOT);
    let others: Vec<_> =
        (0..100).map(|i| i.to_string()).filter(|key| cluster.master_of(key).addr() != silent.addr()).collect();
    let other = hot.of(&others[0]);
    assert_eq!(hot.admitted(&store, 1).await + other.admitted(&store, 1).await, 2);
    silent.pause();
    let span = Duration::from_millis(600);
    // They come at all times, and not as soon as others are answered.
    let come = (0..100).map(async |i| {
        tokio::time::sleep(span * i / 100).await;
        hot.take(&store).await.is_err()
    });
    let (stuck, mut served) = tokio::join!(futures_util::future::join_all(come), hammer(&other, &store, 16, span));
    silent.resume();
    served.check_patience("the others'");
    let on_average = served.took.iter().sum::<Duration>() / u32::try_from(served.took.len()).expect("they are few");
    assert!(on_average < TIMEOUT / 5, "they wait for him: {on_average:?} on average");
    let (errors, all) = (served.errors.len(), served.took.len());
    println!("{errors} of {all} were kept from other masters");
    assert!(stuck.iter().all(|is_error| *is_error), "the master was not silent");
    assert!(errors * 20 <= all, "{errors} of {all}, such as {:?}", served.errors[0]);
}

/// A master that did not answer kept everybody from the others: whoever had waited for it failed at the same moment, three in a row, and then
/// all were paused; and where the counter lay by which the store is tried, until a replica took over.
#[tokio::test]
async fn a_master_that_stands_still_leaves_the_counters_of_others_shared() {
    // Else the Cluster itself refuses everybody, from when it has noticed until a replica takes over: after some 1.3 s.
    let cluster = Cluster::start(Options::redis().with(&["--cluster-require-full-coverage", "no"]));
    let memory = MemoryStore::new(LOCAL_COUNTERS, Clock::system());
    let stores = Stores::sharing(RedisStore::connect(settings(cluster_url(&cluster))), memory, |_| {});
    let hot = subject("r", "1000000/day", Algorithm::FixedWindow);
    let silent = cluster.master_of("tollgate:{}:probe:fixed-window/1s");
    let (stuck, others): (Vec<_>, Vec<_>) =
        (0..60).map(|i| i.to_string()).partition(|key| cluster.master_of(key).addr() == silent.addr());
    let clock = Clock::system();
    while stores.take(&[hot.charge(1)]).await.answerers.is_some() {}
    silent.pause();
    let end = clock.now() + Duration::from_millis(1_500);
    let ask = async |key: &String| {
        let (subject, mut all, mut shared) = (hot.of(key), 0_u64, 0_u64);
        while clock.now() < end {
            let taken = stores.take(&[subject.charge(1)]).await;
            all += 1;
            shared += u64::from(taken.answerers.is_none());
            tokio::time::sleep(10 * REST).await;
        }
        (all, shared)
    };
    let (stuck, others) = tokio::join!(
        futures_util::future::join_all(stuck.iter().map(ask)),
        futures_util::future::join_all(others.iter().map(ask)),
    );
    silent.resume();
    let sum = |of: &[(u64, u64)]| of.iter().fold((0, 0), |(all, shared), one| (all + one.0, shared + one.1));
    let ((of_silent, by_silent), (of_others, by_others)) = (sum(&stuck), sum(&others));
    println!("shared: {by_others} of {of_others} of other masters, {by_silent} of {of_silent} of the silent one");
    assert!(by_others * 10 >= of_others * 9, "{by_others} of {of_others} are shared");
}
