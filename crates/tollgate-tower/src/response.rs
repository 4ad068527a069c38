//! Decisions as responses of the `http` crate: the engine's answers, and the limits told in headers. For adapters of their own.

use bytes::BytesMut;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, InvalidHeaderValue, RETRY_AFTER},
};
use tollgate::{
    answer::Answer,
    decision::Decision,
    headers::{HeaderLine, is_heeded},
};

use crate::request::Fields;

/// The engine's answer to a denied request, in a map of headers that nobody needs any more: best the request's own, which
/// has its memory already.
pub fn answered(answer: Answer<'_>, mut headers: HeaderMap) -> Response<String> {
    match headers.capacity() <= MAX_KEPT {
        true => headers.clear(),
        // It may stay with the connection while that is idle.
        false => headers = HeaderMap::new(),
    }
    let mut values = Values::default();
    answer.tell(|name, value, replaces| {
        let value = match value {
            // Those on nearly every answer are not copied each time.
            "application/problem+json" => Ok(PROBLEM),
            "no-store" => Ok(NO_STORE),
            "0" => Ok(NOTHING),
            other => values.push(other),
        };
        write(&mut headers, name, value, replaces);
    });
    if answer.close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let mut response = Response::new(answer.body);
    *response.status_mut() = StatusCode::from_u16(answer.status_code).unwrap_or(StatusCode::TOO_MANY_REQUESTS);
    *response.headers_mut() = headers;
    response
}

/// A map with room for more headers is not kept for an answer: a browser sends fewer.
const MAX_KEPT: usize = 48;

/// Adds what a decision says about the limits, beside what the headers say already.
pub fn add_limits(headers: &mut HeaderMap, decision: &Decision) {
    // Nearly always there is nothing that it would heed, and then what it says need not be kept until all of them are read.
    if headers.keys().any(|name| is_heeded(name.as_str())) {
        for HeaderLine { name, value, replaces } in decision.headers(&Fields(headers)) {
            write(headers, name, HeaderValue::try_from(value), replaces);
        }
        return;
    }
    let mut values = Values::default();
    decision.tell(&(), |name, value, replaces| write(headers, name, values.push(value), replaces));
}

/// The values of an answer's headers, which share one piece of memory, if there are any.
#[derive(Default)]
struct Values(BytesMut);

impl Values {
    #[inline(always)]
    fn push(&mut self, value: &str) -> Result<HeaderValue, InvalidHeaderValue> {
        if self.0.capacity() < value.len() {
            self.0.reserve(VALUES.max(value.len()));
        }
        self.0.extend_from_slice(value.as_bytes());
        HeaderValue::from_maybe_shared(self.0.split().freeze())
    }
}

/// Room for the values of three rules.
const VALUES: usize = 192;

// Inlined, and the next one too: calls would move names and values through memory.
#[inline(always)]
fn write(headers: &mut HeaderMap, name: &str, value: Result<HeaderValue, InvalidHeaderValue>, replaces: bool) {
    // The engine gives only names and values that can stand in a header.
    let (Some(name), Ok(value)) = (known_name(name), value) else { return };
    if replaces {
        headers.insert(name, value);
    } else {
        headers.append(name, value);
    }
}

#[inline(always)]
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

const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// What remains.
const NOTHING: HeaderValue = HeaderValue::from_static("0");
