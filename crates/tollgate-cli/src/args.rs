//! The arguments, and what `--help` says of them.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, Subcommand, ValueEnum};
use tollgate::{config::Upstream, key::Part, quota::Limits};

/// Rate limiting that holds: one policy and one engine for proxies, libraries and replays.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Limit requests in front of any HTTP server
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
    #[arg(long, value_name = "PART", value_delimiter = ',', requires = "limit")]
    pub(crate) by: Vec<Part>,

    /// Where to listen, in place of the file's one listener [default with --limit: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen_address)]
    pub(crate) listen: Option<SocketAddr>,

    /// Where allowed requests go, in place of what the file says: http://HOST:PORT, or :PORT on this machine
    #[arg(long, value_name = "URL|:PORT", value_parser = upstream)]
    pub(crate) upstream: Option<Upstream>,

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
    let on_loopback = text.strip_prefix(':').map(|port| format!("http://127.0.0.1:{port}"));
    on_loopback.as_deref().unwrap_or(text).parse().map_err(|error: tollgate::config::UpstreamError| error.to_string())
}
