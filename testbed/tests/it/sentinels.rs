//! Sentinels make the replica the master when the master is killed.

use std::time::Duration;

use testbed::{Options, Reply, Sentinels, Server, wait_for};

use crate::left::exists;

/// A failover takes some 2 s.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn fail_over_with_what_was_replicated_and_leave_nothing() {
    let set = Sentinels::start(Options { password: Some("s3cret".to_owned()), ..Options::redis() });
    assert_eq!(set.sentinel_addrs().len(), 3);
    let mut connection = set.master().connect().expect("it listens");
    connection.command(&["SET", "key", "value"]).expect("it answers");
    // It counts the replicas that have what this connection wrote.
    assert_eq!(connection.command(&["WAIT", "1", "10000"]).expect("it answers").integer(), 1);

    let killed = set.kill_master();
    assert_eq!(killed.pid(), None);
    set.await_settled();
    let master = set.master();
    assert_ne!(master.addr(), killed.addr());
    assert_eq!(master.command(&["GET", "key"]).text(), "value");
    assert_eq!(master.command(&["SET", "key", "other"]).text(), "OK");

    killed.restart();
    wait_for("the former master to be a replica", LIMIT, || {
        // Sentinels cut connections when they make it one.
        killed.try_command(&["GET", "key"]).is_ok_and(|reply| reply == Reply::Bytes(b"other".to_vec())).then_some(())
    });
    assert_eq!(set.master().addr(), master.addr());

    let pids: Vec<u32> = set.servers().iter().chain(set.sentinels()).filter_map(Server::pid).collect();
    assert_eq!(pids.len(), 5);
    drop(set);
    assert!(!pids.iter().any(|pid| exists(*pid)));
}

#[test]
fn of_valkey_fail_over_when_the_master_stands_still_where_there_is_one() {
    let Some(options) = Options::valkey() else { return };
    let set = Sentinels::start(options);
    let paused = set.master();
    paused.pause();
    set.await_settled();
    assert_ne!(set.master().addr(), paused.addr());
    paused.resume();
    wait_for("the former master to be a replica", LIMIT, || {
        paused
            .try_command(&["SET", "key", "value"])
            .is_ok_and(|reply| matches!(reply, Reply::Error(error) if error.starts_with("READONLY")))
            .then_some(())
    });
}
