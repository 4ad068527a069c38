//! The engine as its users meet it: through the public API, on a clock turned by hand.

mod rig;
mod shared_rig;

mod algorithms;
mod answers;
mod bounds;
mod changes;
mod clients;
mod config;
mod decisions;
mod faults;
mod headers;
mod keys;
mod limits;
mod memory;
mod outages;
mod parity;
mod paths;
mod policy;
mod shared_throttle;
mod stores;
mod throttle;
mod vectors;
