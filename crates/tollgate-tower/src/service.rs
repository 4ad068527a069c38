//! The service: a request decided, and either answered here or passed on.

use std::{
    mem,
    task::{Context, Poll},
};

use http::{Request, Response, StatusCode, request::Parts};
use tollgate::{algorithm::Verdict, decision::Decision, limiter::Undecided};
use tower_service::Service;

use crate::{
    RateLimitLayer,
    future::{ResponseFuture, State},
    limited::Limited,
    request::{self, Fields},
    response,
};

/// A service whose requests are limited, as [`RateLimitLayer`] makes it.
///
/// It is ready when the inner service is, and a denied request leaves that uncalled. Where being ready holds a place, as with
/// `ConcurrencyLimit` or `Buffer`, put the limit outside and clone it for each request, as axum does. While a shared store is
/// asked, the request holds the inner service that was ready for it.
#[derive(Debug)]
pub struct RateLimit<S, B> {
    pub(crate) inner: S,
    pub(crate) layer: RateLimitLayer<B>,
}

// Whatever its bodies are.
impl<S: Clone, B> Clone for RateLimit<S, B> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S, Q, B> Service<Request<Q>> for RateLimit<S, B>
where
    S: Service<Request<Q>, Response = Response<B>> + Clone,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = ResponseFuture<S, Q, B>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let (parts, body) = request.into_parts();
        match self.layer.begin(&parts) {
            None => State::Exempt { response: self.inner.call(Request::from_parts(parts, body)) }.into(),
            Some(Ok(decision)) => self.layer.decided(decision, parts, body, &mut self.inner).into(),
            Some(Err(undecided)) => {
                // The one that is ready is to be called; a clone of it has yet to become so.
                let clone = self.inner.clone();
                let inner = mem::replace(&mut self.inner, clone);
                State::asking(undecided, Call { inner, parts, body, layer: self.layer.clone() }).into()
            }
        }
    }
}

/// A call that is made if a shared store allows it.
pub(crate) struct Call<S, Q, B> {
    inner: S,
    parts: Parts,
    body: Q,
    layer: RateLimitLayer<B>,
}

impl<S, Q, B> Call<S, Q, B>
where
    S: Service<Request<Q>>,
{
    pub(crate) fn decided(self, decision: Decision) -> State<S, Q, B> {
        let Self { mut inner, parts, body, layer } = self;
        layer.decided(decision, parts, body, &mut inner)
    }
}

impl<B> RateLimitLayer<B> {
    fn begin(&self, parts: &Parts) -> Option<Result<Decision, Undecided>> {
        self.guard.begin(parts, request::shown(parts, &Fields(&parts.headers)))
    }

    /// Answers a denied request, and passes on any other.
    fn decided<S, Q>(&self, decision: Decision, mut parts: Parts, body: Q, inner: &mut S) -> State<S, Q, B>
    where
        S: Service<Request<Q>>,
    {
        self.guard.tell(&decision, &parts);
        if decision.client().address().is_none() {
            request::complain_of_no_peer();
        }
        if decision.verdict() == Verdict::Deny {
            return State::denied(self.denied(decision, parts));
        }
        parts.extensions.insert(Limited(decision.clone()));
        let guard = self.guard.settles(&decision).then(|| self.guard.clone());
        let response = inner.call(Request::from_parts(parts, body));
        State::Allowed { response, guard, decision: Some(decision) }
    }

    // What few need stays out of the way of the others.
    #[inline(never)]
    fn denied(&self, decision: Decision, parts: Parts) -> Response<B> {
        let mut response = match self.guard.response(&decision, &parts) {
            Some(mut response) => {
                response::add_limits(response.headers_mut(), &decision);
                response
            }
            // A decision that denies has an answer.
            None => match decision.answer(&Fields(&parts.headers)) {
                Some(answer) => response::answered(answer, parts.headers).map(self.body),
                None => {
                    let mut response = Response::new((self.body)(String::new()));
                    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
                    response
                }
            },
        };
        response.extensions_mut().insert(Limited(decision));
        response
    }
}
