//! The service: a request decided, and either answered here or passed on.

use std::sync::Arc;

use actix_web::{
    Error, HttpMessage as _, HttpRequest, HttpResponse,
    body::MessageBody,
    dev::{Service, ServiceRequest, ServiceResponse, forward_ready},
    http::StatusCode,
};
use tollgate::{algorithm::Verdict, decision::Decision};

use crate::{
    RateLimit,
    future::ResponseFuture,
    limited::Limited,
    request::{self, Fields},
    response,
};

/// A service whose requests are limited, as [`RateLimit`] makes it.
#[derive(Debug)]
pub struct RateLimitService<S> {
    pub(crate) inner: S,
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
    type Future = ResponseFuture<S::Future>;

    forward_ready!(inner);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let Some(decision) = self.limit.decide(request.request()) else {
            return ResponseFuture::exempt(self.inner.call(request));
        };
        let limited = Limited(Arc::new(decision));
        request.extensions_mut().insert(limited.clone());
        if limited.verdict() == Verdict::Deny {
            let response = self.limit.denied(limited, request.request());
            return ResponseFuture::denied(request.into_response(response));
        }
        ResponseFuture::allowed(self.inner.call(request), self.limit.guard.clone(), limited)
    }
}

impl RateLimit {
    fn decide(&self, own: &HttpRequest) -> Option<Decision> {
        let fields = Fields(own.headers());
        let route = if self.by_route { request::route(own) } else { None };
        let decision = self.guard.decide(own, request::shown(own, &fields, route.as_deref()))?;
        if decision.client().address().is_none() {
            request::complain_of_no_peer();
        }
        Some(decision)
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
