//! The life of one client connection: let in, served by hyper, watched by one timer, and taken leave of so that the
//! client still reads the last answer.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{HttpService, service_fn},
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::{Instant, Sleep, sleep_until},
};
use tracing::debug;

use crate::{
    activity::{Activity, Phase},
    arrival::{Arrival, arrive},
    body::ResponseBody,
    client_stream::ClientStream,
    drain,
    early::Early,
    gate::{Door, Gate},
    open_connections::Leave,
    outgoing::Peer,
    service, upgrade,
};

/// Serves a connection to its end: within the limits that held when it came, each request by the policy that holds then.
pub(crate) async fn serve(door: Rc<Door>, stream: TcpStream, peer: SocketAddr, _alive: mpsc::Sender<()>) {
    let gate = door.gate();
    let Some(Arrival { stream, mut place, ends, first_bytes }) = arrive(&gate, stream, peer).await else { return };
    let peer = ends.source.ip();
    let activity = Rc::new(Activity::new(gate.front.listener.timeouts, place.idleness()));
    let mut http = {
        let stream = ClientStream::new(stream, first_bytes, Rc::clone(&activity));
        let (activity, peer) = (Rc::clone(&activity), Rc::new(Peer::new(peer)));
        let early =
            Early::new(stream, Rc::clone(&activity), Rc::clone(&door), Rc::clone(&peer), gate.front.listener.limits);
        let io = TokioIo::new(early);
        builder(&gate).serve_connection(
            io,
            service_fn(move |request| {
                service::answer(Rc::clone(&door), Rc::clone(&activity), Rc::clone(&peer), request)
            }),
        )
    };

    let end = drive(&mut http, &activity, &mut place.asked_to_leave).await;
    let parts = http.into_parts();
    let client = parts.io.into_inner().into_stream();
    match end {
        End::Done(result) => {
            if let Some(upstream) = activity.take_upgrade() {
                return upgrade::relay(client, parts.read_buf, upstream, &activity, gate.front.listener.timeouts.idle)
                    .await;
            }
            if let Err(error) = &result {
                debug!(%peer, %error, "connection of {peer} ended early: {error}");
            }
            if result.is_err() && activity.needs_reset() {
                reset(client.stream);
            } else if !matches!(activity.phase(), Phase::Fresh | Phase::Idle) && !activity.client_has_ended() {
                drain::linger(client.stream).await;
            }
        }
        End::Displaced => debug!(%peer, "connection of {peer} made room for another: {:?}", activity.phase()),
        End::Overdue => {
            debug!(%peer, "connection of {peer} timed out: {:?}", activity.phase());
            if activity.needs_reset() {
                reset(client.stream);
            }
        }
    }
}

/// Closes so that the client gets an error and not just an end.
fn reset(stream: TcpStream) {
    // An error means that there is no connection any more.
    let _ = stream.set_zero_linger();
}

/// How hyper's part of a connection ended.
enum End {
    Done(hyper::Result<()>),
    /// Another has its place now.
    Displaced,
    Overdue,
}

/// Polls hyper, the request to leave, and the timer, which is set anew only where it would ring too late: on a busy
/// connection that is hardly ever.
async fn drive<S>(
    http: &mut http1::Connection<TokioIo<Early>, S>,
    activity: &Activity,
    asked_to_leave: &mut oneshot::Receiver<Leave>,
) -> End
where
    S: HttpService<Incoming, ResBody = ResponseBody>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut timer = pin!(sleep_until(Instant::now() + FAR_OFF));
    let (mut is_set, mut is_asked, mut is_leaving) = (false, false, false);
    poll_fn(|cx| {
        activity.read_clock();
        loop {
            if let Poll::Ready(result) = Pin::new(&mut *http).poll(cx) {
                return Poll::Ready(End::Done(result));
            }
            if !is_asked && let Poll::Ready(leave) = Pin::new(&mut *asked_to_leave).poll(cx) {
                if leave == Ok(Leave::ForAnother) && activity.waits_for_client() {
                    return Poll::Ready(End::Displaced);
                }
                is_asked = true;
                activity.hurry();
            }
            // Whoever has just come is about to ask something, or has asked it already, and hyper would close at once.
            if is_asked && !is_leaving && activity.phase() != Phase::Fresh && !activity.is_exchanging() {
                is_leaving = true;
                Pin::new(&mut *http).graceful_shutdown();
                continue;
            }
            ready!(poll_overdue(timer.as_mut(), &mut is_set, activity, cx));
            if activity.phase() != Phase::AwaitingAnswer || activity.is_overdue() {
                return Poll::Ready(End::Overdue);
            }
            // The service is waiting inside hyper; it will answer for the upstream.
            activity.set_overdue();
        }
    })
    .await
}

/// Ready when the phase's deadline has passed. A timer that is set already is not asked before it is due.
fn poll_overdue(mut timer: Pin<&mut Sleep>, is_set: &mut bool, activity: &Activity, cx: &mut Context<'_>) -> Poll<()> {
    loop {
        let deadline = activity.deadline();
        if let Some(deadline) = deadline
            && deadline < timer.deadline()
        {
            timer.as_mut().reset(deadline);
            *is_set = false;
        }
        if *is_set && activity.now() < timer.deadline() {
            return Poll::Pending;
        }
        *is_set = timer.as_mut().poll(cx).is_pending();
        if *is_set {
            return Poll::Pending;
        }
        let now = Instant::now();
        match deadline {
            Some(deadline) if deadline <= now => return Poll::Ready(()),
            Some(deadline) => timer.as_mut().reset(deadline),
            None => timer.as_mut().reset(now + FAR_OFF),
        }
    }
}

fn builder(gate: &Gate) -> http1::Builder {
    let limits = &gate.front.listener.limits;
    let mut builder = http1::Builder::new();
    builder
        // The activity keeps this time, since between two requests another one applies.
        .header_read_timeout(None)
        // It is the stream that watches for a client that leaves while its request is served.
        .half_close(true)
        .max_header_size(limits.header_bytes)
        .max_buf_size(limits.header_bytes.max(BUFFER_BYTES));
    if limits.headers != HYPER_HEADERS {
        builder.max_headers(limits.headers.min(HEADERS_AT_MOST));
    }
    builder
}

/// Where the timer stands while there is no deadline.
const FAR_OFF: Duration = Duration::from_secs(24 * 60 * 60);
/// What a connection may hold of a body in each direction: enough for full speed, little enough for many connections.
const BUFFER_BYTES: usize = 64 * 1024;
/// hyper's default, which it holds on the stack; any other number is a heap allocation for each request.
const HYPER_HEADERS: usize = 100;
/// A `HeaderMap` panics when asked for more than 24,576, and ours are to fit in too.
const HEADERS_AT_MOST: usize = 20_000;
