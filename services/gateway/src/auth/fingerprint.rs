//! Fingerprints of API keys that were verified before, so that their SHA-256 is computed once and not for each request.
//!
//! SHA-256 was 3,300 of the 28,000 instructions of a publish on processors without instructions for it. A fingerprint is two
//! SipHash-2-4 values under random, independent keys of this process: 128 bits that say nothing of the API key, and that
//! equal those of another text by chance only. Guard: the row `instructions` of `fanway-loadtest compare-builds`.

use std::fmt;
use std::hash::Hasher;

use subtle::{Choice, ConstantTimeEq};

/// Keys of the fingerprints of one process.
#[derive(Clone)]
pub(super) struct Fingerprints([(u64, u64); 2]);

impl Default for Fingerprints {
    /// Draws keys.
    fn default() -> Self {
        Self(rand::random())
    }
}

/// Fingerprint of a text. Comparable with those of the same [`Fingerprints`].
#[derive(Clone, Copy)]
pub(super) struct Fingerprint([u64; 2]);

impl Fingerprints {
    pub(super) fn of(&self, text: &[u8]) -> Fingerprint {
        Fingerprint(self.0.map(|key| sip_hash(key, text)))
    }
}

impl ConstantTimeEq for Fingerprint {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl fmt::Debug for Fingerprints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprints")
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint")
    }
}

#[expect(deprecated, reason = "the only hash of std that is specified: its successor may be any")]
fn sip_hash(key: (u64, u64), text: &[u8]) -> u64 {
    let mut hasher = std::hash::SipHasher::new_with_keys(key.0, key.1);
    hasher.write(text);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_for_equal_texts_of_one_process() {
        let (ours, others) = (Fingerprints::default(), Fingerprints::default());
        let same = |one: Fingerprint, other: Fingerprint| bool::from(one.ct_eq(&other));
        assert!(same(ours.of(b"key"), ours.of(b"key")));
        assert!(!same(ours.of(b"key"), ours.of(b"kez")));
        assert!(!same(ours.of(b"key"), others.of(b"key")));
        assert_eq!(format!("{:?}", ours.of(b"key")), "Fingerprint");
    }
}
