//! The proxy as its clients and upstreams meet it: over real sockets, byte by byte.

mod rig;

mod denies;
mod fails;
mod forwards;
mod holds;
mod refuses;
mod streams;
mod survives;
mod upgrades;
