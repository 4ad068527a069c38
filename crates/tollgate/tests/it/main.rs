//! The engine as its users meet it: through the public API, on a clock turned by hand.

mod rig;

mod algorithms;
mod answers;
mod bounds;
mod clients;
mod config;
mod decisions;
mod faults;
mod headers;
mod keys;
mod limits;
mod memory;
mod parity;
mod paths;
mod policy;
mod throttle;
mod vectors;
