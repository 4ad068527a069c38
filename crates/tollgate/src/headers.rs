//! A decision as header names and values, in the dialects that clients understand.
//!
//! | dialect | always | only on a denial |
//! |---|---|---|
//! | `ietf` (draft-ietf-httpapi-ratelimit-headers-11) | `RateLimit-Policy`, `RateLimit` | |
//! | `x-ratelimit` (GitHub, Flask-Limiter) | `X-RateLimit-Limit`, `-Remaining`, `-Reset` in Unix time | |
//! | `x-ratelimit-delta` (Itsi) | | the same three, `-Reset` in seconds |
//! | `x-rate-limit` (Masonite) | `X-Rate-Limit-Limit`, `-Remaining` | `-Reset` in Unix time |
//!
//! Every denial carries `Retry-After` and `Cache-Control: no-store`, whatever the dialects.

use std::{fmt, time::Duration};

use crate::{
    algorithm::Verdict,
    decision::{Counted, Decision},
    request::Headers,
};

/// A family of rate-limit headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `RateLimit` and `RateLimit-Policy`.
    Ietf,
    /// `X-RateLimit-*`, with the reset in Unix time.
    XRateLimit,
    /// `X-RateLimit-*` on denials alone, with the reset in seconds.
    XRateLimitDelta,
    /// `X-Rate-Limit-*`.
    XRateLimitHyphen,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ietf, Self::XRateLimit, Self::XRateLimitDelta, Self::XRateLimitHyphen];

    /// Its name in a policy file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ietf => "ietf",
            Self::XRateLimit => "x-ratelimit",
            Self::XRateLimitDelta => "x-ratelimit-delta",
            Self::XRateLimitHyphen => "x-rate-limit",
        }
    }
}

/// The dialects that tell of a rule. None: it keeps its budget to itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialects(Vec<Dialect>);

impl Dialects {
    /// These dialects; none if `x-ratelimit` and `x-ratelimit-delta` are both among them, since one header cannot mean
    /// both.
    pub fn new(dialects: Vec<Dialect>) -> Option<Self> {
        let contradicts = dialects.contains(&Dialect::XRateLimit) && dialects.contains(&Dialect::XRateLimitDelta);
        (!contradicts).then_some(Self(dialects))
    }

    fn contains(&self, dialect: Dialect) -> bool {
        self.0.contains(&dialect)
    }
}

impl fmt::Display for Dialects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.is_empty() {
            true => f.write_str("none but Retry-After"),
            false => f.write_str(&self.0.iter().map(|dialect| dialect.name()).collect::<Vec<_>>().join(", ")),
        }
    }
}

impl Default for Dialects {
    /// `ietf` and `x-ratelimit`: what the standard will say, and what clients read today.
    fn default() -> Self {
        Self(vec![Dialect::Ietf, Dialect::XRateLimit])
    }
}

/// One header of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderLine {
    /// Its name as it is usually written.
    pub name: &'static str,
    /// Its value, printable ASCII.
    pub value: String,
    /// Whether it takes the place of such headers that are there already; otherwise it stands beside them.
    pub replaces: bool,
}

impl Decision {
    /// The headers to put on the response, beside those it has: our members of `RateLimit` are added to an upstream's,
    /// its `X-…` headers are replaced only where we are stricter. For a response of our own, `&()` has none.
    pub fn headers(&self, existing: &dyn Headers) -> Vec<HeaderLine> {
        let mut lines = Vec::with_capacity(8);
        self.ietf(&mut lines);
        for set in [X_RATE_LIMIT, X_RATE_LIMIT_DELTA, X_RATE_LIMIT_HYPHEN] {
            // Rules with different dialects can fit one request; the first set to claim a header's name has it.
            if !lines.iter().any(|line| line.name == set.limit) {
                self.numbers(&set, existing, &mut lines);
            }
        }
        if self.verdict() == Verdict::Deny {
            let retry_after = self.retry_after().map(|wait| ("Retry-After", whole_seconds(wait).to_string()));
            let no_store = ("Cache-Control", "no-store".to_owned());
            lines.extend(retry_after.into_iter().chain([no_store]).map(|(name, value)| HeaderLine {
                name,
                value,
                replaces: true,
            }));
        }
        lines
    }

    /// Both fields are lists of strings with parameters (RFC 9651, section 4.1.1). Rule names need no escaping.
    fn ietf(&self, lines: &mut Vec<HeaderLine>) {
        let (mut policy, mut limit) = (String::with_capacity(LIST), String::with_capacity(LIST));
        for counted in self.enforced().filter(|counted| counted.rule.dialects.contains(Dialect::Ietf)) {
            let (status, window) = (counted.status(), counted.quota.window());
            let of_window = (window >= Duration::from_secs(1)).then(|| whole_seconds(window));
            add_member(&mut policy, &counted, [(";q=", Some(counted.quota.amount())), (";w=", of_window)]);
            let wait = match counted.outcome.verdict {
                Verdict::Allow => status.refill_after,
                Verdict::Deny => counted.outcome.retry_after,
            };
            add_member(&mut limit, &counted, [(";r=", Some(status.remaining)), (";t=", wait.map(whole_seconds))]);
        }
        if !policy.is_empty() {
            let beside = |name, value| HeaderLine { name, value, replaces: false };
            lines.extend([beside("RateLimit-Policy", policy), beside("RateLimit", limit)]);
        }
    }

    fn numbers(&self, set: &NumberHeaders, existing: &dyn Headers, lines: &mut Vec<HeaderLine>) {
        let denied = self.verdict() == Verdict::Deny;
        let Some(shown) = self.shown_of(|rule| rule.dialects.contains(set.dialect)) else { return };
        let is_silent = set.only_on_denial && shown.outcome.verdict == Verdict::Allow;
        if is_silent || !is_stricter(&shown, set, existing) {
            return;
        }
        let mut replace = |name, number: u64| {
            lines.push(HeaderLine { name, value: itoa::Buffer::new().format(number).to_owned(), replaces: true });
        };
        replace(set.limit, shown.status().limit);
        replace(set.remaining, shown.status().remaining);
        if let Some(wait) = shown.wait().filter(|_| denied || set.reset_always) {
            replace(
                set.reset,
                if set.unix_time { (self.at() + wait).as_secs_rounded_up() } else { whole_seconds(wait) },
            );
        }
    }
}

/// Room for a list of three rules.
const LIST: usize = 80;

/// Adds a string with parameters to a list.
fn add_member(list: &mut String, counted: &Counted<'_>, parameters: [(&str, Option<u64>); 2]) {
    list.push_str(if list.is_empty() { "\"" } else { ", \"" });
    list.push_str(&counted.rule.name);
    if counted.quotas > 1 {
        list.push('.');
        list.push_str(itoa::Buffer::new().format(counted.place + 1));
    }
    list.push('"');
    for (name, number) in parameters {
        if let Some(number) = number {
            list.push_str(name);
            list.push_str(itoa::Buffer::new().format(number));
        }
    }
}

/// A dialect of plain numbers.
struct NumberHeaders {
    dialect: Dialect,
    limit: &'static str,
    remaining: &'static str,
    /// As headers are looked up.
    remaining_in_lower_case: &'static str,
    reset: &'static str,
    only_on_denial: bool,
    reset_always: bool,
    unix_time: bool,
}

const X_RATE_LIMIT: NumberHeaders = NumberHeaders {
    dialect: Dialect::XRateLimit,
    limit: "X-RateLimit-Limit",
    remaining: "X-RateLimit-Remaining",
    remaining_in_lower_case: "x-ratelimit-remaining",
    reset: "X-RateLimit-Reset",
    only_on_denial: false,
    reset_always: true,
    unix_time: true,
};

const X_RATE_LIMIT_DELTA: NumberHeaders =
    NumberHeaders { dialect: Dialect::XRateLimitDelta, only_on_denial: true, unix_time: false, ..X_RATE_LIMIT };

const X_RATE_LIMIT_HYPHEN: NumberHeaders = NumberHeaders {
    dialect: Dialect::XRateLimitHyphen,
    limit: "X-Rate-Limit-Limit",
    remaining: "X-Rate-Limit-Remaining",
    remaining_in_lower_case: "x-rate-limit-remaining",
    reset: "X-Rate-Limit-Reset",
    reset_always: false,
    ..X_RATE_LIMIT
};

/// Whether we leave less than the upstream says it does; one that says nothing we can read, says nothing.
fn is_stricter(shown: &Counted<'_>, set: &NumberHeaders, existing: &dyn Headers) -> bool {
    let theirs = existing.nth(set.remaining_in_lower_case, 0);
    let theirs = theirs.and_then(|value| str::from_utf8(value).ok()?.trim().parse::<u64>().ok());
    theirs.is_none_or(|theirs| shown.status().remaining < theirs)
}

/// Whole seconds, rounded up, at least 1, as headers tell times.
pub(crate) fn whole_seconds(span: Duration) -> u64 {
    seconds_rounded_up(span).max(1)
}

pub(crate) fn seconds_rounded_up(span: Duration) -> u64 {
    span.as_secs().saturating_add(u64::from(span.subsec_nanos() > 0))
}
