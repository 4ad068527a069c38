//! The life of the whole server: sockets bound, a thread a core at work, and at the end what is in flight finished.
//! What a worker does with a connection is told in `connection`.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    runtime::{self, Runtime},
    sync::{mpsc, watch},
    task::{self, LocalSet},
};
use tollgate::{config::Listener, limiter::Limiter, store::Stores};
use tracing::{info, warn};

use crate::{
    gate::{Front, Gate},
    listen::{self, BindError},
    report::Report,
    signals::Signals,
    watch::Watch,
};

/// A server whose ports are bound, ready to run.
///
/// Binding and running are apart, so that a port in use is told before anything starts, and so that a caller who asked
/// for port 0 learns from [`Server::addresses`] which ports these are.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
    workers: Vec<Worker>,
    report: Arc<Report>,
    stage: Arc<watch::Sender<Stage>>,
}

impl Server {
    /// Binds every listener, one socket for each core.
    pub fn bind(listeners: Vec<Listener>, limiter: impl Into<Limiter<Stores>>) -> Result<Self, BindError> {
        let limiter = Arc::new(limiter.into());
        let mut workers: Vec<_> = (0..worker_count()).map(|n| Worker { n, doors: Vec::new() }).collect();
        let watch = Arc::new(Watch::new(workers.len()));
        let (mut fronts, mut addresses) = (Vec::new(), Vec::new());
        for listener in listeners {
            let sockets = listen::bind(listener.address, workers.len())?;
            let bound = sockets.first().map_or(Ok(listener.address), |socket| socket.local_addr());
            let address = bound.map_err(|error| BindError::new(listener.address, error))?;
            let front = Arc::new(Front::new(listener, Arc::clone(&limiter), Arc::clone(&watch)));
            for (worker, socket) in workers.iter_mut().zip(sockets) {
                worker.doors.push((Arc::clone(&front), socket));
            }
            fronts.push(front);
            addresses.push(address);
        }
        let report = Arc::new(Report { limiter, watch, fronts });
        Ok(Self { addresses, workers, report, stage: Arc::new(watch::Sender::new(Stage::Serving)) })
    }

    /// The bound addresses, in the order of the listeners.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// A handle that stops the server from elsewhere.
    pub fn stopper(&self) -> Stopper {
        Stopper { stage: Arc::clone(&self.stage) }
    }

    /// Serves until a [`Stopper`] says otherwise, then finishes what is in flight, for at most 30 seconds, and returns.
    pub fn run(self) -> io::Result<()> {
        // Not before somebody listens to signals too: whoever reads this line may send one.
        for (front, address) in self.report.fronts.iter().zip(&self.addresses) {
            front.announce(*address);
        }
        let stopper = self.stopper();
        let start = |worker: Worker| worker.start(&self.report, &self.stage);
        let threads: io::Result<Vec<_>> = self.workers.into_iter().map(start).collect();
        if threads.is_err() {
            stopper.abort();
        }
        let outcome = threads?.into_iter().map(join).fold(Ok(()), io::Result::and);
        stopper.abort();
        self.report.tell();
        info!("stopped");
        outcome
    }

    /// Serves until SIGTERM or Ctrl-C, then finishes what is in flight and returns; a second signal ends at once.
    pub fn run_until_signal(self) -> io::Result<()> {
        let stopper = self.stopper();
        let runtime = current_thread_runtime()?;
        let signals = {
            let _context = runtime.enter();
            Signals::listen()?
        };
        let signals = signals.obey(stopper);
        thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(signals))?;
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

/// What one thread will serve: its own socket for every listener.
#[derive(Debug)]
struct Worker {
    n: usize,
    doors: Vec<(Arc<Front>, std::net::TcpListener)>,
}

impl Worker {
    fn start(self, report: &Arc<Report>, stage: &Arc<watch::Sender<Stage>>) -> io::Result<JoinHandle<io::Result<()>>> {
        let runtime = current_thread_runtime()?;
        let stopper = Stopper { stage: Arc::clone(stage) };
        let report = Arc::clone(report);
        thread::Builder::new().name(format!("worker-{}", self.n)).spawn(move || {
            let outcome = LocalSet::new().block_on(&runtime, self.work(report, stopper.subscribe()));
            if outcome.is_err() {
                stopper.abort();
            }
            // Not waiting for the name look-ups that may still be running on the blocking threads.
            runtime.shutdown_background();
            outcome
        })
    }

    async fn work(self, report: Arc<Report>, mut stage: watch::Receiver<Stage>) -> io::Result<()> {
        // Every task that serves a connection holds one of these; when the last is gone, so is the last connection.
        let (alive, mut gone) = mpsc::channel(1);
        let mut fronts = Vec::new();
        for (front, socket) in self.doors {
            let socket = tokio::net::TcpListener::from_std(socket)?;
            let gate = Gate::new(Arc::clone(&front), self.n);
            task::spawn_local(listen::accept(gate, socket, stage.clone(), alive.clone()));
            fronts.push(front);
        }
        let unfinished = alive.downgrade();
        drop(alive);
        if self.n == 0 {
            task::spawn_local(async move { report.tell_regularly().await });
        }

        wait_for(&mut stage, Stage::Finishing).await;
        let open: usize = fronts.iter().map(|front| front.open_connections.dismiss()).sum();
        if open > 0 {
            info!(connections = open, "finishing what is in flight on {open} connections");
        }
        tokio::select! {
            _ = gone.recv() => return Ok(()),
            () = wait_for(&mut stage, Stage::Ended) => {}
            () = tokio::time::sleep(FINISHING_AT_MOST) => {}
        }
        let connections = unfinished.strong_count();
        if connections > 0 {
            warn!(connections, "closing {connections} connections that had not finished");
        }
        Ok(())
    }
}

pub(crate) async fn wait_for(stage: &mut watch::Receiver<Stage>, at_least: Stage) {
    // An error means that the server's handle is gone, which ends it as well.
    let _ = stage.wait_for(|stage| *stage >= at_least).await;
}

fn join(thread: JoinHandle<io::Result<()>>) -> io::Result<()> {
    thread.join().unwrap_or_else(|_| Err(io::Error::other("a worker thread panicked")))
}

fn current_thread_runtime() -> io::Result<Runtime> {
    runtime::Builder::new_current_thread().enable_all().build()
}

/// A worker per core where the kernel spreads connections over the sockets of one port, else one.
fn worker_count() -> usize {
    if cfg!(target_os = "linux") { thread::available_parallelism().map_or(1, usize::from) } else { 1 }
}

/// Longer than most requests take, and as long as supervisors wait before they kill.
const FINISHING_AT_MOST: Duration = Duration::from_secs(30);
