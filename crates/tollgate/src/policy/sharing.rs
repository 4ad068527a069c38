//! Where a rule counts when instances share a store, and what holds while that cannot answer.

use std::num::NonZeroU64;

/// Where a rule counts when instances share a store, and what holds while that cannot answer. Without a shared store, all rules
/// count in memory and this says nothing.
///
/// ```
/// use tollgate::policy::{OnStoreError, Rule, Sharing};
///
/// let mut rule = Rule::of("api", "1000/hour")?;
/// rule.sharing = Sharing { on_store_error: OnStoreError::Allow, ..Sharing::default() };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sharing {
    /// Where its counters are.
    pub place: Place,
    /// What holds while the shared store cannot answer.
    pub on_store_error: OnStoreError,
    /// How much of a window's quota an instance takes in one trip, to spend it by itself: for `fixed-window` and
    /// `calendar-window`, in others it says nothing. What is not spent lapses with the window.
    pub lease: Option<NonZeroU64>,
}

/// Where the counters of a rule are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// In the store that instances share, if they do.
    #[default]
    Shared,
    /// In the memory of each instance.
    Memory,
}

impl Place {
    /// Its name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Memory => "memory",
        }
    }
}

/// What holds for a rule while the store that instances share cannot answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStoreError {
    /// The same rule, counted in the memory of each instance: at most one more quota per instance and window.
    #[default]
    Local,
    /// The rule is left out.
    Allow,
    /// Requests that it concerns are denied, and told that this is not their doing.
    Deny,
}

impl OnStoreError {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Local, Self::Allow, Self::Deny];

    /// Its name in a policy file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}
