//! Decisions as responses of the `http` crate: the engine's answers, and the limits told in headers. For adapters of their own.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER},
};
use smallvec::SmallVec;
use tollgate::{answer::Answer, decision::Decision};

use crate::request::Fields;

/// The engine's answer to a denied request.
pub fn answered(answer: Answer<'_>) -> Response<String> {
    let mut lines = Lines::new();
    answer.tell(|name, value, replaces| lines.push(name, value, replaces));
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(answer.status_code).unwrap_or(StatusCode::TOO_MANY_REQUESTS);
    lines.write_to(response.headers_mut());
    if answer.close {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response.map(|()| answer.body)
}

/// Adds what a decision says about the limits, beside what the headers say already.
pub fn add_limits(headers: &mut HeaderMap, decision: &Decision) {
    let mut lines = Lines::new();
    decision.tell(&Fields(headers), |name, value, replaces| lines.push(name, value, replaces));
    lines.write_to(headers);
}

/// Headers to be written, all of whose values share one piece of memory.
struct Lines<'a> {
    values: SmallVec<[u8; VALUES]>,
    lines: SmallVec<[Line<'a>; 10]>,
}

/// Room for the values of three rules.
const VALUES: usize = 192;

struct Line<'a> {
    name: &'a str,
    value_len: usize,
    replaces: bool,
}

impl<'a> Lines<'a> {
    fn new() -> Self {
        Self { values: SmallVec::new(), lines: SmallVec::new() }
    }

    fn push(&mut self, name: &'a str, value: &str, replaces: bool) {
        self.values.extend_from_slice(value.as_bytes());
        self.lines.push(Line { name, value_len: value.len(), replaces });
    }

    fn write_to(self, headers: &mut HeaderMap) {
        if self.lines.is_empty() {
            return;
        }
        let mut values = Bytes::from_owner(self.values);
        headers.reserve(self.lines.len());
        for Line { name, value_len, replaces } in self.lines {
            let value = HeaderValue::from_maybe_shared(values.split_to(value_len));
            // The engine gives only names and values that can stand in a header.
            let (Some(name), Ok(value)) = (known_name(name), value) else { continue };
            if replaces {
                headers.insert(name, value);
            } else {
                headers.append(name, value);
            }
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
