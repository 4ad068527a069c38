//! Patterns: exact, `*`, `**` and `~REGEX`, for texts and for paths.
//!
//! Nearly every pattern is a text or a text with something after it, which is compared. The rest becomes a regular
//! expression of a crate that promises linear time, since the texts come from attackers.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};
use smallvec::SmallVec;

use crate::request::{Seen, as_sent, fold_pattern};

/// The most memory a compiled pattern may take: enough for long alternations, too little for `(a{1000}){1000}`.
const MAX_COMPILED: usize = 1 << 20;

/// A pattern for a whole text: exact, with `*` for anything, or `~REGEX`.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    Anything,
    Exact(Vec<u8>),
    /// The text, or the text and anything after a slash: `/api/**`.
    Below(Vec<u8>),
    StartsWith(Vec<u8>),
    EndsWith(Vec<u8>),
    Regex(Regex),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// A regular expression that is none or too large.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let test = match text.strip_prefix('~') {
            Some(expression) => Test::Regex(regex(expression)?),
            None => match text.find('*') {
                None => Test::Exact(text.into()),
                Some(0) if text == "*" => Test::Anything,
                Some(at) if at == text.len() - 1 => Test::StartsWith(text[..at].into()),
                Some(_) => Test::Regex(regex(&of_bytes(&glob(text.as_bytes(), ".*", ".*")))?),
            },
        };
        Ok(Self { text: text.to_owned(), test })
    }

    /// The same for texts that are compared in lower case, as hosts and media types are.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn lower_case(text: &str) -> Result<Self, PatternError> {
        match text.strip_prefix('~') {
            Some(expression) => Self::new(&format!("~(?i){expression}")),
            None => Self::new(&text.to_ascii_lowercase()),
        }
    }

    pub(crate) fn fits(&self, text: &[u8]) -> bool {
        self.test.fits(text)
    }
}

/// What is written says what fits.
impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A pattern for paths: `*` is any run without a slash, `**` anything, and `/api/**` fits `/api` too.
///
/// It is held against the path as it came and against its normal form, in which the pattern's own spelling counts for
/// as little as the path's.
#[derive(Clone, Debug)]
pub struct PathPattern {
    text: String,
    as_it_came: Test,
    /// Any of these, against a reading.
    normal: SmallVec<[Test; 1]>,
}

impl PathPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// A regular expression that is none or too large, or a pattern that no path can fit since it does not start with a
    /// slash or a wildcard.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        if let Some(expression) = text.strip_prefix('~') {
            let test = Test::Regex(regex(expression)?);
            let normal = SmallVec::from_iter([test.clone()]);
            return Ok(Self { text: text.to_owned(), as_it_came: test, normal });
        }
        if !text.starts_with(['/', '*']) {
            return Err(PatternError::NoPath(text.to_owned()));
        }
        Ok(Self {
            text: text.to_owned(),
            as_it_came: path_test(&as_sent(text.as_bytes()))?,
            normal: fold_pattern(text).iter().map(|folded| path_test(folded)).collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn fits_as_it_came(&self, path: &[u8]) -> bool {
        self.as_it_came.fits(path) || (path.contains(&b'%') && self.as_it_came.fits(&as_sent(path)))
    }

    /// Whether it fits any reading of the request's path.
    pub(crate) fn fits_any(&self, seen: &Seen<'_>) -> bool {
        let fits = |path: &[u8]| self.normal.iter().any(|test| test.fits(path));
        seen.paths().iter().any(fits) || (self.is_expression() && seen.respelled_paths().iter().any(fits))
    }

    /// Whether it fits every reading of the request's path.
    pub(crate) fn fits_all(&self, seen: &Seen<'_>) -> bool {
        let fits = |path: &[u8]| self.normal.iter().any(|test| test.fits(path));
        seen.paths().iter().all(fits) || (self.is_expression() && seen.respelled_paths().iter().all(fits))
    }

    /// Only an expression can tell the two spellings apart: what a glob says of one, it says of the other.
    fn is_expression(&self) -> bool {
        self.text.starts_with('~')
    }
}

/// What is written says what fits.
impl PartialEq for PathPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for PathPattern {}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn path_test(text: &[u8]) -> Result<Test, PatternError> {
    let star = text.iter().position(|byte| *byte == b'*');
    Ok(match (star, text) {
        (None, _) => Test::Exact(text.into()),
        (_, b"**" | b"/**") => Test::Anything,
        (_, [b'*', b'*', end @ ..]) if !end.contains(&b'*') => Test::EndsWith(end.into()),
        (Some(at), [below @ .., b'/', b'*', b'*']) if at == below.len() + 1 => Test::Below(below.into()),
        (_, [below @ .., b'/', b'*', b'*']) => {
            Test::Regex(regex(&of_bytes(&format!("{}(?:/.*)?", glob(below, "[^/]*", ".*"))))?)
        }
        _ => Test::Regex(regex(&of_bytes(&glob(text, "[^/]*", ".*")))?),
    })
}

/// A glob as a regular expression over bytes.
fn glob(text: &[u8], star: &str, double_star: &str) -> String {
    let mut expression = String::new();
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'*', [b'*', after @ ..]) => {
                expression.push_str(double_star);
                rest = after;
            }
            (b'*', _) => expression.push_str(star),
            (byte, _) if byte.is_ascii_alphanumeric() => expression.push(char::from(*byte)),
            (byte, _) => expression.push_str(&format!("\\x{byte:02X}")),
        }
    }
    expression
}

/// A glob knows bytes, not characters: a path can hold any, line feeds too.
fn of_bytes(expression: &str) -> String {
    format!("(?s-u:{expression})")
}

/// Anchored at both ends, whatever alternatives it has.
fn regex(expression: &str) -> Result<Regex, PatternError> {
    let build = |expression: &str| RegexBuilder::new(expression).size_limit(MAX_COMPILED).build();
    // Alone first, so that a message shows what was written, and so that `)|(` cannot slip out of the anchors.
    build(expression)
        .and_then(|_| build(&format!("\\A(?:{expression})\\z")))
        .map_err(|error| PatternError::Regex { expression: expression.to_owned(), reason: reason(&error) })
}

/// The last line of the crate's message says what is wrong; the lines before it draw the expression.
fn reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => "it is too large once compiled".to_owned(),
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.strip_prefix("error: ").unwrap_or(last).to_owned()
        }
    }
}

impl Test {
    fn fits(&self, text: &[u8]) -> bool {
        match self {
            Self::Anything => true,
            Self::Exact(exact) => text == exact,
            Self::Below(above) => {
                text.strip_prefix(above.as_slice()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
            }
            Self::StartsWith(start) => text.starts_with(start),
            Self::EndsWith(end) => text.ends_with(end),
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatternError {
    /// What follows the `~` is no regular expression.
    Regex {
        /// The expression.
        expression: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A path pattern that starts with neither `/` nor `*`.
    NoPath(String),
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Regex { expression, reason } => write!(f, "regular expression {expression:?}: {reason}"),
            Self::NoPath(text) => write!(f, "path {text:?}: no path can fit, expected it to start with \"/\" or \"*\""),
        }
    }
}

impl std::error::Error for PatternError {}
