//! Why an allowed request got no answer from the upstream: what the client is told, and what the log says, seldom
//! enough that a dead upstream does not fill it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::StatusCode;
use tokio::time::Instant;
use tollgate::config::Upstream;
use tracing::warn;

/// Why there is no answer from the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    Unresolved,
    Refused,
    Unreachable,
    ConnectTimeout,
    ClosedBeforeAnswer,
    Nonsense,
    UnaskedUpgrade,
    FirstByteTimeout,
    /// Not the upstream's fault: it waits for the rest of the request, and so do we.
    RequestStalled,
    /// Not the upstream's fault: the rest of the request is malformed, or the client is gone.
    RequestBroken,
    /// After the answer had begun, so that nobody can be told any more.
    BrokenOff,
}

impl Failure {
    const ALL: [Self; REASONS] = [
        Self::Unresolved,
        Self::Refused,
        Self::Unreachable,
        Self::ConnectTimeout,
        Self::ClosedBeforeAnswer,
        Self::Nonsense,
        Self::UnaskedUpgrade,
        Self::FirstByteTimeout,
        Self::RequestStalled,
        Self::RequestBroken,
        Self::BrokenOff,
    ];

    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::ConnectTimeout | Self::FirstByteTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::RequestStalled => StatusCode::REQUEST_TIMEOUT,
            Self::RequestBroken => StatusCode::BAD_REQUEST,
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    /// Says why without naming addresses, for these are nobody's business but the operator's.
    pub(crate) fn detail(self) -> &'static str {
        match self {
            Self::Unresolved => "the upstream's name could not be resolved",
            Self::Refused => "the upstream refused the connection",
            Self::Unreachable => "the upstream could not be reached",
            Self::ConnectTimeout => "the upstream did not accept the connection in time",
            Self::ClosedBeforeAnswer => "the upstream closed the connection before it answered",
            Self::Nonsense => "the upstream's answer is not valid HTTP",
            Self::UnaskedUpgrade => "the upstream switched to a protocol nobody asked for",
            Self::FirstByteTimeout => "the upstream did not answer in time",
            Self::RequestStalled => "the rest of the request did not arrive in time",
            Self::RequestBroken => "the rest of the request could not be read",
            Self::BrokenOff => "the upstream broke off in the middle of its answer",
        }
    }

    /// Whether the client itself is the reason, and its connection of no more use.
    pub(crate) fn is_the_clients(self) -> bool {
        matches!(self, Self::RequestStalled | Self::RequestBroken)
    }
}

/// The failures of one upstream: the first of a kind is logged at once, how many followed with the next report.
pub(crate) struct Complaints(Mutex<[Seldom; REASONS]>);

impl Complaints {
    pub(crate) fn about(&self, upstream: &Upstream, failure: Failure) {
        if failure.is_the_clients() {
            return;
        }
        let ripe = self.by_reason()[failure as usize].ripe();
        if let Some(times) = ripe {
            complain(upstream, failure, times);
        }
    }

    /// What has not been told yet.
    pub(crate) fn tell_the_rest(&self, upstream: &Upstream) {
        for failure in Failure::ALL {
            let untold = std::mem::take(&mut self.by_reason()[failure as usize].times);
            if untold > 0 {
                complain(upstream, failure, untold);
            }
        }
    }

    fn by_reason(&self) -> MutexGuard<'_, [Seldom; REASONS]> {
        // Nothing under this lock can panic halfway through a change, so what a poisoned lock guards is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn complain(upstream: &Upstream, failure: Failure, times: u64) {
    let reason = failure.detail();
    let often = if times == 1 { String::new() } else { format!(", {times} times") };
    warn!(%upstream, reason, times, "{upstream}: {reason}{often}");
}

impl Default for Complaints {
    fn default() -> Self {
        Self(Mutex::new(std::array::from_fn(|_| Seldom::every(COMPLAINED_EVERY))))
    }
}

/// Something worth a line now and then, with how often it happened since the last one.
pub(crate) struct Seldom {
    every: Duration,
    last: Option<Instant>,
    times: u64,
}

impl Seldom {
    pub(crate) fn every(every: Duration) -> Self {
        Self { every, last: None, times: 0 }
    }

    /// Counts one more, and gives the count if it is time for a line.
    pub(crate) fn ripe(&mut self) -> Option<u64> {
        self.times += 1;
        let now = Instant::now();
        if self.last.is_some_and(|last| now - last < self.every) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.times))
    }
}

const REASONS: usize = Failure::BrokenOff as usize + 1;
/// Longer than a report is away, so that what follows the first is told with it.
const COMPLAINED_EVERY: Duration = Duration::from_secs(120);
