//! The connections one worker keeps to one upstream: made when none is idle, given back when an answer has ended,
//! taken again newest first, so that those too many grow old and are closed.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::{Rc, Weak},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Response, Version, header::CONNECTION};
use http_body::{Body, Frame};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1},
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    sync::oneshot,
    task,
    time::{Instant, sleep, timeout},
};
use tollgate::config::Upstream;

use crate::{
    dial::dial,
    doorbell::Doorbell,
    failure::Failure,
    hop,
    outgoing::{Outgoing, OutgoingBody},
    upstream_stream::UpstreamStream,
};

/// The idle connections of one worker to one upstream.
pub(crate) struct Pool {
    pub(crate) upstream: Upstream,
    /// What the upstream is called in a request that names no host.
    pub(crate) host: HeaderValue,
    connect_timeout: Duration,
    idle: Idle<Connection>,
    /// Those on which hyper was not needed yet.
    idle_streams: Idle<TcpStream>,
}

impl Pool {
    pub(crate) fn new(upstream: Upstream, connect_timeout: Duration) -> Rc<Self> {
        let authority = upstream.to_string();
        let authority = authority.trim_start_matches("http://");
        // A name that cannot stand in a header cannot be resolved either.
        let host = HeaderValue::from_str(authority).unwrap_or(HeaderValue::from_static(""));
        let (idle, idle_streams) = Default::default();
        let pool = Rc::new(Self { upstream, host, connect_timeout, idle, idle_streams });
        pool.sweep_regularly();
        pool
    }

    /// The connection that became idle last, if there is one that is still good.
    pub(crate) fn take(&self, now: Instant) -> Option<Connection> {
        self.idle.take(now, Connection::is_ready)
    }

    /// The same for who needs no hyper.
    pub(crate) fn take_stream(&self, now: Instant) -> Option<TcpStream> {
        self.idle_streams.take(now, is_silent)
    }

    /// Whether hyper has a connection that it does not use, which is as good as a new one.
    pub(crate) fn has_idle(&self) -> bool {
        !self.idle.0.borrow().is_empty()
    }

    pub(crate) async fn connect(&self) -> Result<Connection, Failure> {
        Connection::over(UpstreamStream::new(self.dial().await?)).await
    }

    pub(crate) async fn dial(&self) -> Result<TcpStream, Failure> {
        dial(&self.upstream, self.connect_timeout).await
    }

    pub(crate) fn give_back_stream(&self, stream: TcpStream, now: Instant) {
        self.idle_streams.keep(stream, now);
    }

    /// Keeps a connection whose answer has been read to its end.
    pub(crate) fn give_back(self: &Rc<Self>, mut connection: Connection, now: Instant) {
        if !connection.is_reusable || connection.sender.is_closed() {
            return;
        }
        if connection.sender.is_ready() {
            return self.idle.keep(connection, now);
        }
        // The upstream has answered before it read the whole request, which is still on its way.
        let pool = Rc::downgrade(self);
        task::spawn_local(async move {
            let became_ready = timeout(IDLE_AT_LONGEST, connection.sender.ready()).await;
            if let (Ok(Ok(())), Some(pool)) = (became_ready, pool.upgrade()) {
                pool.idle.keep(connection, Instant::now());
            }
        });
    }

    /// Closes, now and then, connections that nobody has taken for a while, and bare streams that their upstream has closed.
    fn sweep_regularly(self: &Rc<Self>) {
        let pool: Weak<Self> = Rc::downgrade(self);
        task::spawn_local(async move {
            while let Some(pool) = pool.upgrade() {
                pool.idle.sweep(Connection::is_ready);
                pool.idle_streams.sweep(is_silent);
                drop(pool);
                sleep(SWEPT_EVERY).await;
            }
        });
    }
}

/// Connections that nobody uses and since when, oldest first, at most `IDLE_AT_MOST`.
struct Idle<T>(RefCell<VecDeque<(T, Instant)>>);

impl<T> Idle<T> {
    fn take(&self, now: Instant, is_good: impl Fn(&T) -> bool) -> Option<T> {
        let mut idle = self.0.borrow_mut();
        while let Some((connection, since)) = idle.pop_back() {
            if is_good(&connection) && now - since < IDLE_AT_LONGEST {
                return Some(connection);
            }
        }
        None
    }

    fn keep(&self, connection: T, now: Instant) {
        let mut idle = self.0.borrow_mut();
        if idle.len() == IDLE_AT_MOST {
            idle.pop_front();
        }
        idle.push_back((connection, now));
    }

    fn sweep(&self, is_good: impl Fn(&T) -> bool) {
        self.0.borrow_mut().retain(|(connection, since)| is_good(connection) && since.elapsed() < IDLE_AT_LONGEST);
    }
}

impl<T> Default for Idle<T> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

/// Whether nothing has come on a connection on which nothing was asked: no end, and no answer to a question that nobody has
/// put. Takes a system call only where something has.
fn is_silent(stream: &TcpStream) -> bool {
    stream.try_read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// A connection to the upstream. Dropped while an answer is outstanding, it is closed.
pub(crate) struct Connection {
    pub(crate) sender: http1::SendRequest<OutgoingBody>,
    /// The bare stream, once the upstream has switched protocols.
    pub(crate) leftover: Leftover,
    bell: Arc<Doorbell>,
    is_reusable: bool,
}

impl Connection {
    /// Lets hyper speak over this stream.
    pub(crate) async fn over(stream: UpstreamStream) -> Result<Self, Failure> {
        let (sender, mut http) = http1::Builder::new()
            .max_buf_size(BUFFER_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| Failure::Unreachable)?;
        let (over, leftover) = oneshot::channel();
        let bell = Arc::new(Doorbell::default());
        let (of_task, waker) = (Arc::clone(&bell), Waker::from(Arc::clone(&bell)));
        task::spawn_local(async move {
            let polling = poll_fn(|cx| {
                of_task.belongs_to(cx.waker());
                Pin::new(&mut http).poll(&mut Context::from_waker(&waker))
            });
            let result = polling.await;
            if result.is_ok() {
                // Nobody waits for it, unless the upstream has switched protocols.
                let _ = over.send(http.into_parts());
            }
        });
        Ok(Self { sender, leftover, bell, is_reusable: true })
    }

    fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Sends a request, which is on its way at once. One that asks to close the connection is the last.
    pub(crate) fn send(
        &mut self,
        request: Outgoing,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Outgoing>>> + use<> {
        // It is said only before a body.
        self.is_reusable &= request.body().is_end_stream() || !hop::lists(request.headers(), CONNECTION, "close");
        self.sender.try_send_request(request)
    }

    /// Waits for the next piece of an answer's body.
    pub(crate) fn poll_body(
        &self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let (frame, is_asked) = self.bell.held(|| Pin::new(&mut *body).poll_frame(cx));
        // There may be room for another piece, but not after the last.
        if is_asked && !body.is_end_stream() {
            self.bell.ring();
        }
        frame
    }

    /// An upstream of HTTP/1.0 could not be sent chunks the next time, so there is no next time.
    pub(crate) fn after(self, version: Version) -> Self {
        Self { is_reusable: self.is_reusable && version == Version::HTTP_11, ..self }
    }
}

/// The upstream's stream after HTTP, and what was already read from it.
pub(crate) type Leftover = oneshot::Receiver<http1::Parts<TokioIo<UpstreamStream>>>;

/// As many as a busy worker has in use at once; more would only hold the upstream's file descriptors.
const IDLE_AT_MOST: usize = 256;
/// Shorter than servers commonly keep an idle connection, so that it is us who close it, and not both at once.
const IDLE_AT_LONGEST: Duration = Duration::from_secs(30);
/// For so long an upstream that closes idle connections itself has them half open. Takes no system call where nothing has come.
const SWEPT_EVERY: Duration = Duration::from_secs(1);
/// What a connection may hold of a body in each direction, and the largest head of an answer.
const BUFFER_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_taken_first_while_they_are_good_and_young() {
        let (idle, begun) = (Idle::default(), Instant::now());
        for n in 0..IDLE_AT_MOST + 2 {
            idle.keep(n, begun);
        }
        let taken = |is_good: fn(&usize) -> bool, now| idle.take(now, is_good);
        assert_eq!(taken(|_| true, begun), Some(IDLE_AT_MOST + 1));
        assert_eq!(taken(|n| n % 2 == 1, begun), Some(IDLE_AT_MOST - 1));
        assert_eq!(taken(|n| *n < 4, begun), Some(3));
        assert_eq!(taken(|_| true, begun), Some(2));
        assert_eq!(taken(|_| true, begun), None, "the first two had to make room");
        idle.keep(0, begun);
        assert_eq!(taken(|_| true, begun + IDLE_AT_LONGEST), None);
    }
}
