//! The plainest requests, known by their bytes: a GET that has come whole and alone, without a body, for one host, with nothing
//! that concerns only this hop. Every parser reads them in the same way, hyper's too. Of anything else nothing is said here.

use std::{mem::MaybeUninit, net::IpAddr};

use httparse::{Header, Status};
use tollgate::{
    config::ListenerLimits,
    request::{Headers, Request},
};

use crate::{hop, request::is_host};

/// A request that needs nothing but a decision.
pub(crate) struct Plain<'r, 'b> {
    host: &'b str,
    target: &'b str,
    headers: &'r [Header<'b>],
}

/// Where its headers are listed while it is looked at.
pub(crate) type Room<'b> = [MaybeUninit<Header<'b>>; HEADERS];

/// More than browsers send.
const HEADERS: usize = 32;

impl<'r, 'b> Plain<'r, 'b> {
    /// The request that these bytes are, if it is a plain one within these limits.
    pub(crate) fn read(bytes: &'b [u8], room: &'r mut Room<'b>, limits: &ListenerLimits) -> Option<Self> {
        if !bytes.starts_with(b"GET /") || bytes.len() > limits.header_bytes {
            return None;
        }
        let mut request = httparse::Request::new(&mut []);
        let is_alone = request.parse_with_uninit_headers(bytes, room) == Ok(Status::Complete(bytes.len()));
        let httparse::Request { path: Some(target), version: Some(1), headers, .. } = request else { return None };
        let headers: &[Header<'_>] = headers;
        let is_plain = is_alone
            && headers.len() <= limits.headers
            && target.bytes().all(is_of_a_target)
            && headers.iter().all(is_plain_header);
        let mut hosts = headers.iter().filter(|header| header.name.eq_ignore_ascii_case("host"));
        let host = hosts.next().filter(|host| is_plain && hosts.next().is_none() && is_host(host.value))?;
        Some(Self { host: str::from_utf8(host.value).ok()?, target, headers })
    }

    /// Seen as the engine's.
    pub(crate) fn as_asked<'a>(&'a self, listener: &'a str, peer: IpAddr) -> Request<'a> {
        Request {
            peer: Some(peer),
            listener: Some(listener),
            host: Some(self.host),
            target: self.target,
            headers: self,
            ..Request::default()
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().map(|header| header.name)
    }
}

impl Headers for Plain<'_, '_> {
    fn each<'a>(&'a self, name: &str, show: &mut dyn FnMut(&'a [u8])) {
        // Which is for this hop alone.
        if name != CONNECTION {
            let lines = self.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
            lines.for_each(|line| show(line.value));
        }
    }
}

const CONNECTION: &str = "connection";

/// Whether nothing else than rules could look at it: it frames no body, asks for nothing, and is not for this hop, unless it says
/// what is so in any case.
fn is_plain_header(header: &Header<'_>) -> bool {
    match header.name.eq_ignore_ascii_case(CONNECTION) {
        true => header.value.eq_ignore_ascii_case(b"keep-alive"),
        false => {
            !["content-length", "expect"].iter().any(|name| header.name.eq_ignore_ascii_case(name))
                && !hop::is_hop_by_hop(header.name)
        }
    }
}

/// What stands for itself in a path or a query (RFC 3986, 3.3 and 3.4), encoded or not.
fn is_of_a_target(byte: u8) -> bool {
    // All but `"#<>[\]^`{|}`, of what can be seen.
    matches!(byte, b'!' | b'$'..=b';' | b'=' | b'?'..=b'Z' | b'_' | b'a'..=b'z' | b'~')
}
