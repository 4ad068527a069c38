//! Answers as hyper's responses: the engine's, our own, and the limits added to the upstream's.

use std::rc::Rc;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE},
};
use tollgate::{answer::Answer, decision::Decision, request::Headers};

use crate::{activity::Activity, body::ResponseBody, failure::Failure, request::Refusal};

/// What the engine answers to a denied request.
pub(crate) fn denied(answer: Answer, must_close: bool, activity: &Rc<Activity>) -> Response<ResponseBody> {
    let Answer { status_code, headers, body, close } = answer;
    let status = StatusCode::from_u16(status_code).unwrap_or(StatusCode::TOO_MANY_REQUESTS);
    let mut response = ours(status, body, activity);
    for (name, value) in headers {
        append(response.headers_mut(), &name, value);
    }
    if close || must_close {
        announce_close(&mut response);
    }
    response
}

/// The answer to an allowed request where there is no upstream.
pub(crate) fn allowed(activity: &Rc<Activity>) -> Response<ResponseBody> {
    let mut response = ours(StatusCode::OK, "allowed\n", activity);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// The answer to a request that is none. Where the next one begins is anybody's guess, so there is no next one.
pub(crate) fn refused(refusal: Refusal, activity: &Rc<Activity>) -> Response<ResponseBody> {
    let mut response = problem(refusal.status(), refusal.detail(), activity);
    announce_close(&mut response);
    response
}

/// The answer to an allowed request that the upstream did not answer.
pub(crate) fn failed(failure: Failure, activity: &Rc<Activity>) -> Response<ResponseBody> {
    let mut response = problem(failure.status(), failure.detail(), activity);
    if failure.is_the_clients() {
        announce_close(&mut response);
    }
    response
}

/// Adds what the decision says about the limits, beside what an upstream says about its own.
pub(crate) fn add_limits(headers: &mut HeaderMap, decision: &Decision) {
    for line in decision.headers(&Existing(headers)) {
        if line.replaces {
            insert(headers, line.name, line.value);
        } else {
            append(headers, line.name, line.value);
        }
    }
}

fn problem(status: StatusCode, detail: &str, activity: &Rc<Activity>) -> Response<ResponseBody> {
    let title = status.canonical_reason().unwrap_or("Error");
    let code = status.as_u16();
    // Every word of it is our own, and none needs escaping.
    let body = format!(r#"{{"type":"about:blank","title":"{title}","status":{code},"detail":"{detail}"}}"#);
    let mut response = ours(status, body, activity);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn ours(status: StatusCode, body: impl Into<Bytes>, activity: &Rc<Activity>) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::whole(body, activity));
    *response.status_mut() = status;
    response
}

fn announce_close(response: &mut Response<ResponseBody>) {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
}

/// The headers of an answer as the engine looks them up.
struct Existing<'a>(&'a HeaderMap);

impl Headers for Existing<'_> {
    fn nth(&self, name: &str, n: usize) -> Option<&[u8]> {
        self.0.get_all(name).iter().nth(n).map(HeaderValue::as_bytes)
    }
}

fn insert(headers: &mut HeaderMap, name: &str, value: String) {
    if let Some((name, value)) = field(name, value) {
        headers.insert(name, value);
    }
}

fn append(headers: &mut HeaderMap, name: &str, value: String) {
    if let Some((name, value)) = field(name, value) {
        headers.append(name, value);
    }
}

/// The engine gives only names and values that can stand in a header.
fn field(name: &str, value: String) -> Option<(HeaderName, HeaderValue)> {
    // Those on every answer are not parsed each time.
    let name = match name {
        "RateLimit" => RATE_LIMIT,
        "RateLimit-Policy" => RATE_LIMIT_POLICY,
        "X-RateLimit-Limit" => X_RATE_LIMIT_LIMIT,
        "X-RateLimit-Remaining" => X_RATE_LIMIT_REMAINING,
        "X-RateLimit-Reset" => X_RATE_LIMIT_RESET,
        other => HeaderName::from_bytes(other.as_bytes()).ok()?,
    };
    Some((name, HeaderValue::try_from(value).ok()?))
}

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const X_RATE_LIMIT_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_RATE_LIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RATE_LIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
