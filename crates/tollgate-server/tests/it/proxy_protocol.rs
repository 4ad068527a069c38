//! The PROXY header: believed from trusted proxies alone, and passed on to upstreams that want it.

use std::{thread, time::Duration};

use tollgate::{client::TrustedProxy, config::ProxyVersion};

use crate::rig::{Proxy, Setup, Upstream, Wire};

/// A server that says back what it hears, to the end.
fn echoing() -> Upstream {
    Upstream::new(|wire, _| {
        let (heard, _) = wire.rest();
        wire.write_bytes(&heard);
    })
}

/// What the upstream heard of a connection on which this was said.
fn heard(proxy: &Proxy, said: &[u8]) -> Vec<u8> {
    heard_on(proxy.connect(), said)
}

fn heard_on(mut wire: Wire, said: &[u8]) -> Vec<u8> {
    wire.write_bytes(said);
    wire.end_writing();
    wire.rest().0
}

/// A header of version 2 with this command, family and payload.
fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, payload].concat()
}

fn v2_from(source: [u8; 4]) -> Vec<u8> {
    v2(0x21, 0x11, &[&source[..], &[198, 51, 100, 2, 0x9C, 0x40, 0, 25]].concat())
}

fn v2_from_mapped(source: [u8; 4]) -> Vec<u8> {
    let mapped = [&[0; 10], &[0xFF, 0xFF][..], &source].concat();
    v2(0x21, 0x21, &[&mapped[..], &mapped, &[0x9C, 0x40, 0, 25]].concat())
}

#[test]
fn the_header_names_the_client_and_is_not_passed_on() {
    let setup = Setup::tcp(echoing().address).proxied();
    let proxy = setup.with("{ name: r, match: { client: 203.0.113.0/24 }, limit: 2/hour }").start();
    assert_eq!(heard(&proxy, b"PROXY TCP4 203.0.113.7 198.51.100.2 40000 25\r\nEHLO\r\n"), b"EHLO\r\n");
    // However it says so, it is the same client.
    assert_eq!(heard(&proxy, &[&v2_from([203, 0, 113, 7])[..], b"EHLO"].concat()), b"EHLO");
    assert_eq!(heard(&proxy, &[&v2_from_mapped([203, 0, 113, 7])[..], b"EHLO"].concat()), b"");
    assert_eq!(heard(&proxy, b"PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\nEHLO"), b"");
    assert_eq!(heard(&proxy, b"PROXY TCP4 203.0.113.8 198.51.100.2 40000 25\r\nEHLO"), b"EHLO");
}

#[test]
fn a_header_that_comes_byte_by_byte_is_read_all_the_same() {
    let proxy = Setup::tcp(echoing().address).proxied().start();
    for header in [b"PROXY TCP4 203.0.113.7 198.51.100.2 40000 25\r\n".to_vec(), v2_from([203, 0, 113, 7])] {
        let mut wire = proxy.connect();
        for byte in [&header[..], b"EHLO"].concat() {
            wire.write_bytes(&[byte]);
            thread::sleep(Duration::from_millis(1));
        }
        wire.end_writing();
        assert_eq!(wire.rest().0, b"EHLO");
    }
}

#[test]
fn a_proxy_that_names_nobody_is_the_client_itself() {
    let setup = Setup::tcp(echoing().address).proxied();
    let proxy = setup.with("{ name: r, match: { client: 127.0.0.1 }, limit: 4/hour }").start();
    let local = v2(0x20, 0x00, b"");
    let unix = v2(0x21, 0x31, &[b'/'; 216]);
    for header in [&local[..], &unix, b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN some words\r\n"] {
        assert_eq!(heard(&proxy, &[header, b"EHLO"].concat()), b"EHLO");
    }
    assert_eq!(heard(&proxy, &[&local[..], b"EHLO"].concat()), b"");
}

#[test]
fn whoever_is_not_trusted_cannot_name_a_client() {
    let upstream = echoing();
    let from = ["127.0.0.1".parse().unwrap()].into_iter().collect();
    let trusted = TrustedProxy { from, header: "x-forwarded-for".to_owned(), vouches: Vec::new() };
    let setup = Setup { trusted_proxies: vec![trusted], proxy_protocol: true, ..Setup::tcp(upstream.address) };
    let proxy = setup.start();
    for said in [b"PROXY TCP4 203.0.113.7 198.51.100.2 40000 25\r\nEHLO".to_vec(), b"EHLO".to_vec(), Vec::new()] {
        let mut wire = proxy.connect_from("127.0.0.2");
        wire.write_bytes(&said);
        assert!(wire.is_closed());
    }
    assert_eq!(upstream.connections(), 0);
    assert_eq!(heard(&proxy, b"PROXY TCP4 203.0.113.7 198.51.100.2 40000 25\r\nEHLO"), b"EHLO");
}

#[test]
fn without_a_whole_header_the_connection_ends_and_nothing_else_notices() {
    let upstream = echoing();
    let proxy = Setup::tcp(upstream.address).proxied().start();
    let whole = [b"PROXY TCP4 203.0.113.7 198.51.100.2 40000 25\r\n".to_vec(), v2_from([203, 0, 113, 7])];
    let truncated = whole.iter().flat_map(|header| (0..header.len()).map(|end| header[..end].to_vec()));
    let mut malformed = vec![
        b"EHLO example.org\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.7 198.51.100.2 40000\r\nEHLO".to_vec(),
        format!("PROXY UNKNOWN {}\r\nEHLO", "x".repeat(100)).into_bytes(),
        v2(0x21, 0x11, b"short"),
        v2(0x21, 0x11, &[0; 5_000]),
        vec![0; 100_000],
    ];
    malformed.extend(truncated);
    for said in malformed {
        let mut wire = proxy.connect();
        wire.write_bytes(&said);
        wire.end_writing();
        assert!(wire.is_closed(), "{}", String::from_utf8_lossy(&said));
    }
    assert_eq!(upstream.connections(), 0);
    assert_eq!(heard(&proxy, &[&whole[0][..], b"EHLO"].concat()), b"EHLO");
}

#[test]
fn a_header_that_does_not_come_in_time_ends_the_connection() {
    let upstream = echoing();
    let mut setup = Setup::tcp(upstream.address).proxied();
    setup.timeouts.headers = Duration::from_millis(300);
    let proxy = setup.start();
    let (mut silent, mut trickling) = (proxy.connect(), proxy.connect());
    for byte in b"PROXY TCP4 203.0" {
        trickling.write_bytes(&[*byte]);
        thread::sleep(Duration::from_millis(50));
    }
    assert!(trickling.is_closed() && silent.is_closed());
    assert_eq!(upstream.connections(), 0);
}

/// Half-open connections shut everybody out for the time that a header has.
#[test]
fn unfinished_headers_hold_no_place_that_another_needs() {
    let mut setup = Setup::tcp(echoing().address).proxied();
    setup.limits.connections = 3;
    let proxy = setup.start();
    let unfinished = |_| {
        let wire = proxy.connect_with("PROXY ");
        wire.until_read();
        wire
    };
    let mut unfinished: Vec<_> = (0..3).map(unfinished).collect();
    for _ in 0..3 {
        assert_eq!(heard(&proxy, b"PROXY UNKNOWN\r\nEHLO"), b"EHLO");
    }
    assert!(unfinished[0].is_closed());
}

#[test]
fn an_end_of_the_server_does_not_wait_for_headers() {
    let proxy = Setup::tcp(echoing().address).proxied().start();
    let mut wire = proxy.connect();
    wire.write("PROXY ");
    wire.until_read();
    proxy.stopper.finish();
    assert!(wire.is_closed());
    proxy.join();
}

#[test]
fn before_http_it_names_the_peer() {
    let upstream = Upstream::echo();
    let setup = Setup::to(upstream.address).proxied();
    let proxy = setup.with("{ name: r, match: { client: 203.0.113.7 }, limit: 1/hour }").start();
    let ask = |source: &str, headers: &str| {
        proxy.ask(&format!("PROXY TCP4 {source} 198.51.100.2 40000 80\r\nGET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n"))
    };
    let ask_later = |source: &str| {
        let mut wire = proxy.connect_with(&format!("PROXY TCP4 {source} 198.51.100.2 40000 80\r\n"));
        wire.until_read();
        wire.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        wire.answer()
    };
    let answer = ask("203.0.113.7", "X-Forwarded-For: 6.6.6.6\r\n");
    assert_eq!(answer.status, 200);
    assert!(answer.body().contains("x-forwarded-for: 203.0.113.7\r\n"), "{}", answer.body());
    assert_eq!(ask("203.0.113.7", "").status, 429);
    assert_eq!(ask("203.0.113.8", "").status, 200);
    assert_eq!([ask_later("203.0.113.7").status, ask_later("203.0.113.8").status], [429, 200]);
    // One that is itself a trusted proxy may speak for others in its header.
    assert_eq!(ask("127.0.0.9", "X-Forwarded-For: 203.0.113.7\r\n").status, 429);
    assert!(proxy.connect_with("GET / HTTP/1.1\r\nHost: a\r\n\r\n").is_closed());
}

#[test]
fn an_upstream_is_told_who_is_connected_to_what() {
    let sending = |version, setup: Setup| Setup { send_proxy_protocol: Some(version), ..setup }.start();
    let upstream = echoing();
    for (version, expected) in [
        (ProxyVersion::V1, b"PROXY TCP4 203.0.113.7 198.51.100.2 40000 25\r\nEHLO".to_vec()),
        (ProxyVersion::V2, [&v2_from([203, 0, 113, 7])[..], b"EHLO"].concat()),
    ] {
        let proxy = sending(version, Setup::tcp(upstream.address).proxied());
        assert_eq!(heard(&proxy, b"PROXY TCP4 203.0.113.7 198.51.100.2 40000 25\r\nEHLO"), expected);
        assert_eq!(heard(&proxy, &[&v2_from([203, 0, 113, 7])[..], b"EHLO"].concat()), expected);
    }
    let proxy = sending(ProxyVersion::V1, Setup::tcp(upstream.address));
    let wire = proxy.connect_from("127.0.0.5");
    let from = wire.stream().local_addr().unwrap().port();
    let expected = format!("PROXY TCP4 127.0.0.5 127.0.0.1 {from} {}\r\nEHLO", proxy.address.port());
    assert_eq!(String::from_utf8_lossy(&heard_on(wire, b"EHLO")), expected);
}
