//! The load itself: as many workers as connections, each of which sends one request at a time, again if it was limited, until
//! all are done.

use std::{
    cell::{Cell, Ref, RefCell},
    io,
    rc::Rc,
    time::Duration,
};

use anyhow::anyhow;
use http::response;
use tokio::{
    signal::ctrl_c,
    task::JoinSet,
    time::{Instant, sleep},
};
use tollgate::clock::Clock;
use tollgate_tower::client::asked_to_wait;

use super::{
    connection::Connection,
    pace::Pace,
    progress,
    tally::{Outcome, Tally},
    target::Target,
};
use crate::args::Load;

/// A load under way.
pub(super) struct Run {
    pub(super) target: Target,
    pub(super) requests: u64,
    pub(super) pace: Pace,
    tally: RefCell<Tally>,
    connections: u16,
    /// Requests that no worker has taken yet.
    left: Cell<u64>,
    refused: Cell<Refused>,
    clock: Clock,
}

/// Why a load is over.
pub(super) enum Ending {
    Done,
    Interrupted,
    GaveUp(anyhow::Error),
}

impl Run {
    pub(super) fn new(target: Target, load: &Load) -> Rc<Self> {
        let start = Instant::now();
        let requests = load.requests;
        Rc::new(Self {
            target,
            requests,
            pace: Pace::new(load.rate.unwrap_or_default(), start),
            tally: RefCell::new(Tally::new(start)),
            connections: load.connections,
            left: Cell::new(requests),
            refused: Cell::default(),
            clock: Clock::system(),
        })
    }

    pub(super) fn tally(&self) -> Ref<'_, Tally> {
        self.tally.borrow()
    }

    pub(super) async fn until_it_ends(self: Rc<Self>) -> (Rc<Self>, Ending) {
        let mut workers = JoinSet::new();
        // More workers than requests would find nothing to do.
        for _ in 0..self.requests.min(self.connections.into()) {
            let run = self.clone();
            workers.spawn_local(async move { run.work().await });
        }
        let all_done = async {
            while let Some(worker) = workers.join_next().await {
                match worker {
                    Ok(Ok(())) => {}
                    Ok(Err(why)) => return Ending::GaveUp(why),
                    Err(panic) => return Ending::GaveUp(panic.into()),
                }
            }
            Ending::Done
        };
        let ending = tokio::select! {
            ending = all_done => ending,
            Ok(()) = ctrl_c() => Ending::Interrupted,
            never = progress::tell(&self) => match never {},
        };
        self.tally.borrow_mut().end(Instant::now());
        (self, ending)
    }

    /// Takes one request after the other, until none is left.
    async fn work(&self) -> anyhow::Result<()> {
        let mut kept = None;
        while let Some(left) = self.left.get().checked_sub(1) {
            self.left.set(left);
            self.until_done(&mut kept).await?;
        }
        Ok(())
    }

    /// Sends one request, again for as long as it is refused by a limit.
    async fn until_done(&self, kept: &mut Option<Connection>) -> anyhow::Result<()> {
        loop {
            let due = self.pace.turn().await;
            let connection = match Connection::kept_or_new(kept.take(), &self.target).await {
                Ok(connection) => connection,
                Err(error) => {
                    self.was_refused(&error)?;
                    sleep(AFTER_A_REFUSAL).await;
                    continue;
                }
            };
            self.refused.set(Refused::default());
            // While it connected, somebody else's answer may have asked to wait.
            if !self.pace.held().is_zero() {
                *kept = Some(connection);
                continue;
            }
            self.tally.borrow_mut().sent(Instant::now());
            let mut asked = Duration::ZERO;
            let sending = connection.send(&self.target, |head| asked = self.wait_as_asked(head));
            let (outcome, connection) = sending.await;
            *kept = connection;
            let now = Instant::now();
            self.tally.borrow_mut().answered(outcome, now.saturating_duration_since(due), now);
            if asked > LONGEST_WAIT {
                return Err(anyhow!(
                    "{}: asks to be left alone for {} s, more than a day",
                    self.target.url,
                    asked.as_secs()
                ));
            }
            if outcome.is_done() {
                return Ok(());
            }
        }
    }

    /// Holds everybody back if this answer asks for it, as soon as its head is here.
    fn wait_as_asked(&self, head: &response::Parts) -> Duration {
        if !Outcome::Answered(head.status).is_limited() {
            return Duration::ZERO;
        }
        let asked = asked_to_wait(head.status, &head.headers, self.clock.now()).unwrap_or(UNLESS_ASKED);
        self.pace.hold(asked.clamp(SHORTEST_WAIT, LONGEST_WAIT));
        asked
    }

    fn was_refused(&self, error: &io::Error) -> anyhow::Result<()> {
        let (now, Refused { in_a_row, last }) = (Instant::now(), self.refused.get());
        if last.is_some_and(|last| now - last < AFTER_A_REFUSAL) {
            return Ok(());
        }
        self.refused.set(Refused { in_a_row: in_a_row + 1, last: Some(now) });
        match in_a_row + 1 {
            ..MAX_REFUSED => Ok(()),
            n => Err(anyhow!("{}: {n} connections in a row failed ({error}): is the server running?", self.target.url)),
        }
    }
}

/// Connections that failed since the last that did not. Those of all workers at one time count once, or a server that is being
/// restarted would be given up at once.
#[derive(Clone, Copy, Default)]
struct Refused {
    in_a_row: u32,
    last: Option<Instant>,
}

/// How many connections may fail in a row before the server is taken to be gone.
const MAX_REFUSED: u32 = 10;
/// How long a worker that found no connection leaves the server alone.
const AFTER_A_REFUSAL: Duration = Duration::from_millis(100);
/// How long a limited request waits if the answer does not say.
const UNLESS_ASKED: Duration = Duration::from_secs(1);
/// A server that asks for no wait, but goes on limiting, is not to be flooded.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);
/// A load that is to wait longer gives up instead, for it must not send before either.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);
