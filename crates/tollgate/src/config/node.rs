//! The policy file as a tree whose every node knows its place. It holds what was written, not what it means: that is for
//! the readers. How the tree is made of text lives in `build`.

use indexmap::IndexMap;

use super::excerpt::quoted;
use super::mistake::Place;

/// A value and where it stands. One that an alias repeats stands where it was written.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

/// What was written, not yet what it means.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// Nothing behind the colon, `~` or `null`.
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(IndexMap<String, Entry>),
    /// What is wrong with it has been said; readers pass it over in silence.
    Mistaken,
}

/// One word or text. Whether it is a number, a truth value or a text is decided by the reader who expects one of them,
/// so that `1`, `true` and `5/hour` need no quotes anywhere.
#[derive(Debug, Clone)]
pub(crate) struct Scalar {
    /// With all variables replaced. It may hold a secret: messages show [`Scalar::shown`] instead.
    pub(crate) text: String,
    /// Without quotes, and not a block of text.
    pub(crate) plain: bool,
    /// As it was written, if variables have been replaced.
    pub(super) written: Option<String>,
}

/// What a key leads to, and where the key stands.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key_place: Place,
    pub(crate) node: Node,
}

impl Node {
    /// The node as a message names it: `"5/hour"`, `12`, `a list`, `nothing`.
    pub(crate) fn found(&self) -> String {
        match &self.value {
            Value::Null | Value::Mistaken => "nothing".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
            Value::Scalar(scalar) if scalar.literal_bool().is_some() || scalar.literal_integer() => scalar.text.clone(),
            Value::Scalar(scalar) => quoted(scalar.shown()),
        }
    }

    /// The items of a list that holds texts alone, at least one, or the text that stands for such a list, fit to be shown.
    pub(crate) fn texts(&self) -> Option<Vec<&str>> {
        let items = match &self.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(self),
        };
        let texts = items.iter().map(|item| match &item.value {
            Value::Scalar(scalar) => Some(scalar.shown()),
            _ => None,
        });
        texts.collect::<Option<Vec<_>>>().filter(|texts| !texts.is_empty())
    }

    /// `true` or `false` if it is just that word in the file, for readers who take a truth value or a text.
    pub(crate) fn literal_bool(&self) -> Option<bool> {
        match &self.value {
            Value::Scalar(scalar) => scalar.literal_bool(),
            _ => None,
        }
    }
}

impl Scalar {
    /// The text as it stands in the file, fit to be shown: variables unreplaced.
    pub(crate) fn shown(&self) -> &str {
        self.written.as_deref().unwrap_or(&self.text)
    }

    pub(super) fn literal_bool(&self) -> Option<bool> {
        match self.text.as_str() {
            "true" if self.is_literal() => Some(true),
            "false" if self.is_literal() => Some(false),
            _ => None,
        }
    }

    fn literal_integer(&self) -> bool {
        let digits = self.text.strip_prefix('-').unwrap_or(&self.text);
        let short = (1..=MAX_DIGITS).contains(&digits.len());
        self.is_literal() && short && digits.bytes().all(|byte| byte.is_ascii_digit())
    }

    fn is_literal(&self) -> bool {
        self.plain && self.written.is_none()
    }
}

/// The digits of `u64::MAX`; longer ones are shown as the text that they are.
const MAX_DIGITS: usize = 20;
