//! A limiter on a clock that stands still, and clients with addresses.

use std::net::SocketAddr;

use axum::{Router, body::Body, extract::ConnectInfo};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tollgate::{
    client::Proxies,
    clock::{ManualClock, Timestamp},
    limiter::Limiter,
    policy::{Policy, Rule},
    store::memory::MemoryStore,
};
use tower::ServiceExt as _;

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

/// A request of the client with this last number in its address.
pub(crate) fn request(method: &str, target: &str, client: u8) -> Request<Body> {
    let mut request =
        Request::builder().method(method).uri(target).body(Body::empty()).expect("tests write good requests");
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([203, 0, 113, client], 4_000))));
    request
}

pub(crate) async fn send(app: &Router, request: Request<Body>) -> Response<Body> {
    let Ok(response) = app.clone().oneshot(request).await;
    response
}

/// The status codes of so many requests.
pub(crate) async fn codes(app: &Router, method: &str, target: &str, client: u8, n: usize) -> Vec<u16> {
    let mut codes = Vec::new();
    for _ in 0..n {
        codes.push(send(app, request(method, target, client)).await.status().as_u16());
    }
    codes
}

pub(crate) async fn text(response: Response<Body>) -> String {
    let body = response.into_body().collect().await.expect("bodies here are whole").to_bytes();
    String::from_utf8_lossy(&body).into_owned()
}

pub(crate) fn header<'a, B>(response: &'a Response<B>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().expect("ours are ASCII"))
}
