//! Real servers and a faulty network, for tests and benchmarks.
//!
//! Everything listens on loopback at ports of its own, so that any number of tests and test processes run side by side.
//! It ends when its owner is dropped, also by a panic, and a moment after the test process should that be killed. What
//! cannot be started panics, and the message says what to do: a test has nothing better to do about it.
//!
//! ```
//! use testbed::{Fault, FaultProxy, Server};
//!
//! let server = Server::redis();
//! server.command(&["SET", "greeting", "hello"]);
//! assert_eq!(server.command(&["GET", "greeting"]).text(), "hello");
//!
//! let proxy = FaultProxy::to(server.addr());
//! // … a client is told `proxy.addr()`, and then the line goes dead.
//! proxy.set(Fault::Blackhole);
//! ```
//!
//! It knows nothing of Tollgate, and blocks; an asynchronous test starts its servers before anything else.

mod cluster;
mod fault_proxy;
mod options;
mod patience;
mod port;
mod process;
mod program;
mod resp;
mod sentinels;
mod server;

pub use cluster::Cluster;
pub use fault_proxy::{Fault, FaultProxy};
pub use options::{Options, Tls};
pub use patience::wait_for;
pub use port::Port;
pub use resp::{Connection, Reply};
pub use sentinels::Sentinels;
pub use server::Server;
