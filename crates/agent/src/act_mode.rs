//! How actions are chosen, and the names of the ways.

use std::fmt;
use std::str::FromStr;

/// How actions are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActMode {
    /// As in training: with all noise, and the algorithm's own candidates.
    Explore,
    /// One candidate, without the action noise of the policy's Gaussian head.
    /// The latent of a generative policy is still drawn, unless its settings say otherwise.
    Deterministic,
    /// One candidate without any noise: latent and action noise are zero.
    Mean,
    /// One candidate, with all noise.
    Stochastic,
    /// The best of K stochastic candidates under the critics.
    BestOf(usize),
}

impl ActMode {
    /// Candidates proposed per state; `exploring` is the algorithm's own number of them.
    pub fn candidates(self, exploring: i64) -> i64 {
        match self {
            Self::Explore => exploring,
            Self::BestOf(k) => k as i64,
            Self::Deterministic | Self::Mean | Self::Stochastic => 1,
        }
    }
}

/// The name in `eval.csv` and on the command line.
impl fmt::Display for ActMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Explore => f.write_str("explore"),
            Self::Deterministic => f.write_str("deterministic"),
            Self::Mean => f.write_str("mean"),
            Self::Stochastic => f.write_str("stochastic"),
            Self::BestOf(k) => write!(f, "best-of-{k}"),
        }
    }
}

/// A way to evaluate, by its name: any but `explore`. The error says what was expected.
impl FromStr for ActMode {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let best_of = || {
            let k = name.strip_prefix("best-of-")?.parse().ok()?;
            (1..=1024).contains(&k).then_some(Self::BestOf(k))
        };
        match name {
            "deterministic" => Ok(Self::Deterministic),
            "mean" => Ok(Self::Mean),
            "stochastic" => Ok(Self::Stochastic),
            _ => best_of().ok_or_else(|| {
                "expected deterministic, mean, stochastic or best-of-K with K from 1 to 1024".into()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_to_evaluate_is_read_back_from_its_name_and_nothing_else_is() {
        for name in ["deterministic", "mean", "stochastic", "best-of-1", "best-of-1024"] {
            assert_eq!(name.parse::<ActMode>().unwrap().to_string(), name);
        }
        for name in ["", "explore", "best-of-", "best-of-0", "best-of-1025", "Mean"] {
            assert!(name.parse::<ActMode>().unwrap_err().starts_with("expected "), "{name}");
        }
    }
}
