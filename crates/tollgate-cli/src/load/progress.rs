//! How far the load is, on standard error: a line that changes at a terminal, otherwise one now and then.

use std::{
    convert::Infallible,
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use tokio::time::{Instant, interval_at};

use super::{run::Run, tally::Outcome};

/// Tells it for ever, until nobody asks any more.
pub(super) async fn tell(run: &Run) -> Infallible {
    let is_terminal = io::stderr().is_terminal();
    let every = if is_terminal { AT_A_TERMINAL } else { ELSEWHERE };
    let mut ticks = interval_at(Instant::now() + every, every);
    let _cleared = Cleared { is_terminal };
    loop {
        ticks.tick().await;
        let line = line(run);
        // Whoever has closed standard error does not want to know.
        let _ = match is_terminal {
            true => write!(io::stderr(), "\r\x1b[K{line}"),
            false => writeln!(io::stderr(), "{line}"),
        };
    }
}

fn line(run: &Run) -> String {
    let tally = run.tally();
    let (elapsed, held) = (tally.elapsed(), run.pace.held());
    let (done, limited) = (tally.count(Outcome::is_done), tally.count(Outcome::is_limited));
    let mut line = format!("{done} of {} done, {limited} limited", run.requests);
    if done > 0 {
        #[expect(clippy::cast_precision_loss, reason = "an estimate for people")]
        let (done, left) = (done as f64, run.requests.saturating_sub(done) as f64);
        let seconds = elapsed.as_secs_f64();
        line += &format!(", {:.1} a second, about {:.0} s left", done / seconds, left * seconds / done);
    }
    if !held.is_zero() {
        line += &format!(", waiting {} s as asked", held.as_secs_f64().ceil());
    }
    line
}

/// Leaves an empty line for what comes next.
struct Cleared {
    is_terminal: bool,
}

impl Drop for Cleared {
    fn drop(&mut self) {
        if self.is_terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

const AT_A_TERMINAL: Duration = Duration::from_millis(250);
const ELSEWHERE: Duration = Duration::from_secs(10);
