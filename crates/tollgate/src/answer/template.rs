//! Bodies of one's own, with placeholders for the numbers of the quota that refused.

use std::fmt::Write as _;

use super::Media;
use crate::{
    decision::Counted,
    headers::{seconds_rounded_up, whole_seconds},
};

/// A body with the placeholders `{rule}` `{limit}` `{remaining}` `{retry_after}` `{reset_after}`; any other brace is text.
///
/// Times are whole seconds, rounded up. A missing number is `null` in JSON, else `never`. The rule's name needs no escaping
/// in any of the formats: it is letters, digits, `_`, `.` and `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Value(Placeholder),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placeholder {
    Rule,
    Limit,
    Remaining,
    RetryAfter,
    ResetAfter,
}

const PLACEHOLDERS: [(&str, Placeholder); 5] = [
    ("{rule}", Placeholder::Rule),
    ("{limit}", Placeholder::Limit),
    ("{remaining}", Placeholder::Remaining),
    ("{retry_after}", Placeholder::RetryAfter),
    ("{reset_after}", Placeholder::ResetAfter),
];

impl Template {
    /// The words that stand for a number or a name when they stand in braces.
    #[cfg(feature = "config")]
    pub(crate) fn placeholders() -> impl Iterator<Item = &'static str> {
        PLACEHOLDERS.iter().map(|(name, _)| name.trim_matches(['{', '}']))
    }

    /// Reads a body. Every text is one.
    pub fn new(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        loop {
            let first = PLACEHOLDERS
                .iter()
                .filter_map(|(name, value)| Some((rest.find(name)?, name, value)))
                .min_by_key(|found| found.0);
            let Some((at, name, value)) = first else { break };
            pieces.push(Piece::Text(rest[..at].to_owned()));
            pieces.push(Piece::Value(*value));
            rest = &rest[at + name.len()..];
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Self(pieces)
    }

    pub(super) fn fill(&self, shown: &Counted<'_>, media: Media) -> String {
        let missing = if media == Media::Json { "null" } else { "never" };
        let mut body = String::new();
        for piece in &self.0 {
            let status = shown.status();
            // Writing to a string does not fail.
            let _ = match piece {
                Piece::Text(text) => body.write_str(text),
                Piece::Value(Placeholder::Rule) => body.write_str(&shown.rule.name),
                Piece::Value(Placeholder::Limit) => write!(body, "{}", status.limit),
                Piece::Value(Placeholder::Remaining) => write!(body, "{}", status.remaining),
                Piece::Value(Placeholder::ResetAfter) => write!(body, "{}", seconds_rounded_up(status.reset_after)),
                Piece::Value(Placeholder::RetryAfter) => match shown.outcome.retry_after {
                    Some(wait) => write!(body, "{}", whole_seconds(wait)),
                    None => body.write_str(missing),
                },
            };
        }
        body
    }
}
