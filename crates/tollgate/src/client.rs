//! Who is asking: a request in, its client out, once trusted proxies are peeled off.
//!
//! The rules, because each of them is an attack when it is missing:
//! - A forwarding header counts only if the socket's peer is a trusted proxy, and only the one header named for it.
//! - All its field lines are joined and read from the right; trusted addresses are skipped; the first other one is the
//!   client. Whatever stands further left was written by the client.
//! - Anything that is not an address stops the walk: the client is then the last trusted hop seen.

mod forwarded;
mod subnets;

use std::{net::IpAddr, ops::ControlFlow};

pub use subnets::{Subnet, SubnetError, Subnets};

use crate::request::Request;

/// How many entries of a forwarding header are read, from the right; more hops than that are not honest.
const MAX_HOPS: usize = 64;

/// The client of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    address: Option<IpAddr>,
    peer: Option<IpAddr>,
    peer_is_trusted: bool,
}

impl Client {
    /// Its address; none if the adapter knows no peer, and then everybody is one client.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// The socket's peer, IPv4-mapped addresses as IPv4.
    pub fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// Whether the peer is a trusted proxy.
    pub fn peer_is_trusted(&self) -> bool {
        self.peer_is_trusted
    }
}

/// The proxies that may speak for a client. By default nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    entries: Vec<TrustedProxy>,
}

/// One entry of `trusted_proxies`: who they are and what is believed from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedProxy {
    /// Their addresses.
    pub from: Subnets,
    /// The one header in which they name the client.
    pub header: String,
    /// Further headers that are believed from them alone.
    pub vouches: Vec<String>,
}

impl TrustedProxy {
    /// Whether it is believed in a header, whose name is in lower case.
    pub(crate) fn speaks_in(&self, header: &str) -> bool {
        self.header == header || self.vouches.iter().any(|name| name == header)
    }
}

impl Proxies {
    /// Trusts these, in this order. Names of headers are taken in any case.
    pub fn new(mut entries: Vec<TrustedProxy>) -> Self {
        for entry in &mut entries {
            entry.header.make_ascii_lowercase();
            entry.vouches.iter_mut().for_each(|name| name.make_ascii_lowercase());
        }
        Self { entries }
    }

    /// The entries in order.
    pub fn entries(&self) -> &[TrustedProxy] {
        &self.entries
    }

    /// Whether this address is one of theirs, and so may say for whom it speaks.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.entries.iter().any(|entry| entry.from.contains(address.to_canonical()))
    }

    /// Finds out who is asking.
    pub fn identify(&self, request: &Request<'_>) -> Client {
        let Some(peer) = request.peer.map(|peer| peer.to_canonical()) else {
            return Client { address: None, peer: None, peer_is_trusted: false };
        };
        let Some(entry) = self.entries.iter().find(|entry| entry.from.contains(peer)) else {
            return Client { address: Some(peer), peer: Some(peer), peer_is_trusted: false };
        };
        let (mut client, mut hops) = (peer, 0);
        forwarded::each_hop_from_the_right(request, &entry.header, |hop| {
            let Some(address) = hop else { return ControlFlow::Break(()) };
            (client, hops) = (address, hops + 1);
            let goes_on = hops < MAX_HOPS && entry.from.contains(address);
            if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        Client { address: Some(client), peer: Some(peer), peer_is_trusted: true }
    }

    /// The header, in lower case, in which this client's peer is trusted to name it; none if it is not trusted.
    pub fn header_of(&self, client: &Client) -> Option<&str> {
        let peer = client.peer?;
        self.entries.iter().find(|entry| entry.from.contains(peer)).map(|entry| entry.header.as_str())
    }

    /// Whether a header counts when this client sends it: one in which some proxy speaks or for which it vouches, from
    /// those proxies alone.
    pub(crate) fn believes(&self, client: &Client, header: &str) -> bool {
        let mut speaking = self.entries.iter().filter(|entry| entry.speaks_in(header)).peekable();
        speaking.peek().is_none() || client.peer.is_some_and(|peer| speaking.any(|entry| entry.from.contains(peer)))
    }

    /// The headers, in lower case, that an adapter removes before it passes this client's request on: what only a
    /// proxy may say, from whoever is not one. `X-Forwarded-*` goes with them, whatever its end.
    pub fn removed_headers<'a>(&'a self, client: &'a Client) -> impl Iterator<Item = &'a str> {
        const FORWARDING: [&str; 2] = ["forwarded", "x-real-ip"];
        let untrusted = !client.peer_is_trusted;
        let of_entries = self.entries.iter().map(|entry| entry.header.as_str());
        let forwarding = FORWARDING.into_iter().chain(of_entries).filter(move |_| untrusted);
        let vouched = self.entries.iter().flat_map(|entry| entry.vouches.iter().map(String::as_str));
        forwarding.chain(vouched.filter(move |name| !self.believes(client, name)))
    }
}
