//! What readers say of answers that are not what they asked for.

use super::*;

fn reading<T>(source: &str, read: impl FnOnce(Field<'_>) -> T) -> (T, Vec<Mistake>) {
    let mistakes = Mistakes::default();
    let variable = |name: &str| match name {
        "FIVE" => Some("5".to_owned()),
        "TRUE" => Some("true".to_owned()),
        "SECRET" => Some("hunter2".to_owned()),
        _ => None,
    };
    let node = Node::parse(source, &variable, &mistakes).expect("the test's source is YAML");
    let read = read(Field { name: "x", node: &node, mistakes: &mistakes });
    (read, mistakes.finish())
}

/// Either the value, or the only message, followed by its help.
fn answer<T>(source: &str, read: impl FnOnce(Field<'_>) -> Option<T>) -> Result<T, String> {
    let (read, mistakes) = reading(source, read);
    match (read, mistakes.as_slice()) {
        (Some(value), []) => Ok(value),
        (None, [Mistake { message, help: None, .. }]) => Err(message.clone()),
        (None, [Mistake { message, help: Some(help), .. }]) => Err(format!("{message}; {help}")),
        (read, mistakes) => panic!("{source}: {} and {mistakes:#?}", read.is_some()),
    }
}

fn wrong<T>(message: &str) -> Result<T, String> {
    Err(message.to_owned())
}

#[test]
fn reads_texts() {
    let check = |source: &str, expected: Result<&str, String>| {
        assert_eq!(answer(source, |field| field.text().map(str::to_owned)), expected.map(str::to_owned));
    };
    check("5/hour", Ok("5/hour"));
    check("5", Ok("5"));
    check("''", Ok(""));
    check("'true'", Ok("true"));
    check("${TRUE}", Ok("true"));
    check("true", wrong("x: expected text, found true; write \"true\" in quotes if the word is meant"));
    check("[a]", wrong("x: expected text, found a list"));
}

#[test]
fn says_that_nothing_was_found() {
    let text = |field: Field<'_>| field.fields("a rule")?.required("a")?.text().map(str::to_owned);
    assert_eq!(answer("a:\n", text), wrong("a: expected text, found nothing"));
}

#[test]
fn reads_truth_values() {
    let check = |source: &str, expected: Result<bool, String>| {
        assert_eq!(answer(source, |field| field.boolean()), expected);
    };
    check("true", Ok(true));
    check("false", Ok(false));
    check("${TRUE}", Ok(true));
    check("yes", wrong("x: expected true or false, found \"yes\""));
    check("1", wrong("x: expected true or false, found 1"));
    check("'true'", wrong("x: expected true or false without quotes, found \"true\"; remove the quotes"));
}

#[test]
fn reads_integers() {
    let check = |source: &str, expected: Result<u64, String>| {
        assert_eq!(answer(source, |field| field.integer(1..=100)), expected);
    };
    let refused = |found: &str| Err(format!("x: expected a whole number from 1 to 100, found {found}"));
    check("1", Ok(1));
    check("100", Ok(100));
    check("${FIVE}", Ok(5));
    check("0", refused("0"));
    check("101", refused("101"));
    check("-1", refused("-1"));
    check("+1", refused("\"+1\""));
    check("010", refused("010"));
    check("1.0", refused("\"1.0\""));
    check("1_0", refused("\"1_0\""));
    check("99999999999999999999", refused("99999999999999999999"));
    check("'5'", wrong("x: expected a whole number from 1 to 100 without quotes, found \"5\"; remove the quotes"));
}

#[test]
fn reads_durations() {
    let check = |source: &str, expected: Result<u128, String>| {
        let milliseconds = |field: Field<'_>| field.duration().map(|duration| duration.as_millis());
        assert_eq!(answer(source, milliseconds), expected);
    };
    let refused = |found: &str| Err(format!("x: expected a duration such as 100ms, 10s, 5m or 1h, found {found}"));
    check("100ms", Ok(100));
    check("10s", Ok(10_000));
    check("'5m'", Ok(300_000));
    check("1h", Ok(3_600_000));
    check("8760h", Ok(31_536_000_000));
    check("8761h", wrong("x: expected a duration of at most 8760h, a year, found \"8761h\""));
    check(
        "18446744073709551615h",
        wrong("x: expected a duration of at most 8760h, a year, found \"18446744073709551615h\""),
    );
    check("0s", wrong("x: expected a duration above zero, found \"0s\""));
    check("10", refused("10; put a unit behind the number"));
    check("10 s", refused("\"10 s\""));
    check("s", refused("\"s\""));
    check("-1s", refused("\"-1s\""));
    check("1.5s", refused("\"1.5s\""));
    check("1d", refused("\"1d\""));
    check("true", refused("true"));
}

#[test]
fn reads_sizes() {
    let check = |source: &str, expected: Result<u64, String>| {
        assert_eq!(answer(source, |field| field.size(1..=1 << 30)), expected);
    };
    check("64KiB", Ok(65_536));
    check("1MiB", Ok(1 << 20));
    check("1GiB", Ok(1 << 30));
    check("512", Ok(512));
    check("2GiB", wrong("x: expected a size from 1 to 1073741824 bytes, found \"2GiB\""));
    check("0", wrong("x: expected a size from 1 to 1073741824 bytes, found 0"));
    check(
        "18446744073709551615KiB",
        wrong("x: expected a size from 1 to 1073741824 bytes, found \"18446744073709551615KiB\""),
    );
    check("64K", wrong("x: expected a size such as 64KiB, 1MiB or 512 (bytes), found \"64K\""));
}

#[test]
fn reads_one_of_a_few_words() {
    let check = |source: &str, expected: Result<u8, String>| {
        assert_eq!(answer(source, |field| field.one_of(&[("enforce", 1), ("shadow", 2), ("off", 3)])), expected);
    };
    check("shadow", Ok(2));
    check("'off'", Ok(3));
    check("shadwo", wrong("x \"shadwo\": expected one of enforce, shadow, off, did you mean \"shadow\"?"));
    check("permit", wrong("x \"permit\": expected one of enforce, shadow, off"));
    check("[off]", wrong("x: expected one of enforce, shadow, off, found a list"));
}

#[test]
fn reads_lists_and_what_stands_for_them() {
    let list_or_one = |source: &str| answer(source, |field| field.list_or_one(|item| item.integer(1..=9)));
    assert_eq!(list_or_one("[1, 2]"), Ok(vec![1, 2]));
    assert_eq!(list_or_one("[]"), Ok(vec![]));
    assert_eq!(list_or_one("3"), Ok(vec![3]));
    assert_eq!(list_or_one("{}"), wrong("x: expected a whole number from 1 to 9, found a map"));
    let list = |source: &str| answer(source, |field| field.list(|item| item.integer(1..=9)));
    assert_eq!(list("[1]"), Ok(vec![1]));
    assert_eq!(list("1"), wrong("x: expected a list, found 1"));
}

#[test]
fn finds_the_mistakes_of_all_items() {
    let (read, mistakes) = reading("[a, 1, b]", |field| field.list(|item| item.integer(1..=9)));
    assert_eq!(read, None);
    assert_eq!(mistakes.iter().map(|mistake| mistake.column).collect::<Vec<_>>(), [2, 8]);
}

#[test]
fn walks_over_known_keys() {
    let read = |source: &str| {
        let read = |field: Field<'_>| {
            let mut fields = field.fields("a rule")?;
            let name = fields.required("name").and_then(Field::text).map(str::to_owned);
            let limit = fields.optional("limit").and_then(Field::text).map(str::to_owned);
            fields.finish();
            Some((name, limit))
        };
        let (_, mistakes) = reading(source, read);
        let shown = |m: &Mistake| format!("{}:{}: {}", m.line, m.column, m.message);
        mistakes.iter().map(shown).collect::<Vec<_>>()
    };
    assert_eq!(read("name: a\nlimit: 5/hour\n"), [""; 0]);
    assert_eq!(
        read("lmit: 5/hour\nwhatever: 1\n"),
        [
            "1:1: a rule needs the key \"name\"",
            "1:1: unknown key \"lmit\" in a rule, did you mean \"limit\"?",
            "2:1: unknown key \"whatever\" in a rule, expected name or limit",
        ]
    );
    assert_eq!(read("[a]"), ["1:1: x: expected a rule as a map of keys and values, found a list"]);
}

#[test]
fn names_free_entries_by_their_keys() {
    let (read, mistakes) = reading("{ X-Plan: pro, X-Debug: [a] }", |field| {
        let entries = field.entries()?;
        Some(entries.iter().map(|entry| entry.field.text().map(str::to_owned)).collect::<Vec<_>>())
    });
    assert_eq!(read, Some(vec![Some("pro".to_owned()), None]));
    assert_eq!(mistakes[0].message, "X-Debug: expected text, found a list");
}

#[test]
fn says_a_mistake_once_and_no_secret_ever() {
    let (_, mistakes) = reading("{ a: \"${UNSET}\", b: \"x${SECRET}\" }", |field| {
        let mut fields = field.fields("a rule")?;
        fields.optional("a").and_then(Field::text);
        fields.optional("a").and_then(|a| a.one_of(&[("on", true)]));
        fields.optional("a").and_then(|a| a.fields("a store"));
        fields.optional("b")?.wrong("expected something else");
        fields.finish();
        Some(())
    });
    let messages: Vec<_> = mistakes.iter().map(|mistake| mistake.message.as_str()).collect();
    assert_eq!(
        messages,
        ["the environment variable \"UNSET\" is not set", "b \"x${SECRET}\": expected something else"]
    );
}
