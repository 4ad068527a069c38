//! A client that does as it is asked, on tokio's own clock standing still.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use proptest::prelude::*;
use tokio::time::Instant;
use tollgate::clock::Timestamp;
use tollgate_tower::client::{PaceError, PaceLayer, asked_to_wait};
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

const NOW: u64 = 1_700_000_000;

fn asked(status: u16, lines: &[(&'static str, &'static str)]) -> Option<f64> {
    let line =
        |(name, value): &(&'static str, &'static str)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    let headers: HeaderMap = lines.iter().map(line).collect();
    let status = StatusCode::from_u16(status).expect("a status");
    asked_to_wait(status, &headers, Timestamp::from_micros(NOW * 1_000_000)).map(|wait| wait.as_secs_f64())
}

#[test]
fn every_dialect_of_asking_to_wait_is_understood() {
    for (status, lines, expected) in [
        (429, &[("retry-after", "7")][..], Some(7.0)),
        (503, &[("retry-after", " 0 ")], Some(0.0)),
        (429, &[("retry-after", "Tue, 14 Nov 2023 22:13:50 GMT")], Some(30.0)),
        (429, &[("retry-after", "Tue, 14 Nov 2023 22:13:00 GMT")], Some(0.0)),
        (200, &[("retry-after", "7")], None),
        (429, &[("retry-after", "-7")], None),
        (429, &[("retry-after", "soon"), ("ratelimit", "\"a\";r=0;t=3")], Some(3.0)),
        (429, &[("retry-after", "2"), ("ratelimit", "\"a\";r=0;t=30")], Some(2.0)),
        (200, &[("ratelimit", "\"hour\";r=0;t=95,\"day\";r=100;t=36000")], Some(95.0)),
        (200, &[("ratelimit", "\"a,;r=0;t=9\";r=1;t=5")], None),
        (200, &[("ratelimit", "default;a=0;w=30")], Some(30.0)),
        (200, &[("ratelimit", "limit=100, remaining=0, reset=5")], Some(5.0)),
        (200, &[("ratelimit", "limit=100, remaining=1, reset=5")], None),
        (200, &[("ratelimit-remaining", "0"), ("ratelimit-reset", "4")], Some(4.0)),
        (200, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1700000011")], Some(11.0)),
        (200, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1.25")], Some(1.25)),
        (200, &[("x-rate-limit-remaining", "0"), ("x-rate-limit-reset", "1600000000")], Some(0.0)),
        (200, &[("x-ratelimit-remaining", "0")], None),
        (200, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1700000005000")], Some(5.0)),
        (
            200,
            &[("ratelimit", "\"a\";r=0;t=12"), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "240")],
            Some(12.0),
        ),
        (429, &[], None),
    ] {
        assert_eq!(asked(status, lines), expected, "{status} {lines:?}");
    }
}

#[test]
fn vendors_dialects_are_understood() {
    let zero = |remaining, reset, value| (200, vec![(remaining, "0"), (reset, value)]);
    let envoy = vec![
        ("x-ratelimit-limit", "3, 5;w=60;name=\"per-ip\", 3;w=60;name=\"per-key\""),
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-reset", "17"),
    ];
    let discord = vec![
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-reset", "1700000003.5"),
        ("x-ratelimit-reset-after", "3.251"),
    ];
    let gitlab = zero("ratelimit-remaining", "ratelimit-reset", "1700000042").1;
    let openai = |reset| zero("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens", reset);
    for ((status, lines), expected) in [
        ((429, envoy), Some(17.0)),
        ((429, discord), Some(3.251)),
        ((429, gitlab), Some(42.0)),
        (openai("1s"), Some(1.0)),
        (openai("6m0s"), Some(360.0)),
        (openai("12ms"), Some(0.012)),
        (openai("1h1m1.5s"), Some(3_661.5)),
        (openai("1h1m1.5"), None),
        (openai("12 parsecs"), None),
        (openai("s"), None),
        (openai(""), None),
        (zero("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", "2s"), Some(2.0)),
        (
            zero(
                "anthropic-ratelimit-input-tokens-remaining",
                "anthropic-ratelimit-input-tokens-reset",
                "2023-11-14T22:13:27Z",
            ),
            Some(7.0),
        ),
        (zero("x-ratelimit-remaining", "x-ratelimit-reset", "Tue, 14 Nov 2023 22:13:50 GMT"), Some(30.0)),
        (zero("ratelimit-remaining", "x-ratelimit-reset", "5"), None),
    ] {
        assert_eq!(asked(status, &lines), expected, "{status} {lines:?}");
    }
}

/// One that refuses may have wanted more than remained, or not say what does.
#[test]
fn a_refusal_asks_by_the_limit_with_least_remaining() {
    for (lines, refused, otherwise) in [
        (&[("ratelimit", "\"hour\";r=3;t=95, \"day\";r=100;t=36000")][..], Some(95.0), None),
        (&[("ratelimit", "\"a\"; r=3; t=95, \"b\"; r=3; t=7")], Some(95.0), None),
        (&[("ratelimit", "\"never\";r=0, \"day\";r=100;t=36000")], None, None),
        (&[("ratelimit", "limit=100, remaining=50, reset=5")], Some(5.0), None),
        (&[("x-ratelimit-reset", "9")], Some(9.0), None),
        (&[("x-ratelimit-reset", "9"), ("ratelimit-remaining", "0"), ("ratelimit-reset", "4")], Some(9.0), Some(4.0)),
        (
            &[("ratelimit", "nonsense"), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "9")],
            Some(9.0),
            Some(9.0),
        ),
    ] {
        for (status, expected) in [(429, refused), (503, refused), (200, otherwise), (404, otherwise)] {
            assert_eq!(asked(status, lines), expected, "{status} {lines:?}");
        }
    }
}

proptest! {
    #[test]
    fn no_header_is_too_odd(value in "[\\x20-\\x7e]{0,40}", status in 100_u16..600) {
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_str(&value).expect("printable ASCII");
        let status = StatusCode::from_u16(status).expect("a status");
        let now = Timestamp::from_micros(NOW * 1_000_000);
        for name in ["ratelimit", "ratelimit-remaining", "ratelimit-reset", "x-ratelimit-reset", "retry-after"] {
            headers.insert(name, value.clone());
            let _ = asked_to_wait(status, &headers, now);
        }
    }

    #[test]
    fn spans_are_what_they_say(hours in 0_u64..10_000, minutes in 0_u64..60, millis in 0_u64..60_000, unknown in ".{0,9}") {
        let mut headers = HeaderMap::new();
        headers.insert("x-ratelimit-remaining", HeaderValue::from_static("0"));
        let mut asked = |value: &str| {
            headers.insert("x-ratelimit-reset", HeaderValue::from_str(value).ok()?);
            asked_to_wait(StatusCode::OK, &headers, Timestamp::from_micros(NOW * 1_000_000))
        };
        let span = Duration::from_millis((hours * 60 + minutes) * 60_000 + millis);
        prop_assert_eq!(asked(&format!("{hours}h{minutes}m{}.{:03}s", millis / 1_000, millis % 1_000)), Some(span));
        prop_assert_eq!(asked(&format!("{}.{:03}", span.as_secs(), millis % 1_000)), Some(span));
        let unix = Duration::from_secs(NOW) + span;
        prop_assert_eq!(asked(&format!("{}.{:03}", unix.as_secs(), millis % 1_000)), Some(span));
        prop_assert_eq!(asked(&format!("{}", unix.as_millis())), Some(span));
        let _ = asked(&format!("{hours}{unknown}{minutes}"));
    }
}

/// A service that answers its first call so, and then with 200.
fn service(
    status: u16,
    name: &'static str,
    value: &'static str,
) -> (impl Service<Request<()>, Response = Response<()>, Error = Infallible, Future: Send> + Clone, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let service = service_fn(move |_: Request<()>| {
        let is_first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            let response = Response::builder().status(if is_first { status } else { 200 });
            let response = if is_first { response.header(name, value) } else { response };
            Ok(response.body(()).expect("a response"))
        }
    });
    (service, calls)
}

fn call(host: &str) -> Request<()> {
    Request::get(format!("https://{host}/")).body(()).expect("a request")
}

#[tokio::test(start_paused = true)]
async fn a_service_that_asks_to_wait_is_left_alone_for_so_long_and_others_are_not() {
    let (service, calls) = service(429, "retry-after", "20");
    let mut service = PaceLayer::new(Duration::from_secs(30)).layer(service);
    let start = Instant::now();
    assert_eq!(service.ready().await.expect("ready").call(call("a")).await.expect("a response").status(), 429);
    service.ready().await.expect("ready").call(call("b")).await.expect("a response");
    assert_eq!(start.elapsed(), Duration::ZERO);
    service.ready().await.expect("ready").call(call("user@A")).await.expect("a response");
    assert_eq!((start.elapsed(), calls.load(Ordering::SeqCst)), (Duration::from_secs(20), 3));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_would_wait_too_long_fails_at_once_and_is_not_made() {
    let (service, calls) = service(200, "ratelimit", "\"a\";r=0;t=60");
    let mut service = PaceLayer::new(Duration::from_secs(30)).layer(service);
    let start = Instant::now();
    service.ready().await.expect("ready").call(call("a")).await.expect("a response");
    let error = service.ready().await.expect("ready").call(call("a")).await.expect_err("too long");
    assert_eq!(error.to_string(), "the service asks to wait for another 60 s");
    assert!(matches!(error, PaceError::Asked(wait) if wait == Duration::from_secs(60)));
    assert_eq!((start.elapsed(), calls.load(Ordering::SeqCst)), (Duration::ZERO, 1));
}

#[tokio::test(start_paused = true)]
async fn no_wait_is_too_long_to_reckon_with_and_none_lasts_longer_than_a_day() {
    let (service, calls) = service(429, "retry-after", "9999999999999");
    let mut service = PaceLayer::new(Duration::MAX).layer(service);
    let start = Instant::now();
    for _ in 0..2 {
        service.call(call("a")).await.expect("a response");
    }
    assert_eq!((start.elapsed(), calls.load(Ordering::SeqCst)), (Duration::from_secs(86_400), 2));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_held_back_takes_nobodys_place() {
    let (service, _) = service(429, "retry-after", "20");
    let one_at_a_time = tower::limit::ConcurrencyLimitLayer::new(1).layer(service);
    let mut service = PaceLayer::new(Duration::from_secs(30)).layer(one_at_a_time);
    service.call(call("a")).await.expect("a response");
    let start = Instant::now();
    let held_back = tokio::spawn(service.call(call("a")));
    tokio::task::yield_now().await;
    service.call(call("b")).await.expect("a response");
    assert_eq!(start.elapsed(), Duration::ZERO);
    held_back.await.expect("no panic").expect("a response");
    assert_eq!(start.elapsed(), Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn thousands_of_services_that_ask_for_years_make_nobody_forget_the_others() {
    let answered = |wait: &'static str| {
        service_fn(move |_: Request<()>| async move {
            Ok::<_, Infallible>(
                Response::builder().status(429).header("retry-after", wait).body(()).expect("a response"),
            )
        })
    };
    let layer = PaceLayer::new(Duration::from_secs(30));
    for i in 0..2_000 {
        layer.layer(answered("99999999")).call(call(&format!("h{i}"))).await.expect("a response");
    }
    layer.layer(answered("20")).call(call("good")).await.expect("a response");
    let start = Instant::now();
    layer.layer(answered("20")).call(call("good:443")).await.expect("a response");
    assert_eq!(start.elapsed(), Duration::from_secs(20));
}
