//! What the server does on signals: the first to end finishes what is in flight, a second ends at once, and a hang-up,
//! by which whoever runs a server asks it to read its policy again, is passed on. Before it runs, the first ends it at once.

use std::{io, thread};

use tokio::{
    runtime::{self, Runtime},
    sync::oneshot,
};
use tracing::{info, warn};

use crate::server::{Stage, Stopper, wait_for};

/// The signals that concern a server: caught from the first thing that its program does, so that none ends it unawares.
#[derive(Debug)]
pub struct Signals {
    runtime: Runtime,
    caught: Caught,
}

impl Signals {
    /// Catches SIGTERM, SIGINT and SIGHUP from now on, or Ctrl-C where there are no others.
    ///
    /// # Errors
    ///
    /// The system does not allow it.
    pub fn listen() -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let caught = {
            let _context = runtime.enter();
            Caught::new()?
        };
        Ok(Self { runtime, caught })
    }

    /// What `start` gives, which runs on a thread of its own; none as soon as a signal says to end, and then the program
    /// should. A hang-up is kept for the server.
    ///
    /// # Errors
    ///
    /// The system gives no thread, or `start` has panicked.
    pub fn during<T: Send + 'static>(&mut self, start: impl FnOnce() -> T + Send + 'static) -> io::Result<Option<T>> {
        let (started, starting) = oneshot::channel();
        let work = move || {
            // An error means that a signal has come first.
            let _ = started.send(start());
        };
        thread::Builder::new().name("start".to_owned()).spawn(work)?;
        let Self { runtime, caught } = self;
        runtime.block_on(async {
            tokio::select! {
                started = starting => started.map(Some).map_err(|_| io::Error::other("the start panicked")),
                () = caught.end() => {
                    info!("stopped");
                    Ok(None)
                }
            }
        })
    }

    /// Does as the signals say until the server has ended.
    pub(crate) fn obey(self, stopper: Stopper, on_hang_up: impl FnMut()) {
        let Self { runtime, caught } = self;
        runtime.block_on(caught.obey(stopper, on_hang_up));
    }
}

#[derive(Debug)]
struct Caught {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    hang_up: tokio::signal::unix::Signal,
}

enum Signal {
    End,
    HangUp,
}

impl Caught {
    #[cfg(unix)]
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    #[cfg(not(unix))]
    fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    async fn obey(mut self, stopper: Stopper, mut on_hang_up: impl FnMut()) {
        let mut stage = stopper.subscribe();
        let mut is_ending = false;
        loop {
            tokio::select! {
                signal = self.next() => match signal {
                    Signal::HangUp => on_hang_up(),
                    Signal::End if is_ending => {
                        warn!("a second signal: ending at once");
                        return stopper.abort();
                    }
                    Signal::End => {
                        info!("ending: accepting nothing more");
                        is_ending = true;
                        stopper.finish();
                    }
                },
                () = wait_for(&mut stage, Stage::Ended) => return,
            }
        }
    }

    #[cfg(unix)]
    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::End,
            _ = self.interrupt.recv() => Signal::End,
            _ = self.hang_up.recv() => Signal::HangUp,
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) -> Signal {
        self.end().await;
        Signal::End
    }

    #[cfg(unix)]
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    #[cfg(not(unix))]
    async fn end(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
