//! Connections that leave HTTP behind.

use std::time::Duration;

use crate::rig::{Setup, Upstream, header};

const ASKING: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: x\r\n\r\n";
const SWITCHING: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: y\r\n\r\n";

/// Greets, then echoes, then takes leave.
fn echoing() -> Upstream {
    Upstream::new(|wire, _| {
        let head = wire.head().unwrap();
        assert_eq!((header(&head, "connection"), header(&head, "upgrade")), (Some("upgrade"), Some("websocket")));
        assert_eq!(header(&head, "sec-websocket-key"), Some("x"));
        wire.write(&format!("{SWITCHING}hello"));
        for _ in 0..100 {
            let bytes = wire.exactly(4);
            wire.write_bytes(&bytes);
        }
        assert!(wire.is_closed());
        wire.write("bye");
    })
}

#[test]
fn a_websocket_passes_both_ways_to_its_end() {
    let upstream = echoing();
    let proxy = Setup::to(upstream.address).start();
    let mut wire = proxy.connect();
    // The first message comes together with the request, as an eager client sends it.
    wire.write(&format!("{ASKING}0000"));
    let head = wire.head().unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!((header(&head, "connection"), header(&head, "upgrade")), (Some("upgrade"), Some("websocket")));
    assert_eq!(header(&head, "sec-websocket-accept"), Some("y"));
    assert_eq!(wire.exactly(5), b"hello");
    assert_eq!(wire.exactly(4), b"0000");
    for n in 1..100 {
        let message = format!("{n:04}");
        wire.write(&message);
        assert_eq!(wire.exactly(4), message.as_bytes());
    }
    wire.end_writing();
    let (rest, result) = wire.rest();
    result.unwrap();
    assert_eq!(rest, b"bye");
}

#[test]
fn a_silent_websocket_is_closed() {
    let upstream = echoing();
    let mut setup = Setup::to(upstream.address);
    setup.timeouts.idle = Duration::from_millis(200);
    let proxy = setup.start();
    let mut wire = proxy.connect();
    wire.write(ASKING);
    wire.head().unwrap();
    assert_eq!(wire.exactly(5), b"hello");
    assert!(wire.is_closed());
}

#[test]
fn a_refused_upgrade_is_an_answer_like_any_other() {
    let upstream = Upstream::echo();
    let proxy = Setup::to(upstream.address).start();
    let mut wire = proxy.connect();
    for _ in 0..2 {
        wire.write(ASKING);
        assert_eq!(wire.answer().status, 200);
    }
}

#[test]
fn another_protocol_than_the_one_asked_for_is_not_switched_to() {
    let upstream = Upstream::saying("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n");
    let proxy = Setup::to(upstream.address).start();
    assert_eq!(proxy.ask(ASKING).status, 502);
}

#[test]
fn a_denied_upgrade_is_denied() {
    let proxy = Setup::alone().denying().start();
    let answer = proxy.ask(&ASKING.replace("/ws", "/denied/ws"));
    assert_eq!(answer.status, 429);
}
