//! `tollgate serve` over real sockets.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use testbed::Port;

use crate::{
    answering::{Answering, Reply},
    command::{File, run, tollgate},
    serving::{Serving, connect},
};

#[test]
fn five_a_minute_are_allowed_and_the_sixth_is_told_when_to_come_back() {
    let server = Serving::start(&["--limit", "5/minute", "--listen", "127.0.0.1:0"]);
    for remaining in (0..5).rev() {
        let answer = server.get("/", "");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains(&format!("ratelimit: \"default\";r={remaining};t=")), "{answer}");
        assert!(answer.ends_with("\r\n\r\nallowed\n"), "{answer}");
    }
    let denied = server.get("/", "");
    assert!(denied.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{denied}");
    for header in [
        "content-type: application/problem+json\r\n",
        "ratelimit-policy: \"default\";q=5;w=60\r\n",
        "ratelimit: \"default\";r=0;t=",
        "x-ratelimit-limit: 5\r\n",
        "x-ratelimit-remaining: 0\r\n",
        "x-ratelimit-reset: ",
        "retry-after: ",
        "cache-control: no-store\r\n",
    ] {
        assert!(denied.contains(header), "{header:?} in {denied}");
    }
    let body: serde_json::Value =
        serde_json::from_str(denied.rsplit("\r\n\r\n").next().expect("a body")).expect("JSON");
    assert_eq!(body["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert_eq!(body["violated-policies"], serde_json::json!(["default"]));
    let retry_after: u64 = header(&denied, "retry-after").parse().expect("whole seconds");
    assert_eq!(body["retry_after"], retry_after);
    assert!((1..=60).contains(&retry_after), "{retry_after}");
}

#[test]
fn whoever_is_not_trusted_cannot_choose_an_address() {
    let server = Serving::start(&["--limit", "2/minute", "--listen", "127.0.0.1:0"]);
    let spoof = |i: u32| {
        server.get("/", &format!("X-Forwarded-For: 6.6.6.{i}\r\nX-Real-IP: 7.7.7.{i}\r\nForwarded: for=8.8.8.{i}\r\n"))
    };
    let codes: Vec<String> = (0..3).map(|i| spoof(i)[9..12].to_owned()).collect();
    assert_eq!(codes, ["200", "200", "429"]);
}

#[test]
fn a_policy_file_stands_in_front_of_a_real_upstream() {
    let upstream = upstream("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nRateLimit: \"app\";r=3;t=4\r\n\r\nhello");
    let policy = File::new(
        "tollgate.yaml",
        &format!(
            "listen: [ {{ address: '127.0.0.1:0', upstream: 'http://{upstream}' }} ]
rules:
  - name: login
    match: {{ path: /login }}
    limit: 1/hour
    on_limit: {{ status: 403, body: {{ plain: 'wait {{retry_after}} s' }}, default: plain, close: true }}
"
        ),
    );
    // In the folder of the policy its name need not be given.
    let server = Serving::spawn(tollgate().arg("serve").current_dir(policy.folder()));
    assert!(server.get("/login", "").ends_with("hello"));
    let denied = server.get("//x/..;a=b/%6cogin/", "");
    assert!(denied.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{denied}");
    assert!(denied.contains("connection: close\r\n"), "{denied}");
    assert!(denied.ends_with("wait 3600 s"), "{denied}");
    let other = server.get("/other", "");
    assert!(other.contains("ratelimit: \"app\";r=3;t=4\r\n") && other.ends_with("hello"), "{other}");
}

#[test]
fn flags_say_where_to_listen_with_a_file_too() {
    let upstream = upstream("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    for listen in ["", "listen: [ { name: web, address: '127.0.0.1:1', upstream: 'http://127.0.0.1:1' } ]\n"] {
        let policy = File::new("policy.yaml", &format!("{listen}rules: [ {{ name: a, limit: 1/hour }} ]\n"));
        let upstream = upstream.to_string().replace("127.0.0.1", "");
        let server = Serving::start(&[policy.path(), "--listen", "127.0.0.1:0", "--upstream", &upstream]);
        assert!(server.get("/", "").ends_with("hello"));
        assert!(server.get("/", "").starts_with("HTTP/1.1 429 "));
    }
}

#[test]
fn ten_thousand_requests_over_64_connections_meet_no_error() {
    let server = Serving::start(&["--limit", "1000000/second", "--listen", "127.0.0.1:0"]);
    let address = server.address;
    let clients = (0..64).map(|_| {
        thread::spawn(move || {
            let mut stream = connect(address);
            let mut answers = BufReader::new(stream.try_clone().expect("a second handle"));
            for _ in 0..157 {
                stream.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").expect("it can be asked");
                assert_eq!(read_answer(&mut answers), "HTTP/1.1 200 OK");
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.join().expect("no client failed");
    }
}

#[test]
fn admissions_over_many_connections_are_exactly_the_quota() {
    let server = Serving::start(&["--limit", "100/hour", "--listen", "127.0.0.1:0"]);
    let address = server.address;
    let clients = (0..16).map(|_| {
        thread::spawn(move || {
            let mut stream = connect(address);
            let mut answers = BufReader::new(stream.try_clone().expect("a second handle"));
            let ask = |_: &u32| {
                stream.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").expect("it can be asked");
                read_answer(&mut answers) == "HTTP/1.1 200 OK"
            };
            (0..50).filter(ask).count()
        })
    });
    let admitted: usize =
        clients.collect::<Vec<_>>().into_iter().map(|client| client.join().expect("no client failed")).sum();
    assert_eq!(admitted, 100);
}

#[test]
fn a_signal_ends_it_with_0_and_the_log_has_no_line_for_a_request() {
    for signal in ["TERM", "INT"] {
        let server = Serving::start(&["--limit", "1/minute", "--listen", "127.0.0.1:0", "--log", "json"]);
        server.get("/", "");
        server.get("/", "");
        // A plain request, which is answered early.
        let mut stream = connect(server.address);
        stream.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").expect("it can be asked");
        assert_eq!(read_answer(&mut BufReader::new(stream)), "HTTP/1.1 429 Too Many Requests");
        let (status, log) = server.end(signal);
        assert_eq!(status.code(), Some(0));
        let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let messages: Vec<&str> = lines.iter().filter_map(|line| line["fields"]["message"].as_str()).collect();
        // What it denied since the last minute is told at the end; nothing tells of a single request.
        assert!(messages.contains(&"default 3 seen, 2 denied, most 127.0.0.1: 2"), "{log}");
        let told = lines.iter().map(|line| &line["fields"]).find(|fields| fields["rule"] == "default");
        assert!(told.is_some_and(|fields| fields["seen"] == 3 && fields["denied"] == 2), "{log}");
        assert!(lines.len() < 8, "{log}");
    }
}

/// The thread that hears signals once died of the first line that it could not write, and then nothing but SIGKILL ended the server.
#[cfg(unix)]
#[test]
fn a_log_that_nobody_reads_any_more_does_not_keep_a_server_from_ending() {
    let mut server = tollgate();
    server.args(["serve", "--limit", "5/minute", "--listen", "127.0.0.1:0"]);
    let mut server = server.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary is built");
    let mut log = BufReader::new(server.stderr.take().expect("it is piped"));
    let mut line = String::new();
    while !line.contains("listening on ") {
        line.clear();
        assert!(log.read_line(&mut line).expect("text") > 0, "it listens");
    }
    drop(log);
    let kill = Command::new("kill").args(["-s", "TERM", &server.id().to_string()]).status();
    assert!(kill.expect("kill is there").success());
    let ended = (0..6000).find_map(|_| {
        thread::sleep(Duration::from_millis(10));
        server.try_wait().expect("it can be waited for")
    });
    let _ = server.kill();
    assert_eq!(ended.expect("it ends").code(), Some(0));
}

#[test]
fn an_outage_is_told_at_once_and_counted_at_the_end() {
    let gone = Port::take();
    let upstream = format!("http://{}", gone.addr());
    let server = Serving::start(&["--limit", "100/minute", "--listen", "127.0.0.1:0", "--upstream", &upstream]);
    for _ in 0..5 {
        assert!(server.get("/", "").starts_with("HTTP/1.1 502 Bad Gateway\r\n"));
    }
    let (_, log) = server.end("TERM");
    assert!(log.contains(&format!("{upstream}: the upstream refused the connection\n")), "{log}");
    assert!(log.contains(&format!("{upstream}: the upstream refused the connection, 4 times\n")), "{log}");
}

/// A broken answer was once counted when it broke, and again when the client's connection was closed for it.
#[test]
fn an_answer_that_breaks_off_is_counted_once() {
    let half = || Reply::Close("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".to_owned());
    let upstream = format!("http://{}", Answering::start(move |_| half()).address);
    let server = Serving::start(&["--limit", "100/minute", "--listen", "127.0.0.1:0", "--upstream", &upstream]);
    for _ in 0..3 {
        // Plain requests, which are forwarded early.
        let mut stream = connect(server.address);
        stream.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").expect("it can be asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.ends_with("\r\n\r\nhalf"), "{answer}");
    }
    let (_, log) = server.end("TERM");
    assert!(
        log.contains(&format!("{upstream}: the upstream broke off in the middle of its answer, 2 times\n")),
        "{log}"
    );
}

#[test]
fn a_hang_up_is_answered_in_the_log_and_ends_nothing() {
    let server = Serving::start(&["--limit", "100/minute", "--listen", "127.0.0.1:0"]);
    server.signal("HUP");
    server.says("SIGHUP");
    assert!(server.get("/", "").starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(server.end("TERM").0.code(), Some(0));
}

#[test]
fn numbers_in_a_log_of_objects_are_numbers() {
    let arguments = ["serve", "--limit", "1/minute", "--listen", "127.0.0.1:0", "--log", "json"];
    let server = Serving::begin(tollgate().args(arguments));
    let line: serde_json::Value = serde_json::from_str(&server.says("1 rule")).expect("JSON");
    assert_eq!(line["fields"]["rules"], 1);
}

#[test]
fn the_log_says_how_many_connections_had_no_place() {
    let text = "listen: [ { address: 127.0.0.1:0, limits: { connections: 1 } } ]\nrules: []\n";
    let file = File::new("policy.yaml", text);
    let server = Serving::start(&[file.path()]);
    let (mut served, mut refused) = (Vec::new(), 0);
    while served.len() < 4 {
        let mut stream = connect(server.address);
        let asked = stream.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n");
        // Whoever has just been served is idle a moment after its answer has been read, and until then there is no place.
        match asked.and_then(|()| stream.read_exact(&mut [0; 16])) {
            Ok(()) => served.push(stream),
            Err(_) => refused += 1,
        }
    }
    let (_, log) = server.end("TERM");
    // The first is told at once, and what followed at the end.
    let numbers = |line: &str| {
        let (_, said) = line.split_once("at the limit of 1 connection: closed ")?;
        let (closed, refused) = said.strip_suffix(" new")?.split_once(" of the longest idle, refused ")?;
        Some((closed.parse::<u32>().ok()?, refused.parse::<u32>().ok()?))
    };
    let told: Vec<_> = log.lines().filter_map(numbers).collect();
    let [(closed_first, refused_first), (closed_then, refused_then)] = told[..] else { panic!("two lines in {log}") };
    assert_eq!(closed_first + refused_first, 1, "{log}");
    assert_eq!((closed_first + closed_then, refused_first + refused_then), (3, refused), "{log}");
}

#[test]
fn with_json_even_the_last_word_is_an_object() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let file = File::new("policy.yaml", "rules: [ { name: a, limit: 5/fortnight } ]");
    for (arguments, code, what) in [
        (["serve", "--limit", "5/minute", "--listen", &address, "--log", "json"].as_slice(), 1, address.as_str()),
        (["serve", file.path(), "--log", "json"].as_slice(), 2, "policy.yaml:1:30"),
    ] {
        let ran = run(arguments).exits(code).says(what);
        for line in ran.stderr.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error} in {line}"));
        }
    }
}

#[test]
fn a_port_in_use_is_named_and_exits_with_1() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    run(&["serve", "--limit", "5/minute", "--listen", &address]).exits(1).says(&address);
}

/// The largest number that a file may ask for once ended the process in the allocator.
#[test]
fn more_counters_than_there_is_memory_for_are_an_error() {
    let replayed = File::new("requests.jsonl", "");
    let policy = "store: { memory: { counters: 10000000000 } }\nrules: [ { name: a, limit: 5/minute } ]";
    let policy = File::new("policy.yaml", policy);
    let output = tollgate().args(["replay", policy.path(), replayed.path()]).output().expect("it ends");
    // A system that promises more memory than it has goes on.
    if output.status.code() != Some(0) {
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("228800 MB"), "{output:?}");
    }
}

#[test]
fn a_wrong_file_or_none_exits_with_2() {
    let file = File::new("policy.yaml", "rules: [ { name: a, limit: 5/fortnight } ]");
    run(&["serve", file.path()]).exits(2).says("policy.yaml:1:30");
    let file = File::new("policy.yaml", "rules: [ { name: a, limit: 5/minute } ]");
    run(&["serve", file.path()]).exits(2).says("nowhere to listen");
    let two = "listen: [ { address: '127.0.0.1:1' }, { address: '127.0.0.1:2' } ]\nrules: []";
    run(&["serve", File::new("two.yaml", two).path(), "--listen", "127.0.0.1:0"]).exits(2).says("several listeners");
    let output = tollgate().arg("serve").current_dir(file.folder()).output().expect("it ends");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no tollgate.yaml here"));
}

/// Reads one answer of a connection that goes on: its status line.
fn read_answer(answers: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    answers.read_line(&mut line).expect("a status line");
    let status = line.trim_end().to_owned();
    let mut length = 0;
    while line != "\r\n" {
        line.clear();
        answers.read_line(&mut line).expect("a header");
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    answers.read_exact(&mut body).expect("a body");
    status
}

fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("{name} in {answer}"))
}

/// An upstream that gives everybody the same answer, for as long as the test runs.
fn upstream(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut requests = BufReader::new(stream.try_clone().expect("a second handle"));
                let mut stream = stream;
                let mut line = String::new();
                while requests.read_line(&mut line).is_ok_and(|read| read > 0) {
                    if line == "\r\n" && stream.write_all(answer.as_bytes()).is_err() {
                        break;
                    }
                    line.clear();
                }
            });
        }
    });
    address
}
