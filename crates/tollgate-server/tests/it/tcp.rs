//! Connections that are no requests: decided once, closed without a byte or joined with the upstream.

use std::{
    io::{self, Write as _},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use testbed::Port;
use tollgate::clock::{ManualClock, Timestamp};

use crate::rig::{Proxy, Setup, Upstream, Wire, in_time};

/// A server that speaks first, as SMTP does, and then says back what it hears.
fn greeting() -> Upstream {
    Upstream::new(|wire, _| {
        wire.write("220 ready\r\n");
        while let Some(line) = wire.line() {
            wire.write(&line);
        }
    })
}

/// A proxy by these rules, on a clock that a test turns by hand.
fn limited(rules: &str) -> (Proxy, ManualClock) {
    let clock = ManualClock::new(Timestamp::from_micros(0));
    let setup = Setup { clock: clock.clone().into(), ..Setup::tcp(greeting().address) };
    (setup.with(rules).proxied().start(), clock)
}

/// Whether a connection is let through; one that is not ends without a byte and without an error.
fn passes(wire: &mut Wire) -> bool {
    match wire.try_line().expect("an end and no error") {
        Some(line) => {
            assert_eq!(line, "220 ready\r\n");
            true
        }
        None => false,
    }
}

/// How many of `n` connections a trusted proxy gets through for this client.
fn admitted(proxy: &Proxy, n: usize, client: &str) -> usize {
    let family = if client.contains(':') { "TCP6" } else { "TCP4" };
    let header = format!("PROXY {family} {client} {client} 40000 25\r\n");
    let is_admitted = |_: &usize| {
        let mut wire = proxy.connect();
        wire.write(&header);
        passes(&mut wire)
    };
    (0..n).filter(is_admitted).count()
}

// Pode's five examples; P-01, P-04.
#[test]
fn this_machine_may_connect_five_times_a_second() {
    let (proxy, clock) = limited("{ name: local, match: { client: [127.0.0.1, '::1'] }, limit: 5/second }");
    assert_eq!(admitted(&proxy, 7, "127.0.0.1"), 5);
    assert_eq!(admitted(&proxy, 7, "::1"), 5);
    assert_eq!(admitted(&proxy, 7, "127.0.0.2"), 7);
    clock.advance(Duration::from_secs(1));
    assert_eq!(admitted(&proxy, 7, "127.0.0.1"), 5);
}

#[test]
fn two_addresses_may_connect_five_times_in_ten_seconds_each() {
    let (proxy, clock) = limited("{ name: two, match: { client: [192.0.2.1, 192.0.2.2] }, limit: 5/10 seconds }");
    assert_eq!(admitted(&proxy, 7, "192.0.2.1"), 5);
    assert_eq!(admitted(&proxy, 7, "192.0.2.2"), 5);
    assert_eq!(admitted(&proxy, 7, "192.0.2.3"), 7);
    clock.advance(Duration::from_micros(9_999_999));
    assert_eq!(admitted(&proxy, 1, "192.0.2.1"), 0);
    clock.advance(Duration::from_micros(1));
    assert_eq!(admitted(&proxy, 7, "192.0.2.1"), 5);
}

#[test]
fn every_address_of_a_subnet_may_connect_five_times_a_second() {
    let (proxy, _) = limited("{ name: each, match: { client: 10.10.0.0/24 }, limit: 5/second }");
    assert_eq!(admitted(&proxy, 7, "10.10.0.1"), 5);
    assert_eq!(admitted(&proxy, 7, "10.10.0.2"), 5);
    assert_eq!(admitted(&proxy, 7, "10.10.1.1"), 7);
}

#[test]
fn a_subnet_counted_as_one_may_connect_five_times_a_second() {
    let (proxy, _) = limited("{ name: one, match: { client: 10.10.0.0/24 }, by: subnet, limit: 5/second }");
    assert_eq!(admitted(&proxy, 3, "10.10.0.1"), 3);
    assert_eq!(admitted(&proxy, 3, "10.10.0.2"), 2);
    assert_eq!(admitted(&proxy, 7, "10.10.1.1"), 7);
}

#[test]
fn everybody_together_may_connect_ten_times_a_minute() {
    let (proxy, _) = limited("{ name: all, match: { client: all }, by: [], limit: 10/60 seconds }");
    assert_eq!(admitted(&proxy, 6, "192.0.2.1"), 6);
    assert_eq!(admitted(&proxy, 6, "2001:db8::1"), 4);
}

#[test]
fn a_client_is_known_by_its_socket() {
    let setup = Setup::tcp(greeting().address).with("{ name: r, match: { client: 127.0.0.2 }, limit: 1/hour }");
    let proxy = setup.start();
    let pass = |address| passes(&mut proxy.connect_from(address));
    assert_eq!([pass("127.0.0.2"), pass("127.0.0.2")], [true, false]);
    assert_eq!([pass("127.0.0.3"), pass("127.0.0.3")], [true, true]);
}

#[test]
fn one_listener_serves_both_families() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return; // There is only one family here.
    }
    let setup = Setup { address: "[::]:0".parse().unwrap(), ..Setup::tcp(greeting().address) };
    let proxy = setup.with("{ name: r, match: { client: ['::1', 127.0.0.0/8] }, limit: 1/hour }").start();
    let pass = |address: [&str; 2]| {
        address.map(|address| {
            let address = SocketAddr::new(address.parse().unwrap(), proxy.address.port());
            passes(&mut Wire::new(TcpStream::connect(address).unwrap()))
        })
    };
    assert_eq!(pass(["::1", "::1"]), [true, false]);
    assert_eq!(pass(["127.0.0.1", "127.0.0.1"]), [true, false]);
}

#[test]
fn a_denied_connection_never_reaches_the_upstream() {
    let upstream = greeting();
    let proxy = Setup::tcp(upstream.address).with("{ name: r, limit: 1/hour }").start();
    assert!(passes(&mut proxy.connect()));
    for _ in 0..5 {
        assert!(!passes(&mut proxy.connect()));
    }
    assert_eq!(upstream.connections(), 1);
}

/// To close a socket while bytes wait in it makes the kernel send a reset, and the client sees an error instead of an end.
#[test]
fn a_denied_client_that_speaks_first_sees_an_end_and_no_error() {
    let proxy = Setup::tcp(greeting().address).with("{ name: r, limit: 0/hour }").proxied().start();
    // With the header in front, nothing is decided before some of the rest is there.
    let said = format!("PROXY UNKNOWN\r\n{}", "PING\r\n".repeat(10_000));
    for _ in 0..20 {
        let mut wire = proxy.connect();
        wire.write(&said);
        assert!(!passes(&mut wire));
    }
}

#[test]
fn rules_that_ask_of_requests_do_not_concern_connections() {
    let setup = Setup::tcp(greeting().address)
        .with("{ name: a, match: { path: /** }, limit: 0/hour }, { name: b, by: method, limit: 0/hour }")
        .with("{ name: c, match: { header: { X-Absent: false } }, limit: 0/hour }")
        .with("{ name: d, match: { rest: true, listener: web }, by: [client, listener, peer], limit: 2/hour }");
    let proxy = setup.start();
    assert_eq!([0; 3].map(|_| passes(&mut proxy.connect())), [true, true, false]);
}

/// Nothing here is an answer that could tell whether it counts.
#[test]
fn a_rule_that_counts_by_status_counts_every_connection() {
    let setup = Setup::tcp(greeting().address).with("{ name: r, count: { status: 401 }, limit: 2/hour }");
    let proxy = setup.start();
    assert_eq!([0; 3].map(|_| passes(&mut proxy.connect())), [true, true, false]);
}

#[test]
fn bytes_pass_both_ways_as_they_are() {
    let upstream = Upstream::new(|wire, _| {
        let (heard, result) = wire.rest();
        result.unwrap();
        wire.write_bytes(&heard);
    });
    let proxy = Setup::tcp(upstream.address).start();
    let said: Vec<u8> = (0..8_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let mut wire = proxy.connect();
    wire.write_bytes(&said);
    wire.end_writing();
    let (heard, result) = wire.rest();
    result.unwrap();
    assert!(heard == said, "{} of {} bytes", heard.len(), said.len());
}

/// What it does not take is held for it, but not without end.
#[test]
fn a_client_that_does_not_read_holds_up_its_upstream() {
    let (held_up, is_held_up) = mpsc::channel();
    let upstream = Upstream::new(move |wire, _| {
        let mut stream = wire.stream();
        stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        let written = (0..1_000).take_while(|_| stream.write_all(&[0; 1 << 20]).is_ok()).count();
        held_up.send(written).unwrap();
    });
    let proxy = Setup::tcp(upstream.address).start();
    let _wire = proxy.connect();
    let megabytes = is_held_up.recv().unwrap();
    assert!(megabytes < 100, "{megabytes}");
}

#[test]
fn a_client_that_has_said_all_still_hears() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let upstream = Upstream::new(move |wire, _| {
        assert_eq!(wire.rest().0, b"question");
        gone.lock().unwrap().recv().unwrap();
        wire.write("answer");
    });
    let proxy = Setup::tcp(upstream.address).start();
    let mut wire = proxy.connect();
    wire.write("question");
    wire.end_writing();
    go.send(()).unwrap();
    assert_eq!(wire.rest().0, b"answer");
}

#[test]
fn an_upstream_that_has_said_all_still_hears() {
    let (heard, hears) = mpsc::channel();
    let upstream = Upstream::new(move |wire, _| {
        wire.write("answer");
        wire.end_writing();
        heard.send(wire.rest().0).unwrap();
    });
    let proxy = Setup::tcp(upstream.address).start();
    let mut wire = proxy.connect();
    assert_eq!(wire.rest().0, b"answer");
    wire.write("question");
    wire.end_writing();
    assert_eq!(hears.recv().unwrap(), b"question");
}

/// An end would look as if all had been said.
#[test]
fn an_upstream_that_fails_fails_for_the_client_too() {
    let upstream = Upstream::new(|wire, _| {
        wire.write("half of");
        wire.line();
        wire.fail();
    });
    let proxy = Setup::tcp(upstream.address).start();
    let mut wire = proxy.connect();
    assert_eq!(wire.exactly(7), b"half of");
    wire.write("go on\r\n");
    let error = wire.rest().1.expect_err("no plain end");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_stream_that_breaks_off_breaks_off_for_the_client_too() {
    let upstream = Upstream::new(|wire, _| {
        wire.write_bytes(&[7; 8 << 20]);
        wire.line();
        wire.fail();
    });
    let proxy = Setup::tcp(upstream.address).start();
    for _ in 0..5 {
        let mut wire = proxy.connect();
        assert!(wire.exactly(8 << 20) == [7; 8 << 20]);
        wire.write("go on\r\n");
        let error = wire.rest().1.expect_err("no plain end");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}

#[test]
fn an_upstream_that_hangs_up_ends_a_stream_towards_it() {
    let upstream = Upstream::new(|wire, _| {
        wire.exactly(4 << 20);
        wire.fail();
    });
    let proxy = Setup::tcp(upstream.address).start();
    for _ in 0..5 {
        let mut wire = proxy.connect();
        let error = (0..1_000).find_map(|_| wire.stream().write_all(&[7; 1 << 20]).err()).expect("an end");
        assert!(matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{error}");
        assert!(wire.is_closed());
    }
    assert!(proxy.is_running());
}

#[test]
fn an_upstream_that_is_not_there_ends_the_connection() {
    let nobodys = Port::take();
    let proxy = Setup::tcp(nobodys.addr()).start();
    for _ in 0..3 {
        assert!(proxy.connect().is_closed());
    }
    assert!(proxy.is_running());
}

#[test]
fn a_connection_on_which_nothing_moves_is_closed_and_any_other_is_not() {
    let upstream = greeting();
    // Whoever talks is not to be held up for as long as makes him silent.
    assert!(in_time(|times| {
        let mut setup = Setup::tcp(upstream.address);
        setup.timeouts.idle = times * Duration::from_millis(500);
        let proxy = setup.start();
        let (mut silent, mut talking) = (proxy.connect(), proxy.connect());
        let are_connected = passes(&mut silent) && passes(&mut talking);
        let is_heard = |_| {
            thread::sleep(times * Duration::from_millis(100));
            talking.write("still here\r\n");
            talking.line().as_deref() == Some("still here\r\n")
        };
        are_connected && (0..10).all(is_heard) && silent.is_closed()
    }));
}

#[test]
fn at_the_bound_the_longest_silent_connection_makes_room_and_no_busy_one_does() {
    let upstream = greeting();
    let connected = |proxy: &Proxy| {
        let mut wire = proxy.connect();
        assert!(passes(&mut wire));
        wire
    };
    let mut proxy_and_wires = None;
    // Whoever has just come is busy, for less than a second.
    assert!(in_time(|_| {
        let mut setup = Setup::tcp(upstream.address);
        setup.limits.connections = 3;
        let proxy = setup.start();
        let wires: Vec<_> = (0..3).map(|_| connected(&proxy)).collect();
        let has_no_place = !passes(&mut proxy.connect());
        proxy_and_wires = Some((proxy, wires));
        has_no_place
    }));
    let (proxy, mut wires) = proxy_and_wires.unwrap();
    thread::sleep(Duration::from_millis(1_200)); // until those that are silent are idle
    wires[0].write("still here\r\n");
    assert_eq!(wires[0].line().as_deref(), Some("still here\r\n"));
    assert!(passes(&mut proxy.connect()));
    assert!(wires[1].is_closed());
    for n in [0, 2] {
        wires[n].write("still here\r\n");
        assert_eq!(wires[n].line().as_deref(), Some("still here\r\n"));
    }
}

#[test]
fn hundreds_of_connections_are_held_at_once() {
    let proxy = Setup::tcp(greeting().address).start();
    let mut wires: Vec<_> = (0..300).map(|_| proxy.connect()).collect();
    assert!(wires.iter_mut().all(passes));
    for (n, wire) in wires.iter_mut().enumerate() {
        wire.write(&format!("{n}\r\n"));
        assert_eq!(wire.line(), Some(format!("{n}\r\n")));
    }
}

#[test]
fn a_graceful_end_lets_what_flows_flow() {
    let proxy = Setup::tcp(greeting().address).start();
    let address = proxy.address;
    let mut wire = proxy.connect();
    assert!(passes(&mut wire));
    proxy.stopper.finish();
    while TcpStream::connect(address).is_ok() {
        thread::yield_now();
    }
    wire.write("still here\r\n");
    assert_eq!(wire.line().as_deref(), Some("still here\r\n"));
    wire.end_writing();
    assert!(wire.is_closed());
    proxy.join();
}

#[test]
fn an_abort_ends_connections_at_once() {
    let proxy = Setup::tcp(greeting().address).start();
    let mut wire = proxy.connect();
    assert!(passes(&mut wire));
    proxy.stopper.abort();
    assert!(wire.is_closed());
    proxy.join();
}
