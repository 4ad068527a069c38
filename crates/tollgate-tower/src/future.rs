//! What becomes of a request. With memory alone nothing is boxed; what a shared store is asked is, beside the way there. A request
//! whose answer never comes, because its future is dropped or its service fails, stays charged.

use std::{
    fmt,
    future::{Ready, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response, request::Parts};
use pin_project_lite::pin_project;
use tollgate::{
    decision::Decision,
    guard::Guard,
    limiter::{Answered, Undecided},
};
use tower_service::Service;

use crate::{limited::Limited, response::add_limits, service::Call};

pin_project! {
    /// The response of a limited service.
    pub struct ResponseFuture<S, Q, B>
    where
        S: Service<Request<Q>>,
    {
        #[pin]
        state: State<S, Q, B>,
    }
}

pin_project! {
    #[project = StateOf]
    pub(crate) enum State<S, Q, B>
    where
        S: Service<Request<Q>>,
    {
        Denied { #[pin] response: Ready<Response<B>> },
        Exempt { #[pin] response: S::Future },
        Asking { decision: Waiting<Decision>, call: Option<Box<Call<S, Q, B>>> },
        Allowed { #[pin] response: S::Future, guard: Option<Arc<Guard<Parts, Response<B>>>>, decision: Option<Decision> },
        Settling { settled: Waiting<()>, response: Option<Response<B>> },
    }
}

/// For a shared store.
type Waiting<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S, Q, B> State<S, Q, B>
where
    S: Service<Request<Q>>,
{
    pub(crate) fn denied(response: Response<B>) -> Self {
        Self::Denied { response: ready(response) }
    }

    pub(crate) fn asking(undecided: Undecided, call: Call<S, Q, B>) -> Self {
        Self::Asking { decision: Box::pin(undecided.take()), call: Some(Box::new(call)) }
    }
}

impl<S, Q, B> From<State<S, Q, B>> for ResponseFuture<S, Q, B>
where
    S: Service<Request<Q>>,
{
    fn from(state: State<S, Q, B>) -> Self {
        Self { state }
    }
}

impl<S, Q, B> Future for ResponseFuture<S, Q, B>
where
    S: Service<Request<Q>, Response = Response<B>>,
{
    type Output = Result<Response<B>, S::Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateOf::Denied { response } => return response.poll(context).map(Ok),
                StateOf::Exempt { response } => return response.poll(context),
                StateOf::Asking { decision, call } => {
                    let decision = ready!(decision.as_mut().poll(context));
                    call.take().expect(ONCE).decided(decision)
                }
                StateOf::Allowed { response, guard, decision } => {
                    let mut response = ready!(response.poll(context))?;
                    let decision = decision.take().expect(ONCE);
                    // There is none if all counts, whatever the answer.
                    let Some(guard) = guard else {
                        tell(&mut response, decision);
                        return Poll::Ready(Ok(response));
                    };
                    let answered = guard.answered(&response, response.status().as_u16());
                    tell(&mut response, decision.clone());
                    if guard.limiter().settle_now(&decision, answered) {
                        return Poll::Ready(Ok(response));
                    }
                    State::Settling { settled: settle(guard, decision, answered), response: Some(response) }
                }
                StateOf::Settling { settled, response } => {
                    ready!(settled.as_mut().poll(context));
                    return Poll::Ready(Ok(response.take().expect(ONCE)));
                }
            };
            state.set(next);
        }
    }
}

const ONCE: &str = "a future that is ready is not polled again";

fn settle<B>(guard: &Guard<Parts, Response<B>>, decision: Decision, answered: Answered) -> Waiting<()> {
    let limiter = guard.limiter().clone();
    Box::pin(async move { limiter.settle(&decision, answered).await })
}

fn tell<B>(response: &mut Response<B>, decision: Decision) {
    add_limits(response.headers_mut(), &decision);
    if response.extensions().get::<Limited>().is_none() {
        response.extensions_mut().insert(Limited(decision));
    }
}

impl<S, Q, B> fmt::Debug for ResponseFuture<S, Q, B>
where
    S: Service<Request<Q>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}
