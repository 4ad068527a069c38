//! A bucket, filled and emptied again from the first charge on, whenever somebody asks.

use super::{Charged, window};
use crate::quota::Quota;

/// What is missing. Between two charges it refills at the rate of whoever took last, whoever asks.
pub(super) fn missing(charges: &[Charged], at: u128) -> u128 {
    let mut missing: i128 = 0;
    let mut last: Option<(u128, Quota)> = None;
    let refill = |missing: i128, last: Option<(u128, Quota)>, at: u128| match last {
        Some((since, quota)) => (missing - refilled(quota.amount(), at - since)).max(0),
        None => missing,
    };
    for charged in charges {
        let at = u128::from(charged.at);
        missing = refill(missing, last, at) + i128::from(charged.cost) * signed(window(&charged.quota));
        missing = (missing - charged.given).max(0);
        // Giving back takes nothing, so the rate stays.
        let rate = if charged.cost > 0 { charged.quota } else { last.map_or(charged.quota, |(_, quota)| quota) };
        last = Some((at, rate));
    }
    u128::try_from(refill(missing, last, at)).expect("it is never less than nothing")
}

/// What of a charge has not been refilled yet, if nothing else has been since, at the higher of its own rate and that of
/// whoever took last.
pub(super) fn unpaid(charges: &[Charged], quota: &Quota, cost: u64, at: u64, now: u64) -> i128 {
    let taken = i128::from(cost) * signed(window(quota));
    let last = charges.iter().rev().find(|charged| charged.cost > 0).map_or(0, |charged| charged.quota.amount());
    (taken - refilled(quota.amount().max(last), now.saturating_sub(at).into())).max(0)
}

/// One microsecond refills amount / window of a token, which is as many parts as the amount.
fn refilled(amount: u64, micros: u128) -> i128 {
    i128::from(amount) * signed(micros)
}

fn signed(number: u128) -> i128 {
    i128::try_from(number).expect("windows and instants are far below 2^127")
}
