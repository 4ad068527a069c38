//! A PROXY header read: bytes in, who is calling out. Both versions, as the specification of HAProxy has them; whoever
//! writes anything else is refused, since what follows a misread header would be taken for the client's own bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A whole header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Who is connected to what; `None` if the proxy speaks for itself, or for what has no address.
    pub(super) ends: Option<Ends>,
    /// How many bytes it takes.
    pub(super) length: usize,
}

/// The two ends of a client's connection; IPv4-mapped addresses are IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
}

impl Ends {
    pub(crate) fn new(source: SocketAddr, destination: SocketAddr) -> Self {
        let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        Self { source: canonical(source), destination: canonical(destination) }
    }
}

/// Why these bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// They begin like none.
    Other,
    Malformed,
    TooLong,
}

/// Reads the header at the start of a connection; `None` while its end has not come.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header>, Wrong> {
    let begins_like = |start: &[u8]| bytes.iter().zip(start).all(|(byte, expected)| byte == expected);
    if begins_like(&SIGNATURE) {
        binary(bytes)
    } else if begins_like(LINE_START) {
        line(bytes)
    } else {
        Err(Wrong::Other)
    }
}

/// Version 1: `PROXY TCP4 192.0.2.1 198.51.100.2 40000 25` and the end of the line.
fn line(bytes: &[u8]) -> Result<Option<Header>, Wrong> {
    let window = &bytes[..bytes.len().min(LINE_BYTES_AT_MOST)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if window.len() < LINE_BYTES_AT_MOST { Ok(None) } else { Err(Wrong::TooLong) };
    };
    let length = end + 2;
    let text = str::from_utf8(&bytes[LINE_START.len()..end]).map_err(|_| Wrong::Malformed)?;
    let (family, rest) = text.split_once(' ').unwrap_or((text, ""));
    let ends = match family {
        "UNKNOWN" => None,
        "TCP4" => Some(line_ends::<Ipv4Addr>(rest)?),
        "TCP6" => Some(line_ends::<Ipv6Addr>(rest)?),
        _ => return Err(Wrong::Malformed),
    };
    Ok(Some(Header { ends, length }))
}

fn line_ends<A: std::str::FromStr + Into<IpAddr>>(text: &str) -> Result<Ends, Wrong> {
    let parts: Vec<&str> = text.split(' ').collect();
    let [source, destination, source_port, destination_port] = parts[..] else { return Err(Wrong::Malformed) };
    let end = |address: &str, port: &str| {
        let address = address.parse::<A>().map_err(|_| Wrong::Malformed)?;
        let is_plain = port == "0" || !port.starts_with(['0', '+']);
        let port = port.parse().ok().filter(|_| is_plain).ok_or(Wrong::Malformed)?;
        Ok(SocketAddr::new(address.into(), port))
    };
    Ok(Ends::new(end(source, source_port)?, end(destination, destination_port)?))
}

/// Version 2: a signature, a command, a family, a length, addresses, and values with types.
fn binary(bytes: &[u8]) -> Result<Option<Header>, Wrong> {
    let Some(([_, .., command, family, high, low], rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else {
        return Ok(None);
    };
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Wrong::Malformed),
    };
    let payload_bytes = usize::from(u16::from_be_bytes([*high, *low]));
    if payload_bytes > PAYLOAD_BYTES_AT_MOST {
        return Err(Wrong::TooLong);
    }
    let Some(payload) = rest.get(..payload_bytes) else { return Ok(None) };
    let length = FIXED_BYTES + payload_bytes;
    if is_local {
        return Ok(Some(Header { ends: None, length }));
    }
    // Of a stream or of datagrams: a client of HTTP/3 reaches us over TCP all the same.
    let (ends, values) = match family {
        0x11 | 0x12 => split_ends::<4>(payload)?,
        0x21 | 0x22 => split_ends::<16>(payload)?,
        0x31 | 0x32 => (None, payload.get(UNIX_BYTES..).ok_or(Wrong::Malformed)?),
        0x00 => (None, &[][..]),
        _ => return Err(Wrong::Malformed),
    };
    check_values(&bytes[..length], values)?;
    Ok(Some(Header { ends, length }))
}

/// Two addresses of `N` bytes, two ports, and what follows.
fn split_ends<const N: usize>(payload: &[u8]) -> Result<(Option<Ends>, &[u8]), Wrong>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = payload.split_first_chunk::<N>().ok_or(Wrong::Malformed)?;
    let (destination, rest) = rest.split_first_chunk::<N>().ok_or(Wrong::Malformed)?;
    let (source_port, rest) = rest.split_first_chunk().ok_or(Wrong::Malformed)?;
    let (destination_port, values) = rest.split_first_chunk().ok_or(Wrong::Malformed)?;
    let end = |address: &[u8; N], port: &[u8; 2]| SocketAddr::new((*address).into(), u16::from_be_bytes(*port));
    Ok((Some(Ends::new(end(source, source_port), end(destination, destination_port))), values))
}

/// Every value must be whole, and a checksum among them right; what else they say is for others.
fn check_values(header: &[u8], mut values: &[u8]) -> Result<(), Wrong> {
    while !values.is_empty() {
        let ([kind, high, low], rest) = values.split_first_chunk().ok_or(Wrong::Malformed)?;
        let value_bytes = usize::from(u16::from_be_bytes([*high, *low]));
        let value = rest.get(..value_bytes).ok_or(Wrong::Malformed)?;
        if *kind == CHECKSUM {
            let said = u32::from_be_bytes(value.try_into().map_err(|_| Wrong::Malformed)?);
            // It is taken with zeros in its own place.
            let place = header.len() - rest.len();
            let (before, after) = (&header[..place], &header[place + value_bytes..]);
            let bytes = before.iter().chain(&[0; 4]).chain(after);
            if crc32c(bytes) != said {
                return Err(Wrong::Malformed);
            }
        }
        values = &rest[value_bytes..];
    }
    Ok(())
}

/// The CRC of iSCSI, bit by bit: few proxies send it, once a connection.
fn crc32c<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    !bytes.fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg()))
    })
}

pub(super) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, command, family and length.
const FIXED_BYTES: usize = 16;
/// Far more than proxies have to say; a certificate's name and a few identifiers.
const PAYLOAD_BYTES_AT_MOST: usize = 4096;
/// Two paths of sockets.
const UNIX_BYTES: usize = 216;
const CHECKSUM: u8 = 0x03;
const LINE_START: &[u8] = b"PROXY ";
/// What the specification gives a line of version 1, its end included.
const LINE_BYTES_AT_MOST: usize = 107;

#[cfg(test)]
mod tests;
