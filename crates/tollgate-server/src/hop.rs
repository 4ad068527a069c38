//! Hop-by-hop headers: what concerns one connection only and is passed on in neither direction (RFC 9110, 7.6.1).

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE},
};
use tollgate::client::Proxies;

/// Which headers a message has that concern this hop, found in one look at all its names: most have none or one, and what
/// is not there need not be looked up.
#[derive(Default)]
pub(crate) struct HopHeaders {
    pub(crate) transfer_encoding: bool,
    pub(crate) te: bool,
    pub(crate) upgrade: bool,
    pub(crate) expect: bool,
    /// There is something to `strip`.
    pub(crate) any: bool,
}

impl HopHeaders {
    pub(crate) fn among(headers: &HeaderMap) -> Self {
        let mut there = Self::default();
        for name in headers.keys() {
            match *name {
                TRANSFER_ENCODING => there.transfer_encoding = true,
                TE => there.te = true,
                UPGRADE => there.upgrade = true,
                EXPECT => there.expect = true,
                _ => {}
            }
            there.any |= is_hop_by_hop(name.as_str());
        }
        there
    }
}

/// Removes every hop-by-hop header, those that `Connection` lists included. What frames and routes the message it cannot
/// list, nor what is kept by its name in lower case.
pub(crate) fn strip(headers: &mut HeaderMap, is_kept: impl Fn(&str) -> bool) {
    let is_option = |token: &[u8]| token.eq_ignore_ascii_case(b"keep-alive") || token.eq_ignore_ascii_case(b"close");
    // Nearly always there is but one line, which says no more than one of these.
    let lines = headers.get_all(CONNECTION).iter().filter(|line| !is_option(line.as_bytes()));
    let listed = tokens_of(lines)
        .filter(|token| !is_option(token))
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .filter(|name| *name != HOST && *name != CONTENT_LENGTH && !is_kept(name.as_str()));
    // Nearly always none, and then no memory is taken for it.
    for name in listed.collect::<Vec<_>>() {
        headers.remove(name);
    }
    // There are fewer headers than there are names to look for.
    while let Some(name) = headers.keys().find(|name| is_hop_by_hop(name.as_str())).cloned() {
        headers.remove(name);
    }
}

/// Whether any field line of a comma-separated header has this token, in any case.
pub(crate) fn lists(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|listed| listed.eq_ignore_ascii_case(token.as_bytes()))
}

/// Whether `Upgrade` names WebSocket and nothing else.
pub(crate) fn is_websocket(headers: &HeaderMap) -> bool {
    let mut protocols = tokens(headers, UPGRADE);
    protocols.next().is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket")) && protocols.next().is_none()
}

/// Whether a body with a transfer coding came just in chunks. Any other coding would be lost on the way, since each hop
/// writes its own.
pub(crate) fn is_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (Some(coding), None) => coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        _ => false,
    }
}

fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    tokens_of(headers.get_all(name).iter())
}

fn tokens_of<'a>(lines: impl Iterator<Item = &'a HeaderValue>) -> impl Iterator<Item = &'a [u8]> {
    lines
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}

/// Whether a proxy would say in a header of this name, in any case, whom it speaks for.
pub(crate) fn names_a_client(name: &str) -> bool {
    const SEVERAL: &str = "x-forwarded-";
    name.eq_ignore_ascii_case("forwarded")
        || name.eq_ignore_ascii_case("x-real-ip")
        || name.get(..SEVERAL.len()).is_some_and(|start| start.eq_ignore_ascii_case(SEVERAL))
}

/// The most usual header among these in which proxies name a client.
pub(crate) fn forwarding_header<'a>(names: impl Iterator<Item = &'a str>) -> Option<&'static str> {
    let usual = names.filter_map(|name| FORWARDING.iter().position(|forwarding| name.eq_ignore_ascii_case(forwarding)));
    usual.min().map(|place| FORWARDING[place])
}

/// The headers, in lower case, in which some trusted proxy names clients or says who they are.
pub(crate) fn spoken_by(proxies: &Proxies) -> impl Iterator<Item = &str> {
    proxies.entries().iter().flat_map(|entry| std::iter::once(&entry.header).chain(&entry.vouches)).map(String::as_str)
}

/// Headers in which proxies name a client, the most usual first.
const FORWARDING: [&str; 5] = ["x-forwarded-for", "forwarded", "x-real-ip", "cf-connecting-ip", "true-client-ip"];

/// Whether a header of this name, in any case, concerns one connection only.
pub(crate) fn is_hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP.iter().any(|hop_by_hop| name.eq_ignore_ascii_case(hop_by_hop))
}

const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
    // Only means something beside `Upgrade: h2c`, which does not pass.
    "http2-settings",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_usual_forwarding_header_is_named_in_whatever_order_they_come() {
        for (names, named) in [
            (&["accept"][..], None),
            (&["X-Real-IP"], Some("x-real-ip")),
            (&["x-real-ip", "x-forwarded-for"], Some("x-forwarded-for")),
            (&["x-forwarded-for", "forwarded"], Some("x-forwarded-for")),
        ] {
            assert_eq!(forwarding_header(names.iter().copied()), named);
        }
    }
}
