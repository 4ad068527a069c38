//! Rate limiting for [actix-web](https://docs.rs/actix-web) services.
//!
//! ```
//! use actix_web::{App, HttpServer, web};
//! use tollgate_actix::RateLimit;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let uploads = RateLimit::new("5/hour")?;
//! let server = HttpServer::new(move || {
//!     App::new()
//!         .route("/", web::get().to(|| async { "hello" }))
//!         .route("/upload", web::post().to(|| async { "thank you" }).wrap(uploads.clone()))
//! });
//! # let _ = server.bind(("127.0.0.1", 0))?;
//! # Ok(())
//! # }
//! ```
//!
//! The sixth upload of a client within an hour is answered 429 with `Retry-After`, `RateLimit` and a body that a client or a
//! person can read.
//!
//! # Make it outside of the factory, clone it inside
//!
//! **`HttpServer` calls its closure once for every worker.** A limit made inside it is a limit for each worker: on a machine
//! with 16 cores, `5/hour` lets 80 pass. Make the [`RateLimit`] before `HttpServer::new` and `wrap` a clone of it, as above: clones
//! are one limit.
//!
//! # What a limit can be
//!
//! - A limit string or [`Limits`](tollgate::quota::Limits) made in code: [`RateLimit::new`].
//! - A [`Rule`] with a name, a key, methods, headers and an answer of its own: [`RateLimit::of`].
//! - Rules of a [`Limiter`], made in code or read from a policy file: `RateLimit::from(limiter.named("api")?)`. Limits with
//!   the same rule of one limiter share its counters; an unknown name is an error when the service is put together.
//!   A `Limiter<Stores>` counts in a store that several instances share.
//! - All of these with the application's own word for what no rule knows: who is [exempt](RateLimit::exempt), who is
//!   [signed in](RateLimit::user), what a request is [counted by](RateLimit::key), what it [costs](RateLimit::cost), how much
//!   [may pass](RateLimit::limits), which answers [count](RateLimit::count) and what a denied request is
//!   [answered](RateLimit::respond).
//!
//! It wraps an app, a scope, a resource or a route. One around the app and one on a route both hold, and each counts what comes to it:
//! a request that the inner one denies is on the outer one's bill, or whoever has used up the inner limit could do as often as he
//! likes what stands between the two. For all or none, let one limit have both rules.
//!
//! # What a rule sees
//!
//! - The client's address is the one at the other end of the socket. Headers that name another are believed only from the
//!   trusted proxies of the limiter's policy.
//! - The `route` in a key is the pattern of the resource. Around an app or a scope, where actix-web has not chosen one yet, it is the
//!   first whose pattern fits the path; guards are not asked. Let `NormalizePath` run first, by wrapping it last: the path of
//!   `/users//1` fits no pattern, and all such requests of a client are counted as one route more.
//!
//! # Errors
//!
//! An error that a middleware further in returns is a response to its client, so it counts with the status code of that, and its
//! response tells of the limits. It goes on outwards as an [`InternalError`] with this response; who wants the error's own type handles
//! it further in. Handlers' errors are responses before any middleware sees them.
//!
//! # Features
//!
//! - `config`: policy files.
//!
//! [`InternalError`]: actix_web::error::InternalError
//! [`Rule`]: tollgate::policy::Rule
//! [`Limiter`]: tollgate::limiter::Limiter

mod future;
mod layer;
mod limited;
mod request;
mod response;
mod service;

pub use future::ResponseFuture;
pub use layer::RateLimit;
pub use limited::Limited;
pub use service::RateLimitService;
pub use tollgate;
