//! What becomes of a request. With memory alone nothing is boxed but bodies; what a shared store is asked is, beside the way there.
//! A future that is dropped half way leaves its request charged.

use std::{
    fmt,
    future::{Ready, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use actix_web::{
    Error, HttpMessage as _, HttpRequest, HttpResponse,
    body::MessageBody,
    dev::{Service, ServiceRequest, ServiceResponse},
    error::InternalError,
};
use pin_project_lite::pin_project;
use tollgate::{
    decision::Decision,
    guard::Guard,
    limiter::{Answered, Undecided},
};

use crate::{limited::Limited, response::add_limits, service::Call};

pin_project! {
    /// The response of a limited service.
    pub struct ResponseFuture<S>
    where
        S: Service<ServiceRequest>,
    {
        #[pin]
        state: State<S>,
    }
}

pin_project! {
    #[project = StateOf]
    pub(crate) enum State<S>
    where
        S: Service<ServiceRequest>,
    {
        Denied { #[pin] response: Ready<ServiceResponse> },
        Exempt { #[pin] response: S::Future },
        Asking { decision: Waiting<Decision>, call: Option<Box<Call<S>>> },
        Allowed { #[pin] response: S::Future, guard: Arc<Guard<HttpRequest, HttpResponse>>, limited: Limited },
        Settling { settled: Waiting<()>, ended: Option<Result<ServiceResponse, Error>> },
    }
}

/// For a shared store.
type Waiting<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S> State<S>
where
    S: Service<ServiceRequest>,
{
    pub(crate) fn denied(response: ServiceResponse) -> Self {
        Self::Denied { response: ready(response) }
    }

    pub(crate) fn asking(undecided: Undecided, call: Call<S>) -> Self {
        Self::Asking { decision: Box::pin(undecided.take()), call: Some(Box::new(call)) }
    }
}

impl<S> From<State<S>> for ResponseFuture<S>
where
    S: Service<ServiceRequest>,
{
    fn from(state: State<S>) -> Self {
        Self { state }
    }
}

impl<S, B> Future for ResponseFuture<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody + 'static,
{
    type Output = Result<ServiceResponse, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateOf::Denied { response } => return response.poll(context).map(Ok),
                StateOf::Exempt { response } => {
                    return response.poll(context).map_ok(ServiceResponse::map_into_boxed_body);
                }
                StateOf::Asking { decision, call } => {
                    let decision = ready!(decision.as_mut().poll(context));
                    call.take().expect(ONCE).decided(decision)
                }
                StateOf::Allowed { response, guard, limited } => {
                    let ended = ready!(response.poll(context)).map(ServiceResponse::map_into_boxed_body);
                    let (ended, answered) = told(ended, guard, limited);
                    if guard.limiter().settle_now(limited, answered) {
                        return Poll::Ready(ended);
                    }
                    State::Settling { settled: settle(guard, limited, answered), ended: Some(ended) }
                }
                StateOf::Settling { settled, ended } => {
                    ready!(settled.as_mut().poll(context));
                    return Poll::Ready(ended.take().expect(ONCE));
                }
            };
            state.set(next);
        }
    }
}

const ONCE: &str = "a future that is ready is not polled again";

fn settle(guard: &Guard<HttpRequest, HttpResponse>, limited: &Limited, answered: Answered) -> Waiting<()> {
    let (limiter, limited) = (guard.limiter().clone(), limited.clone());
    Box::pin(async move { limiter.settle(&limited, answered).await })
}

/// How the request was answered, in a response that tells of the limits.
fn told(
    ended: Result<ServiceResponse, Error>,
    guard: &Guard<HttpRequest, HttpResponse>,
    limited: &Limited,
) -> (Result<ServiceResponse, Error>, Answered) {
    match ended {
        Ok(mut response) => {
            // What was decided closest to the handler.
            let innermost = response.request().extensions().get().cloned();
            let answered = tell(response.response_mut(), innermost, guard, limited);
            (Ok(response), answered)
        }
        // Its status code alone would not do: errors are free to make a response with another. The response is made once,
        // since some errors have only one to give, and stays with the error.
        Err(error) => {
            let mut response = error.error_response();
            let innermost = response.extensions().get().cloned();
            let answered = tell(&mut response, innermost, guard, limited);
            (Err(InternalError::from_response(error, response).into()), answered)
        }
    }
}

fn tell(
    response: &mut HttpResponse,
    innermost: Option<Limited>,
    guard: &Guard<HttpRequest, HttpResponse>,
    limited: &Limited,
) -> Answered {
    let answered = guard.answered(response, response.status().as_u16());
    add_limits(response.headers_mut(), limited);
    response.extensions_mut().insert(innermost.unwrap_or_else(|| limited.clone()));
    answered
}

impl<S> fmt::Debug for ResponseFuture<S>
where
    S: Service<ServiceRequest>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}
