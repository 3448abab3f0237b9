//! Fresh random texts for epochs.

use fanway_protocol::Epoch;
use rand::RngExt;

/// The alphabet of an epoch: 64 characters, so that each carries six bits.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Random text of the epoch alphabet.
pub(crate) fn random_text(length: usize) -> String {
    let mut rng = rand::rng();
    (0..length).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect()
}

/// The random part of an epoch, for whoever knows the reign.
pub(crate) fn salt() -> [u8; 8] {
    let random: u64 = rand::random();
    std::array::from_fn(|at| ALPHABET[(random >> (6 * at)) as usize % ALPHABET.len()])
}

/// A fresh epoch of a reign (12 characters of the alphabet).
pub(crate) fn random(reign: &str) -> Epoch {
    Epoch::parse(&(random_text(8) + reign)).expect("8 and 12 characters of the epoch's alphabet are an epoch")
}
