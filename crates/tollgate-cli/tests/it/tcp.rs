//! `tollgate serve` in front of what is no HTTP, with the real binary.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    thread,
};

use crate::{
    command::{File, run},
    serving::Serving,
};

/// A mail server that takes everything, one client after the other.
fn mail_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut answers = stream.try_clone().expect("a second handle");
            let mut say = |answer: &str| answers.write_all(format!("{answer}\r\n").as_bytes());
            let mut is_mail = false;
            // A client that hangs up ends only its own connection.
            let _ = say("220 ready");
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let line = line.to_ascii_lowercase();
                let answer = match (is_mail, line.as_str()) {
                    (true, ".") => "250 taken",
                    (true, _) => continue,
                    (false, "data") => "354 go on",
                    (false, "quit") => "221 bye",
                    (false, _) => "250 fine",
                };
                is_mail = line == "data";
                let _ = say(answer);
            }
        }
    });
    address
}

fn policy(upstream: SocketAddr) -> File {
    File::new(
        "policy.yaml",
        &format!(
            "listen: [ {{ name: smtp, address: '127.0.0.1:0', protocol: tcp, upstream: '{upstream}' }} ]
rules: [ {{ name: mail, match: {{ client: 127.0.0.0/8 }}, limit: 2/hour }} ]
"
        ),
    )
}

#[test]
fn mail_is_delivered_until_the_limit_and_then_the_client_is_hung_up_on() {
    if Command::new("python3").arg("--version").output().is_err() {
        return; // There is no smtplib to try it with.
    }
    let policy = policy(mail_server());
    let server = Serving::start(&[policy.path()]);
    let deliver = "
import smtplib, sys
for n in range(3):
    try:
        with smtplib.SMTP('127.0.0.1', int(sys.argv[1]), timeout=20) as smtp:
            refused = smtp.sendmail('ann@example.org', ['ben@example.org'], 'Subject: hello\\r\\n\\r\\n' + 'word ' * 50000)
            print('delivered' if not refused else refused)
    except smtplib.SMTPServerDisconnected as error:
        print(error)
";
    let port = server.address.port().to_string();
    let output = Command::new("python3").args(["-c", deliver, &port]).output().expect("it was there a moment ago");
    let said = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines, ["delivered", "delivered", "Connection unexpectedly closed"], "{output:?}");
    let (status, log) = server.end("TERM");
    assert_eq!(status.code(), Some(0));
    assert!(log.contains("mail 3 seen, 1 denied, most 127.0.0.1: 1"), "{log}");
}

#[test]
fn one_rule_stands_in_front_of_any_port() {
    let upstream = format!("tcp://{}", mail_server()).replace("127.0.0.1", "");
    let server = Serving::start(&["--limit", "1/hour", "--listen", "127.0.0.1:0", "--upstream", &upstream]);
    let greeting = || {
        let mut stream = TcpStream::connect(server.address).expect("it listens");
        let mut said = [0; 11];
        stream.read_exact(&mut said).map(|()| said)
    };
    assert_eq!(greeting().expect("it is allowed"), *b"220 ready\r\n");
    assert_eq!(greeting().expect_err("it is denied").kind(), std::io::ErrorKind::UnexpectedEof);
}

/// What was sent and is wrong once counted as something else altogether.
#[test]
fn the_log_says_what_is_wrong_with_a_proxy_header() {
    let file = File::new(
        "policy.yaml",
        "trusted_proxies: [ { from: 127.0.0.1, header: X-Forwarded-For } ]
listen: [ { address: 127.0.0.1:0, proxy_protocol: true } ]
rules: []
",
    );
    let long = format!("PROXY {}", "x".repeat(200));
    for (sent, why) in [
        ("GET / HTTP/1.1\r\n", "it began with something else"),
        ("PROXY TCP4 203.0.113.07 127.0.0.1 1 2\r\n", "the one it sent is malformed"),
        ("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x03abc", "the one it sent is malformed"),
        (long.as_str(), "the one it sent is too long"),
    ] {
        let server = Serving::start(&[file.path()]);
        let mut stream = TcpStream::connect(server.address).expect("it listens");
        stream.write_all(sent.as_bytes()).expect("it can be written");
        server.says(&format!("closed a connection of 127.0.0.1 without PROXY header: {why}"));
    }
}

#[test]
fn check_tells_of_tcp_and_what_a_flag_cannot_change() {
    let text = "trusted_proxies: [ { from: 10.0.0.0/8, header: X-Forwarded-For } ]
listen:
- { name: smtp, address: '[::]:2525', protocol: tcp, upstream: '127.0.0.1:25', proxy_protocol: true, send_proxy_protocol: v2 }
rules: [ { name: mail, limit: 5/minute } ]
";
    let file = File::new("policy.yaml", text);
    run(&["check", file.path()])
        .exits(0)
        .says("smtp, tcp://[::]:2525 → tcp://127.0.0.1:25, taking PROXY headers of trusted proxies, sending PROXY v2");
    let mail = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/mail.yaml");
    run(&["check", mail]).exits(0).says("smtp, tcp://[::]:2525");
    run(&["serve", file.path(), "--upstream", ":25"])
        .exits(2)
        .says("its listener speaks tcp, expected --upstream tcp://");
}
