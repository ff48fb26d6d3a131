//! CrossQ (Bhatt et al. 2024): SAC without target networks, whose critics
//! normalise (s, a) and (s', a') together by batch (re)normalisation.
//!
//! It is [`Sac`](crate::sac::Sac) with critics of the kind `crossq`, which all algorithms can
//! have: only the settings are CrossQ's own.

/// The preset file: every key with its default and meaning.
pub const PRESETS: &str = include_str!("crossq.toml");
