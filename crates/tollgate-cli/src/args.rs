//! The arguments, and what `--help` says of them.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use bytes::Bytes;
use clap::{Parser, Subcommand, ValueEnum, value_parser};
use http::{HeaderName, HeaderValue, Method, Uri};
use tollgate::{
    config::{StoreConfig, Upstream},
    key::Part,
    quota::Limits,
};
use tollgate_redis::StoreUrl;

use crate::load::{self, Rate};

/// Rate limiting that holds: one policy and one engine for proxies, libraries and replays.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Limit requests in front of any HTTP server, or connections in front of anything
    ///
    /// With a policy FILE, or with --limit alone: `tollgate serve --limit 5/minute` answers allowed requests itself.
    Serve(Serve),
    /// Say what a policy means, rule by rule, or what is wrong with it and where
    Check(Check),
    /// Show what a policy would have done to recorded requests
    ///
    /// REQUESTS holds a JSON object a line, replayed on its own clock: {"time": 1739363532.415, "peer": "10.0.0.2",
    /// "method": "GET", "path": "/b?x=y", "headers": {"X-Key": "k", "X-Forwarded-For": ["a", "b"]}, "status": 200}. Time
    /// (Unix seconds or RFC 3339) and peer are required; the rest is GET, /, none and 200 if left out.
    Replay(Replay),
    /// Send requests at a steady pace, wait whenever the server asks to, and tell what was met
    ///
    /// Until all have succeeded (2xx, 3xx) or failed. After a 429 or 503 nothing more is sent until the wait that the
    /// answer asks for has passed, and that request is sent again. Latency counts from when a request was due. Exit
    /// codes: 0 all succeeded, 1 some failed or the server could not be reached, 2 wrong usage, 130 Ctrl-C.
    Load(Load),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// The policy file [default: tollgate.yaml]
    #[arg(value_name = "FILE", conflicts_with = "limit")]
    pub(crate) file: Option<PathBuf>,

    /// One rule instead of a file: "5/minute", "100/minute burst 20", "10/second; 500/day"
    #[arg(long, value_name = "LIMIT")]
    pub(crate) limit: Option<Limits>,

    /// What --limit counts apart: client, path, header:NAME, … separated by commas [default: client]
    #[arg(long, value_name = "PART", value_delimiter = ',', requires = "limit", conflicts_with = "file")]
    pub(crate) by: Vec<Part>,

    /// Where to listen, in place of the file's one listener [default with --limit: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen_address)]
    pub(crate) listen: Option<SocketAddr>,

    /// Where allowed requests go, in place of what the file says: http://HOST:PORT, or :PORT on this machine; connections,
    /// whatever they carry, to tcp://HOST:PORT
    #[arg(long, value_name = "URL|:PORT", value_parser = upstream)]
    pub(crate) upstream: Option<Upstream>,

    /// Where to count, in place of what the file says: memory, or a store that instances share, such as redis://HOST:PORT
    #[arg(long, value_name = "URL", value_parser = store)]
    pub(crate) store: Option<StoreConfig>,

    /// Read the policy file again when it has changed, as on SIGHUP: another in its place at once, one written in place when it
    /// has been quiet for a second, or after five
    #[arg(long, conflicts_with = "limit")]
    pub(crate) watch: bool,

    /// How long to wait at the end for what is in flight: 500ms, 30s, 5m
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub(crate) drain: Duration,

    /// How to write the log, which goes to standard error
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Human)]
    pub(crate) log: LogFormat,

    /// How much to log; debug shows every denial
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = LogLevel::Info)]
    pub(crate) log_level: LogLevel,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// The policy file, or - for standard input
    #[arg(value_name = "FILE", default_value = "tollgate.yaml")]
    pub(crate) file: PathBuf,

    /// Say instead what would change for a server that runs by this file and is given FILE, and which counters go on
    #[arg(long, value_name = "OLD")]
    pub(crate) against: Option<PathBuf>,

    /// How to say it
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Output::Human)]
    pub(crate) output: Output,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Replay {
    /// The policy file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// The requests, or - for standard input
    #[arg(value_name = "REQUESTS")]
    pub(crate) requests: PathBuf,

    /// A report, or a JSON line for every request
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Output::Human)]
    pub(crate) output: Output,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Load {
    /// Where the requests go: http://HOST:PORT/PATH
    #[arg(value_name = "URL", value_parser = load::url)]
    pub(crate) url: Uri,

    /// The pace: 2000/minute, 50/second [default: as fast as connections become free]
    #[arg(long, value_name = "RATE")]
    pub(crate) rate: Option<Rate>,

    /// How many requests
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u64).range(1..))]
    pub(crate) requests: u64,

    /// How many connections at most, each with one request at a time
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = value_parser!(u16).range(1..=10_000))]
    pub(crate) connections: u16,

    /// The method
    #[arg(long, value_name = "METHOD", default_value = "GET", value_parser = load::method)]
    pub(crate) method: Method,

    /// A header, such as 'Authorization: Bearer …'; may be given again
    #[arg(long = "header", value_name = "'NAME: VALUE'", value_parser = load::header)]
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,

    /// The body: a text, or a file's name after @
    #[arg(long, value_name = "TEXT|@FILE", value_parser = load::body)]
    pub(crate) body: Option<Bytes>,

    /// Draw what was sent, succeeded and limited over time
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) plot: Option<PathBuf>,

    /// A table, or a JSON object
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Output::Human)]
    pub(crate) output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Human,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Human,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let on_loopback = text.strip_prefix(':').map(|port| format!("127.0.0.1:{port}"));
    let address = on_loopback.as_deref().unwrap_or(text);
    address.parse().map_err(|_| "expected ADDRESS:PORT, such as 127.0.0.1:8080 or [::]:8080".to_owned())
}

fn upstream(text: &str) -> Result<Upstream, String> {
    let at_port = |start, scheme| text.strip_prefix(start).map(|port| format!("{scheme}127.0.0.1:{port}"));
    let on_loopback = at_port(":", "http://").or_else(|| at_port("tcp://:", "tcp://"));
    on_loopback.as_deref().unwrap_or(text).parse().map_err(|error: tollgate::config::UpstreamError| error.to_string())
}

/// The longest that is not a slip of the hand.
const LONGEST_DRAIN: Duration = Duration::from_secs(24 * 60 * 60);

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let millis = unit_ms.and_then(|unit_ms: u64| number.parse::<u64>().ok()?.checked_mul(unit_ms));
    let duration = millis.map(Duration::from_millis).filter(|duration| *duration <= LONGEST_DRAIN);
    duration.ok_or_else(|| "expected a duration such as 500ms, 30s or 5m, at most 24h".to_owned())
}

fn store(text: &str) -> Result<StoreConfig, String> {
    match text {
        "memory" => Ok(StoreConfig::default()),
        url => match url.parse::<StoreUrl>() {
            Ok(_) => Ok(StoreConfig::at(url.to_owned())),
            Err(error) => Err(error.to_string()),
        },
    }
}
