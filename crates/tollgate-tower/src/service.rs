//! The service: a request decided, and either answered here or passed on.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, StatusCode, request::Parts};
use tollgate::{algorithm::Verdict, decision::Decision};
use tower_service::Service;

use crate::{
    RateLimitLayer,
    future::ResponseFuture,
    limited::Limited,
    request::{self, Fields},
    response,
};

/// A service whose requests are limited, as [`RateLimitLayer`] makes it.
///
/// It is ready when the inner service is, and a denied request leaves that uncalled. Where being ready holds a place, as with
/// `ConcurrencyLimit` or `Buffer`, put the limit outside and clone it for each request, as axum does.
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
    S: Service<Request<Q>, Response = Response<B>>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, B>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let Some(decision) = self.layer.decide(&parts) else {
            return ResponseFuture::exempt(self.inner.call(Request::from_parts(parts, body)));
        };
        let decision = Arc::new(decision);
        if decision.verdict() == Verdict::Deny {
            return ResponseFuture::denied(self.layer.denied(decision, &parts));
        }
        parts.extensions.insert(Limited(decision.clone()));
        let response = self.inner.call(Request::from_parts(parts, body));
        ResponseFuture::allowed(response, self.layer.guard.clone(), decision)
    }
}

impl<B> RateLimitLayer<B> {
    fn decide(&self, parts: &Parts) -> Option<Decision> {
        let fields = Fields(&parts.headers);
        let decision = self.guard.decide(parts, request::shown(parts, &fields))?;
        if decision.client().address().is_none() {
            request::complain_of_no_peer();
        }
        Some(decision)
    }

    fn denied(&self, decision: Arc<Decision>, parts: &Parts) -> Response<B> {
        let mut response = match self.guard.response(&decision, parts) {
            Some(mut response) => {
                response::add_limits(response.headers_mut(), &decision);
                response
            }
            // A decision that denies has an answer.
            None => match decision.answer(&Fields(&parts.headers)) {
                Some(answer) => response::answered(answer).map(self.body),
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
