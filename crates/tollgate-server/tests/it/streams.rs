//! Bodies of any size pass, in both directions, without being held.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    process::Command,
    thread,
    time::Duration,
};

use crate::rig::{Setup, Upstream, ok};

#[test]
fn large_bodies_pass_in_bounded_memory() {
    // In a process of its own, since the other tests of this one take memory too.
    let this = std::env::current_exe().unwrap();
    let status = Command::new(this)
        .args(["--exact", "streams::large_bodies_alone", "--ignored", "--nocapture"])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
#[ignore = "large_bodies_pass_in_bounded_memory runs it"]
fn large_bodies_alone() {
    let upstream = Upstream::new(|wire, _| {
        while let Some(head) = wire.head() {
            if head.starts_with("OPTIONS") {
                wire.write(&ok(""));
            } else if head.starts_with("GET") {
                wire.write(&format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"));
                for _ in 0..SIZE / PIECE {
                    wire.write_bytes(&[7; PIECE]);
                }
            } else {
                let mut sum = 0;
                for _ in 0..SIZE / PIECE {
                    sum += wire.exactly(PIECE).iter().map(|byte| u64::from(*byte)).sum::<u64>();
                }
                wire.write(&ok(&sum.to_string()));
            }
        }
    });
    let proxy = Setup::to(upstream.address).start();
    assert_eq!(proxy.ask("OPTIONS /warm-up HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").status, 200);
    let before = resident_bytes();

    let mut wire = proxy.connect();
    wire.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(wire.head().unwrap().starts_with("HTTP/1.1 200 "));
    for _ in 0..SIZE / PIECE {
        assert!(wire.exactly(PIECE).iter().all(|byte| *byte == 7));
    }

    wire.write(&format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n"));
    for _ in 0..SIZE / PIECE {
        wire.write_bytes(&[7; PIECE]);
    }
    assert_eq!(wire.answer().body(), (SIZE * 7).to_string());

    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 20 << 20, "grew by {grown} bytes");
}

#[test]
fn a_body_is_passed_on_before_its_end() {
    let upstream = Upstream::new(|wire, _| {
        assert!(wire.head().is_some());
        // The answer begins before the request has ended, and each piece comes back when it has come.
        wire.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..3 {
            let chunk = wire.exactly(8);
            wire.write_bytes(&chunk);
        }
        assert_eq!(wire.exactly(5), b"0\r\n\r\n");
        wire.write("0\r\n\r\n");
    });
    let proxy = Setup::to(upstream.address).start();
    let mut wire = proxy.connect();
    wire.write("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert!(wire.head().unwrap().starts_with("HTTP/1.1 200 "));
    for piece in ["3\r\nabc\r\n", "3\r\ndef\r\n", "3\r\nghi\r\n"] {
        wire.write(piece);
        assert_eq!(wire.exactly(8), piece.as_bytes());
    }
    wire.write("0\r\n\r\n");
    assert_eq!(wire.exactly(5), b"0\r\n\r\n");
}

#[test]
fn an_upstream_that_answers_early_and_closes_is_heard() {
    let upstream = Upstream::new(|wire, _| {
        wire.head();
        wire.write("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig");
        wire.end_writing();
        let mut rest = Vec::new();
        let _ = wire.stream().read_to_end(&mut rest);
    });
    let proxy = Setup::to(upstream.address).start();
    let mut wire = proxy.connect();
    wire.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4194304\r\n\r\n");
    let mut sending = wire.stream().try_clone().unwrap();
    let sender = thread::spawn(move || {
        let _ = sending.write_all(&vec![b'x'; 4 << 20]);
    });
    let answer = wire.answer();
    assert_eq!((answer.status, answer.body()), (413, "big"));
    drop(wire);
    sender.join().unwrap();
}

/// Timers that ring too late to be taken for whoever should notice that a client has left.
fn with_late_timers(upstream: SocketAddr) -> Setup {
    let mut setup = Setup::to(upstream);
    setup.timeouts.first_byte = 2 * crate::rig::PATIENCE;
    setup.timeouts.idle = 2 * crate::rig::PATIENCE;
    setup
}

#[test]
fn a_client_that_leaves_ends_the_upstreams_work() {
    let (told, is_told) = std::sync::mpsc::channel();
    let upstream = Upstream::new(move |wire, _| {
        told.send(wire.request().is_some()).unwrap();
        // Nothing more comes, and then the end.
        told.send(matches!(wire.try_line(), Ok(None))).unwrap();
    });
    let proxy = with_late_timers(upstream.address).start();
    for pieces in [
        &["GET / HTTP/1.1\r\nHost: a\r\n\r\n"][..],
        &["POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"],
        &["POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n", "ab", "c"],
        &["POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n", "0\r\n\r\n"],
    ] {
        let wire = proxy.connect();
        for piece in pieces {
            wire.write(piece);
            // So that each comes by itself.
            thread::sleep(Duration::from_millis(20));
        }
        assert!(is_told.recv_timeout(2 * crate::rig::PATIENCE).unwrap());
        drop(wire);
        assert!(is_told.recv_timeout(2 * crate::rig::PATIENCE).unwrap());
    }
}

#[test]
fn a_client_that_leaves_in_the_midst_of_an_answer_ends_the_upstreams_work() {
    let (told, is_told) = std::sync::mpsc::channel();
    let upstream = Upstream::new(move |wire, _| {
        wire.head();
        wire.write("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
        told.send(matches!(wire.try_line(), Ok(None))).unwrap();
    });
    let proxy = with_late_timers(upstream.address).start();
    let mut wire = proxy.connect();
    wire.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    wire.head();
    assert_eq!(wire.exactly(4), b"half");
    drop(wire);
    assert!(is_told.recv_timeout(2 * crate::rig::PATIENCE).unwrap());
}

/// What comes during a request hides the end behind it, but only until it is read.
#[test]
fn a_client_that_leaves_after_a_request_that_came_early_ends_the_upstreams_work() {
    let (told, is_told) = std::sync::mpsc::channel();
    let upstream = Upstream::new(move |wire, _| {
        told.send(wire.head().is_some()).unwrap();
        // By then the next one has come.
        thread::sleep(Duration::from_millis(200));
        wire.write(&ok("first"));
        told.send(wire.head().is_some()).unwrap();
        told.send(matches!(wire.try_line(), Ok(None))).unwrap();
    });
    let proxy = with_late_timers(upstream.address).start();
    let mut wire = proxy.connect();
    let was_told = || is_told.recv_timeout(2 * crate::rig::PATIENCE).unwrap();
    wire.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(was_told());
    wire.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(wire.answer().body(), "first");
    assert!(was_told());
    drop(wire);
    assert!(was_told());
}

/// Whoever sends first and reads then would wait for ever, were the one held up by the other.
#[test]
fn an_upload_goes_on_while_the_answer_to_it_is_not_read() {
    const SIZE: usize = 16 << 20;
    let upstream = Upstream::new(|wire, _| {
        let head = wire.head().unwrap_or_default();
        assert!(head.starts_with("POST"));
        wire.write(&format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"));
        let mut answering = wire.stream().try_clone().unwrap();
        let answering = thread::spawn(move || answering.write_all(&vec![7; SIZE]));
        wire.exactly(SIZE);
        answering.join().unwrap().unwrap();
    });
    let proxy = Setup::to(upstream.address).start();
    let mut wire = proxy.connect();
    wire.write(&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n"));
    wire.stream().write_all(&vec![7; SIZE]).unwrap();
    assert_eq!(wire.answer().status, 200);
}

#[test]
fn a_client_that_does_not_read_is_let_go() {
    let (broke, has_broken) = std::sync::mpsc::channel();
    let upstream = Upstream::new(move |wire, _| {
        wire.head();
        wire.write(&format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"));
        while wire.stream().write_all(&[7; PIECE]).is_ok() {}
        broke.send(()).unwrap();
    });
    let mut setup = Setup::to(upstream.address);
    setup.timeouts.idle = Duration::from_millis(300);
    let proxy = setup.start();
    let wire = proxy.connect();
    wire.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    // Sooner than the upstream itself gives up.
    has_broken.recv_timeout(crate::rig::PATIENCE / 2).unwrap();
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

const SIZE: usize = 256 << 20;
const PIECE: usize = 64 << 10;
