//! What becomes of a request: nothing is boxed but bodies, and a future that is dropped half way leaves its request charged.

use std::{
    fmt,
    future::{Ready, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use actix_web::{
    Error, HttpMessage as _, HttpRequest, HttpResponse, body::MessageBody, dev::ServiceResponse, error::InternalError,
};
use pin_project_lite::pin_project;
use tollgate::guard::Guard;

use crate::{limited::Limited, response::add_limits};

pin_project! {
    /// The response of a limited service.
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateOf]
    enum State<F> {
        Denied { #[pin] response: Ready<ServiceResponse> },
        Exempt { #[pin] response: F },
        Allowed { #[pin] response: F, guard: Arc<Guard<HttpRequest, HttpResponse>>, limited: Limited },
    }
}

impl<F> ResponseFuture<F> {
    pub(crate) fn denied(response: ServiceResponse) -> Self {
        Self { state: State::Denied { response: ready(response) } }
    }

    pub(crate) fn exempt(response: F) -> Self {
        Self { state: State::Exempt { response } }
    }

    pub(crate) fn allowed(response: F, guard: Arc<Guard<HttpRequest, HttpResponse>>, limited: Limited) -> Self {
        Self { state: State::Allowed { response, guard, limited } }
    }
}

impl<F, B> Future for ResponseFuture<F>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
    B: MessageBody + 'static,
{
    type Output = Result<ServiceResponse, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateOf::Denied { response } => response.poll(context).map(Ok),
            StateOf::Exempt { response } => response.poll(context).map_ok(ServiceResponse::map_into_boxed_body),
            StateOf::Allowed { response, guard, limited } => {
                let ended = ready!(response.poll(context));
                Poll::Ready(settled(ended.map(ServiceResponse::map_into_boxed_body), guard, limited))
            }
        }
    }
}

fn settled(
    ended: Result<ServiceResponse, Error>,
    guard: &Guard<HttpRequest, HttpResponse>,
    limited: &Limited,
) -> Result<ServiceResponse, Error> {
    match ended {
        Ok(mut response) => {
            // What was decided closest to the handler.
            let innermost = response.request().extensions().get().cloned();
            settle(response.response_mut(), innermost, guard, limited);
            Ok(response)
        }
        // Its status code alone would not do: errors are free to make a response with another. The response is made once,
        // since some errors have only one to give, and stays with the error.
        Err(error) => {
            let mut response = error.error_response();
            let innermost = response.extensions().get().cloned();
            settle(&mut response, innermost, guard, limited);
            Err(InternalError::from_response(error, response).into())
        }
    }
}

fn settle(
    response: &mut HttpResponse,
    innermost: Option<Limited>,
    guard: &Guard<HttpRequest, HttpResponse>,
    limited: &Limited,
) {
    guard.settle(limited, response, response.status().as_u16());
    add_limits(response.headers_mut(), limited);
    response.extensions_mut().insert(innermost.unwrap_or_else(|| limited.clone()));
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}
