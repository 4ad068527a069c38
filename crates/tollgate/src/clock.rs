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
/// 60 µs at most, and never has to go back. Should ticks ever leap, as when a virtual machine is moved, it counts no more of them.
#[derive(Clone, Debug)]
pub struct SystemClock(Arc<Ticking>);

#[derive(Debug)]
struct Ticking {
    ticks: quanta::Clock,
    rate: Rate,
    started: Instant,
    started_at: Timestamp,
    /// How many ticks there were when the system was last asked; [`NEVER`] once they have leapt.
    asked_at: AtomicU64,
    /// Microseconds that the time is ahead of all ticks counted. They only grow, so that nobody sees the clock go back.
    ahead: AtomicU64,
    /// The latest time that anybody can have been told before the ticks leapt.
    told: AtomicU64,
}

/// More ticks than there ever are, and too far from none as well for those to be counted that begin anew.
const NEVER: u64 = 1 << 63;
/// How long ticks are counted before the system is asked again.
const MAX_COUNTED: Duration = Duration::from_millis(10);
/// An answer that was longer on its way, because the thread was interrupted, tells the time but nothing of ticks.
const MAX_ANSWER: Duration = Duration::from_micros(50);
/// Ticks that get ahead of the system by more have leapt.
const MAX_LEAD: Duration = Duration::from_millis(20);

impl SystemClock {
    fn start() -> Self {
        Self::counting(quanta::Clock::new())
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads time")]
    fn counting(ticks: quanta::Clock) -> Self {
        let (rate, asked_at) = (Rate::of(&ticks), ticks.raw());
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // A machine whose clock was never set gets a later time: only differences and calendar windows depend on it.
        let started_at = Timestamp(micros(since_epoch).max(rate.micros(asked_at)));
        Self(Arc::new(Ticking {
            ticks,
            rate,
            started: Instant::now(),
            started_at,
            asked_at: AtomicU64::new(asked_at),
            ahead: AtomicU64::new(started_at.0.saturating_sub(rate.micros(asked_at))),
            told: AtomicU64::new(0),
        }))
    }

    #[inline]
    fn now(&self) -> Timestamp {
        let ticks = self.0.ticks.raw();
        // There can be fewer than when it was asked, on another core: then it is asked again.
        if ticks.wrapping_sub(self.0.asked_at.load(Ordering::Acquire)) >= self.0.rate.max_counted {
            return self.ask();
        }
        self.at(ticks)
    }

    /// The time when there are so many ticks.
    #[inline]
    fn at(&self, ticks: u64) -> Timestamp {
        Timestamp(self.0.rate.micros(ticks).saturating_add(self.0.ahead.load(Ordering::Acquire)))
    }

    #[cold]
    fn ask(&self) -> Timestamp {
        let Ticking { ticks, started, started_at, asked_at, .. } = &*self.0;
        let last = asked_at.load(Ordering::Acquire);
        let before = ticks.raw();
        let answer = *started_at + started.elapsed();
        self.hear(last, before, answer, ticks.raw())
    }

    /// Takes note of an answer of the system that came between so many ticks and so many, and tells the time.
    fn hear(&self, last: u64, before: u64, answer: Timestamp, after: u64) -> Timestamp {
        let Ticking { rate, asked_at, ahead, told, .. } = &*self.0;
        // Of a thread that was interrupted behind the answer, only the ticks before it are none too many.
        let have_leapt = || self.at(before).since(answer) > MAX_LEAD || last.saturating_sub(after) > rate.max_counted;
        if last == NEVER || have_leapt() {
            if last != NEVER {
                told.fetch_max(self.at(last.saturating_add(rate.max_counted)).0, Ordering::AcqRel);
                asked_at.store(NEVER, Ordering::Release);
            }
            return answer.max(Timestamp(told.load(Ordering::Acquire)));
        }
        // Also of an answer that was long on its way: whoever is told it now is told no less later.
        ahead.fetch_max(answer.0.saturating_sub(rate.micros(after)), Ordering::AcqRel);
        if rate.micros(after.saturating_sub(before)) > micros(MAX_ANSWER) {
            return answer.max(self.at(before));
        }
        // Whoever counts from here knows that. If somebody else has asked meanwhile, they count from there.
        let _ = asked_at.compare_exchange(last, after, Ordering::AcqRel, Ordering::Relaxed);
        self.at(after)
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
    fn ticks_that_leap_are_counted_no_more() {
        const HOUR: u64 = 3_600_000_000_000;
        let leaps: [fn(&quanta::Mock); 3] = [
            |ticks| ticks.increment(HOUR),
            |ticks| ticks.decrement(HOUR),
            |ticks| ticks.decrement(2 * HOUR + 5_000_000),
        ];
        for leap in leaps {
            let (ticks, hand) = quanta::Clock::mock();
            hand.increment(2 * HOUR);
            let clock = SystemClock::counting(ticks);
            let (start, at_start) = (Instant::now(), clock.now());
            let mut latest = at_start;
            let mut keeps_time = || {
                let now = clock.now();
                assert!(now >= latest, "{now:?} after {latest:?}");
                let (first, last) = (at_start, at_start + start.elapsed() + MAX_LEAD + 2 * MAX_COUNTED);
                assert!(first <= now && now <= last, "{now:?} is not from {first:?} to {last:?}");
                latest = now;
            };
            hand.increment(5_000_000);
            keeps_time();
            leap(&hand);
            keeps_time();
            keeps_time();
            // As many as there were, and so on from there.
            for _ in 0..100 {
                hand.increment(HOUR / 50);
                keeps_time();
            }
        }
    }

    #[test]
    fn whoever_is_interrupted_behind_an_answer_takes_the_ticks_since_then_for_no_leap() {
        let (ticks, hand) = quanta::Clock::mock();
        let clock = SystemClock::counting(ticks);
        let (start, at_start) = (clock.0.asked_at.load(Ordering::Acquire), clock.now());
        let of_millis = |millis: u64| start + 1_000_000 * millis;
        let answer = at_start + Duration::from_millis(20);
        assert_eq!(clock.hear(start, of_millis(20), answer, of_millis(120)), answer);
        // Had they leapt, it would be the system's time, which is still that of the start.
        hand.increment(of_millis(120) - start);
        assert_eq!(
            clock.hear(start, of_millis(120), at_start + Duration::from_millis(120), of_millis(120)),
            clock.now()
        );
        hand.increment(5_000_000);
        assert!(clock.now() >= at_start + Duration::from_millis(124));
    }

    #[test]
    fn an_answer_that_was_long_on_its_way_is_not_taken_back_by_an_earlier_one() {
        let (ticks, hand) = quanta::Clock::mock();
        let clock = SystemClock::counting(ticks);
        let (start, at_start) = (clock.0.asked_at.load(Ordering::Acquire), clock.now());
        let begun = start + 20_000_000;
        let answer_after = |micros: u64| at_start + Duration::from_micros(20_000 + micros);
        let told = clock.hear(start, begun, answer_after(60), begun + 60_000);
        assert_eq!(told, answer_after(60));
        // Another thread asked before that, and hears it at the same time.
        clock.hear(start, begun + 15_000, answer_after(15), begun + 60_000);
        hand.increment(begun + 60_000 - start);
        assert!(clock.now() >= told, "{:?} after {told:?}", clock.now());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "it is held against what the system says")]
    fn the_systems_clock_never_goes_back_and_keeps_to_the_system() {
        let clock = SystemClock::start();
        // This thread can be held up between any two of them.
        let (before, at_start, after) = (Instant::now(), clock.now(), Instant::now());
        // Far less in truth, but for threads that are interrupted at the wrong moment again and again.
        let tolerance = Duration::from_millis(5);
        let watch = || {
            let mut latest = at_start;
            // Long enough to ask the system several times.
            while after.elapsed() < Duration::from_millis(100) {
                let earliest = at_start + after.elapsed();
                let now = clock.now();
                assert!(now >= latest, "{now:?} after {latest:?}");
                assert!(now + tolerance >= earliest, "{now:?} lags behind {earliest:?}");
                let last = at_start + before.elapsed() + tolerance;
                assert!(now <= last, "{now:?} is ahead of {last:?}");
                latest = now;
            }
        };
        thread::scope(|scope| (0..4).for_each(|_| _ = scope.spawn(watch)));
    }
}
