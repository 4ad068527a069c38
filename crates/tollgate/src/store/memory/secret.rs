//! What stands for a key in the store: a hash with a secret of this process, for keys come from attackers, who would
//! otherwise choose such that share a counter with others.
//!
//! No hash ever leaves the process. All that an attacker could see is that two of his keys share a counter, which happens
//! less than twice in 10⁹ times; so the hash need not be one that guards its secret against who sees hashes, as SipHash
//! does for 150 instructions more.

use std::hash::{BuildHasher, Hasher};

use ahash::RandomState;

/// A secret that nobody outside this process knows.
#[derive(Clone, Debug)]
pub(super) struct Secret(RandomState);

impl Secret {
    pub(super) fn random() -> Self {
        Self(RandomState::new())
    }

    /// The hash of a number and then bytes.
    #[inline(always)]
    pub(super) fn hash(&self, number: u64, bytes: &[u8]) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write_u64(number);
        hasher.write(bytes);
        hasher.finish()
    }
}
