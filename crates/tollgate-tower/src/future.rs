//! What becomes of a request: nothing is boxed, and a future that is dropped half way leaves its request charged.

use std::{
    fmt,
    future::{Ready, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Response, request::Parts};
use pin_project_lite::pin_project;
use tollgate::{
    algorithm::Verdict,
    decision::Decision,
    guard::{Ended, Guard},
};

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
                let ended = ready!(response.poll(context));
                Poll::Ready(settled(ended, guard, decision))
            }
        }
    }
}

fn settled<B, E>(
    ended: Result<Response<B>, E>,
    guard: &Guard<Parts, Response<B>>,
    decision: &Arc<Decision>,
) -> Result<Response<B>, E> {
    let mut response = match ended {
        Ok(response) => response,
        Err(error) => {
            guard.settle(decision, &Ended::Failed);
            return Err(error);
        }
    };
    let further_in = response.extensions().get::<Limited>();
    let is_told = further_in.is_some();
    if further_in.is_some_and(|limited| limited.verdict() == Verdict::Deny) {
        guard.settle(decision, &Ended::DeniedFurtherIn);
        return Ok(response);
    }
    guard.settle(decision, &Ended::Answered(&response, response.status().as_u16()));
    add_limits(response.headers_mut(), decision);
    if !is_told {
        response.extensions_mut().insert(Limited(decision.clone()));
    }
    Ok(response)
}

impl<F, B> fmt::Debug for ResponseFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}
