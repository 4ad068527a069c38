//! Files that a policy was read from, looked at again and again: which of them has changed, and whether it is done.
//!
//! Looking costs next to nothing and works on every file system, through links and in containers, where notices of changes do not
//! always arrive.

use std::{
    fs::{self, Metadata},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// How often files are looked at.
pub(crate) const LOOKED_EVERY: Duration = Duration::from_millis(100);
/// Another file in its place was most likely finished before it came, but can also have been made there a moment ago.
const LOOKS_AT_REPLACED: u32 = 1;
/// A second: whoever writes in place does it in several steps, and half a policy can be a valid one.
const LOOKS_AT_WRITTEN: u32 = 10;

/// What tells one state of a file from another; of a link, what it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Device and inode.
    identity: (u64, u64),
    modified: Option<SystemTime>,
    bytes: u64,
}

impl Mark {
    /// None: there is no such file, or it cannot be looked at.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self { identity: identity(&metadata), modified: metadata.modified().ok(), bytes: metadata.len() })
    }
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    (metadata.dev(), metadata.ino())
}

/// Where files have none that can be had, every change counts as written in place.
#[cfg(not(unix))]
fn identity(_: &Metadata) -> (u64, u64) {
    (0, 0)
}

/// A file that was read.
#[derive(Debug)]
pub(crate) struct Watched {
    path: PathBuf,
    /// As it was just before.
    read: Option<Mark>,
    seen: Option<Mark>,
    /// How often it has to be seen unchanged.
    looks: u32,
    /// Whatever it says: it may be possible later.
    pub(crate) could_not_be_read: bool,
}

impl Watched {
    /// A file that is about to be read.
    pub(crate) fn new(path: &Path) -> Self {
        let mark = Mark::of(path);
        Self { path: path.to_owned(), read: mark, seen: mark, looks: 0, could_not_be_read: false }
    }

    /// Whether it is another than was read, and done.
    fn look(&mut self, now: Option<Mark>) -> State {
        let before = std::mem::replace(&mut self.seen, now);
        match (before, now) {
            // Whoever takes it away will bring another, or wants what is in force.
            (_, None) => return State::AsRead,
            (_, now) if now == self.read => return State::AsRead,
            (Some(before), Some(now)) if before == now => self.looks = self.looks.saturating_sub(1),
            (Some(before), Some(now)) if before.identity != now.identity => self.looks = LOOKS_AT_REPLACED,
            _ => self.looks = LOOKS_AT_WRITTEN,
        }
        if self.looks == 0 { State::Changed } else { State::Changing }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    AsRead,
    Changing,
    Changed,
}

/// Whether any of these files is another than was read, and all of them are done. To be asked every [`LOOKED_EVERY`].
pub(crate) fn have_changed(files: &mut [Watched]) -> bool {
    let states: Vec<State> = files
        .iter_mut()
        .map(|file| {
            let now = Mark::of(&file.path);
            file.look(now)
        })
        .collect();
    states.contains(&State::Changed) && !states.contains(&State::Changing)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file as it looks at each look, by inode and size; the looks at which it counts as changed.
    fn check(looks: &[Option<(u64, u64)>], changed_at: &[usize]) {
        let mark = |(inode, bytes)| Mark { identity: (1, inode), modified: None, bytes };
        let read = Some(mark((1, 100)));
        let mut file = Watched { path: PathBuf::new(), read, seen: read, looks: 0, could_not_be_read: false };
        let states = looks.iter().map(|look| file.look(look.map(mark)));
        let changed: Vec<usize> =
            states.enumerate().filter(|(_, state)| *state == State::Changed).map(|(at, _)| at).collect();
        assert_eq!(changed, changed_at, "{looks:?}");
    }

    #[test]
    fn a_replaced_file_is_done_as_soon_as_it_is_seen_twice() {
        check(&[Some((1, 100)), Some((2, 100)), Some((2, 100))], &[2]);
        check(&[Some((2, 50)), Some((3, 70)), Some((3, 70))], &[2]);
    }

    #[test]
    fn a_file_written_in_place_is_done_when_it_has_been_quiet_for_a_second() {
        let mut looks = vec![Some((1, 100)), Some((1, 7)), Some((1, 8))];
        looks.extend([Some((1, 9)); 11]);
        check(&looks, &[13]);
    }

    #[test]
    fn a_file_made_anew_in_its_place_and_written_there_is_waited_for() {
        let mut looks = vec![Some((2, 0)), Some((2, 5))];
        looks.extend([Some((2, 9)); 11]);
        check(&looks, &[12]);
        let mut looks = vec![None, None];
        looks.extend([Some((2, 9)); 11]);
        check(&looks, &[12]);
    }

    #[test]
    fn a_file_that_is_gone_or_as_it_was_has_not_changed() {
        check(&[Some((1, 100)), None, None, None, Some((1, 100))], &[]);
        check(&[Some((2, 100)), Some((1, 100)), Some((1, 100))], &[]);
    }
}
