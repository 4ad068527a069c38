//! The middleware as an app sees it, on a clock that is turned by hand.

mod actix_app;
mod ends;
mod rig;
mod shared;
mod words;
mod workers;
