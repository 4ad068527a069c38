//! A client's socket, whose every byte is noted in the connection's activity.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::{
    activity::Activity,
    one_piece::poll_write_pieces,
    pipe::{Pipe, Splice},
};

/// See the file's opening.
pub(crate) struct ClientStream {
    pub(crate) stream: TcpStream,
    /// What was read of it already, and is to be read again.
    first_bytes: Bytes,
    /// There is more to be read, so that its end is not yet to be seen.
    has_more: bool,
    activity: Rc<Activity>,
}

impl ClientStream {
    pub(crate) fn new(stream: TcpStream, first_bytes: Bytes, activity: Rc<Activity>) -> Self {
        Self { stream, first_bytes, has_more: false, activity }
    }

    /// Lets these bytes be read again, which were the last to be read.
    pub(crate) fn unread(&mut self, bytes: Vec<u8>) {
        self.first_bytes =
            if self.first_bytes.is_empty() { bytes } else { [&bytes, &self.first_bytes[..]].concat() }.into();
    }

    fn note_written(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(_)) => self.activity.bytes_written(),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.activity.write_is_blocked(),
        }
        written
    }

    /// Fails if the client leaves while its request is served, which ends the connection and with it the work of the upstream.
    ///
    /// hyper would find out by reading, and take another buffer to read into, while the request stands in the first. So it is
    /// told not to, and this only looks. What has come is left where it is: the next request, behind which no end is seen.
    pub(crate) fn watch(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.has_more || !self.first_bytes.is_empty() {
            return Ok(());
        }
        match self.stream.poll_peek(cx, &mut ReadBuf::new(&mut [0])) {
            Poll::Ready(Ok(0)) => {
                self.activity.bytes_read(0);
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Poll::Ready(Ok(_)) => {
                self.has_more = true;
                Ok(())
            }
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.first_bytes.is_empty() {
            let count = self.first_bytes.len().min(buf.remaining());
            buf.put_slice(&self.first_bytes.split_to(count));
            self.activity.bytes_read(count);
            return Poll::Ready(Ok(()));
        }
        self.has_more = false;
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = read {
            self.activity.bytes_read(buf.filled().len() - before);
        }
        read
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note_written(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = poll_write_pieces(&mut self.stream, cx, bufs);
        self.note_written(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.activity.flushed();
        // hyper does this at the end of each of its turns in which everything is written.
        if self.activity.is_serving() {
            self.watch(cx)?;
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Splice for ClientStream {
    fn poll_fill(&self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<usize>> {
        if !self.first_bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let filled = self.stream.poll_fill(cx, pipe);
        if let Poll::Ready(Ok(1..)) = filled {
            self.activity.bytes_read(pipe.held());
        }
        filled
    }

    fn poll_drain(&self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<usize>> {
        self.note_written(self.stream.poll_drain(cx, pipe))
    }
}
