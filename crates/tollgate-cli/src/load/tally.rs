//! What became of the requests so far: by outcome with their latencies, and over time.

use std::{collections::BTreeMap, time::Duration};

use http::StatusCode;
use tokio::time::Instant;

use super::{histogram::Histogram, series::Series};

/// What became of a request that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    Answered(StatusCode),
    /// No whole answer in time.
    Late,
    /// The connection ended before the answer did, or what came was no HTTP.
    BrokenOff,
    /// The server closed a connection that had idled when the request was on its way, and had not answered it.
    ClosedWhenIdle,
}

impl Outcome {
    pub(super) fn is_success(self) -> bool {
        matches!(self, Self::Answered(status) if status.is_success() || status.is_redirection())
    }

    pub(super) fn is_limited(self) -> bool {
        matches!(self, Self::Answered(StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE))
    }

    /// Whether the request is not to be sent again.
    pub(super) fn is_done(self) -> bool {
        !self.is_limited() && self != Self::ClosedWhenIdle
    }
}

/// Counts since the start.
pub(super) struct Tally {
    started: Instant,
    ended: Option<Instant>,
    pub(super) sent: u64,
    /// At most one for every status code there is, and a few more.
    pub(super) outcomes: BTreeMap<Outcome, Histogram>,
    pub(super) series: Series,
}

impl Tally {
    pub(super) fn new(started: Instant) -> Self {
        Self { started, ended: None, sent: 0, outcomes: BTreeMap::new(), series: Series::default() }
    }

    pub(super) fn sent(&mut self, now: Instant) {
        self.sent += 1;
        self.series.at(now - self.started).sent += 1;
    }

    pub(super) fn answered(&mut self, outcome: Outcome, latency: Duration, now: Instant) {
        self.outcomes.entry(outcome).or_default().add(latency);
        let slot = self.series.at(now - self.started);
        slot.succeeded += u64::from(outcome.is_success());
        slot.limited += u64::from(outcome.is_limited());
    }

    pub(super) fn end(&mut self, now: Instant) {
        self.ended = Some(now);
    }

    /// How long it has lasted.
    pub(super) fn elapsed(&self) -> Duration {
        self.ended.unwrap_or_else(Instant::now) - self.started
    }

    /// How many had an outcome of this kind.
    pub(super) fn count(&self, is_of: impl Fn(Outcome) -> bool) -> u64 {
        self.outcomes.iter().filter(|(outcome, _)| is_of(**outcome)).map(|(_, histogram)| histogram.count()).sum()
    }
}
