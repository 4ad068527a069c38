//! What a text that is not YAML leaves open: a quote or a bracket, often lines above the place where the parser stumbles.
//! The text up to there, parsed by itself, tells which one it is.

use saphyr_parser::{Event, Parser};

use super::mistake::Place;
use super::syntax::place_of;

/// The innermost `[` or `{` that is open where the text ends.
pub(super) fn open_bracket(text: &str) -> Option<(char, Place)> {
    let mut open = Vec::new();
    let mut parser = Parser::new_from_str(text);
    while let Some(Ok((event, span))) = parser.next_event() {
        match event {
            Event::SequenceStart(..) | Event::MappingStart(..) => open.push(span.start),
            Event::SequenceEnd | Event::MappingEnd => drop(open.pop()),
            Event::StreamEnd => break,
            _ => {}
        }
    }
    let innermost = open.pop()?;
    let bracket = text.chars().nth(innermost.index())?;
    matches!(bracket, '[' | '{').then(|| (bracket, place_of(&innermost)))
}

/// The quote that is open where the text ends.
pub(super) fn open_quote(text: &str) -> Option<Place> {
    let mut parser = Parser::new_from_str(text);
    loop {
        match parser.next_event()? {
            Ok((Event::StreamEnd, _)) => return None,
            Ok(_) => {}
            Err(error) => {
                return error.info().contains("quoted scalar, found unexpected end").then(|| place_of(error.marker()));
            }
        }
    }
}
