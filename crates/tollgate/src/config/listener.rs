//! `listen`: where to listen, and what stands behind.

use std::{collections::HashSet, net::SocketAddr, time::Duration};

use super::{
    read::Field,
    upstream::{Upstream, upstream},
};

/// A socket to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The name that rules know it by.
    pub name: Option<String>,
    /// The address; port 0 takes any that is free.
    pub address: SocketAddr,
    /// Where allowed requests go; none: Tollgate answers them itself.
    pub upstream: Option<Upstream>,
    /// How long it waits for what.
    pub timeouts: Timeouts,
    /// How much it takes.
    pub limits: ListenerLimits,
}

impl Listener {
    /// A listener as the file's defaults make it.
    pub fn new(address: SocketAddr) -> Self {
        Self { name: None, address, upstream: None, timeouts: Timeouts::default(), limits: ListenerLimits::default() }
    }
}

/// The warning about a listener without upstream, which a caller that has one all the same can leave out.
pub const NO_UPSTREAM: &str = "no upstream: tollgate itself answers every allowed request with 200";

/// How long a listener waits for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the whole head of a request, from its first byte.
    pub headers: Duration,
    /// For a connection to the upstream.
    pub connect: Duration,
    /// For the upstream's answer, from the last byte of the request.
    pub first_byte: Duration,
    /// For the next byte of a body, the next request of a connection, or either side of an upgraded one.
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

pub(super) fn listeners(field: Field<'_>) -> Option<Vec<Listener>> {
    let (mut names, mut addresses) = (HashSet::new(), HashSet::new());
    field.list(|item| {
        let listener = listener(item)?;
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

fn listener(field: Field<'_>) -> Option<Listener> {
    let mut fields = field.fields("a listener")?;
    let name = fields.optional("name").and_then(Field::text).map(str::to_owned);
    let address = fields.required("address").and_then(address);
    if let Some(protocol) = fields.optional("protocol") {
        protocol.one_of(&[("http", ())]);
    }
    let upstream = fields.optional("upstream").map(upstream);
    let timeouts = fields.optional("timeouts").and_then(timeouts);
    let limits = fields.optional("limits").and_then(limits);
    fields.finish();
    let upstream = match upstream {
        Some(upstream) => Some(upstream?),
        None => {
            field.mistakes.warn(field.place(), NO_UPSTREAM);
            None
        }
    };
    Some(Listener {
        name,
        address: address?,
        upstream,
        timeouts: timeouts.unwrap_or_default(),
        limits: limits.unwrap_or_default(),
    })
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

fn timeouts(field: Field<'_>) -> Option<Timeouts> {
    let mut fields = field.fields("timeouts")?;
    let default = Timeouts::default();
    let mut read = |key, default| fields.optional(key).and_then(Field::duration).unwrap_or(default);
    let timeouts = Timeouts {
        headers: read("headers", default.headers),
        connect: read("connect", default.connect),
        first_byte: read("first_byte", default.first_byte),
        idle: read("idle", default.idle),
    };
    fields.finish();
    Some(timeouts)
}

fn limits(field: Field<'_>) -> Option<ListenerLimits> {
    /// What a head needs at the least, and what nobody needs.
    const HEADER_BYTES: std::ops::RangeInclusive<u64> = 8 << 10..=16 << 20;
    const HEADERS: std::ops::RangeInclusive<u64> = 1..=10_000;
    const CONNECTIONS: std::ops::RangeInclusive<u64> = 1..=10_000_000;
    let mut fields = field.fields("limits")?;
    let header_bytes = fields.optional("header_bytes").and_then(|field| field.size(HEADER_BYTES));
    let headers = fields.optional("headers").and_then(|field| field.integer(HEADERS));
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
