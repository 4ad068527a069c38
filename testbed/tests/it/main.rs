//! The servers start, answer, fail as they are told to, and leave nothing behind.

mod cluster;
mod fault_proxy;
mod left;
mod port;
mod sentinels;
mod server;
