//! Once a minute and at the end: everything that was counted is told.

use std::{sync::Arc, time::Duration};

use tollgate::{limiter::Limiter, store::Stores};

use crate::{gate::Front, watch::Watch};

const EVERY: Duration = Duration::from_secs(60);

/// All that counts something worth telling.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) limiter: Arc<Limiter<Stores>>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) fronts: Vec<Arc<Front>>,
}

impl Report {
    pub(crate) async fn tell_regularly(&self) {
        loop {
            tokio::time::sleep(EVERY).await;
            self.tell();
        }
    }

    /// Tells what has happened since the last time.
    pub(crate) fn tell(&self) {
        self.watch.report(&self.limiter);
        for front in &self.fronts {
            if let Some(upstream) = &front.listener.upstream {
                front.complaints.tell_the_rest(upstream);
            }
        }
    }
}
