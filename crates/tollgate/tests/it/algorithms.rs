//! Every algorithm gives its model's answers, to the microsecond, over any quota, cost and time.

use std::time::Duration;

use proptest::prelude::*;
use tollgate::{
    algorithm::{State, Verdict, charge, give_back, look},
    clock::Timestamp,
    quota::{Algorithm, Limits, Quota},
    testing::model::Model,
};

use crate::rig::quota;

/// One thing that happens to a counter.
#[derive(Clone, Debug)]
enum Step {
    /// Waiting this many microseconds.
    Wait(u64),
    /// Waiting a window, or a share of it, give or take.
    WaitWindow { halves: u8, off: i8 },
    /// Waiting until what was denied last could pass, give or take.
    WaitAsTold { off: i8 },
    /// A charge of this cost by one of the quotas.
    Charge { cost: u64, other_quota: bool },
    /// A charge of a part of the amount, in sixteenths.
    ChargeShare { sixteenths: u8 },
    /// Giving back the charge that was taken so many charges ago.
    GiveBack { ago: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let off = prop_oneof![Just(-1_i8), Just(0), Just(1)];
    let century = 3_153_600_000_000_000_u64;
    let span = prop_oneof![0..50_u64, 0..20_000_u64, 0..5_000_000_u64, 0..100_000_000_000_u64, 0..2 * century];
    prop_oneof![
        2 => span.prop_map(Step::Wait),
        3 => (0..5_u8, off.clone()).prop_map(|(halves, off)| Step::WaitWindow { halves, off }),
        2 => off.prop_map(|off| Step::WaitAsTold { off }),
        6 => (0..6_u64, prop::bool::weighted(0.2)).prop_map(|(cost, other_quota)| Step::Charge { cost, other_quota }),
        4 => (0..18_u8).prop_map(|sixteenths| Step::ChargeShare { sixteenths }),
        2 => (0..4_usize).prop_map(|ago| Step::GiveBack { ago }),
    ]
}

/// Two quotas that one counter can have in turn: one window, two amounts.
fn quotas(algorithm: Algorithm) -> impl Strategy<Value = (Quota, Quota)> {
    let window = prop_oneof![
        Just("1 ms".to_owned()),
        Just("13 ms".to_owned()),
        (1..5_000_u64).prop_map(|n| format!("{n} ms")),
        (1..100_u64).prop_map(|n| format!("{n} minutes")),
        (1..40_u64).prop_map(|n| format!("{n} days")),
        (1..10_u64).prop_map(|n| format!("{n} weeks")),
        (1..30_u64).prop_map(|n| format!("{n} months")),
        (1..=100_u64).prop_map(|n| format!("{n} years")),
    ];
    let most = if algorithm == Algorithm::SlidingLog { 10_000 } else { 1_000_000_000_000 };
    let amount = prop_oneof![3 => 1..12_u64, 1 => 1..1_000_u64, 1 => 1..=most, 1 => Just(most), 1 => Just(0)];
    let burst = prop::option::weighted(0.5, prop_oneof![1..20_u64, 1..1_000_000_u64]);
    (window, amount.clone(), amount, burst.clone(), burst).prop_filter_map(
        "a quota",
        move |(window, one, other, b1, b2)| {
            let quota = |amount: u64, burst: Option<u64>| {
                let burst = burst.filter(|_| algorithm == Algorithm::TokenBucket && amount > 0);
                let burst = burst.map(|burst| format!(" burst {burst}")).unwrap_or_default();
                let limits: Limits = format!("{amount}/{window}{burst}").parse().ok()?;
                Quota::new(limits.as_slice()[0], algorithm).ok()
            };
            Some((quota(one, b1)?, quota(other, b2)?))
        },
    )
}

/// Some instants around which calendars are odd, and any other until the year 2400.
fn start() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(951_782_399_999_999),   // the end of 2000-02-28
        Just(1_709_164_800_000_000), // 2024-02-29
        Just(1_735_689_599_999_999), // the end of 2024
        Just(4_107_542_399_999_999), // the end of 2100-02-28, in no leap year
        0..13_600_000_000_000_000_u64,
    ]
}

/// The engine's counter and the model's, which must never be told apart.
struct Twins {
    state: Option<State>,
    model: Model,
    now: Timestamp,
    /// What was taken and not given back: by which quota, what cost, and when.
    taken: Vec<(Quota, u64, Timestamp)>,
    /// The last `retry_after`.
    told: Duration,
}

impl Twins {
    fn new(start: u64) -> Self {
        let now = Timestamp::from_micros(start);
        Self { state: None, model: Model::default(), now, taken: Vec::new(), told: Duration::ZERO }
    }

    fn step(&mut self, quota: &Quota, other: &Quota, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Wait(micros) => self.wait(Duration::from_micros(*micros), 0),
            Step::WaitWindow { halves, off } => self.wait(quota.window() * u32::from(*halves) / 2, *off),
            Step::WaitAsTold { off } => self.wait(self.told, *off),
            Step::Charge { cost, other_quota } => self.charge(if *other_quota { other } else { quota }, *cost)?,
            Step::ChargeShare { sixteenths } => self.charge(quota, quota.capacity() * u64::from(*sixteenths) / 16)?,
            Step::GiveBack { ago } => self.give_back(*ago),
        }
        for quota in [quota, other] {
            let (ours, expected) = (look(self.state.as_ref(), quota, 0, self.now), self.model.look(quota, 0, self.now));
            prop_assert_eq!(ours, expected, "after {:?}, by {:?}", step, quota);
        }
        Ok(())
    }

    fn wait(&mut self, span: Duration, off: i8) {
        let off = Duration::from_micros(u64::from(off.unsigned_abs())) * u32::from(off > 0) + span
            - Duration::from_micros(u64::from(off < 0)).min(span);
        // A thousand years are time enough.
        self.now = (self.now + off).min(Timestamp::from_micros(31_536_000_000_000_000));
    }

    fn charge(&mut self, quota: &Quota, cost: u64) -> Result<(), TestCaseError> {
        let looked = look(self.state.as_ref(), quota, cost, self.now);
        let expected = self.model.charge(quota, cost, self.now);
        let (state, outcome) = charge(self.state.take(), quota, cost, self.now);
        prop_assert_eq!(outcome, expected, "charging {} at {} by {:?}", cost, self.now.as_micros(), quota);
        prop_assert_eq!(looked, outcome, "looking before charging {} by {:?}", cost, quota);
        self.state = state;
        self.told = outcome.retry_after.unwrap_or(self.told);
        if outcome.verdict == Verdict::Allow && cost > 0 {
            self.taken.push((*quota, cost, self.now));
        }
        Ok(())
    }

    fn give_back(&mut self, ago: usize) {
        if self.taken.len() > ago {
            let (quota, cost, at) = self.taken.remove(self.taken.len() - 1 - ago);
            self.state = give_back(self.state.take(), &quota, cost, at, self.now);
            self.model.give_back(&quota, cost, at, self.now);
        }
    }
}

fn equals_its_model(algorithm: Algorithm) {
    let config = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
    let steps = prop::collection::vec(step(), 1..40);
    proptest!(config, |((quota, other) in quotas(algorithm), start in start(), steps in steps)| {
        let mut twins = Twins::new(start);
        for step in &steps {
            twins.step(&quota, &other, step)?;
        }
    });
}

#[test]
fn the_fixed_window_equals_its_model() {
    equals_its_model(Algorithm::FixedWindow);
}

#[test]
fn the_calendar_window_equals_its_model() {
    equals_its_model(Algorithm::CalendarWindow);
}

#[test]
fn the_sliding_window_equals_its_model() {
    equals_its_model(Algorithm::SlidingWindow);
}

#[test]
fn the_sliding_log_equals_its_model() {
    equals_its_model(Algorithm::SlidingLog);
}

#[test]
fn the_token_bucket_equals_its_model() {
    equals_its_model(Algorithm::TokenBucket);
}

/// What a charge leaves: remaining, refill_after and reset_after in microseconds; or how long to wait.
type Told = Result<(u64, u64, u64), u64>;

/// Charges of 1 at these microseconds.
fn check(algorithm: Algorithm, limit: &str, expected: &[(u64, Told)]) {
    let quota = quota(limit, algorithm);
    let mut state = None;
    for (at, expected) in expected {
        let (next, outcome) = charge(state, &quota, 1, Timestamp::from_micros(*at));
        state = next;
        let micros = |span: Option<Duration>| u64::try_from(span.unwrap_or_default().as_micros()).unwrap();
        let status = outcome.status;
        let answer = match outcome.verdict {
            Verdict::Allow => Ok((status.remaining, micros(status.refill_after), micros(Some(status.reset_after)))),
            Verdict::Deny => Err(micros(outcome.retry_after)),
        };
        assert_eq!(answer, *expected, "{limit} by {algorithm} at {at} µs");
    }
}

#[test]
fn a_fixed_window_opens_with_the_first_charge() {
    check(
        Algorithm::FixedWindow,
        "2/ms",
        &[(1_700, Ok((1, 1_000, 1_000))), (1_900, Ok((0, 800, 800))), (2_699, Err(1)), (2_700, Ok((1, 1_000, 1_000)))],
    );
}

#[test]
fn a_calendar_window_ends_with_its_day_week_month_or_year() {
    let until_end = |limit: &str, now: u64, end: u64| {
        check(
            Algorithm::CalendarWindow,
            limit,
            &[(now * 1_000_000, Ok((4, (end - now) * 1_000_000, (end - now) * 1_000_000)))],
        );
    };
    until_end("5/day", 1_772_193_600, 1_772_236_800); // 2026-02-27 12:00 until the 28th
    until_end("5/week", 1_772_193_600, 1_772_409_600); // a Friday, until Monday, 2026-03-02
    until_end("5/month", 1_772_193_600, 1_772_323_200); // until 2026-03-01
    until_end("5/month", 1_709_164_800, 1_709_251_200); // 2024-02-29 until 2024-03-01
    until_end("5/3 months", 1_772_193_600, 1_775_001_600); // the quarter, until 2026-04-01
    until_end("5/year", 1_772_193_600, 1_798_761_600); // until 2027-01-01
    until_end("5/10 years", 1_772_193_600, 1_893_456_000); // the decade, until 2030-01-01
    until_end("5/week", 0, 345_600); // a Thursday, until 1970-01-05
    until_end("5/2 weeks", 345_600, 345_600 + 14 * 86_400);
}

#[test]
fn every_month_ends_when_the_calendar_says() {
    let quota = quota("5/month", Algorithm::CalendarWindow);
    // From 1970 over 2000, which is a leap year, and 2100, which is none; then over 2400, which is one.
    for (start, months) in [(0, 1_600), (13_537_929_600_000_000, 40)] {
        let mut now = Timestamp::from_micros(start);
        for _ in 0..months {
            let outcome = charge(None, &quota, 1, now).1;
            assert_eq!(outcome, Model::default().charge(&quota, 1, now), "at {now:?}");
            let end = now + outcome.status.reset_after;
            let last = Timestamp::from_micros(end.as_micros() - 1);
            assert_eq!(charge(None, &quota, 1, last).1.status.reset_after, Duration::from_micros(1), "at {last:?}");
            now = end;
        }
    }
}

#[test]
fn a_sliding_window_lets_the_earlier_window_fade() {
    check(
        Algorithm::SlidingWindow,
        "4/ms",
        &[
            (0, Ok((3, 2_000, 2_000))),
            (0, Ok((2, 1_500, 2_000))),
            (0, Ok((1, 1_334, 2_000))),
            (0, Ok((0, 1_250, 2_000))),
            (999, Err(251)), // at 1,250 three of four are left
            (1_249, Err(1)),
            (1_250, Ok((0, 250, 1_750))),
        ],
    );
}

#[test]
fn a_sliding_log_forgets_each_charge_after_its_window() {
    check(
        Algorithm::SlidingLog,
        "2/ms",
        &[
            (0, Ok((1, 1_000, 1_000))),
            (400, Ok((0, 600, 1_000))),
            (999, Err(1)),
            (1_000, Ok((0, 400, 1_000))),
            (1_001, Err(399)),
        ],
    );
}

#[test]
fn a_token_bucket_refills_without_rounding() {
    // A token comes in 1,857 and 1/7 µs; the seventh is there at 13,000 exactly.
    check(
        Algorithm::TokenBucket,
        "7/13 ms burst 2",
        &[
            (0, Ok((1, 1_858, 1_858))),
            (0, Ok((0, 1_858, 3_715))),
            (1_857, Err(1)),
            (1_858, Ok((0, 1_857, 3_714))),
            (3_715, Ok((0, 1_857, 3_714))),
            (5_572, Ok((0, 1_857, 3_714))),
            (7_429, Ok((0, 1_857, 3_714))),
            (9_286, Ok((0, 1_857, 3_714))),
            (11_143, Ok((0, 1_857, 3_715))),
            (12_999, Err(1)),
            (13_000, Ok((0, 1_858, 3_715))),
        ],
    );
}
