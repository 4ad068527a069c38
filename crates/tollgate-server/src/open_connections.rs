//! How many connections a listener holds, over all workers, and which has to leave when one more comes.
//!
//! A connection enters once and leaves once; only then a lock is taken. In between it says by one atomic store whether
//! it is idle and since when. Idle is whoever we wait for: nobody may hold a place with half a
//! head, a body that trickles, or an answer that he does not read.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};
use tracing::warn;

use crate::failure::Seldom;

/// The open connections of one listener, at most `bound` of them.
pub(crate) struct OpenConnections {
    /// A reload can change it.
    bound: AtomicUsize,
    epoch: Instant,
    members: Mutex<Members>,
}

impl OpenConnections {
    pub(crate) fn new(bound: usize) -> Self {
        let members = Members {
            dismissed: false,
            next_id: 0,
            by_id: HashMap::new(),
            none_idle_until: None,
            crowded_out: CrowdedOut::default(),
            warnings: Seldom::every(WARNED_EVERY),
        };
        Self { bound: AtomicUsize::new(bound), epoch: Instant::now(), members: Mutex::new(members) }
    }

    /// Lets in at most so many from now on. Whoever is beyond the new bound stays until there is a newcomer.
    pub(crate) fn set_bound(&self, bound: usize) {
        self.bound.store(bound, Ordering::Relaxed);
    }

    fn bound(&self) -> usize {
        self.bound.load(Ordering::Relaxed)
    }

    /// A place for a new connection. At the bound, connections that have been idle the longest are made to leave for
    /// it; if none is idle there is no place, and the new one is closed at once. Who comes when everybody was asked to
    /// leave is asked at once.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Place> {
        let mut members = self.members();
        if members.by_id.len() >= self.bound() {
            self.make_room(&mut members);
        }
        if members.by_id.len() >= self.bound() {
            return None;
        }
        let id = members.next_id;
        members.next_id += 1;
        let (leave, asked_to_leave) = oneshot::channel();
        let idle_since = Arc::new(AtomicU64::new(BUSY));
        let member = Member { idle_since: Arc::clone(&idle_since), leave };
        if members.dismissed {
            member.ask_to_leave(Leave::WhenDone);
        } else {
            members.by_id.insert(id, member);
        }
        drop(members);
        Some(Place { open_connections: Arc::clone(self), id, idle_since, asked_to_leave })
    }

    /// Asks everybody to leave when they have finished, and says how many there were.
    pub(crate) fn dismiss(&self) -> usize {
        let mut members = self.members();
        members.dismissed = true;
        let leaving = std::mem::take(&mut members.by_id);
        drop(members);
        let count = leaving.len();
        leaving.into_values().for_each(|member| member.ask_to_leave(Leave::WhenDone));
        count
    }

    /// Some leave at once, not one by one, so that a flood of connections does not search the open_connections for each.
    fn make_room(&self, members: &mut Members) {
        let now = Instant::now();
        if members.none_idle_until.is_none_or(|until| now >= until) {
            let now_micros = micros_between(self.epoch, now);
            let mut idle: Vec<_> = members
                .by_id
                .iter()
                .map(|(id, member)| (member.idle_since.load(Ordering::Relaxed), *id))
                .filter(|(since, _)| *since <= now_micros)
                .collect();
            idle.sort_unstable();
            let bound = self.bound();
            let beyond = members.by_id.len().saturating_sub(bound);
            for (_, id) in idle.iter().take(beyond + 1 + bound / 100) {
                if let Some(member) = members.by_id.remove(id) {
                    member.ask_to_leave(Leave::ForAnother);
                    members.crowded_out.closed += 1;
                }
            }
            members.none_idle_until = idle.is_empty().then(|| now + SEARCHED_AGAIN_AFTER);
        }
        if members.by_id.len() >= self.bound() {
            members.crowded_out.refused += 1;
        }
        if members.warnings.ripe().is_some() {
            members.crowded_out.tell(self.bound());
        }
    }

    /// Tells who had to leave, or was not let in, since that was last told.
    pub(crate) fn tell_the_rest(&self) {
        self.members().crowded_out.tell(self.bound());
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        // Nothing under this lock can panic halfway through a change, so what a poisoned lock guards is whole.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place in the open_connections, until it is dropped.
pub(crate) struct Place {
    open_connections: Arc<OpenConnections>,
    id: u64,
    idle_since: Arc<AtomicU64>,
    /// Resolves when the connection should close, and says how.
    pub(crate) asked_to_leave: oneshot::Receiver<Leave>,
}

/// How a connection is to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// After what it is doing, since the server ends.
    WhenDone,
    /// At once if it is still idle, since another needs the place.
    ForAnother,
}

impl Place {
    /// What the connection tells the open_connections about itself.
    pub(crate) fn idleness(&self) -> Idleness {
        Idleness { epoch: self.open_connections.epoch, since: Arc::clone(&self.idle_since) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open_connections.members().by_id.remove(&self.id);
    }
}

/// Where a connection notes whether it is idle.
pub(crate) struct Idleness {
    epoch: Instant,
    since: Arc<AtomicU64>,
}

impl Idleness {
    /// Idle from then on, which may be later than now.
    pub(crate) fn begin(&self, at: Instant) {
        self.since.store(micros_between(self.epoch, at), Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.since.store(BUSY, Ordering::Relaxed);
    }
}

fn micros_between(epoch: Instant, at: Instant) -> u64 {
    u64::try_from((at - epoch).as_micros()).unwrap_or(BUSY - 1)
}

struct Members {
    dismissed: bool,
    next_id: u64,
    /// Bounded by `OpenConnections::bound`.
    by_id: HashMap<u64, Member>,
    none_idle_until: Option<Instant>,
    crowded_out: CrowdedOut,
    warnings: Seldom,
}

/// Connections that had no place, since that was last told.
#[derive(Default)]
struct CrowdedOut {
    closed: u64,
    refused: u64,
}

impl CrowdedOut {
    fn tell(&mut self, bound: usize) {
        let Self { closed, refused } = std::mem::take(self);
        if closed + refused > 0 {
            let most = connections(bound);
            warn!(
                bound,
                closed, refused, "at the limit of {most}: closed {closed} of the longest idle, refused {refused} new"
            );
        }
    }
}

struct Member {
    /// Microseconds since the open_connections's epoch, or `BUSY`.
    idle_since: Arc<AtomicU64>,
    leave: oneshot::Sender<Leave>,
}

impl Member {
    fn ask_to_leave(self, leave: Leave) {
        // An error means that it is leaving already.
        let _ = self.leave.send(leave);
    }
}

/// `1 connection`, `2 connections`
pub(crate) fn connections(count: usize) -> String {
    format!("{count} connection{}", if count == 1 { "" } else { "s" })
}

const BUSY: u64 = u64::MAX;
/// Longer than a report is away, so that what follows the first is told with it.
const WARNED_EVERY: Duration = Duration::from_secs(120);
/// Without an idle connection, a flood is not worth searching the open_connections for each newcomer.
const SEARCHED_AGAIN_AFTER: Duration = Duration::from_millis(10);
