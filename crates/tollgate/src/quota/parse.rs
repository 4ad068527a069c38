//! Reads a limit string. The grammar stands at [`Limits`]; an error points at the character that broke it.

use std::{fmt, str::FromStr, time::Duration};

use super::{
    MAX_AMOUNT, MAX_LIMITS, MAX_WINDOW, Unit,
    limit::{Limit, Limits},
};

/// As many milliseconds as the longest window has: no window holds more of any unit.
const MAX_UNITS: u64 = 100 * 365 * 86_400_000;

/// Every spelling of a unit.
const UNITS: [(&str, Unit); 30] = [
    ("ms", Unit::Millisecond),
    ("millisecond", Unit::Millisecond),
    ("milliseconds", Unit::Millisecond),
    ("s", Unit::Second),
    ("sec", Unit::Second),
    ("secs", Unit::Second),
    ("second", Unit::Second),
    ("seconds", Unit::Second),
    ("m", Unit::Minute),
    ("min", Unit::Minute),
    ("mins", Unit::Minute),
    ("minute", Unit::Minute),
    ("minutes", Unit::Minute),
    ("h", Unit::Hour),
    ("hr", Unit::Hour),
    ("hrs", Unit::Hour),
    ("hour", Unit::Hour),
    ("hours", Unit::Hour),
    ("d", Unit::Day),
    ("day", Unit::Day),
    ("days", Unit::Day),
    ("w", Unit::Week),
    ("week", Unit::Week),
    ("weeks", Unit::Week),
    ("month", Unit::Month),
    ("months", Unit::Month),
    ("y", Unit::Year),
    ("yr", Unit::Year),
    ("year", Unit::Year),
    ("years", Unit::Year),
];

impl FromStr for Limits {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        let mut cursor = Cursor { text, at: 0 };
        if cursor.word("unlimited") {
            cursor.end("the end, since \"unlimited\" stands alone")?;
            return Ok(Self::default());
        }
        let mut limits = vec![limit(&mut cursor)?];
        while cursor.symbol(&[',', ';', '|']) {
            if limits.len() == MAX_LIMITS {
                return Err(cursor.expected(format!("at most {MAX_LIMITS} limits")));
            }
            limits.push(limit(&mut cursor)?);
        }
        let has_burst = limits.last().is_some_and(|limit| limit.burst.is_some());
        cursor.end(if has_burst { "\";\" or the end" } else { "\"burst\", \";\" or the end" })?;
        Ok(Self(limits))
    }
}

fn limit(cursor: &mut Cursor<'_>) -> Result<Limit, LimitError> {
    let amount = cursor.number("a count", 0, MAX_AMOUNT)?;
    if !cursor.symbol(&['/']) && !cursor.word("per") {
        return Err(cursor.expected("\"/\" or \"per\""));
    }
    cursor.skip_space();
    let window_at = cursor.at;
    let n = match cursor.rest().starts_with(|c: char| c.is_ascii_digit()) {
        true => cursor.number("a number of units", 1, MAX_UNITS)?,
        false => 1,
    };
    let unit = cursor.unit()?;
    let fits = unit.millis().checked_mul(n).is_some_and(|millis| Duration::from_millis(millis) <= MAX_WINDOW);
    if !fits {
        return Err(cursor.at(window_at).expected("a window of at most 100 years"));
    }
    let burst = match cursor.word("burst") {
        true => {
            cursor.skip_space();
            let burst_at = cursor.at;
            let burst = cursor.number("a burst", 1, MAX_AMOUNT)?;
            // A full burst refills in burst · window / amount. Both products stay far inside 128 bits.
            let refill = u128::from(burst) * u128::from(unit.millis() * n);
            if amount > 0 && refill > u128::from(amount) * MAX_WINDOW.as_millis() {
                return Err(cursor.at(burst_at).expected("a burst that refills within 100 years"));
            }
            Some(burst)
        }
        false => None,
    };
    Ok(Limit { amount, n, unit, burst })
}

/// A place in a limit string. Every token may have white space before it.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn at(self, at: usize) -> Self {
        Self { at, ..self }
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn symbol(&mut self, symbols: &[char]) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(symbols);
        self.at += usize::from(found);
        found
    }

    fn word(&mut self, word: &str) -> bool {
        self.skip_space();
        let found = starts_with_ignoring_case(self.rest(), word);
        self.at += if found { word.len() } else { 0 };
        found
    }

    /// All the letters that stand here are a unit, or a unit and `burst`, so that `5/minut` is not `5/min` and a rest.
    fn unit(&mut self) -> Result<Unit, LimitError> {
        self.skip_space();
        let rest = self.rest();
        let letters = &rest[..rest.len() - rest.trim_start_matches(char::is_alphabetic).len()];
        let unit = UNITS.iter().find(|(name, _)| {
            let after = starts_with_ignoring_case(letters, name).then(|| &letters[name.len()..]);
            after.is_some_and(|after| after.is_empty() || after.eq_ignore_ascii_case("burst"))
        });
        if let Some((name, unit)) = unit {
            self.at += name.len();
            return Ok(*unit);
        }
        let begun = UNITS.iter().filter(|(name, _)| !letters.is_empty() && starts_with_ignoring_case(name, letters));
        let begun = begun.min_by_key(|(name, _)| name.len());
        let error = self.expected("a unit (ms, second, minute, hour, day, week, month or year)");
        Err(LimitError { close: begun.map(|(_, unit)| unit.name()), ..error })
    }

    fn number(&mut self, what: &str, min: u64, max: u64) -> Result<u64, LimitError> {
        self.skip_space();
        let digits = self.rest().len() - self.rest().trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number = self.rest()[..digits].parse().ok().filter(|n| (min..=max).contains(n));
        let number = number.ok_or_else(|| self.expected(format!("{what} from {min} to {max}")))?;
        self.at += digits;
        Ok(number)
    }

    fn end(&mut self, expected: &str) -> Result<(), LimitError> {
        self.skip_space();
        if self.rest().is_empty() { Ok(()) } else { Err(self.expected(expected)) }
    }

    fn expected(&self, expected: impl Into<String>) -> LimitError {
        LimitError { text: self.text.to_owned(), at: self.at, expected: expected.into(), close: None }
    }
}

fn starts_with_ignoring_case(text: &str, word: &str) -> bool {
    text.as_bytes().get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
}

/// Why a text is not a limit string: the place, what was expected there, and what stands there.
///
/// ```
/// use tollgate::quota::Limits;
///
/// let error = "5/fortnight".parse::<Limits>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     r#"limit "5/fortnight": expected a unit (ms, second, minute, hour, day, week, month or year) at character 3, found "fortnight""#,
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitError {
    text: String,
    at: usize,
    expected: String,
    /// The unit that was meant, if what stands there begins one.
    close: Option<&'static str>,
}

impl LimitError {
    /// How many characters stand before the offending one.
    pub fn offset(&self) -> usize {
        self.text[..self.at].chars().count()
    }

    /// What stands at the offending place, up to the next space or separator, or nothing at the end.
    fn found(&self) -> String {
        /// Enough to recognise the place; a limit string can be as long as the file.
        const SHOWN: usize = 24;
        let rest = &self.text[self.at..];
        let ends = |c: char| c.is_whitespace() || [',', ';', '|'].contains(&c);
        let end = rest.char_indices().skip(1).find(|(_, c)| ends(*c)).map_or(rest.len(), |(end, _)| end);
        let word: String = rest[..end].chars().take(SHOWN).collect();
        if word.is_empty() { "the end".to_owned() } else { format!("{word:?}") }
    }
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, expected, found) = (&self.text, &self.expected, self.found());
        write!(f, "limit {text:?}: expected {expected} at character {}, found {found}", self.offset() + 1)?;
        match self.close {
            Some(close) => write!(f, ", did you mean {close:?}?"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for LimitError {}
