//! Text from a file as it is shown to a person: a line cut around the character in question, and no character in it that
//! a terminal would obey. Columns on the screen are counted here; characters of the file are counted by the parser.

/// The part of one line that is shown, and how many screen columns stand before the character in question.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Excerpt {
    pub(super) text: String,
    pub(super) caret: usize,
}

impl Excerpt {
    /// `None` if there is no such line or nothing on it to show.
    pub(super) fn of(source: &str, line: usize, column: usize) -> Option<Self> {
        let line = lines(source).nth(line.checked_sub(1)?)?;
        if line.trim().is_empty() {
            return None;
        }

        let before = column.saturating_sub(1).min(line.chars().count());
        let start = before.saturating_sub(SHOWN_BEFORE);
        let mut rest = line.chars().skip(start).map(harmless_char);
        let mut text = String::from(if start > 0 { "…" } else { "" });
        text.extend(rest.by_ref().take(before - start));
        let caret = text.chars().map(width).sum();
        text.extend(rest.by_ref().take(SHOWN_AFTER));
        if rest.next().is_some() {
            text.push('…');
        }
        Some(Self { text, caret })
    }
}

/// The text with every character replaced that would move the cursor, change colours or turn the writing direction.
pub(super) fn harmless(text: &str) -> String {
    text.chars().map(harmless_char).collect()
}

/// The text in quotes for a message, cut if it is long.
pub(super) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_QUOTED).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}

/// Lines as the parser counts them: `\n`, `\r\n` and `\r` each end one, and a byte order mark stands outside.
pub(super) fn lines(source: &str) -> impl Iterator<Item = &str> {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    source.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

fn harmless_char(c: char) -> char {
    match c {
        '\t' => ' ',
        // Unicode has a picture for each of these: ␛ for escape, ␊ for a line feed.
        '\0'..='\u{1f}' => char::from_u32('\u{2400}' as u32 + c as u32).unwrap_or('\u{fffd}'),
        '\u{7f}' => '\u{2421}',
        // Further controls, invisible characters, and those that turn the writing direction.
        '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' => '\u{fffd}',
        '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}' => '\u{fffd}',
        _ => c,
    }
}

/// How many screen columns a harmless character takes: the large blocks of Unicode's East Asian Width and of its
/// combining marks. A character missed here moves the caret by one, which is why no crate is asked.
fn width(c: char) -> usize {
    match c {
        '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{591}'..='\u{5bd}' | '\u{64b}'..='\u{65f}' => 0,
        '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}' | '\u{3099}'..='\u{309a}' => 0,
        '\u{fe00}'..='\u{fe0f}' | '\u{fe20}'..='\u{fe2f}' => 0,
        '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{303e}' | '\u{3041}'..='\u{a4cf}' | '\u{a960}'..='\u{a97f}' => 2,
        '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' => 2,
        '\u{ffe0}'..='\u{ffe6}' | '\u{1f300}'..='\u{1f64f}' | '\u{1f680}'..='\u{1f6ff}' => 2,
        '\u{1f900}'..='\u{1faff}' | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// With [`SHOWN_AFTER`], what fits a terminal of a hundred columns beside the line number.
const SHOWN_BEFORE: usize = 50;
const SHOWN_AFTER: usize = 40;

/// Enough to recognise a value, and not the whole of a body that stands where a word should.
const MAX_QUOTED: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, line: usize, column: usize, expected: &str) {
        let Excerpt { text, caret } = Excerpt::of(source, line, column).expect("the line has text");
        assert_eq!(format!("{text}\n{:caret$}^", ""), expected);
    }

    #[test]
    fn finds_a_line_however_lines_end() {
        for source in ["a\nb\nc", "a\r\nb\r\nc", "a\rb\rc", "\u{feff}a\r\nb\nc"] {
            check(source, 1, 1, "a\n^");
            check(source, 2, 1, "b\n^");
            check(source, 3, 1, "c\n^");
            assert_eq!(Excerpt::of(source, 4, 1), None);
            assert_eq!(Excerpt::of(source, 0, 1), None);
        }
    }

    #[test]
    fn points_under_tabs_wide_characters_and_combining_marks() {
        check("\ta: b", 1, 2, " a: b\n ^");
        check("日本: b", 1, 5, "日本: b\n      ^");
        check("e\u{301}: b", 1, 5, "e\u{301}: b\n   ^");
    }

    #[test]
    fn points_behind_the_end_at_most() {
        check("ab", 1, 900, "ab\n  ^");
        check("ab", 1, 0, "ab\n^");
    }

    #[test]
    fn cuts_a_long_line_around_the_caret() {
        let line = format!("{}X{}", "a".repeat(1000), "b".repeat(1000));
        let excerpt = Excerpt::of(&line, 1, 1001).expect("the line has text");
        assert_eq!(excerpt.text, format!("…{}X{}…", "a".repeat(SHOWN_BEFORE), "b".repeat(SHOWN_AFTER - 1)));
        assert_eq!(excerpt.caret, SHOWN_BEFORE + 1);
    }

    #[test]
    fn replaces_what_a_terminal_obeys() {
        assert_eq!(harmless("\u{1b}[31m\u{7f}\u{9b}\u{202e}\n\t"), "␛[31m␡\u{fffd}\u{fffd}␊ ");
    }

    #[test]
    fn cuts_what_it_quotes() {
        assert_eq!(quoted("5/hour"), "\"5/hour\"");
        assert_eq!(quoted(&"é".repeat(500)), format!("\"{}…\"", "é".repeat(MAX_QUOTED)));
    }
}
