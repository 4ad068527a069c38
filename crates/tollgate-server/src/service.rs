//! The story of one request: read, decided, and either answered here or forwarded.

use std::{convert::Infallible, rc::Rc};

use http::{HeaderName, Request, Response};
use hyper::body::Incoming;
use tollgate::{
    algorithm::Verdict,
    decision::Decision,
    limiter::Answered,
    policy::Terms,
    request::{Protocol, Request as Asked},
};
use tollgate_tower::response::add_limits;
use tracing::{Level, debug, enabled};

use crate::{
    activity::{Activity, Begun},
    body::{ResponseBody, Upload},
    failure::Failure,
    forward,
    gate::{Door, Gate},
    outgoing::{Introduction, Peer, outgoing},
    request::Arrived,
    response,
};

/// Answers one request of one connection.
pub(crate) async fn answer(
    door: Rc<Door>,
    activity: Rc<Activity>,
    peer: Rc<Peer>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let (head, body) = request.into_parts();
    activity.begin_request(head.version);
    let (gate, decided, sent) = match activity.take_over() {
        Some(Begun { gate, decision, sent }) => (gate, Some(decision), sent),
        None => (door.gate(), None, None),
    };
    let upload = Upload::new(body, Rc::clone(&activity));
    let proxies = gate.front.limiter.policy().proxies();
    let arrived = match Arrived::read(head, &upload, proxies) {
        Ok(arrived) => arrived,
        Err(refusal) => return Ok(response::refused(refusal, &activity)),
    };
    let decision = match decided {
        Some(decision) => decision,
        None => {
            let asked = arrived.as_asked(gate.front.listener_name(), peer.address);
            decide(&gate, &asked, arrived.head.headers.keys().map(HeaderName::as_str)).await
        }
    };
    if let Some(answer) = decision.answer(&arrived) {
        let must_close = upload.dispose(&arrived);
        return Ok(response::denied(answer, arrived.head.headers, must_close, &activity));
    }
    let forwarded = match &gate.pool {
        Some(pool) => {
            let wants_websocket = arrived.wants_websocket;
            let introduction = Introduction { peer: &peer, client: decision.client(), proxies };
            let outgoing = outgoing(arrived, upload, &introduction, &pool.host);
            let answered = match sent {
                Some(Ok((connection, since))) => forward::send_on(connection, since, &activity, outgoing).await,
                Some(Err(failure)) => Err(failure),
                None => forward::send(pool, &activity, outgoing).await,
            };
            answered.and_then(|answered| forward::pass_on(answered, &gate, &activity, wants_websocket))
        }
        None => allow_here(upload, &activity).await,
    };
    // Whoever leaves before the answer stays charged.
    let answered = match &forwarded {
        Ok(response) => Some(Answered::Status(response.status().as_u16())),
        Err(failure) if failure.is_the_clients() => None,
        Err(_) => Some(Answered::ByUs),
    };
    if let Some(answered) = answered {
        settle(&gate, &decision, answered).await;
    }
    let mut response = forwarded.unwrap_or_else(|failure| {
        gate.complain(failure);
        response::failed(failure, &activity)
    });
    add_limits(response.headers_mut(), &decision);
    Ok(response)
}

/// Decides about what came with headers of these names.
pub(crate) async fn decide<'a>(gate: &Gate, request: &Asked<'_>, names: impl Iterator<Item = &'a str>) -> Decision {
    let decision = match gate.front.limiter.begin(request, &Terms::default()) {
        Ok(decision) => decision,
        // Boxed, as is settling, since whoever counts in memory would make room for it in the future of every request.
        Err(undecided) => Box::pin(undecided.take()).await,
    };
    note(gate, &decision, request, names);
    decision
}

/// Gives back what does not count after this answer.
pub(crate) async fn settle(gate: &Gate, decision: &Decision, answered: Answered) {
    if !gate.front.limiter.settle_now(decision, answered) {
        Box::pin(gate.front.limiter.settle(decision, answered)).await;
    }
}

/// The one place where every decision passes, early ones too: for the report and the log.
pub(crate) fn note<'a>(gate: &Gate, decision: &Decision, request: &Asked<'_>, names: impl Iterator<Item = &'a str>) {
    gate.front.watch.note(gate.worker, decision, names);
    if decision.verdict() == Verdict::Deny && enabled!(Level::DEBUG) {
        tell_of_denial(decision, request);
    }
}

fn tell_of_denial(decision: &Decision, request: &Asked<'_>) {
    let rules = decision.denied_by().collect::<Vec<_>>().join(", ");
    let client = decision.client().address().map(|address| address.to_string()).unwrap_or_default();
    let (listener, retry_after) = (request.listener, decision.retry_after().map(|wait| wait.as_secs_f64()));
    match request.protocol {
        Protocol::Http => {
            // Without the query, which can hold secrets.
            let (method, path) = (request.method, request.path());
            debug!(client, method, path, listener, rules, retry_after, "denied {client} {method} {path:?} by {rules}");
        }
        Protocol::Tcp => debug!(client, listener, rules, retry_after, "denied a connection of {client} by {rules}"),
    }
}

/// Without an upstream we are the end of the way, so the request is read to its end like anywhere else.
async fn allow_here(mut upload: Upload, activity: &Rc<Activity>) -> Result<Response<ResponseBody>, Failure> {
    activity.begin_answering();
    upload.read_to_end().await.map_err(|_| Failure::RequestBroken)?;
    Ok(response::allowed(activity))
}
