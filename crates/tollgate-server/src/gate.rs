//! One listener from one reload to the next: what all workers share of it, what each has for itself, and the door where a
//! connection finds the gate that stands there now.

use std::{cell::RefCell, net::SocketAddr, rc::Rc, sync::Arc};

use tollgate::{config::Listener, limiter::Limiter, request::Protocol, store::Stores};
use tracing::{info, warn};

use crate::{
    failure::{Complaints, Failure},
    open_connections::OpenConnections,
    pool::Pool,
    proxy_header,
    watch::Watch,
};

/// A listener as all workers share it, and the policy that holds there. None of it ever changes: a reload makes another one.
pub(crate) struct Front {
    pub(crate) listener: Listener,
    pub(crate) limiter: Arc<Limiter<Stores>>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) open_connections: Arc<OpenConnections>,
    pub(crate) complaints: Arc<Complaints>,
    pub(crate) strangers: Arc<proxy_header::Complaints>,
}

impl Front {
    pub(crate) fn new(listener: Listener, limiter: Arc<Limiter<Stores>>, watch: Arc<Watch>) -> Self {
        let open_connections = Arc::new(OpenConnections::new(listener.limits.connections));
        let (complaints, strangers) = Default::default();
        Self { listener, limiter, watch, open_connections, complaints, strangers }
    }

    /// The same listener as a new policy has it: whoever is connected stays, and what was said need not be said again.
    pub(crate) fn renewed(&self, listener: Listener, limiter: Arc<Limiter<Stores>>, watch: Arc<Watch>) -> Self {
        let open_connections = Arc::clone(&self.open_connections);
        open_connections.set_bound(listener.limits.connections);
        let is_same_upstream = listener.upstream == self.listener.upstream;
        let complaints = if is_same_upstream { Arc::clone(&self.complaints) } else { Arc::default() };
        Self { listener, limiter, watch, open_connections, complaints, strangers: Arc::clone(&self.strangers) }
    }

    /// A listener without a name is known to have none, so that no rule for another concerns it.
    pub(crate) fn listener_name(&self) -> &str {
        self.listener.name.as_deref().unwrap_or_default()
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
    pub(crate) pool: Option<Rc<Pool>>,
}

impl Gate {
    pub(crate) fn new(front: Arc<Front>, worker: usize) -> Rc<Self> {
        let upstream = front.listener.upstream.clone().filter(|upstream| upstream.protocol == Protocol::Http);
        let pool = upstream.map(|upstream| Pool::new(upstream, front.listener.timeouts.connect));
        Rc::new(Self { front, worker, pool })
    }

    /// The same gate of another front, with its upstream connections if these are still wanted.
    fn renewed(&self, front: Arc<Front>) -> Rc<Self> {
        let leads_where = |front: &Front| (front.listener.upstream.clone(), front.listener.timeouts.connect);
        if leads_where(&front) != leads_where(&self.front) {
            return Self::new(front, self.worker);
        }
        Rc::new(Self { front, worker: self.worker, pool: self.pool.clone() })
    }

    /// Says in the log that the upstream failed.
    pub(crate) fn complain(&self, failure: Failure) {
        if let Some(upstream) = &self.front.listener.upstream {
            self.front.complaints.about(upstream, failure);
        }
    }
}

/// Where connections come in, as one worker has it: which gate they find is settled anew for each of their requests, so that a
/// request has one policy from its start to its end, and a reload comes between two.
pub(crate) struct Door {
    gate: RefCell<Rc<Gate>>,
}

impl Door {
    pub(crate) fn new(gate: Rc<Gate>) -> Rc<Self> {
        Rc::new(Self { gate: RefCell::new(gate) })
    }

    /// What holds from here on for who asks.
    pub(crate) fn gate(&self) -> Rc<Gate> {
        Rc::clone(&self.gate.borrow())
    }

    /// Lets the next request find a gate of this front, which speaks the same protocol.
    pub(crate) fn renew(&self, front: Arc<Front>) {
        let renewed = self.gate.borrow().renewed(front);
        self.gate.replace(renewed);
    }
}
