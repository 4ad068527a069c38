//! What the application's own code says of a request, in place of what the rules would.

use crate::{
    key::Key,
    policy::{Quotas, Rule},
    quota::Limits,
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
    pub key: Option<Key>,
    /// What it costs; 0 asks and takes nothing.
    pub cost: Option<u64>,
    /// How much may pass, of each rule that fits. Limits of the same windows share the counter of the rule's own, so that who
    /// is given another amount keeps what he has used. A `sliding-log` that would remember too much is left as the rule has it.
    pub limits: Option<Limits>,
}

impl Terms {
    /// The quotas for a rule that fits, counted as its own are, or by the algorithm that the limits imply.
    pub(super) fn quotas_of(&self, rule: &Rule) -> Option<Quotas> {
        let limits = self.limits.as_ref()?;
        let counted = |algorithm| Quotas::new(&rule.name, limits, algorithm).ok();
        counted(Some(rule.quotas.algorithm())).or_else(|| counted(None))
    }
}
