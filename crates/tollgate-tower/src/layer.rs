//! The layer: which limiter, and what the application's own code says.

use std::{fmt, net::IpAddr, sync::Arc};

use http::{Response, request::Parts};
use tollgate::{
    decision::Decision,
    guard::Guard,
    key::Key,
    limiter::Limiter,
    policy::{PolicyError, Rule},
    quota::{Limits, LimitsError},
    store::Stores,
};
use tower_layer::Layer;

use crate::service::RateLimit;

/// Limits the service that it is put on: a route, a router, a whole server. `B` is the body of its responses.
///
/// Clones are the same limit, counted together.
pub struct RateLimitLayer<B> {
    pub(crate) guard: Arc<Guard<Parts, Response<B>>>,
    /// How the text of an answer becomes a body.
    pub(crate) body: fn(String) -> B,
}

impl<B: From<String>> RateLimitLayer<B> {
    /// Allows each client so much, counted in a table of its own of a million counters, whose memory (24 MB) is taken as it is used. Many
    /// limits better share one: make a [`Limiter`] of their rules.
    ///
    /// # Errors
    ///
    /// A limit string that is none, or that no algorithm counts.
    pub fn new<L>(limits: L) -> Result<Self, LimitsError>
    where
        L: TryInto<Limits>,
        LimitsError: From<L::Error>,
    {
        Ok(Self::from(Limiter::allowing(limits)?))
    }

    /// Limits by one rule.
    ///
    /// # Errors
    ///
    /// Its name is no rule's name.
    pub fn of(rule: Rule) -> Result<Self, PolicyError> {
        Ok(Self::from(Limiter::of([rule])?))
    }
}

/// Limits by the rules of a limiter, whose counters every layer shares that is made from it or its clones.
impl<B: From<String>> From<Limiter> for RateLimitLayer<B> {
    fn from(limiter: Limiter) -> Self {
        Self::with_body(limiter, B::from)
    }
}

/// The same by counters that several instances share. Requests then wait for the store's answer.
impl<B: From<String>> From<Limiter<Stores>> for RateLimitLayer<B> {
    fn from(limiter: Limiter<Stores>) -> Self {
        Self::with_body(limiter, B::from)
    }
}

impl<B> RateLimitLayer<B> {
    /// The same for bodies that are not made from a `String`: `body` makes one of the text of an answer.
    pub fn with_body(limiter: impl Into<Limiter<Stores>>, body: fn(String) -> B) -> Self {
        Self { guard: Arc::new(Guard::new(limiter)), body }
    }

    /// Neither limits nor counts requests of which `exempt` is true.
    #[must_use]
    pub fn exempt(self, exempt: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.set(|guard| guard.set_exempt(exempt))
    }

    /// Says where the address at the other end of the socket is to be found, if not where axum puts it.
    #[must_use]
    pub fn peer(self, peer: impl Fn(&Parts) -> Option<IpAddr> + Send + Sync + 'static) -> Self {
        self.set(|guard| guard.set_peer(peer))
    }

    /// Says who is signed in; none is a guest, whatever the policy's `user` would find. What `guests_only`, `users_only` and `user` in a key ask for.
    #[must_use]
    pub fn user(self, user: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static) -> Self {
        self.set(|guard| guard.set_user(user))
    }

    /// Says what a request is counted by; none leaves that to the rule, apart from all keys that others are given.
    #[must_use]
    pub fn key(self, key: impl Fn(&Parts) -> Option<Key> + Send + Sync + 'static) -> Self {
        self.set(|guard| guard.set_key(key))
    }

    /// Says what a request costs; at 0 it passes always, and takes nothing.
    #[must_use]
    pub fn cost(self, cost: impl Fn(&Parts) -> u64 + Send + Sync + 'static) -> Self {
        self.set(|guard| guard.set_cost(cost))
    }

    /// Says how much may pass, counted by the rule's algorithm; none leaves that to the rule. Who is given another amount in the
    /// same window keeps what he has used.
    #[must_use]
    pub fn limits(self, limits: impl Fn(&Parts) -> Option<Limits> + Send + Sync + 'static) -> Self {
        self.set(|guard| guard.set_limits(limits))
    }

    /// Counts only requests with responses of which `count` is true, such as failed logins. A request is charged when it comes, so
    /// that many at one time do not slip through, and given back when its response does not count.
    #[must_use]
    pub fn count(self, count: impl Fn(&Response<B>) -> bool + Send + Sync + 'static) -> Self {
        self.set(|guard| guard.set_count(count))
    }

    /// Tells of every denial.
    #[must_use]
    pub fn on_denied(self, on_denied: impl Fn(&Decision, &Parts) + Send + Sync + 'static) -> Self {
        self.set(|guard| guard.set_on_denied(on_denied))
    }

    /// Answers denied requests so, in place of what the rule says. The headers that tell of limits are added to it;
    /// `Retry-After` and `Cache-Control` take the place of its own.
    #[must_use]
    pub fn respond(self, respond: impl Fn(&Decision, &Parts) -> Response<B> + Send + Sync + 'static) -> Self {
        self.set(|guard| guard.set_respond(respond))
    }

    fn set(mut self, set: impl FnOnce(&mut Guard<Parts, Response<B>>)) -> Self {
        set(Arc::make_mut(&mut self.guard));
        self
    }
}

impl<S, B> Layer<S> for RateLimitLayer<B> {
    type Service = RateLimit<S, B>;

    fn layer(&self, inner: S) -> RateLimit<S, B> {
        RateLimit { inner, layer: self.clone() }
    }
}

impl<B> Clone for RateLimitLayer<B> {
    fn clone(&self) -> Self {
        Self { guard: self.guard.clone(), body: self.body }
    }
}

impl<B> fmt::Debug for RateLimitLayer<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitLayer").field("guard", &self.guard).finish()
    }
}
