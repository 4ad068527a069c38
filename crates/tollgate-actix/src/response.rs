//! Decisions as responses of actix-web: the engine's answers, and the limits told in headers.

use actix_web::{
    HttpResponse,
    http::{
        ConnectionType, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    },
};
use smallvec::SmallVec;
use tollgate::{answer::Answer, decision::Decision};

use crate::request::Fields;

/// The engine's answer to a denied request.
pub(crate) fn answered(answer: Answer<'_>) -> HttpResponse {
    let mut lines = Lines::new();
    answer.tell(|name, value, replaces| lines.extend(line(name, value, replaces)));
    let status = StatusCode::from_u16(answer.status_code).unwrap_or(StatusCode::TOO_MANY_REQUESTS);
    let mut response = HttpResponse::with_body(status, answer.body).map_into_boxed_body();
    write(lines, response.headers_mut());
    if answer.close {
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    response
}

/// Adds what a decision says about the limits, beside what the headers say already.
pub(crate) fn add_limits(headers: &mut HeaderMap, decision: &Decision) {
    let mut lines = Lines::new();
    decision.tell(&Fields(headers), |name, value, replaces| lines.extend(line(name, value, replaces)));
    write(lines, headers);
}

/// Headers to be written: name, value, and whether it takes the place of such that are there.
type Lines = SmallVec<[(HeaderName, HeaderValue, bool); 10]>;

/// The engine gives only names and values that can stand in a header.
fn line(name: &str, value: &str, replaces: bool) -> Option<(HeaderName, HeaderValue, bool)> {
    Some((known_name(name)?, HeaderValue::from_str(value).ok()?, replaces))
}

fn write(lines: Lines, headers: &mut HeaderMap) {
    headers.reserve(lines.len());
    for (name, value, replaces) in lines {
        if replaces {
            headers.insert(name, value);
        } else {
            headers.append(name, value);
        }
    }
}

fn known_name(name: &str) -> Option<HeaderName> {
    // Those on every answer are not parsed each time.
    Some(match name {
        "RateLimit" => RATE_LIMIT,
        "RateLimit-Policy" => RATE_LIMIT_POLICY,
        "X-RateLimit-Limit" => X_RATE_LIMIT_LIMIT,
        "X-RateLimit-Remaining" => X_RATE_LIMIT_REMAINING,
        "X-RateLimit-Reset" => X_RATE_LIMIT_RESET,
        "Content-Type" => CONTENT_TYPE,
        "Retry-After" => RETRY_AFTER,
        "Cache-Control" => CACHE_CONTROL,
        other => HeaderName::from_bytes(other.as_bytes()).ok()?,
    })
}

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const X_RATE_LIMIT_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_RATE_LIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RATE_LIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
