//! What is in force, and what is told of it: once a minute, at the end, and of what a reload replaces, everything that was
//! counted.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tollgate::{limiter::Limiter, store::Stores};

use crate::{
    gate::Front,
    reload::Port,
    watch::{Told, Watch, lock},
};

const EVERY: Duration = Duration::from_secs(60);

/// A policy and the listeners where it holds, from one reload to the next.
#[derive(Clone, Debug)]
pub(crate) struct Edition {
    pub(crate) limiter: Arc<Limiter<Stores>>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) ports: Vec<Port>,
}

impl Edition {
    pub(crate) fn fronts(&self) -> impl Iterator<Item = &Arc<Front>> {
        self.ports.iter().map(|port| &port.front)
    }
}

/// All that counts something worth telling.
#[derive(Debug)]
pub(crate) struct Report {
    edition: Mutex<Edition>,
    told: Mutex<Told>,
}

impl Report {
    pub(crate) fn of(edition: Edition) -> Self {
        Self { edition: Mutex::new(edition), told: Mutex::default() }
    }

    /// What is in force now.
    pub(crate) fn edition(&self) -> Edition {
        lock(&self.edition).clone()
    }

    /// Tells of what was in force, and goes on with what is now.
    pub(crate) fn go_on_with(&self, edition: Edition) {
        let replaced = std::mem::replace(&mut *lock(&self.edition), edition);
        self.tell_of(&replaced);
    }

    pub(crate) async fn tell_regularly(&self) {
        loop {
            tokio::time::sleep(EVERY).await;
            self.tell();
        }
    }

    /// Tells what has happened since the last time.
    pub(crate) fn tell(&self) {
        self.tell_of(&self.edition());
    }

    fn tell_of(&self, edition: &Edition) {
        edition.watch.report(&edition.limiter, &mut lock(&self.told));
        for front in edition.fronts() {
            front.open_connections.tell_the_rest();
            if let Some(upstream) = &front.listener.upstream {
                front.complaints.tell_the_rest(upstream);
            }
        }
    }
}
