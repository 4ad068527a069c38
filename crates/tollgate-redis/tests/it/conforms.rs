//! The store keeps the contract of stores, to the microsecond, whatever serves it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use testbed::{Cluster, Server};
use tollgate::{
    clock::{Clock, ManualClock},
    store::{Charge, GiveBack, Store, Taken, memory::MemoryStore},
    testing::conformance::{conformance, sequences},
};
use tollgate_redis::{RedisError, RedisStore, Settings};

/// A store of its own on this server, by the clock that it is given.
pub(crate) fn store(url: &str, clock: ManualClock) -> RedisStore {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let n = MADE.fetch_add(1, Ordering::Relaxed);
    let url = format!("{url}?prefix=t{n}&denials=ask").parse().expect("tests write good URLs");
    RedisStore::connect(Settings::at(url).timeout(Duration::from_secs(20)).clock(clock.into()))
}

#[tokio::test]
async fn keeps_the_contract_of_stores() {
    let server = Server::redis();
    conformance(|clock| store(&format!("redis://{}", server.addr()), clock)).await;
}

#[tokio::test]
async fn keeps_the_contract_in_valkey() {
    let Some(server) = Server::valkey() else { return };
    conformance(|clock| store(&format!("valkey://{}", server.addr()), clock)).await;
}

#[tokio::test]
async fn keeps_the_contract_in_a_cluster() {
    let cluster = Cluster::redis();
    conformance(|clock| store(&format!("redis+cluster://{}", cluster.addrs()[0]), clock)).await;
}

/// Memory and Redis asked the same, and held against each other; the suite holds both against the models.
struct Both {
    memory: MemoryStore,
    redis: RedisStore,
}

impl Both {
    fn same(&self, memory: Taken, redis: Taken) -> Taken {
        assert_eq!((memory.at, &memory.outcomes), (redis.at, &redis.outcomes));
        redis
    }
}

impl Store for Both {
    type Error = RedisError;

    async fn take(&self, charges: &[Charge<'_>]) -> Result<Taken, RedisError> {
        Ok(self.same(self.memory.take_now(charges), self.redis.take(charges).await?))
    }

    async fn look(&self, charges: &[Charge<'_>]) -> Result<Taken, RedisError> {
        Ok(self.same(self.memory.look_now(charges), self.redis.look(charges).await?))
    }

    async fn give_back(&self, given: &[GiveBack<'_>]) -> Result<(), RedisError> {
        self.memory.give_back_now(given);
        self.redis.give_back(given).await
    }

    async fn clear(&self, charges: &[Charge<'_>]) -> Result<(), RedisError> {
        self.memory.clear_now(charges);
        self.redis.clear(charges).await
    }
}

/// So many that there are 100,000 requests and more, of which some look, give back and clear.
const SEQUENCES: std::ops::Range<u64> = 1_000..2_300;
/// So many at the same time, since each waits for the server most of the time.
const AT_ONCE: usize = 16;

#[tokio::test]
async fn memory_script_and_model_give_the_same_answers() {
    let server = Server::redis();
    let url = format!("redis://{}", server.addr());
    let make = |clock: ManualClock| Both {
        memory: MemoryStore::new(10_000, Clock::from(clock.clone())),
        redis: store(&url, clock),
    };
    let mut seeds = SEQUENCES;
    while !seeds.is_empty() {
        let now: Vec<u64> = seeds.by_ref().take(AT_ONCE).collect();
        futures_util::future::join_all(now.into_iter().map(|seed| sequences(seed..seed + 1, &make))).await;
    }
}
