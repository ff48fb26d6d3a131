//! `[actor]`: the policy's network, its input and its optimiser.

use crate::in_range;
use networks::{Activation, AdamConfig, Hidden};
use serde::{Deserialize, Serialize};

/// `[actor]`, a section of every algorithm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActorConfig {
    /// Units in a hidden layer.
    pub width: i64,
    /// Hidden layers.
    pub depth: usize,
    /// Nonlinearity.
    pub activation: Activation,
    /// Adam's learning rate.
    pub learning_rate: f64,
    /// Adam's beta1.
    pub beta1: f64,
    /// Critic updates for one actor update.
    pub update_every: i64,
    /// Whether the policy sees normalised observations ([`ObsNorm`](crate::ObsNorm)).
    pub normalise: bool,
}

impl ActorConfig {
    /// Checks ranges.
    ///
    /// # Errors
    /// One line: the key, its value, and what was expected.
    pub fn validate(&self) -> Result<(), String> {
        in_range("actor.width", self.width as f64, 1.0, 65536.0)?;
        in_range("actor.depth", self.depth as f64, 1.0, 64.0)?;
        in_range("actor.learning_rate", self.learning_rate, 0.0, 1.0)?;
        in_range("actor.beta1", self.beta1, 0.0, 0.9999)?;
        in_range("actor.update_every", self.update_every as f64, 1.0, 1e6)
    }

    /// The hidden layers of the network.
    pub fn hidden(&self) -> Hidden {
        Hidden::new(self.width, self.depth, self.activation)
    }

    /// The optimiser's settings.
    pub fn adam(&self) -> AdamConfig {
        AdamConfig { learning_rate: self.learning_rate, beta1: self.beta1 }
    }

    /// Whether the update after `updates` of the critics includes the actor.
    pub fn due(&self, updates: i64) -> bool {
        (updates + 1) % self.update_every == 0
    }
}
