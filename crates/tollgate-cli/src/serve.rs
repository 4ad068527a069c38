//! `tollgate serve`: a policy from a file or from flags, and the server that keeps it.

use std::{net::SocketAddr, path::Path};

use anyhow::Context as _;
use tollgate::{
    config::{Config, Listener, NO_UPSTREAM, StoreConfig},
    key::Part,
    limiter::Limiter,
    policy::{Policy, Rule},
    quota::Limits,
};
use tollgate_server::{Server, Signals};
use tracing::{info, warn};

use crate::{
    Failure,
    args::{LogFormat, Serve},
    describe, log,
    policy_file::{self, Loaded, Reading},
    reload::{self, Running},
    shared_store,
    watched::Watched,
};

const DEFAULT_FILE: &str = "tollgate.yaml";
const DEFAULT_ADDRESS: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 8080));

pub(crate) fn run(serve: Serve) -> Result<(), Failure> {
    log::start(serve.log, serve.log_level);
    let mut signals = Signals::listen().context("the signals")?;
    let format = serve.log;
    // A large policy, or a store that is away, takes its time.
    let Some(started) = signals.during(|| start(serve)).context("the start")? else { return Ok(()) };
    match (started, format) {
        (Ok((server, on_hang_up)), _) => {
            Ok(server.run_until_signal(signals, on_hang_up).map_err(anyhow::Error::from)?)
        }
        // Whoever collects a log of objects wants the reason in it too.
        (Err(failure), LogFormat::Json) => Err(log::tell(failure)),
        (Err(failure), LogFormat::Human) => Err(failure),
    }
}

/// The server, and what it is to do on SIGHUP.
fn start(serve: Serve) -> Result<(Server, impl FnMut() + Send + 'static), Failure> {
    let (files, read) = read(&serve, Reading::First);
    let Read { config, warnings, source } = read?;

    let (version, counted) = (env!("CARGO_PKG_VERSION"), describe::count_of_rules(&config.policy));
    let rules = config.policy.rules().len();
    info!(version, policy = source, rules, "tollgate {version}, policy {source}, {counted}");
    let stores = shared_store::open(&config.store)?;
    for warning in &warnings {
        warn!("{warning}");
    }
    make_room_for_connections(&config.listeners);

    let limiter = Limiter::new(config.policy.clone(), stores);
    let server = Server::bind(config.listeners.clone(), limiter).map_err(anyhow::Error::from)?.draining(serve.drain);
    let on_hang_up = reload::start(serve, Running { config, warnings, files }, server.reloader())?;
    Ok((server, on_hang_up))
}

/// What is to be served.
pub(crate) struct Read {
    pub(crate) config: Config,
    /// What looks wrong in it.
    pub(crate) warnings: Vec<String>,
    /// The file's name.
    pub(crate) source: String,
}

/// What the file or the flags say, with what the other flags say in its place; and the files that were read.
pub(crate) fn read(serve: &Serve, reading: Reading) -> (Vec<Watched>, Result<Read, Failure>) {
    let (files, read) = match &serve.limit {
        Some(limits) => {
            let config = from_flags(limits, &serve.by);
            let source = "--limit".to_owned();
            (Vec::new(), config.map(|config| Read { config, warnings: Vec::new(), source }))
        }
        None => from_file(serve, reading),
    };
    let read = read.and_then(|mut read| {
        listen_where_told(&mut read.config.listeners, serve, &read.source)?;
        if let Some(store) = &serve.store {
            read.config.store = store.clone();
        }
        Ok(read)
    });
    (files, read)
}

/// Each connection takes a file descriptor, and another towards the upstream; systems start programs with far fewer than
/// they allow.
pub(crate) fn make_room_for_connections(listeners: &[Listener]) {
    let wanted = listeners.iter().map(|listener| 2 * listener.limits.connections).sum::<usize>();
    let allowed = rlimit::increase_nofile_limit(u64::MAX).ok().and_then(|allowed| usize::try_from(allowed).ok());
    if let Some(allowed) = allowed.filter(|allowed| *allowed < wanted) {
        warn!(
            "only {allowed} open files are allowed, fewer than the {wanted} that `limits.connections` can take: raise `ulimit -n`"
        );
    }
}

fn from_file(serve: &Serve, reading: Reading) -> (Vec<Watched>, Result<Read, Failure>) {
    let file = serve.file.as_deref().unwrap_or(Path::new(DEFAULT_FILE));
    if serve.file.is_none() && !file.exists() {
        let why = format!("error: no {DEFAULT_FILE} here: name a policy file, or give one rule with --limit 5/minute");
        return (vec![Watched::new(file)], Err(Failure::Wrong(why)));
    }
    if serve.watch && file == Path::new("-") {
        let why = "error: --watch: standard input cannot be watched, name a file";
        return (Vec::new(), Err(Failure::Wrong(why.to_owned())));
    }
    let (files, config) = policy_file::config_to_watch(file, reading);
    let read = config.map(|Loaded { config, warnings, source }| {
        // The server says it of each listener that has none, and --upstream can have given one.
        let warnings = warnings.iter().filter(|warning| warning.message != NO_UPSTREAM);
        let warnings = warnings.map(|warning| source.show(warning)).collect();
        Read { config, warnings, source: source.name }
    });
    (files, read)
}

/// The one rule, `default`, that the flags make.
fn from_flags(limits: &Limits, by: &[Part]) -> Result<Config, Failure> {
    let wrong = |error: &dyn std::fmt::Display| Failure::Wrong(format!("error: --limit: {error}"));
    let mut rule = Rule::new("default", limits, None).map_err(|error| wrong(&error))?;
    if let Some(part) = by.iter().find(|part| matches!(part, Part::Subnet | Part::User | Part::Route)) {
        return Err(Failure::Wrong(format!("error: --by {part}: needs a policy file, which says what that is")));
    }
    if !by.is_empty() {
        rule.by = by.to_vec();
    }
    let policy = Policy::new(Default::default(), None, Vec::new(), vec![rule]).map_err(|error| wrong(&error))?;
    Ok(Config { listeners: vec![Listener::new(DEFAULT_ADDRESS)], policy, store: StoreConfig::default() })
}

/// Lets `--listen` and `--upstream` have their way with the one listener there is, or make it.
fn listen_where_told(listeners: &mut Vec<Listener>, serve: &Serve, source: &str) -> Result<(), Failure> {
    let wrong = |why: &str| Err(Failure::Wrong(format!("error: {source}: {why}")));
    let is_in_file = serve.limit.is_none() && !listeners.is_empty();
    if serve.listen.is_some() || serve.upstream.is_some() {
        if listeners.len() > 1 {
            return wrong(
                "it has several listeners, so --listen and --upstream do not tell which: change them in the file",
            );
        }
        if listeners.is_empty() {
            listeners.push(Listener::new(DEFAULT_ADDRESS));
        }
    }
    let Some(listener) = listeners.first_mut() else {
        return wrong("it says nowhere to listen: add `listen:` with an address, or say --listen 127.0.0.1:8080");
    };
    listener.address = serve.listen.unwrap_or(listener.address);
    if let Some(upstream) = &serve.upstream {
        // Other keys, and rules, were written for the one or for the other.
        if is_in_file && upstream.protocol != listener.protocol() {
            let protocol = listener.protocol().name();
            return wrong(&format!("its listener speaks {protocol}, expected --upstream {protocol}://HOST:PORT"));
        }
        listener.upstream = Some(upstream.clone());
    }
    Ok(())
}
