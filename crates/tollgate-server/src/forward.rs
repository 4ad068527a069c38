//! An allowed request's way to the upstream, with one retry on a stale connection and the wait for the first byte, and
//! the answer's way back.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, UPGRADE},
};
use http_body::Body;
use http_body_util::{Either, Empty};
use hyper::{body::Incoming, client::conn::TrySendError};
use tokio::time::Instant;

use crate::{
    activity::Activity,
    body::{Lease, ResponseBody},
    failure::Failure,
    gate::Gate,
    hop::{self, HopHeaders},
    outgoing::Outgoing,
    pool::{Connection, Pool},
};

/// Sends on a pooled connection if there is one. If that turns out to be stale, once more on a fresh one: always if the
/// request was never sent, else only if sending it twice does no harm.
pub(crate) async fn send(
    pool: &Pool,
    activity: &Activity,
    request: Outgoing,
) -> Result<(Response<Incoming>, Connection), Failure> {
    let Some(mut connection) = pool.take(activity.now()) else {
        return Box::pin(send_fresh(pool, activity, request)).await;
    };
    let spare = Spare::of(&request);
    activity.begin_awaiting(activity.now());
    match first_byte(pin!(connection.send(request)), activity).await {
        Ok(answer) => Ok((answer, connection)),
        Err(NoAnswer { failure: failure @ Failure::ClosedBeforeAnswer, unsent }) => {
            match unsent.or_else(|| spare.map(Spare::into_request)) {
                // Boxed since it is rare, and would make room in the future of every request.
                Some(request) => Box::pin(send_fresh(pool, activity, request)).await,
                None => Err(failure),
            }
        }
        Err(NoAnswer { failure, .. }) => Err(failure),
    }
}

async fn send_fresh(
    pool: &Pool,
    activity: &Activity,
    request: Outgoing,
) -> Result<(Response<Incoming>, Connection), Failure> {
    activity.begin_working();
    let connection = pool.connect().await?;
    send_on(connection, activity.now(), activity, request).await
}

/// Sends on this connection and no other, where the answer is waited for since then.
pub(crate) async fn send_on(
    mut connection: Connection,
    since: Instant,
    activity: &Activity,
    request: Outgoing,
) -> Result<(Response<Incoming>, Connection), Failure> {
    activity.begin_awaiting(since);
    match first_byte(pin!(connection.send(request)), activity).await {
        Ok(answer) => Ok((answer, connection)),
        Err(NoAnswer { failure, .. }) => Err(failure),
    }
}

/// Why there is no answer, and the request if it was never sent.
struct NoAnswer {
    failure: Failure,
    unsent: Option<Outgoing>,
}

/// Waits for the answer's head, or for the connection's timer to say that it has been too long. What is on its way is large,
/// so it stays where it is.
async fn first_byte(
    mut answer: Pin<&mut impl Future<Output = Result<Response<Incoming>, TrySendError<Outgoing>>>>,
    activity: &Activity,
) -> Result<Response<Incoming>, NoAnswer> {
    poll_fn(|cx| match answer.as_mut().poll(cx) {
        Poll::Ready(Ok(answer)) => Poll::Ready(Ok(answer)),
        Poll::Ready(Err(mut error)) => {
            let unsent = error.take_message();
            Poll::Ready(Err(NoAnswer { failure: failed(activity, &error.into_error()), unsent }))
        }
        Poll::Pending if activity.is_overdue() => {
            Poll::Ready(Err(NoAnswer { failure: overdue(activity), unsent: None }))
        }
        Poll::Pending => Poll::Pending,
    })
    .await
}

fn overdue(activity: &Activity) -> Failure {
    if activity.upload_is_wanted() { Failure::RequestStalled } else { Failure::FirstByteTimeout }
}

fn failed(activity: &Activity, error: &hyper::Error) -> Failure {
    if activity.upload_is_broken() {
        Failure::RequestBroken
    } else if error.is_parse() {
        Failure::Nonsense
    } else {
        Failure::ClosedBeforeAnswer
    }
}

/// What to send again, of a request that may be sent twice: idempotent, and with no body that would be gone by then.
struct Spare {
    method: Method,
    uri: Uri,
    /// Written out, a field a line: nearly always nobody reads them, and to clone a map and drop it takes five times as much.
    fields: Vec<u8>,
}

impl Spare {
    fn of(request: &Outgoing) -> Option<Self> {
        let is_idempotent = matches!(
            *request.method(),
            Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE | Method::TRACE
        );
        if !is_idempotent || matches!(request.body(), Either::Right(_)) {
            return None;
        }
        let mut fields = Vec::with_capacity(SPARE_BYTES);
        for (name, value) in request.headers() {
            fields.extend_from_slice(name.as_str().as_bytes());
            fields.push(b':');
            fields.extend_from_slice(value.as_bytes());
            fields.push(b'\n');
        }
        Some(Self { method: request.method().clone(), uri: request.uri().clone(), fields })
    }

    fn into_request(self) -> Outgoing {
        let mut request = Request::new(Either::Left(Empty::new()));
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        // No name has a colon in it, no value a line's end, and both have been valid before.
        for line in self.fields.split(|byte| *byte == b'\n') {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let (name, value) = (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(&line[colon + 1..]));
            if let (Ok(name), Ok(value)) = (name, value) {
                request.headers_mut().append(name, value);
            }
        }
        request
    }
}

/// Room for the headers of most requests.
const SPARE_BYTES: usize = 1000;

/// The upstream's answer as the client gets it, its body still to come.
pub(crate) fn pass_on(
    (answer, connection): (Response<Incoming>, Connection),
    gate: &Rc<Gate>,
    activity: &Rc<Activity>,
    wants_websocket: bool,
) -> Result<Response<ResponseBody>, Failure> {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return switch_protocols(answer, connection, activity, wants_websocket);
    }
    let there = HopHeaders::among(answer.headers());
    if there.transfer_encoding && !hop::is_chunked(answer.headers()) {
        return Err(Failure::Nonsense);
    }
    let lease = Lease { gate: Rc::clone(gate), connection: connection.after(answer.version()) };
    let (mut head, incoming) = answer.into_parts();
    // The length is said once and by one framing; hyper writes it from the body where it knows it.
    let is_framed_by_body = there.transfer_encoding || !incoming.is_end_stream();
    if is_framed_by_body || head.headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some() {
        head.headers.remove(CONTENT_LENGTH);
    }
    if there.any {
        hop::strip(&mut head.headers, |_| false);
    }
    // Each hop says its own version, whatever the upstream's is; hyper lowers it for a client of HTTP/1.0.
    head.version = Version::HTTP_11;
    Ok(Response::from_parts(head, ResponseBody::streamed(incoming, lease, activity)))
}

fn switch_protocols(
    answer: Response<Incoming>,
    connection: Connection,
    activity: &Rc<Activity>,
    wants_websocket: bool,
) -> Result<Response<ResponseBody>, Failure> {
    if !wants_websocket || !hop::is_websocket(answer.headers()) {
        return Err(Failure::UnaskedUpgrade);
    }
    activity.arrange_upgrade(connection.leftover);
    let (mut head, _) = answer.into_parts();
    hop::strip(&mut head.headers, |_| false);
    head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    head.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    Ok(Response::from_parts(head, ResponseBody::whole(Bytes::new(), activity)))
}
