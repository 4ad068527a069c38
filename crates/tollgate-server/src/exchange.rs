//! An allowed plain request's way to the upstream and its answer's way back, beneath hyper on both sides.
//!
//! Of an answer that is not plain, and of a failure, the client is told by hyper, which goes on from where this has come.

use std::{
    future::{Future, poll_fn},
    io,
    mem::MaybeUninit,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::BufMut;
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};
use tollgate::{decision::Decision, limiter::Answered};

use crate::{
    activity::{Activity, Begun},
    client_stream::ClientStream,
    failure::Failure,
    gate::Gate,
    plain::PlainAnswer,
    pool::{Connection, Pool},
    service,
    upstream_stream::UpstreamStream,
};

/// A plain request that was allowed, to be sent to the upstream of its gate.
pub(crate) struct Exchange {
    pub(crate) gate: Rc<Gate>,
    pub(crate) pool: Rc<Pool>,
    pub(crate) activity: Rc<Activity>,
    pub(crate) decision: Decision,
}

impl Exchange {
    /// Sends the request, on this connection if there is one, and reads what comes first. If that makes no reply, hyper finds
    /// in the activity how far this has come.
    pub(crate) async fn run(self, idle: Option<TcpStream>, request: Vec<u8>) -> Option<Reply> {
        let begun = self.activity.now();
        let sent = match self.send(idle, &request).await {
            Ok((stream, bytes)) => match self.plain_answer(&bytes, begun) {
                Some((status, written, remaining)) => {
                    service::settle(&self.gate, &self.decision, Answered::Status(status)).await;
                    self.activity.begin_answering();
                    let rest = Rest { stream, remaining, gate: self.gate, pool: self.pool };
                    return Some(Reply { bytes: written, sent: 0, rest: rest.or_give_back(&self.activity) });
                }
                None => {
                    // Nothing has moved since it was sent.
                    let since = self.activity.last_moved();
                    let resumed = Connection::over(UpstreamStream::resumed(stream, bytes.into())).await;
                    resumed.map(|connection| (connection, since))
                }
            },
            Err(failure) => Err(failure),
        };
        self.activity.hand_over(Begun { gate: self.gate, decision: self.decision, sent: Some(sent) });
        None
    }

    /// A connection that was idle can turn out to be stale, and then this does no harm twice.
    async fn send(&self, idle: Option<TcpStream>, request: &[u8]) -> Result<(TcpStream, Vec<u8>), Failure> {
        if let Some(stream) = idle {
            match self.send_on(stream, request).await {
                Err(Failure::ClosedBeforeAnswer) => self.activity.begin_working(),
                answer => return answer,
            }
        }
        // Boxed since it is rare, and would make room in the future of every request.
        let stream = Box::pin(self.pool.dial()).await?;
        self.send_on(stream, request).await
    }

    async fn send_on(&self, mut stream: TcpStream, request: &[u8]) -> Result<(TcpStream, Vec<u8>), Failure> {
        self.activity.begin_awaiting(self.activity.now());
        let mut answer = Vec::with_capacity(ANSWER_BYTES);
        let mut asking = pin!(async {
            stream.write_all(request).await?;
            stream.read_buf(&mut answer).await
        });
        let count = poll_fn(|cx| match asking.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(result.map_err(|_| Failure::ClosedBeforeAnswer)),
            Poll::Pending if self.activity.is_overdue() => Poll::Ready(Err(Failure::FirstByteTimeout)),
            Poll::Pending => Poll::Pending,
        });
        match count.await? {
            0 => Err(Failure::ClosedBeforeAnswer),
            _ => Ok((stream, answer)),
        }
    }

    /// The status of a plain answer, the answer as the client gets it, and how much of its body is still to come.
    fn plain_answer(&self, bytes: &[u8], begun: Instant) -> Option<(u16, Vec<u8>, u64)> {
        // Who has to say that this is the last answer, says it by hyper.
        if self.activity.is_hurried() {
            return None;
        }
        let mut room = [const { MaybeUninit::uninit() }; _];
        let answer = PlainAnswer::read(bytes, &mut room)?;
        let now = self.decision.at() + (self.activity.now() - begun);
        Some((answer.status, answer.written(&self.decision, now), answer.remaining))
    }
}

/// An answer on its way to the client.
pub(crate) struct Reply {
    bytes: Vec<u8>,
    /// How many of these are out.
    sent: usize,
    rest: Option<Rest>,
}

impl Reply {
    pub(crate) fn whole(bytes: Vec<u8>) -> Self {
        Self { bytes, sent: 0, rest: None }
    }

    /// Whether the upstream is still at work for it.
    pub(crate) fn has_rest(&self) -> bool {
        self.rest.is_some()
    }

    /// Ready when all of it is out.
    pub(crate) fn poll(
        &mut self,
        client: &mut ClientStream,
        activity: &Activity,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            while self.sent < self.bytes.len() {
                self.sent += match ready!(Pin::new(&mut *client).poll_write(cx, &self.bytes[self.sent..]))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    count => count,
                };
            }
            let Some(mut rest) = self.rest.take() else { break };
            self.bytes.clear();
            self.sent = 0;
            let read = rest.poll_read(&mut self.bytes, cx);
            self.rest = rest.or_give_back(activity);
            ready!(read)?;
        }
        activity.answer_written();
        activity.flushed();
        Poll::Ready(Ok(()))
    }
}

/// What is still to come of a body.
struct Rest {
    stream: TcpStream,
    remaining: u64,
    gate: Rc<Gate>,
    pool: Rc<Pool>,
}

impl Rest {
    fn poll_read(&mut self, bytes: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let most = usize::try_from(self.remaining).unwrap_or(BODY_BYTES).min(BODY_BYTES);
        bytes.reserve_exact(most);
        let count = ready!(pin!(self.stream.read_buf(&mut bytes.limit(most))).poll(cx)).unwrap_or(0);
        if count == 0 {
            self.gate.complain(Failure::BrokenOff);
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.remaining -= count as u64;
        Poll::Ready(Ok(()))
    }

    /// Gives the connection back if nothing is to come any more.
    fn or_give_back(self, activity: &Activity) -> Option<Self> {
        if self.remaining > 0 {
            return Some(self);
        }
        self.pool.give_back_stream(self.stream, activity.now());
        None
    }
}

/// Enough for the head of an answer and most bodies.
const ANSWER_BYTES: usize = 8 * 1024;
/// What is held of a body that is longer.
const BODY_BYTES: usize = 64 * 1024;
