//! What becomes of a request: nothing is boxed. A request whose answer never comes, because its future is dropped or its service
//! fails, stays charged.

use std::{
    fmt,
    future::{Ready, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Response, request::Parts};
use pin_project_lite::pin_project;
use tollgate::{decision::Decision, guard::Guard};

use crate::{limited::Limited, response::add_limits};

pin_project! {
    /// The response of a limited service.
    pub struct ResponseFuture<F, B> {
        #[pin]
        state: State<F, B>,
    }
}

pin_project! {
    #[project = StateOf]
    enum State<F, B> {
        Denied { #[pin] response: Ready<Response<B>> },
        Exempt { #[pin] response: F },
        Allowed { #[pin] response: F, guard: Arc<Guard<Parts, Response<B>>>, decision: Arc<Decision> },
    }
}

impl<F, B> ResponseFuture<F, B> {
    pub(crate) fn denied(response: Response<B>) -> Self {
        Self { state: State::Denied { response: ready(response) } }
    }

    pub(crate) fn exempt(response: F) -> Self {
        Self { state: State::Exempt { response } }
    }

    pub(crate) fn allowed(response: F, guard: Arc<Guard<Parts, Response<B>>>, decision: Arc<Decision>) -> Self {
        Self { state: State::Allowed { response, guard, decision } }
    }
}

impl<F, B, E> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateOf::Denied { response } => response.poll(context).map(Ok),
            StateOf::Exempt { response } => response.poll(context),
            StateOf::Allowed { response, guard, decision } => {
                let mut response = ready!(response.poll(context))?;
                settle(&mut response, guard, decision);
                Poll::Ready(Ok(response))
            }
        }
    }
}

fn settle<B>(response: &mut Response<B>, guard: &Guard<Parts, Response<B>>, decision: &Arc<Decision>) {
    guard.settle(decision, response, response.status().as_u16());
    add_limits(response.headers_mut(), decision);
    if response.extensions().get::<Limited>().is_none() {
        response.extensions_mut().insert(Limited(decision.clone()));
    }
}

impl<F, B> fmt::Debug for ResponseFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}
