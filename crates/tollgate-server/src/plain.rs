//! The plainest messages, known by their bytes. Every parser reads them in the same way, hyper's too; of anything else nothing
//! is said here.

use std::{mem::MaybeUninit, net::IpAddr};

use http::{
    HeaderName,
    header::{CONNECTION, CONTENT_LENGTH, DATE, EXPECT, TRAILER},
};
use httparse::{Header, ParserConfig, Status};
use tollgate::{
    clock::Timestamp,
    config::ListenerLimits,
    decision::Decision,
    request::{Headers, Request},
};

use crate::{
    head::Head,
    hop,
    outgoing::{Introduction, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO},
    request::is_host,
};

/// A GET that has come whole and alone, without a body, for one host, with nothing that concerns only this hop.
pub(crate) struct PlainRequest<'r, 'b> {
    host: &'b str,
    target: &'b str,
    headers: &'r [Header<'b>],
}

/// Where its headers are listed while it is looked at.
pub(crate) type Room<'b> = [MaybeUninit<Header<'b>>; HEADERS];

/// More than browsers send.
const HEADERS: usize = 32;

impl<'r, 'b> PlainRequest<'r, 'b> {
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

    /// As it is sent to an upstream, if that takes no more than to say for whom: nothing in it could be said by a proxy alone and
    /// is not believed, or reads as if it were, or announces what comes later.
    pub(crate) fn outgoing(&self, Introduction { peer, client, proxies }: &Introduction<'_>) -> Option<Vec<u8>> {
        let trusted_for = proxies.header_of(client);
        let is_passed_on = |header: &Header<'_>| {
            let is_it = |name: &str| header.name.eq_ignore_ascii_case(name);
            let is_believed = match trusted_for {
                Some(_) => !proxies.removed_headers(client).any(is_it),
                None => !hop::names_a_client(header.name) && !hop::spoken_by(proxies).any(is_it),
            };
            is_believed && !header.name.contains('_') && !is_named(header, &TRAILER)
        };
        let mut ways = self.headers.iter().filter(|header| is_named(header, &X_FORWARDED_FOR));
        let way = ways.next().map(|way| str::from_utf8(way.value));
        let is_usual = trusted_for.is_none_or(|header| header == X_FORWARDED_FOR.as_str());
        if !is_usual || ways.next().is_some() || matches!(way, Some(Err(_))) || !self.headers.iter().all(is_passed_on) {
            return None;
        }
        let mut head = Head::new(&[b"GET ", self.target.as_bytes(), b" HTTP/1.1"], OUTGOING_BYTES);
        for header in self.headers.iter().filter(|header| !is_named(header, &CONNECTION)) {
            match is_named(header, &X_FORWARDED_FOR) {
                true => head.header(header.name, &[header.value, b", ", peer.name()].concat()),
                false => head.header(header.name, header.value),
            }
        }
        if way.is_none() {
            head.header(X_FORWARDED_FOR.as_str(), peer.name());
        }
        if trusted_for.is_none() {
            head.header(X_FORWARDED_PROTO.as_str(), b"http");
            head.header(X_FORWARDED_HOST.as_str(), self.host.as_bytes());
        }
        Some(head.before(b""))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().map(|header| header.name)
    }
}

impl Headers for PlainRequest<'_, '_> {
    fn each<'a>(&'a self, name: &str, show: &mut dyn FnMut(&'a [u8])) {
        // Which is for this hop alone.
        if name != CONNECTION.as_str() {
            let lines = self.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
            lines.for_each(|line| show(line.value));
        }
    }
}

/// Whether nothing else than rules could look at it: it frames no body, asks for nothing, and is not for this hop, unless it says
/// what is so in any case.
fn is_plain_header(header: &Header<'_>) -> bool {
    match is_named(header, &CONNECTION) {
        true => header.value.eq_ignore_ascii_case(b"keep-alive"),
        false => {
            ![CONTENT_LENGTH, EXPECT].iter().any(|name| is_named(header, name)) && !hop::is_hop_by_hop(header.name)
        }
    }
}

fn is_named(header: &Header<'_>, name: &HeaderName) -> bool {
    header.name.eq_ignore_ascii_case(name.as_str())
}

/// What stands for itself in a path or a query (RFC 3986, 3.3 and 3.4), encoded or not.
fn is_of_a_target(byte: u8) -> bool {
    // All but `"#<>[\]^`{|}`, of what can be seen.
    matches!(byte, b'!' | b'$'..=b';' | b'=' | b'?'..=b'Z' | b'_' | b'a'..=b'z' | b'~')
}

/// Room for the head of most requests.
const OUTGOING_BYTES: usize = 1024;

/// An answer to a GET whose head has come whole, which says how long its body is, and nothing that concerns only that hop.
pub(crate) struct PlainAnswer<'r, 'b> {
    pub(crate) status: u16,
    /// How much of its body is still to come.
    pub(crate) remaining: u64,
    reason: &'b str,
    headers: &'r [Header<'b>],
    /// What has come of its body.
    body: &'b [u8],
}

impl<'r, 'b> PlainAnswer<'r, 'b> {
    /// The answer that these bytes begin, if it is a plain one.
    pub(crate) fn read(bytes: &'b [u8], room: &'r mut Room<'b>) -> Option<Self> {
        let mut response = httparse::Response::new(&mut []);
        let parsed = ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, room);
        let Ok(Status::Complete(end)) = parsed else { return None };
        let httparse::Response { version: Some(1), code: Some(status), reason: Some(reason), headers } = response
        else {
            return None;
        };
        let headers: &[Header<'_>] = headers;
        let body = &bytes[end..];
        let mut lengths = headers.iter().filter(|header| is_named(header, &CONTENT_LENGTH));
        let length = match (status, lengths.next(), lengths.next()) {
            (204 | 304, None, _) => 0,
            (200..=203 | 205..=303 | 305..=599, Some(length), None) => length_of(length.value)?,
            _ => return None,
        };
        let remaining = length.checked_sub(body.len() as u64)?;
        if !headers.iter().all(is_plain_answer_header) {
            return None;
        }
        Some(Self { status, remaining, reason, headers, body })
    }

    /// As the client gets it now, with what was decided.
    pub(crate) fn written(&self, decision: &Decision, now: Timestamp) -> Vec<u8> {
        let mut status = itoa::Buffer::new();
        let line: [&[u8]; 4] = [b"HTTP/1.1 ", status.format(self.status).as_bytes(), b" ", self.reason.as_bytes()];
        let mut head = Head::new(&line, ANSWER_HEAD_BYTES + self.body.len());
        for header in self.headers.iter().filter(|header| !hop::is_hop_by_hop(header.name)) {
            head.header(header.name, header.value);
        }
        if !self.headers.iter().any(|header| is_named(header, &DATE)) {
            head.date(now);
        }
        decision.tell(&(), |name, value, _| head.header(name, value.as_bytes()));
        head.before(self.body)
    }
}

/// Whether it is passed on as it is, whatever was decided, or not at all since it says what is so in any case.
fn is_plain_answer_header(header: &Header<'_>) -> bool {
    const OF_LIMITS: &str = "x-rate";
    match is_named(header, &CONNECTION) {
        true => header.value.eq_ignore_ascii_case(b"keep-alive"),
        false if hop::is_hop_by_hop(header.name) => header.name.eq_ignore_ascii_case("keep-alive"),
        false => !header.name.get(..OF_LIMITS.len()).is_some_and(|start| start.eq_ignore_ascii_case(OF_LIMITS)),
    }
}

/// A length as everybody writes it.
fn length_of(value: &[u8]) -> Option<u64> {
    let is_usual = value.iter().all(u8::is_ascii_digit) && (value.len() == 1 || !value.starts_with(b"0"));
    str::from_utf8(value).ok().filter(|_| is_usual)?.parse().ok()
}

/// Room for the head of most answers.
const ANSWER_HEAD_BYTES: usize = 1024;
