//! A limiter on a clock that stands still, apps that are called without sockets, and clients with addresses.

use std::{net::SocketAddr, pin::Pin, rc::Rc};

use actix_web::{
    App, Error, HttpResponse,
    body::{MessageBody, to_bytes},
    dev::{Service as _, ServiceFactory, ServiceRequest, ServiceResponse},
    http::Method,
    test::{TestRequest, init_service},
};
use tollgate::{
    client::Proxies,
    clock::{ManualClock, Timestamp},
    limiter::Limiter,
    policy::{Policy, Rule},
    store::memory::MemoryStore,
};

pub(crate) fn clock() -> ManualClock {
    ManualClock::new(Timestamp::from_micros(1_700_000_000_000_000))
}

pub(crate) fn limiter(rules: Vec<Rule>) -> Limiter {
    limiter_on(&clock(), rules)
}

pub(crate) fn limiter_on(clock: &ManualClock, rules: Vec<Rule>) -> Limiter {
    let policy = Policy::new(Proxies::default(), None, Vec::new(), rules).expect("tests write good rules");
    Limiter::new(policy, MemoryStore::new(1_000, clock.clone().into()))
}

pub(crate) fn rule(name: &str, limits: &str) -> Rule {
    Rule::of(name, limits).expect("tests write good limits")
}

/// An app that is ready for requests.
pub(crate) struct Served(Box<dyn Fn(TestRequest) -> Answering>);

type Answering = Pin<Box<dyn Future<Output = HttpResponse>>>;

pub(crate) async fn serve<T, B>(app: App<T>) -> Served
where
    T: ServiceFactory<ServiceRequest, Config = (), Response = ServiceResponse<B>, Error = Error, InitError = ()>
        + 'static,
    B: MessageBody + 'static,
{
    let service = Rc::new(init_service(app).await);
    Served(Box::new(move |request| {
        let service = service.clone();
        Box::pin(async move {
            match service.call(request.to_request()).await {
                Ok(response) => HttpResponse::from(response).map_into_boxed_body(),
                // As actix-web does before it writes.
                Err(error) => error.error_response(),
            }
        })
    }))
}

/// A request of the client with this last number in its address.
pub(crate) fn request(method: &str, target: &str, client: u8) -> TestRequest {
    let method = Method::from_bytes(method.as_bytes()).expect("tests write good methods");
    TestRequest::with_uri(target).method(method).peer_addr(SocketAddr::from(([203, 0, 113, client], 4_000)))
}

pub(crate) async fn send(app: &Served, request: TestRequest) -> HttpResponse {
    (app.0)(request).await
}

/// The status codes of so many requests.
pub(crate) async fn codes(app: &Served, method: &str, target: &str, client: u8, n: usize) -> Vec<u16> {
    let mut codes = Vec::new();
    for _ in 0..n {
        codes.push(send(app, request(method, target, client)).await.status().as_u16());
    }
    codes
}

pub(crate) async fn text(response: HttpResponse) -> String {
    let body = to_bytes(response.into_body()).await.expect("bodies here are whole");
    String::from_utf8_lossy(&body).into_owned()
}

pub(crate) fn header<'a>(response: &'a HttpResponse, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().expect("ours are ASCII"))
}
