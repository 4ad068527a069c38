//! The store as its users meet it: on real servers.

mod conforms;
