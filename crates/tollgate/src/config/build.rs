//! From text to tree, strictly: what YAML allows and a policy does not need (several documents, repeated keys, tags, merge
//! keys) is a mistake here. What the values mean is for the readers.

use std::collections::HashMap;

use indexmap::IndexMap;
use indexmap::map;
use saphyr_parser::{Event, Parser, ScalarStyle, StrInput, Tag};

use super::budget::{MAX_DEPTH, MAX_NODES, MAX_TEXT_BYTES, Size, depth_of, size_of};
use super::excerpt::quoted;
use super::mistake::{Mistake, Mistakes, Place};
use super::node::{Entry, Node, Scalar, Value};
use super::syntax::{check_characters, complaint, place_of};
use super::variables::{self, VariableError};

impl Node {
    /// Reads a whole file. `variable` looks up what `${NAME}` stands for.
    ///
    /// Returns `None` if no tree can be made of it; otherwise the parts with mistakes are [`Value::Mistaken`], so that
    /// the rest can still be read and all mistakes be reported at once.
    pub(crate) fn parse(source: &str, variable: &dyn Fn(&str) -> Option<String>, mistakes: &Mistakes) -> Option<Self> {
        if let Err(mistake) = check_characters(source) {
            mistakes.push(mistake);
            return None;
        }
        let builder = Builder {
            source,
            parser: Parser::new_from_str(source),
            variable,
            mistakes,
            anchors: HashMap::new(),
            spent: Size::default(),
        };
        builder.document()
    }
}

/// Turns the parser's events into a tree. Its methods return `None` when there is no going on; the mistake is said then.
struct Builder<'a> {
    source: &'a str,
    parser: Parser<'a, StrInput<'a>>,
    variable: &'a dyn Fn(&str) -> Option<String>,
    mistakes: &'a Mistakes,
    /// Finished nodes only: an alias to another one stands inside of what it repeats.
    anchors: HashMap<usize, (Node, Size)>,
    spent: Size,
}

impl<'a> Builder<'a> {
    fn document(mut self) -> Option<Node> {
        self.next()?; // The start of the stream.
        let (start, _) = self.next()?;
        if start == Event::StreamEnd {
            return self.empty();
        }
        let (event, place) = self.next()?;
        let root = self.node(event, place, 1)?;
        self.next()?; // The end of the document.
        let (end, place) = self.next()?;
        if end != Event::StreamEnd {
            let mistake = Mistake::error(place, "a second document starts here, and a policy file holds one");
            self.mistakes.push(mistake.with_help("remove the line --- or move what follows to a file of its own"));
        }
        if matches!(root.value, Value::Null) {
            return self.empty();
        }
        Some(root)
    }

    fn empty(&self) -> Option<Node> {
        let mistake = Mistake::error(Place::START, "the file is empty: a policy file holds at least a list of rules");
        self.mistakes.push(mistake.with_help("start with `rules: [{ name: api, limit: 100/minute }]`"));
        None
    }

    fn next(&mut self) -> Option<(Event<'a>, Place)> {
        match self.parser.next_event()? {
            Ok((event, span)) => Some((event, place_of(&span.start))),
            Err(error) => {
                self.mistakes.push(complaint(self.source, &error));
                None
            }
        }
    }

    fn node(&mut self, event: Event<'a>, place: Place, depth: usize) -> Option<Node> {
        self.check_depth(place, depth)?;
        let (value, anchor, tag) = match event {
            Event::Alias(anchor) => return self.alias(anchor, place, depth),
            Event::Scalar(text, style, anchor, tag) => (self.scalar(&text, style, place)?, anchor, tag),
            Event::SequenceStart(anchor, tag) => (self.list(place, depth)?, anchor, tag),
            Event::MappingStart(anchor, tag) => (self.map(place, depth)?, anchor, tag),
            _ => {
                self.mistakes.at(place, "not valid YAML: expected a value");
                return None;
            }
        };
        self.refuse_tag(place, tag.as_deref());
        let node = Node { place, value };
        self.remember(anchor, &node)?;
        Some(node)
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, place: Place) -> Option<Value> {
        let plain = style == ScalarStyle::Plain;
        if plain && is_null(text) {
            self.spend(place, Size::ONE)?;
            return Some(Value::Null);
        }
        let replaced = match variables::replace(text, MAX_TEXT_BYTES, self.variable) {
            Ok(replaced) => replaced,
            Err(error) => {
                self.mistakes.push(variable_mistake(place, &error));
                return Some(Value::Mistaken);
            }
        };
        let (text, written) = match replaced {
            Some(replaced) => (replaced, Some(text.to_owned())),
            None => (text.to_owned(), None),
        };
        self.spend(place, Size::of_text(&text))?;
        Some(Value::Scalar(Scalar { text, plain, written }))
    }

    fn list(&mut self, place: Place, depth: usize) -> Option<Value> {
        self.spend(place, Size::ONE)?;
        let mut items = Vec::new();
        loop {
            let (event, place) = self.next()?;
            if event == Event::SequenceEnd {
                return Some(Value::List(items));
            }
            items.push(self.node(event, place, depth + 1)?);
        }
    }

    fn map(&mut self, place: Place, depth: usize) -> Option<Value> {
        self.spend(place, Size::ONE)?;
        let mut entries = IndexMap::new();
        loop {
            let (event, key_place) = self.next()?;
            if event == Event::MappingEnd {
                return Some(Value::Map(entries));
            }
            let key = self.key(event, key_place, depth + 1)?;
            let (event, place) = self.next()?;
            let node = self.node(event, place, depth + 1)?;
            let Some(key) = key else { continue };
            match entries.entry(key) {
                map::Entry::Vacant(vacant) => {
                    vacant.insert(Entry { key_place, node });
                }
                map::Entry::Occupied(first) => {
                    let Place { line, column } = first.get().key_place;
                    let key = quoted(first.key());
                    let message = format!("the key {key} stands here again, first in line {line}, column {column}");
                    self.mistakes.push(Mistake::error(key_place, message).with_help("remove one of them"));
                }
            }
        }
    }

    /// The inner `None` is a key that cannot be one; the value behind it is still read over.
    fn key(&mut self, event: Event<'a>, place: Place, depth: usize) -> Option<Option<String>> {
        let (text, style, anchor, tag) = match event {
            Event::Scalar(text, style, anchor, tag) => (text, style, anchor, tag),
            Event::Alias(_) => {
                self.mistakes.at(place, "a key cannot be an alias, expected a word");
                return Some(None);
            }
            other => {
                self.mistakes.at(place, "a key cannot be a list or a map, expected a word");
                self.node(other, place, depth)?;
                return Some(None);
            }
        };
        self.refuse_tag(place, tag.as_deref());
        self.spend(place, Size::of_text(&text))?;
        let key = text.into_owned();
        let scalar = Scalar { text: key.clone(), plain: style == ScalarStyle::Plain, written: None };
        let mistake = key_mistake(place, &scalar);
        let value = Value::Scalar(scalar);
        self.remember(anchor, &Node { place, value })?;
        let Some(mistake) = mistake else {
            return Some(Some(key));
        };
        self.mistakes.push(mistake);
        Some(None)
    }

    fn refuse_tag(&self, place: Place, tag: Option<&Tag>) {
        let Some(tag) = tag else { return };
        let handle = if tag.is_yaml_core_schema() { "!!" } else { &tag.handle };
        let tag = quoted(&format!("{handle}{}", tag.suffix));
        let mistake = Mistake::error(place, format!("the tag {tag} says nothing to a policy"));
        self.mistakes.push(mistake.with_help("remove it; quotes make a text of any value"));
    }

    fn remember(&mut self, anchor: usize, node: &Node) -> Option<()> {
        if anchor == NO_ANCHOR {
            return Some(());
        }
        let size = size_of(node);
        self.spend(node.place, size)?;
        self.anchors.insert(anchor, (node.clone(), size));
        Some(())
    }

    fn alias(&mut self, anchor: usize, place: Place, depth: usize) -> Option<Node> {
        let Some((node, size)) = self.anchors.get(&anchor) else {
            self.mistakes.at(place, "an alias cannot stand inside of what it repeats");
            return Some(Node { place, value: Value::Mistaken });
        };
        let (node, size) = (node.clone(), *size);
        self.spend(place, size)?;
        self.check_depth(place, depth + depth_of(&node) - 1)?;
        Some(node)
    }

    fn check_depth(&self, place: Place, depth: usize) -> Option<()> {
        if depth <= MAX_DEPTH {
            return Some(());
        }
        let message = format!("lists and maps are nested more than {MAX_DEPTH} deep here");
        self.mistakes.push(Mistake::error(place, message).with_help("a policy needs fewer than ten"));
        None
    }

    fn spend(&mut self, place: Place, size: Size) -> Option<()> {
        if let Some(spent) = self.spent.spend(size) {
            self.spent = spent;
            return Some(());
        }
        let message = format!("the file grows beyond {MAX_NODES} values or {MAX_TEXT_BYTES} bytes of text here");
        let help = "move lists of addresses to files of their own, and use fewer aliases and variables";
        self.mistakes.push(Mistake::error(place, message).with_help(help));
        None
    }
}

/// As YAML's core schema has it; any other spelling is a word.
fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// Why this scalar cannot be a key.
fn key_mistake(place: Place, key: &Scalar) -> Option<Mistake> {
    let text = &key.text;
    if key.plain && is_null(text) {
        let message = "a key is missing here, expected a word before the colon";
        return Some(Mistake::error(place, message));
    }
    if key.plain && text == "<<" {
        let message = "merge keys are not part of a policy file";
        return Some(Mistake::error(place, message).with_help("write the keys out"));
    }
    key.literal_bool()?;
    let message = format!("a key cannot be the truth value {text}, expected a word");
    let help = format!("write \"{text}\" in quotes if it is a name");
    Some(Mistake::error(place, message).with_help(help))
}

fn variable_mistake(place: Place, error: &VariableError) -> Mistake {
    match error {
        VariableError::Unset(name) => {
            Mistake::error(place, format!("the environment variable {} is not set", quoted(name)))
                .with_help("set it, or write $${ for the two characters ${ themselves")
        }
        VariableError::Misnamed(name) => {
            Mistake::error(place, format!("${{…}} cannot hold {}, expected the name of a variable", quoted(name)))
                .with_help("write $${ for the two characters ${ themselves")
        }
        VariableError::TooLong => {
            Mistake::error(place, format!("the variables make more than {MAX_TEXT_BYTES} bytes of this text"))
                .with_help("use fewer or shorter ones")
        }
        VariableError::Unclosed => Mistake::error(place, "${ without its }, expected ${NAME}")
            .with_help("write $${ for the two characters ${ themselves"),
    }
}

/// The parser's number for a node without an anchor.
const NO_ANCHOR: usize = 0;

#[cfg(test)]
mod tests {
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
}
