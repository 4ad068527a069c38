//! One connection through the proxy: a thread carries what the client says, another what the server says.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use socket2::SockRef;

use super::{Fault, switch::Switch};

/// What a thread carries at a time.
const PIECE_BYTES: usize = 16 * 1024;

/// How a line ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// As when a process ends: what was sent arrives, then the end.
    Close,
    /// By an RST to the client.
    Reset,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Requests,
    Replies,
}

/// A connection of a client, and the one to the server on its behalf.
#[derive(Debug)]
pub(super) struct Line {
    switch: Arc<Switch>,
    client: TcpStream,
    server: OnceLock<TcpStream>,
    /// Closed or reset by us: nothing more is to be said to either side.
    ended: AtomicBool,
    /// Bytes were lost, so it never carries any again.
    dead: AtomicBool,
}

impl Line {
    pub(super) fn new(switch: Arc<Switch>, client: TcpStream) -> Self {
        let (ended, dead) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { switch, client, server: OnceLock::new(), ended, dead }
    }

    /// Carries everything until the end, under the fault that was in force when it was accepted.
    pub(super) fn serve(self: Arc<Self>, fault: Fault) {
        if fault == Fault::Blackhole {
            self.dead.store(true, Ordering::Release);
        } else if self.connect().is_err() {
            return self.end(Ending::Close);
        }
        let Some(server) = self.server.get() else {
            return self.carry(Way::Requests, &self.client, None);
        };
        let replies = thread::spawn({
            let line = Arc::clone(&self);
            move || line.carry(Way::Replies, line.server.get().expect("it was just seen"), Some(&line.client))
        });
        self.carry(Way::Requests, &self.client, Some(server));
        let _ = replies.join();
    }

    fn connect(&self) -> io::Result<()> {
        let server = TcpStream::connect(self.switch.server())?;
        server.set_nodelay(true)?;
        self.client.set_nodelay(true)?;
        let server = self.server.get_or_init(|| server);
        // Whoever ended the line meanwhile did not see the server's side of it.
        if self.ended.load(Ordering::SeqCst) {
            server.shutdown(Shutdown::Both)?;
        }
        Ok(())
    }

    /// Carries bytes one way until either side ends, or the fault says so.
    fn carry(&self, way: Way, mut from: &TcpStream, to: Option<&TcpStream>) {
        let mut piece = [0; PIECE_BYTES];
        let mut budget = Budget::default();
        loop {
            let length = match from.read(&mut piece) {
                Ok(0) => return self.pass_end(way, to),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return self.end(Ending::Close),
            };
            let passing = match self.fate(way, length, &mut budget) {
                Fate::Pass => length,
                Fate::Lose => continue,
                Fate::Cut(passing) => passing,
                Fate::End => return,
            };
            if let Some(mut to) = to
                && to.write_all(&piece[..passing]).is_err()
            {
                return self.end(Ending::Close);
            }
            if passing < length || budget.is_spent() {
                return self.end(Ending::Close);
            }
        }
    }

    /// What becomes of a piece of this length, after it was held if it is to be held.
    fn fate(&self, way: Way, length: usize, budget: &mut Budget) -> Fate {
        let mut held_at = None;
        loop {
            let (fault, change) = self.switch.fault();
            if self.ended.load(Ordering::SeqCst) {
                return Fate::End;
            }
            if fault == Fault::Blackhole {
                self.dead.store(true, Ordering::Release);
            }
            if self.dead.load(Ordering::Acquire) {
                return Fate::Lose;
            }
            match (fault, way) {
                (Fault::Delay(delay), Way::Requests) if held_at != Some(change) => {
                    held_at = Some(change);
                    self.switch.hold(delay, change);
                }
                (Fault::CutRequests(bytes), Way::Requests) | (Fault::CutReplies(bytes), Way::Replies) => {
                    return Fate::Cut(budget.spend(length, bytes, change));
                }
                _ => {
                    *budget = Budget::default();
                    return Fate::Pass;
                }
            }
        }
    }

    /// One side has nothing more to say; the other hears of it.
    fn pass_end(&self, way: Way, to: Option<&TcpStream>) {
        let lost = self.dead.load(Ordering::Acquire) || self.switch.fault().0 == Fault::Blackhole;
        match (lost, way) {
            // The client must not hear of the server's end.
            (true, Way::Replies) => self.dead.store(true, Ordering::Release),
            // Without its client the line is of no use.
            (true, Way::Requests) => self.end(Ending::Close),
            (false, _) => self.switch.undisturbed(|| {
                if let Some(to) = to
                    && !self.ended.load(Ordering::SeqCst)
                {
                    let _ = to.shutdown(Shutdown::Write);
                }
            }),
        }
    }

    /// Ends both sides, and thereby both threads. Either side may be gone already, which is as well.
    pub(super) fn end(&self, ending: Ending) {
        if self.ended.swap(true, Ordering::SeqCst) {
            return;
        }
        let client_side = match ending {
            Ending::Close => Shutdown::Both,
            // The RST comes when the socket is closed; to end the sending side before would say it politely.
            Ending::Reset => {
                let _ = SockRef::from(&self.client).set_linger(Some(Duration::ZERO));
                Shutdown::Read
            }
        };
        let _ = self.client.shutdown(client_side);
        if let Some(server) = self.server.get() {
            let _ = server.shutdown(Shutdown::Both);
        }
    }
}

/// What becomes of a piece.
enum Fate {
    Pass,
    Lose,
    /// So much of it passes, under a budget.
    Cut(usize),
    End,
}

/// How many bytes a line may carry before it is cut, since the change of the fault that said so.
#[derive(Default)]
struct Budget {
    change: Option<u64>,
    left: u64,
}

impl Budget {
    /// Spends as much as there is; returns how much that is.
    fn spend(&mut self, length: usize, bytes: u64, change: u64) -> usize {
        if self.change != Some(change) {
            *self = Self { change: Some(change), left: bytes };
        }
        let passing = usize::try_from(self.left).map_or(length, |left| left.min(length));
        self.left -= passing as u64;
        passing
    }

    fn is_spent(&self) -> bool {
        self.change.is_some() && self.left == 0
    }
}
