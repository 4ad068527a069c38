//! What the application's own code says of a request, in place of what the rules would.

use crate::{
    key::Key,
    policy::{Quotas, Rule},
    quota::{Limits, QuotaError},
};

/// What an application's own code says of a request, in place of what the rules would: closures over a framework's request
/// come down to this. What it leaves out is left to the rules.
///
/// ```
/// use tollgate::{limiter::Limiter, policy::{Rule, Terms}, quota::Limits, request::Request};
///
/// let limiter = Limiter::of([Rule::new("api", &"2/day".parse()?, None)?])?;
/// let premium = Terms { limits: Some(Limits::per_day(1_000)), ..Terms::default() };
/// let decision = limiter.check_on_terms_now(&Request::default(), &premium);
/// assert_eq!(decision.shown().map(|counted| counted.status().remaining), Some(999));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// What every rule counts the request by.
    pub key: KeyTerm,
    /// What it costs; at 0 it passes always and takes nothing.
    pub cost: Option<u64>,
    /// How much may pass, of each rule that fits, counted by its algorithm; one without bursts drops them, and a `sliding-log`
    /// that would remember too much is left as the rule has it. Limits of the same windows share the counter of the rule's
    /// own, so that who is given another amount keeps what he has used: unless one amount fits the memory store's table and
    /// the other does not (1,073,741,823, or 32,767 in a `sliding-window`).
    pub limits: Option<Limits>,
}

/// What a request is counted by, in place of what a rule says.
#[derive(Clone, Debug, Default)]
pub enum KeyTerm {
    /// What the rule says.
    #[default]
    Rule,
    /// This.
    Key(Key),
    /// What the rule says, apart from all keys that others are given: the request lacks one.
    Missing,
}

impl Terms {
    /// The quotas for a rule that fits, counted as its own are.
    pub(super) fn quotas_of(&self, rule: &Rule) -> Option<Quotas> {
        let counted = |limits: &Limits| {
            let quotas = Quotas::new(&rule.name, limits, Some(rule.quotas.algorithm()))?;
            Ok(quotas.shared(rule.sharing))
        };
        match counted(self.limits.as_ref()?) {
            Err(QuotaError::BurstWithoutBucket { .. }) => counted(&self.limits.clone()?.without_bursts()).ok(),
            quotas => quotas.ok(),
        }
    }

    /// Writes the key that a rule counts by which would write `of_rule` itself.
    pub(super) fn write_key(&self, key: &mut Key, of_rule: impl FnOnce(&mut Key)) {
        match &self.key {
            KeyTerm::Rule => of_rule(key),
            KeyTerm::Key(given) => *key = given.clone(),
            KeyTerm::Missing => {
                key.begin_missing();
                of_rule(key);
            }
        }
    }
}
