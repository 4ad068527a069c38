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
    policy::CounterId,
    quota::Quota,
    request::{Headers, first_line},
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

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// The dialects that tell of a rule. None: it keeps its budget to itself.
// A bit for each, since they are looked for in every answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialects(u8);

impl Dialects {
    /// These dialects; none if `x-ratelimit` and `x-ratelimit-delta` are both among them, since one header cannot mean
    /// both.
    pub fn new(dialects: Vec<Dialect>) -> Option<Self> {
        let dialects = Self(dialects.into_iter().map(Dialect::bit).fold(0, |all, bit| all | bit));
        let contradicts = dialects.contains(Dialect::XRateLimit) && dialects.contains(Dialect::XRateLimitDelta);
        (!contradicts).then_some(dialects)
    }

    fn contains(self, dialect: Dialect) -> bool {
        self.0 & dialect.bit() != 0
    }
}

impl fmt::Display for Dialects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> =
            Dialect::ALL.into_iter().filter(|dialect| self.contains(*dialect)).map(Dialect::name).collect();
        match names.is_empty() {
            true => f.write_str("none but Retry-After"),
            false => f.write_str(&names.join(", ")),
        }
    }
}

impl Default for Dialects {
    /// `ietf` and `x-ratelimit`: what the standard will say, and what clients read today.
    fn default() -> Self {
        Self(Dialect::Ietf.bit() | Dialect::XRateLimit.bit())
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
        self.tell(existing, |name, value, replaces| lines.push(HeaderLine { name, value: value.to_owned(), replaces }));
        lines
    }

    /// The same without an allocation, one by one: name, value, and whether it takes the place of such headers that are there.
    pub fn tell(&self, existing: &dyn Headers, mut tell: impl FnMut(&'static str, &str, bool)) {
        let dialects = self.enforced_rules().fold(Dialects(0), |all, rule| Dialects(all.0 | rule.dialects.0));
        if dialects.contains(Dialect::Ietf) {
            self.ietf(&mut tell);
        }
        // Rules with different dialects can fit one request; the first set to claim a header's name has it.
        let mut claimed = "";
        for set in [&X_RATE_LIMIT, &X_RATE_LIMIT_DELTA, &X_RATE_LIMIT_HYPHEN] {
            if dialects.contains(set.dialect) && claimed != set.limit && self.numbers(set, existing, &mut tell) {
                claimed = set.limit;
            }
        }
        if self.verdict() == Verdict::Deny {
            if let Some(wait) = self.retry_after() {
                tell("Retry-After", itoa::Buffer::new().format(whole_seconds(wait)), true);
            }
            tell("Cache-Control", "no-store", true);
        }
    }

    /// Both fields are lists of strings with parameters (RFC 9651, section 4.1.1). Rule names need no escaping.
    fn ietf(&self, tell: &mut impl FnMut(&'static str, &str, bool)) {
        let (mut policy, mut limit) = (List::default(), List::default());
        self.each_enforced(
            |rule| rule.dialects.contains(Dialect::Ietf),
            |counted| {
                let wait = match counted.outcome.verdict {
                    Verdict::Allow => counted.status().refill_after,
                    Verdict::Deny => counted.outcome.retry_after,
                };
                policy.push(&counted.members.policy);
                limit.push(&counted.members.limit);
                limit.push_number(counted.status().remaining);
                if let Some(wait) = wait {
                    limit.push(";t=");
                    limit.push_number(whole_seconds(wait));
                }
            },
        );
        if !policy.is_empty() {
            tell("RateLimit-Policy", policy.members(), false);
            tell("RateLimit", limit.members(), false);
        }
    }

    /// Whether there was anything to tell.
    fn numbers(
        &self,
        set: &NumberHeaders,
        existing: &dyn Headers,
        tell: &mut impl FnMut(&'static str, &str, bool),
    ) -> bool {
        let denied = self.verdict() == Verdict::Deny;
        let Some(shown) = self.shown_of(|rule| rule.dialects.contains(set.dialect)) else { return false };
        let is_silent = set.only_on_denial && shown.outcome.verdict == Verdict::Allow;
        if is_silent || !is_stricter(&shown, set, existing) {
            return false;
        }
        let mut replace = |name, number: u64| tell(name, itoa::Buffer::new().format(number), true);
        replace(set.limit, shown.status().limit);
        replace(set.remaining, shown.status().remaining);
        if let Some(wait) = shown.wait().filter(|_| denied || set.reset_always) {
            replace(
                set.reset,
                if set.unix_time { (self.at() + wait).as_secs_rounded_up() } else { whole_seconds(wait) },
            );
        }
        true
    }
}

/// What parts the members of a list. Each is kept with it in front, so that nobody asks which one is the first.
const PARTING: &str = ", ";

/// A list in the making, with room for three rules before it needs memory of its own.
struct List {
    room: [u8; 128],
    len: usize,
    /// All of it, once there is no more room.
    outgrown: String,
}

impl Default for List {
    fn default() -> Self {
        Self { room: [0; 128], len: 0, outgrown: String::new() }
    }
}

impl List {
    fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn push(&mut self, text: &str) {
        let (begin, end) = (self.len, self.len + text.len());
        match self.room.get_mut(begin..end) {
            Some(room) => room.copy_from_slice(text.as_bytes()),
            None => self.outgrow(text),
        }
        self.len = end;
    }

    /// Where it stays, for digits that have just been written one by one are slow to copy.
    fn push_number(&mut self, mut number: u64) {
        let len = number.checked_ilog10().map_or(1, |log| log as usize + 1);
        let (begin, end) = (self.len, self.len + len);
        match self.room.get_mut(begin..end) {
            Some(room) => room.iter_mut().rev().for_each(|digit| {
                // Below 10.
                *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
                number /= 10;
            }),
            None => self.outgrow(itoa::Buffer::new().format(number)),
        }
        self.len = end;
    }

    #[cold]
    fn outgrow(&mut self, text: &str) {
        if self.outgrown.is_empty() {
            self.outgrown = self.text().to_owned();
        }
        self.outgrown.push_str(text);
    }

    fn members(&self) -> &str {
        self.text().strip_prefix(PARTING).unwrap_or_default()
    }

    fn text(&self) -> &str {
        match self.room.get(..self.len) {
            // Only text was put into it.
            Some(room) => str::from_utf8(room).unwrap_or_default(),
            None => &self.outgrown,
        }
    }
}

/// What is the same of a quota's members for every request: all of that in `RateLimit-Policy`, that in `RateLimit` up to its number,
/// and the beginning of what a denied client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Members {
    policy: Box<str>,
    limit: Box<str>,
    /// The quota's name between quotation marks.
    pub(crate) name: Box<str>,
    /// The rule and its limit in words.
    pub(crate) allowance: Box<str>,
}

impl Members {
    /// Those of a rule's quotas.
    pub(crate) fn of_all(rule: &str, counted: &[(CounterId, Quota)]) -> Vec<Self> {
        let of_one = |(place, (_, quota)): (usize, &(CounterId, Quota))| {
            let name = if counted.len() > 1 { format!("\"{rule}.{}\"", place + 1) } else { format!("\"{rule}\"") };
            let window = quota.window();
            let of_window =
                if window < Duration::from_secs(1) { String::new() } else { format!(";w={}", whole_seconds(window)) };
            Self {
                policy: format!("{PARTING}{name};q={}{of_window}", quota.amount()).into(),
                limit: format!("{PARTING}{name};r=").into(),
                name: name.into(),
                allowance: format!("{rule} allows {}", quota.limit()).into(),
            }
        };
        counted.iter().enumerate().map(of_one).collect()
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

/// Whether what a response says in this header, in lower case, has a bearing on what a decision tells.
pub fn is_heeded(name: &str) -> bool {
    [&X_RATE_LIMIT, &X_RATE_LIMIT_HYPHEN].iter().any(|set| set.remaining_in_lower_case == name)
}

/// Whether we leave less than the upstream says it does; one that says nothing we can read, says nothing.
fn is_stricter(shown: &Counted<'_>, set: &NumberHeaders, existing: &dyn Headers) -> bool {
    let (theirs, _) = first_line(existing, set.remaining_in_lower_case);
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
