//! Named, independent random streams from one master seed.

use rand::SeedableRng;
use sha2::{Digest, Sha256};

/// The generator behind every stream of the learner. Small, fast, and its
/// state can be saved.
pub type Random = rand_pcg::Pcg64;

/// The stream of the given name under a master seed.
///
/// Streams are independent: drawing from one changes no other, so that adding
/// an evaluation, say, changes no number of the training.
pub fn stream(seed: u64, name: &str) -> Random {
    let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(name).finalize();
    Random::from_seed(digest.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    #[test]
    fn streams_differ_by_name_and_by_seed_and_repeat_by_both() {
        let first = |seed, name| stream(seed, name).random::<u64>();
        assert_eq!(first(3, "replay"), first(3, "replay"));
        assert_ne!(first(3, "replay"), first(3, "exploration"));
        assert_ne!(first(3, "replay"), first(4, "replay"));
    }
}
