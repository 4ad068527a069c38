//! What is put around a service: which limiter, and what the application's own code says.

use std::{
    future::{Ready, ready},
    net::IpAddr,
    rc::Rc,
    sync::Arc,
};

use actix_web::{
    Error, HttpRequest, HttpResponse,
    body::MessageBody,
    dev::{Service, ServiceRequest, ServiceResponse, Transform},
};
use tollgate::{
    decision::Decision,
    guard::Guard,
    key::{Key, Part},
    limiter::Limiter,
    policy::{PolicyError, Rule},
    quota::{Limits, LimitsError},
    store::Stores,
};

use crate::service::RateLimitService;

/// Limits the service that it is wrapped around: a route, a resource, a scope, a whole app.
///
/// Clones are the same limit, counted together. So make it outside of the closure that `HttpServer` is given, and clone it there:
/// that closure runs once for every worker, and what is made in it is a limit for each of them.
#[derive(Clone, Debug)]
pub struct RateLimit {
    pub(crate) guard: Arc<Guard<HttpRequest, HttpResponse>>,
    /// Whether a rule counts by route: finding it tries the patterns of all resources, which others need not pay for.
    pub(crate) by_route: bool,
}

impl RateLimit {
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

    /// Neither limits nor counts requests of which `exempt` is true.
    #[must_use]
    pub fn exempt(self, exempt: impl Fn(&HttpRequest) -> bool + Send + Sync + 'static) -> Self {
        self.set(|guard| guard.set_exempt(exempt))
    }

    /// Says where the address at the other end of the socket is to be found, if not from actix-web. A Unix socket has none;
    /// behind a proxy on one, say `|_| Some(Ipv4Addr::LOCALHOST.into())` and trust that proxy in the policy.
    #[must_use]
    pub fn peer(self, peer: impl Fn(&HttpRequest) -> Option<IpAddr> + Send + Sync + 'static) -> Self {
        self.set(|guard| guard.set_peer(peer))
    }

    /// Says who is signed in; none is a guest, whatever the policy's `user` would find. What `guests_only`, `users_only` and `user` in a key ask for.
    #[must_use]
    pub fn user(self, user: impl Fn(&HttpRequest) -> Option<String> + Send + Sync + 'static) -> Self {
        self.set(|guard| guard.set_user(user))
    }

    /// Says what a request is counted by; none leaves that to the rule, apart from all keys that others are given.
    #[must_use]
    pub fn key(self, key: impl Fn(&HttpRequest) -> Option<Key> + Send + Sync + 'static) -> Self {
        self.set(|guard| guard.set_key(key))
    }

    /// Says what a request costs; at 0 it passes always, and takes nothing.
    #[must_use]
    pub fn cost(self, cost: impl Fn(&HttpRequest) -> u64 + Send + Sync + 'static) -> Self {
        self.set(|guard| guard.set_cost(cost))
    }

    /// Says how much may pass, counted by the rule's algorithm; none leaves that to the rule. Who is given another amount in the
    /// same window keeps what he has used.
    #[must_use]
    pub fn limits(self, limits: impl Fn(&HttpRequest) -> Option<Limits> + Send + Sync + 'static) -> Self {
        self.set(|guard| guard.set_limits(limits))
    }

    /// Counts only requests with responses of which `count` is true, such as failed logins. A request is charged when it comes, so
    /// that many at one time do not slip through, and given back when its response does not count. Errors are seen as the
    /// responses that they become.
    #[must_use]
    pub fn count(self, count: impl Fn(&HttpResponse) -> bool + Send + Sync + 'static) -> Self {
        self.set(|guard| guard.set_count(count))
    }

    /// Tells of every denial.
    #[must_use]
    pub fn on_denied(self, on_denied: impl Fn(&Decision, &HttpRequest) + Send + Sync + 'static) -> Self {
        self.set(|guard| guard.set_on_denied(on_denied))
    }

    /// Answers denied requests so, in place of what the rule says. The headers that tell of limits are added to it; our
    /// `Retry-After` and `Cache-Control` take the place of its own.
    #[must_use]
    pub fn respond(self, respond: impl Fn(&Decision, &HttpRequest) -> HttpResponse + Send + Sync + 'static) -> Self {
        self.set(|guard| guard.set_respond(respond))
    }

    fn set(mut self, set: impl FnOnce(&mut Guard<HttpRequest, HttpResponse>)) -> Self {
        set(Arc::make_mut(&mut self.guard));
        self
    }
}

/// Limits by the rules of a limiter, whose counters every limit shares that is made from it or its clones.
impl From<Limiter> for RateLimit {
    fn from(limiter: Limiter) -> Self {
        Self::from(Limiter::<Stores>::from(limiter))
    }
}

/// The same by counters that several instances share. Requests then wait for the store's answer.
impl From<Limiter<Stores>> for RateLimit {
    fn from(limiter: Limiter<Stores>) -> Self {
        let by_route = limiter.policy().rules().iter().any(|rule| rule.by.contains(&Part::Route));
        Self { guard: Arc::new(Guard::new(limiter)), by_route }
    }
}

impl<S, B> Transform<S, ServiceRequest> for RateLimit
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse;
    type Error = Error;
    type Transform = RateLimitService<S>;
    type InitError = ();
    type Future = Ready<Result<RateLimitService<S>, ()>>;

    fn new_transform(&self, inner: S) -> Self::Future {
        ready(Ok(RateLimitService { inner: Rc::new(inner), limit: self.clone() }))
    }
}
