//! Trips for leases: one at a time for each counter, for all who wait for it. What it brings is handed to them in the order in which they came,
//! so that nobody wakes up to find that others were faster.

use std::sync::Arc;

use crate::{
    RedisStore,
    ask::{Counter, Counters, Verb, Want},
    error::RedisError,
    lease::{Brought, Lease, Portion, Turn},
};

impl RedisStore {
    /// Spends of a lease, for which somebody makes a trip if there is not enough. None: there is too little left.
    pub(crate) async fn spend(&self, want: &Want<'_>) -> Result<Option<Portion>, RedisError> {
        let lease = self.leases.of(want, &self.settings.url.prefix);
        let handed = match lease.spend_or_wait(want, self.clock.now())? {
            Turn::Spends(portion) => return Ok(Some(portion)),
            Turn::Asks => return Ok(None),
            Turn::Waits(handed) => handed,
            Turn::Travels(handed) => {
                // What a trip brings is held also when whoever began it has given up, or his runtime has ended: the server has charged all of it.
                self.runtime.spawn(travel(self.clone(), Traveller { lease, is_back: false }));
                handed
            }
        };
        handed.await.unwrap_or_else(|_| Err(RedisError::Disconnected("its runtime has ended".to_owned())))
    }

    async fn bring(&self, counter: Counter) -> Result<Option<Brought>, RedisError> {
        let quota = counter.quota;
        let answer = self.ask(Verb::Lease, Counters::from([counter])).await?;
        let outcome = answer.taken.outcomes.first().filter(|_| answer.leased > 0);
        let server_now = answer.taken.at;
        Ok(outcome.map(|outcome| Brought { leased: answer.leased, quota, status: outcome.status, server_now }))
    }
}

/// Makes trips for as long as somebody waits.
async fn travel(store: RedisStore, mut traveller: Traveller) {
    let lease = traveller.lease.clone();
    loop {
        // Whoever can run comes to wait first, so that one trip is for all of them.
        tokio::task::yield_now().await;
        let Some((counter, asked_for)) = lease.next_trip() else { break };
        let asked_at = store.clock.now();
        let brought = store.bring(counter).await;
        lease.hand_out(brought, asked_for, asked_at, store.clock.now());
    }
    traveller.is_back = true;
}

/// Somebody on his way. If the runtime ends before he is back, those who wait are told.
struct Traveller {
    lease: Arc<Lease>,
    is_back: bool,
}

impl Drop for Traveller {
    fn drop(&mut self) {
        if !self.is_back {
            self.lease.abandon();
        }
    }
}
