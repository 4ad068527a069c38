//! Asking a node for what is expected of it. Every question that the file answers wrongly leaves a mistake that says what
//! was expected and what was found, and returns `None`; so a reader asks all of its questions first and gives up last.

use std::ops::RangeInclusive;
use std::time::Duration;

use indexmap::IndexMap;

use super::excerpt::quoted;
use super::mistake::{Mistake, Mistakes, Place};
use super::node::{Entry, Node, Scalar, Value};
use super::spelling::did_you_mean;

/// A node, the name that messages give it, and where mistakes go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'a> {
    pub(crate) name: &'a str,
    pub(crate) node: &'a Node,
    pub(crate) mistakes: &'a Mistakes,
}

impl<'a> Field<'a> {
    pub(crate) fn place(self) -> Place {
        self.node.place
    }

    /// For a value of the right kind that means nothing: `limit "5/fortnight": expected a unit`.
    pub(crate) fn wrong(self, why: impl std::fmt::Display) {
        let Self { name, node, mistakes } = self;
        mistakes.at(node.place, format!("{name} {}: {why}", node.found()));
    }

    /// For a value of the wrong kind: `limit: expected text, found a list`. Always `None`, to return at once.
    pub(crate) fn expected<T>(self, what: impl std::fmt::Display) -> Option<T> {
        // What is mistaken already has had its message.
        if !matches!(self.node.value, Value::Mistaken) {
            self.mistakes.push(self.unexpected(what));
        }
        None
    }

    /// Whether it is a map with this key, whose value may be mistaken.
    pub(crate) fn has(self, key: &str) -> bool {
        matches!(&self.node.value, Value::Map(entries) if entries.contains_key(key))
    }

    /// The keys of a map, `noun` being what it describes: "a rule".
    pub(crate) fn fields(self, noun: &'static str) -> Option<Fields<'a>> {
        match &self.node.value {
            Value::Map(entries) => {
                let (asked, missing) = (Vec::new(), Vec::new());
                Some(Fields { noun, place: self.node.place, entries, asked, missing, mistakes: self.mistakes })
            }
            _ => self.expected(format_args!("{noun} as a map of keys and values")),
        }
    }

    /// The entries of a map whose keys are the user's own, such as header names, each named by its key.
    pub(crate) fn entries(self) -> Option<Vec<NamedField<'a>>> {
        let Value::Map(entries) = &self.node.value else {
            return self.expected("a map of names and values");
        };
        let named = |(name, entry): (&'a String, &'a Entry)| NamedField {
            key_place: entry.key_place,
            field: Field { name, node: &entry.node, ..self },
        };
        Some(entries.iter().map(named).collect())
    }

    /// Reads every item of a list, which may be empty; all of them, so that the mistakes of all are found.
    pub(crate) fn list<T>(self, read: impl FnMut(Field<'a>) -> Option<T>) -> Option<Vec<T>> {
        match &self.node.value {
            Value::List(items) => self.items(items, read),
            _ => self.expected("a list"),
        }
    }

    /// As [`Field::list`], where anything else stands for a list of itself.
    pub(crate) fn list_or_one<T>(self, read: impl FnMut(Field<'a>) -> Option<T>) -> Option<Vec<T>> {
        match &self.node.value {
            Value::List(items) => self.items(items, read),
            _ => self.items(std::slice::from_ref(self.node), read),
        }
    }

    /// A text; a number without quotes is one, a bare `true` or `false` is not.
    pub(crate) fn text(self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar(scalar) if self.node.literal_bool().is_none() => Some(&scalar.text),
            Value::Scalar(scalar) => {
                let help = format!("write \"{}\" in quotes if the word is meant", scalar.text);
                self.expected_with_help("text", help)
            }
            _ => self.expected("text"),
        }
    }

    /// Bare `true` or `false`, and no other word for them.
    pub(crate) fn boolean(self) -> Option<bool> {
        match self.bare("true or false")? {
            "true" => Some(true),
            "false" => Some(false),
            _ => self.expected("true or false"),
        }
    }

    /// A whole number in digits, without sign, leading zeros or quotes.
    pub(crate) fn integer(self, range: RangeInclusive<u64>) -> Option<u64> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        match digits(self.bare(&expected)?) {
            Some(number) if range.contains(&number) => Some(number),
            _ => self.expected(expected),
        }
    }

    /// One of a few words, each with what it stands for.
    pub(crate) fn one_of<T: Copy>(self, choices: &[(&'static str, T)]) -> Option<T> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let Value::Scalar(scalar) = &self.node.value else {
            return self.expected(either(&words));
        };
        let chosen = choices.iter().find(|(word, _)| *word == scalar.text);
        if chosen.is_none() {
            match did_you_mean(scalar.shown(), words.iter().copied()) {
                Some(close) => self.wrong(format_args!("expected {}, did you mean \"{close}\"?", either(&words))),
                None => self.wrong(format_args!("expected {}", either(&words))),
            }
        }
        chosen.map(|(_, meaning)| *meaning)
    }

    /// A span of time above zero: `100ms`, `10s`, `5m`, `1h`.
    pub(crate) fn duration(self) -> Option<Duration> {
        let expected = "a duration such as 100ms, 10s, 5m or 1h";
        let text = &self.scalar(expected)?.text;
        let milliseconds = match split_unit(text) {
            Some((_, "")) => {
                return self.expected_with_help(expected, "put a unit behind the number");
            }
            Some((number, "ms")) => Some(number),
            Some((number, "s")) => number.checked_mul(1_000),
            Some((number, "m")) => number.checked_mul(60_000),
            Some((number, "h")) => number.checked_mul(3_600_000),
            _ => return self.expected(expected),
        };
        match milliseconds.map(Duration::from_millis) {
            Some(Duration::ZERO) => self.expected("a duration above zero"),
            Some(duration) if duration <= MAX_DURATION => Some(duration),
            _ => self.expected("a duration of at most 8760h, a year"),
        }
    }

    /// A number of bytes: `64KiB`, `1MiB`, `1GiB`, or the bytes themselves.
    pub(crate) fn size(self, range: RangeInclusive<u64>) -> Option<u64> {
        let expected = "a size such as 64KiB, 1MiB or 512 (bytes)";
        let text = &self.scalar(expected)?.text;
        let bytes = match split_unit(text) {
            Some((number, "")) => Some(number),
            Some((number, "KiB")) => number.checked_mul(1 << 10),
            Some((number, "MiB")) => number.checked_mul(1 << 20),
            Some((number, "GiB")) => number.checked_mul(1 << 30),
            _ => return self.expected(expected),
        };
        match bytes {
            Some(bytes) if range.contains(&bytes) => Some(bytes),
            _ => self.expected(format_args!("a size from {} to {} bytes", range.start(), range.end())),
        }
    }

    fn items<T>(self, items: &'a [Node], mut read: impl FnMut(Field<'a>) -> Option<T>) -> Option<Vec<T>> {
        let all: Vec<Option<T>> = items.iter().map(|node| read(Field { node, ..self })).collect();
        all.into_iter().collect()
    }

    fn scalar(self, expected: &str) -> Option<&'a Scalar> {
        match &self.node.value {
            Value::Scalar(scalar) => Some(scalar),
            _ => self.expected(expected),
        }
    }

    /// What stands without quotes; quotes make a text of anything.
    fn bare(self, expected: &str) -> Option<&'a str> {
        let scalar = self.scalar(expected)?;
        if scalar.plain {
            return Some(&scalar.text);
        }
        self.expected_with_help(format_args!("{expected} without quotes"), "remove the quotes")
    }

    pub(crate) fn expected_with_help<T>(self, expected: impl std::fmt::Display, help: impl Into<String>) -> Option<T> {
        self.mistakes.push(self.unexpected(expected).with_help(help));
        None
    }

    fn unexpected(self, expected: impl std::fmt::Display) -> Mistake {
        let Self { name, node, .. } = self;
        Mistake::error(node.place, format!("{name}: expected {expected}, found {}", node.found()))
    }
}

/// One entry of a map whose keys are the user's own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NamedField<'a> {
    pub(crate) key_place: Place,
    pub(crate) field: Field<'a>,
}

/// A walk over a map whose keys are known: ask for each of them, then [`Fields::finish`].
///
/// ```text
/// let mut fields = field.fields("a rule")?;
/// let name = fields.required("name").and_then(Field::text);
/// let shadow = fields.optional("mode").map(|mode| mode.one_of(&[("enforce", false), ("shadow", true)]));
/// fields.finish();
/// ```
#[derive(Debug)]
#[must_use = "without `finish` unknown keys go unnoticed"]
pub(crate) struct Fields<'a> {
    pub(crate) noun: &'static str,
    pub(crate) place: Place,
    pub(crate) mistakes: &'a Mistakes,
    entries: &'a IndexMap<String, Entry>,
    asked: Vec<&'static str>,
    /// Those of the required keys that the map lacks, unless `finish` finds them misspelt.
    missing: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The value of a key that may be left out.
    pub(crate) fn optional(&mut self, key: &'static str) -> Option<Field<'a>> {
        self.asked.push(key);
        let entry = self.entries.get(key)?;
        Some(Field { name: key, node: &entry.node, mistakes: self.mistakes })
    }

    /// The same for a key that exists only under some condition; else it is as unknown as any other.
    pub(crate) fn optional_if(&mut self, exists: bool, key: &'static str) -> Option<Field<'a>> {
        if exists { self.optional(key) } else { None }
    }

    /// The value of a key that may not.
    pub(crate) fn required(&mut self, key: &'static str) -> Option<Field<'a>> {
        let field = self.optional(key);
        if field.is_none() {
            self.missing.push(key);
        }
        field
    }

    /// Whether the map holds no keys but these.
    pub(crate) fn has_only(&self, keys: &[&str]) -> bool {
        self.entries.keys().all(|key| keys.contains(&key.as_str()))
    }

    /// Every key that was not asked for is a mistake, and so is every required one that is missing and not just misspelt.
    pub(crate) fn finish(self) {
        let Self { noun, place, mistakes, entries, asked, mut missing } = self;
        for (key, entry) in entries.iter().filter(|(key, _)| !asked.contains(&key.as_str())) {
            // Inside of braces `limit:5/hour` is one word.
            let (word, glued) = key.split_once(':').map_or((key.as_str(), None), |(word, rest)| (word, Some(rest)));
            let close = did_you_mean(word, missing.iter().copied());
            let close = close.or_else(|| did_you_mean(word, asked.iter().copied()));
            missing.retain(|missing| Some(*missing) != close);
            let remedy = match close {
                Some(_) if glued.is_some() => "expected a space after the colon".to_owned(),
                Some(close) => format!("did you mean \"{close}\"?"),
                None => format!("expected {}", either(&asked)),
            };
            let mistake = Mistake::error(entry.key_place, format!("unknown key {} in {noun}, {remedy}", quoted(key)));
            let help = close.zip(glued).map(|(close, rest)| format!("write {}", quoted(&format!("{close}: {rest}"))));
            mistakes.push(Mistake { help, ..mistake });
        }
        for key in missing {
            mistakes.at(place, format!("{noun} needs the key \"{key}\""));
        }
    }
}

/// `a`, `a or b`, `one of a, b, c`.
fn either(words: &[&str]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [a] => (*a).to_owned(),
        [a, b] => format!("{a} or {b}"),
        _ => format!("one of {}", words.join(", ")),
    }
}

/// A whole number as people write it; `010` is refused, because some would read eight.
fn digits(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with(['0', '+']);
    canonical.then(|| text.parse().ok()).flatten()
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((digits(number)?, unit))
}

/// Whoever waits longer means something else, and sums of times stay far from overflow.
const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
mod tests;
