//! The store that instances share, as the policy names it: connected, and its outages told in the log.

use std::sync::Arc;

use anyhow::Context as _;
use tollgate::{
    clock::Clock,
    config::{SharedStore, StoreConfig},
    store::{Health, Stores, memory::MemoryStore},
};
use tollgate_redis::{RedisStore, Settings, StoreUrl};
use tracing::{info, warn};

use crate::Failure;

/// The stores that the rules of a policy count in, told in the log.
pub(crate) fn open(config: &StoreConfig) -> Result<Stores, Failure> {
    let counters = config.counters;
    let memory = MemoryStore::try_new(counters, Clock::system()).map_err(anyhow::Error::from)?;
    let megabytes = memory.bytes().div_ceil(1_000_000);
    let Some(shared) = &config.shared else {
        info!(counters, megabytes, "store memory, {counters} counters in {megabytes} MB");
        return Ok(Stores::from(Arc::new(memory)));
    };
    let (url, settings) = settings(shared)?;
    let timeout_ms = u64::try_from(shared.timeout.as_millis()).unwrap_or(u64::MAX);
    info!(
        store = %url, timeout_ms, counters, megabytes,
        "store {url}, asked for {timeout_ms} ms at most, and memory while it does not answer: {counters} counters in {megabytes} MB"
    );
    let redis = RedisStore::on_thread(settings).context("the thread of the store")?;
    if let Err(error) = redis.probe_now() {
        warn!(store = %url, %error, "the store does not answer: {error}; until it does, each rule goes by its on_store_error");
    }
    Ok(Stores::sharing(redis, memory, move |health| tell(&url, &health)))
}

/// How the store is to be reached.
fn settings(shared: &SharedStore) -> Result<(StoreUrl, Settings), Failure> {
    let url: StoreUrl = shared.url.parse().map_err(|error| Failure::Wrong(format!("error: store: {error}")))?;
    let settings = Settings::at(url.clone()).timeout(shared.timeout);
    let settings = match &shared.ca {
        Some(pem) => settings.ca(pem.clone()),
        None => settings,
    };
    Ok((url, settings))
}

fn tell(url: &StoreUrl, health: &Health) {
    match health {
        Health::Degraded { error } => {
            warn!(store = %url, error, "{health}; each rule goes by its on_store_error until it does");
        }
        Health::Recovered { after, without } => {
            let decisions: u64 = without.iter().map(|(_, decisions)| decisions).sum();
            info!(store = %url, after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX), decisions, "{health}");
        }
    }
}
