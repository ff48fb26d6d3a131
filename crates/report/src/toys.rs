//! Schema of `<toy>-<picture>.csv`, written by `runner toy`.

use serde::{Deserialize, Serialize};

/// One row: a variant and seed after some updates. Lengths are in the toy's own units.
/// The variant `exact` is an independent sample of the target: its `w2` is the sampling
/// error of the distance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ToyRow {
    /// `three-modes` or `two-bumps`.
    pub toy: String,
    /// The variant, by its name in `toys.toml`.
    pub variant: String,
    /// Seed of all random streams.
    pub seed: u64,
    /// Actor updates so far.
    pub updates: u64,
    /// Modes with at least 15 % of 2,000 samples within 3 standard deviations.
    pub modes: u64,
    /// Share of the samples at the first mode.
    pub share_1: f64,
    /// Share of the samples at the second mode.
    pub share_2: f64,
    /// Share of the samples at the third mode, if there is one.
    pub share_3: Option<f64>,
    /// Wasserstein-2 distance of 500 samples to 500 of the target.
    pub w2: f64,
    /// The entropy surrogate of SMFP, the entropy of SAC, in nats; empty for a
    /// deterministic head.
    pub entropy_surrogate: Option<f64>,
    /// Mean standard deviation of the Gaussian head.
    pub sigma_mean: Option<f64>,
    /// Standard deviation of the head's mean over the latent; empty without a latent.
    pub spread_z: Option<f64>,
    /// Seconds spent in the updates so far.
    pub wall_s: f64,
}
