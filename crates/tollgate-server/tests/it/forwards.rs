//! What the upstream gets of an allowed request, and the client of its answer.

use crate::rig::{Setup, Upstream, header, headers, ok};

/// The head that an upstream gets of this request.
fn forwarded(setup: Setup, request: &str) -> String {
    let upstream = Upstream::echo();
    let proxy = Setup { upstream: Some(upstream.address), ..setup }.start();
    let answer = proxy.ask(request);
    assert_eq!(answer.status, 200, "{}", answer.body());
    answer.body().to_owned()
}

#[test]
fn the_target_passes_as_it_came() {
    let head = forwarded(Setup::alone(), "GET //a/%2e%2E/b;x?q=%20&r#s HTTP/1.1\r\nHost: Example.com:81\r\n\r\n");
    assert!(head.starts_with("GET //a/%2e%2E/b;x?q=%20&r HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "host"), Some("Example.com:81"));
}

#[test]
fn an_absolute_target_becomes_a_path_and_its_host_counts() {
    let head = forwarded(Setup::alone(), "GET http://real.example/x?y HTTP/1.1\r\nHost: other.example\r\n\r\n");
    assert!(head.starts_with("GET /x?y HTTP/1.1\r\n"), "{head}");
    assert_eq!(headers(&head, "host").collect::<Vec<_>>(), ["real.example"]);
    assert_eq!(header(&head, "x-forwarded-host"), Some("real.example"));
    let head = forwarded(Setup::alone(), "GET http://real.example?y HTTP/1.1\r\nHost: other.example\r\n\r\n");
    assert!(head.starts_with("GET /?y HTTP/1.1\r\n"), "{head}");
    let head = forwarded(Setup::alone(), "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(head.starts_with("OPTIONS * HTTP/1.1\r\n"), "{head}");
}

#[test]
fn nothing_an_untrusted_client_says_about_itself_reaches_the_upstream() {
    let head = forwarded(
        Setup::alone(),
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Anything: x\r\nX-Forwarded-Host: evil\r\nForwarded: for=1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\nX_Forwarded_For: 3.3.3.3\r\n\r\n",
    );
    assert_eq!(headers(&head, "x-forwarded-for").collect::<Vec<_>>(), ["127.0.0.1"]);
    assert_eq!(header(&head, "x-forwarded-proto"), Some("http"));
    assert_eq!(header(&head, "x-forwarded-host"), Some("a"));
    for name in ["x-forwarded-anything", "forwarded", "x-real-ip", "x_forwarded_for"] {
        assert_eq!(header(&head, name), None, "{name}");
    }
}

#[test]
fn a_trusted_proxy_is_believed_and_appended() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\nX-Forwarded-Proto: https\r\n\
                   X-User: ann\r\nConnection: X-Forwarded-For\r\n\r\n";
    let head = forwarded(Setup::alone().trusting(), request);
    assert_eq!(headers(&head, "x-forwarded-for").collect::<Vec<_>>(), ["1.1.1.1, 2.2.2.2, 127.0.0.1"]);
    assert_eq!(header(&head, "x-forwarded-proto"), Some("https"));
    assert_eq!(header(&head, "x-user"), Some("ann"));
}

/// A proxy that names clients in `Forwarded` lets through whatever they say in `X-Forwarded-For`.
#[test]
fn a_proxy_trusted_for_another_header_vouches_for_no_x_forwarded_for() {
    let mut setup = Setup::alone().trusting();
    setup.trusted_proxies[0].header = "forwarded".to_owned();
    let request = "GET / HTTP/1.1\r\nHost: a\r\nForwarded: for=3.3.3.3\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n";
    let head = forwarded(setup, request);
    assert_eq!(headers(&head, "x-forwarded-for").collect::<Vec<_>>(), ["3.3.3.3, 127.0.0.1"]);
    assert_eq!(header(&head, "forwarded"), Some("for=3.3.3.3"));
}

#[test]
fn what_a_proxy_vouches_for_is_believed_from_nobody_else() {
    let mut setup = Setup::alone().trusting();
    let mut from = tollgate::client::Subnets::default();
    from.add("192.0.2.0/24".parse().unwrap());
    setup.trusted_proxies[0].from = from;
    let head = forwarded(
        setup,
        "POST / HTTP/1.1\r\nHost: a\r\nX-User: root\r\nX_User: root\r\nTrailer: X-User, X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-User: root\r\nX-Sum: 1\r\n\r\n",
    );
    assert_eq!(header(&head, "x-user"), None);
    assert_eq!(header(&head, "x_user"), None);
    assert_eq!(header(&head, "trailer"), Some("X-Sum"));
}

/// A proxy replaces `X-Forwarded-For` and lets `X_Forwarded_For` through, which WSGI and CGI read as the same.
#[test]
fn no_underscore_spelling_of_what_counts_passes_even_from_a_trusted_proxy() {
    let request = "POST / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nX_Forwarded_For: 6.6.6.6\r\nX-Forwarded_Proto: https\r\n\
                   X_Real_IP: 6.6.6.6\r\nX-User: ann\r\nX_User: root\r\nContent_Length: 9\r\nTransfer_Encoding: chunked\r\n\
                   X_Other: 1\r\nContent-Length: 2\r\n\r\nhi";
    let head = forwarded(Setup::alone().trusting(), request);
    for name in ["x_forwarded_for", "x-forwarded_proto", "x_real_ip", "x_user", "content_length", "transfer_encoding"] {
        assert_eq!(header(&head, name), None, "{name}");
    }
    assert_eq!(header(&head, "x-forwarded-for"), Some("1.1.1.1, 127.0.0.1"));
    assert_eq!(header(&head, "x-user"), Some("ann"));
    assert_eq!(header(&head, "content-length"), Some("2"));
    assert_eq!(header(&head, "x_other"), Some("1"), "an underscore alone is no offence");
}

#[test]
fn a_header_whose_true_name_has_an_underscore_passes_from_who_vouches_for_it() {
    let mut setup = Setup::alone().trusting();
    setup.trusted_proxies[0].vouches = vec!["x_plan".to_owned()];
    let head = forwarded(setup, "GET / HTTP/1.1\r\nHost: a\r\nX_Plan: free\r\nX-Plan: gold\r\n\r\n");
    assert_eq!((header(&head, "x_plan"), header(&head, "x-plan")), (Some("free"), None));
}

/// `Connection: CF-Connecting-IP` from a client made its header vanish here, and the client was counted as the proxy.
#[test]
fn no_client_makes_what_a_trusted_proxy_says_hop_by_hop() {
    let upstream = Upstream::echo();
    let mut setup = Setup::to(upstream.address).trusting();
    setup.trusted_proxies[0].header = "cf-connecting-ip".to_owned();
    setup.rules.push(crate::rig::rule("one", "/**", "1/hour"));
    let proxy = setup.start();
    let asked = |client: &str| {
        proxy.ask(&format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: CF-Connecting-IP, X-User\r\nCF-Connecting-IP: {client}\r\nX-User: ann\r\n\r\n"
        ))
    };
    let answer = asked("1.1.1.1");
    assert_eq!(header(answer.body(), "cf-connecting-ip"), Some("1.1.1.1"));
    assert_eq!(header(answer.body(), "x-user"), Some("ann"));
    assert_eq!([asked("2.2.2.2").status, asked("2.2.2.2").status], [200, 429], "each client is one");
}

#[test]
fn hop_by_hop_headers_stay_here_in_both_directions() {
    let upstream = Upstream::new(|wire, _| {
        while let Some(request) = wire.request() {
            let body = request.head;
            wire.write(&format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
                 Proxy-Authenticate: Basic\r\nUpgrade: h2c\r\nX-End: 1\r\n\r\n{body}",
                body.len()
            ));
        }
    });
    let proxy = Setup::to(upstream.address).start();
    let answer = proxy.ask(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: X-Hop, Host, keep-alive\r\n\
         Connection: X-Other\r\nX-Hop: 1\r\nX-Other: 1\r\nKeep-Alive: 5\r\n\
         Proxy-Connection: keep-alive\r\nProxy-Authorization: x\r\nTE: gzip\r\nUpgrade: foo\r\nX-End: 1\r\n\r\n",
    );
    for name in
        ["connection", "x-hop", "x-other", "keep-alive", "proxy-connection", "proxy-authorization", "te", "upgrade"]
    {
        assert_eq!(header(answer.body(), name), None, "{name} reached the upstream");
    }
    assert_eq!(header(answer.body(), "host"), Some("a"));
    assert_eq!(header(answer.body(), "x-end"), Some("1"));
    for name in ["x-hop", "keep-alive", "proxy-authenticate", "upgrade", "connection"] {
        assert_eq!(answer.header(name), None, "{name} reached the client");
    }
    assert_eq!(answer.header("x-end"), Some("1"));
}

#[test]
fn hop_by_hop_headers_stay_here_though_nothing_lists_them() {
    let lines = [
        "Keep-Alive: 5",
        "Proxy-Connection: x",
        "Proxy-Authorization: x",
        "TE: gzip",
        "Upgrade: x",
        "HTTP2-Settings: x",
    ];
    for line in lines {
        let head = forwarded(Setup::alone(), &format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n"));
        let name = line.split(':').next().unwrap().to_ascii_lowercase();
        assert_eq!(header(&head, &name), None, "{name} reached the upstream");
    }
}

#[test]
fn h2c_does_not_pass() {
    let head = forwarded(
        Setup::alone(),
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n",
    );
    for name in ["connection", "upgrade", "http2-settings"] {
        assert_eq!(header(&head, name), None, "{name}");
    }
}

#[test]
fn trailers_pass_both_ways() {
    let upstream = Upstream::new(|wire, _| {
        while let Some(request) = wire.request() {
            let body = request.trailers;
            wire.write(&format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n{:x}\r\n{body}\r\n0\r\nX-Sum: 7\r\n\r\n",
                body.len()
            ));
        }
    });
    let proxy = Setup::to(upstream.address).start();
    let answer = proxy.ask(
        "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: X-Check\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Check: 1\r\n\r\n",
    );
    assert_eq!(answer.body().to_lowercase(), "x-check: 1\r\n\r\n");
    assert_eq!(answer.trailers().to_lowercase(), "x-sum: 7\r\n\r\n");
}

#[test]
fn head_and_answers_without_a_body_keep_the_connection() {
    let upstream = Upstream::new(|wire, _| {
        while let Some(request) = wire.request() {
            wire.write(match request.head.split(' ').nth(1) {
                Some("/204") => "HTTP/1.1 204 No Content\r\n\r\n",
                Some("/304") => "HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 9\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
            });
        }
    });
    let proxy = Setup::to(upstream.address).start();
    let mut wire = proxy.connect();
    wire.write("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = wire.answer_to("HEAD");
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("1234")));
    for status in [204, 304] {
        wire.write(&format!("GET /{status} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let answer = wire.answer();
        assert_eq!((answer.status, answer.header("transfer-encoding")), (status, None));
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn an_answer_with_a_length_beside_chunks_keeps_the_chunks_alone() {
    let upstream = Upstream::saying(
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    let proxy = Setup::to(upstream.address).start();
    let answer = proxy.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((answer.header("content-length"), answer.body()), (None, "hello"));
}

#[test]
fn a_get_keeps_its_chunked_body() {
    let head = forwarded(
        Setup::alone(),
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    assert!(head.ends_with("\r\n\r\nhello"), "{head}");
}

/// An upstream that ignores the body of a GET took it for the next request on a pooled connection, which nobody had
/// decided on, and whose answer the next client got.
#[test]
fn a_body_where_none_is_expected_is_the_last_of_its_upstream_connection() {
    for method in ["GET", "DELETE", "OPTIONS", "HEAD", "TRACE", "BREW"] {
        let (seen, requests) = std::sync::mpsc::channel();
        let upstream = Upstream::new(move |wire, n| {
            while let Some(head) = wire.head() {
                seen.send((n, head.lines().next().unwrap().to_owned())).unwrap();
                wire.write(
                    if head.starts_with("HEAD") { "HTTP/1.1 204 No Content\r\n\r\n".to_owned() } else { ok("") }
                        .as_str(),
                );
                if header(&head, "connection") == Some("close") {
                    return;
                }
            }
        });
        let proxy = Setup::to(upstream.address).start();
        let mut wire = proxy.connect();
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        for framing in [
            format!("Content-Length: {}\r\n\r\n{smuggled}", smuggled.len()),
            format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len()),
        ] {
            wire.write(&format!("{method} /?n HTTP/1.1\r\nHost: a\r\n{framing}"));
            wire.answer_to(method);
        }
        wire.write("GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(wire.answer().status, 200);
        let seen: Vec<_> = requests.try_iter().collect();
        let first = format!("{method} /?n HTTP/1.1");
        assert_eq!(seen, [(0, first.clone()), (1, first), (2, "GET /next HTTP/1.1".to_owned())]);
    }
}

/// The same with an upstream that does not close when asked to.
#[test]
fn a_connection_that_carried_such_a_body_is_not_used_again() {
    let upstream = Upstream::echo();
    let proxy = Setup::to(upstream.address).start();
    let mut wire = proxy.connect();
    for (request, connections) in [
        ("GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", 1),
        ("POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", 2),
        ("GET /c HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 2),
        ("DELETE /d HTTP/1.1\r\nHost: a\r\n\r\n", 2),
    ] {
        wire.write(request);
        assert_eq!(wire.answer().status, 200);
        assert_eq!(upstream.connections(), connections, "{request}");
    }
}

#[test]
fn http_1_0_on_either_side() {
    let upstream = Upstream::new(|wire, _| {
        let request = wire.request().unwrap();
        wire.write(&format!("HTTP/1.0 200 Fine\r\n\r\n{}", request.head));
    });
    let proxy = Setup::to(upstream.address).start();
    let answer = proxy.ask("GET / HTTP/1.0\r\n\r\n");
    assert!(answer.head().starts_with("HTTP/1.0 200 Fine\r\n"), "{}", answer.head());
    assert_eq!(answer.header("transfer-encoding"), None);
    assert!(answer.body().starts_with("GET / HTTP/1.1\r\n"));
    assert_eq!(header(answer.body(), "host"), Some(upstream.address.to_string().as_str()));
    let answer = proxy.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.head().starts_with("HTTP/1.1 200 Fine\r\n"), "{}", answer.head());
}

#[test]
fn the_upstreams_own_limits_stay_beside_ours() {
    let upstream = Upstream::saying(
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nRateLimit: \"theirs\";r=1\r\nX-RateLimit-Limit: 9\r\nX-RateLimit-Remaining: 1\r\nX-RateLimit-Reset: 5\r\n\r\n",
    );
    let mut setup = Setup::to(upstream.address);
    setup.rules.push(crate::rig::rule("api", "/**", "5/hour"));
    let proxy = setup.start();
    let answer = proxy.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(answer.headers("ratelimit").len(), 2);
    assert_eq!(answer.headers("ratelimit")[0], "\"theirs\";r=1");
    assert_eq!(answer.headers("x-ratelimit-remaining"), ["1"], "theirs is the stricter one");
    let remaining: Vec<_> = (0..3)
        .map(|_| proxy.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").header("x-ratelimit-limit").unwrap().to_owned())
        .collect();
    assert_eq!(remaining, ["9", "9", "9"]);
    assert_eq!(proxy.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").headers("x-ratelimit-limit"), ["5"], "now ours is");
}

#[test]
fn a_pooled_connection_serves_many_requests() {
    let upstream = Upstream::echo();
    let proxy = Setup::to(upstream.address).start();
    let mut wire = proxy.connect();
    for n in 0..50 {
        wire.write(&format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(wire.answer().body().starts_with(&format!("GET /{n} ")));
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::echo();
    let proxy = Setup::to(upstream.address).start();
    let mut wire = proxy.connect();
    wire.write(&(0..20).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")).collect::<String>());
    for n in 0..20 {
        assert!(wire.answer().body().starts_with(&format!("GET /{n} ")));
    }
}

#[test]
fn what_the_connection_header_lists_is_not_seen_by_the_rules() {
    let upstream = Upstream::new(|wire, _| {
        while wire.request().is_some() {
            wire.write(&ok("ok"))
        }
    });
    let mut setup = Setup::to(upstream.address);
    let mut limited = crate::rig::rule("by-key", "/**", "1/hour");
    limited.by = vec!["header:X-Key".parse().unwrap()];
    setup.rules.push(limited);
    let proxy = setup.start();
    let asked = |key: &str| {
        proxy.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Key\r\nX-Key: {key}\r\n\r\n")).status
    };
    assert_eq!([asked("a"), asked("b")], [200, 429], "two keys that the upstream does not see are none");
}
