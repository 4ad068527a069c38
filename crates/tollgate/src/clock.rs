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

use portable_atomic::AtomicU128;

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

    const fn after_micros(self, micros: u64) -> Self {
        Self(self.0.saturating_add(micros))
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

    /// The time now: never earlier than it was for the same thread, and for all of them to within a few microseconds.
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
///
/// Asking the system takes a third of a decision. So between two questions, which are 10 ms apart at most, it counts the
/// processor's ticks (where these come evenly, as [`quanta`] finds out), a thousandth slower than they come: it lags behind by
/// 60 µs at most, and never has to go back.
#[derive(Clone, Debug)]
pub struct SystemClock(Arc<Ticking>);

#[derive(Debug)]
struct Ticking {
    ticks: quanta::Clock,
    rate: Rate,
    started: Instant,
    started_at: Timestamp,
    /// The last answer of the system: the ticks then in the upper half, and the microseconds since the epoch.
    anchor: AtomicU128,
}

/// How long ticks are counted before the system is asked again.
const MAX_COUNTED: Duration = Duration::from_millis(10);
/// An answer that was longer on its way, because the thread was interrupted, is asked for again.
const MAX_ANSWER: Duration = Duration::from_micros(50);
/// So often.
const MAX_PATIENCE: u32 = 3;

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads time")]
    fn start() -> Self {
        // A machine whose clock stands before 1970 gets the epoch: only differences and calendar windows depend on it.
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let started_at = Timestamp(micros(since_epoch));
        let ticks = quanta::Clock::new();
        let rate = Rate::of(&ticks);
        let anchor = AtomicU128::new(anchor(ticks.raw(), started_at));
        Self(Arc::new(Ticking { ticks, rate, started: Instant::now(), started_at, anchor }))
    }

    #[inline]
    fn now(&self) -> Timestamp {
        let mut questions = 0;
        loop {
            let known = self.0.anchor.load(Ordering::Acquire);
            let (then, at) = split(known);
            let counted = self.0.ticks.raw().saturating_sub(then);
            if counted < self.0.rate.max_counted {
                return at.after_micros(self.0.rate.micros(counted));
            }
            self.ask(known, questions);
            questions += 1;
        }
    }

    #[cold]
    fn ask(&self, known: u128, questions: u32) {
        let rate = &self.0.rate;
        let before = self.0.ticks.raw();
        let answer = self.0.started_at + self.0.started.elapsed();
        let ticks = self.0.ticks.raw();
        if rate.micros(ticks.saturating_sub(before)) > micros(MAX_ANSWER) && questions < MAX_PATIENCE {
            return;
        }
        let (then, at) = split(known);
        // Nobody has counted on from the last anchor to more than this.
        let counted = ticks.saturating_sub(then).min(rate.max_counted);
        let now = answer.max(at.after_micros(rate.micros(counted)));
        // If somebody else has asked meanwhile, his answer holds for everybody.
        let _ = self.0.anchor.compare_exchange(known, anchor(ticks, now), Ordering::AcqRel, Ordering::Relaxed);
    }
}

/// How ticks are counted: all that there is to work out, so that reading the clock is one multiplication.
#[derive(Clone, Copy, Debug)]
struct Rate {
    /// Microseconds a tick in 2⁶⁴ths, a thousandth too few.
    micros: u64,
    /// Ticks in [`MAX_COUNTED`].
    max_counted: u64,
}

impl Rate {
    fn of(ticks: &quanta::Clock) -> Self {
        const MANY_BITS: u32 = 40;
        let nanos_of_many = u128::from(ticks.delta_as_nanos(0, 1 << MANY_BITS)).max(1);
        let micros = (nanos_of_many << (u64::BITS - MANY_BITS)) / 1_000;
        let max_counted = (MAX_COUNTED.as_nanos() << MANY_BITS) / nanos_of_many;
        // No tick is as long as a microsecond, or comes more often than 2⁶⁴ times in 10 ms.
        let narrow = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
        Self { micros: narrow(micros - (micros >> 10)), max_counted: narrow(max_counted) }
    }

    fn micros(self, ticks: u64) -> u64 {
        // The upper half of the product.
        (u128::from(ticks).wrapping_mul(self.micros.into()) >> 64) as u64
    }
}

fn anchor(ticks: u64, at: Timestamp) -> u128 {
    u128::from(ticks) << 64 | u128::from(at.0)
}

fn split(anchor: u128) -> (u64, Timestamp) {
    // Both are halves.
    let half = |half: u128| u64::try_from(half & u128::from(u64::MAX)).unwrap_or_default();
    (half(anchor >> 64), Timestamp(half(anchor)))
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

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn ticks_are_counted_a_thousandth_slower_than_they_come() {
        let ticks = quanta::Clock::new();
        let rate = Rate::of(&ticks);
        for counted in [1_000_000, rate.max_counted / 2, rate.max_counted] {
            let micros = ticks.delta_as_nanos(0, counted) / 1_000;
            let slowed = micros - micros.div_ceil(1_024);
            assert!(rate.micros(counted).abs_diff(slowed) <= 2, "{counted} ticks: {rate:?}, {micros} us");
        }
        let longest = ticks.delta_as_nanos(0, rate.max_counted);
        assert!(u128::from(longest).abs_diff(MAX_COUNTED.as_nanos()) < 10_000, "{longest} ns");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "it is held against what the system says")]
    fn the_systems_clock_never_goes_back_and_keeps_to_the_system() {
        let clock = SystemClock::start();
        let (start, at_start) = (Instant::now(), clock.now());
        // Far less in truth, but for threads that are interrupted at the wrong moment again and again.
        let tolerance = Duration::from_millis(5);
        let watch = || {
            let mut latest = at_start;
            // Long enough to ask the system several times.
            while start.elapsed() < Duration::from_millis(100) {
                let earliest = at_start + start.elapsed();
                let now = clock.now();
                assert!(now >= latest, "{now:?} after {latest:?}");
                assert!(now + tolerance >= earliest, "{now:?} lags behind {earliest:?}");
                let last = at_start + start.elapsed() + tolerance;
                assert!(now <= last, "{now:?} is ahead of {last:?}");
                latest = now;
            }
        };
        thread::scope(|scope| (0..4).for_each(|_| _ = scope.spawn(watch)));
    }
}
