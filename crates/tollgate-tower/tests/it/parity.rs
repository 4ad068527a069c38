//! What can be done with the middleware of systems that came before, done here: the rows of `docs/parity.md` that no other
//! test shows.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{Router, routing::get};
use http::{Request, Response};
use tollgate::{
    client::{Proxies, Subnet, TrustedProxy},
    headers::{Dialect, Dialects},
    limiter::Limiter,
    policy::Policy,
    quota::Limits,
    store::memory::MemoryStore,
};
use tollgate_tower::{Limited, RateLimitLayer};

use crate::rig::{clock, codes, header, limiter, limiter_on, request, rule, send, text};

async fn hello() -> &'static str {
    "hello"
}

// FL-28, Flask-Limiter: what no route knew was not limited at all. OPTIONS and HEAD were, as they are here.
#[tokio::test]
async fn what_no_route_knows_is_limited_like_the_rest_and_so_is_every_method() {
    let layer = RateLimitLayer::from(limiter(vec![rule("api", "4/minute")]));
    let app = Router::new().route("/", get(hello)).layer(layer);
    assert_eq!(codes(&app, "GET", "/no/such/page", 1, 2).await, [404, 404]);
    assert_eq!(codes(&app, "OPTIONS", "/", 1, 1).await, [405]);
    assert_eq!(codes(&app, "HEAD", "/", 1, 2).await, [200, 429]);
    assert_eq!(codes(&app, "GET", "/no/such/page", 1, 1).await, [429]);
}

// M-17, Masonite; FL-41, Flask-Limiter; I-10, Itsi: a trusted proxy is honoured, an untrusted one is not.
#[tokio::test]
async fn a_forwarding_header_is_believed_from_a_trusted_proxy_alone() {
    let proxy: Subnet = "203.0.113.1".parse().expect("an address");
    let proxies = Proxies::new(vec![TrustedProxy {
        from: [proxy].into_iter().collect(),
        header: "x-forwarded-for".to_owned(),
        vouches: Vec::new(),
    }]);
    let policy = Policy::new(proxies, None, Vec::new(), vec![rule("api", "1/minute")]).expect("a policy");
    let layer = RateLimitLayer::from(Limiter::new(policy, MemoryStore::new(100, clock().into())));
    let app = Router::new().route("/", get(hello)).layer(layer);
    let code = async |peer: u8, forwarded: &'static str| {
        let mut request = request("GET", "/", peer);
        request.headers_mut().insert("x-forwarded-for", http::HeaderValue::from_static(forwarded));
        send(&app, request).await.status().as_u16()
    };
    assert_eq!([code(1, "192.0.2.1").await, code(1, "192.0.2.2").await, code(1, "192.0.2.1").await], [200, 200, 429]);
    assert_eq!(code(1, "198.51.100.9, 192.0.2.1").await, 429, "what stands further left is the client's word");
    assert_eq!([code(2, "192.0.2.3").await, code(2, "192.0.2.4").await], [200, 429]);
}

// P-20, Pode: a rule's limit can be another one from the next request on, while the server runs.
#[tokio::test]
async fn a_limit_can_change_while_the_server_runs() {
    let allowed = Arc::new(AtomicU32::new(1));
    let told = allowed.clone();
    let layer = RateLimitLayer::from(limiter(vec![rule("api", "1/minute")]));
    let layer = layer.limits(move |_| Some(Limits::per_minute(told.load(Ordering::Relaxed))));
    let app = Router::new().route("/", get(hello)).layer(layer);
    assert_eq!(codes(&app, "GET", "/", 1, 2).await, [200, 429]);
    allowed.store(3, Ordering::Relaxed);
    assert_eq!(codes(&app, "GET", "/", 1, 3).await, [200, 200, 429], "one of the three was used");
}

// I-06 and its own list of tests, Itsi: the four headers of a denial, nothing before it, and a window that resets.
#[tokio::test]
async fn a_denial_can_have_itsis_headers_and_an_allowed_request_none() {
    let clock = clock();
    let dialects = Dialects::new(vec![Dialect::XRateLimitDelta]).expect("one dialect contradicts nothing");
    let layer = RateLimitLayer::from(limiter_on(&clock, vec![rule("api", "1/minute").telling(dialects)]));
    let app = Router::new().route("/", get(hello)).layer(layer);
    let allowed = send(&app, request("GET", "/", 1)).await;
    assert!(
        ["x-ratelimit-limit", "x-ratelimit-reset", "retry-after"].iter().all(|name| header(&allowed, name).is_none())
    );
    clock.advance(Duration::from_millis(59_500));
    let denied = send(&app, request("GET", "/", 1)).await;
    let told = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "retry-after"];
    assert_eq!(told.map(|name| header(&denied, name)), ["1", "0", "1", "1"].map(Some));
    clock.advance(Duration::from_millis(500));
    assert_eq!(codes(&app, "GET", "/", 1, 1).await, [200]);
}

// U-07, the snippet: counted and never refused. A handler finds what would have been.
#[tokio::test]
async fn a_limit_in_shadow_refuses_nothing_and_a_handler_sees_what_it_would() {
    async fn refused_by(limited: Limited) -> String {
        limited.shadow_denied_by().collect()
    }
    let layer = RateLimitLayer::from(limiter(vec![rule("new", "1/minute").in_shadow()]));
    let app = Router::new().route("/", get(refused_by)).layer(layer);
    assert_eq!(text(send(&app, request("GET", "/", 1)).await).await, "");
    let second = send(&app, request("GET", "/", 1)).await;
    assert_eq!(header(&second, "ratelimit"), None);
    assert_eq!(text(second).await, "new");
}

// I-02 and I-10, Itsi: the value of a header without its prefix.
#[tokio::test]
async fn a_prefix_is_taken_off_a_key() {
    let layer = RateLimitLayer::from(limiter(vec![rule("api", "1/minute")])).key(|parts| {
        let value = parts.headers.get("authorization")?.to_str().ok()?;
        value.strip_prefix("Bearer ").map(Into::into)
    });
    let app = Router::new().route("/", get(hello)).layer(layer);
    let code = async |value: &'static str| {
        let mut request: Request<_> = request("GET", "/", 1);
        request.headers_mut().insert("authorization", http::HeaderValue::from_static(value));
        let response: Response<_> = send(&app, request).await;
        response.status().as_u16()
    };
    assert_eq!([code("Bearer a").await, code("Bearer b").await, code("Bearer a").await], [200, 200, 429]);
    assert_eq!([code("Basic a").await, code("Basic b").await], [200, 429], "without it, by client");
}
