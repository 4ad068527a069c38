//! A master and its replica, watched by sentinels that make the replica the master when the master is gone.

use std::{net::SocketAddr, time::Duration};

use crate::{options::Options, patience::wait_for, resp::Reply, server::Server};

/// A master that is silent for so long is down. Shorter, and a busy machine looks like a failure.
const DOWN_AFTER_MS: &str = "500";
/// After a failed attempt at a failover, sentinels wait for twice as long.
const FAILOVER_TIMEOUT_MS: &str = "2000";
/// How many there are, and how many must agree that the master is down.
const SENTINELS: usize = 3;
const QUORUM: &str = "2";

/// How often a sentinel looks and speaks, in milliseconds, and for how long it trusts nothing after it stood still
/// itself. Left to itself it takes up to 10 s for the first, which is long in a test, and 30 s for the last, which
/// happens on a busy machine. `PING-PERIOD` stays at its second: only a replica heard of within five of these may
/// become the master.
const HASTE: [&str; 8] = ["INFO-PERIOD", "200", "PUBLISH-PERIOD", "200", "ASK-PERIOD", "100", "TILT-PERIOD", "1000"];

/// They find each other within a second and fail over within some three.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// A master, a replica, and three sentinels that watch them.
///
/// ```no_run
/// use testbed::Sentinels;
///
/// let set = Sentinels::redis();
/// // … a client is told `set.sentinel_addrs()` and `Sentinels::SERVICE`, and then
/// let killed = set.kill_master();
/// set.await_settled();
/// assert_ne!(set.master().addr(), killed.addr());
/// ```
#[derive(Debug)]
pub struct Sentinels {
    sentinels: Vec<Server>,
    servers: [Server; 2],
}

impl Sentinels {
    /// The name by which sentinels know the master.
    pub const SERVICE: &'static str = "tollgate";

    /// A set of Redis servers with nothing special.
    ///
    /// # Panics
    ///
    /// When there is no redis-server in `PATH`; the message says what to install.
    #[must_use]
    pub fn redis() -> Self {
        Self::start(Options::redis())
    }

    /// Starts a set and waits until the sentinels know each other and the replica. The options are for the master and
    /// the replica; the sentinels ask for no password. With TLS all of them speak it, to each other and to clients.
    ///
    /// # Panics
    ///
    /// When it does not start; the message says what it waited for.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let (program, tls) = (options.program.clone(), options.tls.clone());
        // The replica has its copy at once, rather than when others might have come that want one as well.
        let options = options.with(&["--repl-diskless-sync-delay", "0"]);
        let set = Self {
            servers: [Server::start(options.clone()), Server::start(options)],
            sentinels: (0..SENTINELS).map(|_| Server::sentinel(program.clone(), tls.clone())).collect(),
        };
        let [master, replica] = &set.servers;
        replica.tell(&["REPLICAOF", "127.0.0.1", &master.peer_port().to_string()]);
        wait_for("a replica to have its copy", SETTLE_LIMIT, || replica.is_connected_replica().then_some(()));
        for sentinel in &set.sentinels {
            watch(sentinel, master);
        }
        wait_for("sentinels to know each other", SETTLE_LIMIT, || set.sentinels.iter().all(knows_all).then_some(()));
        set.await_settled();
        set
    }

    /// Where the sentinels listen.
    #[must_use]
    pub fn sentinel_addrs(&self) -> Vec<SocketAddr> {
        self.sentinels.iter().map(Server::addr).collect()
    }

    /// The sentinels themselves.
    #[must_use]
    pub fn sentinels(&self) -> &[Server] {
        &self.sentinels
    }

    /// The servers they watch, of which one is the master.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The master, as the first sentinel that answers sees it.
    ///
    /// # Panics
    ///
    /// When no sentinel answers.
    #[must_use]
    #[track_caller]
    pub fn master(&self) -> &Server {
        self.sentinels.iter().find_map(|sentinel| self.master_by(sentinel)).expect("a sentinel runs")
    }

    /// Kills the master and returns it; it may be restarted, and will be a replica.
    pub fn kill_master(&self) -> &Server {
        let master = self.master();
        master.kill9();
        master
    }

    /// Waits until all sentinels that run name the same master, and it runs and knows that it is the master.
    ///
    /// # Panics
    ///
    /// When that takes too long.
    #[track_caller]
    pub fn await_settled(&self) {
        wait_for("sentinels to agree on a master, the only one", SETTLE_LIMIT, || {
            let master = self.master();
            let agrees =
                |sentinel: &Server| self.master_by(sentinel).is_some_and(|named| named.addr() == master.addr());
            let agreed = self.sentinels.iter().filter(|sentinel| sentinel.runs()).all(agrees);
            let masters = self.servers.iter().filter(|server| server.runs() && server.is_master());
            (agreed && master.is_master() && masters.count() == 1).then_some(())
        });
    }

    fn master_by(&self, sentinel: &Server) -> Option<&Server> {
        let master = sentinel.ask(&["SENTINEL", "get-master-addr-by-name", Self::SERVICE])?;
        let port = master.array()[1].text();
        self.servers.iter().find(|server| server.peer_port().to_string() == port)
    }
}

/// Tells a sentinel whom to watch.
fn watch(sentinel: &Server, master: &Server) {
    // Refused before Redis 7.0, where everything takes some seconds longer.
    let _ = sentinel.command(&[&["SENTINEL", "DEBUG"][..], &HASTE].concat());
    let port = master.peer_port().to_string();
    sentinel.tell(&["SENTINEL", "MONITOR", Sentinels::SERVICE, "127.0.0.1", &port, QUORUM]);
    let set = |name, value| sentinel.tell(&["SENTINEL", "SET", Sentinels::SERVICE, name, value]);
    set("down-after-milliseconds", DOWN_AFTER_MS);
    set("failover-timeout", FAILOVER_TIMEOUT_MS);
    if let Some(password) = &master.options().password {
        set("auth-pass", password);
    }
}

/// Whether it can fail over: it sees a master that is up, a replica that follows it, and all other sentinels.
fn knows_all(sentinel: &Server) -> bool {
    let master = sentinel.tell(&["SENTINEL", "MASTER", Sentinels::SERVICE]);
    let replicas = sentinel.tell(&["SENTINEL", "REPLICAS", Sentinels::SERVICE]);
    field(&master, "flags") == Some("master")
        && field(&master, "num-other-sentinels") == Some(&(SENTINELS - 1).to_string())
        && replicas.array().iter().any(|replica| field(replica, "master-link-status") == Some("ok"))
}

/// A value among names and values that take turns.
fn field<'reply>(reply: &'reply Reply, name: &str) -> Option<&'reply str> {
    reply.array().chunks_exact(2).find(|pair| pair[0].text() == name).map(|pair| pair[1].text())
}
