//! The PROXY header with which a connection begins, if its listener takes one: who may send it, how long it is waited for,
//! and what the operator is told of connections without one. How it is read and written lives below.

mod parse;
mod write;

use std::{
    fmt,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};
use tollgate::client::Proxies;
use tracing::{debug, warn};

use self::parse::{Header, Wrong, parse};
pub(crate) use self::{parse::Ends, write::write};
use crate::failure::Seldom;

/// Reads the header, and no further than what came with it: who is calling, and the first of the client's own bytes.
pub(crate) async fn read(
    stream: &mut TcpStream,
    socket: Ends,
    proxies: &Proxies,
    within: Duration,
) -> Result<(Ends, Bytes), Missing> {
    if !proxies.contains(socket.source.ip()) {
        return Err(Missing::Untrusted);
    }
    let mut received = BytesMut::with_capacity(RECEIVED_AT_FIRST);
    let reading = async {
        loop {
            if !matches!(stream.read_buf(&mut received).await, Ok(1..)) {
                return Err(Missing::Gone);
            }
            if let Some(header) = parse(&received).map_err(Missing::Wrong)? {
                return Ok(header);
            }
        }
    };
    let Header { ends, length } = timeout(within, reading).await.unwrap_or(Err(Missing::Late))?;
    let clients_own = received.split_off(length).freeze();
    Ok((ends.unwrap_or(socket), clients_own))
}

/// Why there is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Whoever sends it could claim to be anybody.
    Untrusted,
    Wrong(Wrong),
    Late,
    /// The peer has closed first, as many a health check does.
    Gone,
}

/// Connections closed for want of a header: most likely a mistake in the one or the other configuration, which nobody
/// would find without a word about it.
pub(crate) struct Complaints(Mutex<Seldom>);

impl Complaints {
    pub(crate) fn about(&self, peer: SocketAddr, missing: Missing) {
        let (why, peer) = match missing {
            Missing::Untrusted => ("it is not among trusted_proxies", peer.ip()),
            Missing::Wrong(Wrong::Other) => ("it began with something else", peer.ip()),
            Missing::Wrong(Wrong::Malformed) => ("the one it sent is malformed", peer.ip()),
            Missing::Wrong(Wrong::TooLong) => ("the one it sent is too long", peer.ip()),
            Missing::Late => ("it sent none in time", peer.ip()),
            Missing::Gone => return debug!(%peer, "{peer} closed before a PROXY header"),
        };
        // A lock is poisoned only by a panic between two numbers, and then a line too many is no harm.
        let ripe = self.0.lock().unwrap_or_else(PoisonError::into_inner).ripe();
        if let Some(times) = ripe {
            let often = if times == 1 { String::new() } else { format!(" ({times} such connections)") };
            warn!(%peer, why, times, "closed a connection of {peer} without PROXY header: {why}{often}");
        }
    }
}

impl Default for Complaints {
    fn default() -> Self {
        Self(Mutex::new(Seldom::every(COMPLAINED_EVERY)))
    }
}

impl fmt::Debug for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Complaints")
    }
}

/// Holds every header that proxies commonly send.
const RECEIVED_AT_FIRST: usize = 512;
const COMPLAINED_EVERY: Duration = Duration::from_secs(60);
