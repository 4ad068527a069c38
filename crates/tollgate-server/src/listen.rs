//! Listening sockets: bound so that each worker has its own on the same port, and accepted from.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    pin::pin,
    rc::Rc,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    sync::{mpsc, watch},
    task,
    time::sleep,
};
use tollgate::request;
use tracing::warn;

use crate::{
    connection,
    failure::Seldom,
    gate::Door,
    server::{Stage, wait_for},
    tcp,
};

/// Binds `address` once for each worker.
///
/// With `SO_REUSEPORT` a second server of the same user would bind the same port without an error and take half of the
/// connections. So the first bind is without it, to show that the port is free. If it is 0, the system chooses one that
/// nobody has.
pub(crate) fn bind(address: SocketAddr, workers: usize) -> Result<Vec<TcpListener>, BindError> {
    let open = || {
        if workers == 1 {
            return Ok(vec![listen(&unbound(address)?, address)?]);
        }
        if address.port() != 0 {
            unbound(address)?.bind(&address.into())?;
        }
        let mut address = address;
        (0..workers)
            .map(|_| {
                let socket = unbound(address)?;
                #[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos", target_os = "cygwin"))))]
                socket.set_reuse_port(true)?;
                let listener = listen(&socket, address)?;
                address.set_port(listener.local_addr()?.port());
                Ok(listener)
            })
            .collect()
    };
    open().map_err(|error| BindError::new(address, error))
}

/// Accepts connections and starts a task for each, until the server stops serving or this is aborted.
pub(crate) async fn accept(
    door: Rc<Door>,
    socket: Rc<tokio::net::TcpListener>,
    mut stage: watch::Receiver<Stage>,
    alive: mpsc::Sender<()>,
) {
    let ending = stage.clone();
    let mut stopping = pin!(async {
        wait_for(&mut stage, Stage::Finishing).await;
        // Who is in the queue has come in time, and would be reset with it.
        sleep(QUEUE_IS_EMPTIED_WITHIN).await;
    });
    let mut complaints = Seldom::every(COMPLAINED_EVERY);
    let mut left = BACKLOG;
    loop {
        let accepted = tokio::select! {
            // A worker that was held up finds the time over and the queue full.
            biased;
            accepted = socket.accept(), if left > 0 => accepted,
            () = &mut stopping => return,
        };
        // Others may come for ever.
        if *ending.borrow() >= Stage::Finishing {
            left -= 1;
        }
        match accepted {
            Ok((stream, peer)) => {
                let (gate, alive) = (door.gate(), alive.clone());
                match gate.front.listener.protocol() {
                    request::Protocol::Http => {
                        task::spawn_local(connection::serve(Rc::clone(&door), stream, peer, alive))
                    }
                    request::Protocol::Tcp => task::spawn_local(tcp::serve(gate, stream, peer, alive)),
                };
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                // Out of file descriptors, most likely. The connection stays in the queue, so trying again at once
                // would only spin.
                if let Some(times) = complaints.ripe() {
                    let often = if times == 1 { String::new() } else { format!(" ({times} times)") };
                    warn!(%error, times, "cannot accept connections: {error}{often}");
                }
                sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }
}

/// An address that could not be listened on, and why.
#[derive(Debug)]
pub struct BindError {
    /// The address as it was asked for.
    pub address: SocketAddr,
    error: io::Error,
}

impl BindError {
    pub(crate) fn new(address: SocketAddr, error: io::Error) -> Self {
        Self { address, error }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.error.kind() {
            io::ErrorKind::AddrInUse => write!(f, "cannot listen on {}: the port is in use", self.address),
            _ => write!(f, "cannot listen on {}", self.address),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

fn unbound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Lets a restarted server bind while connections of the last one are in TIME_WAIT. On Windows the option means
    // something else, and worse.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // `[::]` is every address of both families; some systems need to be told. Where it cannot be, IPv6 is what it is.
        let _ = socket.set_only_v6(false);
    }
    Ok(socket)
}

fn listen(socket: &Socket, address: SocketAddr) -> io::Result<TcpListener> {
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.try_clone()?.into())
}

fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// Connections the kernel may hold for us while we are busy; it has its own upper bound.
const BACKLOG: i32 = 4096;
/// Much longer than accepting all of them takes.
const QUEUE_IS_EMPTIED_WITHIN: Duration = Duration::from_millis(50);
/// Long enough not to spin, short enough that a client does not notice.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);
const COMPLAINED_EVERY: Duration = Duration::from_secs(60);
