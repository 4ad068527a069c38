//! What a denied client sees, whatever it was sending.

use std::io::Write;

use crate::rig::{Proxy, Setup, Upstream, rule};

/// A proxy that denies `/denied/**`, before an upstream that must not hear of it.
fn check(test: impl FnOnce(&Proxy)) {
    let upstream = Upstream::echo();
    let proxy = Setup::to(upstream.address).denying().start();
    test(&proxy);
    assert_eq!(upstream.connections(), 0, "a denied request never reaches the upstream");
}

#[test]
fn five_pass_and_the_sixth_is_told_when_to_come_back() {
    let mut setup = Setup::alone();
    setup.rules.push(rule("default", "/**", "5/minute"));
    let proxy = setup.start();
    let mut wire = proxy.connect();
    for remaining in (0..5).rev() {
        wire.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = wire.answer();
        assert_eq!((answer.status, answer.body()), (200, "allowed\n"));
        assert_eq!(answer.header("x-ratelimit-remaining"), Some(remaining.to_string().as_str()));
        assert_eq!(answer.header("ratelimit-policy"), Some("\"default\";q=5;w=60"));
    }
    wire.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = wire.answer();
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() <= 60);
    assert!(answer.header("ratelimit").unwrap().starts_with("\"default\";r=0;t="));
    for name in ["retry-after", "ratelimit", "x-ratelimit-limit", "content-type", "cache-control", "content-length"] {
        assert_eq!(answer.headers(name).len(), 1, "{name}");
    }
}

#[test]
fn a_client_that_has_said_its_last_is_told_so_too() {
    check(|proxy| {
        let mut wire = proxy.connect();
        wire.write("GET /denied/x HTTP/1.1\r\nHost: a\r\n\r\n");
        wire.end_writing();
        assert_eq!(wire.answer().status, 429);
        assert!(wire.is_closed());
    });
}

#[test]
fn expect_100_continue_gets_no_100() {
    check(|proxy| {
        let mut wire = proxy.connect();
        wire.write("POST /denied/x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n");
        let answer = wire.answer();
        assert_eq!((answer.status, answer.header("connection")), (429, Some("close")));
        assert!(wire.is_closed(), "the body that may or may not come is no request");
    });
}

#[test]
fn an_allowed_expect_100_continue_gets_its_100_and_the_upstream_no_expectation() {
    let upstream = Upstream::echo();
    let proxy = Setup::to(upstream.address).start();
    let mut wire = proxy.connect();
    wire.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(wire.head().unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    wire.write("hello");
    let answer = wire.answer();
    assert_eq!(answer.status, 200);
    assert!(!answer.body().to_lowercase().contains("expect"), "{}", answer.body());
    assert!(answer.body().ends_with("hello"));
}

#[test]
fn head_gets_no_body() {
    check(|proxy| {
        let mut wire = proxy.connect();
        for _ in 0..2 {
            wire.write("HEAD /denied/x HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(wire.answer_to("HEAD").status, 429);
        }
    });
}

#[test]
fn after_a_short_body_the_connection_lives_on() {
    check(|proxy| {
        let mut wire = proxy.connect();
        for framing in [
            format!("Content-Length: 100000\r\n\r\n{}", "x".repeat(100_000)),
            format!("Transfer-Encoding: chunked\r\n\r\n186a0\r\n{}\r\n0\r\n\r\n", "x".repeat(100_000)),
        ] {
            wire.write(&format!("POST /denied/x HTTP/1.1\r\nHost: a\r\n{framing}"));
            let answer = wire.answer();
            assert_eq!((answer.status, answer.header("connection")), (429, None));
        }
    });
}

#[test]
fn a_large_upload_is_heard_to_its_end_and_sees_the_answer() {
    check(|proxy| {
        for framing in ["Content-Length: 1048576\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n100000\r\n"] {
            let mut wire = proxy.connect();
            wire.write(&format!("POST /denied/x HTTP/1.1\r\nHost: a\r\n{framing}"));
            // The answer is there long before the body, and still no piece of it meets a reset.
            assert_eq!(wire.answer().status, 429, "{framing}");
            for _ in 0..16 {
                wire.stream().write_all(&[b'x'; 1 << 16]).unwrap();
            }
            wire.end_writing();
            let (rest, result) = wire.rest();
            assert!(rest.is_empty());
            result.expect("a clean end, not a reset");
        }
    });
}

#[test]
fn a_large_upload_that_is_no_request_sees_the_answer_too() {
    check(|proxy| {
        let mut wire = proxy.connect();
        wire.write("POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 1048576\r\n\r\n");
        assert_eq!(wire.answer().status, 400);
        for _ in 0..16 {
            wire.stream().write_all(&[b'x'; 1 << 16]).unwrap();
        }
        wire.end_writing();
        wire.rest().1.expect("a clean end, not a reset");
    });
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    check(|proxy| {
        let mut wire = proxy.connect();
        wire.write("POST /denied/x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
        assert_eq!(wire.answer().status, 429);
        assert!(wire.is_closed());
    });
}

#[test]
fn a_rule_can_close_the_connection() {
    let mut setup = Setup::alone().denying();
    setup.rules[0].on_limit.close = Some(true);
    let proxy = setup.start();
    let mut wire = proxy.connect();
    wire.write("GET /denied/x HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = wire.answer();
    assert_eq!((answer.status, answer.header("connection")), (429, Some("close")));
    assert!(wire.is_closed());
}

#[test]
fn grpc_is_answered_in_its_own_way() {
    check(|proxy| {
        let answer = proxy
            .ask("POST /denied/x HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n");
        assert_eq!((answer.status, answer.header("grpc-status")), (200, Some("8")));
    });
}

#[test]
fn no_spoofed_address_buys_another_budget() {
    let mut setup = Setup::alone();
    setup.rules.push(rule("one", "/**", "1/hour"));
    let proxy = setup.start();
    let asked = |from: &str| {
        proxy.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {from}\r\nX-Real-IP: {from}\r\n\r\n")).status
    };
    assert_eq!([asked("1.1.1.1"), asked("2.2.2.2")], [200, 429]);

    let mut setup = Setup::alone().trusting();
    setup.rules.push(rule("one", "/**", "1/hour"));
    let proxy = setup.start();
    let asked = |from: &str| proxy.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {from}\r\n\r\n")).status;
    assert_eq!([asked("1.1.1.1"), asked("2.2.2.2"), asked("9.9.9.9, 1.1.1.1")], [200, 200, 429]);
}

#[test]
fn only_answers_that_count_stay_on_the_bill() {
    let upstream = Upstream::new(|wire, _| {
        while let Some(request) = wire.request() {
            let is_wrong = request.head.starts_with("GET /wrong");
            wire.write(if is_wrong {
                "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
            } else {
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
            });
        }
    });
    let mut setup = Setup::to(upstream.address);
    let mut login = rule("login", "/**", "1/hour");
    login.count = tollgate::policy::Count::Status(vec![401]);
    setup.rules.push(login);
    let proxy = setup.start();
    let asked = |path: &str| proxy.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).status;
    assert_eq!([asked("/right"), asked("/right"), asked("/wrong"), asked("/right")], [200, 200, 401, 429]);
}

#[test]
fn an_upload_without_upstream_is_read_to_its_end() {
    let proxy = Setup::alone().start();
    let mut wire = proxy.connect();
    for _ in 0..2 {
        wire.write(&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n{}", "x".repeat(1_000_000)));
        assert_eq!(wire.answer().body(), "allowed\n");
    }
}
