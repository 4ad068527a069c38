//! Files that a policy was read from, looked at again and again: which of them has changed, and whether it is done.
//!
//! Looking costs next to nothing and works on every file system, through links and in containers, where notices of changes do not
//! always arrive.

use std::{
    fs::{self, Metadata},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tracing::{info, warn};

use crate::policy_file::reason;

/// How often files are looked at.
pub(crate) const LOOKED_EVERY: Duration = Duration::from_millis(100);
/// Another file in its place was most likely finished before it came, but can also have been made there a moment ago.
const LOOKS_AT_REPLACED: u32 = 1;
/// A second: whoever writes in place does it in several steps, and half a policy can be a valid one.
const LOOKS_AT_WRITTEN: u32 = 10;
/// Five seconds: what never becomes quiet is read all the same, and what is gone so long is not being replaced.
const LOOKS_AT_MOST: u32 = 50;

/// What tells one state of a file from another; of a link, what it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Device and inode.
    identity: (u64, u64),
    modified: Option<SystemTime>,
    /// Seconds and nanoseconds, at which also its owner or its permissions have changed.
    status_changed: (i64, i64),
    bytes: u64,
}

impl Mark {
    /// None: there is no such file, or it cannot be looked at.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            identity: identity(&metadata),
            modified: metadata.modified().ok(),
            status_changed: status_changed(&metadata),
            bytes: metadata.len(),
        })
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

#[cfg(unix)]
fn status_changed(metadata: &Metadata) -> (i64, i64) {
    use std::os::unix::fs::MetadataExt as _;
    (metadata.ctime(), metadata.ctime_nsec())
}

#[cfg(not(unix))]
fn status_changed(_: &Metadata) -> (i64, i64) {
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
    is_replaced: bool,
    /// How often it has been seen as another than was read.
    unread: u32,
    /// How often it was gone, the last times that it was looked at.
    gone: u32,
    /// Whatever it says: it may be possible later.
    pub(crate) could_not_be_read: bool,
}

impl Watched {
    /// A file that is about to be read.
    pub(crate) fn new(path: &Path) -> Self {
        Self::marked(path.to_owned(), Mark::of(path))
    }

    fn marked(path: PathBuf, read: Option<Mark>) -> Self {
        let (looks, is_replaced, unread, gone) = (0, false, 0, 0);
        Self { path, read, seen: read, looks, is_replaced, unread, gone, could_not_be_read: false }
    }

    /// Whether it is another than was read, and done.
    fn look(&mut self, now: Option<Mark>) -> State {
        let before = std::mem::replace(&mut self.seen, now);
        match (before, now) {
            // Whoever takes it away will bring another, or wants what is in force.
            (_, None) => return State::AsRead,
            (_, now) if now == self.read => {
                self.unread = 0;
                return State::AsRead;
            }
            (Some(before), Some(now)) if before == now => self.looks = self.looks.saturating_sub(1),
            (Some(before), Some(now)) if before.identity != now.identity => {
                (self.looks, self.is_replaced) = (LOOKS_AT_REPLACED, true);
            }
            _ => (self.looks, self.is_replaced) = (LOOKS_AT_WRITTEN, false),
        }
        self.unread += 1;
        match self.looks {
            _ if self.unread > LOOKS_AT_MOST => State::Due,
            0 if self.is_replaced => State::Due,
            0 => State::Changed,
            _ => State::Changing,
        }
    }

    /// Whether it has now been gone for too long to be about to be replaced, or is back after that.
    fn miss(&mut self, is_there: bool) -> Option<Missed> {
        // One that could not be read then has been told.
        self.read?;
        let gone = if is_there { 0 } else { self.gone.saturating_add(1) };
        let before = std::mem::replace(&mut self.gone, gone);
        match (before, gone) {
            (LOOKS_AT_MOST.., 0) => Some(Missed::Back),
            (_, LOOKS_AT_MOST) if before < gone => Some(Missed::Gone),
            _ => None,
        }
    }

    fn tell(&self, missed: Missed) {
        let name = self.path.display();
        match (missed, fs::metadata(&self.path)) {
            (Missed::Gone, Err(error)) => {
                let why = reason(&error);
                warn!(file = %name, why, "{name}: {why}; what was read from it stays in force until it is back");
            }
            (Missed::Back, Ok(_)) => info!(file = %name, "{name} is back"),
            // It has come or gone just now.
            _ => {}
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    AsRead,
    Changing,
    /// And quiet since.
    Changed,
    /// Changed, and to be read whatever becomes of others.
    Due,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missed {
    Gone,
    Back,
}

/// Whether these files are to be read again: all of them are done with changing, one was replaced, or one has been changing for
/// five seconds. To be asked every [`LOOKED_EVERY`].
pub(crate) fn have_changed(files: &mut [Watched]) -> bool {
    let look = |file: &mut Watched| {
        let now = Mark::of(&file.path);
        if let Some(missed) = file.miss(now.is_some()) {
            file.tell(missed);
        }
        file.look(now)
    };
    let states: Vec<State> = files.iter_mut().map(look).collect();
    states.contains(&State::Due) || states.contains(&State::Changed) && !states.contains(&State::Changing)
}

/// When to try again to read what could not be read: after a second, and twice as long each time, up to half a minute.
#[derive(Debug)]
pub(crate) struct Retry {
    looks: u32,
    left: u32,
}

impl Retry {
    const FIRST: u32 = 10;
    const LAST: u32 = 300;

    /// After the first failure, or one after `before`.
    pub(crate) fn after(before: Option<&Self>) -> Self {
        let looks = before.map_or(Self::FIRST, |before| (2 * before.looks).min(Self::LAST));
        Self { looks, left: looks }
    }

    /// To be asked every [`LOOKED_EVERY`].
    pub(crate) fn is_due(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file as it looks at each look, by inode and size; the looks at which it counts as changed.
    fn check(looks: &[Option<(u64, u64)>], changed_at: &[usize]) {
        let mark = |(inode, bytes)| Mark { identity: (1, inode), modified: None, status_changed: (0, 0), bytes };
        let read = Some(mark((1, 100)));
        let mut file = Watched::marked(PathBuf::new(), read);
        let states = looks.iter().map(|look| file.look(look.map(mark)));
        let changed: Vec<usize> =
            states.enumerate().filter(|(_, state)| *state >= State::Changed).map(|(at, _)| at).collect();
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

    #[test]
    fn a_file_that_is_never_quiet_counts_as_changed_after_five_seconds() {
        // Written to every 0.4 seconds, first at the fifth look.
        let looks: Vec<_> = (0..56).map(|look| Some((1, 100 + look / 4))).collect();
        check(&looks, &[54, 55]);
    }

    #[test]
    fn a_file_that_stays_away_is_missed_once_and_found_once() {
        let mark = Mark { identity: (1, 1), modified: None, status_changed: (0, 0), bytes: 1 };
        let mut file = Watched::marked(PathBuf::new(), Some(mark));
        let mut looks = [vec![true], vec![false; 49], vec![true], vec![false; 70], vec![true, true]].concat();
        let missed: Vec<_> =
            looks.drain(..).enumerate().filter_map(|(at, is_there)| Some((at, file.miss(is_there)?))).collect();
        assert_eq!(missed, [(100, Missed::Gone), (121, Missed::Back)]);
    }

    #[test]
    fn what_could_not_be_read_is_tried_ever_more_seldom() {
        let mut retry = Retry::after(None);
        let waits = (0..7).map(|_| {
            let looks = (1..).find(|_| retry.is_due());
            retry = Retry::after(Some(&retry));
            looks.unwrap_or(0)
        });
        assert_eq!(waits.collect::<Vec<_>>(), [10, 20, 40, 80, 160, 300, 300]);
    }
}
