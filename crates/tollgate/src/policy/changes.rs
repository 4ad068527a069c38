//! What differs between two policies, in words, and what becomes of the counters when the one takes over from the other.
//!
//! A counter is its rule's name, the algorithm, the window, the place among equals and the key. So a changed amount or burst
//! keeps what was used, as does everything that only says whom a rule concerns or what is answered; the rest begins anew.

use std::{
    collections::{HashMap, HashSet},
    fmt, iter,
};

use crate::{
    key::Part,
    policy::{Conditions, Cost, CounterId, Policy, Quotas, Rule},
    quota::{Limit, Quota},
};

/// Something that an operator wants to know before, or when, one policy takes over from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A rule that was not there. One with another name is another rule.
    Added {
        /// Its name.
        rule: String,
    },
    /// A rule that is there no more; nobody asks for its counters.
    Removed {
        /// Its name.
        rule: String,
    },
    /// A rule that says something else.
    Changed {
        /// Its name.
        rule: String,
        /// What it says differently, at least one.
        differences: Vec<Difference>,
        /// What becomes of its counters.
        counters: Counters,
    },
    /// The rules stand in another order, which `rest` and whoever reads headers can tell.
    Reordered,
    /// Something above the rules, which concerns all of them: counters stay, though whoever is called otherwise has others.
    Above(Difference),
}

/// What is said differently: a key of the policy file, and what it was and is, where that is short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key.
    pub key: &'static str,
    /// What it was and what it is; none if that does not fit into a line.
    pub values: Option<(String, String)>,
}

/// What becomes of the counters of a rule that has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counters {
    /// It has none: it is unlimited.
    None,
    /// All go on, with what was used.
    Kept,
    /// All go on whose key is the same, which this part of `by` takes from what the rule matches.
    KeptWhereSame(Part),
    /// All begin anew, but for those that are still kept from an earlier policy by which they counted so.
    Anew,
    /// Those of some limits go on and those of others begin anew.
    Partly {
        /// The limits whose counters go on.
        kept: Vec<Limit>,
        /// Those whose counters begin anew, as with [`Anew`](Self::Anew).
        anew: Vec<Limit>,
    },
}

/// What differs between two policies, in the order of the new one's rules; removed ones come first. Unless `is_shared`, there
/// is no store that instances share, and every rule counts in memory, whatever it says of its store.
///
/// ```
/// use tollgate::policy::{Policy, Rule, changes};
///
/// let policy = |rules| Policy::new(Default::default(), None, Vec::new(), rules);
/// let old = policy(vec![Rule::of("login", "3/minute")?, Rule::of("api", "5/hour")?])?;
/// let new = policy(vec![Rule::of("api", "10/hour")?])?;
/// let said: Vec<String> = changes(&old, &new, false).iter().map(ToString::to_string).collect();
/// assert_eq!(said, ["rule login removed", "api 5/hour → 10/hour keeps its counters"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn changes(old: &Policy, new: &Policy, is_shared: bool) -> Vec<Change> {
    let by_name = |policy: &'_ Policy| policy.rules.iter().map(|rule| rule.name.clone()).collect::<HashSet<_>>();
    let (old_names, new_names) = (by_name(old), by_name(new));
    let was: HashMap<&str, &Rule> = old.rules.iter().map(|rule| (rule.name.as_str(), rule)).collect();

    let mut changes: Vec<Change> = above(old, new).into_iter().map(Change::Above).collect();
    let gone = old.rules.iter().filter(|rule| !new_names.contains(&rule.name));
    changes.extend(gone.map(|rule| Change::Removed { rule: rule.name.clone() }));
    changes.extend(new.rules.iter().filter_map(|rule| match was.get(rule.name.as_str()) {
        None => Some(Change::Added { rule: rule.name.clone() }),
        Some(was) => changed(was, rule, is_shared),
    }));
    let stayed_old = old.rules.iter().map(|rule| &rule.name).filter(|name| new_names.contains(*name));
    let stayed_new = new.rules.iter().map(|rule| &rule.name).filter(|name| old_names.contains(*name));
    if !stayed_old.eq(stayed_new) {
        changes.push(Change::Reordered);
    }
    changes
}

fn above(old: &Policy, new: &Policy) -> Vec<Difference> {
    let user = |policy: &Policy| policy.user.as_ref().map_or("nobody".to_owned(), ToString::to_string);
    let mut differences = Vec::new();
    differences.extend(unlike("trusted_proxies", &old.proxies, &new.proxies));
    differences.extend(shown("user", user(old), user(new)));
    differences.extend(unlike("except", &old.except, &new.except));
    differences
}

/// The change of a rule that is in both, if it has any.
fn changed(old: &Rule, new: &Rule, is_shared: bool) -> Option<Change> {
    let by = |rule: &Rule| match rule.by.as_slice() {
        [] => "everybody together".to_owned(),
        parts => parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    let (was, is) = (&old.sharing, &new.sharing);
    let lease = |lease: Option<std::num::NonZeroU64>| lease.map_or("none".to_owned(), |lease| lease.to_string());
    let mut differences = Vec::new();
    differences.extend(shown("limit", limits(&old.quotas), limits(&new.quotas)));
    differences.extend(match old.quotas.is_empty() || new.quotas.is_empty() {
        // Nothing was or is counted by it.
        true => None,
        false => shown("algorithm", old.quotas.algorithm().name(), new.quotas.algorithm().name()),
    });
    differences.extend(shown("by", by(old), by(new)));
    differences.extend(unlike("match", &old.matcher, &new.matcher));
    differences.extend(unlike("except", &old.except, &new.except));
    differences.extend(unlike("overrides", &overrides(old), &overrides(new)));
    differences.extend(match (&old.cost, &new.cost) {
        (Cost::Fixed(was), Cost::Fixed(is)) => shown("cost", was.to_string(), is.to_string()),
        (was, is) => unlike("cost", was, is),
    });
    differences.extend(unlike("count", &old.count, &new.count));
    differences.extend(shown("mode", old.mode.name(), new.mode.name()));
    differences.extend(shown("store", was.place.name(), is.place.name()).filter(|_| is_shared));
    differences.extend(shown("on_store_error", was.on_store_error.name(), is.on_store_error.name()));
    differences.extend(shown("lease", lease(was.lease), lease(is.lease)));
    differences.extend(unlike("headers", &old.dialects, &new.dialects));
    differences.extend(unlike("on_limit", &old.on_limit, &new.on_limit));
    let counters = counters(old, new, is_shared);
    (!differences.is_empty()).then(|| Change::Changed { rule: new.name.clone(), differences, counters })
}

/// What they say themselves, without what they have from their rule.
fn overrides(rule: &Rule) -> Vec<(&Conditions, String)> {
    rule.overrides.iter().map(|other| (&other.conditions, limits(&other.quotas))).collect()
}

/// What becomes of the counters of a rule, by their identities.
fn counters(old: &Rule, new: &Rule, is_shared: bool) -> Counters {
    let were: HashMap<CounterId, bool> = all_quotas(old).flat_map(identities).map(|(id, _, wide)| (id, wide)).collect();
    let are: Vec<(CounterId, Limit, bool)> = all_quotas(new).flat_map(identities).collect();
    if are.is_empty() {
        return Counters::None;
    }
    let keys_differ = old.by != new.by || is_shared && old.sharing.place != new.sharing.place;
    // In memory, amounts that fit no slot of the table are counted beside it.
    let goes_on = |id: &CounterId, is_wide: bool| !keys_differ && were.get(id) == Some(&is_wide);
    let (kept, anew): (Vec<_>, Vec<_>) = are.into_iter().partition(|(id, _, is_wide)| goes_on(id, *is_wide));
    let named = |counted: Vec<(CounterId, Limit, bool)>| {
        let mut limits: Vec<Limit> = Vec::new();
        for (_, limit, _) in counted {
            if !limits.contains(&limit) {
                limits.push(limit);
            }
        }
        limits
    };
    match (kept.is_empty(), anew.is_empty()) {
        (true, _) => Counters::Anew,
        (false, false) => Counters::Partly { kept: named(kept), anew: named(anew) },
        (false, true) => match by_what_matches(new).filter(|_| old.matcher != new.matcher) {
            Some(part) => Counters::KeptWhereSame(part.clone()),
            None => Counters::Kept,
        },
    }
}

fn all_quotas(rule: &Rule) -> impl Iterator<Item = &Quotas> {
    iter::once(&rule.quotas).chain(rule.overrides.iter().map(|other| &other.quotas))
}

fn identities(quotas: &Quotas) -> impl Iterator<Item = (CounterId, Limit, bool)> {
    let is_wide = quotas.are_wide();
    quotas.iter().map(move |(id, quota): (CounterId, &Quota)| (id, *quota.limit(), is_wide))
}

/// The part of `by` that names what of `match` fitted.
fn by_what_matches(rule: &Rule) -> Option<&Part> {
    rule.by.iter().find(|part| matches!(part, Part::Route | Part::Subnet))
}

fn limits(quotas: &Quotas) -> String {
    let each: Vec<String> = quotas.iter().map(|(_, quota)| quota.limit().to_string()).collect();
    if each.is_empty() { "unlimited".to_owned() } else { each.join("; ") }
}

fn shown(key: &'static str, was: impl Into<String>, is: impl Into<String>) -> Option<Difference> {
    let values = (was.into(), is.into());
    (values.0 != values.1).then_some(Difference { key, values: Some(values) })
}

fn unlike<T: PartialEq>(key: &'static str, was: &T, is: &T) -> Option<Difference> {
    (was != is).then_some(Difference { key, values: None })
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added { rule } => write!(f, "rule {rule} added"),
            Self::Removed { rule } => write!(f, "rule {rule} removed"),
            Self::Changed { rule, differences, counters } => {
                let differences: Vec<String> = differences.iter().map(ToString::to_string).collect();
                write!(f, "{rule} {}{counters}", differences.join(" and "))
            }
            Self::Reordered => f.write_str("rules in another order"),
            Self::Above(difference) => write!(f, "{difference} for all rules"),
        }
    }
}

impl fmt::Display for Difference {
    /// What can only be one thing goes without its key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.key, &self.values) {
            ("limit" | "algorithm" | "mode", Some((was, is))) => write!(f, "{was} → {is}"),
            (key, Some((was, is))) => write!(f, "{key} {was} → {is}"),
            (key, None) => write!(f, "{key} changed"),
        }
    }
}

impl fmt::Display for Counters {
    /// The end of a sentence whose subject is the rule, with the space before it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |limits: &[Limit]| limits.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        match self {
            Self::None => Ok(()),
            Self::Kept => f.write_str(" keeps its counters"),
            Self::KeptWhereSame(part) => write!(f, " keeps its counters where the {part} is the same"),
            Self::Anew => f.write_str(" begins anew unless it counted so before"),
            Self::Partly { kept, anew } => {
                let (kept, anew) = (list(kept), list(anew));
                write!(f, " keeps its counters of {kept} and begins anew with {anew} unless it counted so before")
            }
        }
    }
}
