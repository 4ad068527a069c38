//! Which rules fit a request: every kind of condition, exceptions, overrides, `rest`, costs and what a policy refuses.

use tollgate::{
    limiter::Limiter,
    policy::{MAX_CHARGES, MAX_RULES, Policy, PolicyError, Rule, Terms},
    quota::{Algorithm, Limits},
    request::Request,
};

use crate::rig::{Call, connection, get, mistakes, rig};

/// Whether a rule with this `match` concerns the request.
fn check(conditions: &str, request: Call, fits: bool) {
    let rig = rig(&format!(
        "
user: cookie:sid
listen:
  - {{ name: web, address: 127.0.0.1:1, protocol: http }}
  - {{ name: api, address: 127.0.0.1:2, protocol: http }}
rules: [{{ name: r, match: {{ {conditions} }}, limit: 0/hour }}]"
    ));
    assert_eq!(!rig.allows(&request), fits, "{conditions} and {request:?}");
}

#[test]
fn methods_fit_in_any_case_and_get_includes_head() {
    check("method: GET", get("/"), true);
    check("method: GET", get("/").method("HEAD"), true);
    check("method: HEAD", get("/"), false);
    check("method: [PUT, post]", get("/").method("POST"), true);
    check("method: [PUT, post]", get("/").method("OPTIONS"), false);
    check("", get("/").method("OPTIONS"), true);
}

#[test]
fn hosts_ignore_case_port_and_a_final_dot() {
    check("host: example.com", get("/").host("EXAMPLE.com.:8080"), true);
    check("host: example.com", get("/").host("www.example.com"), false);
    check("host: '*.example.com'", get("/").host("a.b.example.com"), true);
    check("host: '*.example.com'", get("/").host("example.com"), false);
    check("host: '[2001:db8::1]'", get("/").host("[2001:db8::1]:8080"), true);
    check("host: '~(a|b)\\.example'", get("/").host("B.example:1"), true);
    check("host: example.com", get("/"), false);
}

#[test]
fn headers_queries_and_cookies_fit_if_any_of_their_values_does() {
    check("header: { X-Plan: pro }", get("/").header("x-plan", "pro"), true);
    check("header: { X-Plan: pro }", get("/").header("x-plan", "Pro"), false);
    check("header: { X-Plan: 'p*' }", get("/").header("x-plan", "a/b").header("X-PLAN", "p/b"), true);
    check("header: { X-Plan: [a, b] }", get("/").header("X-Plan", "b"), true);
    check("header: { X-Plan: true }", get("/").header("X-Plan", ""), true);
    check("header: { X-Plan: true }", get("/"), false);
    check("header: { X-Plan: false }", get("/"), true);
    check("header: { X-Plan: false }", get("/").header("x-plan", ""), false);
    check("header: { A: 1, B: 2 }", get("/").header("A", "1"), false);
    check("header: { A: 1, B: 2 }", get("/").header("A", "1").header("B", "2"), true);
    check("query: { format: json }", get("/?x=1&format=json"), true);
    check("query: { format: json }", get("/?%66ormat=j%73on"), true);
    check("query: { format: json }", get("/?format=xml&format=json"), true);
    check("query: { format: json }", get("/?reformat=json"), false);
    check("query: { format: json }", get("/?format=jsonp"), false);
    check("query: { 'a b': 'c d' }", get("/?a+b=c%20d"), true);
    check("query: { format: true }", get("/?format"), true);
    check("query: { Format: json }", get("/?format=json"), false);
    check("cookie: { sid: a }", get("/").header("Cookie", "x=1; sid=a"), true);
    check("cookie: { sid: a }", get("/").header("Cookie", "x=1").header("cookie", "sid=a"), true);
    check("cookie: { sid: a }", get("/").header("Cookie", "sid=ab; asid=a"), false);
    check("content_type: application/json", get("/").header("content-type", "Application/JSON; charset=utf-8"), true);
    check("content_type: 'image/*'", get("/").header("content-type", "image/png"), true);
    check("content_type: application/json", get("/"), false);
}

#[test]
fn clients_users_and_listeners_fit() {
    check("client: 203.0.113.0/24", get("/"), true);
    check("client: 203.0.113.0/24", get("/").peer("203.0.114.1"), false);
    check("client: ['::1', '2001:db8::/32']", get("/").peer("2001:db8:1::1"), true);
    check("client: all", get("/").peer("2001:db8::1"), true);
    check("client: 203.0.113.0/24", get("/").nobody(), false);
    check("user: true", get("/").header("cookie", "sid=1"), true);
    check("user: true", get("/").header("cookie", "sid="), false);
    check("user: false", get("/"), true);
    check("listener: web", get("/").listener("web"), true);
    check("listener: web", get("/").listener("api"), false);
    // Where listeners are unknown, as in a replay, it fits every one.
    check("listener: web", get("/"), true);
}

#[test]
fn all_conditions_must_hold() {
    let conditions = "path: /login, method: POST, client: 203.0.113.0/24";
    check(conditions, get("/login").method("POST"), true);
    check(conditions, get("/login"), false);
    check(conditions, get("/logout").method("POST"), false);
    check(conditions, get("/login").method("POST").peer("192.0.2.1"), false);
}

#[test]
fn rest_fits_what_no_earlier_rule_fitted() {
    let rig = rig("
rules:
  - { name: a, match: { path: /a, method: GET }, limit: 5/hour }
  - { name: rest, match: { rest: true }, limit: 0/hour }
  - { name: after, match: { path: /b }, limit: 5/hour }");
    assert!(rig.allows(&get("/a")));
    assert!(!rig.allows(&get("/a").method("POST")));
    assert!(!rig.allows(&get("/b")));
}

#[test]
fn who_is_excepted_is_neither_limited_nor_counted() {
    let rig = rig("
except: [{ client: 127.0.0.1 }, { path: /health }]
rules:
  - { name: a, except: [{ client: 192.0.2.0/24 }, { header: { X-Test: true }, method: PUT }], by: [], limit: 2/hour }
  - { name: b, by: [], limit: 50/hour }");
    let names = |call: Call| rig.check(&call).rules().map(|(_, rule, ..)| rule.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(get("/").peer("127.0.0.1")), [""; 0]);
    assert_eq!(names(get("/health")), [""; 0]);
    assert_eq!(names(get("/").peer("192.0.2.9")), ["b"]);
    assert_eq!(names(get("/").method("PUT").header("X-Test", "1")), ["b"]);
    assert_eq!(names(get("/").header("X-Test", "1")), ["a", "b"]);
    assert_eq!(rig.admitted(9, &get("/")), 1);
    assert!(rig.allows(&get("/").peer("192.0.2.9")));
}

#[test]
fn the_first_override_that_fits_gives_another_limit_on_the_same_counter() {
    let source = "
rules:
  - name: api
    limit: 2/hour
    overrides:
      - { header: { X-Plan: pro }, limit: 5/hour }
      - { header: { X-Plan: 'p*' }, limit: 0/hour }
      - { client: 192.0.2.0/24, limit: unlimited }";
    let rig = rig(source);
    let remaining = |call: Call| rig.check(&call).counted().map(|counted| counted.status().remaining).next();
    assert_eq!(remaining(get("/")), Some(1));
    assert_eq!(remaining(get("/").header("X-Plan", "pro")), Some(3));
    assert_eq!(remaining(get("/").header("X-Plan", "pro")), Some(2));
    assert_eq!(remaining(get("/")), Some(0));
    assert!(!rig.allows(&get("/")));
    assert!(!rig.allows(&get("/").peer("198.51.100.1").header("X-Plan", "poor")));
    assert_eq!(remaining(get("/").peer("192.0.2.1")), None);
    assert_eq!(remaining(get("/").peer("192.0.2.1").header("X-Plan", "pro")), Some(4));
}

#[test]
fn a_cost_from_a_header_is_a_whole_number_or_the_default() {
    let cost = |value: &str| {
        let rig = rig("rules: [{ name: r, cost: { header: X-Cost, default: 10 }, limit: 100/hour }]");
        let call = if value == "absent" { get("/") } else { get("/").header("X-Cost", value) };
        rig.check(&call).counted().map(|counted| 100 - counted.status().remaining).sum::<u64>()
    };
    assert_eq!(cost("7"), 7);
    assert_eq!(cost(" 7 "), 7);
    assert_eq!(cost("007"), 7);
    assert_eq!(cost("0"), 1);
    for garbage in ["absent", "", "-5", "+5", "1.5", "1e3", "five", "0x10", "5 5", "٣"] {
        assert_eq!(cost(garbage), 10, "{garbage:?}");
    }
    // More than any quota allows is no garbage, and spends nothing.
    assert_eq!(cost("99999999999999999999999"), 0);
    let rig = rig("rules: [{ name: r, cost: { header: X-Cost, default: 10 }, limit: 100/hour }]");
    let denied = rig.check(&get("/").header("X-Cost", "99999999999999999999999"));
    assert_eq!((denied.denied_by().count(), denied.retry_after()), (1, None));
    let twice = rig.check(&get("/").header("X-Cost", "1").header("X-Cost", "2"));
    assert_eq!(twice.counted().map(|counted| counted.status().remaining).next(), Some(90));
}

#[test]
fn a_fixed_cost_is_what_each_request_takes() {
    let rig = rig("rules: [{ name: r, cost: 3, limit: 10/hour }]");
    assert_eq!(rig.admitted(9, &get("/")), 3);
}

#[test]
fn a_policy_refuses_what_it_could_not_keep() {
    let rule = |name: &str, limits: &str| Rule::new(name, &limits.parse::<Limits>().unwrap(), None).unwrap();
    let policy = |rules: Vec<Rule>| Policy::new(Default::default(), None, Vec::new(), rules).map(|_| ());
    let many = |n: usize| (0..n).map(|i| rule(&format!("r{i}"), "unlimited")).collect();
    assert_eq!(policy(many(MAX_RULES)), Ok(()));
    assert_eq!(policy(many(MAX_RULES + 1)), Err(PolicyError::TooManyRules(MAX_RULES + 1)));
    assert_eq!(policy(vec![rule("api", "1/s"), rule("API", "1/s")]), Err(PolicyError::NameTwice("api".to_owned())));
    for bad in ["", "1api", "a b", "a\"b", "api.1", "é", "-a"] {
        assert_eq!(policy(vec![rule(bad, "1/s")]), Err(PolicyError::BadName(bad.to_owned())));
    }
    for good in ["a", "api.v1", "A_b-c.d", "api1", "api.1x"] {
        assert_eq!(policy(vec![rule(good, "1/s")]), Ok(()));
    }
    let quotas = vec!["5/s"; MAX_CHARGES].join("; ");
    assert_eq!(policy(vec![rule("api", &quotas)]), Ok(()));
    let too_many = vec![rule("api", &quotas), rule("one-more", "5/s")];
    assert_eq!(policy(too_many), Err(PolicyError::TooManyCharges(MAX_CHARGES + 1)));
}

#[test]
fn a_shadow_rule_cannot_count_by_status() {
    let source = "rules: [{ name: r, mode: shadow, count: { status: [401] }, limit: 5/hour }]";
    assert!(!mistakes(source).is_empty());
}

#[test]
fn invented_methods_are_counted_together_and_head_as_get() {
    let rig = rig("rules: [{ name: api, by: [client, method], limit: 1/hour }]");
    let call = |method: &str| get("/").method(method);
    assert!(rig.allows(&call("GET")) && !rig.allows(&call("HEAD")) && rig.allows(&call("POST")));
    assert!(rig.allows(&call("GET0")) && !rig.allows(&call("GET1")) && !rig.allows(&call("get")));
}

#[test]
fn a_users_name_is_no_part_of_a_host() {
    let rig = rig("rules: [{ name: api, match: { host: api.example.com }, by: [client, host], limit: 1/hour }]");
    assert!(rig.allows(&get("/").host("api.example.com")));
    for host in ["x@api.example.com", "y:z@api.example.com:80", "a@b@api.example.com."] {
        assert!(!rig.allows(&get("/").host(host)), "{host}");
    }
}

#[test]
fn given_limits_are_counted_as_the_rule_counts() {
    let limiter = |limits: &str, algorithm| {
        let rule = Rule::of("api", limits).and_then(|rule| Ok(rule.counting_with(algorithm)?)).expect("a rule");
        Limiter::of([rule]).expect("a policy")
    };
    let remaining = |limiter: &Limiter, limits: &str| {
        let terms = Terms { limits: Some(limits.parse().expect("limits")), ..Terms::default() };
        limiter.check_on_terms_now(&Request::default(), &terms).remaining()
    };
    let windows = limiter("5/minute", Algorithm::FixedWindow);
    assert_eq!(remaining(&windows, "5/minute"), Some(4));
    assert_eq!(remaining(&windows, "5/minute burst 5"), Some(3), "the burst is dropped");
    let log = limiter("5/minute", Algorithm::SlidingLog);
    assert_eq!(remaining(&log, "7/minute"), Some(6));
    assert_eq!(remaining(&log, "1000000/minute"), Some(3), "more than a log remembers: as the rule has it");
}

/// Not even a part that is absent: whoever limits guests, or requests without a header, does not mean connections.
#[test]
fn of_a_tcp_connection_only_client_listener_and_rest_can_be_asked() {
    let check = |rule: &str, fits: bool| {
        let source = format!("user: cookie:sid\nrules: [{{ name: r, {rule}, limit: 0/hour }}]");
        assert_eq!(!rig(&source).allows(&connection().listener("smtp")), fits, "{rule}");
    };
    check("match: { client: 203.0.113.0/24, listener: smtp, rest: true }", true);
    check("match: { client: 192.0.2.0/24 }", false);
    check("match: { listener: web }", false);
    check("match: { path: /** }", false);
    check("match: { path: '~.*' }", false);
    check("match: { method: GET }", false);
    check("match: { host: '~.*' }", false);
    check("match: { header: { X-Internal: false } }", false);
    check("match: { query: { x: false } }", false);
    check("match: { cookie: { x: false } }", false);
    check("match: { content_type: '*' }", false);
    check("match: { user: false }", false);
    for part in ["client", "client/24/48", "peer", "listener", "[]", "[client, peer, listener]"] {
        check(&format!("by: {part}"), true);
    }
    for part in ["user", "header:X", "query:x", "cookie:x", "path", "method", "host", "[client, path]"] {
        check(&format!("by: {part}"), false);
    }
    check("match: { client: all }, by: subnet", true);
    check("match: { path: /** }, by: route", false);
    check("except: [{ path: /** }]", true);
    check("except: [{ client: all }]", false);
    check("overrides: [{ header: { X: false }, limit: unlimited }]", true);
    check("overrides: [{ client: all, limit: unlimited }]", false);
    check("cost: { header: X, default: 1 }", true);
    check("count: { status: 401 }", true);
}

#[test]
fn to_a_tcp_connection_a_rule_that_does_not_concern_it_is_no_earlier_one() {
    let rig =
        rig("rules: [{ name: web, by: path, limit: 9/hour }, { name: rest, match: { rest: true }, limit: 1/hour }]");
    assert_eq!(rig.admitted(3, &connection()), 1);
    assert_eq!(rig.admitted(3, &get("/")), 3);
}
