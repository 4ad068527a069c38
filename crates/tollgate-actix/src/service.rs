//! The service: a request decided, and either answered here or passed on.

use std::rc::Rc;

use actix_web::{
    Error, HttpMessage as _, HttpRequest, HttpResponse,
    body::MessageBody,
    dev::{Service, ServiceRequest, ServiceResponse, forward_ready},
    http::StatusCode,
};
use tollgate::{algorithm::Verdict, decision::Decision, limiter::Undecided};

use crate::{
    RateLimit,
    future::{ResponseFuture, State},
    limited::Limited,
    request::{self, Fields},
    response,
};

/// A service whose requests are limited, as [`RateLimit`] makes it.
#[derive(Debug)]
pub struct RateLimitService<S> {
    /// Shared with the requests that wait for a store's answer.
    pub(crate) inner: Rc<S>,
    pub(crate) limit: RateLimit,
}

impl<S, B> Service<ServiceRequest> for RateLimitService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody + 'static,
{
    // Boxed, since it is either the inner service's or ours; that of a route is boxed anyhow.
    type Response = ServiceResponse;
    type Error = Error;
    type Future = ResponseFuture<S>;

    forward_ready!(inner);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        match self.limit.begin(request.request()) {
            None => State::Exempt { response: self.inner.call(request) }.into(),
            Some(Ok(decision)) => self.limit.decided(decision, request, &*self.inner).into(),
            Some(Err(undecided)) => {
                let call = Call { inner: self.inner.clone(), request, limit: self.limit.clone() };
                State::asking(undecided, call).into()
            }
        }
    }
}

/// A call that is made if a shared store allows it.
pub(crate) struct Call<S> {
    inner: Rc<S>,
    request: ServiceRequest,
    limit: RateLimit,
}

impl<S> Call<S>
where
    S: Service<ServiceRequest>,
{
    pub(crate) fn decided(self, decision: Decision) -> State<S> {
        self.limit.decided(decision, self.request, &*self.inner)
    }
}

impl RateLimit {
    fn begin(&self, own: &HttpRequest) -> Option<Result<Decision, Undecided>> {
        let fields = Fields(own.headers());
        let route = if self.by_route { request::route(own) } else { None };
        self.guard.begin(own, request::shown(own, &fields, route.as_deref()))
    }

    /// Answers a denied request, and passes on any other.
    fn decided<S>(&self, decision: Decision, request: ServiceRequest, inner: &S) -> State<S>
    where
        S: Service<ServiceRequest>,
    {
        self.guard.tell(&decision, request.request());
        if decision.client().address().is_none() {
            request::complain_of_no_peer();
        }
        let limited = Limited(decision);
        request.extensions_mut().insert(limited.clone());
        if limited.verdict() == Verdict::Deny {
            let response = self.denied(limited, request.request());
            return State::denied(request.into_response(response));
        }
        State::Allowed { response: inner.call(request), guard: self.guard.clone(), limited }
    }

    fn denied(&self, limited: Limited, own: &HttpRequest) -> HttpResponse {
        let mut response = match self.guard.response(&limited, own) {
            Some(mut response) => {
                response::add_limits(response.headers_mut(), &limited);
                response
            }
            // A decision that denies has an answer.
            None => match limited.answer(&Fields(own.headers())) {
                Some(answer) => response::answered(answer),
                None => HttpResponse::new(StatusCode::TOO_MANY_REQUESTS),
            },
        };
        response.extensions_mut().insert(limited);
        response
    }
}
