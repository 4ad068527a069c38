//! How much: the limit string, parsed and printed, and the [`Quota`] it becomes with an algorithm.
//!
//! A limit string is what people write, `100/minute burst 20; 5000/day`. It parses to [`Limits`], which keep the units
//! they were written in. With an [`Algorithm`] each becomes a [`Quota`], which cannot be wrong: whatever could fail has
//! failed at that door.

mod limit;
mod parse;

use std::{convert::Infallible, fmt, time::Duration};

pub use limit::{Limit, Limits, Unit};
pub use parse::LimitError;

/// The most a limit may allow in its window, and the largest burst: 10¹².
pub const MAX_AMOUNT: u64 = 1_000_000_000_000;
/// The most limits one limit string may hold: no request is charged for more.
pub const MAX_LIMITS: usize = 64;
/// The longest window, and the longest refill of a full burst: 100 years of 365 days.
pub const MAX_WINDOW: Duration = Duration::from_secs(100 * 365 * 86_400);
/// The largest `sliding-log` amount: it remembers every charge, and memory is bounded.
pub const MAX_LOG_AMOUNT: u64 = 10_000;

/// How a quota is counted.
///
/// | algorithm | choose it when |
/// |---|---|
/// | [`FixedWindow`](Self::FixedWindow) | "5 an hour" should mean an hour from the first of them; cheapest to explain |
/// | [`CalendarWindow`](Self::CalendarWindow) | the budget belongs to the day, week, month or year of the calendar (UTC) |
/// | [`SlidingWindow`](Self::SlidingWindow) | no double helping around the edge of a window, at the price of an estimate |
/// | [`SlidingLog`](Self::SlidingLog) | never more than the amount in *any* window, at the price of memory |
/// | [`TokenBucket`](Self::TokenBucket) | a steady rate with room for a burst |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// A window that opens with a key's first charge.
    FixedWindow,
    /// A window aligned to the calendar in UTC.
    CalendarWindow,
    /// Two adjoining windows, the earlier one fading.
    SlidingWindow,
    /// Every charge remembered with its time.
    SlidingLog,
    /// A bucket that refills continuously (GCRA).
    TokenBucket,
}

impl Algorithm {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 5] =
        [Self::FixedWindow, Self::CalendarWindow, Self::SlidingWindow, Self::SlidingLog, Self::TokenBucket];

    /// Its name in a policy file: `fixed-window`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FixedWindow => "fixed-window",
            Self::CalendarWindow => "calendar-window",
            Self::SlidingWindow => "sliding-window",
            Self::SlidingLog => "sliding-log",
            Self::TokenBucket => "token-bucket",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How much may pass, per what window, with what burst, by what algorithm.
///
/// ```
/// use tollgate::quota::{Algorithm, Limits, Quota};
///
/// let limits: Limits = "100/minute burst 20".parse()?;
/// let quota = Quota::new(limits.as_slice()[0], Algorithm::TokenBucket)?;
/// assert_eq!(quota.capacity(), 20);
/// assert!(Quota::new(limits.as_slice()[0], Algorithm::FixedWindow).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quota {
    limit: Limit,
    algorithm: Algorithm,
    /// These follow from the limit; every decision needs them.
    capacity: u64,
    window_micros: u64,
    token: Token,
}

/// How long one token takes to refill: so many microseconds, and so many parts of one of which the amount make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Token {
    pub(crate) micros: u64,
    pub(crate) parts: u64,
}

impl Quota {
    /// Joins a limit and an algorithm.
    ///
    /// # Errors
    ///
    /// A burst without a bucket, a burst that nothing refills, or more than a log may remember.
    pub fn new(limit: Limit, algorithm: Algorithm) -> Result<Self, QuotaError> {
        match (limit.burst, algorithm) {
            (Some(_), Algorithm::TokenBucket) if limit.amount == 0 => Err(QuotaError::BurstOfNothing { limit }),
            (Some(_), Algorithm::TokenBucket) | (None, _) => Ok(()),
            (Some(_), _) => Err(QuotaError::BurstWithoutBucket { limit, algorithm }),
        }?;
        if algorithm == Algorithm::SlidingLog && limit.amount > MAX_LOG_AMOUNT {
            return Err(QuotaError::LogTooLong { limit });
        }
        let window_micros = limit.unit.millis() * limit.n * 1_000;
        let amount = limit.amount.max(1);
        let token = Token { micros: window_micros / amount, parts: window_micros % amount };
        Ok(Self { limit, algorithm, capacity: limit.burst.unwrap_or(limit.amount), window_micros, token })
    }

    /// The limit as it was written.
    pub const fn limit(&self) -> &Limit {
        &self.limit
    }

    /// How it is counted.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// How many units may pass in one window.
    pub const fn amount(&self) -> u64 {
        self.limit.amount
    }

    /// The most that may pass at one instant from full, which a status calls `limit`: the burst of a bucket, else the amount.
    pub const fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The window.
    pub const fn window(&self) -> Duration {
        self.limit.window()
    }

    /// The window in microseconds, as the algorithms count.
    pub(crate) const fn window_micros(&self) -> u64 {
        self.window_micros
    }

    /// How long one token takes to refill.
    pub(crate) const fn token(&self) -> Token {
        self.token
    }
}

/// Why a limit and an algorithm do not go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaError {
    /// Only a bucket has a burst.
    BurstWithoutBucket {
        /// The limit with the burst.
        limit: Limit,
        /// The algorithm that has no use for it.
        algorithm: Algorithm,
    },
    /// A bucket that is never refilled would let its burst pass once, ever.
    BurstOfNothing {
        /// The limit with amount 0.
        limit: Limit,
    },
    /// A log that remembers more than [`MAX_LOG_AMOUNT`] charges.
    LogTooLong {
        /// The limit whose amount is too large.
        limit: Limit,
    },
}

impl fmt::Display for QuotaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BurstWithoutBucket { limit, algorithm } => {
                write!(f, "limit \"{limit}\": {algorithm} has no burst, expected token-bucket or a limit without burst")
            }
            Self::BurstOfNothing { limit } => {
                write!(f, "limit \"{limit}\": amount 0 with a burst, expected an amount of at least 1 or no burst")
            }
            Self::LogTooLong { limit } => {
                write!(f, "limit \"{limit}\": a sliding-log remembers every charge, expected at most {MAX_LOG_AMOUNT}")
            }
        }
    }
}

impl std::error::Error for QuotaError {}

/// Why what was given as limits cannot be counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitsError {
    /// The text is no limit string.
    Text(LimitError),
    /// No algorithm counts it, or not the one that was named.
    Quota(QuotaError),
    /// More than [`MAX_LIMITS`], which no limit string can be but several put together in code.
    TooMany(usize),
}

impl From<LimitError> for LimitsError {
    fn from(error: LimitError) -> Self {
        Self::Text(error)
    }
}

impl From<QuotaError> for LimitsError {
    fn from(error: QuotaError) -> Self {
        Self::Quota(error)
    }
}

/// What is said of limits that are none of text: nothing.
impl From<Infallible> for LimitsError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl fmt::Display for LimitsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(error) => error.fmt(f),
            Self::Quota(error) => error.fmt(f),
            Self::TooMany(n) => write!(f, "{n} limits, expected at most {MAX_LIMITS}"),
        }
    }
}

impl std::error::Error for LimitsError {}
