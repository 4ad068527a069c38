//! `upstream`: the server behind a listener.

use std::fmt;

use super::read::Field;

/// A server behind a listener, spoken to in HTTP/1.1.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// A host name or an address, IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl std::str::FromStr for Upstream {
    type Err = UpstreamError;

    /// Reads `http://host:port`; without a port it is 80.
    fn from_str(text: &str) -> Result<Self, UpstreamError> {
        let because = |why| UpstreamError { text: text.to_owned(), why };
        let error = || because("");
        if text.starts_with("https://") {
            return Err(because("TLS towards the upstream is not supported yet, "));
        }
        let authority = text.strip_prefix("http://").ok_or_else(error)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(error)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| error())?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(error)?) })
            }
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':');
        if host.is_empty() || !host.bytes().all(is_host) {
            return Err(error());
        }
        let port = port.map_or(Ok(80), str::parse).ok().filter(|port| *port != 0);
        let port = port.ok_or_else(|| because("the port is not one from 1 to 65535, "))?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "http://[{}]:{}", self.host, self.port),
            false => write!(f, "http://{}:{}", self.host, self.port),
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
        write!(f, "upstream {:?}: {}expected {UPSTREAM}", self.text, self.why)
    }
}

impl std::error::Error for UpstreamError {}

pub(super) fn upstream(field: Field<'_>) -> Option<Upstream> {
    let upstream = field.text()?.parse();
    if let Err(UpstreamError { why, .. }) = &upstream {
        field.wrong(format_args!("{why}expected {UPSTREAM}"));
    }
    upstream.ok()
}

const UPSTREAM: &str = "http://HOST:PORT without a path, such as http://127.0.0.1:5000";
