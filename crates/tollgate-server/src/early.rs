//! Serves plain requests on their way from the socket to hyper: decides them, answers those that are denied, and forwards those
//! that are allowed.
//!
//! That is most of what comes, and all that a flood is made of, and hyper takes most of its time for maps of headers, which are
//! made of what one socket brings and taken apart again for the other. Whatever turns out not to be plain goes on to hyper, which
//! reads it for itself; what was done so far goes with it, in the connection's activity.
//!
//! It all depends on hyper holding nothing that it has not served, or what is read here could be the middle of something else.
//! So it goes on for as long as the connection brings one plain request at a time, and never begins again.

use std::{
    future::Future,
    io::{self, IoSlice},
    mem::{self, MaybeUninit},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use http::StatusCode;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tollgate::{answer::Answer, clock::Timestamp, config::ListenerLimits, decision::Decision, policy::Terms};

use crate::{
    activity::{Activity, Begun},
    client_stream::ClientStream,
    exchange::{Exchange, Reply},
    gate::{Door, Gate},
    head::Head,
    outgoing::{Introduction, Peer},
    plain::{PlainRequest, Room},
    pool::Pool,
    service,
};

/// A client's socket as hyper reads it: without the requests that are answered early.
pub(crate) struct Early {
    stream: ClientStream,
    activity: Rc<Activity>,
    door: Rc<Door>,
    peer: Rc<Peer>,
    limits: ListenerLimits,
    /// Everything that came was plain, so that hyper holds nothing.
    goes_on: bool,
    task: Task,
}

/// What is done here while hyper believes that nothing has come.
enum Task {
    None,
    /// A request is with the upstream, by a copy of it in case hyper has to read it after all.
    Forward {
        request: Vec<u8>,
        exchange: Pin<Box<dyn Future<Output = Option<Reply>>>>,
    },
    Answer(Reply),
}

impl Early {
    /// For a connection from which hyper has read nothing yet, and will read within these limits.
    pub(crate) fn new(
        stream: ClientStream,
        activity: Rc<Activity>,
        door: Rc<Door>,
        peer: Rc<Peer>,
        limits: ListenerLimits,
    ) -> Self {
        Self { stream, activity, door, peer, limits, goes_on: true, task: Task::None }
    }

    pub(crate) fn into_stream(self) -> ClientStream {
        self.stream
    }

    /// What is to be done here about a request that was just read, if it is a plain one. Otherwise it is hyper's.
    fn take(&mut self, read: &[u8], is_beginning: bool) -> Option<Task> {
        // Until it is known that this is a plain one.
        if !mem::take(&mut self.goes_on) || !is_beginning {
            return None;
        }
        let gate = self.door.gate();
        let mut room: Room<'_> = [const { MaybeUninit::uninit() }; _];
        let plain = PlainRequest::read(read, &mut room, &self.limits)?;
        let asked = plain.as_asked(gate.front.listener_name(), self.peer.address);
        // If another store has to be asked, the service does that.
        let decision = gate.front.limiter.begin(&asked, &Terms::default()).ok()?;
        service::note(&gate, &decision, &asked, plain.names());
        self.goes_on = true;
        if let Some(answer) = decision.answer(&plain) {
            if let Some(written) = written(&answer, decision.at()) {
                self.activity.begin_answering();
                return Some(Task::Answer(Reply::whole(written)));
            }
        } else if let Some(outgoing) = plain.outgoing(&self.introduction(&gate, &decision))
            && let Some((pool, idle)) = self.upstream(&gate)
        {
            self.activity.begin_exchange();
            let exchange = Exchange { gate: Rc::clone(&gate), pool, activity: Rc::clone(&self.activity), decision };
            return Some(Task::Forward { request: read.to_vec(), exchange: Box::pin(exchange.run(idle, outgoing)) });
        }
        self.activity.hand_over(Begun { gate, decision, sent: None });
        None
    }

    fn introduction<'a>(&'a self, gate: &'a Gate, decision: &'a Decision) -> Introduction<'a> {
        let proxies = gate.front.limiter.policy().proxies();
        Introduction { peer: &self.peer, client: decision.client(), proxies }
    }

    /// Where allowed requests go, and a connection that is there already: no other one is made while hyper has one that it
    /// does not use.
    fn upstream(&self, gate: &Gate) -> Option<(Rc<Pool>, Option<TcpStream>)> {
        let pool = gate.pool.as_ref()?;
        let idle = pool.take_stream(self.activity.now());
        (idle.is_some() || !pool.has_idle()).then(|| (Rc::clone(pool), idle))
    }

    /// Ready when nothing is done any more of which hyper knows nothing.
    fn poll_task(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let is_watched = match &mut self.task {
                Task::None => return Poll::Ready(Ok(())),
                Task::Forward { request, exchange } => match exchange.as_mut().poll(cx) {
                    Poll::Ready(reply) => {
                        self.activity.end_exchange();
                        if reply.is_none() {
                            self.stream.unread(mem::take(request));
                        }
                        self.task = reply.map_or(Task::None, Task::Answer);
                        continue;
                    }
                    Poll::Pending => true,
                },
                Task::Answer(reply) => match reply.poll(&mut self.stream, &self.activity, cx) {
                    Poll::Ready(written) => {
                        // One that broke off is not gone on with when hyper closes the connection for it.
                        self.task = Task::None;
                        written?;
                        continue;
                    }
                    Poll::Pending => reply.has_rest(),
                },
            };
            if is_watched {
                self.stream.watch(cx)?;
            }
            return Poll::Pending;
        }
    }
}

impl AsyncRead for Early {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_task(cx))?;
            let (is_beginning, is_begun) = (self.activity.is_between_requests(), self.activity.is_begun());
            let before = buf.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
            if is_begun {
                return Poll::Ready(Ok(()));
            }
            match self.take(&buf.filled()[before..], is_beginning) {
                Some(task) => self.task = task,
                None => return Poll::Ready(Ok(())),
            }
            buf.set_filled(before);
        }
    }
}

impl AsyncWrite for Early {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// What is done here is nothing that hyper has written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.task {
            Task::None => Pin::new(&mut self.stream).poll_flush(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_task(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// An answer as it goes out, if it is one of the usual: others are hyper's to write.
fn written(answer: &Answer<'_>, at: Timestamp) -> Option<Vec<u8>> {
    let status = StatusCode::from_u16(answer.status_code).ok()?;
    let reason = status.canonical_reason()?;
    if answer.close || answer.has_own_headers() || !(status.is_client_error() || status.is_server_error()) {
        return None;
    }
    let line: [&[u8]; 4] = [b"HTTP/1.1 ", status.as_str().as_bytes(), b" ", reason.as_bytes()];
    let mut head = Head::new(&line, HEAD_BYTES + answer.body.len());
    answer.tell(|name, value, _| head.header(name, value.as_bytes()));
    head.header("content-length", itoa::Buffer::new().format(answer.body.len()).as_bytes());
    head.date(at);
    Some(head.before(answer.body.as_bytes()))
}

/// Room for the head of an answer about some rules.
const HEAD_BYTES: usize = 512;
