//! An upstream's socket as hyper uses it: from its beginning, or where it was used before, from the first bytes of an answer on.

use std::{
    io::{self, IoSlice},
    mem,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::one_piece::poll_write_pieces;

/// See the file's opening.
pub(crate) struct UpstreamStream {
    pub(crate) stream: TcpStream,
    earlier: Earlier,
}

/// What was done on it earlier.
enum Earlier {
    /// Nothing that hyper does not know of.
    Nothing,
    /// A request was sent, which hyper has yet to write, and this is what came then; who waits for it is told.
    Asked(Bytes, Waker),
    /// This came, and is still to be read.
    Answered(Bytes),
}

impl UpstreamStream {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, earlier: Earlier::Nothing }
    }

    /// On which a request was sent and this was read. hyper will write that request, which goes nowhere, and read this.
    pub(crate) fn resumed(stream: TcpStream, answer: Bytes) -> Self {
        Self { stream, earlier: Earlier::Asked(answer, Waker::noop().clone()) }
    }

    /// Whether what is written now has been sent before: a request's head, which hyper writes in one piece.
    fn was_sent(&mut self) -> bool {
        match mem::replace(&mut self.earlier, Earlier::Nothing) {
            Earlier::Asked(answer, waiting) => {
                self.earlier = Earlier::Answered(answer);
                waiting.wake();
                true
            }
            other => {
                self.earlier = other;
                false
            }
        }
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.earlier {
            Earlier::Nothing => Pin::new(&mut self.stream).poll_read(cx, buf),
            Earlier::Asked(_, waiting) => {
                waiting.clone_from(cx.waker());
                Poll::Pending
            }
            Earlier::Answered(answer) => {
                buf.put_slice(&answer.split_to(answer.len().min(buf.remaining())));
                if answer.is_empty() {
                    self.earlier = Earlier::Nothing;
                }
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.was_sent() {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.was_sent() {
            return Poll::Ready(Ok(pieces.iter().map(|piece| piece.len()).sum()));
        }
        poll_write_pieces(&mut self.stream, cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
