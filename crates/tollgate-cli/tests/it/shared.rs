//! `tollgate serve` with a store that instances share: a real Redis, which also goes away.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use testbed::{Server, wait_for};
use tollgate::clock::Clock;

use crate::{
    command::{File, run},
    serving::{PATIENCE, Serving, connect},
};

/// The status codes of so many requests on one connection, by way of a header that tells clients apart.
fn codes(server: &Serving, requests: usize, client: &str) -> Vec<u16> {
    let mut stream = connect(server.address);
    let mut answers = BufReader::new(stream.try_clone().expect("it can be shared"));
    let ask = |_| {
        write!(stream, "GET / HTTP/1.1\r\nHost: t\r\nX-Client: {client}\r\n\r\n").expect("it can be asked");
        let mut line = String::new();
        answers.read_line(&mut line).expect("an answer");
        let code = line[9..12].parse().expect("a status code");
        let mut length = 0;
        loop {
            line.clear();
            answers.read_line(&mut line).expect("a header");
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            if line == "\r\n" {
                break;
            }
        }
        std::io::copy(&mut std::io::Read::take(&mut answers, length), &mut std::io::sink()).expect("a body");
        code
    };
    (0..requests).map(ask).collect()
}

fn instance(store: &str, policy: &str) -> (Serving, File) {
    let file = File::new("tollgate.yaml", &format!("listen: [{{ address: 127.0.0.1:0 }}]\nstore: {store}\n{policy}"));
    (Serving::start(&[file.path()]), file)
}

#[test]
fn two_instances_admit_together_what_one_may() {
    let redis = Server::redis();
    // Patience, for whoever waits longer counts in memory: a machine that tests on all sides is slow at times.
    let store = format!("{{ url: 'redis://{}', timeout: 10s }}", redis.addr());
    let policy = "rules: [{ name: api, limit: 1000/hour, by: 'header:X-Client' }]";
    let instances = [instance(&store, policy), instance(&store, policy)];
    redis.command(&["CONFIG", "RESETSTAT"]);
    let passed = AtomicUsize::new(0);
    thread::scope(|scope| {
        for n in 0..10 {
            let (server, _) = &instances[n % 2];
            let passed = &passed;
            scope.spawn(move || {
                let codes = codes(server, 500, "everybody");
                passed.fetch_add(codes.iter().filter(|code| **code == 200).count(), Ordering::Relaxed);
                assert!(codes.iter().all(|code| matches!(code, 200 | 429)), "{codes:?}");
            });
        }
    });
    assert_eq!(passed.into_inner(), 1_000);
    let statistics = redis.command(&["INFO", "commandstats"]).text().to_owned();
    let calls = |name: &str| {
        let line = statistics.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
        line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0_usize)
    };
    assert!((1..=5_000).contains(&(calls("evalsha") + calls("eval"))), "{statistics}");
}

#[test]
fn each_rule_has_its_own_word_while_the_store_is_away() {
    let redis = Server::redis();
    // Long enough for the busiest machine; that nobody answers is known much sooner.
    const TIMEOUT: Duration = Duration::from_secs(10);
    let store = format!("{{ url: 'redis://{}', timeout: {}s }}", redis.addr(), TIMEOUT.as_secs());
    let rule = |name: &str, answer: &str| {
        format!(
            "- {{ name: {name}, limit: 3/hour, by: 'header:X-Client', match: {{ header: {{ X-Client: {name} }} }}{answer} }}\n"
        )
    };
    let rules = [rule("local", ""), rule("allow", ", on_store_error: allow"), rule("deny", ", on_store_error: deny")];
    let (server, _file) = instance(&store, &format!("rules:\n{}", rules.concat()));
    assert_eq!(codes(&server, 4, "deny"), [200, 200, 200, 429]);

    redis.kill9();
    // As many as make it clear that nobody answers.
    codes(&server, 4, "allow");
    let clock = Clock::system();
    let asked = clock.now();
    assert_eq!(codes(&server, 5, "local"), [200, 200, 200, 429, 429]);
    assert_eq!(codes(&server, 5, "allow"), [200; 5]);
    assert_eq!(codes(&server, 3, "deny"), [503; 3]);
    let waited = clock.now().since(asked);
    assert!(waited < TIMEOUT, "they waited for {waited:?}");
    let denied = server.get("/", "X-Client: deny\r\n");
    assert!(denied.contains("http-problem-types#temporary-reduced-capacity"), "{denied}");
    assert!(denied.to_ascii_lowercase().contains("retry-after: 1\r\n"), "{denied}");

    redis.restart();
    wait_for("the store that is back to be asked", PATIENCE, || (codes(&server, 1, "deny") == [200]).then_some(()));
    // What is calm for a second is over.
    thread::sleep(Duration::from_millis(1_100));
    codes(&server, 1, "allow");
    let (status, log) = server.end("TERM");
    assert!(status.success(), "{log}");
    let said = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!(said("the shared store does not answer"), 1, "{log}");
    assert_eq!(said("the shared store answers again"), 1, "{log}");
    assert!(log.contains("decided without it: allow "), "{log}");
}

#[test]
fn a_store_that_is_away_at_the_start_is_said_and_no_crash() {
    let server = Serving::start(&["--limit", "2/minute", "--listen", "127.0.0.1:0", "--store", "redis://127.0.0.1:1"]);
    assert_eq!(codes(&server, 3, "anybody"), [200, 200, 429]);
}

#[test]
fn a_wrong_store_is_a_mistake_with_its_place() {
    let policy = File::new("tollgate.yaml", "store: redis://:secret@localhost:port\nrules: []\n");
    let said = run(&["check", policy.path()]).exits(2);
    let said = said.says("tollgate.yaml:1:8: store: \"localhost:port\": expected HOST:PORT");
    // The line that it shows is the operator's own.
    assert!(said.stderr.matches("secret").count() <= 1, "{}", said.stderr);
    run(&["serve", "--limit", "5/minute", "--store", "redis://localhost?prefx=shop"])
        .exits(2)
        .says("unknown parameter \"prefx\"");
}

#[test]
fn check_says_where_rules_count_and_not_the_password() {
    let policy = File::new(
        "tollgate.yaml",
        "store: { url: 'redis://tollgate:secret@cache:6379', timeout: 50ms }\n\
         rules:\n- { name: api, limit: 5/hour, lease: 2, on_store_error: deny }\n",
    );
    let said = run(&["check", policy.path()]).exits(0).says("in redis://cache:6379, asked for 50 ms at most");
    let said = said.says("in shares of 2 for each instance, everything denied while it does not answer");
    assert!(!said.stdout.contains("secret"), "{}", said.stdout);
}
