//! Plain requests, which are decided before they are read in full: answered and counted as all others are, and never found
//! in the middle of something else.

use std::{sync::mpsc, thread, time::Duration};

use tollgate::{
    answer::{OnLimit, Template},
    clock::{ManualClock, Timestamp},
};

use crate::rig::{Answer, PATIENCE, Setup, Upstream, Wire, in_time, ok};

/// The same request, plain and with one header more, so that it is not.
pub(crate) fn both_ways(target: &str, headers: &str) -> [String; 2] {
    ["", "Content-Length: 0\r\n"].map(|more| format!("GET {target} HTTP/1.1\r\n{headers}{more}\r\n"))
}

/// All of an answer but for the second in which it was given.
fn all_of(answer: &Answer) -> (String, Vec<String>, String) {
    let (first, mut headers, body) = answer.parts();
    let is_date = |line: &&mut String| line.starts_with("date: ") && line.ends_with(" GMT");
    headers.iter_mut().filter(is_date).for_each(|date| *date = "date: now".to_owned());
    (first, headers, body)
}

#[test]
fn plain_requests_are_denied_as_others_are() {
    let with_on_limit = |on_limit: OnLimit| {
        let clock = ManualClock::new(Timestamp::from_micros(0)).into();
        let mut setup = Setup { clock, ..Setup::alone() }.denying().with(
            "{ name: many, limit: '0/hour; 0/day', headers: [ietf, x-rate-limit] }, { name: shadow, mode: shadow, limit: 0/hour }",
        );
        setup.rules[0].on_limit = on_limit;
        setup.start()
    };
    let own = Template::new("{rule}: {limit} {retry_after}");
    let own_headers =
        vec![("X-Reason".to_owned(), "quota".to_owned()), ("Cache-Control".to_owned(), "private".to_owned())];
    for on_limit in [
        OnLimit::default(),
        OnLimit { status_code: Some(503), plain: Some(own.clone()), html: Some(own.clone()), ..OnLimit::default() },
        OnLimit { json: Some(Template::new("")), ..OnLimit::default() },
        // Which has no body, whatever the rule says.
        OnLimit { status_code: Some(204), ..OnLimit::default() },
        OnLimit { headers: own_headers, json: Some(own), ..OnLimit::default() },
    ] {
        let proxy = with_on_limit(on_limit);
        for headers in [
            "Host: a\r\n",
            "hOST: a.example:80\r\nConnection: Keep-Alive\r\n",
            "Host: a\r\nAccept: text/html\r\n",
            "Host: a\r\nACCEPT: text/plain;q=0.5\r\nAccept: text/html;q=0.4\r\n",
            "Host: a\r\nContent-Type: application/grpc+proto\r\n",
        ] {
            let [plain, other] = both_ways("/denied/x?y=z", headers).map(|request| {
                let mut wire = proxy.connect();
                // Of a connection that lives on.
                [(); 2].map(|()| {
                    wire.write(&request);
                    all_of(&wire.answer())
                })
            });
            assert_eq!(plain, other, "{headers}");
        }
    }
}

#[test]
fn plain_requests_are_counted_with_others() {
    let check = |by: &str, requests: [(&str, &str); 2], are_two: bool| {
        for is_plain_first in [true, false] {
            let rule = format!("{{ name: one, by: [{by}], limit: 1/hour }}");
            let proxy = Setup::alone().trusting().with(&rule).start();
            let statuses = requests.map(|(target, headers)| {
                let mut asked = both_ways(target, &format!("{headers}Accept: */*\r\n"));
                if !is_plain_first {
                    asked.reverse();
                }
                asked.map(|request| proxy.ask(&request).status)
            });
            assert_eq!(statuses, [[200, 429], [if are_two { 200 } else { 429 }, 429]], "{by}");
        }
    };
    check("host", [("/", "Host: a\r\n"), ("/", "Host: b:80\r\n")], true);
    check("path", [("/a;b/%41?c", "Host: a\r\n"), ("//a/~", "Host: a\r\n")], true);
    check("'query:q'", [("/?q=%61", "Host: a\r\n"), ("/?q=b?c", "Host: a\r\n")], true);
    check("'cookie:c'", [("/", "Host: a\r\nCookie: c=1\r\n"), ("/", "Host: a\r\nCookie: c=2\r\n")], true);
    check("'header:X-Key'", [("/", "Host: a\r\nx-KEY: \t1 \r\n"), ("/", "Host: a\r\nX-Key: 1\r\nX-Key: 2\r\n")], true);
    check("'header:X-User'", [("/", "Host: a\r\nX-User: a\r\n"), ("/", "Host: a\r\nX-User: b\r\n")], true);
    let forwarded = [
        "Host: a\r\nX-Forwarded-For: 1.1.1.1\r\n",
        "Host: a\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n",
    ];
    check("client", forwarded.map(|headers| ("/", headers)), true);
    check("listener", [("/", "Host: a\r\n"), ("/b", "Host: b\r\n")], false);
    check("method", [("/", "Host: a\r\n"), ("/b", "Host: b\r\n")], false);
    // It is for this hop, so no rule sees it.
    check("'header:TE'", [("/", "Host: a\r\n"), ("/", "Host: a\r\nTE: trailers\r\n")], false);
    check("'header:Connection'", [("/", "Host: a\r\n"), ("/", "Host: a\r\nConnection: keep-alive\r\n")], false);
}

/// What looks like a plain request but is a body, or a header, or the rest of either.
#[test]
fn wherever_a_connection_is_cut_it_carries_the_same_requests() {
    const DENIED: (&str, u16) = ("GET /denied/x HTTP/1.1\r\nHost: a\r\n\r\n", 429);
    const ALLOWED: (&str, u16) = ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200);
    const TRICKY: [(&str, u16); 4] = [
        ("GET / HTTP/1.1\r\nX: GET /denied/x HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 37\r\n\r\nGET /denied/xyz HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET /denied/x HTTP/1.1\r\nHost: a\r\nContent-Length: 27\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 429),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\n\r\n\r\n25\r\nGET /denied/xyz HTTP/1.1\r\nHost: a\r\n\r\n\r\n0\r\n\r\n",
            200,
        ),
    ];
    let proxy = Setup::alone().denying().start();
    for before in [&[][..], &[DENIED], &[ALLOWED], &[ALLOWED, TRICKY[0]]] {
        for last in [DENIED, ALLOWED].iter().chain(&TRICKY) {
            let requests = || before.iter().chain([last]);
            let bytes: String = requests().map(|(bytes, _)| *bytes).collect();
            for cut in 1..bytes.len() {
                let mut wire = proxy.connect_with(&bytes[..cut]);
                let (mut end, mut is_cut) = (0, true);
                for (request, status) in requests() {
                    end += request.len();
                    // What is whole is answered first, so that the two parts are read apart.
                    if end > cut && is_cut {
                        is_cut = false;
                        thread::sleep(Duration::from_millis(1)); // until the first is read
                        wire.write(&bytes[cut..]);
                    }
                    assert_eq!(wire.answer().status, *status, "cut at {cut} of {bytes:?}");
                }
                wire.write(DENIED.0);
                assert_eq!(wire.answer().status, DENIED.1, "cut at {cut} of {bytes:?}");
                wire.end_writing();
                assert!(wire.is_closed(), "cut at {cut} of {bytes:?}");
            }
        }
    }
}

#[test]
fn a_denied_request_that_comes_when_the_server_ends_is_answered_and_the_last() {
    // Whoever has not said anything yet is given a second.
    assert!(in_time(|_| {
        let proxy = Setup::alone().denying().start();
        let mut wire = proxy.connect();
        thread::sleep(Duration::from_millis(50)); // until it is accepted
        proxy.stopper.finish();
        thread::sleep(Duration::from_millis(50)); // until it is asked to leave
        wire.write(DENIED);
        let is_answered = wire.try_answer().is_some_and(|answer| answer.status == 429);
        assert!(wire.is_closed());
        proxy.join();
        is_answered
    }));
}

#[test]
fn what_is_not_plain_is_read_in_full() {
    let mut setup = Setup::alone().denying();
    // Too late to be taken for the end of the connection.
    setup.timeouts.idle = 2 * PATIENCE;
    let proxy = setup.start();
    for (request, status) in [
        ("GET /denied/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 429),
        ("GET /denied/x HTTP/1.0\r\nHost: a\r\n\r\n", 429),
        ("GET /denied/x HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\n\r\n", 417),
        ("GET /denied/x HTTP/1.1\r\n\r\n", 400),
        ("GET /denied/x HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET /denied/x HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("GET /denied/` HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /denied/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
    ] {
        let mut wire = proxy.connect_with(request);
        assert_eq!(wire.answer().status, status, "{request}");
        assert!(wire.is_closed(), "{request}");
    }
}

/// Whoever passes that on, hyper or not.
#[test]
fn a_plain_request_waits_for_the_answer_to_the_one_before() {
    let in_chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nlate\r\n0\r\n\r\n".to_owned();
    for late in [ok("late"), in_chunks] {
        let (go, gone) = mpsc::channel::<()>();
        let gone = std::sync::Mutex::new(gone);
        let upstream = Upstream::new(move |wire, _| {
            while wire.request().is_some() {
                gone.lock().unwrap().recv().unwrap();
                wire.write(&late);
            }
        });
        let proxy = Setup::to(upstream.address).denying().start();
        let mut wire = proxy.connect();
        for _ in 0..3 {
            wire.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            wire.until_read();
            wire.write("GET /denied/x HTTP/1.1\r\nHost: a\r\n\r\n");
            thread::sleep(Duration::from_millis(50)); // until it could be read
            go.send(()).unwrap();
            assert_eq!(wire.answer().body(), "late");
            assert_eq!(wire.answer().status, 429);
        }
    }
}

#[test]
fn plain_requests_are_bounded_as_others_are() {
    let mut setup = Setup::alone().denying();
    setup.limits.headers = 4;
    setup.limits.header_bytes = 1024;
    let proxy = setup.start();
    for (headers, status) in [
        ("A: 1\r\nB: 2\r\nC: 3\r\n".to_owned(), 429),
        ("A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n".to_owned(), 431),
        (format!("A: {}\r\n", "x".repeat(900)), 429),
        (format!("A: {}\r\n", "x".repeat(1000)), 431),
    ] {
        let request = format!("GET /denied/x HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        assert_eq!(proxy.ask(&request).status, status, "{headers}");
    }
}

const DENIED: &str = "GET /denied/x HTTP/1.1\r\nHost: a\r\n\r\n";
/// More than sockets take that nobody reads.
const LARGE: usize = 16 << 20;

/// A proxy whose denials are large.
fn talkative() -> Setup {
    let mut setup = Setup::alone().denying();
    setup.rules[0].on_limit.json = Some(Template::new(&"x".repeat(LARGE)));
    setup
}

/// A client that has asked, and does not read until the sockets are full.
fn slow(wire: &Wire) {
    wire.write(DENIED);
    thread::sleep(Duration::from_millis(200));
}

#[test]
fn an_answer_to_a_slow_reader_is_whole_and_the_next_comes_after_it() {
    let proxy = talkative().start();
    let mut wire = proxy.connect();
    slow(&wire);
    slow(&wire);
    wire.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    for _ in 0..2 {
        assert_eq!(wire.answer().body().len(), LARGE);
    }
    assert_eq!(wire.answer().status, 200);
}

#[test]
fn a_slow_reader_that_has_said_its_last_gets_its_answer() {
    let proxy = talkative().start();
    let mut wire = proxy.connect();
    wire.write(DENIED);
    wire.end_writing();
    thread::sleep(Duration::from_millis(200)); // until the sockets are full
    assert_eq!(wire.answer().body().len(), LARGE);
    assert!(wire.is_closed());
}

#[test]
fn a_slow_reader_gets_its_answer_from_a_server_that_ends() {
    let proxy = talkative().start();
    let mut wires: Vec<_> = [false, true]
        .into_iter()
        .map(|is_used| {
            let mut wire = proxy.connect();
            if is_used {
                wire.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                assert_eq!(wire.answer().status, 200);
            }
            wire
        })
        .collect();
    wires.iter().for_each(slow);
    wires.iter().for_each(Wire::until_read);
    proxy.stopper.finish();
    thread::sleep(Duration::from_millis(200)); // until everybody is asked to leave
    for wire in &mut wires {
        assert_eq!(wire.answer().body().len(), LARGE);
        assert!(wire.is_closed());
    }
    proxy.join();
}

#[test]
fn whoever_was_denied_holds_no_place_that_another_needs() {
    let mut setup = Setup::alone().denying();
    setup.limits.connections = 1;
    setup.timeouts.idle = 2 * PATIENCE;
    let proxy = setup.start();
    let mut wire = proxy.connect_with(DENIED);
    assert_eq!(wire.answer().status, 429);
    assert_eq!(proxy.ask_for_a_place(DENIED).1.status, 429);
    assert!(wire.is_closed());
}

#[test]
fn whoever_does_not_read_his_denial_is_not_waited_for() {
    let mut setup = talkative();
    setup.timeouts.idle = Duration::from_millis(300);
    let proxy = setup.start();
    let mut wire = proxy.connect();
    slow(&wire);
    wire.until_let_go();
    assert!(wire.rest().0.len() < LARGE);
}

#[test]
fn whoever_does_not_read_his_denial_holds_no_place_that_another_needs() {
    let mut setup = talkative();
    setup.limits.connections = 1;
    let proxy = setup.start();
    let mut wire = proxy.connect();
    slow(&wire);
    assert_eq!(proxy.ask_for_a_place("GET / HTTP/1.1\r\nHost: a\r\n\r\n").1.status, 200);
    assert!(wire.rest().0.len() < LARGE);
}
