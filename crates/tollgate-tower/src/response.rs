//! Decisions as responses of the `http` crate: the engine's answers, and the limits told in headers. For adapters of their own.

use std::ops::Range;

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header::CONNECTION};
use smallvec::SmallVec;
use tollgate::{answer::Answer, decision::Decision};

use crate::request::Fields;

/// The engine's answer to a denied request.
pub fn answered(answer: Answer) -> Response<String> {
    let Answer { status_code, headers, body, close } = answer;
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status_code).unwrap_or(StatusCode::TOO_MANY_REQUESTS);
    for (name, value) in headers {
        append(response.headers_mut(), &name, value);
    }
    if close {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Room for the values of three rules.
const VALUES: usize = 192;

/// Adds what a decision says about the limits, beside what the headers say already.
pub fn add_limits(headers: &mut HeaderMap, decision: &Decision) {
    // All values in one piece of memory, which they share.
    let mut values = BytesMut::with_capacity(VALUES);
    let mut lines: SmallVec<[(&str, Range<usize>, bool); 8]> = SmallVec::new();
    decision.tell(&Fields(headers), |name, value, replaces| {
        let begin = values.len();
        values.extend_from_slice(value.as_bytes());
        lines.push((name, begin..values.len(), replaces));
    });
    let values = values.freeze();
    headers.reserve(lines.len());
    for (name, range, replaces) in lines {
        let value = HeaderValue::from_maybe_shared(values.slice(range));
        let (Some(name), Ok(value)) = (known_name(name), value) else { continue };
        if replaces {
            headers.insert(name, value);
        } else {
            headers.append(name, value);
        }
    }
}

/// The engine gives only names and values that can stand in a header.
fn append(headers: &mut HeaderMap, name: &str, value: String) {
    if let (Some(name), Ok(value)) = (known_name(name), HeaderValue::try_from(value)) {
        headers.append(name, value);
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
        other => HeaderName::from_bytes(other.as_bytes()).ok()?,
    })
}

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const X_RATE_LIMIT_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_RATE_LIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RATE_LIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
