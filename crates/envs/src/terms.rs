//! The terms of a reward.

/// The terms that a reward is the sum of, up to rounding, with the names of Gymnasium's v5 `info`
/// without their prefix `reward_`: `forward`, `survive`, `ctrl` and so on. Costs are negative.
///
/// A plain value: nothing is allocated for it in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Terms {
    /// The first `count` are used.
    parts: [(&'static str, f64); MOST],
    count: usize,
}

/// Terms that a task has at most.
const MOST: usize = 4;

impl Terms {
    /// # Panics
    /// If there are too many.
    pub(crate) fn of(parts: &[(&'static str, f64)]) -> Self {
        let mut terms = Self { count: parts.len(), ..Self::default() };
        terms.parts[..parts.len()].copy_from_slice(parts);
        terms
    }

    /// Name and value of each term, in the same order at every step of a task.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, f64)> {
        self.parts[..self.count].iter().copied()
    }
}
