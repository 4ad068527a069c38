//! A cluster moves slots, and replaces a master that is killed.

use testbed::{Cluster, Options, Server};

use crate::left::exists;

#[test]
fn moves_slots_fails_over_and_leaves_nothing() {
    let cluster = Cluster::redis();
    assert_eq!(cluster.addrs().len(), 6);
    moves_a_slot(&cluster);
    fails_over(&cluster);

    let pids: Vec<u32> = cluster.nodes().iter().filter_map(Server::pid).collect();
    assert_eq!(pids.len(), 6);
    drop(cluster);
    assert!(!pids.iter().any(|pid| exists(*pid)));
}

#[test]
fn of_valkey_with_a_password_does_so_too_where_there_is_one() {
    let Some(options) = Options::valkey() else { return };
    let cluster = Cluster::start(Options { password: Some("s3cret".to_owned()), ..options });
    moves_a_slot(&cluster);
    fails_over(&cluster);
}

fn moves_a_slot(cluster: &Cluster) {
    let source = cluster.master_of("{moved}");
    source.command(&["SET", "{moved}", "value"]);
    source.command(&["SET", "{moved}2", "value"]);

    let target = cluster.set_migrating("{moved}");
    let refusal = source.command(&["GET", "{moved}"]);
    assert!(refusal.error().starts_with("ASK "), "{refusal:?}");
    assert!(refusal.error().ends_with(&target.addr().to_string()), "{refusal:?}");
    let mut connection = target.connect().expect("it listens");
    assert!(connection.command(&["GET", "{moved}"]).expect("it answers").error().starts_with("MOVED "));
    connection.command(&["ASKING"]).expect("it answers");
    assert_eq!(connection.command(&["GET", "{moved}"]).expect("it answers").text(), "value");

    let moved_to = cluster.move_slot("{moved}");
    assert_eq!(moved_to.addr(), target.addr());
    assert_eq!(cluster.master_of("{moved}").addr(), target.addr());
    assert_eq!(target.command(&["GET", "{moved}2"]).text(), "value");
    let refusal = source.command(&["GET", "{moved}"]);
    assert!(refusal.error().starts_with("MOVED ") && refusal.error().ends_with(&target.addr().to_string()));

    assert_ne!(cluster.move_slot("{moved}").addr(), target.addr());
}

fn fails_over(cluster: &Cluster) {
    let master = cluster.master_of("key");
    let mut connection = master.connect().expect("it listens");
    connection.command(&["SET", "key", "value"]).expect("it answers");
    // It counts the replicas that have what this connection wrote.
    assert_eq!(connection.command(&["WAIT", "1", "10000"]).expect("it answers").integer(), 1);

    let killed = cluster.kill_master_of("key");
    assert_eq!(killed.addr(), master.addr());
    cluster.await_settled();
    assert_eq!(cluster.master_of("key").command(&["GET", "key"]).text(), "value");

    killed.restart();
    cluster.await_settled();
    assert!(killed.command(&["GET", "key"]).error().starts_with("MOVED "));
}
