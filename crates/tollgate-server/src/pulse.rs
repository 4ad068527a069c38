//! The pulse of one client connection: what it is doing, since when, when a byte last moved, and until when that may
//! go on. The connection, its service and its bodies all run on one thread and feel the same pulse, so that a single
//! timer per connection does for every timeout.

use std::{
    cell::{Cell, RefCell},
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use http::Version;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};
use tollgate::config::Timeouts;

use crate::{crowd::Idleness, pool::Leftover};

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
}

/// See the file's opening.
pub(crate) struct Pulse {
    timeouts: Timeouts,
    idleness: Idleness,
    phase: Cell<Phase>,
    since: Cell<Instant>,
    moved: Cell<Instant>,
    upload: Cell<UploadState>,
    overdue: Cell<bool>,
    /// The client has closed its side.
    ended: Cell<bool>,
    /// The client speaks HTTP/1.0, where the end of the connection can be the end of the body.
    speaks_1_0: Cell<bool>,
    /// The upstream's side of a connection that changes its protocol once the answer is written.
    upgrade: RefCell<Option<Leftover>>,
}

impl Pulse {
    pub(crate) fn new(timeouts: Timeouts, idleness: Idleness) -> Self {
        let now = Instant::now();
        idleness.begin(now);
        Self {
            timeouts,
            idleness,
            phase: Cell::new(Phase::Fresh),
            since: Cell::new(now),
            moved: Cell::new(now),
            upload: Cell::new(UploadState::Done),
            overdue: Cell::new(false),
            ended: Cell::new(false),
            speaks_1_0: Cell::new(false),
            upgrade: RefCell::new(None),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// When what is going on has gone on too long; `None` while it has its own bounds.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let Timeouts { headers, first_byte, idle, .. } = self.timeouts;
        let (since, moved) = (self.since.get(), self.moved.get());
        match self.phase.get() {
            Phase::Fresh | Phase::ReadingHead => since.checked_add(headers),
            Phase::Idle => since.checked_add(idle),
            Phase::Working => None,
            Phase::AwaitingAnswer if self.upload_is_wanted() => moved.checked_add(idle),
            Phase::AwaitingAnswer => moved.checked_add(first_byte),
            Phase::Answering { .. } => moved.checked_add(idle),
        }
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
        self.speaks_1_0.set(version < Version::HTTP_11);
        self.upload.set(UploadState::Done);
        self.begin_working();
    }

    pub(crate) fn begin_working(&self) {
        self.idleness.end();
        self.phase.set(Phase::Working);
    }

    pub(crate) fn begin_awaiting(&self) {
        self.overdue.set(false);
        self.moved.set(Instant::now());
        self.phase.set(Phase::AwaitingAnswer);
    }

    pub(crate) fn begin_answering(&self) {
        self.moved.set(Instant::now());
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

    pub(crate) fn upload_opened(&self) {
        self.upload.set(UploadState::Open);
    }

    /// Somebody waits for more of the request's body.
    pub(crate) fn upload_wanted(&self) {
        self.upload.set(UploadState::Wanted);
    }

    pub(crate) fn upload_moved(&self) {
        self.upload.set(UploadState::Open);
        self.moved.set(Instant::now());
    }

    pub(crate) fn upload_broke(&self) {
        self.upload.set(UploadState::Broken);
    }

    pub(crate) fn upload_closed(&self) {
        if !self.upload_is_broken() {
            self.upload.set(UploadState::Done);
        }
    }

    pub(crate) fn client_has_ended(&self) -> bool {
        self.ended.get()
    }

    pub(crate) fn last_moved(&self) -> Instant {
        self.moved.get()
    }

    pub(crate) fn arrange_upgrade(&self, upstream: Leftover) {
        *self.upgrade.borrow_mut() = Some(upstream);
    }

    pub(crate) fn take_upgrade(&self) -> Option<Leftover> {
        self.upgrade.borrow_mut().take()
    }

    fn bytes_read(&self, count: usize) {
        if count == 0 {
            self.ended.set(true);
            return;
        }
        let now = Instant::now();
        self.moved.set(now);
        if matches!(self.phase.get(), Phase::Fresh | Phase::Idle) {
            self.idleness.end();
            self.since.set(now);
            self.phase.set(Phase::ReadingHead);
        }
    }

    fn bytes_written(&self) {
        self.moved.set(Instant::now());
    }

    /// hyper flushes the socket only when its own buffer is empty: then a written answer is out.
    fn flushed(&self) {
        if self.phase.get() == (Phase::Answering { written: true }) && self.upload.get() == UploadState::Done {
            let now = Instant::now();
            self.since.set(now);
            self.phase.set(Phase::Idle);
            self.idleness.begin(now);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UploadState {
    /// There is no body, or all of it was read, or the rest was given up.
    Done,
    Open,
    Wanted,
    Broken,
}

/// A client's socket, whose every movement is felt in the pulse.
pub(crate) struct Felt {
    pub(crate) stream: TcpStream,
    pulse: Rc<Pulse>,
}

impl Felt {
    pub(crate) fn new(stream: TcpStream, pulse: Rc<Pulse>) -> Self {
        Self { stream, pulse }
    }

    fn feel_written(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(_)) = written {
            self.pulse.bytes_written();
        }
        written
    }
}

impl AsyncRead for Felt {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = read {
            self.pulse.bytes_read(buf.filled().len() - before);
        }
        read
    }
}

impl AsyncWrite for Felt {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.feel_written(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.feel_written(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pulse.flushed();
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
