//! How requests end, and what stays on the bill.

use std::{fmt, sync::Arc, time::Duration};

use actix_web::{
    App, Error, HttpRequest, HttpResponse, ResponseError,
    body::MessageBody,
    dev::{Service as _, ServiceRequest, ServiceResponse, Transform as _, fn_service},
    error::{ErrorUnauthorized, InternalError},
    middleware::{Next, from_fn},
    test::TestRequest,
    web,
};
use tollgate::{key::Key, limiter::Limiter};
use tollgate_actix::{Limited, RateLimit};

use crate::rig::{Served, clock, header, limiter, limiter_on, request, rule, send, serve, text};

/// Two failed logins in an hour.
fn failures(limiter: Limiter) -> RateLimit {
    RateLimit::from(limiter).count(|response| response.status() == 401)
}

async fn login(app: &Served, right: bool) -> u16 {
    let request = request("GET", "/", 1);
    let request = if right { request.insert_header(("x-right", "1")) } else { request };
    send(app, request).await.status().as_u16()
}

async fn check_that_only_failures_count(app: &Served) {
    for _ in 0..5 {
        assert_eq!(login(app, true).await, 200);
    }
    assert_eq!([login(app, false).await, login(app, true).await, login(app, false).await], [401, 200, 401]);
    assert_eq!(login(app, true).await, 429);
}

#[actix_web::test]
async fn only_answers_that_count_stay_on_the_bill() {
    async fn handler(request: HttpRequest) -> HttpResponse {
        if request.headers().contains_key("x-right") {
            HttpResponse::Ok().finish()
        } else {
            HttpResponse::Unauthorized().finish()
        }
    }
    let limit = failures(limiter(vec![rule("login", "2/hour")]));
    check_that_only_failures_count(&serve(App::new().route("/", web::get().to(handler)).wrap(limit)).await).await;
}

#[actix_web::test]
async fn a_handlers_error_counts_as_the_response_that_it_becomes() {
    async fn handler(request: HttpRequest) -> Result<&'static str, Error> {
        let right = request.headers().contains_key("x-right");
        right.then_some("welcome").ok_or_else(|| ErrorUnauthorized("wrong password"))
    }
    let limit = failures(limiter(vec![rule("login", "2/hour")]));
    check_that_only_failures_count(&serve(App::new().route("/", web::get().to(handler).wrap(limit))).await).await;
}

/// An error of a middleware, which is no response yet when it comes to the limit.
async fn fails(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
    error: fn() -> Error,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    if request.headers().contains_key("x-right") { next.call(request).await } else { Err(error()) }
}

async fn behind_a_middleware_that_fails(limit: RateLimit, error: fn() -> Error) -> Served {
    let app = App::new().route("/", web::get().to(|| async { "welcome" }));
    serve(app.wrap(from_fn(move |request, next| fails(request, next, error))).wrap(limit)).await
}

#[actix_web::test]
async fn a_middlewares_error_counts_as_the_response_that_it_becomes() {
    let limit = failures(limiter(vec![rule("login", "2/hour")]));
    let app = behind_a_middleware_that_fails(limit, || ErrorUnauthorized("wrong password")).await;
    check_that_only_failures_count(&app).await;
}

/// Its status code says 500, its response 401.
#[derive(Debug)]
struct Unknown;

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody of that name")
    }
}

impl ResponseError for Unknown {
    fn error_response(&self) -> HttpResponse {
        HttpResponse::Unauthorized().body("who?")
    }
}

#[actix_web::test]
async fn an_errors_response_counts_and_not_its_status_code() {
    let limit = failures(limiter(vec![rule("login", "2/hour")]));
    check_that_only_failures_count(&behind_a_middleware_that_fails(limit, || Unknown.into()).await).await;
}

#[actix_web::test]
async fn an_errors_response_is_whole_and_tells_of_the_limits() {
    fn once() -> Error {
        InternalError::from_response("wrong password", HttpResponse::Unauthorized().body("wrong")).into()
    }
    let limits = [rule("inner", "2/hour"), rule("outer", "9/hour")].map(|rule| RateLimit::from(limiter(vec![rule])));
    let [inner, outer] = limits;
    let app = App::new().route("/", web::get().to(|| async { "welcome" }));
    let app = app.wrap(from_fn(|request, next| fails(request, next, once))).wrap(inner).wrap(outer);
    let response = send(&serve(app).await, request("GET", "/", 1)).await;
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers().get_all("ratelimit").count(), 2, "both are members");
    assert_eq!(header(&response, "x-ratelimit-remaining"), Some("1"), "the stricter one is told");
    assert_eq!(response.extensions().get::<Limited>().and_then(|limited| limited.remaining()), Some(1));
    assert_eq!(text(response).await, "wrong");
}

#[actix_web::test]
async fn an_error_keeps_its_words_and_its_status_code_on_the_way_out() {
    let limit = RateLimit::from(limiter(vec![rule("api", "1/minute")]));
    let inner = fn_service(|_: ServiceRequest| async { Err::<ServiceResponse, _>(Error::from(Unknown)) });
    let service = limit.new_transform(inner).await.expect("it cannot fail");
    let error = service.call(TestRequest::get().to_srv_request()).await.expect_err("the inner service fails");
    assert_eq!(error.to_string(), "nobody of that name");
    assert_eq!(error.as_response_error().status_code(), 401);
}

#[actix_web::test]
async fn a_request_that_is_cancelled_stays_charged_and_leaves_nothing_behind() {
    let clock = clock();
    let limiter = limiter_on(&clock, vec![rule("api", "2/minute")]);
    let counted = Arc::new(());
    let held = counted.clone();
    let limit = RateLimit::from(limiter.clone()).count(move |_| Arc::strong_count(&held) > 0);
    let inner = fn_service(|_: ServiceRequest| std::future::pending::<Result<ServiceResponse, Error>>());
    let service = limit.new_transform(inner).await.expect("it cannot fail");
    for _ in 0..2 {
        let mut future = Box::pin(service.call(TestRequest::get().to_srv_request()));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(future.as_mut().poll(&mut context).is_pending());
    }
    let api = limiter.throttle("api").expect("a rule");
    assert_eq!(api.remaining(Key::of([""])), 0);
    drop(service);
    drop(limit);
    assert_eq!(Arc::strong_count(&counted), 1, "nothing holds the limit any more");
    clock.advance(Duration::from_secs(60));
    assert_eq!(api.remaining(Key::of([""])), 2);
}
