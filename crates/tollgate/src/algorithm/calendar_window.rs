//! Calendar window: a fixed window aligned to the calendar in UTC.
//!
//! Milliseconds to days are multiples of the window since the Unix epoch; weeks start on Monday (multiples count from
//! 1970-01-05); `n` months start where the month index (year · 12 + month − 1) is a multiple of `n`, years likewise.

use super::{Verdict, fixed_window};
use crate::quota::{Limit, Quota, Unit};

const DAY: u64 = 86_400_000_000;
/// 1970-01-05, the first Monday of the Unix era.
const FIRST_MONDAY: u64 = 4 * DAY;

pub(super) fn charge(
    state: Option<fixed_window::State>,
    quota: &Quota,
    cost: u64,
    now: u64,
) -> (Option<fixed_window::State>, Verdict) {
    fixed_window::charge_until(state, quota, cost, now, || window_end(quota.limit(), now))
}

pub(super) fn give_back(
    state: fixed_window::State,
    quota: &Quota,
    cost: u64,
    at: u64,
    now: u64,
) -> Option<fixed_window::State> {
    fixed_window::take_off(state, cost, now, |end| window_end(quota.limit(), at) == end)
}

/// Where the window that holds `now` ends, in microseconds since the epoch.
pub(super) fn window_end(limit: &Limit, now: u64) -> u64 {
    match limit.unit() {
        Unit::Month => start_of_month(multiple_after(month_index(now), limit.n())),
        Unit::Year => start_of_month(multiple_after(month_index(now), limit.n().saturating_mul(12))),
        Unit::Week => {
            let window = limit.n() * 7 * DAY;
            // The four days before the first Monday are the end of a window that began in 1969.
            match now.checked_sub(FIRST_MONDAY) {
                Some(since) => FIRST_MONDAY.saturating_add(multiple_after(since, window)),
                None => FIRST_MONDAY,
            }
        }
        Unit::Millisecond | Unit::Second | Unit::Minute | Unit::Hour | Unit::Day => {
            multiple_after(now, limit.unit().millis() * 1_000 * limit.n())
        }
    }
}

/// The first multiple of `n` after `x`.
fn multiple_after(x: u64, n: u64) -> u64 {
    (x / n).saturating_add(1).saturating_mul(n)
}

/// Months since January of the year 0.
///
/// Years are counted from March, so that the leap day comes last, in eras of 400 years, which all have the same days:
/// H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn month_index(now: u64) -> u64 {
    let days = now / DAY + 719_468; // from 0000-03-01 to 1970-01-01
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    (era * 400 + year) * 12 + 2 + month_from_march
}

/// The first instant of a month, counted as [`month_index`] does; the same source, `days_from_civil`.
fn start_of_month(index: u64) -> u64 {
    let from_march = index - 2;
    let (year, month) = (from_march / 12, from_march % 12);
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5;
    (days - 719_468).saturating_mul(DAY)
}
