//! The slots: buckets of one cache line each, and the protocol by which a key has at most one settled word in all of them.
//!
//! A key can stand in any slot of two buckets, and in a third one if these have no slot left that was never used. Nothing ever
//! moves. A counter that is there changes by one compare-and-swap of its word. A new one must not come twice, for two threads
//! can bring the same key at the same time.
//!
//! *To an empty slot*, one that was never used, it comes by one compare-and-swap: to the first of the bucket that has more of
//! them, of the key's first bucket if both have as many. That is enough. Slots fill one after the other and never become empty
//! again, so let one thread have seen *a* and *b* of them in the key's buckets and brought it to the second, because *a* < *b*,
//! and another have seen *c* and *d* and brought it to the first, because *c* ≥ *d*. If neither has found the other's word
//! because each has seen that slot while it was empty, then *d* ≥ *b* and *a* ≥ *c*, so that *a* ≥ *c* ≥ *d* ≥ *b* > *a*, which cannot
//! be. In one bucket they meet in one slot, and whoever sees none that is empty has seen what was brought to any of them. Or else
//! one of them came to look when the other's counter had been given up: then there is but his own, and since what is given up is
//! kept before its slot is taken, he is told of it when he asks what he owes, which he does after he has looked.
//!
//! *Where others make room*, in a bucket that is full or in the third one, it comes in three steps:
//!
//! 1. *reserve* a slot with a word that says which key, and that comes only once;
//! 2. *look* at all slots of the key again: a settled word elsewhere, or a reservation in a slot before this one, has
//!    precedence, and this reservation is withdrawn; a reservation in a slot after this one is removed; and then at what the
//!    counter begins with, for one that was settled and given up in between is in no slot;
//! 3. *settle*: swap the reservation for the counter, which fails if somebody removed it.
//!
//! Of two threads that reserve for one key, the one that looks later sees the other's reservation or what became of it; both
//! know whose goes first, so never both settle. Who finds a reservation of another thread settles it himself, by steps 2 and
//! 3, and waits for nobody.

#[cfg(test)]
mod tests;

use std::{cell::Cell, fmt, ops::ControlFlow, ptr, sync::atomic::AtomicU64};

use portable_atomic::{AtomicU128, Ordering};

use super::{
    interleave,
    word::{Kind, Word},
};

const SLOTS: usize = 4;
/// Slots for each counter that it is rated for, in hundredths: when so many keys are live, about one in 2,000 finds no slot
/// of its own.
const SLOTS_PER_100_COUNTERS: usize = 143;

/// A bucket is a line of the cache.
const LINE: usize = SLOTS * size_of::<AtomicU128>();

pub(super) struct Table {
    /// With a few more than there are in buckets, so that those begin where a line does.
    slots: Box<[AtomicU128]>,
    first: usize,
    buckets: usize,
}

type Bucket = [AtomicU128; SLOTS];

/// Where a key can stand, and by what it is known there. All of it comes from a hash with a secret.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) tag: u32,
    usual: [&'a Bucket; 2],
    /// Of the third bucket, which hardly anybody asks for, what makes its number.
    third: u32,
}

/// A slot.
#[derive(Clone, Copy)]
pub(super) struct Slot<'a>(&'a AtomicU128);

/// What is known of a key.
#[derive(Clone, Copy)]
pub(super) enum Sought<'a> {
    Settled(Slot<'a>, Word),
    /// Some thread is about to settle it.
    Reserved(Slot<'a>, Word),
    /// It is nowhere. In its usual buckets there is this slot that was never used: of both, in the one that has more of them. That
    /// leaves both choices to those who come later, and all who bring this key agree on it.
    Absent(Option<Slot<'a>>),
}

/// What the counter in a slot owes.
pub(super) enum Owes<O> {
    /// It is as new.
    Nothing,
    /// It can be given up before those that owe more.
    Something(O),
    /// It must stay.
    TooMuch,
}

/// Where a newcomer can stand.
pub(super) enum Room<'a> {
    /// In this slot, in place of what is in it.
    In(Slot<'a>, Word),
    /// He is no newcomer: somebody has been faster in bringing him.
    Known,
    /// Nowhere: nobody can be given up for him.
    None,
}

/// The slots of a bucket that a newcomer can have for nothing: how many, and the first of them.
#[derive(Clone, Copy, Default)]
struct Found<'a> {
    slots: usize,
    first: Option<(Slot<'a>, Word)>,
}

impl<'a> Found<'a> {
    fn count(&mut self, slot: Slot<'a>, word: Word) {
        self.slots += 1;
        self.first = self.first.or(Some((slot, word)));
    }

    /// One of these slots, or of those if they are more.
    fn or_more(self, other: Self) -> Option<(Slot<'a>, Word)> {
        if other.slots > self.slots { other.first } else { self.first }
    }
}

impl Table {
    /// The memory that a table for so many counters takes.
    pub(super) fn bytes_for(counters: usize) -> usize {
        (Self::buckets_for(counters) * SLOTS + SLOTS - 1) * size_of::<AtomicU128>()
    }

    fn buckets_for(counters: usize) -> usize {
        let slots = counters.saturating_mul(SLOTS_PER_100_COUNTERS) / 100;
        slots.div_ceil(SLOTS).clamp(1, u32::MAX as usize)
    }

    /// Memory is taken when it is first written to.
    pub(super) fn new(counters: usize) -> Self {
        let buckets = Self::buckets_for(counters);
        // Not by a type with the alignment of a line: for those the allocator writes the zeroes itself.
        let zeroed = Box::<[AtomicU128]>::new_zeroed_slice(buckets * SLOTS + SLOTS - 1);
        // SAFETY: zeroes are as good as any bits for 128-bit atomics.
        #[expect(unsafe_code, reason = "nothing else allocates zeroed atomics without writing to all of them")]
        let slots = unsafe { zeroed.assume_init() };
        in_large_pages(&slots);
        let first = (slots.as_ptr().addr().next_multiple_of(LINE) - slots.as_ptr().addr()) / size_of::<AtomicU128>();
        Self { slots, first, buckets }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }

    /// A bucket by a fraction of 32 bits.
    #[inline(always)]
    fn bucket(&self, fraction: u32) -> &Bucket {
        let (buckets, _) = self.slots[self.first..].as_chunks();
        // The upper half of the product: below the number of buckets, which fits 32 bits.
        let number = u64::from(fraction).wrapping_mul(self.buckets as u64) >> 32;
        &buckets[usize::try_from(number).unwrap_or_default()]
    }

    #[inline(always)]
    pub(super) fn place(&self, hash: u64) -> Place<'_> {
        let upper = |hash: u64| u32::try_from(hash >> 32).unwrap_or_default();
        // Odd factors (Steele and Vigna, "Computationally easy, spectrally good multipliers", 2021) mix all bits into the upper
        // ones, so that the three buckets of a key depend on each other no more than those of different keys.
        let folded = hash ^ hash >> 32;
        let (second, third) = (folded.wrapping_mul(0xF135_7AEA_2E62_A9C5), folded.wrapping_mul(0xD134_2543_DE82_EF95));
        let tag = u32::try_from(hash & u64::from(u32::MAX)).unwrap_or_default();
        Place { tag, usual: [self.bucket(upper(hash)), self.bucket(upper(second))], third: upper(third) }
    }

    /// Finds the counter of a key where nearly all are. None: it is elsewhere, or nowhere.
    #[inline(always)]
    pub(super) fn seek_settled<'a>(&self, place: &Place<'a>) -> Option<(Slot<'a>, Word)> {
        for bucket in place.usual {
            for slot in bucket.iter().map(Slot) {
                let word = slot.load();
                if word.is_settled_of(place.tag) {
                    return Some((slot, word));
                }
            }
        }
        None
    }

    /// Finds the word of a key. With reservations only, it is the one that goes first.
    #[inline(never)]
    pub(super) fn seek<'a>(&'a self, place: &Place<'a>) -> Sought<'a> {
        let mut reserved: Option<(Slot<'_>, Word)> = None;
        let mut empty: Option<(usize, Slot<'_>)> = None;
        let settled = self.each(place, |choice, left, slot, word| {
            if word.is_of(place.tag) {
                if word.kind() == Kind::Settled {
                    return ControlFlow::Break((slot, word));
                }
                if reserved.is_none_or(|(first, _)| slot.goes_before(first)) {
                    reserved = Some((slot, word));
                }
            } else if word == Word::EMPTY && choice < place.usual.len() && empty.is_none_or(|(most, _)| left > most) {
                empty = Some((left, slot));
            }
            ControlFlow::Continue(())
        });
        match (settled, reserved) {
            (ControlFlow::Break((slot, word)), _) => Sought::Settled(slot, word),
            (ControlFlow::Continue(()), Some((slot, word))) => Sought::Reserved(slot, word),
            (ControlFlow::Continue(()), None) => Sought::Absent(empty.map(|(_, slot)| slot)),
        }
    }

    /// Settles a reservation as `word`, or finds that another goes first or has been settled, or that `is_true` no more: which
    /// it is asked after all slots have been looked at.
    pub(super) fn settle(
        &self,
        place: &Place<'_>,
        (slot, reservation): (Slot<'_>, Word),
        word: Word,
        is_true: impl FnOnce() -> bool,
    ) -> bool {
        let alone = self.each(place, |_, _, other, found| {
            if other.is(slot) || !found.is_of(place.tag) {
                return ControlFlow::Continue(());
            }
            let goes_first = found.kind() == Kind::Settled || other.goes_before(slot);
            match !goes_first && other.swap(found, Word::VACANT) {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        if alone.is_break() || !is_true() {
            slot.swap(reservation, Word::VACANT);
            return false;
        }
        slot.swap(reservation, word)
    }

    /// Room for a newcomer where every slot of his usual buckets has been used, by what `owes` says of each counter: one there
    /// that owes nothing, else any of the third bucket, else the one that owes least.
    #[inline(never)]
    pub(super) fn room<'a, O: Ord>(&'a self, place: &Place<'a>, owes: impl Fn(Word) -> Owes<O>) -> Room<'a> {
        let mut empty = None;
        let mut as_new = [Found::default(); 3];
        let mut least: Option<(O, Slot<'_>, Word)> = None;
        let unknown = self.each(place, |choice, _, slot, word| {
            if word.is_of(place.tag) {
                return ControlFlow::Break(());
            }
            if word.kind() == Kind::Empty {
                empty = empty.or(Some((slot, word)));
                return ControlFlow::Continue(());
            }
            match owes(word) {
                Owes::Nothing => as_new[choice].count(slot, word),
                Owes::Something(debt) if least.as_ref().is_none_or(|(least, _, _)| debt < *least) => {
                    least = Some((debt, slot, word));
                }
                Owes::Something(_) | Owes::TooMuch => {}
            }
            ControlFlow::Continue(())
        });
        if unknown.is_break() {
            return Room::Known;
        }
        let [one, two, other] = as_new;
        one.or_more(two)
            .or(empty)
            .or(other.first)
            .or(least.map(|(_, slot, word)| (slot, word)))
            .map_or(Room::None, |(slot, word)| Room::In(slot, word))
    }

    /// Reserves a slot with `expected` in it.
    pub(super) fn reserve(place: &Place<'_>, slot: Slot<'_>, expected: Word) -> Option<Word> {
        let reservation = Word::reserved(place.tag, nonce());
        slot.swap(expected, reservation).then_some(reservation)
    }

    /// Shows all slots where a key can stand: which choice of the key its bucket is, how many there are from this one on, the slot
    /// and its word. What comes after an empty one is empty too: a newcomer takes the first, and none becomes so again.
    #[inline(always)]
    fn each<'a, B>(
        &'a self,
        place: &Place<'a>,
        mut show: impl FnMut(usize, usize, Slot<'a>, Word) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let mut some_empty = false;
        for choice in 0..=place.usual.len() {
            let bucket = match place.usual.get(choice) {
                Some(bucket) => *bucket,
                // Who was here before the usual buckets were full is in them.
                None if some_empty => break,
                None => self.bucket(place.third),
            };
            for (left, slot) in (1..=SLOTS).rev().zip(bucket.iter().map(Slot)) {
                let word = slot.load();
                show(choice, left, slot, word)?;
                if word == Word::EMPTY {
                    some_empty = true;
                    break;
                }
            }
        }
        ControlFlow::Continue(())
    }
}

impl Place<'_> {
    /// Has the two usual buckets of a key brought near, while the caller reads the clock or goes on to other keys.
    #[inline(always)]
    pub(super) fn fetch(&self) {
        self.usual.into_iter().for_each(fetch);
    }
}

/// Has this brought near, while the caller does something else.
#[inline(always)]
pub(super) fn fetch<T>(it: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: it is only a hint, which changes nothing that can be seen, and what it refers to is there.
        #[expect(unsafe_code, reason = "a load would be waited for")]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(ptr::from_ref(it).cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = it;
}

#[inline(always)]
fn load(slot: &AtomicU128) -> Word {
    interleave();
    // Looking again after a reservation must not come before it: both are in the one order of all threads.
    Word(slot.load(Ordering::SeqCst))
}

impl Slot<'_> {
    fn load(self) -> Word {
        load(self.0)
    }

    fn is(self, other: Slot<'_>) -> bool {
        ptr::eq(self.0, other.0)
    }

    /// Every thread ranks the slots of a key in the same way: by where they are.
    fn goes_before(self, other: Slot<'_>) -> bool {
        ptr::from_ref(self.0) < ptr::from_ref(other.0)
    }

    pub(super) fn swap(self, old: Word, new: Word) -> bool {
        interleave();
        self.0.compare_exchange(old.0, new.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }
}

impl fmt::Debug for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("tag", &self.tag).finish_non_exhaustive()
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("buckets", &self.buckets).finish()
    }
}

/// Asks the system for large pages. Keys are spread over the whole table, and with small ones nearly every decision would wait
/// for the address of a page before it waits for the page.
fn in_large_pages(slots: &[AtomicU128]) {
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 4096;
        let whole = slots.as_ptr().addr().next_multiple_of(PAGE) - slots.as_ptr().addr();
        if let Some(bytes) = size_of_val(slots).checked_sub(whole) {
            // SAFETY: the range lies within the slots, and the advice changes nothing that can be read there.
            #[expect(unsafe_code, reason = "a system call")]
            unsafe {
                let start = slots.as_ptr().byte_add(whole).cast_mut().cast();
                // Where it is not heeded, everything works as well, but slower.
                libc::madvise(start, bytes / PAGE * PAGE, libc::MADV_HUGEPAGE);
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = slots;
}

/// A number that no thread ever has again.
fn nonce() -> u64 {
    static THREADS: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static NEXT: Cell<u64> = Cell::new(THREADS.fetch_add(1, Ordering::Relaxed) << 40);
    }
    NEXT.with(|next| next.replace(next.get().wrapping_add(1)))
}
