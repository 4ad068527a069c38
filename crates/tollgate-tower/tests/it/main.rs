//! The middleware as a service sees it, on a clock that is turned by hand.

mod axum_app;
mod rig;
mod words;
