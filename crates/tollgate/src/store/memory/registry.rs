//! The quotas that counters are charged by, numbered, so that a word can say which in a few bits; and for each rule's quota
//! the overflow: what was given up of it, and who found no room.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use portable_atomic::AtomicU128;

use super::word::{Kind, QUOTA_BITS, Word};
use crate::{
    algorithm::{self, Outcome, State, Verdict, packed},
    clock::Timestamp,
    policy::CounterId,
    quota::Quota,
};

const QUOTAS: usize = 1 << QUOTA_BITS;
/// How far from its usual place a quota is looked for.
const MAX_STEPS: usize = 16;
/// Cells that the keys of one quota share: the more there are, the fewer newcomers suffer from a single one without room.
const MIN_CELLS: usize = 256;
const MAX_CELLS: usize = 4_096;
const COUNTERS_PER_CELL: usize = 256;
/// How often a cell is tried anew after somebody else was faster.
const MAX_RACES: usize = 1_000;

/// All quotas seen, in a table of fixed size. A quota that is here stays here; reading takes no lock.
#[derive(Debug)]
pub(super) struct Registry {
    quotas: Box<[OnceLock<Box<Registered>>]>,
    /// By the counters they are for: quotas that differ in their amounts alone share them.
    overflows: Mutex<HashMap<CounterId, Arc<Overflow>>>,
    /// How many cells an overflow has.
    cells: usize,
    /// The store's beginning, from which packed instants count.
    origin: Timestamp,
}

/// A quota, and the number it has in words.
#[derive(Debug)]
pub(super) struct Registered {
    id: CounterId,
    pub(super) number: u16,
    pub(super) quota: Quota,
    pub(super) overflow: Arc<Overflow>,
}

impl Registry {
    /// For a table of so many counters.
    pub(super) fn new(counters: usize, origin: Timestamp) -> Self {
        let quotas = (0..QUOTAS).map(|_| OnceLock::new()).collect();
        let cells = (counters / COUNTERS_PER_CELL).clamp(MIN_CELLS, MAX_CELLS);
        Self { quotas, overflows: Mutex::default(), cells, origin }
    }

    /// The quota with its number, which it gets now if it has none. None: too many are there already.
    pub(super) fn number(&self, id: CounterId, quota: &Quota) -> Option<&Registered> {
        // Below `QUOTAS`.
        let first = usize::try_from(id.mixed_with(quota) % QUOTAS as u64).unwrap_or_default();
        for step in 0..MAX_STEPS {
            let index = (first + step) % QUOTAS;
            let here = self.quotas[index].get_or_init(|| Box::new(self.register(index, id, quota)));
            if here.id == id && here.quota == *quota {
                return Some(here);
            }
        }
        None
    }

    fn register(&self, index: usize, id: CounterId, quota: &Quota) -> Registered {
        let mut overflows = self.overflows.lock().unwrap_or_else(PoisonError::into_inner);
        let overflow = overflows.entry(id).or_insert_with(|| Arc::new(Overflow::new(self.cells))).clone();
        // Below `QUOTAS`.
        let number = u16::try_from(index).unwrap_or_default();
        Registered { id, number, quota: *quota, overflow }
    }

    /// The quota with this number, which some word has.
    pub(super) fn of(&self, word: Word) -> Option<&Registered> {
        self.quotas[usize::from(word.quota())].get().map(|registered| &**registered)
    }

    /// The state in a word, packed by the quota that it names.
    pub(super) fn state(&self, word: Word) -> Option<State> {
        let registered = self.of(word)?;
        packed::unpack(word.state(), &registered.quota, self.origin.as_micros())
    }

    pub(super) fn pack(&self, state: Option<&State>) -> u128 {
        packed::pack(state, self.origin.as_micros())
    }

    /// What a charge of this quota makes of the state in a word, and gets.
    #[inline(always)]
    pub(super) fn charged(&self, word: Word, by: &Registered, cost: u64, now: Timestamp) -> (u128, Outcome) {
        // Who charged it last, by the amount that it refills with.
        let last = if word.quota() == by.number { Some(by) } else { self.of(word) };
        let (last, origin) = (&last.unwrap_or(by).quota, self.origin.as_micros());
        packed::charge(word.state(), last, &by.quota, cost, now.as_micros(), origin)
    }

    /// What a newcomer owes before his first charge: whatever his cell holds could be his.
    pub(super) fn inherited(&self, registered: &Registered, tag: u32, now: Timestamp) -> Word {
        let as_new = Word::settled(tag, registered.number, 0);
        if now.as_micros() >= registered.overflow.as_new_at.load(Ordering::SeqCst) {
            return as_new;
        }
        let cell = registered.overflow.cell(tag).map(|cell| Word(cell.load(Ordering::SeqCst)));
        cell.filter(|cell| cell.kind() == Kind::Settled).map_or(as_new, |cell| cell.of(tag))
    }

    /// Keeps the debt of a counter that is given up: a cell owes at least what each did that was given up to it.
    pub(super) fn keep(&self, registered: &Registered, tag: u32, given_up: Option<State>, now: Timestamp) {
        self.change(registered, tag, now, |cell, number| {
            let joined = algorithm::join(cell.clone(), given_up.clone(), &registered.quota, now);
            // A bucket refills by the amount of its quota: the slower one's, of two.
            let last = cell.as_ref().and_then(|_| self.quotas[usize::from(number)].get());
            let last = last.filter(|last| last.quota.amount() < registered.quota.amount());
            (joined != cell).then_some((last.map_or(registered.number, |last| last.number), joined))
        });
    }

    /// Charges who found no room, in the cell that he shares with others. None: he was too slow for them every time.
    pub(super) fn charge(&self, registered: &Registered, tag: u32, cost: u64, now: Timestamp) -> Option<Outcome> {
        let mut answer = None;
        let is_done = self.change(registered, tag, now, |cell, _| {
            let (charged, outcome) = algorithm::charge(cell, &registered.quota, cost, now);
            answer = Some(outcome);
            (outcome.verdict == Verdict::Allow).then_some((registered.number, charged))
        });
        answer.filter(|_| is_done)
    }

    /// Takes a charge of the same instant off again.
    pub(super) fn take_back(&self, registered: &Registered, tag: u32, cost: u64, now: Timestamp) {
        self.change(registered, tag, now, |cell, number| {
            Some((number, algorithm::give_back(cell, &registered.quota, cost, now, now)))
        });
    }

    /// Changes a cell in one step, unless `step` says that it need not be.
    fn change(
        &self,
        registered: &Registered,
        tag: u32,
        now: Timestamp,
        mut step: impl FnMut(Option<State>, u16) -> Option<(u16, Option<State>)>,
    ) -> bool {
        let cell = registered.overflow.cell_or_new(tag);
        for _ in 0..MAX_RACES {
            let old = cell.load(Ordering::SeqCst);
            let Some((number, next)) = step(self.state(Word(old)), Word(old).quota()) else { return true };
            let as_new_at = now + algorithm::look(next.as_ref(), &registered.quota, 0, now).status.reset_after;
            registered.overflow.as_new_at.fetch_max(as_new_at.as_micros(), Ordering::SeqCst);
            let new = Word::settled(tag, number, self.pack(next.as_ref())).0;
            if cell.compare_exchange(old, new, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }
}

/// Counters that many keys share. Until something is given up there are none.
#[derive(Debug)]
pub(super) struct Overflow {
    len: usize,
    cells: OnceLock<Box<[AtomicU128]>>,
    /// When all cells are as new, in microseconds since the epoch.
    as_new_at: AtomicU64,
}

impl Overflow {
    fn new(len: usize) -> Self {
        Self { len, cells: OnceLock::new(), as_new_at: AtomicU64::new(0) }
    }

    fn cell(&self, tag: u32) -> Option<&AtomicU128> {
        self.cells.get().map(|cells| &cells[tag as usize % cells.len()])
    }

    fn cell_or_new(&self, tag: u32) -> &AtomicU128 {
        let cells = self.cells.get_or_init(|| (0..self.len).map(|_| AtomicU128::new(0)).collect());
        &cells[tag as usize % cells.len()]
    }
}
