//! Counters that instances of Tollgate share in Redis or Valkey: one server, the master that Sentinels name, or a Cluster.
//!
//! ```no_run
//! # async fn shared() -> Result<(), Box<dyn std::error::Error>> {
//! use tollgate::{
//!     clock::Clock, limiter::Limiter, policy::{Policy, Rule}, request::Request,
//!     store::{LOCAL_COUNTERS, Stores, memory::MemoryStore},
//! };
//! use tollgate_redis::{RedisStore, Settings};
//!
//! let policy = Policy::new(Default::default(), None, Vec::new(), vec![Rule::of("api", "1000/minute")?])?;
//! let redis = RedisStore::connect(Settings::at("redis://127.0.0.1:6379".parse()?));
//! let memory = MemoryStore::new(LOCAL_COUNTERS, Clock::system());
//! let limiter = Limiter::new(policy, Stores::sharing(redis, memory, |health| eprintln!("{health}")));
//!
//! let decision = limiter.check(&Request { peer: Some([203, 0, 113, 7].into()), ..Request::default() }).await;
//! # Ok(())
//! # }
//! ```
//!
//! A decision is one call of a script, all or none, in whole numbers that stay exact, by the server's time. Decisions that wait at the
//! same moment share calls. The files are declared in the order in which a decision meets them.

// What is asked.
mod settings;
mod url;

mod store;

// What needs no trip, and what needs several.
mod denials;
mod lease;
mod leases;
mod take;
mod trip;

mod ask;

// Many who ask share a call.
mod queue;

mod batch;
mod script;

// The servers answer, or do not.
mod link;

mod replay;

mod error;
mod statistics;

pub use error::RedisError;
pub use settings::Settings;
pub use statistics::Statistics;
pub use store::RedisStore;
pub use url::{DEFAULT_PREFIX, StoreUrl, UrlError};
