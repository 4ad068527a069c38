//! When the next request may be sent: at a steady pace, and never while the server has asked to be left alone.

use std::{cell::RefCell, str::FromStr, time::Duration};

use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};
use tollgate::quota::Limits;

/// How far apart requests are; zero for as fast as connections become free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rate {
    interval: Duration,
}

impl FromStr for Rate {
    type Err = String;

    /// Reads `2000/minute`: a limit string of one limit.
    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected one rate above zero, such as 2000/minute or 50/second";
        let limits: Limits = text.parse().map_err(|error| format!("{error}, {EXPECTED}"))?;
        let [limit] = limits.as_slice() else { return Err(EXPECTED.to_owned()) };
        if limit.burst().is_some() {
            return Err(format!("a pace has no burst, {EXPECTED}"));
        }
        let nanos = limit.window().as_nanos().checked_div(limit.amount().into()).ok_or(EXPECTED)?;
        Ok(Self { interval: Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)) })
    }
}

/// Hands out turns to send, one after the other and in the order in which they were asked for.
pub(super) struct Pace {
    /// Whoever has it waits for the next turn; the others wait for him.
    next: Mutex<()>,
    schedule: RefCell<Schedule>,
}

impl Pace {
    pub(super) fn new(rate: Rate, start: Instant) -> Self {
        let schedule = Schedule { interval: rate.interval, due: start, held_until: start, held: Duration::ZERO };
        Self { next: Mutex::new(()), schedule: RefCell::new(schedule) }
    }

    /// Waits for a turn, and tells since when it was due.
    pub(super) async fn turn(&self) -> Instant {
        let _next = self.next.lock().await;
        loop {
            let now = Instant::now();
            let at = self.schedule.borrow().next(now);
            if at <= now {
                return self.schedule.borrow_mut().take(now);
            }
            // Meanwhile somebody's answer can put it off.
            sleep_until(at).await;
        }
    }

    /// Nobody has a turn for so long from now.
    pub(super) fn hold(&self, wait: Duration) {
        self.schedule.borrow_mut().hold(wait, Instant::now());
    }

    /// How long nobody has a turn yet.
    pub(super) fn held(&self) -> Duration {
        self.schedule.borrow().held_until.saturating_duration_since(Instant::now())
    }

    /// For how long, in all, nobody has had a turn so far.
    pub(super) fn waited(&self) -> Duration {
        self.schedule.borrow().held.saturating_sub(self.held())
    }
}

/// Turns as they come due. It stands still while the server has asked to wait: what is due then is due afterwards, as far apart
/// as ever, so that no wait ends in a rush, nor counts as the server's slowness.
struct Schedule {
    interval: Duration,
    /// When the next turn is due; in the past if connections were not free in time.
    due: Instant,
    held_until: Instant,
    /// All waits together, the present one to its end.
    held: Duration,
}

impl Schedule {
    fn next(&self, now: Instant) -> Instant {
        let due = if self.interval.is_zero() { now } else { self.due };
        due.max(self.held_until)
    }

    fn take(&mut self, now: Instant) -> Instant {
        let due = if self.interval.is_zero() { now } else { self.due };
        self.due = due + self.interval;
        due
    }

    fn hold(&mut self, wait: Duration, now: Instant) {
        let (from, until) = (self.held_until.max(now), now + wait);
        let longer = until.saturating_duration_since(from);
        self.due = self.due.max(self.due.min(from) + longer);
        self.held_until = self.held_until.max(until);
        self.held += longer;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a schedule of one turn in 10 s does, in seconds since its start.
    struct Rig(Schedule, Instant);

    impl Rig {
        fn new() -> Self {
            let start = Instant::now();
            let interval = Duration::from_secs(10);
            Self(Schedule { interval, due: start, held_until: start, held: Duration::ZERO }, start)
        }

        /// When the next turn can be had, and since when it was due.
        fn turn(&mut self, now: u64) -> (u64, u64) {
            let at = self.0.next(self.1 + Duration::from_secs(now)).max(self.1 + Duration::from_secs(now));
            let due = self.0.take(at);
            ((at - self.1).as_secs(), (due - self.1).as_secs())
        }

        fn hold(&mut self, now: u64, wait: u64) {
            self.0.hold(Duration::from_secs(wait), self.1 + Duration::from_secs(now));
        }
    }

    #[test]
    fn turns_are_due_at_a_steady_pace_however_late_they_are_taken() {
        let mut rig = Rig::new();
        assert_eq!([rig.turn(0), rig.turn(0), rig.turn(35), rig.turn(35)], [(0, 0), (10, 10), (35, 20), (35, 30)]);
        assert_eq!(rig.turn(35), (40, 40));
    }

    #[test]
    fn a_wait_puts_off_what_is_due_and_ends_in_no_rush() {
        let mut rig = Rig::new();
        rig.turn(0);
        rig.hold(1, 30);
        assert_eq!([rig.turn(1), rig.turn(31)], [(31, 31), (41, 41)]);
        // Longer still, as another answer has it; a shorter one changes nothing.
        rig.hold(42, 20);
        rig.hold(43, 30);
        rig.hold(44, 5);
        assert_eq!(rig.turn(44), (73, 73));
        assert_eq!(rig.0.held, Duration::from_secs(30 + 31));
    }

    #[test]
    fn what_was_late_before_a_wait_is_as_late_after_it_and_what_is_due_later_stays() {
        let mut rig = Rig::new();
        rig.hold(25, 30);
        assert_eq!(rig.turn(25), (55, 30));
        let mut rig = Rig::new();
        rig.turn(0);
        rig.hold(1, 2);
        assert_eq!(rig.turn(1), (10, 10));
    }

    #[test]
    fn a_rate_is_one_limit_above_zero_without_a_burst() {
        assert_eq!("2000/minute".parse(), Ok(Rate { interval: Duration::from_millis(30) }));
        assert_eq!("1/2 hours".parse(), Ok(Rate { interval: Duration::from_secs(7_200) }));
        for wrong in ["0/minute", "unlimited", "1/second; 2/minute", "5/second burst 9", "fast", ""] {
            let error = wrong.parse::<Rate>().expect_err(wrong);
            assert!(error.contains("2000/minute"), "{error}");
        }
    }
}
