//! The middleware as a service sees it, on a clock that is turned by hand.

mod axum_app;
mod client;
mod parity;
mod rig;
mod shared;
mod words;
