//! The cases in `vectors/`, which must pass as they are.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::command::{run, run_with_input};

#[test]
fn limit_strings() {
    let text = std::fs::read_to_string(vectors("limit-strings.json")).expect("the vectors are in the repository");
    let cases: Vec<Value> = serde_json::from_str(&text).expect("the vectors are JSON");
    // All that are right make one policy; each that is wrong is a mistake of its own in another.
    let (wrong, right): (Vec<_>, Vec<_>) = cases.iter().partition(|case| case.get("error").is_some());
    let policy = |cases: &[&Value]| {
        let rules =
            cases.iter().enumerate().map(|(i, case)| format!("  - {{ name: r{i}x, limit: {} }}\n", case["input"]));
        format!("rules:\n{}", rules.collect::<String>())
    };
    let meaning = run_with_input(&["check", "-", "--output", "json"], &policy(&right)).exits(0).json();
    for (rule, case) in meaning["rules"].as_array().expect("rules").iter().zip(&right) {
        let limits = rule["quotas"].as_array().expect("quotas").iter().map(|quota| {
            serde_json::json!({ "amount": quota["amount"], "window_ms": quota["window_ms"], "burst": quota["burst"] })
        });
        assert_eq!(Value::from_iter(limits), case["limits"], "{case}");
    }
    let mistakes = run_with_input(&["check", "-", "--output", "json"], &policy(&wrong)).exits(2).json();
    let lines: Vec<u64> =
        mistakes["mistakes"].as_array().expect("mistakes").iter().filter_map(|m| m["line"].as_u64()).collect();
    for (i, case) in (2..).zip(&wrong) {
        assert!(lines.contains(&i), "{case}");
    }
}

#[test]
fn decisions() {
    replay_all("decisions");
}

#[test]
fn clients() {
    replay_all("clients");
}

fn replay_all(kind: &str) {
    let folders = std::fs::read_dir(vectors(kind)).expect("the vectors are in the repository");
    for folder in folders.map(|entry| entry.expect("a folder").path()) {
        let file = |name: &str| folder.join(name).to_str().expect("plain names").to_owned();
        let ran = run(&["replay", &file("policy.yaml"), &file("requests.jsonl"), "--output", "json"]).exits(0);
        let expected = std::fs::read_to_string(file("expected.jsonl")).expect("every case has its answers");
        assert_eq!(ran.stdout.lines().count(), expected.lines().count(), "{}", folder.display());
        for (number, (got, expected)) in ran.stdout.lines().zip(expected.lines()).enumerate() {
            let read = |line: &str| -> Value { serde_json::from_str(line).expect("a line is JSON") };
            let (got, expected) = (read(got), read(expected));
            assert!(agrees(&got, &expected), "{}:{}\n{got}\n{expected}", folder.display(), number + 1);
        }
    }
}

/// Numbers within 2 ms, everything else equal; what is not expected does not matter.
fn agrees(got: &Value, expected: &Value) -> bool {
    match (got, expected) {
        (Value::Number(got), Value::Number(expected)) => {
            got.as_f64().zip(expected.as_f64()).is_some_and(|(got, expected)| (got - expected).abs() <= 0.002)
        }
        (Value::Array(got), Value::Array(expected)) => {
            got.len() == expected.len() && got.iter().zip(expected).all(|(got, expected)| agrees(got, expected))
        }
        (Value::Object(got), Value::Object(expected)) => {
            expected.iter().all(|(key, expected)| got.get(key).is_some_and(|got| agrees(got, expected)))
        }
        (got, expected) => got == expected,
    }
}

fn vectors(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors").join(name)
}
