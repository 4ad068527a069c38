//! What developers put on apps, scopes, resources and routes of actix-web.

use std::time::Duration;

use actix_web::{
    App, Error, HttpResponse,
    dev::ServiceResponse,
    http::StatusCode,
    middleware::{ErrorHandlerResponse, ErrorHandlers, NormalizePath},
    test::TestRequest,
    web,
};
use tollgate::{config::Surroundings, limiter::Limiter};
use tollgate_actix::{Limited, RateLimit};

use crate::rig::{clock, codes, header, limiter, limiter_on, request, rule, send, serve, text};

/// Takes the place of an error.
fn page_of_our_own<B>(response: ServiceResponse<B>) -> Result<ErrorHandlerResponse<B>, Error> {
    let (request, _) = response.into_parts();
    let page = ServiceResponse::new(request, HttpResponse::ServiceUnavailable().body("a page of our own"));
    Ok(ErrorHandlerResponse::Response(page.map_into_right_body()))
}

async fn hello() -> &'static str {
    "hello"
}

fn allowing(limits: &str) -> RateLimit {
    RateLimit::new(limits).expect("tests write good limits")
}

#[actix_web::test]
async fn one_line_limits_a_route() {
    let app =
        App::new().route("/", web::get().to(hello)).route("/upload", web::post().to(hello).wrap(allowing("5/minute")));
    let app = serve(app).await;
    assert_eq!(codes(&app, "POST", "/upload", 1, 6).await, [200, 200, 200, 200, 200, 429]);
    assert_eq!(codes(&app, "POST", "/upload", 2, 1).await, [200], "another client");
    assert_eq!(codes(&app, "GET", "/", 1, 9).await, [200; 9], "another route");
}

#[actix_web::test]
async fn one_line_limits_a_resource_a_scope_and_an_app() {
    let app = App::new()
        .service(web::resource("/resource").wrap(allowing("1/minute")).to(hello))
        .service(web::scope("/scope").wrap(allowing("2/minute")).route("/a", web::get().to(hello)))
        .route("/", web::get().to(hello))
        .wrap(allowing("6/minute"));
    let app = serve(app).await;
    assert_eq!(codes(&app, "GET", "/resource", 1, 2).await, [200, 429]);
    assert_eq!(codes(&app, "GET", "/scope/a", 1, 1).await, [200]);
    assert_eq!(codes(&app, "GET", "/scope/nowhere", 1, 1).await, [404]);
    assert_eq!(codes(&app, "GET", "/scope/a", 1, 1).await, [429]);
    assert_eq!(codes(&app, "GET", "/", 1, 2).await, [200, 429], "five of the six were used");
}

#[actix_web::test]
async fn an_answer_tells_how_it_stands_and_when_to_come_back() {
    let clock = clock();
    let limit = RateLimit::from(limiter_on(&clock, vec![rule("api", "2/minute")]));
    let app = serve(App::new().route("/", web::get().to(hello)).wrap(limit)).await;
    let first = send(&app, request("GET", "/", 1)).await;
    assert_eq!(header(&first, "ratelimit"), Some("\"api\";r=1;t=60"));
    assert_eq!(header(&first, "ratelimit-policy"), Some("\"api\";q=2;w=60"));
    assert_eq!(header(&first, "x-ratelimit-remaining"), Some("1"));
    assert_eq!(header(&first, "retry-after"), None);
    assert_eq!(text(first).await, "hello");

    codes(&app, "GET", "/", 1, 1).await;
    let denied = send(&app, request("GET", "/", 1)).await;
    assert_eq!(denied.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(header(&denied, "retry-after"), Some("60"));
    assert_eq!(header(&denied, "cache-control"), Some("no-store"));
    assert_eq!(header(&denied, "content-type"), Some("application/problem+json"));
    assert!(text(denied).await.contains("api allows 2/minute, try again in 60 s"));

    let page = send(&app, request("GET", "/", 1).insert_header(("accept", "text/html"))).await;
    assert_eq!(header(&page, "content-type"), Some("text/html; charset=utf-8"));

    clock.advance(Duration::from_secs(60));
    assert_eq!(codes(&app, "GET", "/", 1, 1).await, [200]);
}

#[actix_web::test]
async fn routes_with_one_name_share_a_limit_and_others_do_not() {
    let limiter = limiter(vec![rule("api", "2/minute"), rule("search", "1/minute")]);
    let named = |name| RateLimit::from(limiter.named(name).expect("there is one"));
    let app = App::new()
        .route("/a", web::get().to(hello).wrap(named("api")))
        .route("/b", web::get().to(hello).wrap(named("API")))
        .route("/search", web::get().to(hello).wrap(named("search")));
    let app = serve(app).await;
    assert_eq!(codes(&app, "GET", "/a", 1, 1).await, [200]);
    assert_eq!(codes(&app, "GET", "/b", 1, 2).await, [200, 429]);
    assert_eq!(codes(&app, "GET", "/search", 1, 2).await, [200, 429]);
    assert_eq!(limiter.named("apu").unwrap_err().to_string(), "there is no rule \"apu\", expected one of: api, search");
}

#[actix_web::test]
async fn a_limit_of_an_app_can_be_each_routes_or_each_methods_own() {
    let by = |words: &'static [&'static str]| rule("api", "1/minute").by(words.iter().copied()).expect("words");
    let app = async |rule| {
        let app = App::new()
            .service(web::resource("/users/{id}").get(hello).post(hello))
            .route("/orders", web::get().to(hello))
            .route("/{rest}*", web::get().to(hello));
        serve(app.wrap(RateLimit::from(limiter(vec![rule])))).await
    };
    let shared = app(by(&["client"])).await;
    assert_eq!(codes(&shared, "GET", "/users/1", 1, 1).await, [200]);
    assert_eq!(codes(&shared, "GET", "/orders", 1, 1).await, [429]);

    let by_route = app(by(&["client", "route"])).await;
    assert_eq!(codes(&by_route, "GET", "/users/1", 1, 1).await, [200]);
    assert_eq!(codes(&by_route, "GET", "/users/2", 1, 1).await, [429], "the route, not the path");
    assert_eq!(codes(&by_route, "GET", "/%75sers/3", 1, 1).await, [429], "as it is routed, not as it is written");
    assert_eq!(codes(&by_route, "GET", "/orders", 1, 1).await, [200]);

    let by_method = app(by(&["client", "method"])).await;
    assert_eq!(codes(&by_method, "GET", "/users/1", 1, 2).await, [200, 429]);
    assert_eq!(codes(&by_method, "POST", "/users/1", 1, 2).await, [200, 429]);

    let posts_only = app(rule("api", "1/minute").methods(["POST"])).await;
    assert_eq!(codes(&posts_only, "POST", "/users/1", 1, 2).await, [200, 429]);
    assert_eq!(codes(&posts_only, "GET", "/users/1", 1, 3).await, [200; 3]);
}

#[actix_web::test]
async fn a_limit_of_a_scope_or_of_several_routes_can_be_each_routes_own() {
    let by_route = || rule("api", "1/minute").by(["client", "route"]).expect("words");
    let limit = RateLimit::from(limiter(vec![by_route()]));
    let routes = web::scope("/api").route("/a/{id}", web::get().to(hello)).route("/b", web::get().to(hello));
    let app = App::new().service(routes.wrap(limit.clone())).service(web::resource("/c/{id}").wrap(limit).get(hello));
    let app = serve(app).await;
    assert_eq!(codes(&app, "GET", "/api/a/1", 1, 1).await, [200]);
    assert_eq!(codes(&app, "GET", "/api/a/2", 1, 1).await, [429]);
    assert_eq!(codes(&app, "GET", "/api/b", 1, 2).await, [200, 429]);
    assert_eq!(codes(&app, "GET", "/c/1", 1, 1).await, [200]);
    assert_eq!(codes(&app, "GET", "/c/2", 1, 1).await, [429]);

    let limit = RateLimit::from(limiter(vec![by_route()]));
    let app = App::new().service(web::resource("/a/{id}").get(hello)).wrap(limit).wrap(NormalizePath::trim());
    let app = serve(app).await;
    assert_eq!(codes(&app, "GET", "/a/1", 1, 1).await, [200]);
    assert_eq!(codes(&app, "GET", "//a/1/", 1, 1).await, [429], "normalised before it is counted");
    assert_eq!(codes(&app, "GET", "/nowhere", 1, 2).await, [404, 429]);
    assert_eq!(codes(&app, "GET", "/elsewhere", 1, 1).await, [429], "what is no route is counted as one");
}

#[actix_web::test]
async fn what_an_inner_limit_denies_is_on_the_outer_bill_all_the_same() {
    let outer = limiter(vec![rule("all", "3/minute")]);
    let inner = RateLimit::from(limiter(vec![rule("search", "1/minute")]));
    let app = App::new()
        .route("/", web::get().to(hello))
        .route("/search", web::get().to(hello).wrap(inner))
        .wrap(RateLimit::from(outer));
    let app = serve(app).await;
    let first = send(&app, request("GET", "/search", 1)).await;
    assert_eq!(header(&first, "x-ratelimit-remaining"), Some("0"), "the stricter one is told");
    assert_eq!(first.headers().get_all("ratelimit").count(), 2, "both are members");
    let denied = send(&app, request("GET", "/search", 1)).await;
    assert_eq!(denied.status(), 429);
    assert_eq!(header(&denied, "x-ratelimit-remaining"), Some("0"));
    // Or whoever has used up the inner one could do as often as he likes what stands between the two.
    assert_eq!(codes(&app, "GET", "/", 1, 2).await, [200, 429], "two of the three were used");
}

#[actix_web::test]
async fn an_error_handler_can_answer_denials() {
    let inner = RateLimit::from(limiter(vec![rule("search", "1/minute")]));
    let outer = RateLimit::from(limiter(vec![rule("all", "3/minute")]));
    let app = App::new()
        .route("/", web::get().to(hello))
        .route("/search", web::get().to(hello).wrap(inner))
        .wrap(ErrorHandlers::new().default_handler(page_of_our_own))
        .wrap(outer);
    let app = serve(app).await;
    assert_eq!(codes(&app, "GET", "/search", 1, 2).await, [200, 503]);
    let denied = send(&app, request("GET", "/search", 1)).await;
    assert_eq!(text(denied).await, "a page of our own");
    assert_eq!(codes(&app, "GET", "/", 1, 1).await, [429], "all three were used");
}

#[actix_web::test]
async fn handlers_and_outer_middleware_find_the_decision() {
    async fn left(limited: Limited) -> String {
        format!("{:?} {:?}", limited.remaining(), limited.reset_after())
    }
    async fn perhaps(limited: Option<Limited>) -> String {
        limited.is_some().to_string()
    }
    let limit = RateLimit::from(limiter(vec![rule("api", "2/minute")]));
    let app = App::new()
        .route("/", web::get().to(left).wrap(limit))
        .route("/free", web::get().to(perhaps))
        .route("/wrong", web::get().to(left));
    let app = serve(app).await;
    let response = send(&app, request("GET", "/", 1)).await;
    assert_eq!(response.extensions().get::<Limited>().and_then(|limited| limited.remaining()), Some(1));
    assert_eq!(text(response).await, "Some(1) Some(60s)");
    assert_eq!(text(send(&app, request("GET", "/free", 1)).await).await, "false");
    let wrong = send(&app, request("GET", "/wrong", 1)).await;
    assert_eq!(wrong.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(text(wrong).await.contains("this route has no limit"));
}

#[actix_web::test]
async fn the_decision_of_the_limit_closest_to_the_handler_is_the_one_that_is_found() {
    async fn left(limited: Limited) -> String {
        format!("{:?}", limited.remaining())
    }
    let limit = |limits| RateLimit::from(limiter(vec![rule("api", limits)]));
    let app = App::new()
        .route("/", web::get().to(left).wrap(limit("2/minute")))
        .route("/lost", web::get().to(HttpResponse::NotFound).wrap(limit("2/minute")))
        .wrap(ErrorHandlers::new().default_handler(page_of_our_own))
        .wrap(limit("9/minute"));
    let app = serve(app).await;
    let response = send(&app, request("GET", "/", 1)).await;
    assert_eq!(response.extensions().get::<Limited>().and_then(|limited| limited.remaining()), Some(1));
    assert_eq!(text(response).await, "Some(1)");
    let replaced = send(&app, request("GET", "/lost", 1)).await;
    assert_eq!(replaced.extensions().get::<Limited>().and_then(|limited| limited.remaining()), Some(1));
    assert_eq!(text(replaced).await, "a page of our own");
}

#[actix_web::test]
async fn a_denial_can_be_answered_in_the_applications_own_words() {
    let limit = RateLimit::from(limiter(vec![rule("api", "1/minute")])).respond(|decision, request| {
        let wait = decision.retry_after().map_or(0, |wait| wait.as_secs());
        let text = format!("{} must wait {wait} s", request.path());
        HttpResponse::ServiceUnavailable().insert_header(("retry-after", "7")).body(text)
    });
    let app = serve(App::new().route("/", web::get().to(hello)).wrap(limit)).await;
    codes(&app, "GET", "/", 1, 1).await;
    let denied = send(&app, request("GET", "/", 1)).await;
    assert_eq!((denied.status().as_u16(), header(&denied, "retry-after")), (503, Some("60")));
    assert_eq!(header(&denied, "x-ratelimit-remaining"), Some("0"));
    assert!(denied.extensions().contains::<Limited>());
    assert_eq!(text(denied).await, "/ must wait 60 s");
}

#[actix_web::test]
async fn without_addresses_everybody_is_one_client() {
    let app = serve(App::new().route("/", web::get().to(hello)).wrap(allowing("1/minute"))).await;
    assert_eq!(send(&app, TestRequest::get()).await.status(), 200);
    assert_eq!(send(&app, TestRequest::get()).await.status(), 429);
}

#[actix_web::test]
async fn nobody_is_believed_who_names_himself_in_a_header() {
    let app = serve(App::new().route("/", web::get().to(hello)).wrap(allowing("1/minute"))).await;
    let named = |name| request("GET", "/", 1).insert_header(("x-forwarded-for", name));
    assert_eq!(send(&app, named("198.51.100.1")).await.status(), 200);
    assert_eq!(send(&app, named("198.51.100.2")).await.status(), 429);
}

#[actix_web::test]
async fn each_host_can_be_counted_apart() {
    let by_host = rule("api", "1/minute").by(["host"]).expect("words");
    let limit = RateLimit::of(by_host).expect("a good rule");
    let app = serve(App::new().route("/", web::get().to(hello)).wrap(limit)).await;
    let of = async |target, host| send(&app, request("GET", target, 1).insert_header(("host", host))).await.status();
    assert_eq!(of("/", "a.example").await, 200);
    assert_eq!(of("/", "b.example").await, 200);
    assert_eq!(of("/", "a.example").await, 429);
    assert_eq!(of("/", "x@a.example").await, 429, "a user's name is no part of it");
    assert_eq!(of("http://c.example/", "b.example").await, 429, "the header counts, as it does for handlers");
}

#[actix_web::test]
async fn a_policy_file_limits_routes_by_the_names_of_its_rules() {
    let source = "rules:\n  - { name: api, limit: 1/minute, on_limit: { body: slow down, close: true } }\n";
    let limiter = Limiter::from_policy(source, &Surroundings::none()).expect("a policy");
    let limit = RateLimit::from(limiter.named("api").expect("a rule"));
    let app = serve(App::new().route("/", web::get().to(hello).wrap(limit))).await;
    codes(&app, "GET", "/", 1, 1).await;
    let denied = send(&app, request("GET", "/", 1)).await;
    assert!(!denied.head().keep_alive(), "the rule closes the connection");
    assert_eq!(text(denied).await, "slow down");
}
