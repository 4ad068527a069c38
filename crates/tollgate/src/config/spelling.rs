//! Which known word an unknown one was meant to be.

/// The candidate closest to `word`, if one is close enough to be meant: a third of its letters may be wrong, at least
/// one and at most [`MAX_EDITS`], where an edit adds, drops, replaces or swaps. Case does not count.
pub(crate) fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = letters(word)?;
    let close = candidates.into_iter().filter_map(|candidate| {
        let letters = letters(candidate)?;
        let longest = letters.len().max(word.len());
        let edits = distance(&word, &letters);
        let allowed = ((longest + 1) / 3).min(MAX_EDITS);
        (edits <= allowed).then_some((edits, candidate))
    });
    close.min_by_key(|(edits, _)| *edits).map(|(_, candidate)| candidate)
}

fn letters(word: &str) -> Option<Vec<char>> {
    let letters: Vec<char> = word.chars().take(MAX_LETTERS + 1).map(|c| c.to_ascii_lowercase()).collect();
    (letters.len() <= MAX_LETTERS).then_some(letters)
}

/// Damerau and Levenshtein's distance, in which no letter is edited twice.
fn distance(a: &[char], b: &[char]) -> usize {
    // Row `i` holds the distances of the first `i` letters of `a` to every beginning of `b`; a swap looks two rows back.
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// Beyond this a word is another word, however long it is.
const MAX_EDITS: usize = 3;

/// Longer than any word of the policy file; the work grows with the square of it.
const MAX_LETTERS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(word: &str, expected: Option<&str>) {
        let known =
            ["name", "match", "except", "by", "limit", "algorithm", "overrides", "calendar-window", "sliding-log"];
        assert_eq!(did_you_mean(word, known), expected, "{word}");
    }

    #[test]
    fn suggests_what_is_close() {
        check("lmit", Some("limit"));
        check("lmti", Some("limit"));
        check("Limit", Some("limit"));
        check("LIMITS", Some("limit"));
        check("nmae", Some("name"));
        check("algoritm", Some("algorithm"));
        check("overides", Some("overrides"));
        check("calender_windw", Some("calendar-window"));
        check("bt", Some("by"));
    }

    #[test]
    fn suggests_nothing_that_is_far() {
        check("", None);
        check("x", None);
        check("burst", None);
        check("mode", None);
        check("window", None);
        check(&"limit".repeat(1000), None);
    }

    #[test]
    fn a_swap_is_one_edit() {
        let distance = |a: &str, b: &str| distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("abcd", "acbd"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
    }
}
