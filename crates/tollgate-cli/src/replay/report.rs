//! What a replay shows: a JSON line for every request, or a report at the end.

use std::fmt::{self, Write as _};

use serde::{Serialize, Serializer};
use tollgate::{
    algorithm::Verdict,
    clock::Timestamp,
    decision::{Counted, Decision},
    policy::{Mode, Policy},
    tally::{RuleTally, Tally},
};

/// One decision as a line of JSON.
#[derive(Debug)]
pub(super) struct JsonLine<'a> {
    pub(super) decision: &'a Decision,
}

impl Serialize for JsonLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;

        let decision = self.decision;
        let mut line = serializer.serialize_map(Some(6))?;
        line.serialize_entry("client", &decision.client().address())?;
        line.serialize_entry("allow", &(decision.verdict() == Verdict::Allow))?;
        line.serialize_entry("denied_by", &Sequence(|| decision.denied_by()))?;
        line.serialize_entry("shadow_denied_by", &Sequence(|| decision.shadow_denied_by()))?;
        line.serialize_entry("retry_after", &decision.retry_after().map(|wait| wait.as_secs_f64()))?;
        line.serialize_entry("statuses", &Sequence(|| decision.counted().map(StatusLine::from)))?;
        line.end()
    }
}

#[derive(Serialize)]
struct StatusLine<'a> {
    rule: &'a str,
    limit: u64,
    remaining: u64,
    reset_after: f64,
}

impl<'a> From<Counted<'a>> for StatusLine<'a> {
    fn from(counted: Counted<'a>) -> Self {
        let status = counted.status();
        Self {
            rule: &counted.rule.name,
            limit: status.limit,
            remaining: status.remaining,
            reset_after: status.reset_after.as_secs_f64(),
        }
    }
}

/// Serialises what an iterator gives.
struct Sequence<F>(F);

impl<F: Fn() -> I, I: Iterator<Item: Serialize>> Serialize for Sequence<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

/// The replay as a whole.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) requests: u64,
    /// Requests whose time was earlier than one before them.
    pub(super) went_back: u64,
    /// How long the replay itself took.
    pub(super) seconds: f64,
    denied: u64,
    lasted: Option<(Timestamp, Timestamp)>,
}

impl Summary {
    pub(super) fn add(&mut self, decision: &Decision) {
        self.requests += 1;
        self.denied += u64::from(decision.verdict() == Verdict::Deny);
        let first = self.lasted.map_or(decision.at(), |(first, _)| first);
        self.lasted = Some((first, decision.at()));
    }

    pub(super) fn time_that_went_back(&self) -> String {
        match self.went_back {
            0 => String::new(),
            1 => "1 request had an earlier time than one before it, and was counted at the later\n".to_owned(),
            n => format!("{n} requests had an earlier time than one before them, and were counted at the later\n"),
        }
    }

    /// The report that ends a replay.
    pub(super) fn report(&self, policy: &Policy, tally: &Tally) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut text, policy, tally);
        text
    }

    fn write(&self, text: &mut String, policy: &Policy, tally: &Tally) -> fmt::Result {
        let Self { requests, denied, .. } = self;
        let Some((first, last)) = self.lasted else {
            return writeln!(text, "no requests");
        };
        let plural = if *requests == 1 { "" } else { "s" };
        writeln!(text, "{requests} request{plural} from {} to {}", utc(first), utc(last))?;
        writeln!(text, "{denied} denied, {}", share(*denied, *requests))?;
        text.push_str(&self.time_that_went_back());
        for (index, rule) in policy.rules().iter().enumerate() {
            let what = match rule.mode {
                Mode::Enforce => "denied",
                Mode::Shadow => "would have been denied (shadow)",
            };
            let nothing = RuleTally::default();
            let tally = tally.rule(index).unwrap_or(&nothing);
            writeln!(text, "\n{}", rule.name)?;
            writeln!(text, "  {} seen, {} {what}, {}", tally.seen, tally.denied, share(tally.denied, tally.seen))?;
            write_denials(text, tally)?;
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = *requests as f64 / self.seconds.max(1e-6);
        writeln!(text, "\nreplayed in {:.2} s, {rate:.0} requests a second", self.seconds)
    }
}

fn write_denials(text: &mut String, tally: &RuleTally) -> fmt::Result {
    const SHOWN: usize = 5;
    let Some((first, last)) = tally.when else { return Ok(()) };
    writeln!(text, "  first {}, last {}", utc(first), utc(last))?;
    for (key, denied) in tally.most_denied.most().into_iter().take(SHOWN) {
        writeln!(text, "  {denied:>9} {key}")?;
    }
    Ok(())
}

fn share(part: u64, whole: u64) -> String {
    let thousandths = (u128::from(part) * 1_000).checked_div(u128::from(whole)).unwrap_or(0);
    format!("{}.{} %", thousandths / 10, thousandths % 10)
}

fn utc(time: Timestamp) -> String {
    let seconds = i64::try_from(time.as_micros() / 1_000_000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| "a time out of range".to_owned(), |time| time.to_string())
}
