//! What stands for a key in the store: a hash with a secret of this process, for keys come from attackers, who would
//! otherwise choose such that share a slot with others.

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
    #[inline]
    pub(super) fn hash(&self, number: u64, bytes: &[u8]) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write_u64(number);
        hasher.write(bytes);
        hasher.finish()
    }
}
