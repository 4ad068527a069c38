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
mod tests;
