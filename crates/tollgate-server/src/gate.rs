//! One listener: what all workers share of it, and what each has for itself.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use tollgate::{config::Listener, limiter::Limiter, request::Protocol, store::Stores};
use tracing::{info, warn};

use crate::{
    failure::{Complaints, Failure},
    open_connections::OpenConnections,
    pool::Pool,
    proxy_header,
    watch::Watch,
};

/// A listener as all workers share it.
pub(crate) struct Front {
    pub(crate) listener: Listener,
    pub(crate) limiter: Arc<Limiter<Stores>>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) open_connections: Arc<OpenConnections>,
    pub(crate) complaints: Complaints,
    pub(crate) strangers: proxy_header::Complaints,
}

impl Front {
    pub(crate) fn new(listener: Listener, limiter: Arc<Limiter<Stores>>, watch: Arc<Watch>) -> Self {
        let open_connections = Arc::new(OpenConnections::new(listener.limits.connections));
        let (complaints, strangers) = Default::default();
        Self { listener, limiter, watch, open_connections, complaints, strangers }
    }

    pub(crate) fn announce(&self, address: SocketAddr) {
        let Listener { proxy_protocol, send_proxy_protocol, .. } = self.listener;
        let takes = if proxy_protocol { ", taking PROXY headers of trusted proxies" } else { "" };
        let sends =
            send_proxy_protocol.map(|version| format!(", sending PROXY {}", version.name())).unwrap_or_default();
        let protocol = self.listener.protocol().name();
        match &self.listener.upstream {
            Some(upstream) => {
                info!(%address, %upstream, "listening on {protocol}://{address} → {upstream}{takes}{sends}");
            }
            None => {
                warn!(%address, "listening on http://{address}, no upstream: allowed requests are answered here{takes}")
            }
        }
    }
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front").field("address", &self.listener.address).finish_non_exhaustive()
    }
}

/// A listener as one worker serves it: with its own upstream connections, so that no worker waits for another.
pub(crate) struct Gate {
    pub(crate) front: Arc<Front>,
    /// Which of the workers.
    pub(crate) worker: usize,
    /// `None`: there is no upstream, and allowed requests are answered here; or it speaks TCP, where a connection serves one
    /// client.
    pub(crate) pool: Option<Pool>,
}

impl Gate {
    pub(crate) fn new(front: Arc<Front>, worker: usize) -> Rc<Self> {
        let upstream = front.listener.upstream.clone().filter(|upstream| upstream.protocol == Protocol::Http);
        let pool = upstream.map(|upstream| Pool::new(upstream, front.listener.timeouts.connect));
        let gate = Rc::new(Self { front, worker, pool });
        if gate.pool.is_some() {
            Pool::sweep_regularly(&gate);
        }
        gate
    }

    /// Says in the log that the upstream failed.
    pub(crate) fn complain(&self, failure: Failure) {
        if let Some(upstream) = &self.front.listener.upstream {
            self.front.complaints.about(upstream, failure);
        }
    }
}
