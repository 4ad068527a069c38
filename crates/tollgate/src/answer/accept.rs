//! Chooses a body by the Accept header (RFC 9110, section 12.5.1).

use super::Media;

/// The kind of body that the field lines of Accept like best. Of several liked alike, one that is named is meant more than
/// one that a wildcard lets in; then `default` has the word, as it has where nothing fits.
pub(super) fn choose(accept: &[&[u8]], default: Media) -> Media {
    let ranges: Vec<Range<'_>> =
        accept.iter().flat_map(|line| line.split(|byte| *byte == b',')).filter_map(Range::read).collect();
    let liking = |media: Media| types_of(media).iter().map(|name| liking_of(name, &ranges)).max().unwrap_or_default();
    let best = Media::ALL.into_iter().map(liking).max().unwrap_or_default();
    if best.quality == 0 || liking(default) == best {
        return default;
    }
    Media::ALL.into_iter().find(|media| liking(*media) == best).unwrap_or(default)
}

/// How much a media type is liked: by its weight, then by how plainly it is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Liking {
    /// In thousandths.
    quality: u16,
    specificity: u8,
}

/// The media types, with their main type, that a kind of body answers to.
fn types_of(media: Media) -> &'static [(&'static str, &'static str)] {
    match media {
        Media::Json => &[("application", "application/problem+json"), ("application", "application/json")],
        Media::Html => &[("text", "text/html")],
        Media::Plain => &[("text", "text/plain")],
    }
}

/// What the most specific range that fits says. No Accept at all likes everything.
fn liking_of((main, name): &(&str, &str), ranges: &[Range<'_>]) -> Liking {
    if ranges.is_empty() {
        return Liking { quality: 1_000, specificity: 0 };
    }
    let specificity = |range: &Range<'_>| {
        let media = range.media;
        if media.eq_ignore_ascii_case(name.as_bytes()) {
            Some(2)
        } else if media.strip_suffix(b"/*").is_some_and(|wanted| wanted.eq_ignore_ascii_case(main.as_bytes())) {
            Some(1)
        } else {
            (media == b"*/*").then_some(0)
        }
    };
    let fitting = ranges
        .iter()
        .filter_map(|range| specificity(range).map(|specificity| Liking { quality: range.quality, specificity }));
    fitting.max_by_key(|liking| (liking.specificity, liking.quality)).unwrap_or_default()
}

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
