//! One counter in one 128-bit word, which changes by a single compare-and-swap.
//!
//! ```text
//!   bits 0..32    tag: what tells keys in one bucket apart
//!        32..44   the quota that last charged it, by its number in the registry
//!        44..46   what kind of word it is
//!        46..128  a settled counter: its packed state; a reservation: a number that never comes again
//! ```

use crate::algorithm::packed;

const QUOTA_AT: u32 = 32;
/// Bits of a quota's number.
pub(super) const QUOTA_BITS: u32 = 12;
const KIND_AT: u32 = QUOTA_AT + QUOTA_BITS;
const REST_AT: u32 = KIND_AT + 2;
const _: () = assert!(REST_AT + packed::BITS == u128::BITS);

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
    /// elsewhere for want of room in it.
    Empty,
    /// A reservation was here and came to nothing.
    Vacant,
    /// Some thread is about to put a counter here.
    Reserved,
    /// A counter.
    Settled,
}

impl Word {
    pub(super) const VACANT: Self = Self((VACANT as u128) << KIND_AT);

    pub(super) fn settled(tag: u32, quota: u16, state: u128) -> Self {
        Self(state << REST_AT | u128::from(SETTLED) << KIND_AT | u128::from(quota) << QUOTA_AT | u128::from(tag))
    }

    /// A reservation unlike any other: a word that was removed and is there again is not the same.
    pub(super) fn reserved(tag: u32, nonce: u64) -> Self {
        Self(u128::from(nonce) << REST_AT | u128::from(RESERVED) << KIND_AT | u128::from(tag))
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
        u16::try_from(self.low() >> QUOTA_AT & ((1 << QUOTA_BITS) - 1)).unwrap_or_default()
    }

    /// The half with everything but most of the state.
    #[expect(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
    fn low(self) -> u64 {
        self.0 as u64
    }

    /// The packed state of a settled word; 0 is as new.
    pub(super) fn state(self) -> u128 {
        self.0 >> REST_AT
    }

    /// The same counter in another state.
    pub(super) fn with_state(self, state: u128) -> Self {
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
