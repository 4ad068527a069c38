//! What developers put on routes of axum.

use std::time::Duration;

use axum::{
    Router,
    body::Body,
    http::StatusCode,
    response::AppendHeaders,
    routing::{get, post},
};
use http::{HeaderName, HeaderValue, Request, Response};
use tollgate::{
    config::Surroundings,
    headers::{Dialect, Dialects},
    limiter::Limiter,
};
use tollgate_tower::{Limited, RateLimitLayer};

use crate::rig::{clock, codes, header, limiter, limiter_on, request, rule, send, text};

async fn hello() -> &'static str {
    "hello"
}

#[tokio::test]
async fn one_line_limits_a_route() {
    let app = Router::new()
        .route("/", get(hello))
        .route("/upload", post(hello).layer(RateLimitLayer::new("5/minute").expect("a limit")));
    assert_eq!(codes(&app, "POST", "/upload", 1, 6).await, [200, 200, 200, 200, 200, 429]);
    assert_eq!(codes(&app, "POST", "/upload", 2, 1).await, [200], "another client");
    assert_eq!(codes(&app, "GET", "/", 1, 9).await, [200; 9], "another route");
}

#[tokio::test]
async fn an_answer_tells_how_it_stands_and_when_to_come_back() {
    let clock = clock();
    let layer = RateLimitLayer::from(limiter_on(&clock, vec![rule("api", "2/minute")]));
    let app = Router::new().route("/", get(hello)).layer(layer);
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

    clock.advance(Duration::from_secs(60));
    assert_eq!(codes(&app, "GET", "/", 1, 1).await, [200]);
}

#[tokio::test]
async fn a_denied_client_reads_nothing_of_his_request_in_the_answer() {
    let app = Router::new().route("/", get(hello)).layer(RateLimitLayer::new("0/minute").expect("a limit"));
    for extra in [0, 90] {
        let mut asking = request("GET", "/", 1);
        asking.headers_mut().insert("cookie", HeaderValue::from_static("session=1"));
        asking.headers_mut().insert("x-ratelimit-remaining", HeaderValue::from_static("9"));
        for number in 0..extra {
            let name = HeaderName::try_from(format!("x-{number}")).expect("a name");
            asking.headers_mut().insert(name, HeaderValue::from_static("1"));
        }
        let denied = send(&app, asking).await;
        assert_eq!(header(&denied, "cookie"), None);
        assert_eq!(header(&denied, "x-1"), None);
        assert_eq!(header(&denied, "x-ratelimit-remaining"), Some("0"));
        assert_eq!(header(&denied, "content-type"), Some("application/problem+json"));
        assert!(denied.headers().capacity() < 50, "{}", denied.headers().capacity());
    }
}

#[tokio::test]
async fn routes_with_one_name_share_a_limit_and_others_do_not() {
    let limiter = limiter(vec![rule("api", "2/minute"), rule("search", "1/minute")]);
    let named = |name| RateLimitLayer::from(limiter.named(name).expect("there is one"));
    let app = Router::new()
        .route("/a", get(hello).layer(named("api")))
        .route("/b", get(hello).layer(named("API")))
        .route("/search", get(hello).layer(named("search")));
    assert_eq!(codes(&app, "GET", "/a", 1, 1).await, [200]);
    assert_eq!(codes(&app, "GET", "/b", 1, 2).await, [200, 429]);
    assert_eq!(codes(&app, "GET", "/search", 1, 2).await, [200, 429]);
    assert_eq!(limiter.named("apu").unwrap_err().to_string(), "there is no rule \"apu\", expected one of: api, search");
}

#[tokio::test]
async fn a_limit_of_a_router_can_be_each_routes_or_each_methods_own() {
    let by = |words: &'static [&'static str]| rule("api", "1/minute").by(words.iter().copied()).expect("words");
    let app = |rule| {
        let routes = Router::new().route("/users/{id}", get(hello).post(hello)).route("/orders", get(hello));
        routes.layer(RateLimitLayer::from(limiter(vec![rule])))
    };
    let shared = app(by(&["client"]));
    assert_eq!(codes(&shared, "GET", "/users/1", 1, 1).await, [200]);
    assert_eq!(codes(&shared, "GET", "/orders", 1, 1).await, [429]);

    let by_route = app(by(&["client", "route"]));
    assert_eq!(codes(&by_route, "GET", "/users/1", 1, 1).await, [200]);
    assert_eq!(codes(&by_route, "GET", "/users/2", 1, 1).await, [429], "the route, not the path");
    assert_eq!(codes(&by_route, "GET", "/orders", 1, 1).await, [200]);

    let by_method = app(by(&["client", "method"]));
    assert_eq!(codes(&by_method, "GET", "/users/1", 1, 2).await, [200, 429]);
    assert_eq!(codes(&by_method, "POST", "/users/1", 1, 2).await, [200, 429]);

    let posts_only = app(rule("api", "1/minute").methods(["POST"]));
    assert_eq!(codes(&posts_only, "POST", "/users/1", 1, 2).await, [200, 429]);
    assert_eq!(codes(&posts_only, "GET", "/users/1", 1, 3).await, [200; 3]);
}

#[tokio::test]
async fn a_handlers_own_numbers_stay_where_they_are_stricter_among_any_number_of_headers() {
    for others in [0, 1, 3, 4, 9] {
        for (own, told) in [("0", "0"), ("1", "1"), ("2", "1"), ("", "1")] {
            let handler = move || async move {
                let others = (0..others).map(|i| (format!("x-{i}"), "1"));
                (AppendHeaders(others.chain([("x-ratelimit-remaining".to_owned(), own)]).collect::<Vec<_>>()), "hello")
            };
            let layer = RateLimitLayer::from(limiter(vec![rule("api", "2/minute")]));
            let response = send(&Router::new().route("/", get(handler)).layer(layer), request("GET", "/", 1)).await;
            let lines: Vec<_> = response.headers().get_all("x-ratelimit-remaining").iter().collect();
            assert_eq!(lines, [told], "{own:?} beside {others} others");
            assert_eq!(response.headers().contains_key("x-ratelimit-limit"), own != "0" && own != "1", "{own:?}");
        }
    }
}

#[tokio::test]
async fn a_handlers_own_numbers_are_read_in_every_dialect_of_numbers() {
    for (dialect, remaining, limit) in [
        (Dialect::XRateLimit, "x-ratelimit-remaining", "x-ratelimit-limit"),
        (Dialect::XRateLimitHyphen, "x-rate-limit-remaining", "x-rate-limit-limit"),
    ] {
        for (own, told, allowed) in [("0", "0", "7"), ("2", "1", "2")] {
            let handler = move || async move { ([(remaining, own), (limit, "7")], "hello") };
            let telling = rule("api", "2/minute").telling(Dialects::new(vec![dialect]).expect("one dialect"));
            let layer = RateLimitLayer::from(limiter(vec![telling]));
            let response = send(&Router::new().route("/", get(handler)).layer(layer), request("GET", "/", 1)).await;
            let lines = |name| response.headers().get_all(name).iter().collect::<Vec<_>>();
            assert_eq!(lines(remaining), [told], "{dialect:?} beside {own}");
            assert_eq!(lines(limit), [allowed], "{dialect:?} beside {own}");
        }
    }
}

#[tokio::test]
async fn what_an_inner_limit_denies_is_on_the_outer_bill_all_the_same() {
    let outer = limiter(vec![rule("all", "3/minute")]);
    let inner = RateLimitLayer::from(limiter(vec![rule("search", "1/minute")]));
    let app = Router::new()
        .route("/", get(hello))
        .route("/search", get(hello).layer(inner))
        .layer(RateLimitLayer::from(outer));
    let first = send(&app, request("GET", "/search", 1)).await;
    assert_eq!(header(&first, "x-ratelimit-remaining"), Some("0"), "the stricter one is told");
    assert_eq!(first.headers().get_all("ratelimit").iter().count(), 2, "both are members");
    let denied = send(&app, request("GET", "/search", 1)).await;
    assert_eq!(denied.status(), 429);
    assert_eq!(header(&denied, "x-ratelimit-remaining"), Some("0"));
    // Or whoever has used up the inner one could do as often as he likes what stands between the two.
    assert_eq!(codes(&app, "GET", "/", 1, 2).await, [200, 429], "two of the three were used");
}

#[tokio::test]
async fn handlers_and_outer_layers_find_the_decision() {
    async fn left(limited: Limited) -> String {
        format!("{:?} {:?}", limited.remaining(), limited.reset_after())
    }
    async fn perhaps(limited: Option<Limited>) -> String {
        limited.is_some().to_string()
    }
    let layer = RateLimitLayer::from(limiter(vec![rule("api", "2/minute")]));
    let app = Router::new().route("/", get(left).layer(layer)).route("/free", get(perhaps)).route("/wrong", get(left));
    let response = send(&app, request("GET", "/", 1)).await;
    assert_eq!(response.extensions().get::<Limited>().and_then(|limited| limited.remaining()), Some(1));
    assert_eq!(text(response).await, "Some(1) Some(60s)");
    assert_eq!(text(send(&app, request("GET", "/free", 1)).await).await, "false");
    let wrong = send(&app, request("GET", "/wrong", 1)).await;
    assert_eq!(wrong.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(text(wrong).await.contains("this route has no limit"));
}

#[tokio::test]
async fn a_denial_can_be_answered_in_the_applications_own_words() {
    let layer = RateLimitLayer::from(limiter(vec![rule("api", "1/minute")])).respond(|decision, parts| {
        let text = format!("{} must wait {:?} s", parts.uri.path(), decision.retry_after_secs());
        Response::builder().status(503).header("retry-after", "7").body(Body::from(text)).expect("a response")
    });
    let app = Router::new().route("/", get(hello)).layer(layer);
    codes(&app, "GET", "/", 1, 1).await;
    let denied = send(&app, request("GET", "/", 1)).await;
    assert_eq!((denied.status().as_u16(), header(&denied, "retry-after")), (503, Some("60")));
    assert_eq!(header(&denied, "x-ratelimit-remaining"), Some("0"));
    assert_eq!(text(denied).await, "/ must wait Some(60) s");
}

#[tokio::test]
async fn without_addresses_everybody_is_one_client() {
    let app = Router::new().route("/", get(hello)).layer(RateLimitLayer::new("1/minute").expect("a limit"));
    let nobody = || Request::get("/").body(Body::empty()).expect("a request");
    assert_eq!(send(&app, nobody()).await.status(), 200);
    assert_eq!(send(&app, nobody()).await.status(), 429);
}

#[tokio::test]
async fn a_policy_file_limits_routes_by_the_names_of_its_rules() {
    let source = "rules:\n  - { name: api, limit: 1/minute, on_limit: { body: slow down } }\n";
    let limiter = Limiter::from_policy(source, &Surroundings::none()).expect("a policy");
    let app = Router::new().route("/", get(hello).layer(RateLimitLayer::from(limiter.named("api").expect("a rule"))));
    codes(&app, "GET", "/", 1, 1).await;
    assert_eq!(text(send(&app, request("GET", "/", 1)).await).await, "slow down");
}
