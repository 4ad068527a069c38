//! What is wrong with a policy file, and where: one mistake with its place, its message and its remedy, and the
//! collection in which a whole reading gathers them, so that all are reported at once. How a line of the file is shown
//! lives in `excerpt`; which words are close lives in `spelling`.

use std::cell::RefCell;

use super::excerpt::{Excerpt, harmless};

/// One thing that is wrong, or looks wrong, in a policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Whether the file can be used in spite of it.
    pub severity: Severity,
    /// The line it is on, the first being 1.
    pub line: usize,
    /// The character of that line it starts at, the first being 1.
    pub column: usize,
    /// What is wrong and what was expected, in one line.
    pub message: String,
    /// What to do about it, where that needs a line of its own.
    pub help: Option<String>,
}

/// How much a [`Mistake`] matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file is valid, but probably does not do what its author wants.
    Warning,
}

impl Mistake {
    /// The mistake as it is printed, with the line it is on; nothing in it can move the cursor of a terminal.
    ///
    /// `source` is the text that was read. The last line has no line break.
    ///
    /// ```text
    /// tollgate.yaml:7:12: count: expected all or a map, found a list
    ///   7 |     count: [401]
    ///     |            ^
    ///   help: write { status: [401] }
    /// ```
    pub fn render(&self, file_name: &str, source: &str) -> String {
        let Self { line, column, .. } = self;
        let severity = match self.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        };
        let (file_name, message) = (harmless(file_name), harmless(&self.message));
        let mut lines = vec![format!("{file_name}:{line}:{column}: {severity}{message}")];
        if let Some(Excerpt { text, caret }) = Excerpt::of(source, *line, *column) {
            let gutter = line.to_string().len();
            lines.push(format!("  {line} | {text}"));
            lines.push(format!("  {:gutter$} | {:caret$}^", "", ""));
        }
        if let Some(help) = &self.help {
            lines.push(format!("  help: {}", harmless(help)));
        }
        lines.join("\n")
    }

    pub(crate) fn error(place: Place, message: impl Into<String>) -> Self {
        let Place { line, column } = place;
        Self { severity: Severity::Error, line, column, message: message.into(), help: None }
    }

    pub(crate) fn warning(place: Place, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(place, message) }
    }

    #[must_use]
    pub(crate) fn with_help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    fn place(&self) -> Place {
        Place { line: self.line, column: self.column }
    }
}

/// Where something stands in the file: line and character, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Place {
    /// For what concerns the file as a whole.
    pub(crate) const START: Self = Self { line: 1, column: 1 };
}

/// The mistakes of one reading.
///
/// The same mistake is kept once, however often an alias leads to it. Of more than [`MAX_MISTAKES`] the errors come
/// before the warnings and the first before the last; the others are only counted.
#[derive(Debug, Default)]
pub(crate) struct Mistakes {
    /// A cell, because the reader of a map and the readers of its parts write here in turns, each holding on to it.
    gathered: RefCell<Gathered>,
}

#[derive(Debug, Default)]
struct Gathered {
    /// In the order they came, until `settle` orders and cuts them.
    kept: Vec<Mistake>,
    /// The first of those that did not fit, by rank, and how many there were.
    omitted: Option<(Mistake, usize)>,
}

impl Mistakes {
    /// Something is wrong at this place.
    pub(crate) fn at(&self, place: Place, message: impl Into<String>) {
        self.push(Mistake::error(place, message));
    }

    /// Something looks wrong at this place, but the file is valid.
    pub(crate) fn warn(&self, place: Place, message: impl Into<String>) {
        self.push(Mistake::warning(place, message));
    }

    /// For a mistake with a remedy: `Mistake::error(place, message).with_help(help)`.
    pub(crate) fn push(&self, mistake: Mistake) {
        self.gathered.borrow_mut().push(mistake);
    }

    /// Whether the file cannot be used.
    pub(crate) fn has_errors(&self) -> bool {
        // An error is omitted only when errors alone are kept, so the kept ones tell.
        self.gathered.borrow().kept.iter().any(|mistake| mistake.severity == Severity::Error)
    }

    /// All of them in the order of the file, the last one counting those that were too many.
    pub(crate) fn finish(self) -> Vec<Mistake> {
        let Gathered { mut kept, omitted } = self.gathered.into_inner().settle();
        kept.sort_by_key(Mistake::place);
        kept.extend(omitted.map(|(first, count)| {
            let noun = match first.severity {
                Severity::Error => "mistake",
                Severity::Warning => "warning",
            };
            let plural = if count == 1 { "" } else { "s" };
            Mistake { message: format!("and {count} more {noun}{plural}"), help: None, ..first }
        }));
        kept
    }
}

impl Gathered {
    fn push(&mut self, mistake: Mistake) {
        self.kept.push(mistake);
        // Twice as many, so that the sorting is paid for by as many pushes.
        if self.kept.len() >= 2 * MAX_MISTAKES {
            *self = std::mem::take(self).settle();
        }
    }

    fn settle(mut self) -> Self {
        self.kept.sort_by(|a, b| rank(a).cmp(&rank(b)));
        self.kept.dedup();
        let excess = self.kept.split_off(self.kept.len().min(MAX_MISTAKES));
        let count = excess.len() + self.omitted.as_ref().map_or(0, |(_, count)| *count);
        let first = excess.into_iter().next().into_iter().chain(self.omitted.map(|(first, _)| first));
        self.omitted = first.min_by(|a, b| rank(a).cmp(&rank(b))).map(|first| (first, count));
        self
    }
}

/// What is kept first when there are too many.
fn rank(mistake: &Mistake) -> (Severity, Place, &str) {
    (mistake.severity, mistake.place(), &mistake.message)
}

/// A screenful or two: whoever has more mistakes than this has made one of them many times.
const MAX_MISTAKES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn place(line: usize, column: usize) -> Place {
        Place { line, column }
    }

    #[test]
    fn shows_the_line_and_points_at_the_column() {
        let source = "rules:\n  - name: a\n    limit: 5/fortnight\n";
        let mistake = Mistake::error(place(3, 12), "limit \"5/fortnight\": expected a unit").with_help("write 14 days");
        assert_eq!(
            mistake.render("tollgate.yaml", source),
            "tollgate.yaml:3:12: limit \"5/fortnight\": expected a unit\n\
             \x20 3 |     limit: 5/fortnight\n\
             \x20   |            ^\n\
             \x20 help: write 14 days"
        );
    }

    #[test]
    fn says_that_a_warning_is_one() {
        let shown = Mistake::warning(place(1, 1), "this never fits").render("a.yaml", "");
        assert_eq!(shown, "a.yaml:1:1: warning: this never fits");
    }

    #[test]
    fn nothing_in_a_mistake_reaches_the_terminal_as_an_escape() {
        let shown = Mistake::error(place(1, 5), "bad \u{1b}[2J\ntext").render("\u{9b}f", "a: \u{1b}[31mred");
        assert_eq!(shown.lines().count(), 3);
        assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
    }

    #[test]
    fn reports_in_the_order_of_the_file_and_each_mistake_once() {
        let mistakes = Mistakes::default();
        mistakes.warn(place(9, 1), "w");
        mistakes.at(place(3, 2), "b");
        mistakes.at(place(3, 1), "a");
        mistakes.at(place(3, 2), "b");
        let messages: Vec<_> = mistakes.finish().into_iter().map(|mistake| mistake.message).collect();
        assert_eq!(messages, ["a", "b", "w"]);
    }

    #[test]
    fn counts_those_that_are_too_many() {
        let mistakes = Mistakes::default();
        for line in (1..=MAX_MISTAKES * 5 + 7).rev() {
            mistakes.at(place(line, 1), "m");
        }
        let all = mistakes.finish();
        assert_eq!(all.len(), MAX_MISTAKES + 1);
        assert_eq!(all[0].line, 1);
        assert_eq!(all[MAX_MISTAKES].line, MAX_MISTAKES + 1);
        assert_eq!(all[MAX_MISTAKES].message, format!("and {} more mistakes", MAX_MISTAKES * 4 + 7));
    }

    #[test]
    fn no_number_of_warnings_hides_an_error() {
        let mistakes = Mistakes::default();
        for line in 1..1000 {
            mistakes.warn(place(line, 1), "w");
        }
        assert!(!mistakes.has_errors());
        mistakes.at(place(1000, 1), "e");
        for line in 1..1000 {
            mistakes.warn(place(line, 2), "w");
        }
        assert!(mistakes.has_errors());
        let all = mistakes.finish();
        assert!(all.iter().any(|mistake| mistake.message == "e"));
        assert_eq!(all.last().map(|last| last.message.as_str()), Some("and 1899 more warnings"));
    }
}
