//! A connection let in: it gets its place, and is introduced by a PROXY header where its listener takes one.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::{net::TcpStream, time::Instant};

use crate::{
    gate::Gate,
    open_connections::Place,
    proxy_header::{self, Ends},
};

/// A connection whose client is known.
pub(crate) struct Arrival {
    pub(crate) stream: TcpStream,
    pub(crate) place: Place,
    /// Who is connected to what, be it to us or to a proxy before us.
    pub(crate) ends: Ends,
    /// What of the client's own bytes came with the PROXY header.
    pub(crate) first_bytes: Bytes,
}

/// Lets a connection in, or not: for want of a place, or of a PROXY header that may be believed.
pub(crate) async fn arrive(gate: &Gate, mut stream: TcpStream, peer: SocketAddr) -> Option<Arrival> {
    let front = &gate.front;
    let mut place = front.open_connections.enter()?;
    // Whoever writes, be it us, writes whole, so waiting for more to send with it only delays it. An error shows up on
    // reading.
    let _ = stream.set_nodelay(true);
    let socket = Ends::new(peer, stream.local_addr().ok()?);
    if !front.listener.proxy_protocol {
        return Some(Arrival { stream, place, ends: socket, first_bytes: Bytes::new() });
    }
    place.idleness().begin(Instant::now());
    let limiter = &front.limiter;
    let header = proxy_header::read(&mut stream, socket, limiter.policy().proxies(), front.listener.timeouts.headers);
    let header = tokio::select! {
        biased;
        header = header => header,
        // Nothing has begun yet that could be finished.
        _ = &mut place.asked_to_leave => return None,
    };
    match header {
        Ok((ends, first_bytes)) => Some(Arrival { stream, place, ends, first_bytes }),
        Err(missing) => {
            front.strangers.about(peer, missing);
            None
        }
    }
}
