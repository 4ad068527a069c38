//! A Cluster while slots move, while all of it is away, and while one master stands still that concerns some keys alone.

use std::{sync::Arc, thread, time::Duration};

use testbed::{Cluster, Options};
use tollgate::{
    clock::Clock,
    quota::Algorithm,
    store::{LOCAL_COUNTERS, Store, Stores, memory::MemoryStore},
};
use tollgate_redis::{RedisError, RedisStore};

use crate::rig::{
    Attended, HOT, REST, TIMEOUT, back, cluster_url, hammer, in_one_of_several, patient, settings, store, subject,
};

#[tokio::test]
async fn a_cluster_that_was_away_as_a_whole_is_found_again() {
    let cluster = Cluster::redis();
    let (store, subject) = (store(cluster_url(&cluster)), subject("r", "1000/hour", Algorithm::FixedWindow));
    assert_eq!(subject.spend(&store, 3).await.admitted, 3);
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
    let store = patient(format!("redis+cluster://{}", cluster.addrs()[0]));
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
    let (mut admitted, mut failed) = (0, 0);
    for store in &stores {
        let first = hot.spend(store, 1).await;
        (admitted, failed) = (admitted + first.admitted, failed + first.errors.len());
    }
    let moving = tokio::task::spawn_blocking(move || {
        let clock = Clock::system();
        let (end, mut times) = (clock.now() + Duration::from_secs(2), 0);
        while clock.now() < end || times < 3 {
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
    let (mut asked, mut late) = (0, failed);
    for mut run in runs {
        run.check_patience("a moving slot");
        admitted += run.admitted;
        asked += run.took.len();
        failed += run.errors.len();
        late += run.errors.iter().filter(|error| matches!(error, RedisError::TimedOut)).count();
    }
    println!("moved {times} times: {failed} of {asked} failed, {late} of them late, {admitted} admitted");
    // On a busy machine, some are not answered in time.
    assert!((failed - late) * 20 <= asked && late * 2 <= asked, "{failed} of {asked} failed, {late} late");
    let end = hot.spend(&stores[0], QUOTA).await;
    (admitted, failed) = (admitted + end.admitted, failed + end.errors.len());
    // What was charged and not answered is lost, and nothing is admitted twice.
    assert!(admitted <= QUOTA && admitted + failed as u64 >= QUOTA, "{admitted} of {QUOTA}");
}

#[tokio::test]
async fn several_counters_in_a_slot_that_is_half_moved_wait_for_it_in_time() {
    let cluster = Cluster::redis();
    let (store, patient) = (store(cluster_url(&cluster)), patient(cluster_url(&cluster)));
    let two = subject("two", "100/hour; 200/day", Algorithm::FixedWindow);
    two.of("somebody else").spend(&store, 1).await;
    assert!(patient.take(&[two.charge(1)]).await.is_ok());
    cluster.set_migrating(HOT);
    let clock = Attended::start();
    // Those that are all on one side are counted. Those of which some are new are on neither: TRYAGAIN.
    let moved = patient.take(&[two.charge(1)]).await;
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
    let taken = patient.look(&[two.charge(0)]).await.expect("it answers");
    assert_eq!(taken.outcomes[0].status.remaining, 98);
}

#[tokio::test]
async fn a_master_that_stands_still_keeps_nobody_from_the_others() {
    let cluster = Cluster::redis();
    in_one_of_several(async || keeps_nobody_from_the_others(&cluster).await).await;
}

async fn keeps_nobody_from_the_others(cluster: &Cluster) -> Result<(), String> {
    let store = store(cluster_url(cluster));
    let hot = subject("r", "1000000/day", Algorithm::FixedWindow);
    let silent = cluster.master_of(HOT);
    let others: Vec<_> =
        (0..100).map(|i| i.to_string()).filter(|key| cluster.master_of(key).addr() != silent.addr()).collect();
    let other = hot.of(&others[0]);
    assert_eq!(hot.spend(&store, 1).await.admitted + other.spend(&store, 1).await.admitted, 2);
    silent.pause();
    let span = Duration::from_millis(600);
    // They come at all times, and not as soon as others are answered.
    let come = (0..100).map(async |i| {
        tokio::time::sleep(span * i / 100).await;
        hot.take(&store).await.is_err()
    });
    let (stuck, mut served) = tokio::join!(futures_util::future::join_all(come), hammer(&other, &store, 16, span));
    silent.resume();
    cluster.await_settled();
    served.check_patience("the others'");
    let on_average = served.took.iter().sum::<Duration>() / u32::try_from(served.took.len()).expect("they are few");
    assert!(on_average < TIMEOUT / 5, "they wait for him: {on_average:?} on average");
    let (errors, all) = (served.errors.len(), served.took.len());
    println!("{errors} of {all} were kept from other masters");
    assert!(stuck.iter().all(|is_error| *is_error), "the master was not silent");
    // Those of the others, too, are to be answered within a tenth of a second.
    if errors * 20 <= all { Ok(()) } else { Err(format!("{errors} of {all}, such as {:?}", served.errors[0])) }
}

/// A master that did not answer kept everybody from the others: whoever had waited for it failed at the same moment, three in a row, and then
/// all were paused; and where the counter lay by which the store is tried, until a replica took over.
#[tokio::test]
async fn a_master_that_stands_still_leaves_the_counters_of_others_shared() {
    // Else the Cluster itself refuses everybody, from when it has noticed until a replica takes over: after some 1.3 s.
    let cluster = Cluster::start(Options::redis().with(&["--cluster-require-full-coverage", "no"]));
    in_one_of_several(async || leaves_the_counters_of_others_shared(&cluster).await).await;
}

async fn leaves_the_counters_of_others_shared(cluster: &Cluster) -> Result<(), String> {
    let memory = MemoryStore::new(LOCAL_COUNTERS, Clock::system());
    let stores = Stores::sharing(RedisStore::connect(settings(cluster_url(cluster))), memory, |_| {});
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
    cluster.await_settled();
    let sum = |of: &[(u64, u64)]| of.iter().fold((0, 0), |(all, shared), one| (all + one.0, shared + one.1));
    let ((of_silent, by_silent), (of_others, by_others)) = (sum(&stuck), sum(&others));
    println!("shared: {by_others} of {of_others} of other masters, {by_silent} of {of_silent} of the silent one");
    // Of three that are not answered within a tenth of a second, all are paused.
    let is_shared = by_others * 10 >= of_others * 9;
    if is_shared { Ok(()) } else { Err(format!("{by_others} of {of_others} are shared")) }
}
