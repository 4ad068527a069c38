//! Rate limiting that holds: one policy and one engine for services, proxies and replays.
//!
//! ```
//! use std::time::Duration;
//! use tollgate::{
//!     algorithm::Verdict, clock::{ManualClock, Timestamp}, limiter::Limiter, policy::{Policy, Rule}, request::Request,
//!     store::memory::MemoryStore,
//! };
//!
//! // One rule: every client may make 5 requests a minute, counted here, on a clock that we turn by hand.
//! let clock = ManualClock::new(Timestamp::from_micros(1_700_000_000_000_000));
//! let rule = Rule::new("api", &"5/minute".parse()?, None)?;
//! let policy = Policy::new(Default::default(), None, Vec::new(), vec![rule])?;
//! let limiter = Limiter::new(policy, MemoryStore::new(10_000, clock.clone().into()));
//!
//! let request = Request { peer: Some([203, 0, 113, 7].into()), ..Request::default() };
//! for _ in 0..5 {
//!     assert_eq!(limiter.check_now(&request).verdict(), Verdict::Allow);
//! }
//! let denied = limiter.check_now(&request);
//! assert_eq!(denied.retry_after(), Some(Duration::from_secs(60)));
//!
//! clock.advance(Duration::from_secs(60));
//! assert_eq!(limiter.check_now(&request).verdict(), Verdict::Allow);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The way of a request
//!
//! A [`request`] comes from a [`client`]. Each rule of the [`policy`] whose matcher fits places a charge: a [`key`], its
//! quotas ([`quota`]) and a cost. The [`store`] takes all the charges or none, by the pure steps of the
//! [`algorithm`]s, and gives a status for each; together they make the [`decision`], which becomes [`headers`] and, when
//! it is a denial, an [`answer`]. The [`limiter`] is the walk itself. The modules stand in this order.
//!
//! No HTTP library, no runtime, no I/O, and no clock but [`clock`]: the adapters have those.
//!
//! # Features
//!
//! - `config`: reads policy files ([`config`]).
//! - `testing`: the naive reference models and the conformance suite for stores ([`testing`]).

pub mod clock;
pub mod request;

pub mod client;

pub mod policy;

pub mod key;

pub mod quota;

pub mod algorithm;
pub mod store;

pub mod decision;
pub mod guard;
pub mod limiter;
pub mod throttle;

pub mod answer;
pub mod headers;

pub mod tally;

#[cfg(feature = "config")]
pub mod config;
#[cfg(feature = "testing")]
pub mod testing;
