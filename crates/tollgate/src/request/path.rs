//! What routers make of a path, whatever its spelling.
//!
//! Routers take `/login`, `//login/`, `/%6Cogin`, `/x/../login` and `/login;a=b` for the same place, so a rule for it
//! must fit all of them: a limit that a different spelling escapes is no limit. But they do not all undo the same: to one,
//! `/x\y/../login` is `/login`, to another `/x/login`. So a path is read in every way in which its routers could.

use std::borrow::Cow;

use smallvec::SmallVec;

/// The distinct ways to read one path; nearly always one.
pub(crate) struct Readings<'a> {
    all: SmallVec<[Cow<'a, [u8]>; 1]>,
    is_settled: bool,
}

impl<'a> Readings<'a> {
    /// Reads a path with everything decoded, not only what RFC 3986 calls unreserved: routers do so too, and
    /// `/caf%c3%a9` must not be another path than `/caf%C3%A9`.
    pub(crate) fn decoded(path: &'a str) -> Self {
        Self::of(path.as_bytes(), |_| false)
    }

    /// The same with only the unreserved characters decoded, in the one spelling that RFC 3986, section 6.2.2 gives a
    /// path. A regular expression sees this one too: to its `.`, a decoded line feed or a byte that is no text is no
    /// character, and a path with one behind it would escape.
    pub(crate) fn respelled(path: &'a str) -> Self {
        Self::of(path.as_bytes(), |byte| !byte.is_ascii_alphanumeric() && !b"-._~".contains(&byte))
    }

    fn of(path: &'a [u8], keep_encoded: impl Fn(u8) -> bool) -> Self {
        if is_normal(path) {
            return Self { all: SmallVec::from_iter([Cow::Borrowed(path)]), is_settled: true };
        }
        let mut all: SmallVec<[Cow<'a, [u8]>; 1]> = SmallVec::new();
        let mut climbed_to = None;
        let mut all_climb_alike = true;
        let mut read = |path: &[u8]| {
            for router in Router::all_that_differ_about(path) {
                let reading = router.read(path, &keep_encoded);
                if router.removes_dots {
                    all_climb_alike &= *climbed_to.get_or_insert_with(|| reading.clone()) == reading;
                }
                if !all.iter().any(|other| **other == *reading) {
                    all.push(Cow::Owned(reading));
                }
            }
        };
        read(path);
        if path.contains(&b';') && (has_backslash(path) || has_encoded_slash(path)) {
            // Some routers drop parameters before they see which slashes are encoded.
            read(&without_parameters(path));
        }
        Self { all, is_settled: all_climb_alike || !Router::UNDOES_ALL.climbs(path) }
    }

    /// Every reading, the one with everything undone first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.all.iter().map(|reading| &**reading)
    }

    /// The path with everything undone; none if routers could climb out of different segments of it, so that its sender
    /// could have one place counted under any name he likes.
    pub(crate) fn settled(&self) -> Option<&[u8]> {
        self.all.first().map(|reading| &**reading).filter(|_| self.is_settled)
    }
}

/// What one kind of router undoes, beside percent-encoding, repeated slashes and a final slash.
#[derive(Clone, Copy)]
struct Router {
    /// Reads `\` as `/`.
    splits_at_backslashes: bool,
    /// Reads `%2F` as `/`.
    splits_at_encoded: bool,
    /// Drops what follows a `;` in a segment.
    drops_parameters: bool,
    /// Takes repeated slashes for one before it removes dot segments, not after: `/a//..` is then not `/a`.
    merges_slashes: bool,
    /// Removes dot segments.
    removes_dots: bool,
}

impl Router {
    const UNDOES_ALL: Self = Self {
        splits_at_backslashes: true,
        splits_at_encoded: true,
        drops_parameters: true,
        merges_slashes: true,
        removes_dots: true,
    };

    /// Routers that could read this path differently, beginning with the one that undoes everything.
    fn all_that_differ_about(path: &[u8]) -> impl Iterator<Item = Self> {
        /// One bit for each thing that a router can leave as it is.
        const WAYS: u8 = 1 << 5;
        let has_dots = path.contains(&b'.') || has_encoded(path, b"2e");
        let matters = [
            has_backslash(path),
            has_encoded_slash(path),
            path.contains(&b';'),
            has_dots && Self::differ_about_segments(path),
            has_dots,
        ];
        (0..WAYS).filter_map(move |leaves| {
            let undoes = [0, 1, 2, 3, 4].map(|bit| leaves & (1 << bit) == 0);
            let differs = undoes.iter().zip(&matters).all(|(undoes, matters)| *undoes || *matters);
            let [splits_at_backslashes, splits_at_encoded, drops_parameters, merges_slashes, removes_dots] = undoes;
            differs.then_some(Self {
                splits_at_backslashes,
                splits_at_encoded,
                drops_parameters,
                merges_slashes,
                removes_dots,
            })
        })
    }

    /// Whether they could take it for different segments.
    fn differ_about_segments(path: &[u8]) -> bool {
        let has_empty_segment = path.windows(2).any(|pair| pair == b"//");
        has_empty_segment || has_backslash(path) || has_encoded_slash(path) || path.contains(&b';')
    }

    fn read(&self, path: &[u8], keep_encoded: &impl Fn(u8) -> bool) -> Vec<u8> {
        let keep_encoded = |byte| (byte == b'/' && !self.splits_at_encoded) || keep_encoded(byte);
        let mut segments: Vec<Vec<u8>> = Vec::new();
        for segment in self.split(path) {
            let end = if self.drops_parameters { segment.iter().position(|byte| *byte == b';') } else { None };
            let name = decode_but(&segment[..end.unwrap_or(segment.len())], keep_encoded);
            match name.as_slice() {
                b"" if self.merges_slashes => {}
                b"." if self.removes_dots => {}
                b".." if self.removes_dots => drop(segments.pop()),
                _ => segments.push(name),
            }
        }
        let mut read = Vec::with_capacity(path.len());
        for segment in segments.into_iter().filter(|segment| !segment.is_empty()) {
            read.push(b'/');
            read.extend(segment);
        }
        if read.is_empty() {
            read.push(b'/');
        }
        read
    }

    /// Whether it takes a segment for one that leaves the segment before it.
    fn climbs(&self, path: &[u8]) -> bool {
        let name = |segment: &[u8]| decode(segment.split(|byte| *byte == b';').next().unwrap_or(segment));
        self.split(path).into_iter().any(|segment| name(segment) == b"..")
    }

    /// Cuts at everything that it takes for a slash.
    fn split<'p>(&self, path: &'p [u8]) -> Vec<&'p [u8]> {
        let mut segments = Vec::new();
        let (mut start, mut at) = (0, 0);
        while at < path.len() {
            let width = match &path[at..] {
                [b'/', ..] => 1,
                [b'\\', ..] if self.splits_at_backslashes => 1,
                [b'%', b'5', b'c' | b'C', ..] if self.splits_at_backslashes => 3,
                [b'%', b'2', b'f' | b'F', ..] if self.splits_at_encoded => 3,
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
}

/// The path with everything dropped that follows a `;` up to the next plain slash.
fn without_parameters(path: &[u8]) -> Vec<u8> {
    let names = path.split(|byte| *byte == b'/').map(|segment| segment.split(|byte| *byte == b';').next());
    names.map(Option::unwrap_or_default).collect::<Vec<_>>().join(&b'/')
}

fn has_backslash(path: &[u8]) -> bool {
    path.contains(&b'\\') || has_encoded(path, b"5c")
}

fn has_encoded_slash(path: &[u8]) -> bool {
    has_encoded(path, b"2f")
}

/// Whether the byte with these hex digits, in lower case, stands encoded in a path.
fn has_encoded(path: &[u8], digits: &[u8; 2]) -> bool {
    path.windows(3).any(|window| window[0] == b'%' && window[1..].eq_ignore_ascii_case(digits))
}

/// A path or a pattern as clients send it: what cannot stand in a path is encoded, in capitals, as what is encoded already.
pub(crate) fn as_sent(path: &[u8]) -> Vec<u8> {
    let mut sent = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match tail {
            [high, low, after @ ..] if *first == b'%' && hex(*high).is_some() && hex(*low).is_some() => {
                sent.extend([b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()]);
                rest = after;
            }
            _ if first.is_ascii_graphic() => sent.push(*first),
            _ => sent.extend(format!("%{first:02X}").into_bytes()),
        }
    }
    sent
}

/// The ways to read a path pattern as paths are, wildcards left alone: decoded, slashes merged, no final slash. With its
/// encoded slashes as slashes, and, if it has any, also as they are; and, if it ends in a segment that can be empty, also
/// without that, since a path's final slash is ignored. An encoded `*` is no wildcard, so it stays encoded, and a path's
/// does not fit it.
pub(crate) fn fold_pattern(pattern: &str) -> SmallVec<[Vec<u8>; 1]> {
    let mut folds: SmallVec<[Vec<u8>; 1]> = SmallVec::new();
    folds.push(fold(decode_but(pattern.as_bytes(), |byte| byte == b'*')));
    if has_encoded_slash(pattern.as_bytes()) {
        folds.push(fold(decode_but(pattern.as_bytes(), |byte| byte == b'*' || byte == b'/')));
    }
    let may_end_empty = |fold: &Vec<u8>| fold.ends_with(b"/*") && fold.len() > 2;
    let without_end: Vec<Vec<u8>> =
        folds.iter().filter(|fold| may_end_empty(fold)).map(|fold| fold[..fold.len() - 2].to_vec()).collect();
    folds.extend(without_end);
    folds
}

fn fold(pattern: Vec<u8>) -> Vec<u8> {
    let mut folded: Vec<u8> = Vec::with_capacity(pattern.len());
    for byte in pattern {
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
    let mut before = b' ';
    let is_plain = |byte: &u8| {
        let is_after_slash = std::mem::replace(&mut before, *byte) == b'/';
        match byte {
            b'%' | b'\\' | b';' => false,
            // An empty or a dotted segment begins with "//" or "/.".
            b'/' | b'.' => !is_after_slash,
            _ => true,
        }
    };
    path.first() == Some(&b'/') && (path.len() == 1 || path.last() != Some(&b'/')) && path.iter().all(is_plain)
}

/// Percent-decodes once; a `%` without two hex digits stands for itself.
pub(super) fn decode(text: &[u8]) -> Vec<u8> {
    decode_but(text, |_| false)
}

/// Percent-decodes all but some bytes, which stay encoded, in capitals.
fn decode_but(text: &[u8], keep_encoded: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let byte = match rest {
            [b'%', high, low, ..] => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        match byte {
            Some(byte) if keep_encoded(byte) => decoded.extend(rest[..3].to_ascii_uppercase()),
            Some(byte) => decoded.push(byte),
            None => decoded.push(*first),
        }
        rest = if byte.is_some() { &rest[3..] } else { tail };
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
