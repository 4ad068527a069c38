//! The store as its users meet it: on real servers.

mod cluster;
mod conforms;
mod denials;
mod extremes;
mod failover;
mod faults;
mod leases;
mod outages;
mod rig;
mod servers;
mod shares;
mod urls;
