//! Many requests as one call of a script: the keys they concern, the kinds of their charges, and the program. `script/decide.lua` tells
//! what they are; `replay` reads the answer.

use std::collections::HashMap;

use smallvec::SmallVec;
use tollgate::quota::{Algorithm, MAX_AMOUNT, Quota, Unit};

use crate::{
    ask::{Ask, Counter, Verb},
    script::{Algorithms, Script, number, script},
};

const TAKE: u8 = 1;
const TAKE_SHADOW: u8 = 2;
const LOOK: u8 = 3;
const LOOK_SHADOW: u8 = 4;
const GIVE_BACK: u8 = 5;
const CLEAR: u8 = 6;
const LEASE: u8 = 7;

/// 1970-01-05, the first Monday of the Unix era, from which weeks are counted.
const FIRST_MONDAY: u64 = 4 * 86_400_000_000;

/// What a script is called with, for some requests.
#[derive(Debug, Default)]
pub(crate) struct Batch<'a> {
    algorithms: Algorithms,
    /// Whether it is one charge of one counter, which needs no program.
    is_one: bool,
    /// Each once.
    pub(crate) keys: Vec<&'a [u8]>,
    kinds: Vec<u8>,
    program: Vec<u8>,
    /// Whether it does anything but take and look.
    does_more: bool,
    /// For each counter of each request, which key it has.
    pub(crate) key_of: Vec<u16>,
    key_numbers: HashMap<&'a [u8], u16>,
    kind_numbers: Vec<(Quota, u64, u64)>,
}

impl<'a> Batch<'a> {
    pub(crate) fn of(asks: &[&'a Ask]) -> Self {
        let mut batch = Self::default();
        for ask in asks {
            batch.push(ask);
        }
        batch.is_one = match asks {
            [Ask { verb: Verb::Take, counters }] => match &counters[..] {
                [counter] => counter.group == 0 && counter.quota.algorithm() != Algorithm::SlidingLog,
                _ => false,
            },
            _ => false,
        };
        batch
    }

    /// What decides it.
    pub(crate) fn script(&self) -> &'static Script {
        script(self.algorithms, self.is_one)
    }

    /// What the script is given beside the keys, if the time is this one.
    pub(crate) fn arguments<'b>(&'b self, now: &'b [u8]) -> SmallVec<[&'b [u8]; 4]> {
        let mut arguments: SmallVec<[&[u8]; 4]> = SmallVec::new();
        arguments.extend([now, &self.kinds]);
        if !self.is_one {
            arguments.push(&self.program);
        }
        if self.does_more {
            arguments.push(b"1");
        }
        arguments
    }

    fn push(&mut self, ask: &'a Ask) {
        let first = self.key_of.len();
        for counter in ask.counters.iter() {
            let key = self.key(&counter.key);
            self.key_of.push(key);
        }
        match ask.verb {
            Verb::Take => self.decide(ask, first, TAKE, TAKE_SHADOW),
            Verb::Look => self.decide(ask, first, LOOK, LOOK_SHADOW),
            Verb::GiveBack(at) => self.step(GIVE_BACK, Some(at.as_micros()), ask.counters.iter().enumerate(), first),
            Verb::Clear => self.step(CLEAR, None, ask.counters.iter().enumerate(), first),
            Verb::Lease => self.step(LEASE, None, ask.counters.iter().enumerate(), first),
        }
    }

    /// The enforced charges are one step, and each rule in shadow is one.
    fn decide(&mut self, ask: &'a Ask, first: usize, enforced: u8, shadow: u8) {
        let last_group = ask.counters.iter().map(|counter| counter.group).max().unwrap_or(0);
        for group in 0..=last_group {
            let of_group = ask.counters.iter().enumerate().filter(|(_, counter)| counter.group == group);
            self.step(if group == 0 { enforced } else { shadow }, None, of_group, first);
        }
    }

    fn step(
        &mut self,
        step: u8,
        at: Option<u64>,
        counters: impl Iterator<Item = (usize, &'a Counter)> + Clone,
        first: usize,
    ) {
        self.program.push(step);
        self.does_more |= step >= GIVE_BACK;
        // A request has fewer charges than a batch has keys.
        self.program.extend(u16::try_from(counters.clone().count()).unwrap_or(u16::MAX).to_le_bytes());
        let mut charges = 0;
        for (place, counter) in counters {
            let (key, kind) = (self.key_of[first + place] + 1, self.kind(counter) + 1);
            self.program.extend(key.to_le_bytes());
            self.program.extend(kind.to_le_bytes());
            charges += 1;
            if let (1, Some(at)) = (charges, at) {
                self.program.extend((at as f64).to_le_bytes());
            }
        }
        if charges == 0 {
            self.program.extend([0; 4]);
        }
    }

    fn key(&mut self, key: &'a [u8]) -> u16 {
        // The queue lets no more than some thousand counters into a batch, and no policy has so many for one request.
        let next = u16::try_from(self.keys.len()).unwrap_or(u16::MAX);
        *self.key_numbers.entry(key).or_insert_with(|| {
            self.keys.push(key);
            next
        })
    }

    /// A batch has few kinds, for a policy has few quotas and most requests cost 1.
    fn kind(&mut self, counter: &Counter) -> u16 {
        let kind = (counter.quota, counter.cost, counter.lease);
        let place = self.kind_numbers.iter().position(|known| *known == kind).unwrap_or_else(|| {
            self.algorithms.insert(counter.quota.algorithm());
            self.kinds.push(number(counter.quota.algorithm()));
            self.kinds.extend(numbers(counter).iter().flat_map(|number| number.to_le_bytes()));
            self.kind_numbers.push(kind);
            self.kind_numbers.len() - 1
        });
        u16::try_from(place).unwrap_or(u16::MAX)
    }
}

/// `amount`, `limit`, `window`, `cost`, and the four that mean something else for each algorithm: `p`, `q`, `r`, `s`.
fn numbers(Counter { quota, cost, lease, .. }: &Counter) -> [f64; 8] {
    let (amount, limit, window) = (quota.amount(), quota.capacity(), window_micros(quota));
    // Whatever is more than any limit is as good as any other.
    let (cost, lease) = ((*cost).min(MAX_AMOUNT + 1), (*lease).min(MAX_AMOUNT));
    let own = match quota.algorithm() {
        Algorithm::TokenBucket if cost <= limit && amount > 0 => {
            let ((p, q), (r, s)) = (time_to_refill(cost, window, amount), time_to_refill(limit, window, amount));
            [p, q, r, s]
        }
        Algorithm::CalendarWindow => match quota.limit().unit() {
            Unit::Month => [quota.limit().n(), 0, 0, lease],
            Unit::Year => [quota.limit().n().saturating_mul(12), 0, 0, lease],
            Unit::Week => [0, FIRST_MONDAY, 0, lease],
            Unit::Millisecond | Unit::Second | Unit::Minute | Unit::Hour | Unit::Day => [0, 0, 0, lease],
        },
        _ => [0, 0, 0, lease],
    };
    let [p, q, r, s] = own;
    // All of them are below 2^53: amounts of at most 10^12 and times of at most 100 years.
    [amount, limit, window, cost, p, q, r, s].map(|number| number as f64)
}

/// How long so many tokens take, in microseconds and parts of which an amount makes one.
fn time_to_refill(tokens: u64, window: u64, amount: u64) -> (u64, u64) {
    let (units, amount) = (u128::from(tokens) * u128::from(window), u128::from(amount));
    let narrow = |number| u64::try_from(number).unwrap_or(u64::MAX);
    (narrow(units / amount), narrow(units % amount))
}

fn window_micros(quota: &Quota) -> u64 {
    u64::try_from(quota.window().as_micros()).unwrap_or(u64::MAX)
}
