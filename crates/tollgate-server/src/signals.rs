//! What the server does on signals: the first to end finishes what is in flight, a second ends at once, and a hang-up,
//! by which whoever runs a server asks it to read its policy again, is passed on.

use std::io;

use tracing::{info, warn};

use crate::server::{Stage, Stopper, wait_for};

/// The signals that concern a server, from now on.
pub(crate) struct Signals {
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

impl Signals {
    #[cfg(unix)]
    pub(crate) fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    #[cfg(not(unix))]
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Does as the signals say until the server has ended.
    pub(crate) async fn obey(mut self, stopper: Stopper, mut on_hang_up: impl FnMut()) {
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
        match tokio::signal::ctrl_c().await {
            Ok(()) => Signal::End,
            Err(_) => std::future::pending().await,
        }
    }
}
