//! Plain requests that are allowed, and plain answers: what is passed on without hyper is what hyper would have passed on.

use std::{
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use tollgate::client::{Subnets, TrustedProxy};

use crate::{
    early::both_ways,
    rig::{Answer, PATIENCE, Setup, Upstream, in_time, ok},
};

const ASKED: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn plain_requests_reach_the_upstream_as_others_do() {
    let upstream = Upstream::echo();
    let mut among_others = Setup::to(upstream.address).trusting();
    let mut from = Subnets::default();
    from.add("192.0.2.1".parse().unwrap());
    among_others.trusted_proxies.push(TrustedProxy {
        from,
        header: "x-real-ip".to_owned(),
        vouches: vec!["x-tenant".to_owned()],
    });
    let mut by_another_header = Setup::to(upstream.address).trusting();
    by_another_header.trusted_proxies[0].header = "x-real-ip".to_owned();
    let usual = [Setup::to(upstream.address), Setup::to(upstream.address).trusting()];
    for setup in usual.into_iter().chain([among_others, by_another_header]) {
        let proxy = setup.start();
        for headers in [
            "Host: a\r\n",
            "hOST: A.example:80\r\nConnection: Keep-Alive\r\nACCEPT: */*\r\nX-Empty:\r\nX-Text: \t é, 1:2 \r\n",
            "Cookie: a=1\r\nHost: a\r\nCookie: b=2\r\n",
            "Host: a\r\nX-Forwarded-For: 1.1.1.1\r\n",
            "X-Forwarded-FOR:\r\nHost: a\r\nX-Forwarded-Host: b\r\nX-Forwarded-Proto: https\r\nX-Real-IP: 1.1.1.1\r\n",
            "Host: a\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2\t, é\r\nX-Forwarded-Port: 81\r\n",
            "Host: a\r\nX-Forwarded-Proto: https\r\nForwarded: proto=https\r\n",
            "Host: a\r\nX-FORWARDED-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\nX-Forwarded-Proto: https\r\n",
            "Host: a\r\nx-forwarded-Whatever: 1\r\n",
            "Host: a\r\nForwarded: for=1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\n",
            "Host: a\r\nX_Forwarded_For: 1.1.1.1\r\nContent_Length: 7\r\nX_Other: 1\r\n",
            "Host: a\r\nX-User: root\r\n",
            "Host: a\r\nX_User: root\r\n",
            "Host: a\r\nX-Tenant: all\r\n",
            "Host: a\r\nTrailer: X-Forwarded-For, X-A\r\n",
        ] {
            let [plain, other] = both_ways("/a;b/%41?c=d?e", headers).map(|request| {
                let mut lines: Vec<_> = proxy.ask(&request).body().lines().map(str::to_owned).collect();
                lines.retain(|line| !line.starts_with("content-length: "));
                lines.sort_unstable();
                lines
            });
            assert_eq!(plain, other, "{headers}");
        }
    }
}

/// Whose peer is no proxy, where there are some.
#[test]
fn nobody_else_says_what_proxies_say() {
    let upstream = Upstream::echo();
    let mut setup = Setup::to(upstream.address).trusting();
    setup.trusted_proxies[0].from = Default::default();
    setup.trusted_proxies[0].from.add("192.0.2.1".parse().unwrap());
    let proxy = setup.start();
    for claim in ["X-USER: root\r\n", "X-Forwarded-For: 1.1.1.1\r\n"] {
        for request in both_ways("/", &format!("Host: a\r\n{claim}")) {
            let seen = proxy.ask(&request).body().to_owned();
            assert!(!seen.contains("x-user") && seen.contains("x-forwarded-for: 127.0.0.1\r\n"), "{seen}");
        }
    }
}

/// Answers, and whether the upstream closes after them.
const ANSWERS: [(&str, bool); 24] = [
    ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false),
    ("HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n", false),
    ("HTTP/1.1 200 \r\nCONTENT-length:  3 \r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n123", false),
    (
        "HTTP/1.1 404 Nothing Here\r\nconnection: Keep-Alive\r\nKeep-Alive: timeout=5\r\nContent-Length: 1\r\n\r\n!",
        false,
    ),
    ("HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nRateLimit: \"up\";r=1\r\nContent-Length: 0\r\n\r\n", false),
    ("HTTP/1.1 200 OK\r\nX-RateLimit-Limit: 9\r\nX-RateLimit-Remaining: 0\r\nContent-Length: 0\r\n\r\n", false),
    ("HTTP/1.1 200 OK\r\nX-RATELIMIT-Limit: 9\r\nContent-Length: 0\r\n\r\n", false),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", false),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n5\r\nhello\r\n0\r\n\r\n", false),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 2\r\n\r\nhi", true),
    ("HTTP/1.1 204 No Content\r\n\r\n", false),
    ("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n", false),
    ("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 5\r\n\r\n", false),
    ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", false),
    ("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", false),
    ("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", true),
    ("HTTP/1.1 200 OK\r\nConnection: close, X-A\r\nX-A: b\r\nContent-Length: 2\r\n\r\nhi", true),
    ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", false),
    ("HTTP/1.1 200 OK\r\nContent-Length: 02\r\n\r\nhi", false),
    ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi, and more", true),
    ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", true),
    ("HTTP/1.1 200 OK\r\nX-Long: until the end\r\n\r\nof the connection", true),
    ("HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nhi", true),
    // Which has no body, whatever it says.
    ("HTTP/1.1 103 Early Hints\r\nContent-Length: 40\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", false),
];

/// An upstream that answers by the number in the target, in two pieces if another number says where to cut.
fn answering() -> Upstream {
    Upstream::new(|wire, _| {
        while let Some(request) = wire.request() {
            let target = request.head.split(' ').nth(1).unwrap();
            let mut numbers = target.trim_start_matches('/').split('/').map(|number| number.parse::<usize>().unwrap());
            let (answer, closes) = ANSWERS[numbers.next().unwrap()];
            if let Some(cut) = numbers.next() {
                wire.write(&answer[..cut]);
                thread::sleep(Duration::from_millis(1)); // until it is read
                wire.write(&answer[cut..]);
            } else {
                wire.write(answer);
            }
            if closes {
                return;
            }
        }
    })
}

#[test]
fn answers_reach_the_client_alike_whoever_reads_them() {
    let upstream = answering();
    let proxy =
        Setup::to(upstream.address).with("{ name: many, limit: 100000/hour, headers: [ietf, x-ratelimit] }").start();
    let ask = |target: &str| {
        let without_counts = |line: &String| {
            let changing = ["date: ", "ratelimit: ", "x-ratelimit-remaining: 99", "x-ratelimit-reset: "];
            !changing.iter().any(|name| line.starts_with(name)) || line.contains("1994")
        };
        both_ways(target, "Host: a\r\n").map(|request| {
            let mut wire = proxy.connect_with(&request);
            let (first, mut headers, body) = wire.answer().parts();
            let limits = headers.iter().filter(|line| line.starts_with("ratelimit: ")).count();
            let dates = headers.iter().filter(|line| line.starts_with("date: ")).count();
            headers.retain(without_counts);
            // And the next one is answered too.
            wire.write("GET /0 HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(wire.answer().body(), "hello");
            (first, headers, body, limits, dates)
        })
    };
    for (n, (answer, _)) in ANSWERS.iter().enumerate() {
        let [plain, other] = ask(&format!("/{n}"));
        assert_eq!(plain, other, "{answer:?}");
        assert_eq!(plain.4, 1, "{answer:?}");
    }
}

#[test]
fn wherever_an_answer_is_cut_it_is_the_same() {
    let upstream = answering();
    let proxy = Setup::to(upstream.address).start();
    // Of what comes unasked, the rest can come when somebody else asks already.
    let orderly = ANSWERS.iter().enumerate().filter(|(_, (answer, _))| !answer.ends_with("more"));
    for (n, (answer, _)) in orderly {
        let without_date = |target: &str| {
            let (first, mut headers, body) = proxy.ask(&both_ways(target, "Host: a\r\n")[0]).parts();
            headers.retain(|line| !line.starts_with("date: "));
            (first, headers, body)
        };
        let whole = without_date(&format!("/{n}"));
        for cut in 1..answer.len() {
            assert_eq!(without_date(&format!("/{n}/{cut}")), whole, "cut at {cut} of {answer:?}");
        }
    }
}

#[test]
fn connections_are_shared_with_all_other_requests() {
    let upstream = answering();
    let proxy = Setup::to(upstream.address).start();
    let mut wire = proxy.connect();
    for n in [0, 0, 7, 0, 7, 10, 13, 0] {
        for request in both_ways(&format!("/{n}"), "Host: a\r\n") {
            wire.write(&request);
            wire.answer();
        }
    }
    assert!(upstream.connections() <= 2, "{} connections", upstream.connections());
}

/// It may not know chunks, which the next request could come in.
#[test]
fn an_upstream_of_http_1_0_is_asked_once_on_a_connection() {
    let upstream = Upstream::new(|wire, _| {
        while wire.request().is_some() {
            wire.write("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello");
        }
    });
    let proxy = Setup::to(upstream.address).start();
    let mut wire = proxy.connect();
    for n in 1..=3 {
        wire.write(ASKED);
        assert_eq!(wire.answer().body(), "hello");
        assert_eq!(upstream.connections(), n);
    }
}

/// Which hyper does at once, but nobody looks at a bare stream that is idle: it was once left half open for half a minute.
#[test]
fn a_connection_that_the_upstream_has_closed_is_closed_soon() {
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let upstream = Upstream::new(move |wire, _| {
        assert!(wire.request().is_some());
        wire.write(ANSWERS[0].0);
        wire.end_writing();
        tell.lock().unwrap().send(wire.is_closed()).unwrap();
    });
    let proxy = Setup::to(upstream.address).start();
    assert_eq!(proxy.ask(ASKED).body(), "hello");
    assert!(told.recv_timeout(2 * PATIENCE).unwrap());
}

#[test]
fn a_connection_that_is_idle_with_hyper_is_used_before_another_is_made() {
    let upstream = answering();
    let proxy = Setup::to(upstream.address).start();
    let mut wire = proxy.connect();
    // In chunks and not.
    for n in [7, 0, 7, 0] {
        wire.write(&both_ways(&format!("/{n}"), "Host: a\r\n")[0]);
        assert_eq!(wire.answer().body(), "hello");
    }
    assert_eq!(upstream.connections(), 1);
}

/// It was once that of the decision, which an upstream can let lie for a minute.
#[test]
fn the_date_of_an_answer_is_that_of_the_answer() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let upstream = Upstream::new(move |wire, _| {
        assert!(wire.request().is_some());
        gone.lock().unwrap().recv().unwrap();
        wire.write(ANSWERS[0].0);
    });
    let proxy = Setup::to(upstream.address).denying().start();
    let mut wire = proxy.connect_with(ASKED);
    while upstream.connections() == 0 {
        thread::yield_now();
    }
    thread::sleep(Duration::from_secs(2)); // another second
    let date = |answer: Answer| httpdate::parse_http_date(answer.header("date").unwrap()).unwrap();
    let before = date(proxy.ask("GET /denied/x HTTP/1.1\r\nHost: a\r\n\r\n"));
    go.send(()).unwrap();
    // The server's clock and that of its connections need not agree to the microsecond.
    assert!(date(wire.answer()) + Duration::from_secs(1) >= before);
}

/// Else whoever asks next on that connection would be given somebody else's answer, or whatever the upstream was made to say.
#[test]
fn what_comes_unasked_is_nobodys_answer() {
    const MORE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    // Longer than what is read at once.
    let long = "x".repeat(64 * 1024 + 8 * 1024);
    for (body, is_at_once) in [("good", true), ("good", false), (&long, true), (&long, false)] {
        let answer = ok(body);
        let ((tell, told), (go, gone)) = (mpsc::channel(), mpsc::channel::<()>());
        let channels = Mutex::new((tell, gone));
        let upstream = Upstream::new(move |wire, _| {
            let (tell, gone) = &*channels.lock().unwrap();
            if wire.request().is_some() {
                if is_at_once {
                    wire.write(&format!("{answer}{MORE}"));
                } else {
                    wire.write(&answer);
                    gone.recv().unwrap();
                    wire.write(MORE);
                }
                tell.send(()).unwrap();
                // Not closed, so that only what came can tell.
                wire.request();
            }
        });
        let proxy = Setup::to(upstream.address).denying().start();
        let mut wire = proxy.connect();
        for n in 1..=3 {
            wire.write(ASKED);
            assert!(wire.answer().body() == body);
            assert_eq!(upstream.connections(), n);
            if !is_at_once {
                go.send(()).unwrap();
            }
            told.recv_timeout(PATIENCE).unwrap();
            // Which is seen later than what came before.
            wire.write("GET /denied/x HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(wire.answer().status, 429);
        }
    }
}

#[test]
fn what_is_in_flight_when_the_server_ends_is_answered_and_said_to_be_the_last() {
    let is_said = |times: u32, request: &str, answer: &'static str, status: u16| {
        let (go, gone) = mpsc::channel::<()>();
        let gone = Mutex::new(gone);
        let upstream = Upstream::new(move |wire, _| {
            assert!(wire.request().is_some());
            gone.lock().unwrap().recv().unwrap();
            wire.write(answer);
        });
        let proxy = Setup::to(upstream.address).start();
        let mut wire = proxy.connect_with(request);
        while upstream.connections() == 0 {
            thread::yield_now();
        }
        proxy.stopper.finish();
        thread::sleep(times * Duration::from_millis(50)); // until it is asked to leave
        go.send(()).unwrap();
        let last = wire.answer();
        assert_eq!(last.status, status, "{request}{answer}");
        assert!(wire.is_closed());
        proxy.join();
        last.header("connection") == Some("close")
    };
    for request in both_ways("/", "Host: a\r\n") {
        for (answer, status) in [(ANSWERS[0].0, 200), (ANSWERS[7].0, 200), ("", 502), ("nonsense", 502)] {
            assert!(in_time(|times| is_said(times, &request, answer, status)), "{request}{answer}");
        }
    }
}

#[test]
fn a_client_that_leaves_ends_the_upstreams_work() {
    for answer in ["", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"] {
        let (tell, told) = mpsc::channel();
        let tell = Mutex::new(tell);
        let upstream = Upstream::new(move |wire, _| {
            assert!(wire.request().is_some());
            wire.write(answer);
            let has_ended = wire.is_closed();
            tell.lock().unwrap().send(has_ended).unwrap();
        });
        let mut setup = Setup::to(upstream.address);
        setup.timeouts.first_byte = 2 * PATIENCE;
        setup.timeouts.idle = 2 * PATIENCE;
        let proxy = setup.start();
        let mut wire = proxy.connect_with(ASKED);
        if answer.is_empty() {
            while upstream.connections() == 0 {
                thread::yield_now();
            }
        } else {
            assert!(wire.head().is_some());
        }
        drop(wire);
        assert!(told.recv_timeout(PATIENCE).unwrap());
    }
}

#[test]
fn a_reader_that_is_slow_gets_all_of_a_long_body() {
    const LARGE: usize = 16 << 20;
    let body: Arc<str> =
        (0..LARGE).map(|n| char::from(b'a' + u8::try_from(n % 23).unwrap())).collect::<String>().into();
    let sent = Arc::clone(&body);
    let upstream = Upstream::new(move |wire, _| {
        while wire.request().is_some() {
            wire.write(&ok(&sent));
        }
    });
    let proxy = Setup::to(upstream.address).start();
    let mut wire = proxy.connect();
    for _ in 0..2 {
        wire.write(ASKED);
        thread::sleep(Duration::from_millis(200)); // until the sockets are full
        assert!(wire.answer().body() == &*body);
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn an_answer_that_pauses_for_longer_than_it_was_waited_for_is_whole() {
    let upstream = Upstream::new(|wire, _| {
        assert!(wire.request().is_some());
        wire.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
        thread::sleep(Duration::from_secs(3));
        wire.write("llo");
    });
    let mut setup = Setup::to(upstream.address);
    setup.timeouts.first_byte = Duration::from_secs(2);
    setup.timeouts.idle = 2 * PATIENCE;
    assert_eq!(setup.start().ask(ASKED).body(), "hello");
}

#[test]
fn answers_that_do_not_count_are_given_back() {
    let upstream = answering();
    let mut setup = Setup::to(upstream.address);
    let mut misses = crate::rig::rule("misses", "/**", "1/hour");
    misses.count = tollgate::policy::Count::Status(vec![404]);
    setup.rules.push(misses);
    let proxy = setup.start();
    for (target, status) in [("/0", 200), ("/10", 204), ("/7", 200), ("/3", 404), ("/0", 429)] {
        assert_eq!(proxy.ask(&both_ways(target, "Host: a\r\n")[0]).status, status, "{target}");
    }
}

/// What hyper finished of an exchange was once finished as the new policy says: its connection was kept for the new upstream, so
/// that the next request went to the old one, and it was answered here if there was no upstream any more.
#[test]
fn what_is_in_flight_when_the_policy_changes_ends_by_the_old_one() {
    let check = |n: usize, next: Setup, answered: &str| {
        let (go, gone) = mpsc::channel::<()>();
        let gone = Mutex::new(gone);
        let before = Upstream::new(move |wire, _| {
            while wire.request().is_some() {
                gone.lock().unwrap().recv().unwrap();
                wire.write(ANSWERS[n].0);
            }
        });
        let proxy = Setup::to(before.address).start();
        let mut wire = proxy.connect_with(ASKED);
        while before.connections() == 0 {
            thread::yield_now();
        }
        proxy.reload(next);
        go.send(()).unwrap();
        assert_eq!(wire.answer().body(), "hello");
        for request in both_ways("/", "Host: a\r\n") {
            wire.write(&request);
            assert_eq!(wire.answer().body(), answered);
        }
    };
    let after = Upstream::new(|wire, _| {
        while wire.request().is_some() {
            wire.write(&ok("after"));
        }
    });
    for n in [0, 7] {
        check(n, Setup::to(after.address), "after");
        check(n, Setup::alone(), "allowed\n");
    }
}
