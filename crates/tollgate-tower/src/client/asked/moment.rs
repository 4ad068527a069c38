//! How far away the moment is that a header names: as a span in seconds or by units, as Unix time, or as a date.

use std::time::{Duration, SystemTime};

use tollgate::clock::Timestamp;

/// What is more than this is a time since 1970, not a span: no service asks for 30 years.
const UNIX_TIME: u64 = 1_000_000_000;
/// And what is more than this is such a time in milliseconds, as some tell it.
const UNIX_TIME_IN_MILLIS: u64 = 100_000_000_000;

/// A value of `Retry-After`: seconds, or a date.
pub(super) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    decimal(value).or_else(|| Some(date(value)?.since(now)))
}

/// A value of one of the headers that end in `-Reset`, none of which says what it is.
pub(super) fn reset(value: &str, now: Timestamp) -> Option<Duration> {
    let at = |since_1970: Duration| (Timestamp::from_micros(0) + since_1970).since(now);
    match decimal(value) {
        Some(number) if number.as_secs() >= UNIX_TIME_IN_MILLIS => Some(at(number / 1_000)),
        Some(number) if number.as_secs() >= UNIX_TIME => Some(at(number)),
        Some(seconds) => Some(seconds),
        None => by_units(value).or_else(|| Some(date(value)?.since(now))),
    }
}

/// `6m0s`, `12ms`: how Go prints a span.
fn by_units(text: &str) -> Option<Duration> {
    // How many seconds each has, and how many of it a second.
    const UNITS: [(&str, u32, u32); 6] =
        [("ns", 1, 1_000_000_000), ("us", 1, 1_000_000), ("ms", 1, 1_000), ("s", 1, 1), ("m", 60, 1), ("h", 3_600, 1)];
    let (mut span, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() || text.is_empty() {
        let (number, after) = rest.split_at(rest.find(|char: char| !char.is_ascii_digit() && char != '.')?);
        let number = decimal(number)?;
        let (seconds, of_a_second, after) = UNITS.iter().find_map(|(unit, seconds, of_a_second)| {
            after.strip_prefix(unit).map(|after| (seconds, of_a_second, after))
        })?;
        (span, rest) = (span.saturating_add(number.saturating_mul(*seconds) / *of_a_second), after);
    }
    Some(span)
}

/// `Tue, 14 Nov 2023 22:13:50 GMT` and its obsolete forms, or by RFC 3339 `2023-11-14T22:13:50Z`.
fn date(text: &str) -> Option<Timestamp> {
    if let Ok(date) = httpdate::parse_http_date(text) {
        let since_1970 = date.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        return Some(Timestamp::from_micros(0) + since_1970);
    }
    let date: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(date.as_microsecond()).ok().map(Timestamp::from_micros)
}

/// A number that may have a fraction, as so many seconds.
fn decimal(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    digits(fraction)?;
    // Nine digits of it are nanoseconds.
    let nanos = format!("{fraction:0<9.9}").parse().ok()?;
    Some(Duration::new(digits(whole)?, nanos))
}

/// A whole number; one too large for that is as good as the largest.
pub(super) fn digits(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}
