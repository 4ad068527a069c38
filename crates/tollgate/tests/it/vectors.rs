//! Every vector of decisions: a policy, requests with their times, and what must be decided.

use std::{fs, path::Path, time::Duration};

use serde_json::{Value, json};
use tollgate::{algorithm::Verdict, clock::Timestamp, decision::Decision, limiter::Answered};

use crate::rig::{Call, Rig, get, rig_at};

#[test]
fn decides_every_vector_as_it_says() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/decisions");
    let mut cases = 0;
    for case in fs::read_dir(vectors).unwrap() {
        let case = case.unwrap().path();
        let text = |file: &str| fs::read_to_string(case.join(file)).unwrap();
        let rig = rig_at(Timestamp::default(), &text("policy.yaml"));
        let (requests, expected) = (text("requests.jsonl"), text("expected.jsonl"));
        assert_eq!(requests.lines().count(), expected.lines().count());
        for (n, (request, expected)) in requests.lines().zip(expected.lines()).enumerate() {
            let decided = decide(&rig, &serde_json::from_str(request).unwrap());
            let expected = serde_json::from_str(expected).unwrap();
            let place = format!("{} line {}", case.display(), n + 1);
            assert!(is_close(&decided, &expected), "{place}\n decided: {decided}\nexpected: {expected}");
        }
        cases += 1;
    }
    assert!(cases > 0);
}

/// Decides one line of requests on the clock of its time, and says what a replay would say.
fn decide(rig: &Rig, line: &Value) -> Value {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "times of vectors are small and positive"
    )]
    let micros = (line["time"].as_f64().unwrap() * 1e6).round() as u64;
    rig.clock.set(Timestamp::from_micros(micros));
    let decision = rig.check(&call(line));
    let status_code = line["status"].as_u64().map_or(200, |code| u16::try_from(code).unwrap());
    rig.limiter.settle_now(&decision, Answered::Status(status_code));
    let statuses: Vec<Value> = decision
        .counted()
        .map(|counted| {
            let status = counted.status();
            json!({
                "rule": counted.rule.name,
                "limit": status.limit,
                "remaining": status.remaining,
                "reset_after": status.reset_after.as_secs_f64(),
            })
        })
        .collect();
    told(&decision, statuses)
}

fn told(decision: &Decision, statuses: Vec<Value>) -> Value {
    json!({
        "client": decision.client().address().map(|address| address.to_string()),
        "allow": decision.verdict() == Verdict::Allow,
        "denied_by": decision.denied_by().collect::<Vec<_>>(),
        "shadow_denied_by": decision.shadow_denied_by().collect::<Vec<_>>(),
        "retry_after": decision.retry_after().as_ref().map(Duration::as_secs_f64),
        "statuses": statuses,
    })
}

fn call(line: &Value) -> Call {
    let mut call = get(line["path"].as_str().unwrap_or("/")).peer(line["peer"].as_str().unwrap());
    call = call.method(line["method"].as_str().unwrap_or("GET"));
    for (name, values) in line["headers"].as_object().into_iter().flatten() {
        let values = values.as_array().cloned().unwrap_or_else(|| vec![values.clone()]);
        for value in values.iter().filter_map(Value::as_str) {
            call = if name.eq_ignore_ascii_case("host") { call.host(value) } else { call };
            call = call.header(name, value);
        }
    }
    call
}

/// Equal, with numbers within two milliseconds.
fn is_close(decided: &Value, expected: &Value) -> bool {
    match (decided, expected) {
        (Value::Number(a), Value::Number(b)) => (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() <= 0.002,
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_close(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| is_close(a, b)))
        }
        (a, b) => a == b,
    }
}
