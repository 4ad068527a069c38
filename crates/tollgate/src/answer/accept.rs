//! Chooses a body by the Accept header (RFC 9110, section 12.5.1).

use super::Media;

/// The kind of body that the field lines of Accept like best. Of several liked alike, one that is named is meant more than
/// one that a wildcard lets in; then `default` has the word, as it has where nothing fits or nobody says what he likes.
pub(super) fn choose(accept: &[&[u8]], default: Media) -> Media {
    if accept.is_empty() {
        return default;
    }
    let mut said = [None; TYPES.len()];
    for range in accept.iter().flat_map(|line| line.split(|byte| *byte == b',')).filter_map(Range::read) {
        for ((_, main, name), said) in TYPES.iter().zip(&mut said) {
            // The most specific range that fits a type has the word on it.
            if let Some(specificity) = range.specificity(main, name) {
                *said = (*said).max(Some((specificity, range.quality)));
            }
        }
    }
    let mut best = (Liking::default(), default);
    for ((media, ..), said) in TYPES.iter().zip(said) {
        let Some((specificity, quality)) = said else { continue };
        let liking = Liking { quality, specificity };
        if quality > 0 && (liking > best.0 || liking == best.0 && *media == default) {
            best = (liking, *media);
        }
    }
    best.1
}

/// How much a media type is liked: by its weight, then by how plainly it is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Liking {
    /// In thousandths.
    quality: u16,
    specificity: u8,
}

/// The media types, with their main type, that the kinds of body answer to; of several liked alike, the first is taken.
static TYPES: [(Media, &str, &str); 4] = [
    (Media::Json, "application", "application/problem+json"),
    (Media::Json, "application", "application/json"),
    (Media::Html, "text", "text/html"),
    (Media::Plain, "text", "text/plain"),
];

struct Range<'a> {
    media: &'a [u8],
    /// In thousandths.
    quality: u16,
}

impl<'a> Range<'a> {
    fn read(text: &'a [u8]) -> Option<Self> {
        let mut pieces = text.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let media = pieces.next().filter(|media| !media.is_empty())?;
        let quality = pieces.find_map(|piece| match piece {
            [b'q' | b'Q', b'=', value @ ..] => Some(thousandths(value)),
            _ => None,
        });
        Some(Self { media, quality: quality.unwrap_or(1_000) })
    }

    /// How plainly it names this media type, if it fits.
    fn specificity(&self, main: &str, name: &str) -> Option<u8> {
        if self.media.eq_ignore_ascii_case(name.as_bytes()) {
            Some(2)
        } else if self.media.strip_suffix(b"/*").is_some_and(|wanted| wanted.eq_ignore_ascii_case(main.as_bytes())) {
            Some(1)
        } else {
            (self.media == b"*/*").then_some(0)
        }
    }
}

/// `0.5` → 500. What is no weight weighs nothing.
fn thousandths(text: &[u8]) -> u16 {
    let (whole, fraction) = match text {
        [b'0'] | [b'1'] => (text[0] - b'0', &[][..]),
        [whole @ (b'0' | b'1'), b'.', fraction @ ..] if fraction.len() <= 3 => (whole - b'0', fraction),
        _ => return 0,
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    let digit = |place: usize| u16::from(fraction.get(place).map_or(0, |digit| digit - b'0'));
    (u16::from(whole) * 1_000 + digit(0) * 100 + digit(1) * 10 + digit(2)).min(1_000)
}
