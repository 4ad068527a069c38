//! `upstream`: the server behind a listener.

use std::fmt;

use super::read::Field;
use crate::request::Protocol;

/// A server behind a listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// What it is spoken to in, HTTP/1.1 or whatever its clients speak.
    pub protocol: Protocol,
    /// A host name or an address, IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Upstream {
    /// Reads what stands behind `://`, or in the file of a TCP listener; without a default the port must be there.
    fn at(protocol: Protocol, authority: &str, default_port: Option<u16>) -> Result<Self, &'static str> {
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or("")?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| "")?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or("")?) })
            }
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':');
        if host.is_empty() || !host.bytes().all(is_host) {
            return Err("");
        }
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or("the port is not one from 1 to 65535, ")?,
            None => default_port.ok_or("")?,
        };
        Ok(Self { protocol, host: host.to_owned(), port })
    }

    fn http(text: &str) -> Result<Self, &'static str> {
        if text.starts_with("https://") {
            return Err("TLS towards the upstream is not supported yet, ");
        }
        let authority = text.strip_prefix("http://").ok_or("")?;
        Self::at(Protocol::Http, authority.strip_suffix('/').unwrap_or(authority), Some(80))
    }
}

impl std::str::FromStr for Upstream {
    type Err = UpstreamError;

    /// Reads `http://host:port`, where the port is 80 if left out, or `tcp://host:port`.
    fn from_str(text: &str) -> Result<Self, UpstreamError> {
        let upstream = match text.strip_prefix("tcp://") {
            Some(authority) => Self::at(Protocol::Tcp, authority, None),
            None => Self::http(text),
        };
        upstream.map_err(|why| UpstreamError { text: text.to_owned(), why })
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, host, port } = self;
        match host.contains(':') {
            true => write!(f, "{}://[{host}]:{port}", protocol.name()),
            false => write!(f, "{}://{host}:{port}", protocol.name()),
        }
    }
}

/// Why a text names no upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamError {
    text: String,
    /// What comes before the words of what was expected: nothing, or a reason and a comma.
    why: &'static str,
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "upstream {:?}: {}expected {HTTP}, or tcp://HOST:PORT", self.text, self.why)
    }
}

impl std::error::Error for UpstreamError {}

/// As the file of a listener writes it, which says apart what it speaks.
pub(super) fn upstream(field: Field<'_>, protocol: Protocol) -> Option<Upstream> {
    let text = field.text()?;
    let (upstream, expected) = match protocol {
        Protocol::Http => (Upstream::http(text), HTTP),
        Protocol::Tcp => (Upstream::at(Protocol::Tcp, text, None), TCP),
    };
    if let Err(why) = &upstream {
        field.wrong(format_args!("{why}expected {expected}"));
    }
    upstream.ok()
}

const HTTP: &str = "http://HOST:PORT without a path, such as http://127.0.0.1:5000";
const TCP: &str = "HOST:PORT of a TCP listener's upstream, such as 127.0.0.1:25";
