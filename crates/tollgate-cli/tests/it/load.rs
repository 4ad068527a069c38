//! `tollgate load` against `tollgate serve`, and against servers that answer oddly.

use std::{
    io::Read as _,
    process::{Command, Stdio},
    sync::{Arc, Barrier},
    thread,
    time::Duration,
};

use serde_json::Value;
use testbed::Port;
use tollgate::clock::Timestamp;

use crate::{
    answering::{Answering, Asked, Reply, ok, status},
    command::{File, Ran, run, tollgate},
    serving::{PATIENCE, Serving},
};

const SECOND: Duration = Duration::from_secs(1);

fn load(url: &str, arguments: &[&str]) -> Ran {
    run(&[&["load", url], arguments].concat())
}

fn load_json(url: &str, arguments: &[&str]) -> Value {
    load(url, &[arguments, &["--output", "json"]].concat()).json()
}

/// The row of an outcome.
fn row<'a>(report: &'a Value, outcome: &str) -> &'a Value {
    let rows = report["outcomes"].as_array().expect("rows");
    rows.iter().find(|row| row["outcome"] == outcome).unwrap_or_else(|| panic!("{outcome} in {report}"))
}

#[test]
fn it_finishes_with_exactly_as_many_successes_as_it_was_asked_for() {
    let server = Serving::start(&["--limit", "20/second", "--listen", "127.0.0.1:0"]);
    let url = format!("http://{}/", server.address);
    let report = load_json(&url, &["--requests", "50", "--connections", "4"]);
    let limited = report["limited"].as_u64().expect("a number");
    assert_eq!((&report["requests"], &report["succeeded"], &report["failed"]), (&50.into(), &50.into(), &0.into()));
    // 20 at once, 20 a second later and ten another second later. Each of the four can have been on the way when the first of
    // them was refused; where requests are slow, a second can be over before anybody is.
    assert!(limited <= 8, "{report}");
    assert_eq!(report["sent"], 50 + limited);
    assert_eq!(row(&report, "200")["count"], 50, "{report}");
    let seconds = |name: &str| report[name].as_f64().expect("a number");
    assert!(seconds("seconds") >= 1.0 && seconds("seconds") >= seconds("seconds_waited"), "{report}");
    assert_eq!(limited > 0, seconds("seconds_waited") > 0.0, "{report}");
}

#[test]
fn waiting_is_nobodys_latency() {
    let server = Answering::start(|n| if n == 5 { status(429, "Retry-After: 1\r\n") } else { ok() });
    let report = load_json(&server.url(), &["--requests", "12", "--connections", "1"]);
    assert_eq!((&row(&report, "200")["count"], &row(&report, "429")["count"]), (&12.into(), &1.into()));
    let (seconds, waited) = (report["seconds"].as_f64().expect("a number"), report["seconds_waited"].as_f64());
    let waited = waited.expect("a number");
    assert!(waited >= 1.0, "{report}");
    // One after the other, so that however long they took they had only the rest of the time.
    let longest = row(&report, "200")["max_ms"].as_f64().expect("a number") / 1_000.0;
    assert!(longest <= seconds - waited + 0.001, "{report}");
}

/// However the server says it, and whether it says it at all.
#[test]
fn nothing_is_sent_before_the_wait_that_was_asked_for_has_passed() {
    let asking = [
        (429, "Retry-After: 1\r\n"),
        (503, "Retry-After: 1\r\n"),
        (429, "RateLimit: \"a\";r=0;t=1\r\n"),
        (429, "RateLimit: limit=5, remaining=0, reset=1\r\n"),
        (429, "X-RateLimit-Remaining: 0\r\nX-RateLimit-Reset-After: 1.000\r\n"),
        (429, ""),
        (429, "Retry-After: soon\r\n"),
    ];
    let waits = asking.map(|(code, headers)| {
        thread::spawn(move || {
            let server = Answering::start(move |n| if n == 6 { status(code, headers) } else { ok() });
            load(&server.url(), &["--requests", "12", "--connections", "1"]).exits(0).says(" 1 limited");
            let asked = server.asked();
            assert_eq!(asked.len(), 13, "{headers}");
            let wait = asked[7].at.since(asked[6].at);
            assert!((SECOND..SECOND * 30).contains(&wait), "{wait:?} after {code} {headers}");
        })
    });
    for wait in waits {
        wait.join().expect("it waited");
    }
}

#[test]
fn what_one_connection_is_asked_to_wait_all_of_them_do() {
    let server = Answering::start(|n| if n == 20 { status(429, "Retry-After: 1\r\n") } else { ok() });
    load(&server.url(), &["--requests", "400", "--connections", "4"]).exits(0).says("400 of 400 succeeded");
    let asked = server.asked();
    let (refused_at, told_at) = (asked[20].at, server.answered(20));
    let is_too_early = |later: &&Asked| later.at > told_at && later.at.since(refused_at) < SECOND;
    let too_early = asked[21..].iter().filter(is_too_early).count();
    // Those that were on the way, or sent before the answer was read; not the hundreds that a second has room for.
    assert!(too_early < 20, "{too_early}");
}

#[test]
fn a_date_to_come_back_at_is_kept() {
    let server = Answering::start(|n| match n {
        // Rounded up twice, so that it is at least a second away.
        0 => status(429, &format!("Retry-After: {}\r\n", http_date(in_two_seconds()))),
        _ => ok(),
    });
    load(&server.url(), &["--requests", "1"]).exits(0);
    let [refused, again] = &server.asked()[..] else { panic!("{:?}", server.asked()) };
    let until = refused.at.as_micros() / 1_000_000 + 2;
    assert!(again.at >= Timestamp::from_micros(until * 1_000_000), "{refused:?} {again:?}");
}

fn in_two_seconds() -> jiff::Timestamp {
    let now = i64::try_from(tollgate::clock::Clock::system().now().as_micros()).expect("this century");
    jiff::Timestamp::from_second(now / 1_000_000 + 2).expect("this century")
}

fn http_date(at: jiff::Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[test]
fn a_server_that_limits_and_asks_for_no_wait_is_left_alone_for_a_moment() {
    let server = Answering::start(|n| if n < 5 { status(429, "Retry-After: 0\r\n") } else { ok() });
    load(&server.url(), &["--requests", "1"]).exits(0).says(" 5 limited");
    let asked = server.asked();
    let hurried = asked.windows(2).filter(|pair| pair[1].at.since(pair[0].at) < SECOND / 10).count();
    assert_eq!(hurried, 0, "{asked:?}");
}

/// It could only send too early, or hang for years.
#[test]
fn a_wait_longer_than_a_day_is_given_up() {
    let server = Answering::start(|_| status(429, "Retry-After: 90000\r\n"));
    let ran = load(&server.url(), &["--requests", "3", "--connections", "1"]).exits(1);
    ran.says("asks to be left alone for 90000 s, more than a day").says("0 of 3 succeeded, 0 failed, 1 limited");
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn other_answers_are_failures_and_done() {
    let server = Answering::start(|n| match n {
        0 => status(404, ""),
        1 => status(500, "Retry-After: 60\r\n"),
        2 => status(302, "Location: /elsewhere\r\n"),
        3 => Reply::Close("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nbroken off".to_owned()),
        4 => Reply::Close("SSH-2.0-nonsense\r\n\r\n".to_owned()),
        _ => ok(),
    });
    let ran = load(&server.url(), &["--requests", "9", "--connections", "1"]).exits(1);
    let ran = ran.says("5 of 9 succeeded, 4 failed, 0 limited").says("error: 4 of 9 requests failed");
    assert_eq!(server.asked().len(), 9);
    let rows: Vec<_> = ran.stdout.lines().skip(6).map(|line| line[..26].trim_end()).collect();
    let row = |name: &str, count: u32| format!("{name:<16}{count:>10}");
    assert_eq!(rows, [row("200", 4), row("302", 1), row("404", 1), row("500", 1), row("broken off", 2)]);
}

#[test]
fn ten_refused_connections_in_a_row_end_it() {
    let gone = Port::take();
    let ran =
        load(&format!("http://{}/", gone.addr()), &[]).exits(1).says("10 connections in a row failed").says("refused");
    assert!(ran.stdout.contains("0 of 100 succeeded") && ran.stdout.contains("\n0 sent in "), "{}", ran.stdout);
    load("http://nowhere.invalid/", &[]).exits(1).says("error: nowhere.invalid: no address");
}

#[test]
fn ctrl_c_prints_the_table_so_far() {
    let (waiting, is_waiting) = std::sync::mpsc::channel();
    let server = Answering::start(move |n| match n {
        0..3 => ok(),
        _ => {
            let _ = waiting.send(());
            status(429, "Retry-After: 600\r\n")
        }
    });
    let child = tollgate()
        .args(["load", &server.url(), "--requests", "9", "--connections", "1"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary is built");
    is_waiting.recv_timeout(PATIENCE).expect("it comes so far");
    let kill = Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill is there").success());
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("/, interrupted\n3 of 9 succeeded, 0 failed, "), "{said}");
    assert!(said.contains("\n200                      3 "), "{said}");
    // Not the whole wait has been waited for.
    let waited = said.lines().find_map(|line| line.strip_suffix(" s spent waiting as asked")).expect("it says so");
    assert!(waited.parse::<f64>().expect("a number") < 300.0, "{said}");
}

#[test]
fn requests_go_out_at_a_steady_pace() {
    let server = Answering::start(|_| ok());
    let started = server.clock.now();
    let report = load_json(&server.url(), &["--rate", "20/second", "--requests", "11"]);
    assert!((0.5..30.0).contains(&report["seconds"].as_f64().expect("a number")), "{report}");
    let asked = server.asked();
    assert_eq!(asked.len(), 11);
    // From before the start, since any of them can be late, the first as well.
    for (i, asked) in (0_u64..).zip(&asked) {
        let after = asked.at.since(started);
        assert!(after >= Duration::from_millis(50 * i), "request {i} after {after:?}");
    }
}

/// A client that waits for each answer before it sends the next measures a slow server as fast as it answers, and not as slow as
/// those would find it who do not wait for each other.
#[test]
fn latency_counts_from_when_a_request_was_due() {
    let server = Answering::start(|_| {
        thread::sleep(Duration::from_millis(100));
        ok()
    });
    let one = ["--rate", "50/second", "--requests", "8", "--connections", "1"];
    let report = load_json(&server.url(), &one);
    // The eighth was due after 140 ms, and answered after 800.
    assert!(row(&report, "200")["max_ms"].as_f64() >= Some(600.0), "{report}");

    // With a connection for each, none waits for another: nobody is answered before all have come.
    let all = Arc::new(Barrier::new(8));
    let server = Answering::start(move |_| {
        all.wait();
        ok()
    });
    let report = load_json(&server.url(), &["--rate", "50/second", "--requests", "8", "--connections", "9"]);
    assert_eq!(row(&report, "200")["count"], 8, "{report}");
    assert!(row(&report, "200")["max_ms"].as_f64() >= Some(140.0), "{report}");
}

#[test]
fn connections_are_kept_and_no_more_of_them_than_told() {
    let server = Answering::start(|_| ok());
    load(&server.url(), &["--requests", "60", "--connections", "3"]).exits(0);
    assert!((1..=3).contains(&server.connections()), "{}", server.connections());
}

#[test]
fn a_connection_that_the_server_closes_between_requests_is_no_failure() {
    let server = Answering::start(|_| Reply::Close("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".to_owned()));
    load(&server.url(), &["--requests", "30"]).exits(0).says("30 of 30 succeeded");
}

/// Whether the server has seen the request then, nobody knows; so it is sent again only if that makes no difference.
#[test]
fn a_request_that_met_a_closing_connection_is_sent_again_if_it_may_be() {
    for (method, failed, outcome) in [("GET", 0, "closed when idle"), ("POST", 1, "broken off")] {
        let server = Answering::start(|n| if n == 3 { Reply::Close(String::new()) } else { ok() });
        let report = load_json(&server.url(), &["--requests", "6", "--connections", "1", "--method", method]);
        assert_eq!((&report["failed"], &row(&report, outcome)["count"]), (&failed.into(), &1.into()), "{report}");
        assert_eq!(report["succeeded"], 6 - failed, "{report}");
    }
}

#[test]
fn it_sends_what_it_was_told_to() {
    let server = Answering::start(|_| ok());
    let file = File::new("body.txt", "from a file");
    let url = format!("{}a/b?c=d#e", server.url());
    load(&url, &["--requests", "1"]).exits(0);
    let told = ["--requests", "1", "--method", "POST", "--header", "Host: a.example", "--header", "X-Key: k", "--body"];
    load(&url, &[&told[..], &["a text"]].concat()).exits(0);
    load(&url, &["--requests", "1", "--method", "PATCH", "--body", &format!("@{}", file.path())]).exits(0);
    let [get, post, patch] = &server.asked()[..] else { panic!("{:?}", server.asked()) };
    assert!(get.text.starts_with("GET /a/b?c=d HTTP/1.1\r\n"), "{get:?}");
    assert!(get.text.contains(&format!("\r\nhost: {}\r\n", server.address)), "{get:?}");
    assert!(get.text.contains("\r\nuser-agent: tollgate/") && get.text.ends_with("\r\n\r\n"), "{get:?}");
    assert!(post.text.starts_with("POST /a/b?c=d HTTP/1.1\r\n"), "{post:?}");
    assert!(post.text.contains("\r\nhost: a.example\r\n") && post.text.contains("\r\nx-key: k\r\n"), "{post:?}");
    assert!(post.text.contains("\r\ncontent-length: 6\r\n") && post.text.ends_with("\r\n\r\na text"), "{post:?}");
    assert!(patch.text.starts_with("PATCH ") && patch.text.ends_with("\r\n\r\nfrom a file"), "{patch:?}");
}

#[test]
fn the_picture_is_well_formed_and_shows_sent_succeeded_and_limited() {
    let server = Answering::start(|n| if n == 5 { status(429, "Retry-After: 1\r\n") } else { ok() });
    let plot = File::new("plot.svg", "");
    let url = format!("{}?a=1&b=2", server.url());
    load(&url, &["--requests", "20", "--plot", plot.path()]).exits(0);
    let mut svg = String::new();
    std::fs::File::open(plot.path()).expect("it is there").read_to_string(&mut svg).expect("UTF-8");
    assert_well_formed(&svg);
    for part in
        [">21 sent, 20 succeeded, 1 limited: http://", "?a=1&amp;b=2<", ">sent<", ">limited<", ">seconds<", "<circle "]
    {
        assert!(svg.contains(part), "{part} in {svg}");
    }
}

#[test]
fn a_picture_stays_until_there_is_another_one() {
    let plot = File::new("kept.svg", "the last one, which is longer than nothing");
    let gone = Port::take();
    load(&format!("http://{}/", gone.addr()), &["--plot", plot.path()]).exits(1).says("10 connections in a row failed");
    assert_eq!(std::fs::read_to_string(plot.path()).expect("text"), "the last one, which is longer than nothing");
    std::fs::write(plot.path(), "x".repeat(100_000)).expect("a longer one");
    load(&Answering::start(|_| ok()).url(), &["--requests", "1", "--plot", plot.path()]).exits(0);
    assert_well_formed(&std::fs::read_to_string(plot.path()).expect("text"));
}

/// Every element is closed, in the right order, and nothing stands unescaped.
fn assert_well_formed(svg: &str) {
    let mut open = Vec::new();
    for part in svg.split('<').skip(1) {
        let (tag, text) = part.split_once('>').unwrap_or_else(|| panic!("no end of <{part}"));
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        assert!(!text.contains('>'), "{text}");
        for entity in text.split('&').skip(1) {
            assert!(["amp;", "lt;", "gt;"].iter().any(|known| entity.starts_with(known)), "&{entity}");
        }
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name)),
            None if tag.ends_with('/') => {}
            None => open.push(tag.split([' ', '\n']).next().expect("split gives one")),
        }
    }
    assert!(open.is_empty() && svg.starts_with("<svg "), "{open:?}");
}

#[test]
fn wrong_usage_is_told_before_anything_is_sent() {
    let server = Answering::start(|_| ok());
    let url = server.url();
    for (arguments, what) in [
        (&["https://example.com/"][..], "TLS is not spoken yet, give the http:// URL"),
        (&["example.com"], "expected http://HOST:PORT/PATH"),
        (&["http://:80/"], "expected http://HOST:PORT/PATH"),
        (&["http://h:0/"], "the port is not one from 1 to 65535"),
        (&["http://ann:pw@h/"], "--header 'Authorization: …'"),
        (&[&url, "--rate", "0/minute"], "expected one rate above zero, such as 2000/minute"),
        (&[&url, "--rate", "5/second burst 9"], "a pace has no burst"),
        (&[&url, "--requests", "0"], "--requests"),
        (&[&url, "--connections", "10001"], "--connections"),
        (&[&url, "--method", "GE T"], "expected a method"),
        (&[&url, "--header", "X-Key"], "expected 'Name: value'"),
        (&[&url, "--header", "X Key: a"], "no name of a header"),
        (&[&url, "--header", "Content-Length: 3"], "follows from --body"),
        (&[&url, "--body", "@no/such/file"], "no/such/file: No such file"),
        (&[&url, "--plot", "no/such/folder.svg"], "--plot no/such/folder.svg: No such file"),
    ] {
        run(&[&["load"], arguments].concat()).exits(2).says(what);
    }
    assert_eq!(server.asked().len(), 0);
}
