//! A request as the rules see it: who is asking, which headers are believed, values decoded, the path normalised once.

use std::{borrow::Cow, cell::OnceCell, fmt, str::FromStr};

use super::{Request, path};
use crate::client::{Client, Proxies};

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
        Self::Header(HeaderName { lower: name.to_ascii_lowercase().into(), written: name.into() })
    }

    /// Whether its value can be a secret, which is then never stored, logged or shown.
    pub(crate) fn is_secret(&self) -> bool {
        match self {
            Self::Cookie(_) => true,
            Self::Header(HeaderName { written: name, .. }) | Self::Query(name) => {
                let name = name.to_ascii_lowercase();
                Self::SECRET.iter().any(|part| name.contains(part))
            }
        }
    }
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

/// A request together with its client, as matchers and keys ask about it.
pub(crate) struct Seen<'a> {
    pub(crate) request: &'a Request<'a>,
    pub(crate) client: &'a Client,
    proxies: &'a Proxies,
    user: Option<&'a Source>,
    normal_path: OnceCell<Cow<'a, [u8]>>,
    respelled_path: OnceCell<Cow<'a, [u8]>>,
}

impl<'a> Seen<'a> {
    pub(crate) fn new(
        request: &'a Request<'a>,
        client: &'a Client,
        proxies: &'a Proxies,
        user: Option<&'a Source>,
    ) -> Self {
        Self { request, client, proxies, user, normal_path: OnceCell::new(), respelled_path: OnceCell::new() }
    }

    pub(crate) fn path(&self) -> &'a [u8] {
        self.request.path().as_bytes()
    }

    pub(crate) fn normal_path(&self) -> &[u8] {
        self.normal_path.get_or_init(|| path::normalise(self.request.path()))
    }

    pub(crate) fn respelled_path(&self) -> &[u8] {
        self.respelled_path.get_or_init(|| path::respell(self.request.path()))
    }

    /// The host in lower case, without port and final dot.
    pub(crate) fn host(&self) -> Option<String> {
        let host = self.request.host?;
        let port = host.rfind(':').filter(|colon| !host[*colon..].contains(']'));
        let name = &host[..port.unwrap_or(host.len())];
        Some(name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase())
    }

    /// Whether any value of `source` fits.
    pub(crate) fn any(&self, source: &Source, mut fits: impl FnMut(&[u8]) -> bool) -> bool {
        match source {
            Source::Header(name) => self.header(name.lower()).any(fits),
            Source::Query(name) => {
                let query = self.request.query().unwrap_or_default();
                let parameters = query.split('&').filter(|parameter| !parameter.is_empty());
                let mut pairs = parameters.map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")));
                pairs.any(|(key, value)| *form_decode(key) == *name.as_bytes() && fits(&form_decode(value)))
            }
            Source::Cookie(name) => self.header("cookie").any(|line| {
                let mut pairs = line.split(|byte| *byte == b';').filter_map(|pair| split_once(pair, b'='));
                pairs.any(|(key, value)| key.trim_ascii() == name.as_bytes() && fits(value.trim_ascii()))
            }),
        }
    }

    /// The value of `source` if it has exactly one: two of them name nobody.
    pub(crate) fn single(&self, source: &Source) -> Option<Vec<u8>> {
        let mut found = None;
        let twice = self.any(source, |value| found.replace(value.to_vec()).is_some());
        found.filter(|_| !twice)
    }

    /// Whether the request says that somebody is signed in.
    pub(crate) fn has_user(&self) -> bool {
        self.user.is_some_and(|user| self.any(user, |value| !value.is_empty()))
    }

    /// Who is signed in, if exactly one is named.
    pub(crate) fn user(&self) -> Option<Vec<u8>> {
        self.single(self.user?).filter(|user| !user.is_empty())
    }

    /// The believed field lines of a header: one that only a proxy may send is absent when somebody else sends it.
    pub(crate) fn header<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let request = self.request;
        let count = if self.proxies.believes(self.client, name) { usize::MAX } else { 0 };
        (0..count).map_while(move |n| request.headers.nth(name, n))
    }
}

/// Decodes a query name or value: percent, and `+` for a space, as forms write it.
fn form_decode(text: &str) -> Cow<'_, [u8]> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text.as_bytes());
    }
    Cow::Owned(path::decode(text.replace('+', " ").as_bytes()))
}

fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == separator)?;
    Some((&text[..at], &text[at + 1..]))
}
