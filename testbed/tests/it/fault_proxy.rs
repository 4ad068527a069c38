//! Every fault, as a client sees it.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use testbed::{Fault, FaultProxy, Server, wait_for};

const PING: &[u8] = b"PING\r\n";
const PONG: &[u8] = b"+PONG\r\n";
/// For what does not come.
const SILENCE: Duration = Duration::from_millis(200);
/// For what comes, on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

fn set_up() -> (Server, FaultProxy) {
    let server = Server::redis();
    let proxy = FaultProxy::to(server.addr());
    (server, proxy)
}

struct Client(TcpStream);

impl Client {
    fn of(proxy: &FaultProxy) -> Self {
        let stream = TcpStream::connect(proxy.addr()).expect("the proxy listens");
        stream.set_read_timeout(Some(LIMIT)).expect("it is a valid limit");
        Self(stream)
    }

    fn send(&mut self, request: &[u8]) {
        self.0.write_all(request).expect("there is room");
    }

    /// Reads as much as is expected, or less if that is the end.
    fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut answer = [0; 64];
        let length = self.0.read(&mut answer)?;
        Ok(answer[..length].to_vec())
    }

    fn ping(&mut self) -> io::Result<Vec<u8>> {
        self.send(PING);
        self.read()
    }

    #[track_caller]
    fn hears_nothing(&mut self) {
        self.0.set_read_timeout(Some(SILENCE)).expect("it is a valid limit");
        let kind = self.read().expect_err("nothing comes").kind();
        assert!(matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{kind:?}");
        self.0.set_read_timeout(Some(LIMIT)).expect("it is a valid limit");
    }
}

#[test]
fn passes_everything_and_counts_connections() {
    let (_server, proxy) = set_up();
    let mut clients = [Client::of(&proxy), Client::of(&proxy)];
    for client in &mut clients {
        assert_eq!(client.ping().expect("it passes"), PONG);
    }
    assert_eq!((proxy.accepted(), proxy.open()), (2, 2));
    drop(clients);
    wait_for("both to end", LIMIT, || (proxy.open() == 0).then_some(()));
    assert_eq!(proxy.accepted(), 2);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a delay is measured in the system's time")]
fn delays_requests() {
    let (_server, proxy) = set_up();
    let mut client = Client::of(&proxy);
    proxy.set(Fault::Delay(SILENCE));
    let sent = Instant::now();
    assert_eq!(client.ping().expect("it arrives"), PONG);
    assert!(sent.elapsed() >= SILENCE, "{:?}", sent.elapsed());
}

#[test]
fn releases_what_it_held_when_the_delay_ends() {
    let (_server, proxy) = set_up();
    let mut client = Client::of(&proxy);
    proxy.set(Fault::Delay(Duration::MAX));
    client.send(PING);
    client.hears_nothing();
    proxy.set(Fault::Pass);
    assert_eq!(client.read().expect("it arrives"), PONG);
}

#[test]
fn swallows_old_and_new_connections_and_never_revives_them() {
    let (_server, proxy) = set_up();
    let mut old = Client::of(&proxy);
    let mut idle = Client::of(&proxy);
    assert_eq!(old.ping().expect("it passes"), PONG);
    assert_eq!(idle.ping().expect("it passes"), PONG);
    proxy.set(Fault::Blackhole);
    let mut new = Client::of(&proxy);
    for client in [&mut old, &mut new] {
        client.send(PING);
        client.hears_nothing();
    }
    proxy.set(Fault::Pass);
    for client in [&mut old, &mut new] {
        client.send(PING);
        client.hears_nothing();
    }
    // It lost nothing.
    assert_eq!(idle.ping().expect("it passes"), PONG);
    assert_eq!(Client::of(&proxy).ping().expect("it passes"), PONG);
}

#[test]
fn resets_old_and_new_connections() {
    let (_server, proxy) = set_up();
    let mut old = Client::of(&proxy);
    assert_eq!(old.ping().expect("it passes"), PONG);
    proxy.set(Fault::Reset);
    assert_eq!(old.read().expect_err("it is reset").kind(), ErrorKind::ConnectionReset);
    assert_eq!(Client::of(&proxy).read().expect_err("it is reset").kind(), ErrorKind::ConnectionReset);
    proxy.set(Fault::Pass);
    assert_eq!(Client::of(&proxy).ping().expect("it passes"), PONG);
}

#[test]
fn refuses_new_connections_and_closes_old_ones() {
    let (_server, proxy) = set_up();
    let mut old = Client::of(&proxy);
    assert_eq!(old.ping().expect("it passes"), PONG);
    for _ in 0..3 {
        proxy.set(Fault::Refuse);
        let refused = TcpStream::connect(proxy.addr()).expect_err("nobody listens");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        proxy.set(Fault::Pass);
        assert_eq!(Client::of(&proxy).ping().expect("it passes"), PONG);
    }
    assert_eq!(old.read().expect("it is closed"), b"");
    assert_eq!(proxy.accepted(), 4);
}

#[test]
fn cuts_requests_in_the_middle() {
    let (server, proxy) = set_up();
    proxy.set(Fault::CutRequests(10));
    let mut client = Client::of(&proxy);
    client.send(b"INCR n\r\nINCR n\r\n");
    // What came back before the cut is for the client to read.
    let heard = client.read().expect("it is closed, not reset");
    assert!(heard.is_empty() || heard == b":1\r\n", "{heard:?}");
    wait_for("the line to end", LIMIT, || (proxy.open() == 0).then_some(()));
    wait_for("the first to be done", LIMIT, || (server.command(&["GET", "n"]).text() == "1").then_some(()));
}

#[test]
fn cuts_replies_after_the_work_is_done() {
    let (server, proxy) = set_up();
    let mut client = Client::of(&proxy);
    proxy.set(Fault::CutReplies(0));
    client.send(b"INCR n\r\n");
    assert_eq!(client.read().expect("it is closed"), b"");
    assert_eq!(server.command(&["GET", "n"]).text(), "1");
    // Each connection is cut anew.
    proxy.set(Fault::CutReplies(2));
    let mut client = Client::of(&proxy);
    assert_eq!(client.ping().expect("it begins"), b"+P");
    assert_eq!(client.read().expect("it is closed"), b"");
}

#[test]
fn a_server_that_is_down_closes_connections() {
    let (server, proxy) = set_up();
    server.kill9();
    assert_eq!(Client::of(&proxy).read().expect("it is closed"), b"");
    server.restart();
    assert_eq!(Client::of(&proxy).ping().expect("it is back"), PONG);
}

#[test]
fn ends_connections_when_it_is_dropped() {
    let (_server, proxy) = set_up();
    let mut client = Client::of(&proxy);
    assert_eq!(client.ping().expect("it passes"), PONG);
    let addr = proxy.addr();
    thread::spawn(move || drop(proxy)).join().expect("it does not panic");
    assert_eq!(client.read().expect("it is closed"), b"");
    TcpStream::connect(addr).expect_err("nobody listens");
}
