//! What a rule counts by: parts of a request, joined so that no two clients can share a key by choosing their values.
//!
//! A key is text that a person can read, in logs, in Redis and in `clear`: its parts percent-encoded and joined by `|`.
//! What a literal part never contains marks the others: `!` a client that stands in for a missing value, `#` a hash of one
//! that is too long or secret.

use std::{borrow::Cow, fmt, net::IpAddr, str::FromStr};

use ipnet::{Ipv4Net, Ipv6Net};
use smallvec::SmallVec;

use crate::{
    client::{Subnet, Subnets},
    request::{Seen, Source},
};

/// Parts longer than this many bytes are counted by their hash.
const MAX_PART: usize = 256;

/// How many bytes are encoded before they are added to a key.
const AT_ONCE: usize = 16;

/// Which bytes stand in a key as they are.
const IS_PLAIN: [bool; 256] = {
    let mut is_plain = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        is_plain[byte as usize] =
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b'/');
        byte += 1;
    }
    is_plain
};

/// Each octet in decimal with a dot after it, as the bytes of a number, first one lowest; and how many bytes that is.
static DECIMAL: [(u32, usize); 256] = {
    let mut decimal = [(0, 0); 256];
    let mut octet = 0_u8;
    loop {
        let (mut digits, mut text, mut len) = (octet, b'.' as u32, 1);
        while len == 1 || digits > 0 {
            text = text << 8 | (b'0' + digits % 10) as u32;
            (digits, len) = (digits / 10, len + 1);
        }
        decimal[octet as usize] = (text, len);
        if octet == u8::MAX {
            break decimal;
        }
        octet += 1;
    }
};

/// The key of one counter, within its rule.
///
/// ```
/// use tollgate::key::Key;
///
/// let (one, other) = (Key::of(["a", "b c"]), Key::of(["a b", "c"]));
/// assert_ne!(one, other);
/// assert_eq!(one.to_string(), "a|b%20c");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(SmallVec<[u8; 40]>);

impl Key {
    /// A key of no parts.
    pub(crate) const EVERYBODY: Self = Self(SmallVec::new_const());

    /// A key of literal parts, in this order. No parts: the one counter of everybody.
    pub fn of<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> Self {
        let mut key = Self::default();
        for (place, part) in parts.into_iter().enumerate() {
            key.begin_part(place);
            key.literal(part.as_ref());
        }
        key
    }

    /// The key of a client, as rules count by it unless they say otherwise: an IPv6 address by its /64.
    pub fn of_client(address: IpAddr) -> Self {
        let mut key = Self::default();
        key.client(Some(address.to_canonical()), Prefixes::default());
        key
    }

    /// Its text as bytes, all of them ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn begin_part(&mut self, place: usize) {
        // By its place, not by what is there: the parts before it can be empty.
        if place > 0 {
            self.0.push(b'|');
        }
    }

    fn literal(&mut self, value: &[u8]) {
        if value.len() > MAX_PART {
            return self.hashed(value);
        }
        // All of them, and not only up to the first that is not: then the loop needs no branches.
        if value.iter().fold(true, |all, byte| all & IS_PLAIN[usize::from(*byte)]) {
            return self.append(value);
        }
        for part in value.chunks(AT_ONCE) {
            let (mut text, mut end) = ([0; 3 * AT_ONCE], 0);
            for byte in part {
                // Without a branch, for of bytes that are not all plain nobody can tell which the next one is.
                let is_plain = IS_PLAIN[usize::from(*byte)];
                let first = if is_plain { *byte } else { b'%' };
                text[end..end + 3].copy_from_slice(&[first, hex_digit(byte >> 4), hex_digit(byte & 15)]);
                end += if is_plain { 1 } else { 3 };
            }
            self.0.extend_from_slice(&text[..end]);
        }
    }

    /// The first 128 bits of the BLAKE3 hash.
    fn hashed(&mut self, value: &[u8]) {
        self.0.push(b'#');
        self.0.extend_from_slice(&blake3::hash(value).to_hex().as_bytes()[..32]);
    }

    fn missing(&mut self, client: Option<IpAddr>) {
        self.0.push(b'!');
        self.client(client, Prefixes::default());
    }

    /// Begins the key of a request that lacks what it was to be counted by: no key of literal parts is equal to it.
    pub(crate) fn begin_missing(&mut self) {
        self.0.push(b'!');
    }

    fn client(&mut self, client: Option<IpAddr>, prefixes: Prefixes) {
        use std::io::Write as _;
        // Writing to memory does not fail; no address at all is an empty part.
        let _ = match client {
            None => Ok(()),
            Some(IpAddr::V4(v4)) if prefixes.v4 == 32 => {
                self.address_v4(v4);
                Ok(())
            }
            Some(IpAddr::V4(v4)) => write!(self.0, "{}", prefixes.mask_v4(v4)),
            Some(IpAddr::V6(v6)) => write!(self.0, "{}", prefixes.mask_v6(v6)),
        };
    }

    /// By far the most common part, without the machinery of formatting.
    fn address_v4(&mut self, address: std::net::Ipv4Addr) {
        // In one number, which is copied faster than bytes that have just been written one by one.
        let (mut text, mut len) = (0_u128, 0);
        for octet in address.octets() {
            let (digits, digits_len) = DECIMAL[usize::from(octet)];
            text |= u128::from(digits) << (8 * len);
            len += digits_len;
        }
        // All of it, and then cut, with the last dot: that much is copied without a loop.
        let begin = self.0.len();
        self.0.extend_from_slice(&text.to_le_bytes());
        self.0.truncate(begin + len - ".".len());
    }

    /// Adds bytes as they are. The first ones, mostly the only ones, need nobody to make room for them.
    fn append(&mut self, bytes: &[u8]) {
        match self.0.is_empty() {
            true => self.0 = SmallVec::from_slice(bytes),
            false => self.0.extend_from_slice(bytes),
        }
    }
}

/// A key of one literal part.
impl From<&str> for Key {
    fn from(part: &str) -> Self {
        Self::of([part])
    }
}

/// A key of one literal part.
impl From<String> for Key {
    fn from(part: String) -> Self {
        Self::of([part])
    }
}

/// The key of a client.
impl From<IpAddr> for Key {
    fn from(address: IpAddr) -> Self {
        Self::of_client(address)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.is_empty() {
            true => f.write_str("everybody"),
            false => f.write_str(&String::from_utf8_lossy(&self.0)),
        }
    }
}

fn hex_digit(nibble: u8) -> u8 {
    b"0123456789ABCDEF"[usize::from(nibble & 15)]
}

/// One part of a key: a word of `by`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The client's address, IPv6 by its /64 unless said otherwise.
    Client(Prefixes),
    /// The socket's peer.
    Peer,
    /// The entry of `match.client` that fitted.
    Subnet,
    /// Whoever is signed in.
    User,
    /// A header, a parameter of the query or a cookie.
    Value(Source),
    /// The normalised path; missing if it could be read as different places.
    Path,
    /// The pattern of `match.path` that fitted.
    Route,
    /// The method, `HEAD` as `GET`; missing if it is none that HTTP itself defines.
    Method,
    /// The host.
    Host,
    /// The listener's name.
    Listener,
}

impl Part {
    /// Whether it is a part of an HTTP request, so that nothing else can be counted by it.
    pub(crate) fn is_of_http(&self) -> bool {
        match self {
            Self::Client(_) | Self::Peer | Self::Subnet | Self::Listener => false,
            Self::User | Self::Value(_) | Self::Path | Self::Route | Self::Method | Self::Host => true,
        }
    }
}

impl FromStr for Part {
    type Err = PartError;

    /// Reads a word of `by`: `client`, `client/24/48`, `header:X-Key`, `path`, …
    fn from_str(text: &str) -> Result<Self, PartError> {
        let error = || PartError { text: text.to_owned() };
        Ok(match text {
            "client" => Self::Client(Prefixes::default()),
            "peer" => Self::Peer,
            "subnet" => Self::Subnet,
            "user" => Self::User,
            "path" => Self::Path,
            "route" => Self::Route,
            "method" => Self::Method,
            "host" => Self::Host,
            "listener" => Self::Listener,
            _ => match text.strip_prefix("client/") {
                Some(lengths) => {
                    let (v4, v6) = lengths.split_once('/').ok_or_else(error)?;
                    let length = |text: &str, max| text.parse().ok().filter(|length| *length <= max).ok_or_else(error);
                    Self::Client(Prefixes { v4: length(v4, 32)?, v6: length(v6, 128)? })
                }
                None => Self::Value(text.parse().map_err(|_| error())?),
            },
        })
    }
}

/// Why a text is no part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartError {
    text: String,
}

impl fmt::Display for PartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}: expected client, client/V4/V6, peer, subnet, user, header:NAME, query:NAME, cookie:NAME, path, route, \
             method, host or listener",
            self.text
        )
    }
}

impl std::error::Error for PartError {}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(prefixes) if *prefixes == Prefixes::default() => f.write_str("client"),
            Self::Client(Prefixes { v4, v6 }) => write!(f, "client/{v4}/{v6}"),
            Self::Peer => f.write_str("peer"),
            Self::Subnet => f.write_str("subnet"),
            Self::User => f.write_str("user"),
            Self::Value(source) => source.fmt(f),
            Self::Path => f.write_str("path"),
            Self::Route => f.write_str("route"),
            Self::Method => f.write_str("method"),
            Self::Host => f.write_str("host"),
            Self::Listener => f.write_str("listener"),
        }
    }
}

/// How much of an address tells clients apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefixes {
    /// Bits of an IPv4 address, 0 to 32.
    pub v4: u8,
    /// Bits of an IPv6 address, 0 to 128.
    pub v6: u8,
}

impl Default for Prefixes {
    /// Every IPv4 address, and every IPv6 /64: whoever has one IPv6 address has at least that many.
    fn default() -> Self {
        Self { v4: 32, v6: 64 }
    }
}

impl Prefixes {
    fn mask_v4(self, address: std::net::Ipv4Addr) -> Subnet {
        let net = Ipv4Net::new(address, self.v4.min(32)).unwrap_or_else(|_| address.into());
        Subnet::Net(net.trunc().into())
    }

    fn mask_v6(self, address: std::net::Ipv6Addr) -> Subnet {
        let net = Ipv6Net::new(address, self.v6.min(128)).unwrap_or_else(|_| address.into());
        Subnet::Net(net.trunc().into())
    }
}

/// A method of RFC 9110 or RFC 5789 as it is counted: `HEAD` is a `GET` without a body. Whoever could invent methods to be counted
/// apart by would never be limited, so all others count as missing.
fn registered(method: &str) -> Option<&str> {
    const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    match method {
        "HEAD" => Some("GET"),
        _ => METHODS.contains(&method).then_some(method),
    }
}

/// What of a rule's `match` fitted, where `by` can count by it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fitted<'a> {
    pub(crate) route: Option<&'a str>,
    /// Those of which one holds the client.
    pub(crate) subnets: Option<&'a Subnets>,
}

/// Writes the key that a rule counts this request by. A part that the request lacks is replaced by its client, counted apart:
/// leaving a value out never means to be unlimited.
pub(crate) fn write_key<'s>(key: &mut Key, by: &[Part], seen: &'s Seen<'_>, fitted: Fitted<'s>) {
    let as_bytes = |text: &'s str| Cow::Borrowed(text.as_bytes());
    for (place, part) in by.iter().enumerate() {
        key.begin_part(place);
        let client = seen.client.address();
        let value = match part {
            Part::Client(prefixes) => {
                key.client(client, *prefixes);
                continue;
            }
            Part::Peer => {
                key.client(seen.client.peer(), Prefixes { v4: 32, v6: 128 });
                continue;
            }
            Part::Subnet => {
                let subnet = fitted.subnets.and_then(|subnets| subnets.longest_of(client));
                subnet.map(|subnet| Cow::Owned(subnet.to_string().into_bytes()))
            }
            Part::User => seen.user(),
            Part::Value(source) => seen.single(source),
            Part::Path => seen.paths().settled().map(Cow::Borrowed),
            Part::Route => fitted.route.or(seen.request.route).map(as_bytes),
            Part::Method => registered(seen.request.method).map(as_bytes),
            Part::Host => seen.host(),
            Part::Listener => seen.request.listener.map(as_bytes),
        };
        let is_secret = match part {
            Part::User => true,
            Part::Value(source) => source.is_secret(),
            _ => false,
        };
        match value {
            None => key.missing(client),
            Some(value) if is_secret => key.hashed(&value),
            Some(value) => key.literal(&value),
        }
    }
}
