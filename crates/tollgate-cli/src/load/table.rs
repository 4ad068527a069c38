//! What a load ends with: a table for people, or the same as JSON.

use std::{fmt, time::Duration};

use serde_json::{Value, json};

use super::{
    histogram::Histogram,
    run::{Ending, Run},
    series::Series,
    tally::{Outcome, Tally},
};

/// A load that is over.
pub(super) struct Table<'a> {
    pub(super) url: &'a str,
    pub(super) tally: std::cell::Ref<'a, Tally>,
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) limited: u64,
    requests: u64,
    waited: Duration,
    is_interrupted: bool,
}

impl<'a> Table<'a> {
    pub(super) fn of(run: &'a Run, ending: &Ending) -> Self {
        let tally = run.tally();
        let (succeeded, done) = (tally.count(Outcome::is_success), tally.count(Outcome::is_done));
        Self {
            url: &run.target.url,
            succeeded,
            failed: done - succeeded,
            limited: tally.count(Outcome::is_limited),
            tally,
            requests: run.requests,
            waited: run.pace.waited(),
            is_interrupted: matches!(ending, Ending::Interrupted),
        }
    }

    pub(super) fn done(&self) -> u64 {
        self.succeeded + self.failed
    }

    pub(super) fn series(&self) -> &Series {
        &self.tally.series
    }

    pub(super) fn json(&self) -> Value {
        let outcomes = self.tally.outcomes.iter().map(|(outcome, latencies)| {
            let millis = |latency| seconds(latency * 1_000);
            json!({
                "outcome": name(*outcome),
                "count": latencies.count(),
                "p50_ms": millis(latencies.percentile(50)),
                "p90_ms": millis(latencies.percentile(90)),
                "p99_ms": millis(latencies.percentile(99)),
                "max_ms": millis(latencies.max()),
            })
        });
        json!({
            "url": self.url,
            "requests": self.requests,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "limited": self.limited,
            "sent": self.tally.sent,
            "seconds": seconds(self.tally.elapsed()),
            "seconds_waited": seconds(self.waited),
            "interrupted": self.is_interrupted,
            "outcomes": outcomes.collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, succeeded, failed, limited, requests, .. } = self;
        let seconds = self.tally.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = *succeeded as f64 / seconds.max(1e-6);
        writeln!(f, "{url}{}", if self.is_interrupted { ", interrupted" } else { "" })?;
        writeln!(f, "{succeeded} of {requests} succeeded, {failed} failed, {limited} limited")?;
        writeln!(f, "{} sent in {seconds:.2} s, {rate:.1} successes a second", self.tally.sent)?;
        writeln!(f, "{:.2} s spent waiting as asked", self.waited.as_secs_f64())?;
        if self.tally.outcomes.is_empty() {
            return Ok(());
        }
        writeln!(f, "\n{:<16}{:>10}{:>11}{:>11}{:>11}{:>11}", "", "count", "p50", "p90", "p99", "max")?;
        for (outcome, latencies) in &self.tally.outcomes {
            let Latencies(p50, p90, p99, max) = Latencies::of(latencies);
            let (name, count) = (name(*outcome), latencies.count());
            writeln!(f, "{name:<16}{count:>10}{p50:>11}{p90:>11}{p99:>11}{max:>11}")?;
        }
        Ok(())
    }
}

struct Latencies(String, String, String, String);

impl Latencies {
    fn of(latencies: &Histogram) -> Self {
        let shown = |percent| shown(latencies.percentile(percent));
        Self(shown(50), shown(90), shown(99), self::shown(latencies.max()))
    }
}

fn name(outcome: Outcome) -> String {
    match outcome {
        Outcome::Answered(status) => status.as_u16().to_string(),
        Outcome::Late => "not in time".to_owned(),
        Outcome::BrokenOff => "broken off".to_owned(),
        Outcome::ClosedWhenIdle => "closed when idle".to_owned(),
    }
}

/// To the microsecond.
fn seconds(span: Duration) -> f64 {
    Duration::from_micros(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)).as_secs_f64()
}

/// With three digits or so, which is what it is worth.
fn shown(latency: Duration) -> String {
    let millis = latency.as_secs_f64() * 1_000.0;
    match millis {
        ..10.0 => format!("{millis:.2} ms"),
        ..100.0 => format!("{millis:.1} ms"),
        ..1_000.0 => format!("{millis:.0} ms"),
        _ => format!("{:.2} s", millis / 1_000.0),
    }
}
