//! What may be asked about a call, without any HTTP library's types.
//!
//! An adapter shows the engine its own request through [`Request`] and the small trait [`Headers`]; nothing is copied.
//! What the rules see of it — paths normalised, unbelieved headers absent — is worked out once.

mod path;
mod seen;
mod source;

use std::net::IpAddr;

use smallvec::SmallVec;

pub(crate) use path::{as_sent, fold_pattern};
pub(crate) use seen::Seen;
pub use source::{HeaderName, Source, SourceError};

/// What a client speaks, and so what can be asked about its call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP, where the call is a request.
    #[default]
    Http,
    /// Anything else over TCP, where the call is a whole connection of which nothing is known but who makes it: no condition
    /// on a part of a request holds there, not even that it is absent.
    Tcp,
}

impl Protocol {
    /// Its name in a policy file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
        }
    }
}

/// One call, as an adapter shows it to the engine.
///
/// ```
/// use tollgate::request::Request;
///
/// let headers = [("x-key", "k")];
/// let request = Request {
///     peer: Some([203, 0, 113, 7].into()),
///     target: "/search?q=rust",
///     headers: &headers,
///     ..Request::default()
/// };
/// assert_eq!(request.path(), "/search");
/// assert_eq!(request.query(), Some("q=rust"));
/// ```
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// What it is. Of a TCP connection only `peer` and `listener` are looked at.
    pub protocol: Protocol,
    /// The address at the other end of the socket, if there is one.
    pub peer: Option<IpAddr>,
    /// The name of the listener it came in by, empty if it has none; `None` where listeners are unknown, and then a rule
    /// for one of them concerns every request.
    pub listener: Option<&'a str>,
    /// The method, as it came.
    pub method: &'a str,
    /// The host asked for: the authority of the target or the `Host` header, with its port if it had one.
    pub host: Option<&'a str>,
    /// Path and query exactly as they came.
    pub target: &'a str,
    /// The pattern by which the application's router found this request, if it has one: what `route` counts by where the rule
    /// has no pattern of its own.
    pub route: Option<&'a str>,
    /// Who is signed in, if the application knows, and empty if nobody is. None: the policy says where to look.
    pub user: Option<&'a str>,
    /// The header fields, hop-by-hop ones removed.
    pub headers: &'a dyn Headers,
}

impl<'a> Request<'a> {
    /// The path as it came.
    pub fn path(&self) -> &'a str {
        let end = self.target.bytes().position(|byte| matches!(byte, b'?' | b'#'));
        &self.target[..end.unwrap_or(self.target.len())]
    }

    /// The query as it came, without its question mark.
    pub fn query(&self) -> Option<&'a str> {
        let target = self.target.split('#').next().unwrap_or(self.target);
        target.split_once('?').map(|(_, query)| query)
    }
}

impl Default for Request<'_> {
    /// `GET /` from nobody.
    fn default() -> Self {
        Self {
            protocol: Protocol::Http,
            peer: None,
            listener: None,
            method: "GET",
            host: None,
            target: "/",
            route: None,
            user: None,
            headers: &(),
        }
    }
}

impl std::fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Headers and query can carry secrets.
        let Self { protocol, peer, listener, method, host, .. } = self;
        if *protocol == Protocol::Tcp {
            return write!(f, "Request(TCP from {peer:?}, listener {listener:?})");
        }
        write!(f, "Request({method} {} from {peer:?}, host {host:?}, listener {listener:?})", self.path())
    }
}

/// Looks up header fields in whatever the framework keeps them in.
pub trait Headers {
    /// Shows the value of each field line of the header `name`, which is in lower case, in their order.
    fn each<'a>(&'a self, name: &str, show: &mut dyn FnMut(&'a [u8]));
}

/// The values of all field lines of a header, in their order.
pub(crate) fn field_lines<'a>(headers: &'a dyn Headers, name: &str) -> SmallVec<[&'a [u8]; 2]> {
    let mut lines = SmallVec::new();
    headers.each(name, &mut |line| lines.push(line));
    lines
}

/// The value of the first of them, and how many there are.
pub(crate) fn first_line<'a>(headers: &'a dyn Headers, name: &str) -> (Option<&'a [u8]>, usize) {
    let (mut first, mut lines) = (None, 0);
    headers.each(name, &mut |line| {
        first.get_or_insert(line);
        lines += 1;
    });
    (first, lines)
}

/// No headers at all.
impl Headers for () {
    fn each<'a>(&'a self, _: &str, _: &mut dyn FnMut(&'a [u8])) {}
}

/// Field lines as name and value; names in any case.
impl<const N: usize> Headers for [(&str, &str); N] {
    fn each<'a>(&'a self, name: &str, show: &mut dyn FnMut(&'a [u8])) {
        let lines = self.iter().filter(|(field, _)| *field == name || field.eq_ignore_ascii_case(name));
        lines.for_each(|(_, value)| show(value.as_bytes()));
    }
}
