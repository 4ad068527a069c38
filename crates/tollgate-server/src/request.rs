//! A request as it arrived: checked for everything that two HTTP parsers could read in two ways, cleaned of what
//! concerns only this hop, and seen as the engine's.
//!
//! hyper has already refused what is malformed on the wire: lengths that are negative or differ, `chunked` not last,
//! NUL, white space before a colon. Of a request with both a length and chunks it keeps the chunks alone, and closes the
//! connection after it.

use std::net::{IpAddr, Ipv6Addr};

use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Version,
    header::{CONNECTION, EXPECT, HOST, TE},
    request::Parts,
    uri::{PathAndQuery, Scheme, Uri},
};
use http_body::Body;
use tollgate::{
    client::Proxies,
    request::{Headers, Request},
};

use crate::{
    body::Upload,
    hop::{self, HopHeaders},
};

/// A request fit to be decided and forwarded.
pub(crate) struct Arrived {
    /// Target in origin form, one `Host` that agrees with it, no hop-by-hop headers.
    pub(crate) head: Parts,
    pub(crate) has_body: bool,
    pub(crate) expects_continue: bool,
    pub(crate) accepts_trailers: bool,
    pub(crate) wants_websocket: bool,
}

impl Arrived {
    pub(crate) fn read(mut head: Parts, upload: &Upload, proxies: &Proxies) -> Result<Self, Refusal> {
        check_host(&head)?;
        to_origin_form(&mut head)?;
        let there = HopHeaders::among(&head.headers);
        if there.transfer_encoding && !hop::is_chunked(&head.headers) {
            return Err(Refusal::TransferCoding);
        }
        let has_body = !upload.is_end_stream();
        let mut arrived = Self {
            has_body,
            expects_continue: there.expect && expects_continue(&head.headers)?,
            accepts_trailers: there.te && hop::lists(&head.headers, TE, "trailers"),
            wants_websocket: !has_body && there.upgrade && wants_websocket(&head),
            head,
        };
        if there.any {
            // No client may make what the proxies before us say disappear by calling it hop-by-hop.
            hop::strip(&mut arrived.head.headers, |name| {
                hop::names_a_client(name) || hop::spoken_by(proxies).any(|spoken| spoken == name)
            });
        }
        Ok(arrived)
    }

    /// Seen as the engine's, without a copy.
    pub(crate) fn as_asked<'a>(&'a self, listener: &'a str, peer: IpAddr) -> Request<'a> {
        Request {
            peer: Some(peer),
            listener: Some(listener),
            method: self.head.method.as_str(),
            host: self.host().and_then(|host| host.to_str().ok()),
            target: self.head.uri.path_and_query().map_or("/", PathAndQuery::as_str),
            headers: self,
            ..Request::default()
        }
    }

    pub(crate) fn host(&self) -> Option<&HeaderValue> {
        self.head.headers.get(HOST)
    }
}

impl Headers for Arrived {
    fn each<'a>(&'a self, name: &str, show: &mut dyn FnMut(&'a [u8])) {
        let headers = &self.head.headers;
        // Most that are looked for are not there.
        if headers.keys_len() > FEW || headers.keys().any(|there| there.as_str() == name) {
            headers.get_all(name).iter().map(HeaderValue::as_bytes).for_each(show);
        }
    }
}

/// So many names are compared one by one, which takes less than to hash the one that is looked for.
const FEW: usize = 16;

/// Why a request is not even decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Host,
    Target,
    TransferCoding,
    Expectation,
    Connect,
}

impl Refusal {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Host | Self::Target => StatusCode::BAD_REQUEST,
            Self::TransferCoding | Self::Connect => StatusCode::NOT_IMPLEMENTED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
        }
    }

    pub(crate) fn detail(self) -> &'static str {
        match self {
            Self::Host => "a request names one valid host",
            Self::Target => "the target is not a path",
            Self::TransferCoding => "the only transfer coding understood here is chunked",
            Self::Expectation => "the only expectation met here is 100-continue",
            Self::Connect => "this is not a tunnel",
        }
    }
}

fn check_host(head: &Parts) -> Result<(), Refusal> {
    let mut hosts = head.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if head.version < Version::HTTP_11 => Ok(()),
        (Some(host), None) if is_host(host.as_bytes()) => Ok(()),
        _ => Err(Refusal::Host),
    }
}

/// A name or an IPv6 address, and perhaps a port: less than a URI may hold, so that nobody after us reads another host in
/// it than the rules did. An empty host is what a client sends whose target has none.
pub(crate) fn is_host(value: &[u8]) -> bool {
    let (host, port) = match value.iter().rposition(|byte| *byte == b':') {
        Some(colon) if !value.ends_with(b"]") => (&value[..colon], Some(&value[colon + 1..])),
        _ => (value, None),
    };
    if port.is_some_and(|port| port.is_empty() || !port.iter().all(u8::is_ascii_digit)) {
        return false;
    }
    match host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")) {
        Some(address) => str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => value.is_empty() || is_name(host),
    }
}

/// Labels between dots, with one more dot at the end at most.
fn is_name(host: &[u8]) -> bool {
    let mut is_label_empty = true;
    for byte in host.strip_suffix(b".").unwrap_or(host) {
        match byte {
            b'.' if is_label_empty => return false,
            b'.' => is_label_empty = true,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => is_label_empty = false,
            _ => return false,
        }
    }
    !is_label_empty
}

/// Of a target that names a host, that host counts, and `Host` is made to agree.
fn to_origin_form(head: &mut Parts) -> Result<(), Refusal> {
    if head.method == Method::CONNECT {
        return Err(Refusal::Connect);
    }
    let is_asterisk = head.uri.path() == "*";
    let Some(authority) = head.uri.authority() else {
        return if is_asterisk && head.method != Method::OPTIONS { Err(Refusal::Target) } else { Ok(()) };
    };
    let is_web = head.uri.scheme().is_some_and(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
    if !is_web || !is_host(authority.as_str().as_bytes()) {
        return Err(Refusal::Target);
    }
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Refusal::Target)?;
    let target = match head.uri.path_and_query().map(PathAndQuery::as_str) {
        Some(target) if target.starts_with('/') => target.to_owned(),
        Some(query) if query.starts_with('?') => format!("/{query}"),
        _ => "/".to_owned(),
    };
    head.uri = Uri::try_from(target).map_err(|_| Refusal::Target)?;
    head.headers.insert(HOST, host);
    Ok(())
}

fn expects_continue(headers: &HeaderMap) -> Result<bool, Refusal> {
    match headers.get(EXPECT) {
        None => Ok(false),
        Some(expectation) if expectation.as_bytes().eq_ignore_ascii_case(b"100-continue") => Ok(true),
        Some(_) => Err(Refusal::Expectation),
    }
}

/// The one upgrade that passes. `h2c` would carry further requests past the rules.
fn wants_websocket(head: &Parts) -> bool {
    head.method == Method::GET
        && head.version == Version::HTTP_11
        && hop::lists(&head.headers, CONNECTION, "upgrade")
        && hop::is_websocket(&head.headers)
}
