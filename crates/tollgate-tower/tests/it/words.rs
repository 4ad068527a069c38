//! The application's own word, and what tower expects of a layer.

use std::{
    convert::Infallible,
    future::pending,
    net::IpAddr,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body, routing::get};
use http::{HeaderMap, Request, Response, request::Parts};
use tollgate::{
    algorithm::Verdict,
    config::Surroundings,
    key::Key,
    limiter::Limiter,
    policy::{Count, Rule},
    quota::Limits,
};
use tollgate_tower::RateLimitLayer;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

use crate::rig::{clock, codes, limiter, limiter_on, request, rule, send};

async fn hello() -> &'static str {
    "hello"
}

fn app(layer: RateLimitLayer<Body>) -> Router {
    Router::new().route("/", get(hello).post(hello)).route("/health", get(hello)).layer(layer)
}

fn named(parts: &Parts, header: &str) -> Option<String> {
    parts.headers.get(header).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

async fn code(app: &Router, headers: &[(&'static str, &'static str)]) -> u16 {
    let mut request = request("GET", "/", 1);
    request.headers_mut().extend(
        headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))),
    );
    send(app, request).await.status().as_u16()
}

#[tokio::test]
async fn exempt_requests_are_neither_limited_nor_counted() {
    let layer = RateLimitLayer::from(limiter(vec![rule("api", "1/minute")]));
    let app = app(layer.exempt(|parts| parts.uri.path() == "/health"));
    assert_eq!(codes(&app, "GET", "/health", 1, 3).await, [200; 3]);
    assert_eq!(codes(&app, "GET", "/", 1, 2).await, [200, 429]);
}

#[tokio::test]
async fn guests_and_users_are_told_apart() {
    let rules = vec![rule("guests", "1/minute").guests_only(), rule("users", "2/minute").users_only()];
    let app = app(RateLimitLayer::from(limiter(rules)).user(|parts| named(parts, "x-user")));
    assert_eq!([code(&app, &[]).await, code(&app, &[]).await], [200, 429]);
    let ann = [("x-user", "ann")];
    assert_eq!([code(&app, &ann).await, code(&app, &ann).await, code(&app, &ann).await], [200, 200, 429]);
    assert_eq!(code(&app, &[("x-user", "bob")]).await, 200, "each user by himself");
}

#[tokio::test]
async fn what_the_application_says_of_a_user_is_the_last_word() {
    let source = "user: header:X-User\nrules: [{ name: guests, match: { user: false }, limit: 1/minute }]";
    let limiter = Limiter::from_policy(source, &Surroundings::none()).expect("a policy");
    let app = app(RateLimitLayer::from(limiter).user(|_| None));
    assert_eq!(code(&app, &[("x-user", "ann")]).await, 200);
    assert_eq!(code(&app, &[("x-user", "bob")]).await, 429, "nobody is signed in, whatever he says");
}

#[tokio::test]
async fn who_lacks_a_key_is_counted_apart_from_whoever_has_chosen_his_address_as_one() {
    let layer = RateLimitLayer::from(limiter(vec![rule("api", "1/minute")]));
    let app = app(layer.key(|parts| named(parts, "x-tenant").map(Key::from)));
    assert_eq!(code(&app, &[("x-tenant", "203.0.113.1")]).await, 200);
    assert_eq!(code(&app, &[]).await, 200, "the client 203.0.113.1");
    assert_eq!(code(&app, &[]).await, 429);
}

#[tokio::test]
async fn who_may_how_much_is_decided_for_each_request() {
    let layer = RateLimitLayer::from(limiter(vec![rule("api", "2/day")]));
    let app = app(layer.limits(|parts| match named(parts, "x-plan")?.as_str() {
        "premium" => Some(Limits::unlimited()),
        "user" => Some(Limits::per_day(4)),
        _ => None,
    }));
    let of = async |plan: Option<&'static str>| {
        let headers: Vec<_> = plan.into_iter().map(|plan| ("x-plan", plan)).collect();
        code(&app, &headers).await
    };
    assert_eq!([of(None).await, of(None).await, of(None).await], [200, 200, 429]);
    // Another amount goes on counting where the client was.
    assert_eq!([of(Some("user")).await, of(Some("user")).await, of(Some("user")).await], [200, 200, 429]);
    for _ in 0..20 {
        assert_eq!(of(Some("premium")).await, 200);
    }
    assert_eq!(of(Some("nonsense")).await, 429, "as the rule has it");
}

#[tokio::test]
async fn a_request_is_counted_by_what_the_application_says_and_costs_what_it_says() {
    let layer = RateLimitLayer::from(limiter(vec![rule("api", "5/minute")]));
    let app = app(layer
        .key(|parts| named(parts, "x-tenant").map(Key::from))
        .cost(|parts| named(parts, "x-cost").and_then(|cost| cost.parse().ok()).unwrap_or(1)));
    assert_eq!(code(&app, &[("x-tenant", "a"), ("x-cost", "4")]).await, 200);
    assert_eq!(code(&app, &[("x-tenant", "a"), ("x-cost", "2")]).await, 429);
    assert_eq!(code(&app, &[("x-tenant", "a"), ("x-cost", "0")]).await, 200);
    assert_eq!(code(&app, &[("x-tenant", "a")]).await, 200);
    assert_eq!(code(&app, &[("x-tenant", "b"), ("x-cost", "5")]).await, 200);
    assert_eq!(code(&app, &[]).await, 200, "no tenant: by client");
}

#[tokio::test]
async fn only_answers_that_count_stay_on_the_bill() {
    async fn login(headers: HeaderMap) -> http::StatusCode {
        if headers.contains_key("x-right") { http::StatusCode::OK } else { http::StatusCode::UNAUTHORIZED }
    }
    let layer = RateLimitLayer::from(limiter(vec![rule("login", "2/hour")]));
    let layer = layer.count(|response: &Response<Body>| response.status() == 401);
    let app = Router::new().route("/", get(login)).layer(layer);
    let right = [("x-right", "1")];
    for _ in 0..5 {
        assert_eq!(code(&app, &right).await, 200);
    }
    assert_eq!([code(&app, &[]).await, code(&app, &right).await, code(&app, &[]).await], [401, 200, 401]);
    assert_eq!(code(&app, &right).await, 429);

    // The same by the rule's own word.
    let failed = Rule { count: Count::Status(vec![401]), ..rule("login", "2/hour") };
    let app =
        Router::new().route("/", get(login)).layer(RateLimitLayer::from(limiter(vec![rule("all", "9/hour"), failed])));
    for _ in 0..5 {
        assert_eq!(code(&app, &right).await, 200);
    }
    assert_eq!([code(&app, &[]).await, code(&app, &right).await, code(&app, &[]).await], [401, 200, 401]);
    assert_eq!(code(&app, &right).await, 429);
}

#[tokio::test]
async fn denials_are_told_and_shadow_denies_nothing() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = told.clone();
    let rules = vec![rule("api", "2/minute"), rule("strict", "1/day").in_shadow()];
    let layer = RateLimitLayer::from(limiter(rules)).on_denied(move |decision, parts| {
        assert_eq!(decision.verdict(), Verdict::Deny);
        let rules: Vec<_> = decision.denied_by().map(str::to_owned).collect();
        tell.lock().expect("no test panics here").push((rules, parts.uri.path().to_owned()));
    });
    let app = app(layer);
    assert_eq!(codes(&app, "GET", "/", 1, 3).await, [200, 200, 429]);
    assert_eq!(*told.lock().expect("no test panics here"), [(vec!["api".to_owned()], "/".to_owned())]);
}

#[tokio::test]
async fn the_peer_can_be_somewhere_else() {
    let layer = RateLimitLayer::from(limiter(vec![rule("api", "1/minute")]));
    let app = app(layer.peer(|parts| parts.extensions.get::<IpAddr>().copied()));
    let from = |last| {
        let mut request = Request::get("/").body(Body::empty()).expect("a request");
        request.extensions_mut().insert(IpAddr::from([203, 0, 113, last]));
        request
    };
    assert_eq!(send(&app, from(1)).await.status(), 200);
    assert_eq!(send(&app, from(2)).await.status(), 200);
    assert_eq!(send(&app, from(1)).await.status(), 429);
}

/// A service that is not ready at first, and must not be called before it is.
#[derive(Clone, Default)]
struct Slow {
    polls: usize,
}

impl Service<Request<()>> for Slow {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.polls += 1;
        context.waker().wake_by_ref();
        if self.polls < 3 { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        assert!(self.polls >= 3, "called before it was ready");
        std::future::ready(Ok(Response::new("done".to_owned())))
    }
}

#[tokio::test]
async fn a_service_is_not_called_before_it_is_ready() {
    let layer = RateLimitLayer::new("9/minute").expect("a limit");
    let mut service = layer.layer(Slow::default());
    let response = service.ready().await.expect("it cannot fail").call(Request::new(())).await.expect("it cannot fail");
    assert_eq!(response.body(), "done");
}

/// A body that cannot be cloned.
struct Body1(#[expect(dead_code, reason = "what it is made of does not matter")] String);

impl From<String> for Body1 {
    fn from(text: String) -> Self {
        Self(text)
    }
}

#[tokio::test]
async fn futures_can_be_sent_and_bodies_need_no_clone() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let inner = service_fn(|_: Request<Body1>| async { Ok::<_, Infallible>(Response::new(Body1(String::new()))) });
    let mut service = RateLimitLayer::new("1/minute").expect("a limit").layer(inner);
    for expected in [200, 429] {
        let response = is_send(service.call(Request::new(Body1(String::new())))).await.expect("it cannot fail");
        assert_eq!(response.status(), expected);
    }
}

#[tokio::test]
async fn a_request_that_is_cancelled_stays_charged_and_leaves_nothing_behind() {
    let clock = clock();
    let limiter = limiter_on(&clock, vec![rule("api", "2/minute")]);
    let layer = RateLimitLayer::<String>::from(limiter.clone());
    let counted = Arc::new(());
    let held = counted.clone();
    let layer = layer.count(move |_| Arc::strong_count(&held) > 0);
    let mut service = layer.layer(service_fn(|_: Request<()>| pending::<Result<Response<String>, Infallible>>()));
    for _ in 0..2 {
        let mut future = Box::pin(service.call(Request::new(())));
        assert!(futures_poll(&mut future).is_pending());
    }
    let api = limiter.throttle("api").expect("a rule");
    assert_eq!(api.remaining(Key::of([""])), 0);
    drop(service);
    drop(layer);
    assert_eq!(Arc::strong_count(&counted), 1, "nothing holds the layer any more");
    clock.advance(Duration::from_secs(60));
    assert_eq!(api.remaining(Key::of([""])), 2);
}

fn futures_poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(std::task::Waker::noop()))
}

#[tokio::test]
async fn a_request_that_comes_to_no_answer_stays_charged() {
    let limiter = limiter(vec![rule("login", "2/hour")]);
    let layer = RateLimitLayer::<String>::from(limiter.clone()).count(|response| response.status() == 401);
    let mut service = layer.layer(service_fn(|_: Request<()>| async { Err::<Response<String>, _>("down") }));
    // A client can see to that by being slow.
    assert_eq!(service.call(Request::new(())).await.map(|_| ()), Err("down"));
    assert_eq!(limiter.throttle("login").expect("a rule").remaining(Key::of([""])), 1);
}
