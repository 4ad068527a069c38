//! One counter in one 128-bit word, which changes by a single compare-and-swap.
//!
//! ```text
//!   low half    0..32   tag: what tells keys in one bucket apart
//!               32..34  what kind of word it is
//!               34..64  a settled counter: the count of its packed state
//!   high half   0..12   a settled counter: the quota that last charged it, by its number in the registry
//!               12..64  and the instant of its packed state
//!               0..64   a reservation: a number that never comes again
//! ```
//!
//! No part lies in both halves, so that it takes a single shift to have it.

use crate::algorithm::packed::{COUNT_BITS, INSTANT_BITS, Packed};

const KIND_AT: u32 = 32;
const COUNT_AT: u32 = KIND_AT + 2;
/// Bits of a quota's number.
pub(super) const QUOTA_BITS: u32 = 12;
const _: () = assert!(COUNT_AT + COUNT_BITS == u64::BITS && QUOTA_BITS + INSTANT_BITS == u64::BITS);

const VACANT: u64 = 1;
// Both of these stand for a key: they have this bit.
const RESERVED: u64 = 2;
const SETTLED: u64 = 3;

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub(super) u128);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing was ever here. No slot becomes so again: that a bucket has an empty slot says that no key ever had to go
    /// elsewhere for want of room in it. Newcomers take the first of a bucket, so those after it are empty too.
    Empty,
    /// A reservation was here and came to nothing.
    Vacant,
    /// Some thread is about to put a counter here.
    Reserved,
    /// A counter.
    Settled,
}

impl Word {
    pub(super) const EMPTY: Self = Self(0);
    pub(super) const VACANT: Self = Self((VACANT as u128) << KIND_AT);

    pub(super) fn settled(tag: u32, quota: u16, state: Packed) -> Self {
        let low = state.count << COUNT_AT | SETTLED << KIND_AT | u64::from(tag);
        Self::of_halves(low, state.instant << QUOTA_BITS | u64::from(quota))
    }

    /// A reservation unlike any other: a word that was removed and is there again is not the same.
    pub(super) fn reserved(tag: u32, nonce: u64) -> Self {
        Self::of_halves(RESERVED << KIND_AT | u64::from(tag), nonce)
    }

    fn of_halves(low: u64, high: u64) -> Self {
        Self(u128::from(high) << u64::BITS | u128::from(low))
    }

    pub(super) fn kind(self) -> Kind {
        match self.low() >> KIND_AT & 3 {
            0 => Kind::Empty,
            VACANT => Kind::Vacant,
            RESERVED => Kind::Reserved,
            _ => Kind::Settled,
        }
    }

    pub(super) fn tag(self) -> u32 {
        u32::try_from(self.low() & u64::from(u32::MAX)).unwrap_or_default()
    }

    pub(super) fn quota(self) -> u16 {
        u16::try_from(self.high() & ((1 << QUOTA_BITS) - 1)).unwrap_or_default()
    }

    #[expect(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
    fn low(self) -> u64 {
        self.0 as u64
    }

    fn high(self) -> u64 {
        // A half fits.
        u64::try_from(self.0 >> u64::BITS).unwrap_or_default()
    }

    /// The packed state of a settled word.
    pub(super) fn state(self) -> Packed {
        Packed { instant: self.high() >> QUOTA_BITS, count: self.low() >> COUNT_AT }
    }

    /// The same counter in another state.
    pub(super) fn with_state(self, state: Packed) -> Self {
        Self::settled(self.tag(), self.quota(), state)
    }

    /// The same state as of another key.
    pub(super) fn of(self, tag: u32) -> Self {
        Self::settled(tag, self.quota(), self.state())
    }

    /// Whether it is a counter of a key with this tag.
    pub(super) fn is_settled_of(self, tag: u32) -> bool {
        const MASK: u64 = 3 << KIND_AT | u32::MAX as u64;
        self.low() & MASK == (SETTLED << KIND_AT | u64::from(tag))
    }

    /// Whether it stands for a key with this tag: settled, or about to be.
    pub(super) fn is_of(self, tag: u32) -> bool {
        self.tag() == tag && self.low() >> KIND_AT & RESERVED == RESERVED
    }
}
