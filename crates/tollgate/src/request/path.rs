//! One reading of a path, whatever its spelling.
//!
//! Routers take `/login`, `//login/`, `/%6Cogin`, `/x/../login` and `/login;a=b` for the same place, so a rule for it
//! must fit all of them: a limit that a different spelling escapes is no limit.

use std::borrow::Cow;

/// The path with every spelling that routers read alike made one: percent-decoded, `%2F` and `\` read as `/`, repeated
/// slashes merged, dot segments removed, what follows a `;` in a segment dropped, a final slash ignored.
///
/// Everything is decoded, not only what RFC 3986 calls unreserved: routers do so too, and `/caf%c3%a9` must not be
/// another path than `/caf%C3%A9`.
pub(crate) fn normalise(path: &str) -> Cow<'_, [u8]> {
    normalise_by(decode, path)
}

/// The same with only the unreserved characters decoded, in the one spelling that RFC 3986, section 6.2.2 gives a path.
/// A regular expression sees this one too: to its `.`, a decoded line feed or a byte that is no text is no character,
/// and a path with one behind it would escape.
pub(crate) fn respell(path: &str) -> Cow<'_, [u8]> {
    normalise_by(decode_unreserved, path)
}

fn normalise_by(decode: fn(&[u8]) -> Vec<u8>, path: &str) -> Cow<'_, [u8]> {
    if is_normal(path.as_bytes()) {
        return Cow::Borrowed(path.as_bytes());
    }
    let mut segments: Vec<Vec<u8>> = Vec::new();
    for segment in split_at_slashes(path.as_bytes()) {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or(segment);
        let name = decode(name);
        match name.as_slice() {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            _ => segments.push(name),
        }
    }
    let mut normal = Vec::with_capacity(path.len());
    for segment in segments {
        normal.push(b'/');
        normal.extend(segment);
    }
    if normal.is_empty() {
        normal.push(b'/');
    }
    Cow::Owned(normal)
}

/// A path pattern read as [`normalise`] reads paths, wildcards left alone: decoded, slashes merged, no final slash.
pub(crate) fn fold_pattern(pattern: &str) -> Vec<u8> {
    let mut folded: Vec<u8> = Vec::with_capacity(pattern.len());
    for byte in decode(pattern.as_bytes()) {
        if byte != b'/' || folded.last() != Some(&b'/') {
            folded.push(byte);
        }
    }
    if folded.len() > 1 && folded.last() == Some(&b'/') {
        folded.pop();
    }
    folded
}

/// Whether a path is its own normal form, as nearly every path is. May say no to one that is.
fn is_normal(path: &[u8]) -> bool {
    let is_plain = |byte: &u8| !matches!(byte, b'%' | b'\\' | b';');
    path.first() == Some(&b'/')
        && (path.len() == 1 || path.last() != Some(&b'/'))
        && path.iter().all(is_plain)
        // An empty or a dotted segment begins with "//" or "/.".
        && !path.windows(2).any(|pair| pair == b"//" || pair == b"/.")
}

/// Cuts at `/`, `\` and their encodings.
fn split_at_slashes(path: &[u8]) -> Vec<&[u8]> {
    let mut segments = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while at < path.len() {
        let width = match &path[at..] {
            [b'/' | b'\\', ..] => 1,
            [b'%', b'2', b'f' | b'F', ..] | [b'%', b'5', b'c' | b'C', ..] => 3,
            _ => {
                at += 1;
                continue;
            }
        };
        segments.push(&path[start..at]);
        at += width;
        start = at;
    }
    segments.push(&path[start..]);
    segments
}

/// Percent-decodes once; a `%` without two hex digits stands for itself.
pub(super) fn decode(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let byte = match rest {
            [b'%', high, low, ..] => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        decoded.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &rest[3..] } else { tail };
    }
    decoded
}

/// Percent-decodes letters, digits and `-._~`; what else is encoded stays so, in capitals.
fn decode_unreserved(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let encoded = rest.get(..3).filter(|encoded| decode(encoded).len() == 1);
        match encoded.map(|encoded| (encoded, decode(encoded)[0])) {
            Some((_, byte)) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => decoded.push(byte),
            Some((encoded, _)) => decoded.extend(encoded.to_ascii_uppercase()),
            None => decoded.push(*first),
        }
        rest = if encoded.is_some() { &rest[3..] } else { tail };
    }
    decoded
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}
