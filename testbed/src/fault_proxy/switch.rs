//! The fault in force, and the lines that it is in force for.

use std::{
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use super::{
    Fault,
    line::{Ending, Line},
};

/// What all lines of a proxy share.
#[derive(Debug)]
pub(super) struct Switch {
    server: SocketAddr,
    position: Mutex<Position>,
    changed: Condvar,
    accepted: AtomicU64,
}

#[derive(Debug)]
struct Position {
    fault: Fault,
    /// How often it was set, so that setting the same fault again counts its bytes anew.
    change: u64,
    lines: Vec<Weak<Line>>,
}

impl Switch {
    pub(super) fn new(server: SocketAddr) -> Self {
        let position = Mutex::new(Position { fault: Fault::Pass, change: 0, lines: Vec::new() });
        Self { server, position, changed: Condvar::new(), accepted: AtomicU64::new(0) }
    }

    /// Where connections lead to.
    pub(super) fn server(&self) -> SocketAddr {
        self.server
    }

    /// The fault in force, and how many were set up to this one.
    pub(super) fn fault(&self) -> (Fault, u64) {
        let position = self.position();
        (position.fault, position.change)
    }

    pub(super) fn set(&self, fault: Fault) {
        let mut position = self.position();
        position.fault = fault;
        position.change += 1;
        self.changed.notify_all();
    }

    pub(super) fn end_all(&self, ending: Ending) {
        for line in self.position().lines.drain(..).filter_map(|line| line.upgrade()) {
            line.end(ending);
        }
    }

    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Acquire)
    }

    pub(super) fn open(&self) -> usize {
        self.position().lines.iter().filter(|line| line.strong_count() > 0).count()
    }

    /// Takes on a connection that was just accepted.
    pub(super) fn take(self: &Arc<Self>, client: TcpStream) {
        self.accepted.fetch_add(1, Ordering::AcqRel);
        let line = Arc::new(Line::new(Arc::clone(self), client));
        let fault = {
            let mut position = self.position();
            position.lines.retain(|line| line.strong_count() > 0);
            position.lines.push(Arc::downgrade(&line));
            position.fault
        };
        match fault {
            Fault::Reset => line.end(Ending::Reset),
            Fault::Refuse => line.end(Ending::Close),
            fault => {
                thread::spawn(move || line.serve(fault));
            }
        }
    }

    /// Waits so long, or until the fault is changed.
    pub(super) fn hold(&self, delay: Duration, change: u64) {
        let unchanged = |position: &mut Position| position.change == change;
        drop(
            self.changed.wait_timeout_while(self.position(), delay, unchanged).unwrap_or_else(PoisonError::into_inner),
        );
    }

    /// Does something while no fault is set and no line is ended by one.
    pub(super) fn undisturbed(&self, what: impl FnOnce()) {
        let _position = self.position();
        what();
    }

    fn position(&self) -> MutexGuard<'_, Position> {
        // Every change is a whole one, so a panic elsewhere leaves nothing half done.
        self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
