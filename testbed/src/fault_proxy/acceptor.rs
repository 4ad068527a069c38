//! The listening socket of the proxy, and the thread that accepts from it. Closed when dropped.

use std::{
    io::ErrorKind,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use socket2::SockRef;

use super::switch::Switch;

/// The thread accepts whatever comes, so it is woken in no time.
const WAKE_LIMIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Acceptor {
    address: SocketAddr,
    listener: Arc<TcpListener>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Acceptor {
    pub(super) fn start(address: SocketAddr, switch: Arc<Switch>) -> Self {
        let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("our own port {address}: {error}"));
        let (listener, stopped) = (Arc::new(listener), Arc::new(AtomicBool::new(false)));
        let thread = thread::spawn({
            let (listener, stopped) = (Arc::clone(&listener), Arc::clone(&stopped));
            move || {
                loop {
                    let accepted = listener.accept();
                    if stopped.load(Ordering::Acquire) {
                        break;
                    }
                    match accepted {
                        Ok((client, _)) => switch.take(client),
                        // Gone before we came to it.
                        Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                        Err(error) => panic!("the proxy at {address} cannot accept: {error}"),
                    }
                }
            }
        });
        Self { address, listener, stopped, thread: Some(thread) }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        // Closed, it would listen on for as long as a child has a copy of it that another thread is just starting.
        if SockRef::from(&*self.listener).shutdown(Shutdown::Both).is_err() {
            // Where only connections can be shut down, a thread in `accept` hears only of those.
            let _ = TcpStream::connect_timeout(&self.address, WAKE_LIMIT);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
