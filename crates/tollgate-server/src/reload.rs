//! Another policy while the server runs: the ports that it needs bound first, so that nothing has changed if one cannot be;
//! then every worker told what to open, keep and close, which it does between two requests.

use std::{
    fmt,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
};

use tokio::sync::mpsc;
use tollgate::{config::Listener, limiter::Limiter, policy::Policy, store::Stores};

use crate::{
    gate::Front,
    listen::{self, BindError},
    report::{Edition, Report},
    server::{Stage, Stopper},
    watch::{Watch, lock},
};

/// Replaces the policy of a running [`Server`](crate::Server), and its listeners, but for the store.
#[derive(Clone, Debug)]
pub struct Reloader {
    pub(crate) workers: Arc<Mutex<Vec<mpsc::Sender<Orders>>>>,
    pub(crate) report: Arc<Report>,
    pub(crate) stopper: Stopper,
}

impl Reloader {
    /// Lets this policy and these listeners take over, and returns when every worker goes by them. Counters go on that have the
    /// same identity in both policies.
    ///
    /// A listener is known by its address, ports that were chosen for 0 included: it keeps its connections. From its next request on a
    /// connection is decided and forwarded as the new policy says; timeouts and the limits of a head are those that held when it
    /// came. A listener that changes its protocol keeps its port alone. One that is gone stops accepting and finishes what is in
    /// flight. This waits for the workers, so it is not for a thread that serves a runtime.
    ///
    /// # Errors
    ///
    /// A port that cannot be listened on, and a server that is ending: then everything is as before.
    pub fn reload(&self, listeners: Vec<Listener>, policy: Policy) -> Result<(), ReloadError> {
        // One reload after the other.
        let workers = lock(&self.workers);
        if self.stopper.stage() > Stage::Serving {
            return Err(ReloadError::Ending);
        }
        let now = self.report.edition();
        let limiter = Arc::new(now.limiter.following(policy));
        let (next, opened) = succeed(&now, listeners, limiter, workers.len()).map_err(ReloadError::Bind)?;

        let is_new: Vec<u64> = opened.iter().map(|opened| opened.port).collect();
        order(&workers, &next, opened);
        next.limiter.store().rules_changed();
        for port in &now.ports {
            let goes_on = |other: &Port| Arc::ptr_eq(&other.front.open_connections, &port.front.open_connections);
            if !next.ports.iter().any(goes_on) {
                port.front.open_connections.dismiss();
            }
        }
        for port in next.ports.iter().filter(|port| is_new.contains(&port.number)) {
            port.front.announce(port.address);
        }
        self.report.go_on_with(next);
        Ok(())
    }
}

/// Why everything is as before.
#[derive(Debug)]
pub enum ReloadError {
    /// A port that cannot be listened on.
    Bind(BindError),
    /// The server finishes what is in flight, and nothing else.
    Ending,
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(error) => error.fmt(f),
            Self::Ending => f.write_str("the server is ending"),
        }
    }
}

impl std::error::Error for ReloadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind(error) => error.source(),
            Self::Ending => None,
        }
    }
}

/// A listener with its bound sockets, of which each worker has one.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    /// By which workers know it; no other that is open has it.
    pub(crate) number: u64,
    pub(crate) address: SocketAddr,
    pub(crate) front: Arc<Front>,
}

/// The sockets of a port that was not listened on, one for each worker.
struct Opened {
    port: u64,
    sockets: Vec<TcpListener>,
}

/// All that one worker serves from now on.
pub(crate) struct Orders {
    pub(crate) ports: Vec<(Port, Option<TcpListener>)>,
    /// Dropped when that is so.
    pub(crate) followed: std::sync::mpsc::Sender<()>,
}

/// What is in force at first, and what each worker is to do for it.
pub(crate) fn first_orders(
    listeners: Vec<Listener>,
    limiter: Arc<Limiter<Stores>>,
    workers: usize,
) -> Result<(Edition, Vec<Orders>), BindError> {
    let nothing = Edition { limiter: Arc::clone(&limiter), watch: Arc::new(Watch::new(workers)), ports: Vec::new() };
    let (edition, opened) = succeed(&nothing, listeners, limiter, workers)?;
    let (followed, _) = std::sync::mpsc::channel();
    let orders = orders(&edition, opened, workers, &followed);
    Ok((edition, orders))
}

/// What is in force after `now`, and the sockets that it needs besides those that are there.
fn succeed(
    now: &Edition,
    listeners: Vec<Listener>,
    limiter: Arc<Limiter<Stores>>,
    workers: usize,
) -> Result<(Edition, Vec<Opened>), BindError> {
    let mut left: Vec<&Port> = now.ports.iter().collect();
    let mut number = now.ports.iter().map(|port| port.number + 1).max().unwrap_or_default();
    let (mut places, mut opened) = (Vec::new(), Vec::new());
    for listener in listeners {
        if let Some(known) = left.iter().position(|port| port.front.listener.address == listener.address) {
            let known = left.remove(known);
            places.push((listener, known.number, known.address, Some(&known.front)));
            continue;
        }
        let sockets = listen::bind(listener.address, workers)?;
        let bound = sockets.first().map_or(Ok(listener.address), TcpListener::local_addr);
        let address = bound.map_err(|error| BindError::new(listener.address, error))?;
        opened.push(Opened { port: number, sockets });
        places.push((listener, number, address, None));
        number += 1;
    }

    // Nothing fails from here on.
    let watch = Arc::new(Watch::new(workers));
    let of_policy = || (Arc::clone(&limiter), Arc::clone(&watch));
    let port = |(listener, number, address, before): (Listener, u64, SocketAddr, Option<&Arc<Front>>)| {
        let (limiter, watch) = of_policy();
        let speaks_as_before = |front: &&Arc<Front>| front.listener.protocol() == listener.protocol();
        let front = match before.filter(speaks_as_before) {
            Some(front) => front.renewed(listener, limiter, watch),
            None => Front::new(listener, limiter, watch),
        };
        Port { number, address, front: Arc::new(front) }
    };
    let ports = places.into_iter().map(port).collect();
    Ok((Edition { limiter, watch, ports }, opened))
}

/// Tells the workers what is in force, and waits until all of them go by it, or have ended.
fn order(workers: &[mpsc::Sender<Orders>], edition: &Edition, opened: Vec<Opened>) {
    let (followed, waiting) = std::sync::mpsc::channel();
    for (worker, orders) in workers.iter().zip(orders(edition, opened, workers.len(), &followed)) {
        // There is room for one, and the one before has been followed. A worker that has ended serves nobody.
        let _ = worker.try_send(orders);
    }
    drop(followed);
    // Nobody sends anything: the error is that all have dropped it.
    let _ = waiting.recv();
}

/// What each worker is to do, with a socket of its own of every port that is new.
fn orders(
    edition: &Edition,
    mut opened: Vec<Opened>,
    workers: usize,
    followed: &std::sync::mpsc::Sender<()>,
) -> Vec<Orders> {
    let mut socket_of = |port: &Port| {
        let opened = opened.iter_mut().find(|opened| opened.port == port.number);
        opened.and_then(|opened| opened.sockets.pop())
    };
    let mut ports_of_one = || edition.ports.iter().map(|port| (port.clone(), socket_of(port))).collect();
    (0..workers).map(|_| Orders { ports: ports_of_one(), followed: followed.clone() }).collect()
}
