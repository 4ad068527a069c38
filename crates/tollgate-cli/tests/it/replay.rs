//! `tollgate replay`: recorded requests on their own clock.

use crate::command::{File, run_with_input, tollgate};

const POLICY: &str = "
rules:
  - { name: login, match: { path: /login }, limit: 2/hour, count: { status: [401] } }
  - { name: trial, limit: 1/minute, mode: shadow }
";

#[test]
fn the_report_tells_who_was_denied_and_when() {
    let policy = File::new("policy.yaml", POLICY);
    let line = |time: u32, status: u16| {
        format!("{{\"time\": {time}, \"peer\": \"203.0.113.7\", \"path\": \"/login\", \"status\": {status}}}\n")
    };
    // Right passwords (200) do not count; the third wrong one is denied.
    let requests: String =
        [200, 401, 200, 401, 401].into_iter().zip(1_700_000_000..).map(|(s, t)| line(t, s)).collect();
    run_with_input(&["replay", policy.path(), "-"], &requests)
        .exits(0)
        .says("5 requests from 2023-11-14T22:13:20Z to 2023-11-14T22:13:24Z")
        .says("1 denied, 20.0 %")
        .says("login\n  5 seen, 1 denied, 20.0 %\n  first 2023-11-14T22:13:24Z, last 2023-11-14T22:13:24Z\n          1 203.0.113.7")
        .says("trial\n  5 seen, 4 would have been denied (shadow), 80.0 %");
}

#[test]
fn time_is_unix_seconds_or_rfc_3339_and_never_goes_back() {
    let policy = File::new("policy.yaml", "rules: [ { name: a, limit: 1/minute } ]");
    let requests = "\
{\"time\": \"2023-11-14T23:13:20.5+01:00\", \"peer\": \"::1\"}
{\"time\": 1700000000.4, \"peer\": \"::1\"}
{\"time\": 1700000060.5, \"peer\": \"::1\", \"unknown\": {\"keys\": [\"are\", \"passed over\"]}}
";
    let ran = run_with_input(&["replay", policy.path(), "-", "--output", "json"], requests).exits(0);
    let allowed: Vec<bool> = ran.stdout.lines().map(|line| line.contains("\"allow\":true")).collect();
    assert_eq!(allowed, [true, false, true]);
    assert!(ran.stderr.contains("1 request had an earlier time"), "{}", ran.stderr);
}

/// `tollgate replay … | head -1` has what it wants.
#[test]
fn a_closed_pipe_ends_it_without_a_word() {
    let policy = File::new("policy.yaml", "rules: [ { name: a, limit: 1/minute } ]");
    let requests = "{\"time\": 1700000000, \"peer\": \"10.0.0.1\"}\n".repeat(10_000);
    let policy = policy.and("requests.jsonl", &requests);
    let requests = policy.folder().join("requests.jsonl");
    let (read, written) = std::io::pipe().expect("a pipe");
    drop(read);
    let mut command = tollgate();
    command.args(["replay", policy.path(), "--output", "json"]).arg(requests).stdout(written);
    let ran = command.output().expect("the binary is built");
    assert_eq!((ran.status.code(), ran.stderr), (Some(0), Vec::new()));
}

#[test]
fn a_malformed_line_is_named_and_ends_the_replay() {
    let policy = File::new("policy.yaml", "rules: [ { name: a, limit: 1/minute } ]");
    let good = "{\"time\": 1700000000, \"peer\": \"10.0.0.1\"}\n";
    for (bad, what) in [
        ("{\"time\": 1700000000}", "missing field `peer`"),
        ("{\"peer\": \"10.0.0.1\"}", "missing field `time`"),
        ("{\"time\": -1, \"peer\": \"10.0.0.1\"}", "the time is out of range"),
        ("{\"time\": 1e300, \"peer\": \"10.0.0.1\"}", "the time is out of range"),
        ("{\"time\": \"yesterday\", \"peer\": \"10.0.0.1\"}", "expected Unix seconds or RFC 3339"),
        ("{\"time\": 1, \"peer\": \"example.org\"}", "peer \"example.org\": expected an IP address"),
        ("{\"time\": 1, \"peer\": \"10.0.0.1\", \"headers\": [1]}", "headers as a map of names"),
        ("{\"time\": 1, \"peer\": \"10.0.0.1\", \"status\": 70000}", "u16"),
        ("{\"time\": 1, \"peer\": \"10.0.0.1\", \"path\": \"b\"}", "path \"b\": expected it to start with \"/\""),
        ("1.1.1.1 - - [x]", "expected a request as a JSON object"),
        ("[]", "expected a request as a JSON object"),
        ("{\"time\": 1, ", "not a JSON object"),
    ] {
        let input = format!("{good}\n{good}{bad}\n");
        run_with_input(&["replay", policy.path(), "-"], &input).exits(2).says("-:4: ").says(what);
    }
    run_with_input(&["replay", policy.path(), "no-such-file"], "").exits(2).says("no-such-file");
    run_with_input(&["replay", policy.path(), "-"], "").exits(0).says("no requests");
}
