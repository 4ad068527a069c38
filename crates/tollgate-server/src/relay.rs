//! Bytes copied both ways, of a TCP connection or of one that has left HTTP, until both sides have ended or nothing moves
//! any more.
//!
//! All connections of a thread read into one buffer, and what has been read is nearly always written at once. A connection
//! keeps bytes of its own only while a side does not take them, so one on which nothing happens holds none.
//!
//! Who fills the buffer has more to say than fits, and the rest goes through a pipe, without a copy, for as long as there
//! is much at once. Of little, a copy is cheaper than the calls that a pipe takes.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, sleep_until},
};

use crate::{
    activity::Activity,
    client_stream::ClientStream,
    pipe::{Pipe, Splice},
};

/// One side of the copying, and what it is to be told before the other side's bytes.
pub(crate) struct Side<'a, S> {
    pub(crate) stream: &'a mut S,
    pub(crate) told_first: Vec<u8>,
}

/// Copies until each side has said that it is done; one that has can still be written to. An error if a side fails, or if
/// no byte has moved for `idle`.
pub(crate) async fn relay(
    client: Side<'_, ClientStream>,
    upstream: Side<'_, TcpStream>,
    activity: &Activity,
    idle: Duration,
) -> io::Result<()> {
    let (mut up, mut down) = (Direction::new(upstream.told_first), Direction::new(client.told_first));
    let (client, upstream) = (client.stream, upstream.stream);
    let copying = poll_fn(|cx| {
        activity.read_clock();
        let up = up.poll_copy(cx, client, upstream)?;
        let down = down.poll_copy(cx, upstream, client)?;
        if up.is_ready() && down.is_ready() { Poll::Ready(io::Result::Ok(())) } else { Poll::Pending }
    });
    tokio::select! {
        copied = copying => copied,
        () = nothing_moves(activity, idle) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Every byte in either direction passes the client's socket, so its activity tells.
async fn nothing_moves(activity: &Activity, idle: Duration) {
    while let Some(deadline) = activity.last_moved().checked_add(idle) {
        if deadline <= Instant::now() {
            return;
        }
        sleep_until(deadline).await;
    }
    std::future::pending().await
}

/// What goes one way.
struct Direction {
    /// Read, and not written yet, from `written` on.
    kept: Vec<u8>,
    written: usize,
    /// Holds what was spliced out of one socket, and is not in the other yet.
    pipe: Option<Pipe>,
    /// As much came at once, the last time, as the buffer takes.
    is_bulk: bool,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Reading,
    /// All has been read; once it is written, the other side is told.
    Ending,
    Ended,
}

impl Direction {
    fn new(told_first: Vec<u8>) -> Self {
        Self { kept: told_first, written: 0, pipe: None, is_bulk: false, stage: Stage::Reading }
    }

    /// Ready when the end has been passed on.
    fn poll_copy<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Splice + Unpin,
        W: AsyncWrite + Splice + Unpin,
    {
        loop {
            ready!(self.poll_write_kept(cx, to))?;
            ready!(self.poll_drain(cx, to))?;
            match self.stage {
                Stage::Reading => {
                    let is_spliced = self.is_bulk && ready!(self.poll_fill(cx, from))?;
                    if !is_spliced {
                        ready!(self.poll_pass(cx, from, to))?;
                    }
                }
                Stage::Ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.stage = Stage::Ended;
                }
                Stage::Ended => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_write_kept<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<io::Result<()>> {
        while self.written < self.kept.len() {
            self.written += ready!(poll_write(cx, to, &self.kept[self.written..]))?;
        }
        (self.kept, self.written) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    fn poll_drain<W: Splice>(&mut self, cx: &mut Context<'_>, to: &W) -> Poll<io::Result<()>> {
        if let Some(pipe) = &mut self.pipe {
            while pipe.held() > 0 {
                ready!(to.poll_drain(cx, pipe))?;
            }
        }
        if let Some(empty) = self.pipe.take() {
            empty.put_back();
        }
        Poll::Ready(Ok(()))
    }

    /// Splices once, if there is a pipe to be had and something that it takes.
    fn poll_fill<R: Splice>(&mut self, cx: &mut Context<'_>, from: &R) -> Poll<io::Result<bool>> {
        let Some(mut pipe) = Pipe::take() else { return Poll::Ready(Ok(false)) };
        let filled = from.poll_fill(cx, &mut pipe);
        match pipe.held() {
            0 => pipe.put_back(),
            held => {
                self.is_bulk = held >= BUFFER_BYTES;
                self.pipe = Some(pipe);
            }
        }
        filled.map_ok(|filled| filled > 0)
    }

    /// Reads once, writes as much as goes at once, and keeps the rest.
    fn poll_pass<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        SHARED.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(from).poll_read(cx, &mut buffer))?;
            let read = buffer.filled();
            if read.is_empty() {
                self.stage = Stage::Ending;
                return Poll::Ready(Ok(()));
            }
            self.is_bulk = read.len() == BUFFER_BYTES;
            let written = match poll_write(cx, to, read) {
                Poll::Ready(written) => written?,
                Poll::Pending => 0,
            };
            self.kept = read[written..].to_vec();
            Poll::Ready(Ok(()))
        })
    }
}

fn poll_write<W: AsyncWrite + Unpin>(cx: &mut Context<'_>, to: &mut W, bytes: &[u8]) -> Poll<io::Result<usize>> {
    match ready!(Pin::new(to).poll_write(cx, bytes))? {
        0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        written => Poll::Ready(Ok(written)),
    }
}

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER_BYTES].into());
}

/// What is read at once, and the most that a connection keeps in each direction.
const BUFFER_BYTES: usize = 64 * 1024;
