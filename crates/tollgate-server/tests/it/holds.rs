//! How many connections the server holds, and how it lets go of them.

use std::{net::TcpStream, sync::mpsc, thread, time::Duration};

use crate::rig::{PATIENCE, Setup, Upstream, Wire, in_time, ok};

#[test]
fn at_the_bound_the_oldest_idle_connection_makes_room() {
    let upstream = Upstream::echo();
    let mut setup = Setup::to(upstream.address);
    setup.limits.connections = 3;
    let proxy = setup.start();
    let mut wires: Vec<_> = (0..3).map(|_| proxy.connect()).collect();
    for wire in &mut wires {
        wire.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(wire.answer().status, 200);
    }
    let (_newcomer, answer) = proxy.ask_for_a_place("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(answer.status, 200);
    assert!(wires[0].is_closed());
    wires[2].write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(wires[2].answer().status, 200);
}

/// As many connections as there were places, each with one byte of a head, shut everybody out for `timeouts.headers`.
#[test]
fn unfinished_heads_hold_no_place_that_another_needs() {
    let mut setup = Setup::alone();
    setup.timeouts.headers = 3 * PATIENCE;
    setup.limits.connections = 3;
    let proxy = setup.start();
    let mut unfinished: Vec<_> = (0..3).map(|_| proxy.connect()).collect();
    for wire in &unfinished {
        wire.write("G");
        wire.until_read();
    }
    let mut others: Vec<_> = (0..3).map(|_| proxy.connect()).collect();
    for wire in &mut others {
        wire.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(wire.answer().status, 200);
    }
    for wire in &mut unfinished {
        assert!(wire.is_closed());
    }
}

/// Uploads that trickle, and answers that nobody reads, held their places for as long as they moved a byte a minute.
#[test]
fn whoever_keeps_us_waiting_holds_no_place_that_another_needs() {
    let upstream = Upstream::new(|wire, _| {
        while let Some(request) = wire.request() {
            match request.head.starts_with("GET /big") {
                true => wire.write(&ok(&"x".repeat(16 << 20))),
                false => wire.write(&ok("small")),
            }
        }
    });
    let mut setup = Setup::to(upstream.address);
    setup.limits.connections = 4;
    let proxy = setup.start();
    let mut waiting: Vec<_> = (0..4).map(|_| proxy.connect()).collect();
    for wire in &waiting[..2] {
        wire.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nab");
        wire.until_read();
    }
    for wire in &waiting[2..] {
        wire.write("GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
        wire.until_read();
    }
    // There is a place for each when the answers have filled the sockets.
    let others = [(); 4].map(|()| {
        let (wire, answer) = proxy.ask_for_a_place("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(answer.status, 200);
        wire
    });
    waiting.clear();
    drop(others);
}

#[test]
fn a_graceful_end_lets_a_head_that_has_begun_be_finished() {
    let proxy = Setup::alone().start();
    let mut wire = proxy.connect();
    wire.write("GET / HTTP/1.1\r\n");
    wire.until_read();
    proxy.stopper.finish();
    thread::sleep(Duration::from_millis(50)); // until it is most likely asked to leave
    wire.write("Host: a\r\n\r\n");
    let answer = wire.answer();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(wire.is_closed());
}

#[test]
fn at_the_bound_without_an_idle_one_the_new_connection_is_closed() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let upstream = Upstream::new(move |wire, _| {
        wire.request();
        gone.lock().unwrap().recv().unwrap();
        wire.write(&ok("late"));
    });
    let mut setup = Setup::to(upstream.address);
    setup.limits.connections = 2;
    let proxy = setup.start();
    let mut busy: Vec<_> = (0..2).map(|_| proxy.connect()).collect();
    for (n, wire) in busy.iter().enumerate() {
        wire.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        while upstream.connections() <= n {
            thread::yield_now();
        }
    }
    assert!(proxy.connect().is_closed());
    for wire in &mut busy {
        go.send(()).unwrap();
        let _ = wire;
    }
    for wire in &mut busy {
        assert_eq!(wire.answer().body(), "late");
    }
}

#[test]
fn a_graceful_end_finishes_what_is_in_flight() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let upstream = Upstream::new(move |wire, _| {
        while wire.request().is_some() {
            wire.write("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
            gone.lock().unwrap().recv().unwrap();
            wire.write("half");
        }
    });
    let proxy = Setup::to(upstream.address).start();
    let address = proxy.address;
    let mut idle = proxy.connect();
    let mut busy = proxy.connect();
    busy.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(busy.head().unwrap().starts_with("HTTP/1.1 200 "));
    assert_eq!(busy.exactly(4), b"half");

    proxy.stopper.finish();
    assert!(idle.is_closed());
    while TcpStream::connect(address).is_ok() {
        thread::yield_now();
    }
    assert!(proxy.is_running());
    go.send(()).unwrap();
    assert_eq!(busy.exactly(4), b"half");
    assert!(busy.is_closed());
    drop((idle, busy));
    proxy.join();
}

#[test]
fn whoever_is_in_the_queue_when_the_end_comes_is_answered() {
    use tollgate::{clock::Clock, config::Listener, limiter::Limiter, policy::Policy, store::memory::MemoryStore};
    // Whoever has not said anything yet is given a second.
    assert!(in_time(|_| {
        let limiter = Limiter::new(Policy::default(), MemoryStore::new(10, Clock::system()));
        let server = tollgate_server::Server::bind(vec![Listener::new(([127, 0, 0, 1], 0).into())], limiter).unwrap();
        let connect = || Wire::new(TcpStream::connect(server.addresses()[0]).unwrap());
        let (mut said, mut silent): (Vec<_>, Vec<_>) = (0..20).map(|_| (connect(), connect())).unzip();
        let (first, second) = said.split_at_mut(10);
        let ask = |wire: &mut Wire| wire.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        first.iter_mut().for_each(ask);
        server.stopper().finish();
        let thread = thread::spawn(move || server.run());
        second.iter_mut().for_each(ask);
        for wire in first {
            assert_eq!(wire.answer().status, 200);
            assert!(wire.is_closed());
        }
        let is_answered =
            |wire: &mut Wire| wire.try_answer().is_some_and(|answer| answer.status == 200 && wire.is_closed());
        let are_answered = second.iter_mut().all(is_answered);
        assert!(silent.iter_mut().all(Wire::is_closed));
        thread.join().unwrap().unwrap();
        are_answered
    }));
}

#[test]
fn an_abort_ends_at_once() {
    let upstream = Upstream::new(|wire, _| while wire.request().is_some() {});
    let proxy = Setup::to(upstream.address).start();
    let mut busy = proxy.connect();
    busy.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    while upstream.connections() == 0 {
        thread::yield_now();
    }
    proxy.stopper.finish();
    proxy.stopper.abort();
    assert!(busy.is_closed());
    proxy.join();
}

#[test]
fn an_idle_connection_is_closed_in_time() {
    assert!(in_time(|times| {
        let mut setup = Setup::alone();
        setup.timeouts.idle = times * Duration::from_millis(200);
        let proxy = setup.start();
        let mut wire = proxy.connect();
        // The timer of the first request rings while the connection is in use.
        let is_answered = |_| {
            wire.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            let answer = wire.try_answer();
            thread::sleep(times * Duration::from_millis(120));
            answer.is_some_and(|answer| answer.status == 200)
        };
        (0..3).all(is_answered) && wire.is_closed()
    }));
}

#[test]
fn a_port_in_use_is_named() {
    use tollgate::{clock::Clock, config::Listener, limiter::Limiter, policy::Policy, store::memory::MemoryStore};
    let proxy = Setup::alone().start();
    let listener = Listener::new(proxy.address);
    let limiter = Limiter::new(Policy::default(), MemoryStore::new(10, Clock::system()));
    let error = tollgate_server::Server::bind(vec![listener], limiter).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {}: the port is in use", proxy.address));
}

#[test]
fn many_requests_over_many_connections() {
    let upstream = Upstream::echo();
    let proxy = Setup::to(upstream.address).start();
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                let mut wire = proxy.connect();
                for n in 0..50 {
                    wire.write(&format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n"));
                    let answer = wire.answer();
                    assert!(answer.status == 200 && answer.body().starts_with(&format!("GET /{n} ")));
                }
            });
        }
    });
}
