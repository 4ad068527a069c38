//! The algorithms in which a charge counts wholly until it counts no more: they differ in when that is.

use super::{Charged, window};

/// All charges of a window count until it ends; a window opens with the first charge after the last one's end.
pub(super) fn fixed(charges: &[Charged], at: u128) -> u128 {
    let mut end = 0;
    let mut used = 0;
    for charged in charges {
        if u128::from(charged.at) >= end {
            end = u128::from(charged.at) + window(&charged.quota);
            used = 0;
        }
        used += u128::from(charged.cost);
    }
    if at < end { used } else { 0 }
}

/// A charge counts until the window of the calendar ends in which it was made.
pub(super) fn calendar(charges: &[Charged], at: u128) -> u128 {
    let counting = charges.iter().filter(|charged| at < charged.window_end);
    counting.map(|charged| u128::from(charged.cost)).sum()
}

/// A charge counts for one window.
pub(super) fn log(charges: &[Charged], at: u128) -> u128 {
    let counting = charges.iter().filter(|charged| at < u128::from(charged.at) + window(&charged.quota));
    counting.map(|charged| u128::from(charged.cost)).sum()
}
