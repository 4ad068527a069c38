//! Where a store is: a URL parsed into what can only be right.

use std::{fmt, str::FromStr};

/// The default of `?prefix=`.
pub const DEFAULT_PREFIX: &str = "tollgate";
const DEFAULT_PORT: u16 = 6379;
const DEFAULT_SENTINEL_PORT: u16 = 26379;
/// More than anybody runs, and few enough to ask one after the other.
const MAX_NODES: usize = 64;

/// Where a store is, who asks, and how.
///
/// | URL | is |
/// |---|---|
/// | `redis://user:password@host:6379/0` | one server; `rediss://` with TLS |
/// | `redis+unix:///run/redis.sock?db=0` | one server on this machine |
/// | `redis+sentinel://a:26379,b:26379/service/0` | the master that Sentinels name; `rediss+sentinel://` with TLS to it and to them |
/// | `redis+cluster://a:6379,b:6379` | a Cluster, by some of its nodes; `rediss+cluster://` with TLS |
///
/// `valkey…` and `valkeys…` mean the same. User, password and prefix are percent-encoded. Parameters: `prefix=` is what all keys
/// start with; `denials=ask` asks the store about every request, also of those who were denied a moment ago; `clock=client`
/// counts by the clocks of the instances, for servers that forbid `TIME` in scripts. For Sentinel, `sentinel_user=` and
/// `sentinel_password=` are what the Sentinels ask for, as opposed to the server. For Unix sockets, `db=`, `user=` and
/// `password=`.
///
/// ```
/// use tollgate_redis::StoreUrl;
///
/// let url: StoreUrl = "redis+sentinel://10.0.0.1,10.0.0.2/main?prefix=shop".parse()?;
/// assert_eq!(url.to_string(), "redis+sentinel://10.0.0.1:26379,10.0.0.2:26379/main?prefix=shop");
/// assert_eq!(
///     "redis://localhost?prefx=shop".parse::<StoreUrl>().unwrap_err().to_string(),
///     "unknown parameter \"prefx\", expected one of prefix, denials, clock"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl {
    pub(crate) servers: Servers,
    pub(crate) tls: bool,
    pub(crate) login: Login,
    pub(crate) database: u32,
    pub(crate) prefix: String,
    pub(crate) keeps_denials: bool,
    pub(crate) clock: TimeSource,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Servers {
    Alone(Node),
    Unix(String),
    Sentinel { sentinels: Vec<Node>, service: String, login: Login },
    Cluster(Vec<Node>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) host: String,
    pub(crate) port: u16,
}

#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
}

/// Whose time counters go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeSource {
    Server,
    Client,
}

/// Why a text is no URL of a store. It does not repeat the URL, which can hold a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlError(String);

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UrlError {}

fn error<T>(why: impl Into<String>) -> Result<T, UrlError> {
    Err(UrlError(why.into()))
}

/// What stands before `://`, of which the first half is the same for all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Alone,
    Unix,
    Sentinel,
    Cluster,
}

impl FromStr for StoreUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return error("expected a URL such as redis://127.0.0.1:6379");
        };
        let (tls, kind) = scheme_of(scheme)?;
        if rest.contains('#') {
            return error("a # stands in the URL, expected %23 if it belongs to a name or a password");
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match kind {
            Kind::Unix => ("", rest),
            _ => rest.split_once('/').unwrap_or((rest, "")),
        };
        let name = query.split('=').next().unwrap_or(query);
        if kind != Kind::Unix && (path.contains('@') || name.contains('@')) {
            // What stands before it is no server then, but part of a password, and nothing to be repeated.
            return error("an @ stands behind a / or ?, expected %2F or %3F if these belong to a password");
        }
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (login_of(login)?, hosts),
            None => (Login::default(), authority),
        };
        let mut parameters = Parameters::read(query, kind)?;
        let (servers, database) = servers(kind, hosts, path, &mut parameters)?;
        let login = match kind {
            Kind::Unix => Login { user: parameters.take("user"), password: parameters.take("password") },
            _ => login,
        };
        let database = match parameters.take("db").as_deref().unwrap_or(database) {
            "" => 0,
            text => text.parse().map_err(|_| UrlError(format!("database {text:?}, expected a number such as 0")))?,
        };
        Ok(Self {
            servers,
            tls,
            login,
            database,
            prefix: prefix(parameters.take("prefix"))?,
            keeps_denials: parameters.one_of("denials", &[("keep", true), ("ask", false)])?,
            clock: parameters.one_of("clock", &[("server", TimeSource::Server), ("client", TimeSource::Client)])?,
        })
    }
}

/// The servers, and the database that stands behind them.
fn servers<'a>(
    kind: Kind,
    hosts: &str,
    path: &'a str,
    parameters: &mut Parameters,
) -> Result<(Servers, &'a str), UrlError> {
    match kind {
        Kind::Alone => match nodes(hosts, DEFAULT_PORT)?.as_slice() {
            [node] => Ok((Servers::Alone(node.clone()), path)),
            nodes => error(format!("{} servers, expected one, or redis+cluster:// or redis+sentinel://", nodes.len())),
        },
        Kind::Unix if path.starts_with('/') => Ok((Servers::Unix(decoded(path)?), "")),
        Kind::Unix => error("expected the whole path of a socket, such as redis+unix:///run/redis.sock"),
        Kind::Sentinel => {
            let (service, database) = path.split_once('/').unwrap_or((path, ""));
            if service.is_empty() {
                return error("expected the name of the service behind the Sentinels, such as …/mymaster");
            }
            let login =
                Login { user: parameters.take("sentinel_user"), password: parameters.take("sentinel_password") };
            let sentinels = nodes(hosts, DEFAULT_SENTINEL_PORT)?;
            Ok((Servers::Sentinel { sentinels, service: decoded(service)?, login }, database))
        }
        Kind::Cluster if matches!(path, "" | "0") => Ok((Servers::Cluster(nodes(hosts, DEFAULT_PORT)?), "")),
        Kind::Cluster => error("a Cluster has only the database 0, expected none to be named"),
    }
}

fn scheme_of(scheme: &str) -> Result<(bool, Kind), UrlError> {
    let (base, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
    let tls = match base {
        "redis" | "valkey" => false,
        "rediss" | "valkeys" => true,
        _ => return error(format!("{scheme:?} is no store, expected redis, rediss, valkey or valkeys")),
    };
    match kind {
        "" => Ok((tls, Kind::Alone)),
        "unix" if tls => error("a socket of this machine needs no TLS, expected redis+unix"),
        "unix" => Ok((tls, Kind::Unix)),
        "sentinel" => Ok((tls, Kind::Sentinel)),
        "cluster" => Ok((tls, Kind::Cluster)),
        _ => error(format!("{scheme:?} is no store, expected {base}, {base}+unix, {base}+sentinel or {base}+cluster")),
    }
}

fn login_of(text: &str) -> Result<Login, UrlError> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let given = |text: &str| if text.is_empty() { Ok(None) } else { decoded(text).map(Some) };
    Ok(Login { user: given(user)?, password: given(password)? })
}

fn nodes(text: &str, default_port: u16) -> Result<Vec<Node>, UrlError> {
    let nodes: Vec<Node> = text.split(',').map(|node| node_of(node, default_port)).collect::<Result<_, _>>()?;
    match nodes.len() {
        1..=MAX_NODES => Ok(nodes),
        n => error(format!("{n} servers, expected at most {MAX_NODES}: the others are found by asking")),
    }
}

fn node_of(text: &str, default_port: u16) -> Result<Node, UrlError> {
    // An address of IPv6 stands in brackets.
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':').or(rest.is_empty().then_some(""))),
        None if text.matches(':').count() > 1 => return error(format!("{text:?}: expected [{text}]:PORT")),
        None => text.split_once(':').map_or((text, Some("")), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() || host.contains(char::is_whitespace) {
        return error("a server without a name, expected HOST:PORT");
    }
    let port = match port {
        Some("") => Some(default_port),
        port => port.and_then(|port| port.parse().ok()).filter(|port| *port > 0),
    };
    match port {
        Some(port) => Ok(Node { host: host.to_owned(), port }),
        None => error(format!("{text:?}: expected HOST:PORT with a port from 1 to 65535")),
    }
}

/// Braces would move the place in a Cluster at which all keys of a client lie.
fn prefix(given: Option<String>) -> Result<String, UrlError> {
    let prefix = given.unwrap_or_else(|| DEFAULT_PREFIX.to_owned());
    match prefix.len() {
        1..=64 if !prefix.contains(['{', '}', ':']) && prefix.chars().all(|c| c.is_ascii_graphic()) => Ok(prefix),
        _ => error(format!("prefix {prefix:?}, expected 1 to 64 visible characters of ASCII without {{, }} and colon")),
    }
}

/// What stands after the question mark.
struct Parameters(Vec<(&'static str, String)>);

impl Parameters {
    fn read(query: &str, kind: Kind) -> Result<Self, UrlError> {
        let mut known = vec!["prefix", "denials", "clock"];
        known.extend(match kind {
            Kind::Alone | Kind::Cluster => &[][..],
            Kind::Unix => &["db", "user", "password"],
            Kind::Sentinel => &["sentinel_user", "sentinel_password"],
        });
        let mut given: Vec<(&'static str, String)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(name) = known.iter().find(|known| **known == name) else {
                return error(format!("unknown parameter {name:?}, expected one of {}", known.join(", ")));
            };
            if given.iter().any(|(other, _)| other == name) {
                return error(format!("the parameter {name} stands there twice, expected it once"));
            }
            given.push((name, decoded(value)?));
        }
        Ok(Self(given))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let place = self.0.iter().position(|(given, _)| *given == name)?;
        Some(self.0.swap_remove(place).1).filter(|value| !value.is_empty())
    }

    /// One of a few words, of which the first is the default.
    fn one_of<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Result<T, UrlError> {
        let given = self.take(name);
        let chosen = words.iter().find(|(word, _)| given.as_deref().is_none_or(|given| given == *word));
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        chosen.map(|(_, meaning)| *meaning).ok_or_else(|| UrlError(format!("{name}: expected {}", words.join(" or "))))
    }
}

/// Percent-decoded, RFC 3986, section 2.1.
fn decoded(text: &str) -> Result<String, UrlError> {
    let wrong = || UrlError("a % that is not followed by two hexadecimal digits, expected %25 for itself".to_owned());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        bytes.push(match byte {
            b'%' => {
                let (high, low) = (digit().ok_or_else(wrong)?, digit().ok_or_else(wrong)?);
                u8::try_from(high * 16 + low).map_err(|_| wrong())?
            }
            _ => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| UrlError("percent-encoded bytes that are no UTF-8, expected text".to_owned()))
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Without user and password, so that it can be logged.
impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |nodes: &[Node]| nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let scheme = if self.tls { "rediss" } else { "redis" };
        match &self.servers {
            Servers::Alone(node) => write!(f, "{scheme}://{node}")?,
            Servers::Unix(path) => write!(f, "{scheme}+unix://{path}")?,
            Servers::Sentinel { sentinels, service, .. } => {
                write!(f, "{scheme}+sentinel://{}/{service}", list(sentinels))?
            }
            Servers::Cluster(nodes) => write!(f, "{scheme}+cluster://{}", list(nodes))?,
        }
        match (&self.servers, self.database) {
            (_, 0) => {}
            (Servers::Unix(_), database) => write!(f, "?db={database}")?,
            (_, database) => write!(f, "/{database}")?,
        }
        if self.prefix != DEFAULT_PREFIX {
            let separator = if matches!(self.servers, Servers::Unix(_)) && self.database > 0 { '&' } else { '?' };
            write!(f, "{separator}prefix={}", self.prefix)?;
        }
        Ok(())
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(…)")
    }
}
