//! How long a response asks to wait, in the dialects that services speak.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use tollgate::clock::Timestamp;

/// What is more than this is a time since 1970, not a span: no service asks for 30 years.
const UNIX_TIME: u64 = 1_000_000_000;
/// And what is more than this is such a time in milliseconds, as some tell it.
const UNIX_TIME_IN_MILLIS: u64 = 100_000_000_000;

/// How long a response asks to wait before the next call; none if it does not.
///
/// `Retry-After` (RFC 9110, section 10.2.3), in seconds or as a date, of a response that is no success. Without one, the longest
/// reset of a limit of which nothing remains, by `RateLimit` as a list (draft-ietf-httpapi-ratelimit-headers-11), or as the
/// dictionary of earlier drafts. Without that, by the three headers `RateLimit-…`, `X-RateLimit-…` or `X-Rate-Limit-…`, with a reset in seconds or in
/// Unix time: where a service sends both, it may mean by these when everything is as new. What is malformed is ignored. `now` is for
/// times since 1970.
pub fn asked_to_wait(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let retry_after = headers.get(RETRY_AFTER).filter(|_| !status.is_success());
    if let Some(wait) = retry_after.and_then(|value| retry_after_wait(value.to_str().ok()?.trim(), now)) {
        return Some(wait);
    }
    if headers.contains_key("ratelimit") {
        return headers.get_all("ratelimit").iter().filter_map(|value| list_wait(value.to_str().ok()?)).max();
    }
    ["ratelimit", "x-ratelimit", "x-rate-limit"]
        .into_iter()
        .filter_map(|prefix| triple_wait(headers, prefix, now))
        .max()
}

fn retry_after_wait(value: &str, now: Timestamp) -> Option<Duration> {
    if let Some(seconds) = digits(value) {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(date.saturating_sub(Duration::from_micros(now.as_micros())))
}

/// `"api";r=0;t=30, "day";r=7`, or `limit=100, remaining=0, reset=5`.
fn list_wait(value: &str) -> Option<Duration> {
    let members = outside_quotes(value, b',');
    if !value.contains(['"', ';']) {
        let of = |name: &str| {
            let mut pairs = members.iter().filter_map(|member| member.trim().split_once('='));
            pairs.find(|(key, _)| key.trim() == name).and_then(|(_, number)| digits(number.trim()))
        };
        return of("reset").filter(|_| of("remaining") == Some(0)).map(Duration::from_secs);
    }
    let member_wait = |member: &&str| {
        let parameters = outside_quotes(member, b';');
        let of = |names: [&str; 2]| {
            let mut pairs = parameters.iter().skip(1).filter_map(|parameter| parameter.trim().split_once('='));
            pairs.find(|(key, _)| names.contains(key)).and_then(|(_, number)| digits(number))
        };
        // `a` and `w` are what the next draft calls them.
        of(["t", "w"]).filter(|_| of(["r", "a"]) == Some(0)).map(Duration::from_secs)
    };
    members.iter().filter_map(member_wait).max()
}

fn triple_wait(headers: &HeaderMap, prefix: &str, now: Timestamp) -> Option<Duration> {
    let number = |name: &str| {
        let value = headers.get(format!("{prefix}-{name}"))?.to_str().ok()?;
        // Some tell fractions of a second.
        let (whole, fraction) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
        digits(whole).map(|whole| whole.saturating_add(u64::from(fraction.bytes().any(|digit| digit != b'0'))))
    };
    let reset = number("reset").filter(|_| number("remaining") == Some(0))?;
    let until = |time: Duration| time.saturating_sub(Duration::from_micros(now.as_micros()));
    Some(match reset {
        UNIX_TIME_IN_MILLIS.. => until(Duration::from_millis(reset)),
        UNIX_TIME.. => until(Duration::from_secs(reset)),
        _ => Duration::from_secs(reset),
    })
}

/// The parts between separators that stand in no quoted string.
fn outside_quotes(text: &str, separator: u8) -> Vec<&str> {
    let (mut parts, mut begin, mut is_quoted, mut is_escaped) = (Vec::new(), 0, false, false);
    for (i, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            _ if byte == separator && !is_quoted => {
                parts.push(&text[begin..i]);
                begin = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

fn digits(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}
