//! The counters in the table: what a charge does to one of them, and how a new one finds its slot.
//!
//! When no slot is free, a newcomer takes that of a counter with no more relative debt than its own first charge makes, and
//! never of one that has nothing left. What is given up goes to the overflow of its quota, where newcomers begin with what
//! they find; who finds no slot is charged there. So whoever comes again in a flood is still limited, at worst too early.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    Statistics,
    overflow::{Budget, Charged},
    registry::{Registered, Registry},
    table::{Owes, Place, Room, Slot, Sought, Table},
    word::{Kind, Word},
};
use crate::{
    algorithm::{self, Outcome, State, Told, Verdict},
    clock::Timestamp,
    policy::CounterId,
    quota::Quota,
};

/// How often a counter is tried anew when something is to be taken off, after somebody else was faster.
const MAX_RACES: usize = 1_000;

#[derive(Debug)]
pub(super) struct Counters {
    table: Table,
    registry: Registry,
    rated: usize,
    tallies: [Tally; 8],
}

/// What became of slots. Several, each with a cache line of its own, so that threads seldom meet in one.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Tally {
    in_use: AtomicU64,
    reused: AtomicU64,
    given_up: AtomicU64,
}

/// A counter that a request concerns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counter<'a> {
    place: Place<'a>,
    registered: &'a Registered,
}

/// What a charge would do to a counter as it was found.
// Each of these says in a few bytes which it is: by default that would be as wide as a word, written in two pieces and read in
// one, and that holds the processor up.
#[derive(Clone, Copy)]
#[repr(u64)]
pub(super) enum Step<'a> {
    /// It changes nothing: it is denied, or asks only.
    Nothing,
    /// It changes this word.
    Change { slot: Slot<'a>, old: Word, new: Word },
    /// It puts a new counter, which owed `old` before, into a slot that was never used.
    Put { slot: Slot<'a>, old: Word, new: Word },
    /// It brings one where others have to make room.
    Bring { reserved: Option<(Slot<'a>, Word)>, old: Word, new: Word },
}

/// What a charge did.
#[derive(Clone, Copy)]
#[repr(u64)]
pub(super) enum Done<'a> {
    Nothing,
    Changed { slot: Slot<'a>, old: Word, new: Word },
    Overflowed(Charged<'a>),
}

/// Why a newcomer has no slot.
enum NoSlot {
    /// Somebody else was faster.
    Beaten,
    /// Nobody can be given up for him.
    Full,
}

impl Counters {
    pub(super) fn new(counters: usize, origin: Timestamp) -> Self {
        Self {
            table: Table::new(counters),
            registry: Registry::new(counters, origin),
            rated: counters,
            tallies: Default::default(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.bytes() + Budget::bytes_for(self.rated)
    }

    pub(super) fn rated(&self) -> usize {
        self.rated
    }

    pub(super) fn statistics(&self) -> Statistics {
        let sum =
            |of: fn(&Tally) -> &AtomicU64| self.tallies.iter().map(|tally| of(tally).load(Ordering::Relaxed)).sum();
        Statistics {
            in_use: sum(|tally| &tally.in_use),
            capacity: self.rated as u64,
            wide: 0,
            reused: sum(|tally| &tally.reused),
            given_up: sum(|tally| &tally.given_up),
        }
    }

    /// A quota as it is known here. None: there are too many different ones.
    #[inline(always)]
    pub(super) fn registered(&self, id: CounterId, quota: &Quota) -> Option<&Registered> {
        self.registry.number(id, quota)
    }

    /// The counter of a key, whose hash this is; its memory is on its way.
    #[inline(always)]
    pub(super) fn counter<'a>(&'a self, registered: &'a Registered, hash: u64) -> Counter<'a> {
        let place = self.table.place(hash);
        place.fetch();
        Counter { place, registered }
    }

    /// Takes a charge, or says why not, of a request that places no other. None: somebody else was faster.
    #[inline(always)]
    pub(super) fn take<T: Told>(&self, counter: &Counter<'_>, cost: u64, now: Timestamp) -> Option<T> {
        match self.take_settled(counter, cost, now) {
            None => self.take_anywhere(counter, cost, now),
            told => told,
        }
    }

    /// What nearly all decisions come to. None: its key is not where nearly all are, or somebody else was faster.
    #[inline(always)]
    fn take_settled<T: Told>(&self, counter: &Counter<'_>, cost: u64, now: Timestamp) -> Option<T> {
        let Counter { place, registered } = counter;
        let (slot, old) = self.table.seek_settled(place)?;
        let (state, told) = self.registry.charged::<T>(old, registered, cost, now);
        let changes = told.verdict() == Verdict::Allow && cost > 0;
        let new = Word::settled(place.tag, registered.number, state);
        (!changes || slot.swap(old, new)).then_some(told)
    }

    /// The same wherever its key is, and if it is new. None: somebody else was faster.
    #[inline(never)]
    fn take_anywhere<T: Told>(&self, counter: &Counter<'_>, cost: u64, now: Timestamp) -> Option<T> {
        let (told, step) = self.look_at(self.table.seek(&counter.place), counter, cost, now);
        self.make(counter, step, cost, now).map(|_| told)
    }

    /// What a charge would get, and do.
    #[inline(always)]
    pub(super) fn look<'a>(&'a self, counter: &Counter<'a>, cost: u64, now: Timestamp) -> (Outcome, Step<'a>) {
        let settled = self.table.seek_settled(&counter.place).map(|(slot, word)| Sought::Settled(slot, word));
        self.look_at(settled.unwrap_or_else(|| self.table.seek(&counter.place)), counter, cost, now)
    }

    #[inline(always)]
    fn look_at<'a, T: Told>(
        &self,
        sought: Sought<'a>,
        counter: &Counter<'_>,
        cost: u64,
        now: Timestamp,
    ) -> (T, Step<'a>) {
        let Counter { place, registered } = counter;
        let old = match sought {
            Sought::Settled(_, word) => word,
            // Who is about to settle it has charged nobody yet. And whoever was given up before his slot was looked at is kept
            // in his cell by now: the cell must not be asked first.
            Sought::Reserved(..) | Sought::Absent(_) => self.registry.inherited(registered, place.tag, now),
        };
        let (state, told) = self.registry.charged::<T>(old, registered, cost, now);
        if told.verdict() == Verdict::Deny || cost == 0 {
            return (told, Step::Nothing);
        }
        let new = Word::settled(place.tag, registered.number, state);
        let step = match sought {
            Sought::Settled(slot, _) => Step::Change { slot, old, new },
            Sought::Absent(Some(slot)) => Step::Put { slot, old, new },
            Sought::Reserved(slot, word) => Step::Bring { reserved: Some((slot, word)), old, new },
            Sought::Absent(None) => Step::Bring { reserved: None, old, new },
        };
        (told, step)
    }

    /// Does what a charge would do. None: somebody else was faster, and it must be looked at again.
    #[inline(always)]
    pub(super) fn make<'a>(
        &'a self,
        counter: &Counter<'a>,
        step: Step<'a>,
        cost: u64,
        now: Timestamp,
    ) -> Option<Done<'a>> {
        match step {
            Step::Nothing => Some(Done::Nothing),
            Step::Change { slot, old, new } => slot.swap(old, new).then_some(Done::Changed { slot, old, new }),
            Step::Put { slot, old, new } => slot.swap(Word::EMPTY, new).then(|| {
                self.tally(&counter.place).in_use.fetch_add(1, Ordering::Relaxed);
                Done::Changed { slot, old, new }
            }),
            Step::Bring { reserved, old, new } => self.bring(counter, reserved, (old, new), cost, now),
        }
    }

    #[inline(never)]
    fn bring<'a>(
        &'a self,
        counter: &Counter<'a>,
        reserved: Option<(Slot<'a>, Word)>,
        (old, new): (Word, Word),
        cost: u64,
        now: Timestamp,
    ) -> Option<Done<'a>> {
        let (slot, reservation) = match reserved.map_or_else(|| self.make_room(counter, cost, now), Ok) {
            Ok(reserved) => reserved,
            Err(NoSlot::Beaten) => return None,
            Err(NoSlot::Full) => return self.overflow(counter, cost, now),
        };
        // What this key owed when its slot was another's is in its cell, and who was charged there saw no reservation.
        let owes_as_before = || self.registry.inherited(counter.registered, counter.place.tag, now) == old;
        let settled = self.table.settle(&counter.place, (slot, reservation), new, owes_as_before);
        settled.then_some(Done::Changed { slot, old, new })
    }

    /// Undoes what a charge did at this instant.
    pub(super) fn take_back(&self, counter: &Counter<'_>, done: Done<'_>, cost: u64, now: Timestamp) {
        match done {
            Done::Nothing => {}
            Done::Changed { slot, old, new } => {
                if !slot.swap(new, old) {
                    self.give_back(counter, cost, now, now);
                }
            }
            Done::Overflowed(charged) => charged.take_back(),
        }
    }

    /// Takes a charge off again, if its counter is still here and it still counts.
    pub(super) fn give_back(&self, counter: &Counter<'_>, cost: u64, at: Timestamp, now: Timestamp) {
        let quota = &counter.registered.quota;
        self.change(counter, |word| algorithm::give_back(self.registry.state(word), quota, cost, at, now));
    }

    /// Makes a counter as new.
    pub(super) fn clear(&self, counter: &Counter<'_>) {
        self.change(counter, |_| None);
    }

    fn change(&self, counter: &Counter<'_>, step: impl Fn(Word) -> Option<State>) {
        for _ in 0..MAX_RACES {
            let Sought::Settled(slot, word) = self.table.seek(&counter.place) else { return };
            if slot.swap(word, word.with_state(self.registry.pack(step(word).as_ref()))) {
                return;
            }
            std::hint::spin_loop();
        }
    }

    /// Charges who found no room in his cell. None: it does not fit there any more, or his key is being brought to a slot.
    fn overflow<'a>(&'a self, counter: &Counter<'a>, cost: u64, now: Timestamp) -> Option<Done<'a>> {
        let charged = self.registry.charge(counter.registered, counter.place.tag, cost, now)?;
        let is_elsewhere = !matches!(self.table.seek(&counter.place), Sought::Absent(_));
        if is_elsewhere || !charged.is_followed_by_no_keep() {
            charged.take_back();
            return None;
        }
        self.tally(&counter.place).given_up.fetch_add(1, Ordering::Relaxed);
        Some(Done::Overflowed(charged))
    }

    /// Reserves a slot for a newcomer, and keeps the debt of whoever had it.
    #[inline(never)]
    fn make_room<'a>(&'a self, counter: &Counter<'a>, cost: u64, now: Timestamp) -> Result<(Slot<'a>, Word), NoSlot> {
        let Counter { place, registered } = counter;
        let own = Debt::of_first(&registered.quota, cost);
        let (slot, found) = match self.table.room(place, |word| self.owes(word, own, now)) {
            Room::In(slot, found) => (slot, found),
            Room::Known => return Err(NoSlot::Beaten),
            Room::None => return Err(NoSlot::Full),
        };
        let counted = found.kind() == Kind::Settled && !matches!(self.owes(found, u64::MAX, now), Owes::Nothing);
        // Before the slot is taken, so that it never counts nowhere.
        if counted
            && let (Some(registered), Some(state)) = (self.registry.of(found), self.registry.state(found))
            && !self.registry.keep(registered, found.tag(), &state, now)
        {
            return Err(NoSlot::Beaten);
        }
        let reservation = Table::reserve(place, slot, found).ok_or(NoSlot::Beaten)?;
        let tally = self.tally(place);
        match found.kind() {
            Kind::Empty => tally.in_use.fetch_add(1, Ordering::Relaxed),
            Kind::Settled if counted => tally.given_up.fetch_add(1, Ordering::Relaxed),
            Kind::Settled => tally.reused.fetch_add(1, Ordering::Relaxed),
            Kind::Vacant | Kind::Reserved => 0,
        };
        Ok((slot, reservation))
    }

    /// What a counter owes to one that will owe `own`.
    fn owes(&self, word: Word, own: u64, now: Timestamp) -> Owes<Debt> {
        match word.kind() {
            Kind::Empty | Kind::Vacant => Owes::Nothing,
            // Somebody is at it; but if he never comes back, it must not lie there for ever.
            Kind::Reserved => Owes::Something(Debt { share: own, as_new_at: Timestamp::from_micros(u64::MAX) }),
            Kind::Settled => {
                let Some(registered) = self.registry.of(word) else { return Owes::Nothing };
                let status = algorithm::look(self.registry.state(word).as_ref(), &registered.quota, 0, now).status;
                let share = Debt::share(status.limit - status.remaining, status.limit);
                match status.reset_after.is_zero() {
                    true => Owes::Nothing,
                    false if status.remaining == 0 || share > own => Owes::TooMuch,
                    false => Owes::Something(Debt { share, as_new_at: now + status.reset_after }),
                }
            }
        }
    }

    fn tally(&self, place: &Place<'_>) -> &Tally {
        &self.tallies[place.tag as usize % self.tallies.len()]
    }
}

/// What a counter owes: compared by its share, then by how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Debt {
    /// The used part of the limit, in 2³²ths; 0 is as new.
    share: u64,
    as_new_at: Timestamp,
}

impl Debt {
    fn share(used: u64, limit: u64) -> u64 {
        // Amounts are at most 2³⁰ here, bursts 10¹².
        let share = u128::from(used) << 32;
        share.checked_div(limit.into()).and_then(|share| u64::try_from(share).ok()).unwrap_or(u64::MAX)
    }

    /// What a first charge makes.
    fn of_first(quota: &Quota, cost: u64) -> u64 {
        Self::share(cost, quota.capacity())
    }
}
