//! What is wrong with a text before it is a tree: characters that no policy file holds, and what the YAML parser complains
//! of, in words for someone who knows their policy and not the YAML grammar.

use saphyr_parser::{Marker, ScanError};

use super::mistake::{Mistake, Place};

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
    let rest = rest_from(source, error.marker());
    let place = if rest.trim().is_empty() { end_of(source.trim_end()) } else { place_of(error.marker()) };
    let reads_as_variable = rest.starts_with('{') && source[..source.len() - rest.len()].ends_with('$');
    if reads_as_variable {
        return Mistake::error(place, "${…} inside { } or [ ] reads as a YAML map")
            .with_help("put quotes around the text that holds it");
    }

    let info = error.info();
    match COMPLAINTS.iter().find(|(theirs, ..)| info.contains(theirs)) {
        Some((_, message, help)) => Mistake::error(place, *message).with_help(*help),
        None => Mistake::error(place, format!("not valid YAML: {info}")),
    }
}

/// The parser counts lines from 1 and columns from 0.
pub(super) fn place_of(marker: &Marker) -> Place {
    Place { line: marker.line(), column: marker.col() + 1 }
}

fn rest_from<'s>(source: &'s str, marker: &Marker) -> &'s str {
    source.char_indices().nth(marker.index()).map_or("", |(start, _)| &source[start..])
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
        "a colon that cannot stand here, perhaps because a [ above does not end",
        "close the list, or put quotes around text that holds brackets or braces",
    ),
    (
        "misplaced bracket",
        "a closing bracket without an opening one",
        "put quotes around text that starts with a bracket",
    ),
    (
        "quoted scalar, found unexpected end of stream",
        "the quote that starts here does not end",
        "close it with the same kind of quote",
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
