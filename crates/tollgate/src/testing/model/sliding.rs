//! Two adjoining windows, counted from the first charge: the current one wholly, the one before it by the share of the
//! current one that is left.

use super::{Charged, window};
use crate::quota::Quota;

pub(super) fn counted(charges: &[Charged], quota: &Quota, at: u128) -> u128 {
    let Some(first) = charges.first() else { return 0 };
    let window = window(quota);
    // Which window an instant lies in; the first charge opens number 1.
    let number = |at: u128| (at - u128::from(first.at)) / window + 1;
    let charged_in = |wanted: u128| -> u128 {
        let in_it = charges.iter().filter(|charged| number(charged.at.into()) == wanted);
        in_it.map(|charged| u128::from(charged.cost)).sum()
    };
    let current = number(at);
    let left = u128::from(first.at) + current * window - at;
    charged_in(current) * window + charged_in(current - 1) * left
}
