//! A decision as headers: each dialect, beside an upstream's own.

use crate::rig::{Fields, Rig, get, rig};

/// A rig for one rule, with these dialects.
fn telling(dialects: &str, limits: &str) -> Rig {
    rig(&format!("headers: {dialects}\nrules: [{{ name: api, limit: '{limits}' }}]"))
}

/// The headers of the next request, beside these of an upstream; `+` marks those that stand beside others.
fn lines_beside(rig: &Rig, upstream: &[(&str, &str)]) -> Vec<String> {
    let upstream = upstream.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    let lines = rig.check(&get("/")).headers(&Fields(upstream));
    let line = |line: &tollgate::headers::HeaderLine| {
        format!("{}{}: {}", if line.replaces { "" } else { "+" }, line.name, line.value)
    };
    lines.iter().map(line).collect()
}

fn lines(rig: &Rig) -> Vec<String> {
    lines_beside(rig, &[])
}

const DENIED: [&str; 2] = ["Retry-After: 3600", "Cache-Control: no-store"];

fn denied<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    lines.iter().copied().chain(DENIED).collect()
}

#[test]
fn ietf_tells_always_of_every_quota() {
    let rig = telling("ietf", "2/hour");
    assert_eq!(lines(&rig), ["+RateLimit-Policy: \"api\";q=2;w=3600", "+RateLimit: \"api\";r=1;t=3600"]);
    lines(&rig);
    assert_eq!(lines(&rig), denied(&["+RateLimit-Policy: \"api\";q=2;w=3600", "+RateLimit: \"api\";r=0;t=3600"]));
}

#[test]
fn ietf_numbers_the_quotas_of_one_rule_and_names_every_rule() {
    let rig = rig("
rules:
  - { name: api, headers: ietf, limit: '5/minute; 9/day' }
  - { name: quiet, headers: [], limit: 9/hour }
  - { name: shadow, headers: ietf, mode: shadow, limit: 9/hour }
  - { name: ms, headers: ietf, limit: 7/500 ms }
  - { name: bucket, headers: ietf, limit: 60/minute burst 3 }
  - { name: free, headers: ietf, limit: unlimited }");
    assert_eq!(
        lines(&rig),
        [
            "+RateLimit-Policy: \"api.1\";q=5;w=60, \"api.2\";q=9;w=86400, \"ms\";q=7, \"bucket\";q=60;w=60",
            "+RateLimit: \"api.1\";r=4;t=60, \"api.2\";r=8;t=86400, \"ms\";r=6;t=1, \"bucket\";r=2;t=1",
        ]
    );
}

#[test]
fn ietf_tells_of_any_number_of_quotas() {
    for quotas in 1..=20_u64 {
        let limits: Vec<String> = (1..=quotas).map(|hours| format!("5/{hours} hours")).collect();
        let list = |member: &dyn Fn(u64) -> String| (1..=quotas).map(member).collect::<Vec<_>>().join(", ");
        let name = |place| if quotas > 1 { format!("\"api.{place}\"") } else { "\"api\"".to_owned() };
        let policy = list(&|place| format!("{};q=5;w={}", name(place), place * 3600));
        let limit = list(&|place| format!("{};r=4;t={}", name(place), place * 3600));
        let told = lines(&telling("ietf", &limits.join("; ")));
        assert_eq!(told, [format!("+RateLimit-Policy: {policy}"), format!("+RateLimit: {limit}")]);
    }
}

#[test]
fn numbers_of_any_length_are_told() {
    for limit in [1, 10, 11, 100, 101, 12_345, 1_000_000_000_000_u64] {
        let lines = lines(&telling("ietf", &format!("{limit}/day")));
        assert_eq!(lines[1], format!("+RateLimit: \"api\";r={};t=86400", limit - 1));
    }
}

#[test]
fn ietf_leaves_t_out_when_it_cannot_rise() {
    let rig = telling("ietf", "0/hour");
    assert_eq!(
        lines(&rig),
        ["+RateLimit-Policy: \"api\";q=0;w=3600", "+RateLimit: \"api\";r=0", "Cache-Control: no-store",]
    );
}

#[test]
fn x_ratelimit_tells_always_and_resets_in_unix_time() {
    let rig = telling("x-ratelimit", "2/hour");
    let told = |remaining: u64| {
        vec![
            "X-RateLimit-Limit: 2".to_owned(),
            format!("X-RateLimit-Remaining: {remaining}"),
            "X-RateLimit-Reset: 1700003600".to_owned(),
        ]
    };
    assert_eq!(lines(&rig), told(1));
    assert_eq!(lines(&rig), told(0));
    assert_eq!(lines(&rig), [told(0), DENIED.map(str::to_owned).to_vec()].concat());
}

#[test]
fn x_ratelimit_delta_tells_only_of_denials_and_resets_in_seconds() {
    let rig = telling("x-ratelimit-delta", "1/hour");
    assert_eq!(lines(&rig), [""; 0]);
    rig.clock.advance(std::time::Duration::from_micros(1));
    assert_eq!(lines(&rig), denied(&["X-RateLimit-Limit: 1", "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 3600"]));
}

#[test]
fn x_rate_limit_resets_only_on_denials() {
    let rig = telling("x-rate-limit", "1/hour");
    assert_eq!(lines(&rig), ["X-Rate-Limit-Limit: 1", "X-Rate-Limit-Remaining: 0"]);
    let told = ["X-Rate-Limit-Limit: 1", "X-Rate-Limit-Remaining: 0", "X-Rate-Limit-Reset: 1700003600"];
    assert_eq!(lines(&rig), denied(&told));
}

#[test]
fn without_dialects_retry_after_stays() {
    let rig = telling("[]", "1/hour");
    assert_eq!(lines(&rig), [""; 0]);
    assert_eq!(lines(&rig), DENIED);
}

#[test]
fn the_default_is_ietf_and_x_ratelimit() {
    let rig = rig("rules: [{ name: api, limit: 2/hour }]");
    assert_eq!(
        lines(&rig),
        [
            "+RateLimit-Policy: \"api\";q=2;w=3600",
            "+RateLimit: \"api\";r=1;t=3600",
            "X-RateLimit-Limit: 2",
            "X-RateLimit-Remaining: 1",
            "X-RateLimit-Reset: 1700003600",
        ]
    );
}

#[test]
fn two_meanings_of_one_header_are_refused() {
    assert!(!crate::rig::mistakes("headers: [x-ratelimit, x-ratelimit-delta]\nrules: []").is_empty());
}

#[test]
fn an_upstreams_numbers_are_replaced_only_where_we_are_stricter() {
    let replaced = |remaining: &str| {
        let rig = telling("x-ratelimit", "5/hour");
        !lines_beside(&rig, &[("x-ratelimit-remaining", remaining), ("X-RateLimit-Limit", "9")]).is_empty()
    };
    assert!(replaced("5"));
    assert!(!replaced("4"));
    assert!(!replaced("0"));
    assert!(replaced("many"));
    assert!(replaced("-1"));
}

#[test]
fn our_members_stand_beside_an_upstreams() {
    let rig = telling("ietf", "2/hour");
    let lines = lines_beside(&rig, &[("RateLimit", "\"up\";r=1;t=1"), ("RateLimit-Policy", "\"up\";q=1")]);
    assert!(lines.len() == 2 && lines.iter().all(|line| line.starts_with('+')), "{lines:?}");
}

#[test]
fn rules_with_different_dialects_speak_each_its_own() {
    let rig = rig("
rules:
  - { name: a, headers: x-ratelimit, limit: 9/hour }
  - { name: b, headers: x-rate-limit, limit: 1/hour }");
    assert_eq!(
        lines(&rig),
        [
            "X-RateLimit-Limit: 9",
            "X-RateLimit-Remaining: 8",
            "X-RateLimit-Reset: 1700003600",
            "X-Rate-Limit-Limit: 1",
            "X-Rate-Limit-Remaining: 0",
        ]
    );
}

#[test]
fn times_are_whole_seconds_rounded_up_and_at_least_one() {
    let rig = telling("[ietf, x-ratelimit]", "1/1500 ms");
    lines(&rig);
    assert_eq!(
        lines(&rig),
        [
            "+RateLimit-Policy: \"api\";q=1;w=2",
            "+RateLimit: \"api\";r=0;t=2",
            "X-RateLimit-Limit: 1",
            "X-RateLimit-Remaining: 0",
            "X-RateLimit-Reset: 1700000002",
            "Retry-After: 2",
            "Cache-Control: no-store",
        ]
    );
    rig.clock.advance(std::time::Duration::from_micros(1_499_999));
    assert!(lines(&rig).contains(&"Retry-After: 1".to_owned()));
}
