//! The proxy as its clients and upstreams meet it: over real sockets, byte by byte.

mod rig;

mod denies;
mod early;
mod exchanges;
mod fails;
mod forwards;
mod holds;
mod proxy_protocol;
mod refuses;
mod streams;
mod survives;
mod tcp;
mod upgrades;
