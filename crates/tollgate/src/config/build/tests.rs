//! What is made of a text, and what is wrong with one that makes no tree.

use proptest::prelude::*;

use super::super::syntax::MAX_BYTES;
use super::*;

fn parse(source: &str) -> (Option<Node>, Vec<Mistake>) {
    let mistakes = Mistakes::default();
    let variable = |name: &str| match name {
        "SECRET" => Some("a: [1, *x]\n#".to_owned()),
        "BIG" => Some("x".repeat(1024 * 1024)),
        "TRUE" => Some("true".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    };
    let node = Node::parse(source, &variable, &mistakes);
    (node, mistakes.finish())
}

/// The tree in one line: `{a@1:1: 'b'@1:4}`, with quotes around what is not plain.
fn shown(node: &Node) -> String {
    let Place { line, column } = node.place;
    let value = match &node.value {
        Value::Null => "null".to_owned(),
        Value::Mistaken => "?".to_owned(),
        Value::Scalar(scalar) if scalar.plain => scalar.text.clone(),
        Value::Scalar(scalar) => format!("'{}'", scalar.text),
        Value::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Value::Map(entries) => {
            let shown = |(key, entry): (&String, &Entry)| format!("{key}: {}", shown(&entry.node));
            format!("{{{}}}", entries.iter().map(shown).collect::<Vec<_>>().join(", "))
        }
    };
    format!("{value}@{line}:{column}")
}

fn check(source: &str, expected: &str) {
    let (node, mistakes) = parse(source);
    assert!(mistakes.is_empty(), "{source}: {mistakes:?}");
    assert_eq!(shown(&node.expect("no mistake, so there is a tree")), expected, "{source}");
}

fn check_mistake(source: &str, line: usize, column: usize, part: &str) {
    let (_, mistakes) = parse(source);
    let [mistake] = mistakes.as_slice() else { panic!("{source}: {mistakes:#?}") };
    assert_eq!((mistake.line, mistake.column), (line, column), "{source}: {mistake:#?}");
    assert!(mistake.message.contains(part), "{source}: {mistake:#?}");
}

#[test]
fn keeps_places_and_what_was_written() {
    check("a: 5/hour\nb: [1, \"true\", true]\n", "{a: 5/hour@1:4, b: [1@2:5, 'true'@2:8, true@2:16]@2:4}@1:1");
    check("é: x\n", "{é: x@1:4}@1:1");
    check("\u{feff}a: 1\r\nb: 2\r\n", "{a: 1@1:4, b: 2@2:4}@1:1");
    check("a:\nb: ~\nc: ''\n", "{a: null@1:2, b: null@2:4, c: ''@3:4}@1:1");
    check("1: a\n\"true\": b\n", "{1: a@1:4, true: b@2:9}@1:1");
    check("%YAML 1.2\n---\na: 1\n...\n", "{a: 1@3:4}@3:1");
}

#[test]
fn an_alias_repeats_what_its_anchor_names() {
    check("a: &x [1]\nb: *x\n", "{a: [1@1:8]@1:4, b: [1@1:8]@1:4}@1:1");
    check("&k key: *k\n", "{key: key@1:1}@1:1");
}

#[test]
fn an_alias_inside_of_itself_is_a_mistake() {
    check_mistake("a: &x [*x]\n", 1, 8, "cannot stand inside of what it repeats");
    check_mistake("a: &x { b: { c: *x } }\n", 1, 17, "cannot stand inside of what it repeats");
}

#[test]
fn aliases_of_aliases_run_out_of_budget() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..20 {
        let aliases = vec![format!("*a{}", i - 1); 10].join(", ");
        bomb += &format!("a{i}: &a{i} [{aliases}]\n");
    }
    let (node, mistakes) = parse(&bomb);
    assert!(node.is_none());
    assert!(mistakes[0].message.contains("grows beyond"), "{mistakes:?}");
}

#[test]
fn variables_run_out_of_budget() {
    let (node, mistakes) = parse(&"- ${BIG}\n".repeat(100));
    assert!(node.is_none());
    assert!(mistakes[0].message.contains("grows beyond"), "{mistakes:?}");
}

#[test]
fn variables_in_one_text_run_out_of_budget() {
    let source = "${BIG}".repeat(9);
    check_mistake(&source, 1, 1, "more than 8388608 bytes");
}

#[test]
fn nested_anchors_are_charged_for_what_they_hold_only() {
    let (node, mistakes) = parse(&format!("{}x{}", "&a [".repeat(50), "]".repeat(50)));
    assert!(node.is_some(), "{mistakes:?}");
}

#[test]
fn depth_is_bounded_with_and_without_aliases() {
    let nested = |depth: usize, inner: &str| format!("{}{inner}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(parse(&nested(MAX_DEPTH - 1, "x")).0.is_some());
    check_mistake(&nested(MAX_DEPTH, "x"), 1, MAX_DEPTH + 1, "nested more than 64 deep");
    assert!(parse(&nested(100_000, "")).0.is_none());
    assert!(parse(&"- ".repeat(100_000)).0.is_none());
    let aliased = format!("- &x {}\n- {}\n", nested(40, "x"), nested(40, "*x"));
    check_mistake(&aliased, 2, 43, "nested more than 64 deep");
}

#[test]
fn size_is_bounded() {
    check_mistake(&"#".repeat(MAX_BYTES + 1), 1, 1, "4194305 bytes");
}

#[test]
fn a_key_stands_once_in_a_map() {
    check_mistake("a: 1\nb: 2\n\"a\": 3\n", 3, 1, "the key \"a\" stands here again, first in line 1, column 1");
    let (node, _) = parse("a: 1\na: 2\n");
    assert_eq!(node.as_ref().map(shown).as_deref(), Some("{a: 1@1:4}@1:1"));
}

#[test]
fn keys_are_words() {
    check_mistake("? [a]\n: b\n", 1, 3, "a key cannot be a list or a map");
    check_mistake("{ {a: b}: c }\n", 1, 3, "a key cannot be a list or a map");
    check_mistake("true: b\n", 1, 1, "a key cannot be the truth value true");
    check_mistake("~: b\n", 1, 1, "a key is missing");
    check_mistake("a: &x b\n*x : c\n", 2, 1, "a key cannot be an alias");
    check_mistake("a: &x {b: c}\nd:\n  <<: *x\n", 3, 3, "merge keys");
}

#[test]
fn tags_are_refused() {
    check_mistake("a: !!str 5\n", 1, 4, "the tag \"!!str\"");
    check_mistake("a: !secret x\n", 1, 4, "the tag \"!secret\"");
    check_mistake("!!str a: x\n", 1, 1, "the tag \"!!str\"");
}

#[test]
fn an_empty_file_is_told_what_a_policy_holds() {
    for source in ["", "\n\n", "# only a comment\n", "---\n", "---\n...\n", "~\n"] {
        check_mistake(source, 1, 1, "a policy file holds at least a list of rules");
    }
}

#[test]
fn there_is_one_document() {
    check_mistake("a: 1\n---\nb: 2\n", 2, 1, "a second document");
}

#[test]
fn control_characters_are_refused_where_they_stand() {
    check_mistake("a: 1\r\n\0b: 2\n", 2, 1, "U+0000");
    check_mistake("a: x\u{1b}[31m\n", 1, 5, "U+001B");
    check("a: \"\\e[31m\"\n", "{a: '\u{1b}[31m'@1:4}@1:1");
}

#[test]
fn variables_are_text_whatever_they_hold() {
    check("a: x-${SECRET}\n", "{a: x-a: [1, *x]\n#@1:4}@1:1");
    check("a: ${EMPTY}\n", "{a: @1:4}@1:1");
    check("a: $${SECRET}\n", "{a: ${SECRET}@1:4}@1:1");
    check("${SECRET}: a\n", "{${SECRET}: a@1:12}@1:1");
    let (node, _) = parse("${TRUE}\n");
    let node = node.expect("it is a text");
    assert_eq!((node.literal_bool(), node.found()), (None, "\"${TRUE}\"".to_owned()));
}

#[test]
fn a_variable_that_cannot_be_replaced_spares_the_rest() {
    check_mistake("a: [b, \"x ${UNSET}\"]\n", 1, 8, "\"UNSET\" is not set");
    check_mistake("a: \"${SECRET\"\n", 1, 4, "${ without its }");
    check_mistake("a: ${A-B}\n", 1, 4, "cannot hold \"A-B\"");
    let (node, _) = parse("a: ${UNSET}\nb: 1\n");
    assert_eq!(node.as_ref().map(shown).as_deref(), Some("{a: ?@1:4, b: 1@2:4}@1:1"));
}

#[test]
fn names_what_it_found() {
    for (source, expected) in [
        ("~ # nothing\n", None),
        ("[a]", Some("a list")),
        ("{a: b}", Some("a map")),
        ("5/hour", Some("\"5/hour\"")),
        ("12", Some("12")),
        ("-3", Some("-3")),
        ("'12'", Some("\"12\"")),
        ("true", Some("true")),
        ("'true'", Some("\"true\"")),
    ] {
        assert_eq!(parse(source).0.map(|node| node.found()).as_deref(), expected, "{source}");
    }
}

#[test]
fn says_plainly_what_is_not_yaml() {
    check_mistake("host: *.example.com\n", 1, 7, "YAML alias");
    check_mistake("path: *\n", 1, 7, "YAML alias");
    check_mistake("a: @x\n", 1, 4, "cannot start with @");
    check_mistake("a: `x`\n", 1, 4, "cannot start with a backtick");
    check_mistake("a: b: c\n", 1, 5, "colon");
    check_mistake("a:\n\tb: 1\n", 2, 1, "tab");
    check_mistake("a: [1, 2\n\n", 1, 4, "the [ that opens here is not closed");
    check_mistake("a: \"x\n", 1, 4, "never closed");
    check_mistake("a: { b: ${SECRET} }\n", 1, 10, "${…} inside { } or [ ]");
    check_mistake("- a\nb: 1\n", 2, 1, "of the list");
}

/// Text that is more often YAML than not.
fn yaml_like() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "b: ",
        "- ",
        "\n",
        "\n  ",
        "\n\t",
        "[",
        "]",
        "{",
        "}",
        ", ",
        ": ",
        "? ",
        "&x ",
        "*x",
        "!!str ",
        "|",
        ">-",
        "\"",
        "'",
        "#",
        "---\n",
        "...\n",
        "${TRUE}",
        "${",
        "$${",
        "%TAG ! x\n",
        "<<",
        "é",
        "\u{feff}",
        "\r",
        "\\",
        "~",
        "1",
        "true",
        "@",
        "`",
        "|2\n",
        "\u{85}",
        "\u{2028}",
        " ",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

fn ends_in_a_tree_or_a_mistake(source: &str) {
    let (node, mistakes) = parse(source);
    assert!(node.is_some() || !mistakes.is_empty(), "{source:?}");
    for mistake in mistakes {
        mistake.render("a.yaml", source);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_ends_in_a_tree_or_a_mistake(source in any::<String>()) {
        ends_in_a_tree_or_a_mistake(&source);
    }

    #[test]
    fn any_text_like_yaml_ends_in_a_tree_or_a_mistake(source in yaml_like()) {
        ends_in_a_tree_or_a_mistake(&source);
    }
}
