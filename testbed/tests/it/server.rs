//! A server starts with what it is told, answers, stops and starts again.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    os::unix::net::UnixStream,
    sync::mpsc,
    thread,
    time::Duration,
};

use tempfile::TempDir;
use testbed::{Connection, Options, Reply, Server, Tls};

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
fn speaks_tls_at_a_second_port() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let tls = Tls { certificate: folder.path().join("certificate.pem"), key: folder.path().join("key.pem") };
    let ours = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("it is a valid name");
    fs::write(&tls.certificate, ours.cert.pem()).expect("the folder is ours");
    fs::write(&tls.key, ours.signing_key.serialize_pem()).expect("the folder is ours");

    let server = Server::start(Options { tls: Some(tls), ..Options::redis() });
    assert_eq!(server.command(&["PING"]).text(), "PONG");
    let mut stream = TcpStream::connect(server.tls_addr().expect("it was asked for")).expect("it listens");
    stream.write_all(&client_hello()).expect("it reads");
    let mut answer = [0; 1];
    stream.read_exact(&mut answer).expect("it answers");
    assert_eq!(answer, [22], "it does not go on with the handshake");
}

/// The shortest greeting in TLS 1.2 that a server with a key of P-256 goes on with.
fn client_hello() -> Vec<u8> {
    let extensions = [
        [0, 10, 0, 4, 0, 2, 0, 23], // groups: secp256r1
        [0, 13, 0, 4, 0, 2, 4, 3],  // signatures: ecdsa_secp256r1_sha256
    ]
    .concat();
    let mut hello = vec![3, 3];
    hello.extend([7; 32]); // what should be random
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]); // no session; ECDHE_ECDSA with AES_128_GCM_SHA256; no compression
    hello.extend([0, 16]);
    hello.extend(extensions);
    let length = u8::try_from(hello.len()).expect("it is short");
    [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &hello].concat()
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
