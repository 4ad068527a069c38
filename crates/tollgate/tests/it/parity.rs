//! What can be done with the systems that came before, done here: the rows of `docs/parity.md` that no other test shows, and
//! that every test it names exists.

use std::{fs, path::Path, time::Duration};

use tollgate::{
    clock::{ManualClock, Timestamp},
    quota::Limits,
    throttle::Throttle,
};

use crate::rig::{Call, Rig, get, rig, rig_at};

/// How many of `n` requests pass, each from another address of 203.0.113.0/24.
fn admitted_from_a_subnet(rig: &Rig, n: u8) -> usize {
    (0..n).filter(|i| rig.allows(&get("/").peer(&format!("203.0.113.{i}")))).count()
}

/// What a request is answered that the rule `rule` denies: the status code and the body.
fn answer(rule: &str, request: &Call) -> (u16, String) {
    let rig = rig(&format!("rules: [{{ name: api, limit: 0/hour, {rule} }}]"));
    let answer = rig.answer(request).expect("a limit of 0 denies");
    (answer.status_code, answer.body)
}

// M-02, Masonite: `per_minute(5, 3)`, `per_hour`, `per_day`, `unlimited`.
#[test]
fn a_limit_can_be_per_several_units() {
    let minutes: Limits = "5/3 minutes".parse().expect("a limit");
    let days: Limits = "5 per 2 days".parse().expect("a limit");
    assert_eq!(minutes.as_slice()[0].window(), Duration::from_secs(180));
    assert_eq!(days.as_slice()[0].window(), Duration::from_secs(2 * 86_400));
    assert_eq!(Limits::per_seconds(5, 180).as_slice()[0].window(), minutes.as_slice()[0].window());
    assert!("unlimited".parse::<Limits>().is_ok_and(|limits| limits.is_unlimited()));
}

// M-04, M-07, Masonite; P-22, Pode: a limit without a key is one counter.
#[test]
fn counted_by_nothing_everybody_shares_a_counter() {
    let rig = rig("rules: [{ name: all, by: [], limit: 3/hour }]");
    assert_eq!(admitted_from_a_subnet(&rig, 9), 3);
}

// M-15, Masonite: `attempts`, `too_many_attempts`, `available_in`.
#[test]
fn how_often_a_key_was_used_is_its_limit_less_what_remains() {
    let clock = ManualClock::new(Timestamp::from_micros(0));
    let reports = Throttle::on_clock("3/hour", clock.clone().into()).expect("a limit");
    let used = || {
        let status = reports.status("ann");
        status.limit - status.remaining
    };
    assert_eq!((used(), reports.peek("ann").is_ok()), (0, true));
    for _ in 0..3 {
        reports.check("ann").expect("it fits");
    }
    clock.advance(Duration::from_secs(600));
    assert_eq!(used(), 3);
    let denied = reports.peek("ann").expect_err("nothing is left");
    assert_eq!(denied.retry_after(), Some(Duration::from_secs(3_000)));
    assert_eq!(reports.reset_after("ann"), Duration::from_secs(3_000));
}

// FL-03, FL-20, Flask-Limiter; U-02, the snippet; I-04, Itsi: the route, the path or the method is part of the key.
#[test]
fn each_path_route_or_method_can_be_counted_apart() {
    let by = |by: &str| rig(&format!("rules: [{{ name: r, match: {{ path: [/a/*, /b] }}, by: {by}, limit: 1/hour }}]"));
    let passes = |by_what: &str| {
        let rig = by(by_what);
        let calls = [get("/a/1"), get("/a/2"), get("/b"), get("/b").method("PUT"), get("/b").peer("192.0.2.1")];
        calls.map(|call| rig.allows(&call))
    };
    assert_eq!(passes("client"), [true, false, false, false, true]);
    assert_eq!(passes("[client, path]"), [true, true, true, false, true]);
    assert_eq!(passes("[client, route]"), [true, false, true, false, true]);
    assert_eq!(passes("[client, route, method]"), [true, false, true, true, true]);
    assert_eq!(passes("route"), [true, false, true, false, false]);
}

// U-02, the snippet: windows that begin at multiples of their length since the epoch.
#[test]
fn a_calendar_window_begins_at_a_multiple_of_its_length() {
    let start = Timestamp::from_micros(1_700_000_015_000_000); // 22:13:35, five seconds into its half minute
    let rig = rig_at(start, "rules: [{ name: r, algorithm: calendar-window, limit: 300/30 seconds }]");
    assert_eq!(rig.admitted(301, &get("/")), 300);
    assert_eq!(rig.check(&get("/")).retry_after(), Some(Duration::from_secs(25)));
    rig.seconds(25);
    assert_eq!(rig.admitted(301, &get("/")), 300);
}

// U-07, the snippet; M-13, Masonite; I-13 and I-16, Itsi; FL-27, Flask-Limiter: the bodies that their clients look for.
#[test]
fn the_answers_of_others_can_be_given_word_for_word() {
    for body in [
        r#"{"data":"You hit the rate limit","error":"429"}"#,
        r#"{"status":429,"message":"Too many attempts"}"#,
        r#"{"error":"Too Many Requests","message":"Too many requests within a limited time frame.","code":429,"status":"error"}"#,
    ] {
        let rule = format!("on_limit: {{ body: {{ json: '{body}' }} }}");
        assert_eq!(answer(&rule, &get("/").header("Accept", "application/json")), (429, body.to_owned()));
        assert_eq!(answer(&rule, &get("/")), (429, body.to_owned()), "JSON is the default");
    }
    let masonite = "on_limit: { status: 400, body: Too many attempts }";
    assert_eq!(answer(masonite, &get("/")), (400, "Too many attempts".to_owned()));
    let flask = "on_limit: { body: { html: '<h1>Too Many Requests</h1>' }, default: html }";
    assert_eq!(answer(flask, &get("/")).1, "<h1>Too Many Requests</h1>");
}

// P-03 and P-24, Pode: five a second, asked at these milliseconds.
#[test]
fn a_window_lets_pass_what_podes_does() {
    let rig = rig("rules: [{ name: r, limit: 5/second }]");
    let mut last = 0;
    for (at, passes) in [
        (0, true),
        (100, true),
        (200, true),
        (300, true),
        (400, true),
        (500, false),
        (990, false),
        (1_000, true),
        (1_100, true),
        (1_900, true),
    ] {
        rig.clock.advance(Duration::from_millis(at - last));
        last = at;
        assert_eq!(rig.allows(&get("/")), passes, "at {at} ms");
    }
}

// P-04, Pode: a subnet with a counter for each address, or with one for all of them.
#[test]
fn a_subnet_is_counted_address_by_address_or_as_one() {
    let by = |by: &str| {
        rig(&format!("rules: [{{ name: r, match: {{ client: 203.0.113.0/24 }}, by: {by}, limit: 5/second }}]"))
    };
    let passed =
        |rig: &Rig| (0..6).filter(|i| rig.allows(&get("/").peer(["203.0.113.1", "203.0.113.2"][i % 2]))).count();
    assert_eq!(passed(&by("client")), 6);
    assert_eq!(passed(&by("subnet")), 5);
}

// P-21, Pode: its components, all of which must hold, in one rule.
#[test]
fn the_components_of_a_rule_are_conditions_that_all_hold() {
    let rig = rig("
rules:
  - name: r
    match: { client: [127.0.0.0/8, '::1'], path: [/a, /b/*, '~/c[0-9]+'], method: [GET, PUT], header: { Content-Type: application/json } }
    limit: 0/hour");
    let call = |path: &str, peer: &str| get(path).peer(peer).header("Content-Type", "application/json");
    for (path, peer) in [("/a", "127.0.0.1"), ("/b/x", "127.9.9.9"), ("/c42", "::1")] {
        assert!(!rig.allows(&call(path, peer)), "{path} {peer}");
        assert!(!rig.allows(&call(path, peer).method("PUT")));
        assert!(rig.allows(&call(path, peer).method("DELETE")));
        assert!(rig.allows(&get(path).peer(peer)));
    }
    assert!(rig.allows(&call("/c42x", "::1")) && rig.allows(&call("/a", "192.0.2.1")));
}

// P-27, Pode: closed for maintenance, by the limiter.
#[test]
fn a_limit_of_0_can_close_everything_for_a_while() {
    let rig = rig("
rules:
  - { name: closed, by: [], limit: 0/hour, on_limit: { status: 503, headers: { Retry-After: '3600' } } }
  - { name: api, limit: 1/hour }");
    let answer = rig.answer(&get("/")).expect("a limit of 0 denies");
    assert_eq!(answer.status_code, 503);
    assert!(answer.headers.contains(&("Retry-After".into(), "3600".to_owned())), "{answer:?}");
}

// P-28, Pode; I-17, Itsi: lists of who may come and who may not, and patterns that nobody may ask for.
#[test]
fn a_limit_of_0_can_keep_out_whom_it_concerns() {
    let rig = rig("
on_limit: { status: 403 }
rules:
  - { name: banned, match: { client: 203.0.113.0/24 }, limit: 0/hour }
  - { name: outside, match: { path: /admin/** }, except: [{ client: 10.0.0.0/8 }], limit: 0/hour }
  - { name: probes, match: { path: '~(?i).*\\.php' }, limit: 0/hour }
  - { name: scanners, match: { header: { User-Agent: '~(?i).*sqlmap.*' } }, limit: 0/hour }");
    let status = |call: Call| rig.answer(&call).map(|answer| answer.status_code);
    assert_eq!(status(get("/")), Some(403));
    assert_eq!(status(get("/").peer("192.0.2.1")), None);
    assert_eq!(status(get("/admin/users").peer("192.0.2.1")), Some(403));
    assert_eq!(status(get("/admin/users").peer("10.1.2.3")), None);
    assert_eq!(status(get("/wp/login.PHP").peer("192.0.2.1")), Some(403));
    assert_eq!(status(get("/").peer("192.0.2.1").header("User-Agent", "SQLmap/1")), Some(403));
}

// FL-02, FL-05, FL-29, Flask-Limiter: a limit for the whole application, limits of routes, and a default for the others.
#[test]
fn a_default_holds_where_no_limit_of_a_route_does_and_the_applications_everywhere() {
    let rig = rig("
rules:
  - { name: search, match: { path: /search, method: POST }, limit: 2/hour }
  - { name: default, match: { rest: true }, limit: 3/hour }
  - { name: application, limit: 6/hour }");
    assert_eq!(rig.admitted(5, &get("/search").method("POST")), 2);
    assert_eq!(rig.admitted(5, &get("/search")), 3, "another method is left to the default");
    assert_eq!(rig.admitted(5, &get("/other")), 0, "with which it shares a counter");
    assert_eq!(rig.check(&get("/other")).denied_by().collect::<Vec<_>>(), ["default"]);
    rig.seconds(3_600);
    assert_eq!(rig.admitted(9, &get("/other")) + rig.admitted(9, &get("/search").method("POST")), 5);
}

/// The table names tests as `engine/faults::a_limit_of_n_lets_n_through`, its files by these words.
#[test]
fn every_test_that_the_table_names_exists() {
    const FOLDERS: [(&str, &str); 5] = [
        ("engine", "tollgate"),
        ("redis", "tollgate-redis"),
        ("tower", "tollgate-tower"),
        ("server", "tollgate-server"),
        ("cli", "tollgate-cli"),
    ];
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let table = include_str!("../../../../docs/parity.md");
    let mut named = 0;
    for word in table.split('`') {
        let Some((file, test)) = word.split_once("::") else { continue };
        let Some((word, file)) = file.split_once('/') else { continue };
        if !word.bytes().all(|byte| byte.is_ascii_lowercase()) {
            continue; // A line of YAML.
        }
        let folder = FOLDERS.iter().find(|(name, _)| *name == word).map(|(_, folder)| folder);
        let folder = folder.unwrap_or_else(|| panic!("{word} is no folder of tests"));
        let path = crates.join(folder).join("tests/it").join(file).with_extension("rs");
        let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let is_there = source.contains(&format!("fn {test}(")) || source.contains(&format!("    {test}: \""));
        assert!(is_there, "{} has no test {test}", path.display());
        named += 1;
    }
    assert!(named > 100, "{named}");
}

/// Every row of the reference stands in the table once, in order.
#[test]
fn the_table_has_every_row() {
    let rows = |prefix: &str, numbers: &[std::ops::RangeInclusive<u32>]| {
        let numbers = numbers.iter().cloned().flatten();
        numbers.map(|number| format!("{prefix}-{number:02}")).collect::<Vec<_>>()
    };
    let expected = [
        rows("M", &[1..=17, 30..=33]),
        rows("FL", &[1..=18, 20..=43]),
        rows("U", &[1..=11]),
        rows("P", &[1..=8, 20..=29]),
        rows("I", &[1..=17, 20..=20]),
    ]
    .concat();
    let table = include_str!("../../../../docs/parity.md");
    let is_row =
        |line: &&str| line.split_once('-').is_some_and(|(system, _)| ["M", "FL", "U", "P", "I"].contains(&system));
    let lines = table.lines().filter_map(|line| line.strip_prefix("| "));
    let found: Vec<&str> = lines.filter(is_row).filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(found, expected);
}
