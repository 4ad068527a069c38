//! The life of the whole server: sockets bound, a thread a core at work, and at the end what is in flight finished.
//! What a worker does with a connection is told in `connection`.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::sync::{mpsc, watch};
use tollgate::{config::Listener, limiter::Limiter, store::Stores};
use tracing::info;

use crate::{
    listen::BindError,
    reload::{Reloader, first_orders},
    report::Report,
    signals::Signals,
    worker::Worker,
};

/// A server whose ports are bound, ready to run.
///
/// Binding and running are apart, so that a port in use is told before anything starts, and so that a caller who asked
/// for port 0 learns from [`Server::addresses`] which ports these are.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
    workers: Vec<Worker>,
    reloader: Reloader,
    drain: Duration,
}

impl Server {
    /// Binds every listener, one socket for each core.
    ///
    /// # Errors
    ///
    /// An address that cannot be listened on.
    pub fn bind(listeners: Vec<Listener>, limiter: impl Into<Limiter<Stores>>) -> Result<Self, BindError> {
        let count = worker_count();
        let (edition, orders) = first_orders(listeners, Arc::new(limiter.into()), count)?;
        let addresses = edition.ports.iter().map(|port| port.address).collect();
        let employ = |(n, first)| {
            let (sender, orders) = mpsc::channel(1);
            (Worker { n, first, orders }, sender)
        };
        let (workers, senders): (Vec<_>, Vec<_>) = orders.into_iter().enumerate().map(employ).unzip();
        let reloader = Reloader {
            workers: Arc::new(Mutex::new(senders)),
            report: Arc::new(Report::of(edition)),
            stopper: Stopper { stage: Arc::new(watch::Sender::new(Stage::Serving)) },
        };
        Ok(Self { addresses, workers, reloader, drain: DRAIN })
    }

    /// The same, but at the end it waits so long at most for what is in flight, and not 30 seconds.
    #[must_use]
    pub fn draining(self, drain: Duration) -> Self {
        Self { drain, ..self }
    }

    /// The bound addresses, in the order of the listeners.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// A handle that stops the server from elsewhere.
    pub fn stopper(&self) -> Stopper {
        self.reloader.stopper.clone()
    }

    /// A handle that gives the server another policy from elsewhere, once it runs.
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// Serves until a [`Stopper`] says otherwise, then finishes what is in flight, for at most 30 seconds or what
    /// [`draining`](Self::draining) says, and returns.
    ///
    /// # Errors
    ///
    /// The system gives no thread, or one of them has failed.
    pub fn run(self) -> io::Result<()> {
        let Reloader { report, stopper, .. } = &self.reloader;
        // Not before somebody listens to signals too: whoever reads this line may send one.
        for port in &report.edition().ports {
            port.front.announce(port.address);
        }
        let start = |worker: Worker| worker.start(report, stopper, self.drain);
        let threads: io::Result<Vec<_>> = self.workers.into_iter().map(start).collect();
        if threads.is_err() {
            stopper.abort();
        }
        let outcome = threads?.into_iter().map(join).fold(Ok(()), io::Result::and);
        stopper.abort();
        report.tell();
        info!("stopped");
        outcome
    }

    /// Serves until SIGTERM or Ctrl-C, then finishes what is in flight and returns; a second signal ends at once. A SIGHUP is
    /// told to `on_hang_up`, which is not to take long: no other signal is heard meanwhile.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn run_until_signal(self, signals: Signals, on_hang_up: impl FnMut() + Send + 'static) -> io::Result<()> {
        let stopper = self.stopper();
        thread::Builder::new().name("signals".to_owned()).spawn(move || signals.obey(stopper, on_hang_up))?;
        self.run()
    }
}

/// Stops a running [`Server`].
#[derive(Debug, Clone)]
pub struct Stopper {
    stage: Arc<watch::Sender<Stage>>,
}

impl Stopper {
    /// Accepts nothing more and ends when what is in flight is finished.
    pub fn finish(&self) {
        self.advance(Stage::Finishing);
    }

    /// Ends at once, whatever is in flight.
    pub fn abort(&self) {
        self.advance(Stage::Ended);
    }

    pub(crate) fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    fn advance(&self, to: Stage) {
        self.stage.send_if_modified(|stage| std::mem::replace(stage, to.max(*stage)) < to);
    }
}

/// How far the server's life has gone; it only goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Serving,
    Finishing,
    Ended,
}

pub(crate) async fn wait_for(stage: &mut watch::Receiver<Stage>, at_least: Stage) {
    // An error means that the server's handle is gone, which ends it as well.
    let _ = stage.wait_for(|stage| *stage >= at_least).await;
}

fn join(thread: JoinHandle<io::Result<()>>) -> io::Result<()> {
    thread.join().unwrap_or_else(|_| Err(io::Error::other("a worker thread panicked")))
}

/// A worker per core where the kernel spreads connections over the sockets of one port, else one.
fn worker_count() -> usize {
    if cfg!(target_os = "linux") { thread::available_parallelism().map_or(1, usize::from) } else { 1 }
}

/// Longer than most requests take, and as long as supervisors wait before they kill.
const DRAIN: Duration = Duration::from_secs(30);
