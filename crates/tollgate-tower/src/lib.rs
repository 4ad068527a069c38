//! Rate limiting for tower services: [axum](https://docs.rs/axum), [hyper](https://docs.rs/hyper),
//! [tonic](https://docs.rs/tonic).
//!
//! ```
//! use axum::{Router, routing::{get, post}};
//! use tollgate_tower::RateLimitLayer;
//!
//! # fn app() -> Result<Router, Box<dyn std::error::Error>> {
//! let app = Router::new()
//!     .route("/", get(|| async { "hello" }))
//!     .route("/upload", post(|| async { "thank you" }).layer(RateLimitLayer::new("5/hour")?));
//! # Ok(app)
//! # }
//! # app().unwrap();
//! ```
//!
//! The sixth upload of a client within an hour is answered 429 with `Retry-After`, `RateLimit` and a body that a client or a
//! person can read. Serve with `into_make_service_with_connect_info::<SocketAddr>()`, so that clients have addresses; without
//! one, all of them are one client.
//!
//! # What a limit can be
//!
//! - A limit string or [`Limits`](tollgate::quota::Limits) made in code: [`RateLimitLayer::new`].
//! - A [`Rule`] with a name, a key, methods, headers and an answer of its own: [`RateLimitLayer::of`].
//! - Rules of a [`Limiter`], made in code or read from a policy file: `RateLimitLayer::from(limiter.named("api")?)`. Layers
//!   with the same rule of one limiter share its counters; an unknown name is an error when the service is put together.
//!   A `Limiter<Stores>` counts in a store that several instances share.
//! - All of these with the application's own word for what no rule knows: who is [exempt](RateLimitLayer::exempt), who is
//!   [signed in](RateLimitLayer::user), what a request is [counted by](RateLimitLayer::key), what it [costs](RateLimitLayer::cost), how much
//!   [may pass](RateLimitLayer::limits), which answers [count](RateLimitLayer::count) and what a denied request is
//!   [answered](RateLimitLayer::respond).
//!
//! A layer around a whole router and one on a route both hold, and each counts what comes to it: a request that the inner one denies is
//! on the outer one's bill, or whoever has used up the inner limit could do as often as he likes what stands between the two. For
//! all or none, let one layer have both rules.
//!
//! # Features
//!
//! - `axum`: finds the peer's address (`ConnectInfo<SocketAddr>`) and the matched route (`MatchedPath`) where axum puts them,
//!   and lets handlers extract [`Limited`]. Without it, say where the address is: [`RateLimitLayer::peer`].
//! - `client`: holds back a client's own calls to services that limit them: [`client`].
//! - `config`: policy files.
//!
//! [`Rule`]: tollgate::policy::Rule
//! [`Limiter`]: tollgate::limiter::Limiter

#[cfg(feature = "client")]
pub mod client;

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// The guide's examples run.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/library.md")]
struct Guide;

mod future;
mod layer;
mod limited;
mod request;
mod service;

pub mod response;

pub use future::ResponseFuture;
pub use layer::RateLimitLayer;
pub use limited::Limited;
pub use service::RateLimit;
pub use tollgate;
