//! Reads forwarding headers: `Forwarded` (RFC 7239) and those that are lists of addresses, as `X-Forwarded-For` is.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::ControlFlow,
};

use crate::request::{Request, field_lines};

/// Shows the entries of a forwarding header, last one first, until there are enough; none for an entry that is no address.
/// No more than those are read.
pub(super) fn each_hop_from_the_right(
    request: &Request<'_>,
    header: &str,
    show: impl FnMut(Option<IpAddr>) -> ControlFlow<()>,
) {
    let lines = field_lines(request.headers, header);
    let joined = match lines[..] {
        [] => return,
        [line] => Cow::Borrowed(line),
        _ => Cow::Owned(lines.join(&b","[..])),
    };
    let _ = match header {
        "forwarded" => split_outside_quotes(&joined, b',').into_iter().rev().map(element).try_for_each(show),
        _ => joined.rsplit(|byte| *byte == b',').map(address).try_for_each(show),
    };
}

/// The `for` of one element of `Forwarded`; a parameter stands at most once in it (RFC 7239, section 4).
fn element(element: &[u8]) -> Option<IpAddr> {
    let mut node = None;
    for pair in split_outside_quotes(element, b';') {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        if pair[..at].trim_ascii().eq_ignore_ascii_case(b"for") && node.replace(&pair[at + 1..]).is_some() {
            return None;
        }
    }
    address(&unquote(node?.trim_ascii())?)
}

/// Splits at `separator` outside quoted strings; one that never ends makes the rest a single piece.
fn split_outside_quotes(text: &[u8], separator: u8) -> Vec<&[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(|byte| {
        let is_escaped = escaped;
        escaped = quoted && !is_escaped && *byte == b'\\';
        quoted ^= *byte == b'"' && !is_escaped;
        *byte == separator && !quoted
    })
    .collect()
}

fn unquote(value: &[u8]) -> Option<Vec<u8>> {
    let [b'"', inner @ ..] = value else {
        return Some(value.to_vec());
    };
    let mut text = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    loop {
        match bytes.next()? {
            b'"' => return bytes.as_slice().is_empty().then_some(text),
            b'\\' => text.push(*bytes.next()?),
            byte => text.push(*byte),
        }
    }
}

/// `1.2.3.4`, `1.2.3.4:567`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:443`; no leading zeros, zone ids or names.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(entry.trim_ascii()).ok()?;
    // As most are.
    if let Ok(v4) = text.parse::<Ipv4Addr>() {
        return Some(v4.into());
    }
    if let Some(bracketed) = text.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']')?;
        let port_is_right = rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
        return host.parse::<Ipv6Addr>().ok().filter(|_| port_is_right).map(|v6| IpAddr::from(v6).to_canonical());
    }
    match text.split_once(':') {
        Some((host, port)) if is_port(port) && !host.is_empty() => host.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        _ => text.parse::<IpAddr>().ok().map(|address| address.to_canonical()),
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}
