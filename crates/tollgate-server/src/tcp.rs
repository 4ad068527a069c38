//! The life of one connection whose bytes mean nothing to us: decided once, and either closed without a byte, or joined with
//! the upstream, which a denied one never reaches.

use std::{future::pending, io, iter, net::SocketAddr, rc::Rc};

use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
};
use tollgate::{
    algorithm::Verdict,
    request::{Protocol, Request},
};
use tracing::debug;

use crate::{
    activity::Activity,
    arrival::{Arrival, arrive},
    client_stream::ClientStream,
    dial::dial,
    drain,
    gate::Gate,
    open_connections::Leave,
    proxy_header::{self, Ends},
    relay::{Side, relay},
    service::decide,
};

/// Serves a connection to its end.
pub(crate) async fn serve(gate: Rc<Gate>, stream: TcpStream, peer: SocketAddr, _alive: mpsc::Sender<()>) {
    // A listener speaks TCP because its upstream does, so there is one.
    let Some(upstream) = &gate.front.listener.upstream else { return };
    let Some(Arrival { stream, mut place, ends, first_bytes }) = arrive(&gate, stream, peer).await else { return };
    let timeouts = gate.front.listener.timeouts;
    let activity = Rc::new(Activity::new(timeouts, place.idleness()));
    if !is_allowed(&gate, ends).await {
        return tokio::select! {
            () = drain::linger(stream) => {}
            _ = &mut place.asked_to_leave => {}
        };
    }
    activity.begin_working();
    let mut upstream = match dial(upstream, timeouts.connect).await {
        Ok(upstream) => upstream,
        Err(failure) => return gate.complain(failure),
    };
    activity.begin_relaying();
    let mut client = ClientStream::new(stream, first_bytes, Rc::clone(&activity));
    let version = gate.front.listener.send_proxy_protocol;
    let introduction = version.map(|version| proxy_header::write(version, ends)).unwrap_or_default();
    let joined = relay(
        Side { stream: &mut client, told_first: Vec::new() },
        Side { stream: &mut upstream, told_first: introduction },
        &activity,
        timeouts.idle,
    );
    let client_address = ends.source;
    tokio::select! {
        ended = joined => if let Err(error) = ended {
            debug!(client = %client_address, %error, "connection of {client_address} ended early: {error}");
            if error.kind() != io::ErrorKind::TimedOut {
                // One side has failed, and an end would look to the other as if all was said.
                reset(&client.stream);
                reset(&upstream);
            }
        },
        () = is_displaced(&mut place.asked_to_leave) => {
            debug!(client = %client_address, "connection of {client_address} made room for another");
        }
    }
}

async fn is_allowed(gate: &Gate, ends: Ends) -> bool {
    let request = Request {
        protocol: Protocol::Tcp,
        peer: Some(ends.source.ip()),
        listener: Some(gate.front.listener_name()),
        ..Request::default()
    };
    // Rules that count by status keep it on the bill, for nothing here is an answer.
    decide(gate, &request, iter::empty()).await.verdict() == Verdict::Allow
}

/// Closes so that the other end gets an error and not just an end.
fn reset(stream: &TcpStream) {
    // An error means that there is no connection any more.
    let _ = stream.set_zero_linger();
}

/// Whether a connection has more to say nobody can know, so at the server's end it is waited for as long as for any other.
async fn is_displaced(asked_to_leave: &mut oneshot::Receiver<Leave>) {
    if asked_to_leave.await != Ok(Leave::ForAnother) {
        pending().await
    }
}
