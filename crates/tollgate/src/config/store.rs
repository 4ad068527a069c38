//! `store`: where rules count.

use std::time::Duration;

use super::{Surroundings, node::Value, read::Field};
use crate::store::{LOCAL_COUNTERS, memory::DEFAULT_COUNTERS};

/// Where the rules of a policy count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// How many counters to hold in memory.
    pub counters: usize,
    /// The store that instances share; none if each counts by itself.
    pub shared: Option<SharedStore>,
}

/// A store that instances share.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedStore {
    /// Where it is. It can hold a password.
    pub url: String,
    /// How long a decision waits for it.
    pub timeout: Duration,
    /// The certificates to believe it by, as PEM; none: the system's.
    pub ca: Option<String>,
}

impl std::fmt::Debug for SharedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedStore").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { counters: DEFAULT_COUNTERS, shared: None }
    }
}

impl StoreConfig {
    /// Counts in the store at this address, and in memory while that cannot answer.
    pub fn at(url: String) -> Self {
        let shared = SharedStore { url, timeout: SharedStore::DEFAULT_TIMEOUT, ca: None };
        Self { counters: LOCAL_COUNTERS, shared: Some(shared) }
    }
}

impl SharedStore {
    /// How long a decision waits unless told otherwise.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_millis(100);
}

/// `memory`, `{ memory: { counters: 1000000 } }`, a URL, or `{ url: …, timeout: 100ms, ca: file.pem }`.
pub(super) fn store(field: Field<'_>, surroundings: &Surroundings<'_>) -> Option<StoreConfig> {
    if !matches!(field.node.value, Value::Map(_)) {
        return match field.text()? {
            "memory" => Some(StoreConfig::default()),
            text if text.contains("://") => Some(StoreConfig::at(url(field, surroundings)?)),
            _ => {
                field.wrong("expected memory or a URL such as redis://127.0.0.1:6379");
                None
            }
        };
    }
    let mut store = field.fields("a store")?;
    if field.has("memory") {
        let memory = store.required("memory").and_then(counters);
        store.finish();
        return Some(StoreConfig { counters: memory?, shared: None });
    }
    let url = store.required("url").and_then(|field| url(field, surroundings));
    let timeout = store.optional("timeout").map(timeout);
    let ca_field = store.optional("ca");
    let ca = ca_field.map(|field| certificates(field, surroundings));
    store.finish();
    if let (Some(url), Some(ca_field)) = (&url, ca_field)
        && !speaks_tls(url)
    {
        ca_field.mistakes.at(ca_field.place(), "ca: the URL asks for no TLS, expected rediss:// or valkeys://");
    }
    let timeout = timeout.unwrap_or(Some(SharedStore::DEFAULT_TIMEOUT))?;
    let ca = ca.map_or(Some(None), |ca| ca.map(Some))?;
    Some(StoreConfig { counters: LOCAL_COUNTERS, shared: Some(SharedStore { url: url?, timeout, ca }) })
}

fn counters(memory: Field<'_>) -> Option<usize> {
    /// More than any machine's memory holds is a slip of the hand.
    const MAX_COUNTERS: u64 = 10_000_000_000;
    let mut memory = memory.fields("the memory store")?;
    let counters = memory.optional("counters").map(|field| field.integer(1..=MAX_COUNTERS));
    memory.finish();
    match counters {
        Some(counters) => usize::try_from(counters?).ok(),
        None => Some(DEFAULT_COUNTERS),
    }
}

fn url(field: Field<'_>, surroundings: &Surroundings<'_>) -> Option<String> {
    let url = field.text()?;
    match (surroundings.store_url)(url) {
        Ok(()) => Some(url.to_owned()),
        Err(why) => {
            // Without the URL itself, which can hold a password.
            field.mistakes.at(field.place(), format!("store: {why}"));
            None
        }
    }
}

/// `rediss://`, `valkeys+cluster://`, …
fn speaks_tls(url: &str) -> bool {
    let scheme = url.split("://").next().unwrap_or_default();
    scheme.split('+').next().is_some_and(|base| base.ends_with("ss") || base.ends_with("ys"))
}

/// Whoever waits for a limit longer than that would rather have no limit.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(10);

fn timeout(field: Field<'_>) -> Option<Duration> {
    match field.duration()? {
        timeout if timeout > LONGEST_TIMEOUT => field.expected("a duration of at most 10s"),
        timeout => Some(timeout),
    }
}

fn certificates(field: Field<'_>, surroundings: &Surroundings<'_>) -> Option<String> {
    match (surroundings.file)(field.text()?) {
        Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => Some(text),
        Ok(_) => {
            field.wrong("holds no certificate, expected PEM with -----BEGIN CERTIFICATE-----");
            None
        }
        Err(why) => {
            field.wrong(why);
            None
        }
    }
}
