//! A network that fails on command: a TCP proxy in front of a server.
//!
//! Here are its faults; `acceptor` owns the listening socket, `switch` knows the fault in force, and each `line`
//! carries the bytes of one connection.

mod acceptor;
mod line;
mod switch;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use self::{acceptor::Acceptor, line::Ending, switch::Switch};
use crate::port::Port;

/// What becomes of connections and their bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// None: everything passes.
    Pass,
    /// What clients send arrives this much later. What is under way when the fault is changed meets the new one at
    /// once, so that `Delay(Duration::MAX)` holds everything until then, as a network does that is away for a while.
    Delay(Duration),
    /// Connections are accepted, and what either side sends is lost without a word. A connection that has lost
    /// something carries nothing under any later fault either, since no TCP connection goes on with a gap in it.
    Blackhole,
    /// Connections are reset (RST), the open ones at once and new ones as soon as they are accepted.
    Reset,
    /// Nobody listens, and open connections are closed: so does a server look that has ended.
    Refuse,
    /// Every connection is closed when it has carried so many bytes more to the server; with 0, when the first arrives.
    /// A smaller number than that of a command's bytes leaves the server with half of it.
    CutRequests(u64),
    /// Every connection is closed when it has carried so many bytes more to the client; with 0, when the first arrives:
    /// the server has done what it was told, and the client does not learn of it.
    CutReplies(u64),
}

/// A TCP proxy on 127.0.0.1 at a port of its own, in front of one address. It passes everything until told otherwise;
/// all of its connections end when it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    port: Port,
    switch: Arc<Switch>,
    // None while it refuses.
    acceptor: Mutex<Option<Acceptor>>,
}

impl FaultProxy {
    /// Starts a proxy in front of a server. The server may come and go.
    #[must_use]
    pub fn to(server: SocketAddr) -> Self {
        let port = Port::take();
        let switch = Arc::new(Switch::new(server));
        let acceptor = Acceptor::start(port.addr(), Arc::clone(&switch));
        Self { port, switch, acceptor: Mutex::new(Some(acceptor)) }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// Changes what becomes of connections, from now on.
    pub fn set(&self, fault: Fault) {
        // Nothing is left half done by a panic in here.
        let mut acceptor = self.acceptor.lock().unwrap_or_else(PoisonError::into_inner);
        if fault == Fault::Refuse {
            *acceptor = None;
        }
        self.switch.set(fault);
        match fault {
            Fault::Refuse => self.switch.end_all(Ending::Close),
            Fault::Reset => self.switch.end_all(Ending::Reset),
            Fault::Pass | Fault::Delay(_) | Fault::Blackhole | Fault::CutRequests(_) | Fault::CutReplies(_) => {}
        }
        if fault != Fault::Refuse && acceptor.is_none() {
            *acceptor = Some(Acceptor::start(self.addr(), Arc::clone(&self.switch)));
        }
    }

    /// How many connections it has accepted so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.switch.accepted()
    }

    /// How many of them are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.switch.open()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.set(Fault::Refuse);
    }
}
