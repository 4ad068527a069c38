//! Limit strings: every vector, and the two directions of the grammar.

use proptest::prelude::*;
use serde_json::Value;
use tollgate::quota::{Algorithm, Limits, MAX_AMOUNT, Quota};

#[test]
fn reads_every_vector_as_it_says() {
    let vectors: Value = serde_json::from_str(include_str!("../../../../vectors/limit-strings.json")).unwrap();
    let vectors = vectors.as_array().unwrap();
    assert!(!vectors.is_empty());
    for vector in vectors {
        let input = vector["input"].as_str().unwrap();
        match input.parse::<Limits>() {
            Ok(limits) => assert_eq!(json(&limits), vector["limits"], "{input:?}"),
            Err(error) => assert_eq!(vector["error"], true, "{input:?}: {error}"),
        }
    }
}

fn json(limits: &Limits) -> Value {
    let limit = |limit: &tollgate::quota::Limit| {
        let window_ms = u64::try_from(limit.window().as_millis()).unwrap();
        serde_json::json!({ "amount": limit.amount(), "window_ms": window_ms, "burst": limit.burst() })
    };
    limits.as_slice().iter().map(limit).collect()
}

#[test]
fn prints_limits_as_they_are_usually_written() {
    let check = |text: &str, printed: &str| assert_eq!(text.parse::<Limits>().unwrap().to_string(), printed);
    check("5/m", "5/minute");
    check("5 PER 2 Hrs", "5/2 hours");
    check("10perhour", "10/hour");
    check("10 per2hours", "10/2 hours");
    check("5/minuteburst 5", "5/minute burst 5");
    check("5/MBURST5", "5/minute burst 5");
    check("1/s|2/m,3/h", "1/second; 2/minute; 3/hour");
    check("100/minute burst 20", "100/minute burst 20");
    check("UNLIMITED", "unlimited");
    check("0/hour", "0/hour");
}

#[test]
fn errors_name_the_place_and_what_stands_there() {
    let check = |text: &str, expected: &str, offset: usize, found: &str| {
        let error = text.parse::<Limits>().unwrap_err();
        assert_eq!(error.offset(), offset, "{error}");
        let ending = format!("at character {}, found {found}", offset + 1);
        assert!(error.to_string().contains(expected) && error.to_string().ends_with(&ending), "{error}");
    };
    check("", "a count from 0", 0, "the end");
    check("five/hour", "a count from 0", 0, "\"five/hour\"");
    check("5", "\"/\" or \"per\"", 1, "the end");
    check("5/fortnight", "a unit", 2, "\"fortnight\"");
    check("5/0 hours", "from 1", 2, "\"0\"");
    check("5/hour burst 0", "a burst from 1", 13, "\"0\"");
    check("5/hour extra", "\"burst\", \";\" or the end", 7, "\"extra\"");
    check("5/hour burst 2 burst 3", "\";\" or the end", 15, "\"burst\"");
    check("1000000000001/day", "to 1000000000000", 0, "\"1000000000001/day\"");
    check("5/101 years", "at most 100 years", 2, "\"101\"");
    check("1/year burst 101", "refills within 100 years", 13, "\"101\"");
    check("5/hour;", "a count", 7, "the end");
    check("unlimited; 5/hour", "stands alone", 9, "\";\"");
    check("5/heure é", "a unit", 2, "\"heure\"");
    check("5/minut", "a unit", 2, "\"minut\", did you mean \"minute\"?");
    check("5/mi", "a unit", 2, "\"mi\", did you mean \"minute\"?");
    check("5/mo; 10/day", "a unit", 2, "\"mo\", did you mean \"month\"?");
    check("1/secondss", "a unit", 2, "\"secondss\"");
    check("5/minutebursts 5", "a unit", 2, "\"minutebursts\"");
}

#[test]
fn a_quota_is_what_its_algorithm_can_count() {
    let check = |limit: &str, algorithm: Algorithm, error: Option<&str>| {
        let limits: Limits = limit.parse().unwrap();
        let quota = Quota::new(limits.as_slice()[0], algorithm);
        let message = quota.err().map(|error| error.to_string());
        match error {
            Some(part) => assert!(message.as_ref().is_some_and(|message| message.contains(part)), "{message:?}"),
            None => assert_eq!(message, None),
        }
    };
    check("5/hour burst 9", Algorithm::TokenBucket, None);
    check("5/hour burst 9", Algorithm::FixedWindow, Some("has no burst"));
    check("0/hour burst 9", Algorithm::TokenBucket, Some("amount 0 with a burst"));
    check("0/hour", Algorithm::TokenBucket, None);
    check("10000/hour", Algorithm::SlidingLog, None);
    check("10001/hour", Algorithm::SlidingLog, Some("at most 10000"));
}

#[test]
fn a_burst_asks_for_a_bucket_unless_something_else_is_named() {
    let check = |text: &str, algorithm: Algorithm| {
        assert_eq!(text.parse::<Limits>().unwrap().default_algorithm(), algorithm);
    };
    check("5/hour", Algorithm::FixedWindow);
    check("5/hour; 10/day burst 2", Algorithm::TokenBucket);
    check("unlimited", Algorithm::FixedWindow);
}

/// A limit as anybody may write it: any spelling of a unit, any case, white space anywhere.
fn written() -> impl Strategy<Value = String> {
    let unit = prop::sample::select(vec![
        "ms",
        "milliseconds",
        "s",
        "sec",
        "SECS",
        "second",
        "m",
        "Min",
        "minutes",
        "h",
        "HRS",
        "hour",
        "d",
        "days",
        "w",
        "Week",
        "month",
        "months",
        "y",
        "yr",
        "YEARS",
    ]);
    let space = prop::sample::select(vec!["", " ", "\t", "\u{2003}", " \n"]);
    let by = prop::sample::select(vec!["/", "per", "PER"]);
    let n = prop::option::of(1..=90_u64);
    let amount = prop_oneof![0..=20_u64, 0..=MAX_AMOUNT];
    let burst = prop::option::of(1..=20_u64);
    (amount, by, n, unit, burst, space).prop_map(|(amount, by, n, unit, burst, space)| {
        let n = n.map(|n| n.to_string()).unwrap_or_default();
        let burst = burst.map(|burst| format!("{space}burst{space}{burst}")).unwrap_or_default();
        format!("{space}{amount}{space}{by}{space}{n}{space}{unit}{burst}{space}")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn printing_and_parsing_again_gives_the_same(all in prop::collection::vec(written(), 1..4), separator in "[,;|]") {
        let text = all.join(&separator);
        // Some refill for longer than 100 years, and are none.
        if let Ok(limits) = text.parse::<Limits>() {
            prop_assert_eq!(limits.as_slice().len(), all.len());
            prop_assert_eq!(limits.to_string().parse(), Ok(limits));
        }
    }

    #[test]
    fn any_text_is_a_limit_or_an_error_inside_it(text in "\\PC{0,40}|[0-9/ .;,|perburstmhdé٣]{0,24}") {
        match text.parse::<Limits>() {
            Ok(limits) => prop_assert_eq!(limits.to_string().parse(), Ok(limits)),
            Err(error) => {
                prop_assert!(error.offset() <= text.chars().count());
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
