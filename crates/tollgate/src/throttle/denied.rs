//! Why an action was not run, or came to nothing.

use std::{fmt, time::Duration};

use crate::{algorithm::Status, clock::Timestamp, headers::whole_seconds};

/// Why an action was not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    pub(super) rule: String,
    /// None: its store could not answer.
    pub(super) limit: Option<String>,
    pub(super) status: Status,
    pub(super) retry_after: Option<Duration>,
}

impl Denied {
    /// Time until it could run, if nobody else does; none if it never can.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The same in whole seconds, rounded up and at least 1.
    pub fn retry_after_secs(&self) -> Option<u64> {
        self.retry_after.map(whole_seconds)
    }

    /// How the key stands.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Whether it was not run since the store that instances share could not answer: not for what anybody did.
    pub fn is_unavailable(&self) -> bool {
        self.limit.is_none()
    }

    /// How long to sleep before the next try, if that comes before the deadline.
    pub(super) fn sleep(self, now: Timestamp, deadline: Timestamp) -> Result<Duration, Self> {
        self.retry_after.filter(|span| now + *span <= deadline).ok_or(self)
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, limit, retry_after, .. } = self;
        match limit {
            Some(limit) => write!(f, "{rule} allows {limit}")?,
            None => write!(f, "{rule} cannot be checked at the moment")?,
        }
        match retry_after {
            Some(wait) => write!(f, ", try again in {} s", whole_seconds(*wait)),
            None => f.write_str(", which this action can never meet"),
        }
    }
}

impl std::error::Error for Denied {}

/// Why an action that can fail came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptError<E> {
    /// It was not run.
    Denied(Denied),
    /// It was run, and failed so.
    Failed(E),
}

impl<E> From<Denied> for AttemptError<E> {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl<E: fmt::Display> fmt::Display for AttemptError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(denied) => denied.fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for AttemptError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Denied(denied) => denied.source(),
            Self::Failed(error) => error.source(),
        }
    }
}
