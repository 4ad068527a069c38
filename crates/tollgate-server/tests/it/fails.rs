//! Upstreams that refuse, hang, break off or talk nonsense: the client is told, and the next request works.

use std::{net::TcpListener, thread, time::Duration};

use testbed::{Port, wait_for};

use crate::rig::{Answer, PATIENCE, Setup, Upstream, Wire, in_time, ok};

fn check_problem(answer: &Answer, status: u16, detail: &str) {
    assert_eq!(answer.status, status);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(answer.body().contains(&format!("\"status\":{status},\"detail\":\"{detail}\"")), "{}", answer.body());
    assert!(!answer.body().contains("127.0.0.1"), "no addresses: {}", answer.body());
}

/// An upstream whose first connection does this, and whose others work.
fn check(first: &'static str, status: u16, detail: &str) {
    let upstream = Upstream::new(move |wire, n| {
        while wire.request().is_some() {
            if n == 0 {
                return wire.write(first);
            }
            wire.write(&ok("fine"));
        }
    });
    let proxy = Setup::to(upstream.address).start();
    let mut wire = proxy.connect();
    wire.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    check_problem(&wire.answer(), status, detail);
    wire.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(wire.answer().body(), "fine");
}

#[test]
fn an_upstream_that_closes_without_an_answer() {
    check("", 502, "the upstream closed the connection before it answered");
    check("HTTP/1.1 200 OK\r\nConte", 502, "the upstream closed the connection before it answered");
}

#[test]
fn an_upstream_that_talks_nonsense() {
    let nonsense = "the upstream's answer is not valid HTTP";
    check("220 smtp.example ESMTP\r\n", 502, nonsense);
    check("HTTP/1.1 200 OK\r\nX\0: y\r\n\r\n", 502, nonsense);
    check("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", 502, nonsense);
    check("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy", 502, nonsense);
    check("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 502, nonsense);
}

#[test]
fn an_upstream_that_switches_protocols_unasked() {
    check(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        502,
        "the upstream switched to a protocol nobody asked for",
    );
}

#[test]
fn an_upstream_that_refuses() {
    let nobodys = Port::take();
    let proxy = Setup::to(nobodys.addr()).start();
    let mut wire = proxy.connect();
    for _ in 0..2 {
        wire.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        check_problem(&wire.answer(), 502, "the upstream refused the connection");
    }
}

#[test]
fn an_upstream_that_does_not_accept() {
    // A queue of one place that somebody else has: the kernel drops every further attempt.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
        queued.push(stream);
    }
    let mut setup = Setup::to(address);
    setup.timeouts.connect = Duration::from_millis(200);
    let proxy = setup.start();
    check_problem(
        &proxy.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        504,
        "the upstream did not accept the connection in time",
    );
}

#[test]
fn an_upstream_that_hangs() {
    let upstream = Upstream::new(|wire, n| {
        while wire.request().is_some() {
            if n > 0 {
                wire.write(&ok("fine"));
            }
        }
    });
    let mut setup = Setup::to(upstream.address);
    setup.timeouts.first_byte = Duration::from_millis(200);
    let proxy = setup.start();
    let mut wire = proxy.connect();
    wire.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    check_problem(&wire.answer(), 504, "the upstream did not answer in time");
    // On a busy machine an upstream that works can be late as well.
    wait_for("an answer in time", PATIENCE, || {
        wire.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = wire.answer();
        if answer.status == 504 {
            return None;
        }
        assert_eq!(answer.body(), "fine");
        Some(())
    });
}

#[test]
fn the_first_byte_is_waited_for_from_the_end_of_the_upload() {
    let upstream = Upstream::echo();
    // The upload takes more than twice as long as the answer may, and the answer next to nothing.
    assert!(in_time(|times| {
        let mut setup = Setup::to(upstream.address);
        setup.timeouts.first_byte = times * Duration::from_millis(300);
        let proxy = setup.start();
        let mut wire = proxy.connect();
        wire.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
        for byte in ["h", "e", "l", "l", "o"] {
            thread::sleep(times * Duration::from_millis(150));
            wire.write(byte);
        }
        wire.answer().body().ends_with("hello")
    }));
}

#[test]
fn a_client_that_stops_sending_is_told_so() {
    let upstream = Upstream::echo();
    let mut setup = Setup::to(upstream.address);
    setup.timeouts.idle = Duration::from_millis(200);
    let proxy = setup.start();
    let mut wire = proxy.connect();
    wire.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe");
    let answer = wire.answer();
    check_problem(&answer, 408, "the rest of the request did not arrive in time");
    assert!(wire.is_closed());
}

#[test]
fn a_malformed_rest_of_a_request_is_the_clients_fault() {
    let upstream = Upstream::echo();
    let proxy = Setup::to(upstream.address).start();
    let mut wire = proxy.connect();
    wire.write("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nnot a size\r\n");
    let (answer, _) = wire.rest();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[test]
fn an_answer_that_breaks_off_is_seen_to_be_broken() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let upstream = Upstream::saying(answer);
        let mut setup = Setup::to(upstream.address);
        // Too late to be taken for the end of the answer.
        setup.timeouts.idle = 2 * PATIENCE;
        let proxy = setup.start();
        let mut wire = proxy.connect();
        wire.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let (seen, result) = wire.rest();
        assert!(result.is_ok(), "{answer}: {result:?}");
        let seen = String::from_utf8_lossy(&seen).into_owned();
        assert!(seen.contains("half") && !seen.ends_with("0\r\n\r\n"), "{seen}");
        // HTTP/1.0 has no other way to tell.
        let mut wire = proxy.connect();
        wire.write("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
        let (seen, result) = wire.rest();
        let has_length = String::from_utf8_lossy(&seen).to_lowercase().contains("content-length: 100");
        assert!(result.is_err() || has_length, "{answer}");
    }
}

#[test]
fn an_answer_that_stalls_is_broken_off() {
    let upstream = Upstream::new(|wire, _| {
        wire.request();
        wire.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        wire.request();
    });
    let mut setup = Setup::to(upstream.address);
    setup.timeouts.idle = Duration::from_millis(200);
    let proxy = setup.start();
    let mut wire = proxy.connect();
    wire.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(wire.rest().0.ends_with(b"half"));
}

#[test]
fn a_stale_connection_is_retried_once_on_a_fresh_one() {
    // Every connection answers one request, then closes when it gets another: the race that keep-alive always has.
    let upstream = Upstream::new(|wire, _| {
        if let Some(request) = wire.request() {
            wire.write(&ok(&request.head));
        }
        wire.request();
    });
    let proxy = Setup::to(upstream.address).start();
    let mut wire = proxy.connect();
    let mut ask = || {
        wire.write("GET /1?a=b HTTP/1.1\r\nHost: a:80\r\nAccept: x\r\nX-A: 1:2, é\r\nX-A: 3\r\nX-B:\r\n\r\n");
        wire.answer().body().to_owned()
    };
    let first = ask();
    assert!(first.contains("x-a: 1:2, é\r\nx-a: 3\r\n") && first.contains("x-b: \r\n"), "{first}");
    for _ in 0..2 {
        assert_eq!(ask(), first, "nothing is lost on the way");
    }
    // Whether a POST has had its effect nobody knows, so it is not sent twice.
    for status in [200, 502] {
        wire.write("POST /4 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
        let answer = wire.answer();
        assert_eq!(answer.status, status);
        if status == 502 {
            check_problem(&answer, 502, "the upstream closed the connection before it answered");
        }
    }
}

/// The time for the first byte, which is shorter here, ends with the stale connection.
#[test]
fn an_upstream_that_goes_stale_and_does_not_accept_any_more() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut wire = Wire::new(listener.accept().unwrap().0);
        wire.request();
        let mut queued = Vec::new();
        while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            queued.push(stream);
        }
        wire.write(&ok("fine"));
        wire.request();
        drop(wire);
        thread::sleep(PATIENCE);
        drop((listener, queued));
    });
    let mut setup = Setup::to(address);
    setup.timeouts.first_byte = Duration::from_secs(4);
    setup.timeouts.connect = Duration::from_secs(5);
    let proxy = setup.start();
    let mut wire = proxy.connect();
    wire.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(wire.answer().body(), "fine");
    wire.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    check_problem(&wire.answer(), 504, "the upstream did not accept the connection in time");
}

#[test]
fn a_connection_that_the_upstream_has_closed_is_not_used_even_for_a_post() {
    let (closed, has_closed) = std::sync::mpsc::channel();
    let upstream = Upstream::new(move |wire, _| {
        if let Some(request) = wire.request() {
            wire.write(&ok(&String::from_utf8_lossy(&request.body)));
        }
        wire.end_writing();
        closed.send(()).unwrap();
        // Held until the proxy has closed its side, which it does when it has seen this one closed.
        let _ = wire.rest();
        closed.send(()).unwrap();
    });
    let proxy = Setup::to(upstream.address).start();
    let mut wire = proxy.connect();
    for body in ["a", "b", "c"] {
        wire.write(&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n{body}"));
        assert_eq!(wire.answer().body(), body);
        for _ in 0..2 {
            has_closed.recv_timeout(PATIENCE).unwrap();
        }
    }
}

#[test]
fn failures_are_given_back_to_rules_that_count_answers() {
    let upstream = Upstream::saying("");
    let mut setup = Setup::to(upstream.address);
    let mut login = crate::rig::rule("login", "/**", "1/hour");
    login.count = tollgate::policy::Count::Status(vec![502]);
    setup.rules.push(login);
    let proxy = setup.start();
    for _ in 0..3 {
        assert_eq!(proxy.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status, 502, "our own answer, so it does not count");
    }
}

/// Whoever breaks off in the middle of his request has had no answer, and stays charged: else nobody who does so is
/// ever limited.
#[test]
fn a_client_that_breaks_off_stays_charged() {
    let upstream = Upstream::echo();
    let mut setup = Setup::to(upstream.address);
    let mut login = crate::rig::rule("login", "/login", "1/hour");
    login.count = tollgate::policy::Count::Status(vec![401]);
    setup.rules.push(login);
    let proxy = setup.start();
    let mut wire = proxy.connect();
    wire.write("POST /login HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\nnonsense\r\n");
    assert_eq!(wire.answer().status, 400);
    assert_eq!(proxy.ask("POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").status, 429);
}
