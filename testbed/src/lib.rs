//! Real servers, for tests and benchmarks.
//!
//! Everything listens on loopback at ports of its own, so that any number of tests and test processes run side by side.
//! It ends when its owner is dropped, also by a panic, and a moment after the test process should that be killed. What
//! cannot be started panics, and the message says what to do: a test has nothing better to do about it.
//!
//! ```
//! use testbed::Server;
//!
//! let server = Server::redis();
//! server.command(&["SET", "greeting", "hello"]);
//! assert_eq!(server.command(&["GET", "greeting"]).text(), "hello");
//! ```
//!
//! It knows nothing of Tollgate, and blocks; an asynchronous test starts its servers before anything else.

mod patience;
mod port;
mod process;
mod program;
mod resp;
mod server;

pub use patience::wait_for;
pub use port::Port;
pub use resp::{Connection, Reply};
pub use server::{Options, Server, Tls};
