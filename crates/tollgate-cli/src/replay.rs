//! `tollgate replay`: recorded requests against a policy, on their own clock, as fast as the engine goes.

mod report;
mod request;

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, IsTerminal as _, Read, Write},
    path::Path,
};

use anyhow::{Context as _, bail};
use tollgate::{
    algorithm::Verdict,
    clock::{Clock, ManualClock, Timestamp},
    limiter::{Answered, Limiter},
    store::memory::{DEFAULT_COUNTERS, MemoryStore},
    tally::Tally,
};

use self::{
    report::{JsonLine, Summary},
    request::Recorded,
};
use crate::{
    Failure,
    args::{Output, Replay},
    policy_file::{self, Loaded},
};

/// The longest line that is read: more than any request that a server takes.
const MAX_LINE_BYTES: u64 = 4 << 20;

pub(crate) fn run(replay: &Replay) -> Result<(), Failure> {
    let Loaded { config, warnings, source } = policy_file::config(&replay.file)?;
    for warning in &warnings {
        eprintln!("{}\n", source.show(warning));
    }
    let hand = ManualClock::default();
    // Whatever instances share, one replay sees all requests.
    let counters = config.store.counters.max(DEFAULT_COUNTERS);
    let store = MemoryStore::try_new(counters, hand.clone().into()).map_err(anyhow::Error::from)?;
    let limiter = Limiter::new(config.policy, store);
    let requests = open(&replay.requests)?;
    let name = replay.requests.display().to_string();
    let mut run =
        Run { limiter, hand, tally: Tally::default(), summary: Summary::default(), progress: Progress::start() };

    let mut output = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    match replay.output {
        Output::Json => run.all(requests, &name, |line| {
            serde_json::to_writer(&mut output, &line).map_err(io::Error::from).context("standard output")?;
            output.write_all(b"\n").context("standard output")
        })?,
        Output::Human => run.all(requests, &name, |_| Ok(()))?,
    }
    run.summary.seconds = run.progress.finish();
    match replay.output {
        Output::Json => eprint!("{}", run.summary.time_that_went_back()),
        Output::Human => {
            write!(output, "{}", run.summary.report(run.limiter.policy(), &run.tally)).context("standard output")?;
        }
    }
    output.flush().context("standard output")?;
    Ok(())
}

fn open(path: &Path) -> Result<Box<dyn BufRead>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = File::open(path).map_err(|error| Failure::Wrong(format!("error: {}: {error}", path.display())))?;
    Ok(Box::new(BufReader::with_capacity(1 << 16, file)))
}

/// A replay under way.
struct Run {
    limiter: Limiter,
    hand: ManualClock,
    tally: Tally,
    summary: Summary,
    progress: Progress,
}

impl Run {
    fn all(
        &mut self,
        mut requests: Box<dyn BufRead>,
        name: &str,
        mut show: impl FnMut(JsonLine<'_>) -> anyhow::Result<()>,
    ) -> Result<(), Failure> {
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            let read = requests.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line);
            if read.with_context(|| name.to_owned())? == 0 {
                break;
            }
            let recorded = match whole(&line) {
                Ok(line) if line.trim_ascii().is_empty() => continue,
                line => line.and_then(Recorded::read),
            };
            let recorded = recorded.map_err(|error| Failure::Wrong(format!("error: {name}:{number}: {error:#}")))?;
            self.one(&recorded, &mut show)?;
            self.progress.report(self.summary.requests);
        }
        Ok(())
    }

    fn one(
        &mut self,
        recorded: &Recorded<'_>,
        show: &mut impl FnMut(JsonLine<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.summary.went_back += u64::from(recorded.time < self.hand.now());
        self.hand.set(recorded.time);
        let decision = self.limiter.check_now(&recorded.request());
        if decision.verdict() == Verdict::Allow {
            self.limiter.settle_now(&decision, Answered::Status(recorded.status));
        }
        self.summary.add(&decision);
        self.tally.add(&decision);
        show(JsonLine { decision: &decision })
    }
}

/// A line that was not cut at the most that is read.
fn whole(line: &[u8]) -> anyhow::Result<&[u8]> {
    if u64::try_from(line.len()).is_ok_and(|length| length >= MAX_LINE_BYTES) {
        bail!("longer than {} MiB", MAX_LINE_BYTES >> 20);
    }
    Ok(line)
}

/// Tells a person at a terminal how far a long replay is.
struct Progress {
    clock: Clock,
    started: Timestamp,
    shown_at: Timestamp,
    is_terminal: bool,
}

impl Progress {
    /// How many requests pass between two looks at the clock.
    const STEP: u64 = 1 << 16;

    fn start() -> Self {
        let clock = Clock::system();
        let now = clock.now();
        Self { clock, started: now, shown_at: now, is_terminal: io::stderr().is_terminal() }
    }

    fn report(&mut self, requests: u64) {
        if !self.is_terminal || !requests.is_multiple_of(Self::STEP) {
            return;
        }
        let now = self.clock.now();
        if now.since(self.shown_at).as_secs() >= 1 {
            self.shown_at = now;
            eprint!("\r{requests} requests replayed");
        }
    }

    /// Clears what was shown, and tells how many seconds it took.
    fn finish(self) -> f64 {
        if self.shown_at > self.started {
            eprint!("\r\x1b[K");
        }
        self.clock.now().since(self.started).as_secs_f64()
    }
}
