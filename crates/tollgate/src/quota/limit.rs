//! What people write: `100/2 minutes burst 20; 5000/day`, as values that keep the units they were written in.

use std::{fmt, time::Duration};

use super::{Algorithm, LimitError, MAX_WINDOW};

/// A unit of time in a limit string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// 1 ms.
    Millisecond,
    /// 1 s.
    Second,
    /// 60 s.
    Minute,
    /// 60 minutes.
    Hour,
    /// 24 hours.
    Day,
    /// 7 days; calendar weeks start on Monday.
    Week,
    /// 30 days; in a calendar window, a month of the calendar.
    Month,
    /// 365 days; in a calendar window, a year of the calendar.
    Year,
}

impl Unit {
    /// Its name as it is printed: `hour`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Millisecond => "millisecond",
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// How many milliseconds it lasts outside a calendar.
    pub const fn millis(self) -> u64 {
        match self {
            Self::Millisecond => 1,
            Self::Second => 1_000,
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
            Self::Day => 86_400_000,
            Self::Week => 7 * 86_400_000,
            Self::Month => 30 * 86_400_000,
            Self::Year => 365 * 86_400_000,
        }
    }
}

/// One limit as it was written: `100/2 minutes burst 20`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    pub(super) amount: u64,
    pub(super) n: u64,
    pub(super) unit: Unit,
    pub(super) burst: Option<u64>,
}

impl Limit {
    /// How many units may pass in one window; 0 lets nothing pass.
    pub const fn amount(&self) -> u64 {
        self.amount
    }

    /// How many [`unit`](Self::unit)s the window lasts.
    pub const fn n(&self) -> u64 {
        self.n
    }

    /// The unit the window was written in.
    pub const fn unit(&self) -> Unit {
        self.unit
    }

    /// The burst that was written, if one was.
    pub const fn burst(&self) -> Option<u64> {
        self.burst
    }

    /// The window: at most [`MAX_WINDOW`](super::MAX_WINDOW).
    pub const fn window(&self) -> Duration {
        Duration::from_millis(self.unit.millis() * self.n)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.n {
            1 => write!(f, "{}/{}", self.amount, self.unit.name())?,
            n => write!(f, "{}/{n} {}s", self.amount, self.unit.name())?,
        }
        match self.burst {
            Some(burst) => write!(f, " burst {burst}"),
            None => Ok(()),
        }
    }
}

/// A parsed limit string: limits that all hold, in the order written. Empty means `unlimited`.
///
/// The grammar, any case and with white space free around every token:
///
/// ```text
/// limits  := limit (SEP limit)* | "unlimited"            SEP := "," | ";" | "|"
/// limit   := count ("/" | "per") [n] unit ["burst" count]
/// ```
///
/// ```
/// use tollgate::quota::Limits;
///
/// let limits: Limits = "10 per 2 seconds; 500/day".parse()?;
/// assert_eq!(limits.to_string(), "10/2 seconds; 500/day");
/// # Ok::<(), tollgate::quota::LimitError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Limits(pub(super) Vec<Limit>);

impl Limits {
    /// The limits in the order written; none if unlimited.
    pub fn as_slice(&self) -> &[Limit] {
        &self.0
    }

    /// Everything may pass.
    pub const fn unlimited() -> Self {
        Self(Vec::new())
    }

    /// `amount` in a second. Like its siblings for code that knows its numbers: nothing about it can be wrong.
    ///
    /// ```
    /// use tollgate::quota::Limits;
    ///
    /// let limits = Limits::per_minute(100).burst(20).and(Limits::per_day(5_000));
    /// assert_eq!(limits.to_string(), "100/minute burst 20; 5000/day");
    /// ```
    pub fn per_second(amount: u32) -> Self {
        Self::per(amount, 1, Unit::Second)
    }

    /// `amount` in a minute.
    pub fn per_minute(amount: u32) -> Self {
        Self::per(amount, 1, Unit::Minute)
    }

    /// `amount` in an hour.
    pub fn per_hour(amount: u32) -> Self {
        Self::per(amount, 1, Unit::Hour)
    }

    /// `amount` in a day.
    pub fn per_day(amount: u32) -> Self {
        Self::per(amount, 1, Unit::Day)
    }

    /// `amount` in so many seconds, of which there are 1 at least.
    pub fn per_seconds(amount: u32, seconds: u16) -> Self {
        Self::per(amount, seconds.max(1), Unit::Second)
    }

    fn per(amount: u32, n: u16, unit: Unit) -> Self {
        Self(vec![Limit { amount: amount.into(), n: n.into(), unit, burst: None }])
    }

    /// The same, but buckets that hold `burst` at once: 1 at least, and no more than refills within 100 years. What lets nothing
    /// pass has none.
    #[must_use]
    pub fn burst(mut self, burst: u32) -> Self {
        for limit in self.0.iter_mut().filter(|limit| limit.amount > 0) {
            let longest = u128::from(limit.amount) * MAX_WINDOW.as_millis() / limit.window().as_millis().max(1);
            limit.burst = Some(u64::from(burst.max(1)).min(u64::try_from(longest).unwrap_or(u64::MAX)));
        }
        self
    }

    /// The same without bursts.
    pub(crate) fn without_bursts(mut self) -> Self {
        self.0.iter_mut().for_each(|limit| limit.burst = None);
        self
    }

    /// These and those: all of them hold. Whoever counts by more than [`MAX_LIMITS`](super::MAX_LIMITS) says so at once.
    #[must_use]
    pub fn and(mut self, those: Self) -> Self {
        self.0.extend(those.0);
        self
    }

    /// Whether everything may pass.
    pub fn is_unlimited(&self) -> bool {
        self.0.is_empty()
    }

    /// The algorithm that counts when none is named: a burst asks for a bucket.
    pub fn default_algorithm(&self) -> Algorithm {
        if self.0.iter().any(|limit| limit.burst.is_some()) { Algorithm::TokenBucket } else { Algorithm::FixedWindow }
    }
}

impl FromIterator<Limit> for Limits {
    /// All of these hold.
    fn from_iter<I: IntoIterator<Item = Limit>>(limits: I) -> Self {
        Self(limits.into_iter().collect())
    }
}

/// Text where limits are wanted: `"5/minute"`.
impl TryFrom<&str> for Limits {
    type Error = LimitError;

    fn try_from(text: &str) -> Result<Self, LimitError> {
        text.parse()
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_unlimited() {
            return f.write_str("unlimited");
        }
        for (i, limit) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{limit}")?;
        }
        Ok(())
    }
}
