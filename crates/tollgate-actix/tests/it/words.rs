//! The application's own word about its requests.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
};

use actix_web::{App, HttpMessage as _, HttpRequest, test::TestRequest, web};
use tollgate::{algorithm::Verdict, key::Key, quota::Limits};
use tollgate_actix::RateLimit;

use crate::rig::{Served, codes, limiter, request, rule, send, serve};

async fn hello() -> &'static str {
    "hello"
}

async fn app(limit: RateLimit) -> Served {
    let app = App::new().service(web::resource("/").get(hello).post(hello)).route("/health", web::get().to(hello));
    serve(app.wrap(limit)).await
}

fn named(request: &HttpRequest, header: &str) -> Option<String> {
    request.headers().get(header).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

async fn code(app: &Served, headers: &[(&'static str, &'static str)]) -> u16 {
    let request = headers.iter().fold(request("GET", "/", 1), |request, header| request.insert_header(*header));
    send(app, request).await.status().as_u16()
}

#[actix_web::test]
async fn exempt_requests_are_neither_limited_nor_counted() {
    let limit = RateLimit::from(limiter(vec![rule("api", "1/minute")]));
    let app = app(limit.exempt(|request| request.path() == "/health")).await;
    assert_eq!(codes(&app, "GET", "/health", 1, 3).await, [200; 3]);
    assert_eq!(codes(&app, "GET", "/", 1, 2).await, [200, 429]);
}

#[actix_web::test]
async fn guests_and_users_are_told_apart() {
    let rules = vec![rule("guests", "1/minute").guests_only(), rule("users", "2/minute").users_only()];
    let app = app(RateLimit::from(limiter(rules)).user(|request| named(request, "x-user"))).await;
    assert_eq!([code(&app, &[]).await, code(&app, &[]).await], [200, 429]);
    let ann = [("x-user", "ann")];
    assert_eq!([code(&app, &ann).await, code(&app, &ann).await, code(&app, &ann).await], [200, 200, 429]);
    assert_eq!(code(&app, &[("x-user", "bob")]).await, 200, "each user by himself");
}

#[actix_web::test]
async fn who_may_how_much_is_decided_for_each_request() {
    let limit = RateLimit::from(limiter(vec![rule("api", "2/day")]));
    let app = app(limit.limits(|request| match named(request, "x-plan")?.as_str() {
        "premium" => Some(Limits::unlimited()),
        "user" => Some(Limits::per_day(4)),
        _ => None,
    }))
    .await;
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

#[actix_web::test]
async fn a_request_is_counted_by_what_the_application_says_and_costs_what_it_says() {
    let limit = RateLimit::from(limiter(vec![rule("api", "5/minute")]));
    let app = app(limit
        .key(|request| named(request, "x-tenant").map(Key::from))
        .cost(|request| named(request, "x-cost").and_then(|cost| cost.parse().ok()).unwrap_or(1)))
    .await;
    assert_eq!(code(&app, &[("x-tenant", "a"), ("x-cost", "4")]).await, 200);
    assert_eq!(code(&app, &[("x-tenant", "a"), ("x-cost", "2")]).await, 429);
    assert_eq!(code(&app, &[("x-tenant", "a"), ("x-cost", "0")]).await, 200);
    assert_eq!(code(&app, &[("x-tenant", "a")]).await, 200);
    assert_eq!(code(&app, &[("x-tenant", "b"), ("x-cost", "5")]).await, 200);
    assert_eq!(code(&app, &[]).await, 200, "no tenant: by client");
}

#[actix_web::test]
async fn denials_are_told_and_shadow_denies_nothing() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = told.clone();
    let rules = vec![rule("api", "2/minute"), rule("strict", "1/day").in_shadow()];
    let limit = RateLimit::from(limiter(rules)).on_denied(move |decision, request| {
        assert_eq!(decision.verdict(), Verdict::Deny);
        let rules: Vec<_> = decision.denied_by().map(str::to_owned).collect();
        tell.lock().expect("no test panics here").push((rules, request.path().to_owned()));
    });
    let app = app(limit).await;
    assert_eq!(codes(&app, "GET", "/", 1, 3).await, [200, 200, 429]);
    assert_eq!(*told.lock().expect("no test panics here"), [(vec!["api".to_owned()], "/".to_owned())]);
}

#[actix_web::test]
async fn the_peer_can_be_somewhere_else() {
    let limit = RateLimit::from(limiter(vec![rule("api", "1/minute")]));
    let limit = limit.peer(|request| named(request, "x-peer")?.parse::<IpAddr>().ok());
    let app = app(limit).await;
    let from = |peer| TestRequest::get().insert_header(("x-peer", peer));
    assert_eq!(send(&app, from("203.0.113.1")).await.status(), 200);
    assert_eq!(send(&app, from("203.0.113.2")).await.status(), 200);
    assert_eq!(send(&app, from("203.0.113.1")).await.status(), 429);
}

#[actix_web::test]
async fn what_the_application_says_may_use_all_of_the_request() {
    let limit = RateLimit::from(limiter(vec![rule("api", "1/minute")]));
    // Both borrow the extensions, one of them to write.
    let app = app(limit.user(|request| {
        request.extensions_mut().insert(1_u8);
        Some(request.connection_info().host().to_owned())
    }))
    .await;
    assert_eq!(codes(&app, "GET", "/", 1, 2).await, [200, 429]);
}
