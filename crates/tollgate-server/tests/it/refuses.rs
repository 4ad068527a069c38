//! Requests that two parsers could read in two ways, or that are meant to exhaust: refused, and never forwarded.

use std::time::Duration;

use crate::rig::{Setup, Upstream, in_time};

/// Sends `bytes`, expects an answer with one of these status codes, or a closed connection for 0, and that nothing
/// reached the upstream and the proxy still works.
fn check(bytes: &[u8], expected: &[u16]) {
    let upstream = Upstream::echo();
    let proxy = Setup::to(upstream.address).start();
    let mut wire = proxy.connect();
    wire.write_bytes(bytes);
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    let (answer, _) = wire.rest();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).map_or(0, |code| code.parse().unwrap());
    assert!(expected.contains(&status), "{status} for {shown:?}: {answer}");
    assert_eq!(
        answer.matches("HTTP/1.1 ").count(),
        usize::from(status != 0),
        "one answer at most for {shown:?}: {answer}"
    );
    assert_eq!(upstream.connections(), 0, "forwarded: {shown:?}");
    assert_eq!(proxy.ask("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
}

#[test]
fn lengths_that_are_none_or_differ() {
    check(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", &[400]);
    check(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx", &[400]);
    check(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\nx", &[400]);
    check(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 \x0b\r\n\r\nx", &[400]);
    check(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", &[400]);
    check(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", &[400]);
    check(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 4\r\n\r\nabcd", &[400]);
    check(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n", &[400, 413]);
}

#[test]
fn transfer_codings_that_are_not_just_chunked() {
    check(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", &[400]);
    check(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", &[400]);
    check(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", &[400]);
    check(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", &[501]);
    check(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        &[501],
    );
    check(b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &[400]);
}

#[test]
fn hosts_that_are_none_or_several() {
    check(b"GET / HTTP/1.1\r\n\r\n", &[400]);
    check(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", &[400]);
    check(b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", &[400]);
    check(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", &[400]);
    check(b"GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", &[400]);
    check(b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", &[400]);
    check(b"GET http://user@a/ HTTP/1.1\r\nHost: a\r\n\r\n", &[400]);
    for host in [
        "a..",
        ".",
        ".a",
        "a..b",
        "a,b",
        "a:",
        "a:x",
        "a:+1",
        "a:1:2",
        ":80",
        "a%2eb",
        "a;b",
        "a$",
        "::1",
        "[::1",
        "[]",
        "[a]",
        "[::1]junk",
        "[::1]:",
        "[::1]:x",
        "[::1%25lo]",
        "a[::1]",
    ] {
        check(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes(), &[400]);
        check(format!("GET http://{host}/ HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), &[400]);
    }
}

#[test]
fn hosts_as_they_should_be_pass() {
    let proxy = Setup::alone().start();
    for host in ["", "a", "A-1.b_c.example.", "a:80", "127.0.0.1:8080", "[::1]", "[::ffff:1.2.3.4]:443"] {
        assert_eq!(proxy.ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).status, 200, "{host:?}");
    }
}

#[test]
fn headers_that_are_malformed() {
    check(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", &[400]);
    check(b"GET / HTTP/1.1\r\nHost: a\r\nX\0: ab\r\n\r\n", &[400]);
    check(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\nabc", &[400]);
    check(b"GET / HTTP/1.1\r\nHost: a\r\nX y: z\r\n\r\n", &[400]);
    check(b"GET / HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n", &[400]);
    check(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n", &[400]);
    check(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rContent-Length: 3\r\n\r\nabc", &[400]);
    check(b"GET / HTTP/1.1\r\nHost: a\r\nnothing\r\n\r\n", &[400]);
}

#[test]
fn targets_and_methods_that_are_not_for_a_proxy_like_this() {
    check(b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", &[501]);
    check(b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", &[400]);
    check(b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", &[400]);
    check(b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", &[400]);
    check(b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", &[400]);
    check(b"GET / x HTTP/1.1\r\nHost: a\r\n\r\n", &[400]);
    check(b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", &[400]);
    check(b"GET /\r\n\r\n", &[400]);
    check(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &[400]);
    check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0, 400]);
    check(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\nContent-Length: 1\r\n\r\nx", &[417]);
}

#[test]
fn too_many_or_too_large_headers() {
    let many: String = (0..101).map(|n| format!("X-{n}: {n}\r\n")).collect();
    check(format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n").as_bytes(), &[431]);
    check(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)).as_bytes(), &[431]);
    check(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(1 << 20)).as_bytes(), &[414, 431]);
}

#[test]
fn a_head_that_takes_too_long() {
    let upstream = Upstream::echo();
    let mut setup = Setup::to(upstream.address);
    setup.timeouts.headers = Duration::from_millis(200);
    let proxy = setup.start();
    let mut slow = proxy.connect();
    slow.write("GET / HTTP/1.1\r\nHost: a\r\nX");
    assert!(slow.is_closed());
    let mut silent = proxy.connect();
    assert!(silent.is_closed());
    assert_eq!(upstream.connections(), 0);
    // Between two requests it is the idle time that counts. The first has to come in time.
    assert!(in_time(|_| {
        let mut idle = proxy.connect();
        (0..2).all(|_| {
            idle.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            let answer = idle.try_answer();
            std::thread::sleep(Duration::from_millis(400));
            answer.is_some_and(|answer| answer.status == 200)
        })
    }));
}

#[test]
fn a_length_beside_chunks_is_forwarded_with_one_framing_and_the_connection_closed() {
    let upstream = Upstream::echo();
    let proxy = Setup::to(upstream.address).start();
    for framing in
        ["Content-Length: 3\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 3"]
    {
        let mut wire = proxy.connect();
        wire.write(&format!(
            "POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        ));
        let answer = wire.answer();
        assert_eq!(answer.status, 200);
        assert!(answer.body().to_lowercase().contains("transfer-encoding: chunked"), "{}", answer.body());
        assert!(!answer.body().to_lowercase().contains("content-length"), "{}", answer.body());
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(wire.is_closed(), "the rest is not another request");
    }
}
