//! Pipes, through which bytes go from one socket into another without being copied: the kernel passes on the pages in which
//! they came.
//!
//! A thread has a few, and lends one for as long as there are bytes in it. So a connection on which nothing happens holds
//! none; and if clients that do not read hold all of them, the others are copied for, as they are where the system has no
//! pipes of this kind.

use std::{
    cell::{Cell, RefCell},
    io,
    task::{Context, Poll, ready},
};

use tokio::{io::Interest, net::TcpStream};

use self::kernel::Ends;

/// See the file's opening.
pub(crate) struct Pipe {
    ends: Ends,
    held: usize,
}

/// A stream whose bytes can be spliced.
pub(crate) trait Splice {
    /// Splices out of the stream, once, into an empty pipe. Ready with 0 if there is nothing that a pipe takes, be it that
    /// there is nothing yet or no more: that is for a read to find out.
    fn poll_fill(&self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<usize>>;

    /// Splices as much as goes at once of what a pipe holds into the stream.
    fn poll_drain(&self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<usize>>;
}

impl Pipe {
    /// An empty one, if there is one to be had.
    pub(crate) fn take() -> Option<Self> {
        let idle = IDLE.with_borrow_mut(Vec::pop);
        idle.or_else(|| if OPEN.get() < OPEN_AT_MOST { Self::open().ok() } else { None })
    }

    fn open() -> io::Result<Self> {
        let ends = Ends::open(PIPE_BYTES)?;
        OPEN.set(OPEN.get() + 1);
        Ok(Self { ends, held: 0 })
    }

    /// Gives back an empty one. Any other is to be dropped, for nobody wants what is in it.
    pub(crate) fn put_back(self) {
        debug_assert_eq!(self.held, 0);
        IDLE.with_borrow_mut(|idle| idle.push(self));
    }

    /// The bytes in it.
    pub(crate) fn held(&self) -> usize {
        self.held
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        OPEN.set(OPEN.get() - 1);
    }
}

impl Splice for TcpStream {
    fn poll_fill(&self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<usize>> {
        ready!(self.poll_read_ready(cx))?;
        // Not by `try_io`: urgent data stops a pipe as if there was nothing, and the socket is still to be read then.
        match pipe.ends.fill(self, PIPE_BYTES) {
            Ok(filled) => {
                pipe.held += filled;
                Poll::Ready(Ok(filled))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Ready(Ok(0)),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn poll_drain(&self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_write_ready(cx))?;
            match self.try_io(Interest::WRITABLE, || pipe.ends.drain(self, pipe.held)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(drained) => {
                    pipe.held -= drained;
                    return Poll::Ready(Ok(drained));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

#[cfg(target_os = "linux")]
mod kernel {
    use std::{
        io,
        os::fd::{AsFd, OwnedFd},
    };

    use rustix::{
        io::retry_on_intr,
        pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice},
    };
    use tokio::net::TcpStream;

    pub(super) struct Ends {
        reader: OwnedFd,
        writer: OwnedFd,
    }

    impl Ends {
        /// Fails if the system gives this user no more of that size.
        pub(super) fn open(bytes: usize) -> io::Result<Self> {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
            fcntl_setpipe_size(&writer, bytes)?;
            Ok(Self { reader, writer })
        }

        pub(super) fn fill(&self, from: &TcpStream, at_most: usize) -> io::Result<usize> {
            spliced(from, &self.writer, at_most)
        }

        pub(super) fn drain(&self, to: &TcpStream, at_most: usize) -> io::Result<usize> {
            spliced(&self.reader, to, at_most)
        }
    }

    fn spliced(from: impl AsFd, to: impl AsFd, at_most: usize) -> io::Result<usize> {
        Ok(retry_on_intr(|| splice(&from, None, &to, None, at_most, SpliceFlags::NONBLOCK))?)
    }
}

/// There are none to be had.
#[cfg(not(target_os = "linux"))]
mod kernel {
    use std::io;

    use tokio::net::TcpStream;

    pub(super) enum Ends {}

    impl Ends {
        pub(super) fn open(_bytes: usize) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(super) fn fill(&self, _from: &TcpStream, _at_most: usize) -> io::Result<usize> {
            match *self {}
        }

        pub(super) fn drain(&self, _to: &TcpStream, _at_most: usize) -> io::Result<usize> {
            match *self {}
        }
    }
}

thread_local! {
    static IDLE: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
    /// Idle or lent.
    static OPEN: Cell<usize> = const { Cell::new(0) };
}

/// So many of a thread's streams go without a copy while their clients keep them waiting; each takes two descriptors.
const OPEN_AT_MOST: usize = 16;

/// The more at once, the fewer calls: a quarter of it takes half as much CPU time again. It is the most that Linux gives to
/// any user, and of such pipes it gives him 64, unless told otherwise.
const PIPE_BYTES: usize = 1024 * 1024;

#[cfg(all(test, target_os = "linux"))]
mod tests;
