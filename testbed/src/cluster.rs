//! A cluster: masters that share the slots, each with a replica.

mod resharding;

use std::{net::SocketAddr, time::Duration};

use crate::{options::Options, patience::wait_for, resp::Reply, server::Server};

const SLOTS: usize = 16384;
/// The fewest masters of which a majority is left when one is gone. There are as many replicas.
const MASTERS: usize = 3;
/// A node that is silent for so long has failed. Shorter, and a busy machine looks like a failure.
const NODE_TIMEOUT_MS: &str = "1000";

/// Nodes find together in some 3 s, half of which they wait out of caution, and fail over within about as long.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// Three masters with a replica each.
///
/// ```no_run
/// use testbed::Cluster;
///
/// let cluster = Cluster::redis();
/// // … a client is told `cluster.addrs()`, and then
/// cluster.kill_master_of("key");
/// cluster.await_settled();
/// assert_eq!(cluster.master_of("key").command(&["SET", "key", "value"]).text(), "OK");
/// ```
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Server>,
}

impl Cluster {
    /// A cluster of Redis servers with nothing special.
    ///
    /// # Panics
    ///
    /// When there is no redis-server in `PATH`; the message says what to install.
    #[must_use]
    pub fn redis() -> Self {
        Self::start(Options::redis())
    }

    /// Starts a cluster and waits until all of its nodes agree on who serves what. With TLS they speak it to each other as well.
    ///
    /// # Panics
    ///
    /// When it does not start; the message says what it waited for.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let options = options
            .with(&["--cluster-enabled", "yes", "--cluster-node-timeout", NODE_TIMEOUT_MS])
            // However old its copy: the replica of a master that is killed early has hardly heard of it.
            .with(&["--cluster-replica-validity-factor", "0"])
            // Each keeps its own replica.
            .with(&["--cluster-migration-barrier", "10"])
            // The replica has its copy at once, rather than when others might have come that want one as well.
            .with(&["--repl-diskless-sync-delay", "0"]);
        let options = if options.tls.is_some() { options.with(&["--tls-cluster", "yes"]) } else { options };
        let cluster = Self { nodes: (0..2 * MASTERS).map(|_| Server::start(options.clone())).collect() };
        let (masters, replicas) = cluster.nodes.split_at(MASTERS);
        cluster.meet();
        for (i, master) in masters.iter().enumerate() {
            let slots = (SLOTS * i / MASTERS..SLOTS * (i + 1) / MASTERS).map(|slot| slot.to_string());
            master.tell(&["CLUSTER".to_owned(), "ADDSLOTS".to_owned()].into_iter().chain(slots).collect::<Vec<_>>());
        }
        for (replica, master) in replicas.iter().zip(masters) {
            replica.tell(&["CLUSTER", "REPLICATE", &id(master)]);
        }
        wait_for("replicas to have their copies", SETTLE_LIMIT, || {
            replicas.iter().all(Server::is_connected_replica).then_some(())
        });
        cluster.await_settled();
        cluster
    }

    /// Brings the nodes together, and waits until each knows all.
    fn meet(&self) {
        for (node, epoch) in self.nodes.iter().zip(1..) {
            // Else they find only later that they are of the same, and quarrel.
            node.tell(&["CLUSTER", "SET-CONFIG-EPOCH", &i32::to_string(&epoch)]);
        }
        let (first, others) = self.nodes.split_first().expect("there are nodes");
        for other in others {
            first.tell(&["CLUSTER", "MEET", "127.0.0.1", &other.peer_port().to_string()]);
        }
        wait_for("the nodes to meet", SETTLE_LIMIT, || {
            let knows_all = |node: &Server| {
                let known = node.tell(&["CLUSTER", "NODES"]);
                known.text().lines().count() == self.nodes.len() && !known.text().contains("handshake")
            };
            self.nodes.iter().all(knows_all).then_some(())
        });
    }

    /// Where the nodes listen.
    #[must_use]
    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(Server::addr).collect()
    }

    /// The nodes themselves. The first three were masters at the start.
    #[must_use]
    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// The node that serves a key, as the first node that answers sees it.
    ///
    /// # Panics
    ///
    /// When no node answers.
    #[must_use]
    #[track_caller]
    pub fn master_of(&self, key: &str) -> &Server {
        let (slot, shares) = (self.slot(key), self.shares());
        let share = shares.iter().find(|share| (share.first..=share.last).contains(&slot));
        share
            .and_then(|share| self.node_at(share.port))
            .unwrap_or_else(|| panic!("none of our nodes serves slot {slot}, but {shares:?}"))
    }

    /// Kills the node that serves a key and returns it; it may be restarted, and will be a replica if another has taken
    /// its place.
    #[track_caller]
    pub fn kill_master_of(&self, key: &str) -> &Server {
        let master = self.master_of(key);
        master.kill9();
        master
    }

    /// Waits until all nodes that run agree on who serves what, and all who serve run.
    ///
    /// # Panics
    ///
    /// When that takes too long.
    #[track_caller]
    pub fn await_settled(&self) {
        wait_for("a cluster to settle", SETTLE_LIMIT, || {
            let shares = self.shares();
            let agrees = |node: &Server| {
                node.ask(&["CLUSTER", "INFO"]).is_some_and(|state| state.text().contains("cluster_state:ok"))
                    && shares_by(node).as_ref() == Some(&shares)
            };
            let serve = shares.iter().all(|share| self.node_at(share.port).is_some_and(Server::runs));
            (serve && self.nodes.iter().filter(|node| node.runs()).all(agrees)).then_some(())
        });
    }

    #[track_caller]
    fn slot(&self, key: &str) -> i64 {
        let slot = self.nodes.iter().find_map(|node| node.ask(&["CLUSTER", "KEYSLOT", key]));
        slot.expect("a node runs").integer()
    }

    /// The masters that run and serve something.
    #[track_caller]
    fn masters(&self) -> Vec<&Server> {
        let shares = self.shares();
        let serves = |node: &&Server| shares.iter().any(|share| share.port == i64::from(node.port()));
        self.nodes.iter().filter(|node| node.runs()).filter(serves).collect()
    }

    /// Who serves what, as the first node that answers sees it.
    #[track_caller]
    fn shares(&self) -> Vec<Share> {
        self.nodes.iter().find_map(shares_by).expect("a node runs")
    }

    fn node_at(&self, port: i64) -> Option<&Server> {
        self.nodes.iter().find(|node| i64::from(node.port()) == port)
    }
}

/// Who serves what, as a node sees it.
fn shares_by(node: &Server) -> Option<Vec<Share>> {
    let share = |reply: &Reply| {
        let [first, last, master, ..] = reply.array() else { panic!("not a share of the slots: {reply:?}") };
        Share { first: first.integer(), last: last.integer(), port: master.array()[1].integer() }
    };
    Some(node.ask(&["CLUSTER", "SLOTS"])?.array().iter().map(share).collect())
}

/// Slots in a row and where their master listens.
#[derive(PartialEq, Eq, Debug)]
struct Share {
    first: i64,
    last: i64,
    port: i64,
}

fn id(node: &Server) -> String {
    node.tell(&["CLUSTER", "MYID"]).text().to_owned()
}
