//! `listen`: where to listen, and what stands behind.

use std::{collections::HashSet, net::SocketAddr, time::Duration};

use super::{
    read::Field,
    upstream::{Upstream, upstream},
};
use crate::request::Protocol;

/// A socket to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The name that rules know it by.
    pub name: Option<String>,
    /// The address; port 0 takes any that is free.
    pub address: SocketAddr,
    /// Where allowed requests or connections go, and with it what the listener speaks; none: Tollgate answers allowed HTTP
    /// requests itself.
    pub upstream: Option<Upstream>,
    /// Whether every connection begins with a PROXY header, which is taken from trusted proxies alone.
    pub proxy_protocol: bool,
    /// In which version a PROXY header tells a TCP upstream who its client is. HTTP upstreams are told in headers.
    pub send_proxy_protocol: Option<ProxyVersion>,
    /// How long it waits for what.
    pub timeouts: Timeouts,
    /// How much it takes.
    pub limits: ListenerLimits,
}

impl Listener {
    /// A listener as the file's defaults make it.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            name: None,
            address,
            upstream: None,
            proxy_protocol: false,
            send_proxy_protocol: None,
            timeouts: Timeouts::default(),
            limits: ListenerLimits::default(),
        }
    }

    /// What it speaks: what its upstream does.
    pub fn protocol(&self) -> Protocol {
        self.upstream.as_ref().map_or(Protocol::Http, |upstream| upstream.protocol)
    }
}

/// How a PROXY header is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// As a line of text.
    V1,
    /// In binary.
    V2,
}

impl ProxyVersion {
    /// Its name in a policy file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

/// The warning about a listener without upstream, which a caller that has one all the same can leave out.
pub const NO_UPSTREAM: &str = "no upstream: tollgate itself answers every allowed request with 200";

/// How long a listener waits for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the whole head of a request, from its first byte, and for a PROXY header, from the connection's first.
    pub headers: Duration,
    /// For a connection to the upstream.
    pub connect: Duration,
    /// For the upstream's answer, from the last byte of the request.
    pub first_byte: Duration,
    /// For the next byte of a body, the next request of a connection, or either side of a TCP or upgraded one.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { headers: seconds(10), connect: seconds(5), first_byte: seconds(60), idle: seconds(60) }
    }
}

/// How much a listener takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerLimits {
    /// Bytes in the head of a request.
    pub header_bytes: usize,
    /// Header fields in a request.
    pub headers: usize,
    /// Connections at one time.
    pub connections: usize,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self { header_bytes: 64 << 10, headers: 100, connections: 10_000 }
    }
}

pub(super) fn listeners(field: Field<'_>, somebody_is_trusted: bool) -> Option<Vec<Listener>> {
    let (mut names, mut addresses) = (HashSet::new(), HashSet::new());
    field.list(|item| {
        let listener = listener(item, somebody_is_trusted)?;
        if let Some(name) = &listener.name
            && !names.insert(name.clone())
        {
            item.mistakes.at(item.place(), format!("two listeners are named {name:?}, expected unique names"));
        }
        if listener.address.port() != 0 && !addresses.insert(listener.address) {
            let why = format!("two listeners have the address {}, expected one for each", listener.address);
            item.mistakes.at(item.place(), why);
        }
        Some(listener)
    })
}

fn listener(field: Field<'_>, somebody_is_trusted: bool) -> Option<Listener> {
    let mut fields = field.fields("a listener")?;
    let name = fields.optional("name").and_then(Field::text).map(str::to_owned);
    let address = fields.required("address").and_then(address);
    let protocol = match fields.optional("protocol") {
        Some(protocol) => protocol.one_of(&[Protocol::Http, Protocol::Tcp].map(|protocol| (protocol.name(), protocol))),
        None => Some(Protocol::Http),
    };
    if protocol == Some(Protocol::Tcp) {
        fields.noun = "a TCP listener";
    }
    let upstream_field = match protocol {
        // There is nothing that we could answer.
        Some(Protocol::Tcp) => fields.required("upstream"),
        _ => fields.optional("upstream"),
    };
    let takes = fields.optional("proxy_protocol");
    let sends = fields.optional("send_proxy_protocol");
    let timeouts_field = fields.optional("timeouts");
    let limits_field = fields.optional("limits");
    fields.finish();

    let proxy_protocol = takes.and_then(|field| proxy_protocol(field, somebody_is_trusted)).unwrap_or(false);
    let send_proxy_protocol = sends.and_then(|field| send_proxy_protocol(field, protocol));
    // Of a protocol that is none, nobody knows which keys it has.
    let protocol = protocol?;
    let timeouts = timeouts_field.and_then(|field| timeouts(field, protocol, proxy_protocol));
    let limits = limits_field.and_then(|field| limits(field, protocol));
    let upstream = match (upstream_field, protocol) {
        (Some(field), _) => Some(upstream(field, protocol)?),
        (None, Protocol::Tcp) => return None,
        (None, Protocol::Http) => {
            field.mistakes.warn(field.place(), NO_UPSTREAM);
            None
        }
    };
    Some(Listener {
        name,
        address: address?,
        upstream,
        proxy_protocol,
        send_proxy_protocol,
        timeouts: timeouts.unwrap_or_default(),
        limits: limits.unwrap_or_default(),
    })
}

fn proxy_protocol(field: Field<'_>, somebody_is_trusted: bool) -> Option<bool> {
    let takes = field.boolean()?;
    if takes && !somebody_is_trusted {
        field.wrong("nobody may send a PROXY header, expected `trusted_proxies:` at the top of the file");
    }
    Some(takes)
}

fn send_proxy_protocol(field: Field<'_>, protocol: Option<Protocol>) -> Option<ProxyVersion> {
    let version = field.one_of(&[ProxyVersion::V1, ProxyVersion::V2].map(|version| (version.name(), version)));
    if protocol == Some(Protocol::Http) {
        field.wrong(
            "an HTTP upstream's connections carry the requests of many clients, each named in X-Forwarded-For; expected \
             `protocol: tcp` beside it",
        );
    }
    version
}

fn address(field: Field<'_>) -> Option<SocketAddr> {
    let address = field.text()?.parse().ok();
    if address.is_none() {
        let why =
            "expected ADDRESS:PORT, an IP address and a port up to 65535, such as 127.0.0.1:8080 or \"[::]:8080\"";
        field.wrong(why);
    }
    address
}

fn timeouts(field: Field<'_>, protocol: Protocol, takes_header: bool) -> Option<Timeouts> {
    let is_http = protocol == Protocol::Http;
    let mut fields = field.fields(if is_http { "timeouts" } else { "the timeouts of a TCP listener" })?;
    let Timeouts { headers, connect, first_byte, idle } = Timeouts::default();
    let mut read = |key, exists, default| fields.optional_if(exists, key).and_then(Field::duration).unwrap_or(default);
    let timeouts = Timeouts {
        headers: read("headers", is_http || takes_header, headers),
        connect: read("connect", true, connect),
        first_byte: read("first_byte", is_http, first_byte),
        idle: read("idle", true, idle),
    };
    fields.finish();
    Some(timeouts)
}

fn limits(field: Field<'_>, protocol: Protocol) -> Option<ListenerLimits> {
    /// What a head needs at the least, and what nobody needs.
    const HEADER_BYTES: std::ops::RangeInclusive<u64> = 8 << 10..=16 << 20;
    const HEADERS: std::ops::RangeInclusive<u64> = 1..=10_000;
    const CONNECTIONS: std::ops::RangeInclusive<u64> = 1..=10_000_000;
    let is_http = protocol == Protocol::Http;
    let mut fields = field.fields(if is_http { "limits" } else { "the limits of a TCP listener" })?;
    let header_bytes = fields.optional_if(is_http, "header_bytes").and_then(|field| field.size(HEADER_BYTES));
    let headers = fields.optional_if(is_http, "headers").and_then(|field| field.integer(HEADERS));
    let connections = fields.optional("connections").and_then(|field| field.integer(CONNECTIONS));
    fields.finish();
    let default = ListenerLimits::default();
    let or = |read: Option<u64>, default| read.and_then(|read| usize::try_from(read).ok()).unwrap_or(default);
    Some(ListenerLimits {
        header_bytes: or(header_bytes, default.header_bytes),
        headers: or(headers, default.headers),
        connections: or(connections, default.connections),
    })
}
