//! Faults of the systems that came before, each with its number in the list of them. None may appear here.

use std::time::Duration;

use tollgate::{
    algorithm::Verdict,
    client::{Subnet, Subnets},
    key::Key,
    quota::{Algorithm, Limits},
};

use crate::rig::{get, mistakes, rig};

// M-30, Masonite: below the limit the counter never expired. Of "3/window", two requests in one window left only one
// for the next.
#[test]
fn a_counter_is_not_carried_over_into_the_next_window() {
    for algorithm in Algorithm::ALL {
        let rig = rig(&format!("rules: [{{ name: r, algorithm: {algorithm}, limit: 3/minute }}]"));
        assert_eq!(rig.admitted(2, &get("/")), 2);
        rig.seconds(120);
        assert_eq!(rig.admitted(9, &get("/")), 3, "{algorithm}");
    }
}

// M-32, Masonite: a limit of 0 let one request a window through, and reported -1 remaining.
#[test]
fn a_limit_of_0_lets_nothing_through() {
    for algorithm in Algorithm::ALL {
        let rig = rig(&format!("rules: [{{ name: r, algorithm: {algorithm}, limit: 0/second }}]"));
        for _ in 0..3 {
            let denied = rig.check(&get("/"));
            assert_eq!((denied.verdict(), denied.retry_after()), (Verdict::Deny, None), "{algorithm}");
            assert_eq!(denied.counted().map(|counted| counted.status().remaining).next(), Some(0));
            rig.seconds(1);
        }
    }
}

// M-03, Masonite: "10/second", "10/Hour", "10 / hour" and "10/week" were accepted and crashed at the first request; a
// sign was accepted too. FL-43: the documented "10/s" was none.
#[test]
fn a_limit_string_fails_where_it_is_read_or_works() {
    for good in ["10/second", "10/Hour", "10/minutes", "10 / hour", "10/week", "10/s", " 10/hour"] {
        let rig = rig(&format!("rules: [{{ name: r, limit: '{good}' }}]"));
        assert_eq!(rig.admitted(11, &get("/")), 10, "{good}");
    }
    for bad in ["-1/minute", "+1/minute", "abc/hour", "10", "10/hour/2", "10/fortnight", "10//hour"] {
        assert!(bad.parse::<Limits>().is_err(), "{bad}");
        assert!(!mistakes(&format!("rules: [{{ name: r, limit: '{bad}' }}]")).is_empty(), "{bad}");
    }
}

// `limits`: what did not fit the grammar between two limits was dropped, and with it a limit.
#[test]
fn no_limit_of_a_string_is_dropped() {
    let count = |text: &str| text.parse::<Limits>().map(|limits| limits.as_slice().len()).ok();
    assert_eq!(count("1/second; 2/minute | 3/hour, 3/hour"), Some(4));
    for bad in ["1/second 2/minute", "1/second; x; 2/minute", "1/second; 2/minut", "1/second:2/minute", "1/second;"] {
        assert_eq!(count(bad), None, "{bad}");
    }
}

// M-06, Masonite: `throttle:@plan` took the limit itself from the client's input. Here conditions choose among limits
// that the file names, and a header that a client could make up is believed from those who vouch for it alone.
#[test]
fn no_client_chooses_its_limit() {
    let rig = rig("
trusted_proxies: [{ from: 10.0.0.0/8, header: X-Forwarded-For, vouches: [X-Plan] }]
rules: [{ name: r, limit: 1/hour, overrides: [{ header: { X-Plan: pro }, limit: 1000/hour }] }]");
    assert_eq!(rig.admitted(5, &get("/").header("X-Plan", "pro")), 1);
    assert_eq!(rig.admitted(5, &get("/").header("X-Plan", "1000/hour").peer("192.0.2.1")), 1);
}

// M-07, Masonite: the key was the argument and the client joined without a separator, so that two of them could be one.
// P-22, Pode, and `limits` joined with a separator that the parts could contain.
#[test]
fn no_two_clients_share_a_key_by_choosing_their_values() {
    assert_ne!(Key::of(["a", "bc"]), Key::of(["ab", "c"]));
    assert_ne!(Key::of(["a|b", "c"]), Key::of(["a", "b|c"]));
    let rig = rig("rules: [{ name: r, by: [header:A, header:B], limit: 1/hour }]");
    for (a, b) in [("x", "yz"), ("xy", "z"), ("x|y", "z"), ("x", "y|z"), ("x%7Cy", "z"), ("", "xyz"), ("xyz", "")] {
        assert!(rig.allows(&get("/").header("A", a).header("B", b)), "{a:?} {b:?}");
    }
}

// U-05, Udacity and the Flask snippet: the n-th request was refused already, and a limit of 1 let nothing through.
#[test]
fn a_limit_of_n_lets_n_through() {
    for algorithm in Algorithm::ALL {
        for n in [1, 2, 300] {
            let rig = rig(&format!("rules: [{{ name: r, algorithm: {algorithm}, limit: {n}/minute }}]"));
            assert_eq!(rig.admitted(n + 5, &get("/")), n, "{algorithm}");
        }
    }
}

// U-08, I-05, P-23: refused requests were counted, so that who kept trying was never let in.
#[test]
fn refused_requests_do_not_count() {
    for algorithm in Algorithm::ALL {
        let rig = rig(&format!("rules: [{{ name: r, algorithm: {algorithm}, limit: 2/minute }}]"));
        rig.check(&get("/"));
        rig.check(&get("/"));
        let wait = rig.check(&get("/")).retry_after();
        assert_eq!(rig.admitted(50, &get("/")), 0);
        assert_eq!(rig.check(&get("/")).retry_after(), wait, "{algorithm}");
        rig.clock.advance(wait.unwrap_or_default());
        assert!(rig.allows(&get("/")));
    }
}

// F3 and FL-32, `limits`: a cost above the limit was refused and poisoned the window; a negative one refunded.
#[test]
fn a_refused_or_negative_cost_changes_no_count() {
    for algorithm in Algorithm::ALL {
        let rig = rig(&format!(
            "rules: [{{ name: r, algorithm: {algorithm}, cost: {{ header: X-Cost, default: 1 }}, limit: 5/hour }}]"
        ));
        assert!(!rig.allows(&get("/").header("X-Cost", "6")));
        let left = |cost: &str| {
            let decision = rig.check(&get("/").header("X-Cost", cost));
            decision.counted().map(|counted| counted.status().remaining).next()
        };
        assert_eq!(left("2"), Some(3), "{algorithm}");
        assert_eq!(left("4"), Some(3), "{algorithm}");
        assert_eq!(left("-5"), Some(2), "{algorithm}");
    }
}

// F8, `limits`: asking with cost 0 set the window's expiry anew. The conformance suite tries that on every store;
// here somebody who peeks.
#[test]
fn asking_moves_no_window() {
    for algorithm in Algorithm::ALL {
        let rig = rig(&format!("rules: [{{ name: r, algorithm: {algorithm}, limit: 1/minute }}]"));
        let call = get("/");
        rig.check(&call);
        let before = rig.check(&call).retry_after().unwrap_or_default();
        for _ in 0..10 {
            rig.seconds(2);
            rig.limiter.peek_now(&call.shown());
        }
        assert_eq!(rig.check(&call).retry_after(), before.checked_sub(Duration::from_secs(20)), "{algorithm}");
    }
}

// FL-24, Flask-Limiter: of "5/minute;2/hour", requests that the hour refused ate the minute's quota.
#[test]
fn what_one_limit_refuses_another_is_not_charged() {
    let rig = rig("rules: [{ name: r, limit: '5/minute; 2/hour' }]");
    assert_eq!(rig.admitted(9, &get("/")), 2);
    let denied = rig.check(&get("/"));
    let left: Vec<u64> = denied.counted().map(|counted| counted.status().remaining).collect();
    assert_eq!(left, [3, 0]);
    assert_eq!(denied.shown().map(|shown| shown.name()), Some("r.2".to_owned()));
}

// FL-23, Flask-Limiter: limits were sorted by their unit alone, so that "100/90 seconds" spoke for "5/minute". P-05,
// P-29, Pode: rules applied in the order of a hash table. Here the order is the file's, and the strictest speaks.
#[test]
fn rules_and_limits_keep_the_order_of_the_file() {
    let rig = rig(
        "rules: [{ name: r, limit: '100/90 seconds; 5/minute; 7/day' }, { name: b, limit: 3/s }, { name: a, limit: 9/s }]",
    );
    let decision = rig.check(&get("/"));
    let names: Vec<String> = decision.counted().map(|counted| counted.name()).collect();
    assert_eq!(names, ["r.1", "r.2", "r.3", "b", "a"]);
    assert_eq!(decision.shown().map(|shown| shown.name()), Some("b".to_owned()));
}

// FL-01 and FL-28, Flask-Limiter; I-03, Itsi; P-22, Pode: a key that the request did not have meant no limit at all.
#[test]
fn a_missing_key_never_means_unlimited() {
    for by in ["header:X-Api-Key", "query:user_id", "cookie:sid", "host", "user"] {
        let rig = rig(&format!("user: header:X-User\nrules: [{{ name: r, by: '{by}', limit: 2/hour }}]"));
        assert_eq!(rig.admitted(5, &get("/")), 2, "{by}");
        assert!(rig.allows(&get("/").peer("192.0.2.1")), "{by}");
    }
}

// I-03, Itsi: the query parameter `user` matched `username=…`, and was not decoded.
#[test]
fn a_query_parameter_is_looked_up_by_its_whole_decoded_name() {
    let rig = rig("rules: [{ name: r, by: query:user, limit: 1/hour }]");
    assert!(rig.allows(&get("/?user=a")));
    assert!(!rig.allows(&get("/?username=b&user=a")));
    assert!(!rig.allows(&get("/?us%65r=%61")));
    assert!(rig.allows(&get("/?user=b")));
}

// I-20, Itsi: the minute was in the key, so that every window ended at :00 at the latest, and 3/hour was 3 a minute.
#[test]
fn a_window_ends_when_it_is_over_and_not_with_the_minute() {
    let minute = rig("rules: [{ name: r, limit: 3/60s }]");
    minute.seconds(40); // to 22:14:00, then to :50
    minute.seconds(50);
    for _ in 0..3 {
        assert!(minute.allows(&get("/")));
        minute.seconds(1);
    }
    let denied = minute.check(&get("/"));
    assert_eq!(denied.retry_after(), Some(Duration::from_secs(57)));
    minute.seconds(7);
    assert!(!minute.allows(&get("/")));
    let hour = rig("rules: [{ name: r, limit: 3/3600s }]");
    assert_eq!(hour.admitted(5, &get("/")), 3);
    hour.seconds(60);
    assert_eq!(hour.admitted(5, &get("/")), 0);
}

// I-10, Itsi: the whole X-Forwarded-For was the key, so that whoever wrote something in front of it was somebody new.
// M-17, Masonite: anybody could write it.
#[test]
fn a_forwarding_header_is_read_hop_by_hop() {
    let rig = rig("
trusted_proxies: [{ from: 10.0.0.0/8, header: X-Forwarded-For }]
rules: [{ name: r, limit: 1/hour }]");
    let call = |chain: &str| get("/").peer("10.0.0.5").header("X-Forwarded-For", chain);
    assert!(rig.allows(&call("198.51.100.7")));
    assert!(!rig.allows(&call("1.1.1.1, 198.51.100.7")));
    assert!(!rig.allows(&call("2.2.2.2, 198.51.100.7, 10.1.1.1")));
    assert!(!rig.allows(&get("/").peer("198.51.100.7").header("X-Forwarded-For", "3.3.3.3")));
}

// I-06, Itsi: in the last second Retry-After was 0, and clients came back at once. FL-26: it could be 61 of 60.
#[test]
fn retry_after_is_rounded_up_and_never_0() {
    let rig = rig("rules: [{ name: r, limit: 1/minute }]");
    let call = get("/");
    rig.check(&call);
    let told = || {
        let headers = rig.check(&call).headers(&());
        headers.into_iter().find(|line| line.name == "Retry-After").map(|line| line.value)
    };
    assert_eq!(told().as_deref(), Some("60"));
    rig.clock.advance(Duration::from_millis(58_500));
    assert_eq!(told().as_deref(), Some("2"));
    rig.clock.advance(Duration::from_millis(1_400));
    assert_eq!(told().as_deref(), Some("1"));
}

// I-14, Itsi: Accept had to equal a media type; a list, a wildcard or a weight fell back to the default.
#[test]
fn accept_is_negotiated() {
    let rig = rig("rules: [{ name: r, limit: 0/hour }]");
    let content_type = |accept: &str| {
        let call = get("/").header("Accept", accept);
        rig.answer(&call).map(|answer| answer.headers[0].1.clone())
    };
    assert_eq!(content_type("text/html, */*;q=0.1").as_deref(), Some("text/html; charset=utf-8"));
    assert_eq!(content_type("text/plain;q=0.9, image/*").as_deref(), Some("text/plain; charset=utf-8"));
}

// I-15, Itsi: a format without a body of one's own fell back to a body of another kind, or to a 500.
#[test]
fn a_format_without_a_body_of_ones_own_has_ours() {
    let rig = rig("rules: [{ name: r, limit: 0/hour, on_limit: { body: { html: mine }, default: plain } }]");
    let answer = |accept: &str| {
        let call = get("/").header("Accept", accept);
        rig.answer(&call).unwrap()
    };
    assert_eq!(answer("text/html").body, "mine");
    assert!(answer("application/json").body.starts_with('{'));
    assert!(answer("image/png").body.starts_with("r allows"));
    assert_eq!(answer("image/png").status_code, 429);
}

// P-05, Pode: only one rule applied to an address, whichever the hash table gave first.
#[test]
fn every_rule_that_fits_applies() {
    let rig = rig("
rules:
  - { name: subnet, match: { client: 203.0.113.0/24 }, by: subnet, limit: 9/hour }
  - { name: address, match: { client: 203.0.113.7 }, limit: 2/hour }");
    assert_eq!(rig.admitted(5, &get("/")), 2);
    assert_eq!(rig.admitted(9, &get("/").peer("203.0.113.8")), 7);
}

// P-08, Pode: 10.10.0.5/24 was an error, 10.17.0.0/12 covered 10.16 to 10.32, and of IPv6 four bytes were compared.
#[test]
fn subnets_are_what_their_prefix_says() {
    let contains = |subnet: &str, address: &str| {
        let subnets: Subnets = subnet.parse::<Subnet>().into_iter().collect();
        subnets.contains(address.parse().unwrap())
    };
    assert!(contains("10.10.0.5/24", "10.10.0.200") && !contains("10.10.0.5/24", "10.10.1.5"));
    assert!(contains("10.0.1.0/16", "10.0.255.1"));
    assert!(contains("10.17.0.0/12", "10.31.255.255") && !contains("10.17.0.0/12", "10.32.0.0"));
    assert!(contains("2001:db8::/48", "2001:db8:0:1::1") && !contains("2001:db8::/48", "2001:db8:1::1"));
    assert!(contains("all", "2001:db8::1") && contains("all", "192.0.2.1"));
    assert!(contains("0.0.0.0/0", "192.0.2.1") && contains("::ffff:10.0.0.0/104", "10.1.2.3"));
}

// FL-21: two equal limits under one key shared a counter, and one request was counted twice.
#[test]
fn equal_limits_do_not_share_a_counter() {
    let rig = rig("rules: [{ name: r, limit: '2/hour; 2/hour' }, { name: s, limit: 2/hour }]");
    assert_eq!(rig.admitted(5, &get("/")), 2);
}

// P-26, Pode: increments were not locked.
#[test]
fn threads_admit_no_more_than_the_limit() {
    let rig = rig("rules: [{ name: r, limit: 500/hour }]");
    let call = get("/");
    let admitted = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| rig.admitted(200, &call))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
    });
    assert_eq!(admitted, 500);
}
