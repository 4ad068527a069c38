//! What the upstream gets of an allowed request: cleaned of what its sender may not claim, and with what we know of him.

use std::net::IpAddr;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Version,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};
use http_body::Body;
use http_body_util::{Either, Empty};
use tollgate::client::{Client, Proxies};

use crate::{body::Upload, hop, request::Arrived};

/// A request as it is sent to an upstream.
pub(crate) type Outgoing = Request<OutgoingBody>;

/// Few have a body, and all are passed on several times, so a body stays where it is.
pub(crate) type OutgoingBody = Either<Empty<Bytes>, Box<Upload>>;

/// Makes the request ready for an upstream, which is called `upstream` if the client called it nothing.
pub(crate) fn outgoing(
    arrived: Arrived,
    upload: Upload,
    introduction: &Introduction<'_>,
    upstream: &HeaderValue,
) -> Outgoing {
    let Arrived { mut head, has_body, expects_continue, accepts_trailers, wants_websocket } = arrived;
    let headers = &mut head.headers;
    introduction.write(headers);
    if expects_continue {
        // hyper's server sends the 100 when the body is first asked for, which is when the upstream is ready for it.
        headers.remove(EXPECT);
    }
    if !headers.contains_key(HOST) {
        headers.insert(HOST, upstream.clone());
    }
    if accepts_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if wants_websocket {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    if has_body && !is_sure_to_be_read(&head.method) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if has_body && upload.size_hint().exact().is_none() {
        // Without this hyper would send a GET as if it had no body.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    head.version = Version::HTTP_11;
    let body = if has_body { Either::Right(Box::new(upload)) } else { Either::Left(Empty::new()) };
    Request::from_parts(head, body)
}

/// Whether every upstream reads the body of such a request. One that does not takes the body for the next request, which
/// nobody has decided on; so there is no next one on that connection.
fn is_sure_to_be_read(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// Who is at the other end of a client's connection.
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    /// As upstreams are told of it with every request.
    name: HeaderValue,
}

impl Peer {
    pub(crate) fn new(address: IpAddr) -> Self {
        // No address has a character that cannot stand in a header.
        let name = HeaderValue::from_str(&address.to_string());
        Self { address, name: name.unwrap_or(HeaderValue::from_static("unknown")) }
    }

    pub(crate) fn name(&self) -> &[u8] {
        self.name.as_bytes()
    }
}

/// What the upstream is told about the client.
pub(crate) struct Introduction<'a> {
    pub(crate) peer: &'a Peer,
    pub(crate) client: &'a Client,
    pub(crate) proxies: &'a Proxies,
}

impl Introduction<'_> {
    /// Removes what an untrusted sender says about the client, and says what we know. A trusted one is believed, and
    /// itself becomes part of the way. One that names clients in another header may pass on whatever they say in
    /// `X-Forwarded-For`, so that is written anew, from whom it names.
    fn write(&self, headers: &mut HeaderMap) {
        let trusted_for = self.proxies.header_of(self.client);
        let is_claim = |name: &str| trusted_for.is_none() && hop::names_a_client(name);
        // None, as long as no proxy is trusted to speak in a header of its own.
        let withheld: Vec<&str> = self.proxies.removed_headers(self.client).filter(|name| !is_claim(name)).collect();
        remove(headers, |name| is_claim(name) || withheld.contains(&name) || is_misspelt(name, self.proxies));
        let way = match trusted_for {
            Some(header) if header == X_FORWARDED_FOR.as_str() => join(headers, X_FORWARDED_FOR),
            Some(_) => {
                self.client.address().filter(|client| *client != self.peer.address).map(|client| client.to_string())
            }
            None => None,
        };
        match way {
            Some(way) => insert(headers, X_FORWARDED_FOR, format!("{way}, {}", self.peer.address)),
            None => _ = headers.insert(X_FORWARDED_FOR, self.peer.name.clone()),
        }
        if trusted_for.is_none() {
            headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
            if let Some(host) = headers.get(HOST).cloned() {
                headers.insert(X_FORWARDED_HOST, host);
            }
        }
    }
}

/// Whether a header, in lower case, is not one of those that count but reads like one: WSGI and CGI see no difference
/// between `X_Forwarded_For` and `X-Forwarded-For`. Proxies check and replace the one spelling and let the other through,
/// so it is the client's even if a trusted proxy sends it.
fn is_misspelt(name: &str, proxies: &Proxies) -> bool {
    let counting = || hop::spoken_by(proxies).chain([CONTENT_LENGTH.as_str(), TRANSFER_ENCODING.as_str()]);
    let is_a_claim = name.contains('_') && hop::names_a_client(&name.replace('_', "-"));
    (is_a_claim || counting().any(|known| reads_like(name, known))) && counting().all(|known| name != known)
}

fn reads_like(name: &str, other: &str) -> bool {
    let is_dash = |byte| matches!(byte, b'-' | b'_');
    name.len() == other.len() && name.bytes().zip(other.bytes()).all(|(a, b)| a == b || (is_dash(a) && is_dash(b)))
}

/// Removes headers by name in lower case, and their trailers.
fn remove(headers: &mut HeaderMap, is_removed: impl Fn(&str) -> bool) {
    let mut announces_trailers = false;
    let names = headers.keys().inspect(|name| announces_trailers |= **name == TRAILER);
    let removed: Vec<HeaderName> = names.filter(|name| is_removed(name.as_str())).cloned().collect();
    for name in removed {
        headers.remove(name);
    }
    if announces_trailers {
        // hyper sends only the trailers that are announced here.
        let announced = join(headers, TRAILER).unwrap_or_default();
        let kept: Vec<&str> =
            announced.split(',').map(str::trim).filter(|name| !is_removed(&name.to_ascii_lowercase())).collect();
        insert(headers, TRAILER, kept.join(", "));
        if kept.is_empty() {
            headers.remove(TRAILER);
        }
    }
}

/// The field lines of one header as one value; `None` if there are none.
fn join(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let values: Vec<_> = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: String) {
    match HeaderValue::try_from(value) {
        Ok(value) => _ = headers.insert(name, value),
        Err(_) => _ = headers.remove(name),
    }
}

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
