//! What happened, rule by rule, in bounded memory: for the operator's log line and for the end of a replay.

use std::{collections::HashMap, hash::Hash};

use ahash::RandomState;

use crate::{algorithm::Verdict, clock::Timestamp, decision::Decision, key::Key};

/// How many keys are watched for each rule. A key that makes up more than one in so many of the denials that one
/// tally counted is not missed by it.
const WATCHED: usize = 256;

/// Counts decisions: how many each rule saw and denied, and whom it denied most.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    rules: Vec<RuleTally>,
}

/// What one rule did.
#[derive(Clone, Debug, Default)]
pub struct RuleTally {
    /// Requests that it concerned.
    pub seen: u64,
    /// Requests that exceeded it: denied, or in shadow, would have been.
    pub denied: u64,
    /// When it first and last did.
    pub when: Option<(Timestamp, Timestamp)>,
    /// The keys it denied most.
    pub most_denied: Frequent<Key>,
}

impl Tally {
    /// Counts one decision.
    pub fn add(&mut self, decision: &Decision) {
        for (index, _, key, verdict) in decision.rules() {
            if self.rules.len() <= index {
                self.rules.resize_with(index + 1, RuleTally::default);
            }
            let rule = &mut self.rules[index];
            rule.seen += 1;
            if verdict == Verdict::Deny {
                rule.denied += 1;
                let first = rule.when.map_or(decision.at(), |(first, _)| first);
                rule.when = Some((first, decision.at()));
                rule.most_denied.add(key, 1);
            }
        }
    }

    /// Adds what another tally of the same policy counted.
    pub fn merge(&mut self, other: Self) {
        for (index, theirs) in other.rules.into_iter().enumerate() {
            if self.rules.len() <= index {
                self.rules.push(theirs);
                continue;
            }
            let ours = &mut self.rules[index];
            ours.seen += theirs.seen;
            ours.denied += theirs.denied;
            ours.when = match (ours.when, theirs.when) {
                (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
                (a, b) => a.or(b),
            };
            ours.most_denied.merge(theirs.most_denied);
        }
    }

    /// What the rule at this place of the policy did, if it has fitted any request.
    pub fn rule(&self, index: usize) -> Option<&RuleTally> {
        self.rules.get(index)
    }
}

/// What comes most often, in bounded memory, by the space-saving algorithm: a newcomer takes the place of the rarest and its
/// count with it (Metwally, Agrawal, El Abbadi: "Efficient Computation of Frequent and Top-k Elements in Data Streams",
/// 2005).
#[derive(Clone, Debug)]
pub struct Frequent<T> {
    // Keys come from attackers, hence a secret; as in the memory store, no hash is ever seen, so it need not be SipHash's.
    counts: HashMap<T, u64, RandomState>,
}

impl<T: Clone + Eq + Hash + Ord> Frequent<T> {
    /// Counts an item some more times.
    pub fn add(&mut self, item: &T, times: u64) {
        if let Some(count) = self.counts.get_mut(item) {
            *count += times;
            return;
        }
        let mut inherited = 0;
        if self.counts.len() >= WATCHED
            && let Some((rarest, count)) = self.counts.iter().min_by_key(|(_, count)| **count)
        {
            inherited = *count;
            let rarest = rarest.clone();
            self.counts.remove(&rarest);
        }
        self.counts.insert(item.clone(), inherited + times);
    }

    /// Adds what another counted.
    pub fn merge(&mut self, other: Self) {
        for (item, times) in other.counts {
            self.add(&item, times);
        }
    }

    /// The items with how often they came, most first. A count can be too high by one in 256 of all, and by one more for
    /// what was merged.
    pub fn most(&self) -> Vec<(&T, u64)> {
        let mut items: Vec<_> = self.counts.iter().map(|(item, count)| (item, *count)).collect();
        items.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        items
    }
}

impl<T> Default for Frequent<T> {
    fn default() -> Self {
        Self { counts: HashMap::default() }
    }
}
