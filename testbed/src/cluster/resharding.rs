//! Moving a slot from one master to another, at once or half-way.

use super::{Cluster, id};
use crate::{resp::Reply, server::Server};

/// Keys are moved by so many at a time.
const MOVED_TOGETHER: &str = "100";
const MOVE_LIMIT_MS: &str = "5000";

impl Cluster {
    /// Moves the slot of a key, and all keys in it, to another master, and returns that: the former one says `MOVED`
    /// from now on.
    #[track_caller]
    pub fn move_slot(&self, key: &str) -> &Server {
        let (slot, source) = (self.slot(key).to_string(), self.master_of(key));
        let target = self.set_migrating(key);
        let mut masters = self.masters();
        // The new one first: were it to fail in between, the slot would be nobody's.
        masters.sort_by_key(|master| (master.addr() != target.addr(), master.addr() != source.addr()));
        for master in masters {
            master.tell(&["CLUSTER", "SETSLOT", &slot, "NODE", &id(target)]);
        }
        self.await_settled();
        target
    }

    /// Begins to move the slot of a key, and returns to whom: all keys in it are there already, but the former master
    /// still owns the slot and says `ASK`. [`move_slot`](Self::move_slot) brings it to its end.
    #[track_caller]
    pub fn set_migrating(&self, key: &str) -> &Server {
        let (slot, source) = (self.slot(key), self.master_of(key));
        let others = self.masters().into_iter().filter(|master| master.addr() != source.addr());
        let target = others.min_by_key(|master| master.port()).expect("there are other masters");
        let slot = slot.to_string();
        target.tell(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(source)]);
        source.tell(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(target)]);
        loop {
            let keys = source.tell(&["CLUSTER", "GETKEYSINSLOT", &slot, MOVED_TOGETHER]);
            if keys.array().is_empty() {
                return target;
            }
            let port = target.port().to_string();
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", MOVE_LIMIT_MS];
            if let Some(password) = &source.options().password {
                migrate.extend(["AUTH", password]);
            }
            migrate.push("KEYS");
            migrate.extend(keys.array().iter().map(Reply::text));
            source.tell(&migrate);
        }
    }
}
