//! One thread of the server: its own runtime, and its own socket, door and upstream connections for every port that is in force.

use std::{
    collections::HashMap,
    io,
    rc::Rc,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    net::TcpListener,
    runtime::{self, LocalOptions},
    sync::{mpsc, watch},
    task,
};
use tracing::{error, info, warn};

use crate::{
    gate::{Door, Gate},
    listen,
    open_connections::connections,
    reload::{Orders, Port},
    report::Report,
    server::{Stage, Stopper, wait_for},
};

/// What one thread will serve at first, and where it hears of anything else.
pub(crate) struct Worker {
    pub(crate) n: usize,
    pub(crate) first: Orders,
    pub(crate) orders: mpsc::Receiver<Orders>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("n", &self.n).finish_non_exhaustive()
    }
}

impl Worker {
    pub(crate) fn start(
        self,
        report: &Arc<Report>,
        stopper: &Stopper,
        drain: Duration,
    ) -> io::Result<JoinHandle<io::Result<()>>> {
        let stopper = stopper.clone();
        let report = Arc::clone(report);
        thread::Builder::new().name(format!("worker-{}", self.n)).spawn(move || {
            let outcome = self.run(report, stopper.subscribe(), drain);
            if outcome.is_err() {
                stopper.abort();
            }
            outcome
        })
    }

    fn run(self, report: Arc<Report>, stage: watch::Receiver<Stage>, drain: Duration) -> io::Result<()> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
        let outcome = runtime.block_on(self.work(report, stage, drain));
        // Not waiting for the name look-ups that may still be running on the blocking threads.
        runtime.shutdown_background();
        outcome
    }

    async fn work(mut self, report: Arc<Report>, mut stage: watch::Receiver<Stage>, drain: Duration) -> io::Result<()> {
        // Every task that serves a connection holds one of these; when the last is gone, so is the last connection.
        let (alive, mut gone) = mpsc::channel(1);
        let mut posts = Posts { worker: self.n, stage: stage.clone(), alive, open: HashMap::new() };
        posts.follow(self.first)?;
        if self.n == 0 {
            task::spawn_local(async move { report.tell_regularly().await });
        }
        loop {
            let orders = tokio::select! {
                () = wait_for(&mut stage, Stage::Finishing) => break,
                orders = self.orders.recv() => orders,
            };
            match orders {
                Some(orders) => {
                    if let Err(error) = posts.follow(orders) {
                        error!(%error, worker = self.n, "worker {} cannot accept from a new port: {error}", self.n);
                    }
                }
                // Nobody can give any more.
                None => {
                    wait_for(&mut stage, Stage::Finishing).await;
                    break;
                }
            }
        }
        // So whoever waits for orders to be followed does not wait for ever.
        drop(self.orders);

        let open = posts.dismiss();
        let unfinished = posts.alive.downgrade();
        drop(posts);
        if open > 0 {
            info!(connections = open, "finishing what is in flight on {}", connections(open));
        }
        tokio::select! {
            _ = gone.recv() => return Ok(()),
            () = wait_for(&mut stage, Stage::Ended) => {}
            () = tokio::time::sleep(drain) => {}
        }
        let left = unfinished.strong_count();
        if left > 0 {
            warn!(connections = left, "closing {} that had not finished", connections(left));
        }
        Ok(())
    }
}

/// What a worker listens on.
struct Posts {
    worker: usize,
    stage: watch::Receiver<Stage>,
    alive: mpsc::Sender<()>,
    /// By the numbers of their ports.
    open: HashMap<u64, Post>,
}

/// A socket that connections are accepted from.
struct Post {
    socket: Rc<TcpListener>,
    door: Rc<Door>,
    accepting: task::JoinHandle<()>,
}

impl Posts {
    /// Opens, keeps and closes until all is as ordered. A port that fails is left out, and the others are served.
    fn follow(&mut self, orders: Orders) -> io::Result<()> {
        let Orders { ports, followed } = orders;
        let mut before = std::mem::take(&mut self.open);
        let mut outcome = Ok(());
        for (port, socket) in ports {
            let number = port.number;
            let post = match (before.remove(&number), socket) {
                (Some(post), _) => Ok(self.keep(post, port)),
                (None, Some(socket)) => TcpListener::from_std(socket).map(|socket| self.accept(Rc::new(socket), port)),
                // It has failed before.
                (None, None) => continue,
            };
            match post {
                Ok(post) => drop(self.open.insert(number, post)),
                Err(error) => outcome = Err(error),
            }
        }
        before.into_values().for_each(|post| post.accepting.abort());
        drop(followed);
        outcome
    }

    fn keep(&self, post: Post, port: Port) -> Post {
        let speaks = post.door.gate().front.listener.protocol();
        if speaks == port.front.listener.protocol() {
            post.door.renew(port.front);
            return post;
        }
        // Whoever is connected goes on as he came, until he is asked to leave.
        post.accepting.abort();
        self.accept(post.socket, port)
    }

    fn accept(&self, socket: Rc<TcpListener>, port: Port) -> Post {
        let door = Door::new(Gate::new(port.front, self.worker));
        let (stage, alive) = (self.stage.clone(), self.alive.clone());
        let accepting = task::spawn_local(listen::accept(Rc::clone(&door), Rc::clone(&socket), stage, alive));
        Post { socket, door, accepting }
    }

    /// Asks everybody to leave who is connected, over all workers, and says how many there were.
    fn dismiss(&self) -> usize {
        self.open.values().map(|post| post.door.gate().front.open_connections.dismiss()).sum()
    }
}
