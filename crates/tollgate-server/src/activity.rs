//! The activity of one client connection: what it is doing, since when, when a byte last moved, and until when that may
//! go on. The connection, its service and its bodies all run on one thread and note it in one place, so that a single
//! timer per connection does for every timeout. What one poll of the connection does, it does at one instant, so that the
//! clock is read once for all of it.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use http::Version;
use tokio::time::Instant;
use tollgate::{config::Timeouts, decision::Decision};

use crate::{
    failure::Failure,
    gate::Gate,
    open_connections::Idleness,
    pool::{Connection, Leftover},
};

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing was ever read from it.
    Fresh,
    /// Between two requests.
    Idle,
    /// The first byte of a request has come, the last of its head has not.
    ReadingHead,
    /// Our own steps: deciding, connecting. They have their own bounds.
    Working,
    /// The request is with the upstream, which has not answered yet.
    AwaitingAnswer,
    /// The answer is being written, or its rest is still to be flushed.
    Answering { written: bool },
    /// Bytes pass whose meaning nobody here knows.
    Relaying,
}

/// How far the body of the request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UploadState {
    /// There is no body, or all of it was read.
    Done,
    /// Some of it has just come.
    Open,
    /// More of it is waited for.
    Wanted,
    /// The rest of it is malformed, or will not come.
    Broken,
    /// The rest of it may come, but nobody reads it.
    GivenUp,
}

/// A request that somebody has begun to serve before hyper reads it.
pub(crate) struct Begun {
    /// Which stood there then, whatever a reload has put in its place.
    pub(crate) gate: Rc<Gate>,
    pub(crate) decision: Decision,
    /// If it was allowed and sent: on which connection and when, or why it was not.
    pub(crate) sent: Option<Result<(Connection, Instant), Failure>>,
}

/// See the file's opening.
pub(crate) struct Activity {
    timeouts: Timeouts,
    idleness: Idleness,
    phase: Cell<Phase>,
    /// When the clock was read last: at the beginning of the connection's present poll.
    now: Cell<Instant>,
    since: Cell<Instant>,
    moved: Cell<Instant>,
    turn: Cell<u64>,
    upload: Cell<UploadState>,
    overdue: Cell<bool>,
    /// The connection is to end soon.
    hurried: Cell<bool>,
    /// The client has closed its side.
    ended: Cell<bool>,
    /// The client does not read what was written.
    is_unread: Cell<bool>,
    /// The client speaks HTTP/1.0, where the end of the connection can be the end of the body.
    speaks_1_0: Cell<bool>,
    /// What was done about the next request before hyper reads it.
    begun: RefCell<Option<Begun>>,
    /// An upstream is asked for its answer without hyper, who believes that nothing has come.
    is_exchanging: Cell<bool>,
    /// The upstream's side of a connection that changes its protocol once the answer is written.
    upgrade: RefCell<Option<Leftover>>,
}

impl Activity {
    pub(crate) fn new(timeouts: Timeouts, idleness: Idleness) -> Self {
        let now = Instant::now();
        idleness.begin(now);
        Self {
            timeouts,
            idleness,
            phase: Cell::new(Phase::Fresh),
            now: Cell::new(now),
            since: Cell::new(now),
            moved: Cell::new(now),
            turn: Cell::new(0),
            upload: Cell::new(UploadState::Done),
            overdue: Cell::new(false),
            hurried: Cell::new(false),
            ended: Cell::new(false),
            is_unread: Cell::new(false),
            speaks_1_0: Cell::new(false),
            begun: RefCell::new(None),
            is_exchanging: Cell::new(false),
            upgrade: RefCell::new(None),
        }
    }

    /// Once a poll: what the connection does until the next time, it does now.
    pub(crate) fn read_clock(&self) {
        self.now.set(Instant::now());
    }

    /// When the clock was read last: at the beginning of the connection's present poll.
    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Nothing goes on before the client sends more, or reads what it was sent.
    pub(crate) fn waits_for_client(&self) -> bool {
        let has_no_request = matches!(self.phase.get(), Phase::Fresh | Phase::Idle | Phase::ReadingHead);
        has_no_request || self.upload_is_wanted() || self.is_unread.get()
    }

    /// Nothing of a request has come since the last answer went out.
    pub(crate) fn is_between_requests(&self) -> bool {
        matches!(self.phase.get(), Phase::Fresh | Phase::Idle)
    }

    /// A request is served, and its answer is not yet on its way to the last byte. That its body is over is known only
    /// after the poll that reads the last of it, and there may be no other one before the answer.
    pub(crate) fn is_serving(&self) -> bool {
        matches!(self.phase.get(), Phase::Working | Phase::AwaitingAnswer | Phase::Answering { .. })
            && matches!(self.upload.get(), UploadState::Done | UploadState::Open | UploadState::Wanted)
            && !self.ended.get()
    }

    /// When what is going on has gone on too long; `None` while it has its own bounds.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let Timeouts { headers, first_byte, idle, .. } = self.timeouts;
        let (since, moved) = (self.since.get(), self.moved.get());
        match self.phase.get() {
            Phase::Fresh if self.hurried.get() => since.checked_add(headers.min(FIRST_WORD_WITHIN)),
            Phase::Fresh | Phase::ReadingHead => since.checked_add(headers),
            Phase::Idle => since.checked_add(idle),
            Phase::Working => None,
            Phase::AwaitingAnswer if self.upload_is_wanted() => moved.checked_add(idle),
            Phase::AwaitingAnswer => moved.checked_add(first_byte),
            Phase::Answering { .. } | Phase::Relaying => moved.checked_add(idle),
        }
    }

    /// The connection is to end soon: a client that has not said anything yet has little time left for it.
    pub(crate) fn hurry(&self) {
        self.hurried.set(true);
    }

    pub(crate) fn is_hurried(&self) -> bool {
        self.hurried.get()
    }

    /// The rest of the client's request is waited for.
    pub(crate) fn upload_is_wanted(&self) -> bool {
        self.upload.get() == UploadState::Wanted
    }

    /// The rest of the client's request will not come.
    pub(crate) fn upload_is_broken(&self) -> bool {
        self.upload.get() == UploadState::Broken
    }

    /// Whether a plain end of the connection would make half an answer look whole.
    pub(crate) fn needs_reset(&self) -> bool {
        self.speaks_1_0.get() && matches!(self.phase.get(), Phase::Answering { .. })
    }

    pub(crate) fn begin_request(&self, version: Version) {
        self.turn.set(self.turn.get() + 1);
        self.speaks_1_0.set(version < Version::HTTP_11);
        self.upload.set(UploadState::Done);
        self.begin_working();
    }

    pub(crate) fn begin_working(&self) {
        self.idleness.end();
        self.phase.set(Phase::Working);
    }

    /// The answer is waited for since then.
    pub(crate) fn begin_awaiting(&self, since: Instant) {
        self.overdue.set(false);
        self.moved.set(since);
        self.phase.set(Phase::AwaitingAnswer);
    }

    pub(crate) fn begin_relaying(&self) {
        self.phase.set(Phase::Relaying);
        // Nobody has, while its fate was decided and the upstream dialled.
        self.read_clock();
        self.note_moved();
    }

    pub(crate) fn begin_answering(&self) {
        self.moved.set(self.now());
        self.phase.set(Phase::Answering { written: false });
    }

    /// The last of the answer is in the write buffer.
    pub(crate) fn answer_written(&self) {
        self.phase.set(Phase::Answering { written: true });
    }

    /// Tells whoever waits for the upstream, on the next poll, that it has been too long.
    pub(crate) fn set_overdue(&self) {
        self.overdue.set(true);
    }

    pub(crate) fn is_overdue(&self) -> bool {
        self.overdue.get()
    }

    /// The request has a body; gives the number by which its state is told.
    pub(crate) fn open_upload(&self) -> u64 {
        self.upload.set(UploadState::Open);
        self.turn.get()
    }

    /// Takes note of the body of a request. The last one's may still be on its way to an upstream that has answered
    /// already, and says nothing about this one's. It is polled by whoever sends it on, so the time is not the connection's.
    pub(crate) fn note_upload(&self, turn: u64, state: UploadState) {
        if turn != self.turn.get() || !matches!(self.upload.get(), UploadState::Open | UploadState::Wanted) {
            return;
        }
        let before = self.upload.replace(state);
        match state {
            UploadState::Wanted if before == UploadState::Wanted => {}
            UploadState::Wanted => self.idleness.begin(Instant::now()),
            _ => self.idleness.end(),
        }
        if state == UploadState::Open {
            self.moved.set(Instant::now());
        }
    }

    pub(crate) fn client_has_ended(&self) -> bool {
        self.ended.get()
    }

    pub(crate) fn last_moved(&self) -> Instant {
        self.moved.get()
    }

    pub(crate) fn hand_over(&self, begun: Begun) {
        *self.begun.borrow_mut() = Some(begun);
    }

    pub(crate) fn take_over(&self) -> Option<Begun> {
        self.begun.borrow_mut().take()
    }

    pub(crate) fn is_begun(&self) -> bool {
        self.begun.borrow().is_some()
    }

    pub(crate) fn begin_exchange(&self) {
        self.begin_request(Version::HTTP_11);
        self.is_exchanging.set(true);
    }

    pub(crate) fn end_exchange(&self) {
        self.is_exchanging.set(false);
    }

    pub(crate) fn is_exchanging(&self) -> bool {
        self.is_exchanging.get()
    }

    pub(crate) fn arrange_upgrade(&self, upstream: Leftover) {
        *self.upgrade.borrow_mut() = Some(upstream);
    }

    pub(crate) fn take_upgrade(&self) -> Option<Leftover> {
        self.upgrade.borrow_mut().take()
    }

    pub(crate) fn bytes_read(&self, count: usize) {
        if count == 0 {
            self.ended.set(true);
            return;
        }
        self.note_moved();
        if matches!(self.phase.get(), Phase::Fresh | Phase::Idle) {
            self.idleness.begin(self.now());
            self.since.set(self.now());
            self.phase.set(Phase::ReadingHead);
        }
    }

    pub(crate) fn bytes_written(&self) {
        self.note_moved();
        if self.is_unread.replace(false) {
            self.idleness.end();
        }
    }

    /// Who waits for whom nobody knows of a connection that is only relayed: it is idle once it has been silent for a while.
    fn note_moved(&self) {
        self.moved.set(self.now());
        if self.phase.get() == Phase::Relaying {
            self.idleness.begin(self.now() + SILENT_IS_IDLE_AFTER);
        }
    }

    /// The client has not read enough for more to be written.
    pub(crate) fn write_is_blocked(&self) {
        if self.phase.get() != Phase::Relaying && !self.is_unread.replace(true) {
            self.idleness.begin(self.now());
        }
    }

    /// hyper flushes the socket only when its own buffer is empty: then a written answer is out.
    pub(crate) fn flushed(&self) {
        if self.phase.get() == (Phase::Answering { written: true }) && self.upload.get() == UploadState::Done {
            self.since.set(self.now());
            self.phase.set(Phase::Idle);
            self.idleness.begin(self.now());
        }
    }
}

/// Enough for a request that is on its way when a server ends.
const FIRST_WORD_WITHIN: Duration = Duration::from_secs(1);
/// Longer than the pauses of whoever is talking.
const SILENT_IS_IDLE_AFTER: Duration = Duration::from_secs(1);
