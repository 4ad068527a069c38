//! Waiting for what other processes do, with an end.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Between two questions. A question costs a server some microseconds, and nobody notices 5 ms.
const PAUSE: Duration = Duration::from_millis(5);

/// Asks until there is an answer, and returns it.
///
/// # Panics
///
/// When there is none within `limit`. The message says that it waited for `what`.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "other processes live in the system's time")]
pub fn wait_for<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} in vain for {what}");
        thread::sleep(PAUSE);
    }
}
