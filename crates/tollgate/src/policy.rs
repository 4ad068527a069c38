//! The rules in order: a request and its client in, the charges of every rule that fits out.

mod changes;
mod matcher;
mod pattern;
mod rule;
mod sharing;
mod terms;

use std::fmt;

use smallvec::SmallVec;

pub use changes::{Change, Counters, Difference, changes};
pub use matcher::{Conditions, ValueTest};
pub use pattern::{PathPattern, Pattern, PatternError};
pub use rule::{Cost, Count, CounterId, Mode, Override, Quotas, Rule};
pub use sharing::{OnStoreError, Place, Sharing};
pub use terms::{KeyTerm, Terms};

use crate::{
    client::{Client, Proxies},
    key::{Key, Part, write_key},
    request::{Protocol, Request, Seen, Source},
};

/// The most rules a policy may have.
pub const MAX_RULES: usize = 1_000;
/// The most charges every request may place. Rules for some requests only can place more on those: none is ever left out.
pub const MAX_CHARGES: usize = 64;

/// A whole policy. One that exists is valid.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    proxies: Proxies,
    user: Option<Source>,
    except: Vec<Conditions>,
    rules: Vec<Rule>,
}

impl Policy {
    /// Puts a policy together.
    ///
    /// # Errors
    ///
    /// Names that are none or not unique (ignoring case), a rule in shadow that counts by status, too many rules, or too many charges on every request.
    pub fn new(
        proxies: Proxies,
        user: Option<Source>,
        except: Vec<Conditions>,
        mut rules: Vec<Rule>,
    ) -> Result<Self, PolicyError> {
        if rules.len() > MAX_RULES {
            return Err(PolicyError::TooManyRules(rules.len()));
        }
        if let Some(rule) = rules.iter().find(|rule| !is_rule_name(&rule.name)) {
            return Err(PolicyError::BadName(rule.name.clone()));
        }
        let counts_in_shadow = |rule: &&Rule| rule.mode == Mode::Shadow && rule.count != Count::All;
        if let Some(rule) = rules.iter().find(counts_in_shadow) {
            return Err(PolicyError::CountsInShadow(rule.name.clone()));
        }
        let mut names: Vec<String> = rules.iter().map(|rule| rule.name.to_ascii_lowercase()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(PolicyError::NameTwice(twice[0].clone()));
        }
        let always = rules.iter().filter(|rule| rule.matcher.fits_everything()).map(|rule| rule.quotas.len()).sum();
        if always > MAX_CHARGES {
            return Err(PolicyError::TooManyCharges(always));
        }
        rules.iter_mut().for_each(Rule::keep_together);
        Ok(Self { proxies, user, except, rules })
    }

    /// A policy of one rule as [`Rule::of`] makes it, which is always valid.
    pub(crate) fn of_one(rule: Rule) -> Self {
        Self { rules: vec![rule], ..Self::default() }
    }

    /// The same with these proxies.
    pub(crate) fn trusting(self, proxies: Proxies) -> Self {
        Self { proxies, ..self }
    }

    /// Who may speak for a client.
    pub fn proxies(&self) -> &Proxies {
        &self.proxies
    }

    /// What tells a signed-in user from a guest.
    pub fn user(&self) -> Option<&Source> {
        self.user.as_ref()
    }

    /// Requests that no rule sees.
    pub fn except(&self) -> &[Conditions] {
        &self.except
    }

    /// The rules in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule of this name.
    ///
    /// # Errors
    ///
    /// No rule is called so, ignoring case.
    pub fn named(&self, name: &str) -> Result<&Rule, UnknownRule> {
        let named = self.rules.iter().find(|rule| rule.name.eq_ignore_ascii_case(name));
        named.ok_or_else(|| UnknownRule {
            name: name.to_owned(),
            known: self.rules.iter().map(|rule| rule.name.clone()).collect(),
        })
    }

    /// The same with one of its rules alone.
    pub(crate) fn only(&self, rule: &Rule) -> Self {
        let Self { proxies, user, except, .. } = self.clone();
        Self { proxies, user, except, rules: vec![rule.clone()] }
    }

    /// Adds the rules that fit the request of this client, each with the key it counts by.
    pub(crate) fn fit(&self, request: &Request<'_>, client: &Client, terms: &Terms, fits: &mut Fits) {
        let seen = &Seen::new(request, client, &self.proxies, self.user.as_ref());
        if self.except.iter().any(|except| except.spare(seen)) {
            return;
        }
        let mut earlier_fitted = false;
        for (index, rule) in self.rules.iter().enumerate() {
            if seen.request.protocol != Protocol::Http && rule.by.iter().any(Part::is_of_http) {
                continue;
            }
            let Some(fitted) = rule.matcher.fit(seen, earlier_fitted) else { continue };
            if rule.except.iter().any(|except| except.spare(seen)) {
                continue;
            }
            earlier_fitted = true;
            let choice = match terms.quotas_of(rule) {
                Some(quotas) => Choice::Given(Box::new(quotas)),
                None => rule.choose(seen),
            };
            let cost = terms.cost.unwrap_or_else(|| rule.cost.of(seen));
            // Written where it stays: what is copied in pieces other than those it was written in holds the processor up.
            fits.push(Fit::BLANK);
            if let Some(fit) = fits.last_mut() {
                (fit.rule, fit.choice, fit.cost) = (index, choice, cost);
                terms.write_key(&mut fit.key, |key| write_key(key, &rule.by, seen, fitted));
            }
        }
    }
}

/// The rules that fit a request, in file order.
pub(crate) type Fits = SmallVec<[Fit; 4]>;

/// A rule that fits a request: which one, by which of its overrides, what it counts by, and what that costs.
#[derive(Clone, Debug)]
pub(crate) struct Fit {
    pub(crate) rule: usize,
    choice: Choice,
    pub(crate) key: Key,
    pub(crate) cost: u64,
}

/// Which quotas a request is counted by.
#[derive(Clone, Debug)]
enum Choice {
    /// The rule's own.
    Own,
    /// Those of one of its overrides.
    Override(usize),
    /// Those of the terms it was checked on.
    Given(Box<Quotas>),
}

impl Fit {
    /// To be filled in.
    const BLANK: Self = Self { rule: 0, choice: Choice::Own, key: Key::EVERYBODY, cost: 0 };

    pub(crate) fn quotas<'a>(&'a self, rule: &'a Rule) -> &'a Quotas {
        match &self.choice {
            Choice::Own => &rule.quotas,
            Choice::Override(i) => rule.overrides.get(*i).map_or(&rule.quotas, |other| &other.quotas),
            Choice::Given(quotas) => quotas,
        }
    }
}

/// What a rule may be called, in words.
pub(crate) const RULE_NAME: &str =
    "a letter, then letters, digits, \"_\", \".\" or \"-\", not ending in a dot and digits";

/// Whether a rule may be called so: a name stands unescaped in headers and bodies, and `api.1` is the first quota of `api`.
pub(crate) fn is_rule_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let without_digits = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let looks_numbered = without_digits.len() < name.len() && without_digits.ends_with('.');
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.bytes().all(is_plain) && !looks_numbered
}

/// Why rules make no policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyError {
    /// More than [`MAX_RULES`].
    TooManyRules(usize),
    /// A name that headers, keys and logs could not carry.
    BadName(String),
    /// A rule in shadow that counts by status: nothing is given back to it.
    CountsInShadow(String),
    /// Two rules with one name, ignoring case.
    NameTwice(String),
    /// More than [`MAX_CHARGES`] on every request.
    TooManyCharges(usize),
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyRules(n) => write!(f, "{n} rules, expected at most {MAX_RULES}"),
            Self::BadName(name) => write!(f, "rule name {name:?}: expected {RULE_NAME}"),
            Self::CountsInShadow(name) => write!(f, "rule {name}: a rule in shadow cannot count by status"),
            Self::NameTwice(name) => write!(f, "two rules are named {name:?}, expected unique names (ignoring case)"),
            Self::TooManyCharges(n) => {
                write!(f, "every request would be charged to {n} quotas, expected at most {MAX_CHARGES}")
            }
        }
    }
}

impl std::error::Error for PolicyError {}

/// No rule of a policy is called so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownRule {
    name: String,
    known: Vec<String>,
}

impl fmt::Display for UnknownRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no rule {:?}, expected ", self.name)?;
        match self.known.is_empty() {
            true => f.write_str("a policy with rules"),
            false => write!(f, "one of: {}", self.known.join(", ")),
        }
    }
}

impl std::error::Error for UnknownRule {}
