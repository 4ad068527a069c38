//! The calendar, by walking through it from 1970 on.

use crate::quota::{Limit, Unit};

const DAY: u128 = 86_400_000_000;

/// Where the window that holds `now` ends, in microseconds since the epoch.
pub(super) fn window_end(limit: &Limit, now: u64) -> u128 {
    let now = u128::from(now);
    let n = u128::from(limit.n());
    match limit.unit() {
        Unit::Month => first_month_after(now, |month| month.is_multiple_of(n)),
        Unit::Year => first_month_after(now, |month| month.is_multiple_of(12) && (month / 12).is_multiple_of(n)),
        // 1970-01-05 was the first Monday.
        Unit::Week => step_past(4 * DAY, n * 7 * DAY, now),
        Unit::Day => step_past(0, n * DAY, now),
        Unit::Hour => step_past(0, n * DAY / 24, now),
        Unit::Minute => step_past(0, n * 60_000_000, now),
        Unit::Second => step_past(0, n * 1_000_000, now),
        Unit::Millisecond => step_past(0, n * 1_000, now),
    }
}

/// The first of `start`, `start + step`, `start + 2·step`, … that lies after `now`.
fn step_past(start: u128, step: u128, now: u128) -> u128 {
    match now.checked_sub(start) {
        Some(since) => start + since / step * step + step,
        None => start,
    }
}

/// The start of the first month after `now` whose index, year · 12 + month − 1, is wanted.
fn first_month_after(now: u128, is_wanted: impl Fn(u128) -> bool) -> u128 {
    let mut start = 0;
    let (mut year, mut month) = (1970, 1);
    while start <= now || !is_wanted(year * 12 + month - 1) {
        start += days_in(year, month) * DAY;
        (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    }
    start
}

fn days_in(year: u128, month: u128) -> u128 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}
