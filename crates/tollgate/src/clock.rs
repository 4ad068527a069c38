//! The only reader of time, and the manual clock that tests run on.
//!
//! Everything else takes a [`Timestamp`] as an argument or asks a [`Clock`] once per request. A clock never goes back:
//! the system clock is the wall clock at start plus monotonic time, so that stepping the machine's clock neither pardons
//! nor punishes anybody.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

/// An instant in whole microseconds since the Unix epoch; arithmetic saturates.
///
/// ```
/// use std::time::Duration;
/// use tollgate::clock::Timestamp;
///
/// let noon = Timestamp::from_micros(1_700_000_000_000_000);
/// assert_eq!((noon + Duration::from_secs(2)).since(noon), Duration::from_secs(2));
/// assert_eq!(noon.since(noon + Duration::from_secs(2)), Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The instant `micros` microseconds after the Unix epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded up, as `X-RateLimit-Reset` wants them.
    pub const fn as_secs_rounded_up(self) -> u64 {
        self.0.div_ceil(1_000_000)
    }

    /// How long after `earlier` this is; zero if it is not.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(micros(span)))
    }
}

/// A span in whole microseconds; one too long for that is as good as for ever.
pub(crate) fn micros(span: Duration) -> u64 {
    span.as_secs().saturating_mul(1_000_000).saturating_add(span.subsec_micros().into())
}

/// Where a store reads the time: the system's clock, or one that a test or a replay turns by hand.
///
/// ```
/// use std::time::Duration;
/// use tollgate::clock::{Clock, ManualClock, Timestamp};
///
/// let hand = ManualClock::new(Timestamp::from_micros(0));
/// let clock = Clock::from(hand.clone());
/// hand.advance(Duration::from_secs(60));
/// assert_eq!(clock.now(), Timestamp::from_micros(60_000_000));
/// ```
#[derive(Clone, Debug)]
pub enum Clock {
    /// The wall clock as it was when this clock was made, plus monotonic time.
    System(SystemClock),
    /// A clock that stands still until it is turned.
    Manual(ManualClock),
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::System(SystemClock::start())
    }

    /// The time now, never earlier than it was.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System(clock) => clock.now(),
            Self::Manual(clock) => clock.now(),
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl From<ManualClock> for Clock {
    fn from(clock: ManualClock) -> Self {
        Self::Manual(clock)
    }
}

/// Wall-clock time that cannot be stepped back once the process runs.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    started: Instant,
    started_at: Timestamp,
}

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads time")]
    fn start() -> Self {
        // A machine whose clock stands before 1970 gets the epoch: only differences and calendar windows depend on it.
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_at: Timestamp(micros(since_epoch)) }
    }

    fn now(&self) -> Timestamp {
        self.started_at + self.started.elapsed()
    }
}

/// A clock for tests and replays: it stands still until somebody turns it, and never turns back.
///
/// Clones share the same hands.
#[derive(Clone, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock that shows `at`.
    pub fn new(at: Timestamp) -> Self {
        Self(Arc::new(AtomicU64::new(at.0)))
    }

    /// Turns the clock forward by `span`.
    pub fn advance(&self, span: Duration) {
        self.set(self.now() + span);
    }

    /// Turns the clock forward to `at`. An earlier time changes nothing.
    pub fn set(&self, at: Timestamp) {
        self.0.fetch_max(at.0, Ordering::AcqRel);
    }

    /// The time it shows.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Acquire))
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ManualClock").field(&self.now()).finish()
    }
}
