//! How long a response asks to wait, whichever dialect its service speaks: the headers that tell it, and which of them counts.
//! What a single value means stands in `asked/moment.rs`.

mod moment;

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use tollgate::clock::Timestamp;

/// How long a response asks to wait before the next call; none if it does not.
///
/// `Retry-After` (RFC 9110, section 10.2.3), in seconds or as a date, of a response that is no success. Without one, the longest
/// reset of a limit of which nothing remains, by `RateLimit` as a list (draft-ietf-httpapi-ratelimit-headers-11, and as the next
/// one is going to name the parameters), or as the dictionary of earlier drafts. Without that, by the headers that vendors have
/// made of it:
///
/// | headers | of |
/// |---|---|
/// | `RateLimit-Remaining`, `-Reset` | the first drafts, GitLab |
/// | `X-RateLimit-Remaining`, `-Reset`, and before it `-Reset-After` | Envoy, GitHub, Discord |
/// | `X-Rate-Limit-Remaining`, `-Reset` | X, Masonite |
/// | `X-RateLimit-Remaining-Requests`, `-Reset-Requests`; `…-Tokens` | OpenAI |
/// | `Anthropic-RateLimit-Requests-Remaining`, `-Reset`; `…-Tokens`, `…-Input-Tokens`, `…-Output-Tokens` | Anthropic |
///
/// Their reset is in seconds, in Unix time, as a duration (`6m0s`) or a date. They come last because where a service sends them besides,
/// they may tell when everything is as new. A response that refuses (429, 503) asks by the limit with least remaining, even if
/// that is not nothing: the call wanted more. What is malformed is ignored. `now` is for times and dates.
pub fn asked_to_wait(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let retry_after = text(headers, "retry-after").filter(|_| !status.is_success());
    if let Some(wait) = retry_after.and_then(|value| moment::retry_after(value, now)) {
        return Some(wait);
    }
    let lines = headers.get_all("ratelimit").iter().filter_map(|value| value.to_str().ok());
    let mut limits: Vec<Limit> = lines.flat_map(by_the_draft).collect();
    if limits.is_empty() {
        limits = VENDORS.iter().filter_map(|vendor| vendor.limit(headers, now)).collect();
    }
    let is_refusal = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let remaining = |limit: &Limit| limit.remaining.or(is_refusal.then_some(0));
    let least = if is_refusal { limits.iter().map(remaining).min()? } else { Some(0) };
    limits.iter().filter(|limit| remaining(limit) == least).filter_map(|limit| limit.reset).max()
}

/// What a response tells of one limit.
struct Limit {
    /// None if it does not say, which on a refusal is as good as nothing.
    remaining: Option<u64>,
    reset: Option<Duration>,
}

/// `"api";r=0;t=30, "day";r=7`, or `limit=100, remaining=0, reset=5`.
fn by_the_draft(line: &str) -> Vec<Limit> {
    let members = outside_quotes(line, b',');
    if !line.contains(['"', ';']) {
        let limit = Limit::of(&members, ["remaining"; 2], ["reset"; 2]);
        return limit.into_iter().collect();
    }
    // `a` and `w` are what the next draft calls them.
    members.iter().filter_map(|member| Limit::of(&outside_quotes(member, b';')[1..], ["r", "a"], ["t", "w"])).collect()
}

impl Limit {
    /// Of pairs `key=number`, as they are called in one draft or another.
    fn of(pairs: &[&str], remaining: [&str; 2], reset: [&str; 2]) -> Option<Self> {
        let number = |names: [&str; 2]| {
            let mut pairs = pairs.iter().filter_map(|pair| pair.trim().split_once('='));
            pairs.find(|(key, _)| names.contains(&key.trim())).and_then(|(_, number)| moment::digits(number.trim()))
        };
        let remaining = Some(number(remaining)?);
        Some(Self { remaining, reset: number(reset).map(Duration::from_secs) })
    }
}

/// The headers by which a vendor tells one limit.
struct Vendor {
    remaining: &'static str,
    /// The first of them that is there.
    reset: &'static [&'static str],
}

impl Vendor {
    fn limit(&self, headers: &HeaderMap, now: Timestamp) -> Option<Limit> {
        let reset = self.reset.iter().find_map(|name| moment::reset(text(headers, name)?, now))?;
        Some(Limit { remaining: text(headers, self.remaining).and_then(moment::digits), reset: Some(reset) })
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    Some(headers.get(name)?.to_str().ok()?.trim())
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

const VENDORS: &[Vendor] = &[
    Vendor { remaining: "ratelimit-remaining", reset: &["ratelimit-reset"] },
    // Discord tells both, of which the span needs no clock that goes right.
    Vendor { remaining: "x-ratelimit-remaining", reset: &["x-ratelimit-reset-after", "x-ratelimit-reset"] },
    Vendor { remaining: "x-rate-limit-remaining", reset: &["x-rate-limit-reset"] },
    Vendor { remaining: "x-ratelimit-remaining-requests", reset: &["x-ratelimit-reset-requests"] },
    Vendor { remaining: "x-ratelimit-remaining-tokens", reset: &["x-ratelimit-reset-tokens"] },
    Vendor { remaining: "anthropic-ratelimit-requests-remaining", reset: &["anthropic-ratelimit-requests-reset"] },
    Vendor { remaining: "anthropic-ratelimit-tokens-remaining", reset: &["anthropic-ratelimit-tokens-reset"] },
    Vendor {
        remaining: "anthropic-ratelimit-input-tokens-remaining",
        reset: &["anthropic-ratelimit-input-tokens-reset"],
    },
    Vendor {
        remaining: "anthropic-ratelimit-output-tokens-remaining",
        reset: &["anthropic-ratelimit-output-tokens-reset"],
    },
];
