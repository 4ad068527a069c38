//! What is wrong with a text before it is a tree: characters that no policy file holds, and what the YAML parser complains
//! of, in words for someone who knows their policy and not the YAML grammar.

use saphyr_parser::{Marker, ScanError};

use super::excerpt::lines;
use super::mistake::{Mistake, Place};
use super::unclosed::{open_bracket, open_quote};

/// Before the parser sees it: a file of bounded size, without the characters that YAML forbids (the parser takes some of
/// them, and would end the file at a zero).
pub(super) fn check_characters(source: &str) -> Result<(), Mistake> {
    if source.len() > MAX_BYTES {
        let message = format!("the file has {} bytes, more than the {MAX_BYTES} that a policy may have", source.len());
        return Err(Mistake::error(Place::START, message).with_help("move lists of addresses to files of their own"));
    }

    let mut place = Place::START;
    let mut previous = '\0';
    for c in source.chars() {
        match c {
            '\n' if previous == '\r' => {}
            '\n' | '\r' => place = Place { line: place.line + 1, column: 1 },
            '\0'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{7f}'..='\u{84}' | '\u{86}'..='\u{9f}' => {
                let message = format!("the control character U+{:04X} cannot stand in a policy file", c as u32);
                let help = format!("write \"\\x{:02X}\" in double quotes if it is meant", c as u32);
                return Err(Mistake::error(place, message).with_help(help));
            }
            '\u{feff}' if place == Place::START => {}
            _ => place.column += 1,
        }
        previous = c;
    }
    Ok(())
}

/// The parser's complaint as a mistake with its place and, where one is likely, its remedy.
pub(super) fn complaint(source: &str, error: &ScanError) -> Mistake {
    let (before, rest) = split_at(source, error.marker());
    let place = if rest.trim().is_empty() { end_of(source.trim_end()) } else { place_of(error.marker()) };
    if rest.starts_with('{') && before.ends_with('$') {
        return Mistake::error(place, "${…} inside { } or [ ] reads as a YAML map")
            .with_help("put quotes around the text that holds it");
    }

    let info = error.info();
    let elsewhere = tab_indentation(source, info, place)
        .or_else(|| late_quote(before, info, place))
        .or_else(|| unclosed_bracket(before, rest, info, place));
    if let Some(mistake) = elsewhere {
        return mistake;
    }
    match COMPLAINTS.iter().find(|(theirs, ..)| info.contains(theirs)) {
        Some((_, message, help)) => Mistake::error(place, *message).with_help(*help),
        None => Mistake::error(place, format!("not valid YAML: {info}")),
    }
}

/// The parser counts lines from 1 and columns from 0.
pub(super) fn place_of(marker: &Marker) -> Place {
    Place { line: marker.line(), column: marker.col() + 1 }
}

fn split_at<'s>(source: &'s str, marker: &Marker) -> (&'s str, &'s str) {
    source.split_at(source.char_indices().nth(marker.index()).map_or(source.len(), |(start, _)| start))
}

/// A tab in the indentation of this line or, since the parser may complain of the value before it, of a later one.
fn tab_indentation(source: &str, info: &str, place: Place) -> Option<Mistake> {
    let reach = if info.contains("tab") { usize::MAX } else { 1 };
    let mut numbered = (1..).zip(lines(source)).skip(place.line - 1).take(reach);
    let tab = numbered.find_map(|(line, text)| {
        let indentation = text.len() - text.trim_start_matches([' ', '\t']).len();
        let tab = text[..indentation].find('\t').filter(|_| indentation < text.len())?;
        Some(Place { line, column: tab + 1 })
    })?;
    Some(Mistake::error(tab, "a tab in the indentation, where only spaces can stand").with_help("indent with spaces"))
}

/// A quote that was forgotten and found only at the next one, some lines below: what was meant to open a text closes one.
fn late_quote(before: &str, info: &str, place: Place) -> Option<Mistake> {
    if !info.contains("trailing content after") {
        return None;
    }
    let closing = before.trim_end().strip_suffix(['"', '\''])?;
    let opening = open_quote(closing).filter(|opening| opening.line < place.line)?;
    let message = format!("the quote that opens here is closed only in line {}, and text goes on after it", place.line);
    Some(Mistake::error(opening, message).with_help(CLOSE_QUOTE))
}

/// A bracket that is open where the parser expects it closed: on another line, at the end, or at a bracket of another kind.
fn unclosed_bracket(before: &str, rest: &str, info: &str, place: Place) -> Option<Mistake> {
    if !OPEN_BRACKETS.iter().any(|theirs| info.contains(theirs)) {
        return None;
    }
    let (bracket, opening) = open_bracket(before)?;
    let closing = if bracket == '[' { ']' } else { '}' };
    let until = match rest.trim_start().chars().next() {
        None => "the end of the file".to_owned(),
        Some(next) if opening.line < place.line || (matches!(next, ']' | '}') && next != closing) => {
            format!("line {}, column {}", place.line, place.column)
        }
        Some(_) => return None,
    };
    let help = format!(
        "close it with {closing}, put commas between what it holds, and quotes around text with brackets or braces"
    );
    Some(Mistake::error(opening, format!("the {bracket} that opens here is not closed before {until}")).with_help(help))
}

/// An error at the end of the file is shown behind the last text, not on the empty line after it.
fn end_of(text: &str) -> Place {
    let lines = text.replace("\r\n", "\n").replace('\r', "\n");
    let line = lines.matches('\n').count() + 1;
    let column = lines.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    Place { line, column }
}

/// Far beyond any policy written by hand; whatever reads more than this at every start should be an address file.
pub(super) const MAX_BYTES: usize = 4 * 1024 * 1024;

/// What the parser may say when a bracket above is not closed.
const OPEN_BRACKETS: &[&str] = &[
    "expected ',' or",
    "expected node content",
    "illegal placement of ':'",
    "is only valid inside a block",
    "invalid indentation",
];

const CLOSE_QUOTE: &str = "close it in its line with the same kind of quote";

/// Part of the parser's message, what we say, and what to do about it; the first that fits.
const COMPLAINTS: &[(&str, &str, &str)] = &[
    (
        "unknown anchor",
        "text that starts with * is a YAML alias, and no anchor of that name comes before it",
        "put quotes around it if it is a pattern",
    ),
    (
        "an anchor or alias, did not find",
        "text that starts with * or & is a YAML alias or anchor, and this one has no name",
        "put quotes around it if it is a pattern",
    ),
    ("unexpected character: `%'", "text cannot start with %", "put quotes around it"),
    ("unexpected character: `@'", "text cannot start with @", "put quotes around it"),
    ("unexpected character: ``'", "text cannot start with a backtick", "put quotes around it"),
    (
        "mapping values are not allowed",
        "a colon that cannot be understood here",
        "indent keys of one map alike; put quotes around text that holds a colon and a space",
    ),
    (
        "block sequence entries are not allowed",
        "a list cannot start on the line of its key",
        "put each \"- item\" on a line of its own, or write [item, item]",
    ),
    (
        "did not find expected '-' indicator",
        "expected another \"- item\" of the list or the end of it",
        "indent what belongs to an item further than its dash",
    ),
    (
        "block mapping, did not find expected key",
        "expected another key of the map or the end of it",
        "indent keys of one map alike",
    ),
    (
        "simple key expect",
        "expected a colon and a value after the key",
        "write `key: value`, and indent keys of one map alike",
    ),
    (
        "expected ',' or ']'",
        "a list that starts with [ does not end: expected a comma or ]",
        "close the list, or put quotes around text that holds brackets or braces",
    ),
    (
        "expected ',' or '}'",
        "a map that starts with { does not end: expected a comma or }",
        "close the map, or put quotes around text that holds brackets or braces",
    ),
    (
        "illegal placement of ':'",
        "a colon that cannot stand here",
        "put quotes around text that holds a colon and a space",
    ),
    ("is only valid inside a block", "a dash inside of brackets", "write the items with commas between them"),
    (
        "misplaced bracket",
        "a closing bracket without an opening one",
        "put quotes around text that starts with a bracket",
    ),
    ("quoted scalar, found unexpected", "the quote that opens here is never closed", CLOSE_QUOTE),
    (
        "invalid indentation in quoted scalar",
        "the quote that opens here is not closed in its line, and what follows is not indented as a part of it",
        CLOSE_QUOTE,
    ),
    (
        "trailing content after double-quoted",
        "text goes on after its closing quote",
        "put the quotes around all of it; a quote inside is \\\" in double quotes and '' in single ones",
    ),
    (
        "unknown escape character",
        "an unknown escape in double quotes",
        "write \\\\ for a backslash, or use single quotes",
    ),
    ("invalid indentation", "the indentation fits nothing above it", "indent keys of one map alike, with spaces"),
    ("tab", "a tab where only spaces can stand", "indent with spaces"),
    ("recursion limit exceeded", "lists and maps are nested too deeply", "write them flatter"),
    ("expected <document start>", "expected the end of the file here", "indent keys of one map alike"),
];
