//! `tollgate check`: what a file means, or everything that is wrong with it.

use serde_json::json;

use crate::command::{File, run, run_with_input};

#[test]
fn all_mistakes_are_reported_at_once_with_line_and_column() {
    let file = File::new(
        "policy.yaml",
        "\
listen:
  - { address: 127.0.0.1:80800, upstream: http://127.0.0.1:5000 }
rules:
  - name: login
    limit: 5/fortnight
    algorithm: token-buckets
  - name: api
    by: [client, cookies:x]
    lmit: 5/minute
",
    );
    let ran = run(&["check", file.path()]).exits(2);
    for (place, what) in [
        ("policy.yaml:2:16", "expected ADDRESS:PORT"),
        ("policy.yaml:5:14", "expected a unit"),
        ("policy.yaml:6:16", "did you mean \"token-bucket\"?"),
        ("policy.yaml:8:18", "by \"cookies:x\": expected client"),
        ("policy.yaml:9:5", "unknown key \"lmit\" in a rule, did you mean \"limit\"?"),
    ] {
        let line = ran.stderr.lines().find(|line| line.contains(place));
        assert!(line.is_some_and(|line| line.contains(what)), "{place}: {what} in {}", ran.stderr);
    }
    assert!(ran.stderr.contains("  5 |     limit: 5/fortnight\n    |              ^"), "{}", ran.stderr);
    assert!(ran.stderr.ends_with("policy.yaml: 5 mistakes\n"), "{}", ran.stderr);
}

#[test]
fn mistakes_come_as_json_on_request() {
    let file = File::new("policy.yaml", "rules:\n  - { name: a, limit: 5/minute, moed: shadow }\n");
    let mistakes = run(&["check", file.path(), "--output", "json"]).exits(2).json();
    assert_eq!(mistakes["mistakes"][0]["line"], 2);
    assert_eq!(mistakes["mistakes"][0]["column"], 33);
}

#[test]
fn the_meaning_comes_as_json_on_request() {
    let text = "\
rules:
  - { name: api, by: [client, header:X-Key], limit: 100/2 minutes burst 20, mode: shadow }
  - { name: free, by: [], limit: unlimited }
";
    let meaning = run_with_input(&["check", "-", "--output", "json"], text).exits(0).json();
    let quota = json!({ "amount": 100, "window_ms": 120_000, "n": 2, "unit": "minute", "burst": 20 });
    let rule = &meaning["rules"][0];
    assert_eq!(
        (&rule["name"], &rule["mode"], &rule["algorithm"]),
        (&json!("api"), &json!("shadow"), &json!("token-bucket"))
    );
    assert_eq!(rule["by"], json!(["client", "header:X-Key"]));
    assert_eq!(rule["quotas"], json!([quota]));
    assert_eq!(meaning["rules"][1]["quotas"], json!([]));
    assert_eq!(meaning["rules"][1]["by"], json!([]));
    assert_eq!(meaning["warnings"], json!([]));
}

#[test]
fn a_valid_policy_is_told_in_plain_words_with_what_looks_wrong() {
    let text = "\
listen: [ { address: 127.0.0.1:0 } ]
rules:
  - { name: uploads, match: { path: /upload, method: POST }, limit: 5/month }
";
    run_with_input(&["check", "-"], text)
        .exits(0)
        .says("concerns  POST, path /upload")
        .says("allows    5 per month to each client")
        .says("-:1:11: warning: no upstream: tollgate itself answers")
        .says("warning: rule uploads: a month is 30 days from first use")
        .says("a restart pardons everybody");
}

#[test]
fn files_are_relative_to_the_policy_and_variables_come_from_the_environment() {
    let text = "\
rules:
  - name: office
    match: { client: { file: office.txt } }
    limit: 5/minute
    on_limit: { body: { html: { file: limited.html } }, headers: { X-Key: '${TOLLGATE_TEST_UNSET}' } }
";
    let file = File::new("policy.yaml", text)
        .and("office.txt", "# the office\n10.10.0.0/24\n::1 # me\n")
        .and("limited.html", "<p>");
    run(&["check", file.path()]).exits(2).says("policy.yaml:5:").says("TOLLGATE_TEST_UNSET").says(": 1 mistake\n");

    let file =
        File::new("policy.yaml", "rules: [ { name: a, match: { client: { file: gone.txt } }, limit: 5/minute } ]");
    run(&["check", file.path()]).exits(2).says("file \"gone.txt\": no such file");
    // A file that is named is a file, whatever its name.
    let odd = "rules: [ { name: a, match: { client: { file: '-' } }, limit: 5/minute } ]";
    run_with_input(&["check", "-"], odd).exits(2).says("file \"-\": no such file");
    let file = file.and("gone.txt", "10.0.0.0/8\nnot an address\n");
    run(&["check", file.path()]).exits(2).says("line 2 has \"not an address\"");
}

#[test]
fn wrong_usage_names_the_flag_and_exits_with_2() {
    run(&["check", "no-such-file.yaml"]).exits(2).says("no-such-file.yaml: no such file");
    run(&["check", "--output", "xml"]).exits(2).says("--output");
    run(&["frobnicate"]).exits(2).says("frobnicate");
    run(&["serve", "--limit", "5/fortnight"]).exits(2).says("--limit").says("expected a unit");
    run(&["serve", "policy.yaml", "--limit", "5/minute"]).exits(2).says("cannot be used with");
    run(&["serve", "policy.yaml", "--by", "path"]).exits(2).says("cannot be used with");
    run(&["serve", "--limit", "5/minute", "--upstream", "https://example"]).exits(2).says("expected http://HOST:PORT");
}
