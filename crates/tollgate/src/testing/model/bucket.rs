//! A bucket, filled and emptied again from the first charge on, whenever somebody asks.

use super::{Charged, window};
use crate::quota::Quota;

/// What is missing. Between two charges it refills at the rate of the later one's quota, whose question it is; but once
/// it was to be full by the earlier one's, it is.
pub(super) fn missing(charges: &[Charged], quota: &Quota, at: u128) -> u128 {
    let mut missing: i128 = 0;
    let (mut last, mut full_at) = (0, 0);
    for charged in charges {
        let at = u128::from(charged.at);
        missing = if at < full_at { missing - refilled(&charged.quota, at - last) } else { 0 };
        missing = missing.max(0) + i128::from(charged.cost) * signed(window(&charged.quota));
        missing = (missing - charged.given).max(0);
        (last, full_at) = (at, u128::from(charged.until));
    }
    let still_missing = if at < full_at { missing - refilled(quota, at - last) } else { 0 };
    u128::try_from(still_missing).unwrap_or(0)
}

/// What of a charge has not been refilled yet, if nothing else has been since.
pub(super) fn unpaid(quota: &Quota, cost: u64, at: u64, now: u64) -> i128 {
    let taken = i128::from(cost) * signed(window(quota));
    (taken - refilled(quota, now.saturating_sub(at).into())).max(0)
}

/// One microsecond refills amount / window of a token, which is as many parts as the amount.
fn refilled(quota: &Quota, micros: u128) -> i128 {
    i128::from(quota.amount()) * signed(micros)
}

fn signed(number: u128) -> i128 {
    i128::try_from(number).expect("windows and instants are far below 2^127")
}
