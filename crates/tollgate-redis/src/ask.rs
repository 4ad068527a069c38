//! What one request asks of the store, with nothing borrowed, so that it can wait in a queue.

use std::sync::Arc;

use ahash::RandomState;
use tollgate::{
    clock::Timestamp,
    key::Key,
    policy::{CounterId, Mode, Quotas},
    quota::{Algorithm, Quota, Unit},
    store::{Charge, Taken},
};

/// What to do with charges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Take,
    Look,
    /// They were made at this time.
    GiveBack(Timestamp),
    Clear,
    /// One charge of a window: as much as the lease says or is left, if the cost is.
    Lease,
}

/// One request's charges.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) verb: Verb,
    /// In the order of the charges and their quotas.
    pub(crate) counters: Counters,
}

/// What the server answers to one request.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Boxed, for it is on its way through a queue and several hands.
    pub(crate) taken: Box<Taken>,
    /// How much a lease is.
    pub(crate) leased: u64,
}

/// One counter and what is to be taken from it.
#[derive(Clone, Debug)]
pub(crate) struct Counter {
    pub(crate) key: Vec<u8>,
    pub(crate) quota: Quota,
    pub(crate) cost: u64,
    /// How much of the window is taken at once, or 0.
    pub(crate) lease: u64,
    /// All enforced charges of a request are in the group 0, each of a rule in shadow in one of its own.
    pub(crate) group: u16,
}

/// The counters of one request, which wait and are looked up again without being copied.
pub(crate) type Counters = Arc<[Counter]>;

impl Counter {
    /// What of its key decides in which slot of a Cluster it is: `cluster-spec`, "Hash tags".
    pub(crate) fn tag(&self) -> &[u8] {
        let braces = self.key.iter().position(|byte| *byte == b'{');
        let inside = braces.and_then(|open| self.key[open + 1..].split(|byte| *byte == b'}').next());
        inside.filter(|tag| !tag.is_empty()).unwrap_or(&self.key)
    }
}

/// What one quota of a charge wants of its counter: all that there is to know of it before its key is spelt, as long as nobody is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want<'a> {
    pub(crate) charge: &'a Charge<'a>,
    pub(crate) id: CounterId,
    pub(crate) quota: &'a Quota,
    /// Which of the charge's quotas it is.
    place: usize,
}

/// What these charges want, in the order in which they are answered.
pub(crate) fn wants<'a>(charges: &'a [Charge<'a>]) -> impl Iterator<Item = Want<'a>> {
    let of_charge = |charge: &'a Charge<'a>| {
        charge.quotas.iter().enumerate().map(move |(place, (id, quota))| Want { charge, id, quota, place })
    };
    charges.iter().flat_map(of_charge)
}

impl Want<'_> {
    /// How much of the window is taken at once, or 0. Rules in shadow have nothing to gain: they are asked about with the request. And
    /// whoever only asks takes nothing.
    pub(crate) fn lease(&self) -> u64 {
        let Charge { mode, quotas, cost, .. } = self.charge;
        match (mode, self.quota.algorithm()) {
            _ if *cost == 0 => 0,
            (Mode::Enforce, Algorithm::FixedWindow | Algorithm::CalendarWindow) => {
                quotas.sharing().lease.map_or(0, |lease| lease.get().max(*cost))
            }
            _ => 0,
        }
    }

    /// The key of the counter in the store.
    pub(crate) fn key(&self, prefix: &str) -> Vec<u8> {
        key(prefix, self.charge, self.place, self.quota)
    }

    /// A number for the counter, much the same as no other: by it, what is known of a counter is found without spelling or copying anything.
    pub(crate) fn hash(&self, hasher: &RandomState) -> u64 {
        hasher.hash_one((self.charge.rule, self.id, self.charge.key))
    }

    pub(crate) fn name(&self) -> Name {
        Name { rule: self.charge.rule.to_owned(), id: self.id, key: self.charge.key.clone() }
    }

    pub(crate) fn is_of(&self, name: &Name) -> bool {
        self.id == name.id && self.charge.key == &name.key && self.charge.rule == name.rule
    }
}

/// What tells a counter apart, besides the hash of it. The identity alone does not: `Rule::name` is public, so two rules can have quotas with one.
#[derive(Debug)]
pub(crate) struct Name {
    rule: String,
    id: CounterId,
    key: Key,
}

/// The counters of these charges.
pub(crate) fn counters(prefix: &str, charges: &[Charge<'_>]) -> Counters {
    let mut shadows = 0;
    let counter = |want: Want<'_>| {
        let group = match want.charge.mode {
            Mode::Enforce => 0,
            Mode::Shadow => {
                shadows += u16::from(want.place == 0);
                shadows
            }
        };
        Counter { key: want.key(prefix), quota: *want.quota, cost: want.charge.cost, lease: want.lease(), group }
    };
    wants(charges).map(counter).collect()
}

/// `PREFIX:{KEY}:RULE:ALGORITHM/WINDOW`, with `/2`, `/3`, … behind it for the second, third, … quota of a rule with one window.
///
/// What is in the braces decides in which slot of a Cluster a key is, so that all counters of one client are in one. What stands behind
/// the rule makes a counter begin anew that counts otherwise or in other windows, as in memory.
fn key(prefix: &str, charge: &Charge<'_>, place: usize, quota: &Quota) -> Vec<u8> {
    let of_rule = charge.rule.as_bytes();
    let mut key = Vec::with_capacity(prefix.len() + charge.key.as_bytes().len() + of_rule.len() + 32);
    for part in [prefix.as_bytes(), b":{", charge.key.as_bytes(), b"}:", of_rule, b":"] {
        key.extend_from_slice(part);
    }
    key.extend_from_slice(quota.algorithm().name().as_bytes());
    key.push(b'/');
    push_window(&mut key, quota);
    match equal_before(charge.quotas, place, quota) {
        0 => {}
        n => {
            key.push(b'/');
            push_number(&mut key, n + 1);
        }
    }
    key
}

fn push_window(key: &mut Vec<u8>, quota: &Quota) {
    const UNITS: [(u64, &[u8]); 5] = [(86_400_000, b"d"), (3_600_000, b"h"), (60_000, b"m"), (1_000, b"s"), (1, b"ms")];
    let limit = quota.limit();
    let (number, unit): (u64, &[u8]) = match (quota.algorithm(), limit.unit()) {
        // Of the calendar, where 30 days are no month and a week has a beginning.
        (Algorithm::CalendarWindow, unit @ (Unit::Week | Unit::Month | Unit::Year)) => {
            (limit.n(), unit.name().as_bytes())
        }
        _ => {
            let millis = u64::try_from(limit.window().as_millis()).unwrap_or(u64::MAX);
            let whole = UNITS.iter().find(|(of_unit, _)| millis % of_unit == 0);
            whole.map_or((millis, b"ms"), |(of_unit, unit)| (millis / of_unit, unit))
        }
    };
    push_number(key, number);
    key.extend_from_slice(unit);
}

fn push_number(key: &mut Vec<u8>, number: impl itoa::Integer) {
    key.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// How many quotas of the rule before this one have the same window.
fn equal_before(quotas: &Quotas, place: usize, quota: &Quota) -> usize {
    quotas.iter().take(place).filter(|(_, other)| other.limit().window() == quota.limit().window()).count()
}
