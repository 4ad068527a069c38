//! A server starts with what it is told, answers, stops and starts again.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    sync::mpsc,
    thread,
    time::Duration,
};

use testbed::{Connection, Options, Reply, Server};

#[test]
fn answers_every_kind_of_reply() {
    let server = Server::redis();
    assert_eq!(server.command(&["SET", "n", "41"]).text(), "OK");
    assert_eq!(server.command(&["INCR", "n"]).integer(), 42);
    assert_eq!(server.command(&["GET", "n"]).text(), "42");
    assert_eq!(server.command(&["GET", "other"]), Reply::Nil);
    assert_eq!(server.command(&["MGET", "n", "other"]).array(), [Reply::Bytes(b"42".to_vec()), Reply::Nil]);
    assert!(server.command(&["NONSENSE"]).error().starts_with("ERR"));
    server.command(&[&b"SET"[..], b"bytes", b"\r\n\xff"]);
    assert_eq!(server.command(&["GET", "bytes"]), Reply::Bytes(b"\r\n\xff".to_vec()));
}

#[test]
fn valkey_answers_where_there_is_one() {
    let Some(server) = Server::valkey() else { return };
    assert_eq!(server.command(&["PING"]).text(), "PONG");
    assert!(server.command(&["INFO", "server"]).text().contains("valkey_version"));
}

#[test]
fn two_servers_know_nothing_of_each_other() {
    let (one, two) = (Server::redis(), Server::redis());
    one.command(&["SET", "key", "value"]);
    assert_eq!(two.command(&["GET", "key"]), Reply::Nil);
}

#[test]
fn takes_more_arguments() {
    let server = Server::start(Options::redis().with(&["--maxmemory", "2mb"]));
    assert_eq!(server.command(&["CONFIG", "GET", "maxmemory"]).array()[1].text(), "2097152");
}

#[test]
fn asks_for_its_password() {
    let server = Server::start(Options { password: Some("s3cret".to_owned()), ..Options::redis() });
    assert_eq!(server.command(&["PING"]).text(), "PONG");
    let mut stranger = Connection::open(server.addr(), None).expect("it listens");
    assert!(stranger.command(&["PING"]).expect("it answers").error().starts_with("NOAUTH"));
    Connection::open(server.addr(), Some("guess")).expect_err("the password is wrong");
}

#[test]
fn listens_at_a_unix_socket() {
    let server = Server::start(Options { unix_socket: true, ..Options::redis() });
    let mut socket = UnixStream::connect(server.unix_socket().expect("it was asked for")).expect("it listens");
    socket.write_all(b"PING\r\n").expect("it reads");
    let mut answer = [0; 7];
    socket.read_exact(&mut answer).expect("it answers");
    assert_eq!(&answer, b"+PONG\r\n");
}

#[test]
fn a_paused_server_answers_when_it_goes_on() {
    let server = Server::redis();
    server.pause();
    let (answered, answers) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| answered.send(server.command(&["PING"])));
        answers.recv_timeout(Duration::from_millis(200)).expect_err("it stands still");
        server.resume();
        assert_eq!(answers.recv().expect("it is asked").text(), "PONG");
    });
}

#[test]
fn a_killed_server_restarts_at_the_same_port_and_has_forgotten() {
    let server = Server::redis();
    let (addr, pid) = (server.addr(), server.pid());
    server.command(&["SET", "key", "value"]);
    server.kill9();
    assert_eq!(server.pid(), None);
    let error = server.try_command(&["PING"]).expect_err("it is down");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    server.restart();
    assert_eq!(server.addr(), addr);
    assert_ne!(server.pid(), pid);
    assert_eq!(server.command(&["GET", "key"]), Reply::Nil);
}

#[test]
#[should_panic(expected = "Bad directive")]
fn says_why_it_does_not_start() {
    let _ = Server::start(Options::redis().with(&["--no-such-option", "1"]));
}
