//! What a denied request is answered: the kind of body that Accept likes, bodies of one's own, and gRPC.

use serde_json::Value;

use crate::rig::{Call, Reply, get, rig};

/// The answer of a rule with this `on_limit` to its second request, the first being the last it allows.
fn answer(on_limit: &str, request: Call) -> Reply {
    let rig = rig(&format!("headers: []\nrules: [{{ name: login, on_limit: {on_limit}, limit: 1/minute }}]"));
    rig.check(&request);
    rig.answer(&request).expect("the second request is denied")
}

fn check(accept: &str, on_limit: &str, content_type: &str) {
    let request = if accept == "none" { get("/") } else { get("/").header("Accept", accept) };
    let answer = answer(on_limit, request);
    assert_eq!(answer.header("content-type"), Some(content_type), "{accept} with {on_limit}");
}

const PROBLEM: &str = "application/problem+json";
const HTML: &str = "text/html; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

#[test]
fn accept_chooses_the_body() {
    let check = |accept: &str, content_type: &str| check(accept, "{}", content_type);
    check("none", PROBLEM);
    check("*/*", PROBLEM);
    check("", PROBLEM);
    check("application/json", PROBLEM);
    check("application/problem+json", PROBLEM);
    check("application/*", PROBLEM);
    check("Application/JSON", PROBLEM);
    check("text/html", HTML);
    check("TEXT/HTML;level=1", HTML);
    check("text/plain", PLAIN);
    check("text/*", HTML);
    check("text/html, */*", HTML);
    check("text/plain, text/html", HTML);
    check("text/plain, text/html;q=0.9", PLAIN);
    check("text/html;q=0.3, text/plain; q=0.7, application/json;q=0.5", PLAIN);
    check("text/*;q=0.5, application/json;q=0.4", HTML);
    check("text/*, text/html;q=0", PLAIN);
    check("*/*;q=0.1, text/plain;q=0.2", PLAIN);
    check("*/*, application/json;q=0.1, application/problem+json;q=0.1", HTML);
    check("text/html;q=0", PROBLEM);
    check("*/*;q=0", PROBLEM);
    check("image/png", PROBLEM);
    check("image/png, text/plain;q=0.001", PLAIN);
    check("text/plain;q=2", PROBLEM);
    check("text/plain;q=abc", PROBLEM);
    check(",,;q=1,", PROBLEM);
    check("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8", HTML);
}

#[test]
fn several_accept_lines_are_one_list() {
    let request = get("/").header("Accept", "text/html;q=0.5").header("accept", "text/plain");
    assert_eq!(answer("{}", request).header("content-type"), Some(PLAIN));
}

#[test]
fn the_default_of_a_rule_answers_where_accept_likes_it_as_much_or_fits_nothing() {
    let check = |accept: &str, content_type: &str| check(accept, "{ default: html }", content_type);
    check("none", HTML);
    check("*/*", HTML);
    check("image/png", HTML);
    check("text/*", HTML);
    check("application/json", PROBLEM);
    check("text/plain", PLAIN);
    check("application/json, text/html;q=0.5", PROBLEM);
}

#[test]
fn a_problem_document_is_json_with_the_registered_type() {
    let answer = answer("{}", get("/"));
    assert_eq!(answer.status_code, 429);
    let problem: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert_eq!(problem["status"], 429);
    assert_eq!(problem["violated-policies"], serde_json::json!(["login"]));
    assert_eq!(problem["retry_after"], 60);
    assert!(problem["title"].is_string() && problem["detail"].is_string());
    assert_eq!(answer.header("retry-after"), Some("60"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[test]
fn a_problem_that_never_passes_says_null() {
    let rig = rig("rules: [{ name: a, limit: '5/hour; 0/day' }, { name: b, limit: 0/hour }]");
    let answer = rig.answer(&get("/")).unwrap();
    let problem: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(problem["violated-policies"], serde_json::json!(["a.2", "b"]));
    assert_eq!(problem["retry_after"], Value::Null);
    assert_eq!(answer.header("retry-after"), None);
}

#[test]
fn bodies_of_ones_own_replace_ours_one_by_one() {
    let on_limit = r#"{ body: { plain: "slow down, {rule}", json: '{"again":{retry_after},"of":{limit},"left":{remaining},"{x}":{}}' } }"#;
    let json = answer(on_limit, get("/"));
    assert_eq!(json.header("content-type"), Some("application/json"));
    assert_eq!(json.body, r#"{"again":60,"of":1,"left":0,"{x}":{}}"#);
    let plain = answer(on_limit, get("/").header("Accept", "text/plain"));
    assert_eq!((plain.header("content-type"), plain.body.as_str()), (Some(PLAIN), "slow down, login"));
    let html = answer(on_limit, get("/").header("Accept", "text/html"));
    assert!(html.body.starts_with("<!doctype html>") && html.body.contains("login"), "{}", html.body);
}

#[test]
fn a_plain_string_is_the_plain_body_and_the_default() {
    let body =
        |accept: &str| answer("{ body: 'wait {retry_after} s of {reset_after}' }", get("/").header("Accept", accept));
    assert_eq!(body("*/*").body, "wait 60 s of 60");
    assert_eq!(body("image/png").body, "wait 60 s of 60");
    assert_eq!(body("application/json").header("content-type"), Some(PROBLEM));
}

#[test]
fn a_missing_number_is_null_in_json_and_never_elsewhere() {
    let body = |accept: &str| {
        let rig = rig(
            r#"rules: [{ name: r, limit: 0/hour, on_limit: { body: { plain: "{retry_after}", json: "{retry_after}", html: "{retry_after}" } } }]"#,
        );
        let call = get("/").header("Accept", accept);
        rig.answer(&call).unwrap().body
    };
    assert_eq!(body("application/json"), "null");
    assert_eq!(body("text/plain"), "never");
    assert_eq!(body("text/html"), "never");
}

#[test]
fn a_rules_on_limit_is_laid_over_the_files_key_by_key() {
    let rig = rig(r#"
on_limit: { status: 503, body: { plain: file, json: '"file"' }, headers: { X-A: file, X-B: file }, close: true }
rules:
  - { name: a, match: { path: /a }, limit: 0/hour, on_limit: { status: 429, body: { plain: rule }, headers: { x-b: rule } } }
  - { name: b, match: { path: /b }, limit: 0/hour, on_limit: { close: false } }"#);
    let answer = |path: &str, accept: &str| {
        let call = get(path).header("Accept", accept);
        rig.answer(&call).unwrap()
    };
    let a = answer("/a", "text/plain");
    assert_eq!((a.status_code, a.body.as_str(), a.close), (429, "rule", true));
    assert_eq!((a.header("X-A"), a.header("X-B")), (Some("file"), Some("rule")));
    assert_eq!(a.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-b")).count(), 1);
    assert_eq!(answer("/a", "application/json").body, "\"file\"");
    let b = answer("/b", "text/plain");
    assert_eq!((b.status_code, b.body.as_str(), b.close), (503, "file", false));
}

#[test]
fn the_rule_whose_status_is_shown_gives_the_answer() {
    let rig = rig("
rules:
  - { name: short, limit: 1/minute, on_limit: { status: 420 } }
  - { name: long, limit: 1/hour, on_limit: { status: 418 } }");
    rig.check(&get("/"));
    assert_eq!(rig.answer(&get("/")).unwrap().status_code, 418);
    assert!(rig.answer(&get("/").peer("192.0.2.1")).is_none());
}

#[test]
fn grpc_callers_get_resource_exhausted() {
    for content_type in ["application/grpc", "application/grpc+proto", "Application/GRPC"] {
        let answer = answer("{ status: 503, body: custom }", get("/").header("Content-Type", content_type));
        assert_eq!((answer.status_code, answer.body.as_str()), (200, ""));
        assert_eq!(answer.header("grpc-status"), Some("8"));
        assert_eq!(answer.header("content-type"), Some("application/grpc"));
        assert_eq!(answer.header("retry-after"), Some("60"));
    }
    assert_eq!(answer("{}", get("/").header("Content-Type", "application/json")).status_code, 429);
}

#[test]
fn every_value_of_an_answer_is_a_valid_header() {
    for request in [get("/"), get("/").header("Content-Type", "application/grpc")] {
        for (name, value) in answer("{}", request).headers {
            assert!(value.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{name}: {value:?}");
        }
    }
}
