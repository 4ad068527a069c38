//! What was given up of the counters of a rule's quota, and who found no room: cells that many keys share.
//!
//! A cell owes at least what each of its keys does that has no slot. A newcomer begins with what he finds there; who has no slot
//! is charged there. So nobody's debt is lost, and at worst one pays for what another did, until it counts no more.
//!
//! A key must not be charged in its cell while another thread brings it to a slot, for then neither would know of the
//! other. Who brings it looks at the cell once more after he has reserved a slot, right before he settles it; who charges
//! the cell looks at the slots once more after that. One of them finds the other. (Who brings it to a slot that was never used
//! need not: as long as it is, nobody is charged in the cell.) A counter that came and went in between is in neither place,
//! but is kept in the cell: each cell says how often something was kept in it.

#[cfg(test)]
mod tests;

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use portable_atomic::AtomicU128;

use super::{
    interleave,
    registry::{Registered, Registry},
    word::{Kind, Word},
};
use crate::{
    algorithm::{
        self, State, Verdict,
        packed::{self, Packed},
    },
    clock::Timestamp,
};

/// A cell for so many counters that the store is rated for, all overflows together. The more cells, the fewer newcomers suffer
/// from a single one without room.
const COUNTERS_PER_CELL: usize = 32;
/// What an overflow takes when the others have taken everything.
const MIN_CELLS: usize = 64;
const MAX_CELLS: usize = 4_096;
/// How often a cell is tried anew after somebody else was faster.
const MAX_RACES: usize = 1_000;

/// Counters that many keys share. Until something is given up there are none.
#[derive(Debug, Default)]
pub(super) struct Overflow {
    cells: OnceLock<Box<[AtomicU128]>>,
    /// When all cells are as new, in microseconds since the epoch.
    as_new_at: AtomicU64,
}

/// How many cells there may still be.
#[derive(Debug)]
pub(super) struct Budget(AtomicUsize);

/// A charge in a cell.
#[derive(Clone, Copy)]
pub(super) struct Charged<'a> {
    cell: &'a AtomicU128,
    old: Word,
    new: Word,
}

impl Registry {
    /// What a newcomer owes before his first charge: whatever his cell holds could be his.
    pub(super) fn inherited(&self, registered: &Registered, tag: u32, now: Timestamp) -> Word {
        let as_new = Word::settled(tag, registered.number, Packed::default());
        if now.as_micros() >= registered.overflow.as_new_at.load(Ordering::SeqCst) {
            return as_new;
        }
        let cell = registered.overflow.cell(tag).map(load);
        cell.filter(|cell| cell.kind() == Kind::Settled).map_or(as_new, |cell| cell.of(tag))
    }

    /// Keeps the debt of a counter that is about to be given up. False: others were faster every time.
    pub(super) fn keep(&self, registered: &Registered, tag: u32, given_up: &State, now: Timestamp) -> bool {
        let cell = self.cell_or_new(registered, tag);
        // Also where the cell owes more already: the number of times must tell.
        let keep = |old: Word| self.put(registered, cell, old, old.tag().wrapping_add(1), given_up.clone(), now);
        (0..MAX_RACES).any(|_| keep(load(cell)).is_some())
    }

    /// Charges who found no room. None: it does not fit, or others were faster every time.
    pub(super) fn charge<'a>(
        &self,
        registered: &'a Registered,
        tag: u32,
        cost: u64,
        now: Timestamp,
    ) -> Option<Charged<'a>> {
        let cell = self.cell_or_new(registered, tag);
        for _ in 0..MAX_RACES {
            let old = load(cell);
            let (charged, outcome) = algorithm::charge(self.state(old), &registered.quota, cost, now);
            let charged = charged.filter(|_| outcome.verdict == Verdict::Allow)?;
            if let Some(new) = self.put(registered, cell, old, old.tag(), charged, now) {
                return Some(Charged { cell, old, new });
            }
        }
        None
    }

    /// Lets a cell owe what this state does, besides what it owes already, unless it has changed.
    fn put(
        &self,
        registered: &Registered,
        cell: &AtomicU128,
        old: Word,
        times_kept: u32,
        state: State,
        now: Timestamp,
    ) -> Option<Word> {
        let joined = algorithm::join(self.state(old), Some(state), &registered.quota, now);
        let as_new_at = now + algorithm::look(joined.as_ref(), &registered.quota, 0, now).status.reset_after;
        registered.overflow.as_new_at.fetch_max(as_new_at.as_micros(), Ordering::SeqCst);
        let is_own = joined.as_ref().is_none_or(|joined| packed::was_packed_by(joined, &registered.quota));
        let number = if is_own { registered.number } else { old.quota() };
        let new = Word::settled(times_kept, number, self.pack(joined.as_ref()));
        swap(cell, old, new).then_some(new)
    }

    fn cell_or_new<'a>(&self, registered: &'a Registered, tag: u32) -> &'a AtomicU128 {
        let cells = registered.overflow.cells.get_or_init(|| self.budget.cells());
        &cells[tag as usize % cells.len()]
    }
}

impl Overflow {
    fn cell(&self, tag: u32) -> Option<&AtomicU128> {
        self.cells.get().map(|cells| &cells[tag as usize % cells.len()])
    }
}

impl Charged<'_> {
    /// Whether no counter was given up to this cell after the charge.
    pub(super) fn is_followed_by_no_keep(&self) -> bool {
        load(self.cell).tag() == self.new.tag()
    }

    /// Takes the charge off again, unless somebody has changed the cell since: then it stays until it counts no more.
    pub(super) fn take_back(self) {
        swap(self.cell, self.new, self.old);
    }
}

impl Budget {
    pub(super) fn new(counters: usize) -> Self {
        Self(AtomicUsize::new(counters / COUNTERS_PER_CELL))
    }

    pub(super) fn bytes_for(counters: usize) -> usize {
        counters / COUNTERS_PER_CELL * size_of::<AtomicU128>()
    }

    /// Cells for one more overflow: a quarter of what is left.
    fn cells(&self) -> Box<[AtomicU128]> {
        let share = |left: usize| (left / 4).clamp(MIN_CELLS, MAX_CELLS);
        let left =
            self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(share(left))));
        (0..share(left.unwrap_or_default())).map(|_| AtomicU128::new(0)).collect()
    }
}

/// A cell: a settled word in which the times that something was kept stand in place of a tag.
fn load(cell: &AtomicU128) -> Word {
    interleave();
    Word(cell.load(Ordering::SeqCst))
}

fn swap(cell: &AtomicU128, old: Word, new: Word) -> bool {
    interleave();
    cell.compare_exchange(old.0, new.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
}
