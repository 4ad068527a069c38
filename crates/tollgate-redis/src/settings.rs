//! Where the store is, and how long a decision waits for it.

use std::time::Duration;

use tollgate::clock::Clock;

use crate::url::{StoreUrl, TimeSource};

/// Where the store is, and how long a decision waits for it.
///
/// ```
/// use std::time::Duration;
/// use tollgate_redis::Settings;
///
/// let settings = Settings::at("redis://127.0.0.1:6379".parse()?).timeout(Duration::from_millis(50));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Settings {
    pub(crate) url: StoreUrl,
    pub(crate) timeout: Duration,
    pub(crate) ca: Option<String>,
    /// None: by the time of the server.
    pub(crate) clock: Option<Clock>,
}

impl Settings {
    /// A store at this address, for which a decision waits 100 ms.
    pub fn at(url: StoreUrl) -> Self {
        let clock = match url.clock {
            TimeSource::Server => None,
            TimeSource::Client => Some(Clock::system()),
        };
        Self { url, timeout: Duration::from_millis(100), ca: None, clock }
    }

    /// How long a decision waits at most.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The certificates, as PEM, by which servers are believed in place of the system's.
    #[must_use]
    pub fn ca(self, pem: String) -> Self {
        Self { ca: Some(pem), ..self }
    }

    /// Counts by this clock in place of the server's. All instances have to have the same time, and whoever is ahead counts for
    /// everybody. Keys are then kept for an hour longer than they count.
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock: Some(clock), ..self }
    }
}
