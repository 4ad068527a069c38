//! The listeners of Tollgate: a reverse proxy for HTTP/1.1, and for whatever else speaks over TCP, that lets the engine decide
//! before anything is forwarded.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use tollgate::clock::Clock;
//! use tollgate::config::Listener;
//! use tollgate::limiter::Limiter;
//! use tollgate::policy::{Policy, Rule};
//! use tollgate::store::memory::MemoryStore;
//! use tollgate_server::{Server, Signals};
//!
//! let signals = Signals::listen()?;
//! let rule = Rule::new("api", &"5/minute".parse()?, None)?;
//! let policy = Policy::new(Default::default(), None, Vec::new(), vec![rule])?;
//! let limiter = Limiter::new(policy, MemoryStore::new(10_000, Clock::system()));
//!
//! let mut listener = Listener::new("127.0.0.1:8080".parse()?);
//! listener.upstream = Some("http://127.0.0.1:5000".parse()?);
//!
//! let server = Server::bind(vec![listener], limiter)?;
//! server.run_until_signal(signals, || {})?; // SIGTERM or Ctrl-C, then what is in flight, then here
//! # Ok(())
//! # }
//! ```
//!
//! One thread per core, each with its own runtime, its own listening sockets and its own connections to the upstreams;
//! only the limiter is shared. A [`Reloader`] replaces the policy and the listeners between two requests. The files are declared in groups, in the order in which a request meets these.

// The server's life, and the ports that it listens on.
mod listen;
mod reload;
mod server;
mod signals;
mod worker;

// A connection is let in and watched.
mod activity;
mod arrival;
mod client_stream;
mod connection;
mod gate;
mod one_piece;
mod open_connections;
mod proxy_header;

// A request is read and decided.
mod early;
mod head;
mod hop;
mod plain;
mod request;
mod service;

// An allowed one goes to the upstream.
mod dial;
mod doorbell;
mod exchange;
mod forward;
mod outgoing;
mod pool;
mod upstream_stream;

// An answer comes back, from there or from us.
mod body;
mod failure;
mod response;

// The client's connection leaves HTTP, or never spoke it.
mod drain;
mod pipe;
mod relay;
mod tcp;
mod upgrade;

// The operator is told.
mod report;
mod watch;

pub use listen::BindError;
pub use reload::{ReloadError, Reloader};
pub use server::{Server, Stopper};
pub use signals::Signals;
