//! Where a request carries a value: `header:NAME`, `query:NAME` or `cookie:NAME`.

use std::{fmt, str::FromStr};

/// Where a request carries a value: the words of `by`, `match` and `user`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A header.
    Header(HeaderName),
    /// A parameter of the query.
    Query(Box<str>),
    /// A cookie.
    Cookie(Box<str>),
}

impl Source {
    /// Names of headers and parameters that can carry a secret contain one of these, in any case.
    const SECRET: [&'static str; 7] = ["auth", "key", "token", "secret", "session", "sig", "pass"];

    /// The header of this name, in any case.
    pub fn header(name: &str) -> Self {
        let lower = name.to_ascii_lowercase();
        Self::Header(HeaderName { is_secret: can_be_secret(&lower), lower: lower.into(), written: name.into() })
    }

    /// Whether its value can be a secret, which is then never stored, logged or shown.
    pub(crate) fn is_secret(&self) -> bool {
        match self {
            Self::Cookie(_) => true,
            Self::Header(name) => name.is_secret,
            Self::Query(name) => can_be_secret(&name.to_ascii_lowercase()),
        }
    }
}

fn can_be_secret(lower: &str) -> bool {
    Source::SECRET.iter().any(|part| lower.contains(part))
}

impl FromStr for Source {
    type Err = SourceError;

    /// Reads `header:NAME`, `query:NAME` or `cookie:NAME`.
    fn from_str(text: &str) -> Result<Self, SourceError> {
        let error = || SourceError { text: text.to_owned() };
        let (kind, name) = text.split_once(':').filter(|(_, name)| !name.is_empty()).ok_or_else(error)?;
        match kind {
            "header" => Ok(Self::header(name)),
            "query" => Ok(Self::Query(name.into())),
            "cookie" => Ok(Self::Cookie(name.into())),
            _ => Err(error()),
        }
    }
}

/// Why a text names no place in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceError {
    text: String,
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: expected header:NAME, query:NAME or cookie:NAME", self.text)
    }
}

impl std::error::Error for SourceError {}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
        }
    }
}

/// The name of a header: compared in lower case, shown as it was written.
#[derive(Clone, Debug)]
pub struct HeaderName {
    lower: Box<str>,
    written: Box<str>,
    /// Whether its value can be one, found out once and not for every request.
    is_secret: bool,
}

impl HeaderName {
    /// In lower case.
    pub fn lower(&self) -> &str {
        &self.lower
    }
}

impl PartialEq for HeaderName {
    fn eq(&self, other: &Self) -> bool {
        self.lower == other.lower
    }
}

impl Eq for HeaderName {}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}
