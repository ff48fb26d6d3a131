//! Settings of SMFP. `presets.toml` says what each key means.

use agent::candidates::rows_of_share;
use agent::{ActorConfig, Agent, AgentConfig, CandidatesConfig, CriticConfig, ObjectiveConfig};
use agent::{Random, in_range};
use serde::{Deserialize, Serialize};
use tch::Device;

/// The preset file: every key with its default, its meaning, and the presets
/// per task.
pub const PRESETS: &str = include_str!("../presets.toml");

/// Declares an enum that configuration files name in kebab- or snake-case.
macro_rules! choices {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant),+ }
    };
}

choices! {
    /// How actions stay in [-1, 1].
    Squash {
        /// Clipping, with a penalty on means beyond the bounds.
        Clip = "clip",
        /// tanh, with its log-determinant in the density.
        Tanh = "tanh",
    }
}
choices! {
    /// How the target deviation binds.
    EntropyMode {
        /// alpha sum_j relu(log sigma_target - l_j).
        Threshold = "threshold",
        /// alpha log pi, alpha learned.
        Dual = "dual",
        /// alpha log pi, alpha given.
        Fixed = "fixed",
        /// No entropy: the deviation is sigma_target.
        None = "none",
    }
}
choices! {
    /// How log pi is estimated.
    EntropyEstimate {
        /// Given the latent, equation (2).
        Conditional = "conditional",
        /// Over extra latents.
        SemiImplicit = "semi-implicit",
    }
}
choices! {
    /// Entropy in the critics' target.
    TargetEntropy {
        /// Left out.
        None = "none",
        /// alpha (H - H_target).
        Centred = "centred",
        /// alpha H.
        Plain = "plain",
    }
}
choices! {
    /// Which actions the mirror term regresses to.
    MirrorActions {
        /// The replay's, weighted by advantage.
        Replay = "replay",
        /// Candidates of a lagged policy.
        Policy = "policy",
        /// Candidates of lagged policy, replay and uniform noise.
        Broad = "broad",
    }
}

/// Everything that shapes SMFP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmfpConfig {
    /// The critics.
    pub critic: CriticConfig,
    /// The policy's network and its optimiser.
    pub actor: ActorConfig,
    /// K_b and K_t.
    pub candidates: CandidatesConfig,
    /// lambda, and the units of Q.
    pub objective: ObjectiveConfig,
    /// How the network makes an action.
    pub policy: PolicyConfig,
    /// The entropy's surrogate, and how it binds.
    pub entropy: EntropyConfig,
    /// The mirror term.
    pub mirror: MirrorConfig,
}

/// `[policy]`: from the network's output to an action, equation (1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// Frequencies of the time embedding.
    pub frequencies: i64,
    /// How actions stay in [-1, 1].
    pub squash: Squash,
    /// Weight of mean relu(|mu| - 1), for [`Squash::Clip`].
    pub bound_penalty: f64,
    /// Standard deviation of the Gaussian head at the start.
    pub std_init: f64,
}

/// `[entropy]`: equation (2) and how it binds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntropyConfig {
    /// How the target deviation binds.
    pub mode: EntropyMode,
    /// Weight of the entropy in units of Q / S; for [`EntropyMode::Dual`] its start.
    pub alpha: f64,
    /// Weight at the start of a geometric fall to `alpha`.
    pub alpha_initial: f64,
    /// Actor updates of that fall; 0: none.
    pub alpha_decay_updates: i64,
    /// Adam's learning rate for log alpha.
    pub alpha_learning_rate: f64,
    /// Target deviation of the head, and of the noise on the mirror term's actions.
    pub sigma_target: f64,
    /// How log pi is estimated.
    pub estimate: EntropyEstimate,
    /// Extra latents M of the semi-implicit estimate.
    pub latents: i64,
    /// Entropy in the critics' target.
    pub in_target: TargetEntropy,
    /// Weight of the one-sided penalties that keep the deviation in the range below.
    pub std_penalty: f64,
    /// Lower end of the range.
    pub std_low: f64,
    /// Upper end of the range.
    pub std_high: f64,
}

/// `[mirror]`: equations (3) and (5).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MirrorConfig {
    /// Which actions the term regresses to.
    pub actions: MirrorActions,
    /// Candidates per state, K.
    pub candidates: i64,
    /// Polyak rate of the lagged policy.
    pub policy_tau: f64,
    /// c of exp(A / (c std A)).
    pub temperature: f64,
    /// Largest weight before they are normalised to mean 1.
    pub weight_max: f64,
    /// Share of the batch that the term is computed on.
    pub batch_share: f64,
    /// The regression's target is clipped to +- this.
    pub target_clip: f64,
    /// Whether the pathwise term is left out.
    pub only: bool,
}

impl SmfpConfig {
    /// Whether the mirror term is part of the objective.
    pub fn uses_mirror(&self) -> bool {
        self.objective.lambda > 0.0
    }

    /// States of a batch that take part in the mirror term.
    pub fn mirror_rows(&self, batch: i64) -> i64 {
        rows_of_share(batch, self.mirror.batch_share)
    }
}

impl AgentConfig for SmfpConfig {
    fn validate(&self) -> Result<(), String> {
        self.critic.validate()?;
        self.actor.validate()?;
        self.candidates.validate()?;
        self.objective.validate()?;
        let Self { objective, policy, entropy, mirror, .. } = self;
        let checks: &[(&str, f64, f64, f64)] = &[
            ("policy.frequencies", policy.frequencies as f64, 1.0, 1024.0),
            ("policy.bound_penalty", policy.bound_penalty, 0.0, 1e9),
            // log_std lives in [-10, 0].
            ("policy.std_init", policy.std_init, 4.6e-5, 1.0),
            ("entropy.alpha", entropy.alpha, 0.0, 1e9),
            ("entropy.alpha_initial", entropy.alpha_initial, 0.0, 1e9),
            ("entropy.alpha_decay_updates", entropy.alpha_decay_updates as f64, 0.0, 1e12),
            ("entropy.alpha_learning_rate", entropy.alpha_learning_rate, 0.0, 1.0),
            ("entropy.sigma_target", entropy.sigma_target, 0.0, 1.0),
            ("entropy.latents", entropy.latents as f64, 0.0, 1024.0),
            ("entropy.std_penalty", entropy.std_penalty, 0.0, 1e9),
            ("entropy.std_low", entropy.std_low, 4.6e-5, 1.0),
            ("entropy.std_high", entropy.std_high, entropy.std_low, 1.0),
            ("mirror.candidates", mirror.candidates as f64, 1.0, 1024.0),
            ("mirror.policy_tau", mirror.policy_tau, 0.0, 1.0),
            ("mirror.temperature", mirror.temperature, 1e-6, 1e9),
            ("mirror.weight_max", mirror.weight_max, 1.0, 1e9),
            ("mirror.batch_share", mirror.batch_share, 1e-3, 1.0),
            ("mirror.target_clip", mirror.target_clip, 1.0, 1e9),
        ];
        for &(key, value, low, high) in checks {
            in_range(key, value, low, high)?;
        }
        let logs_pi = matches!(entropy.mode, EntropyMode::Fixed | EntropyMode::Dual);
        if entropy.estimate == EntropyEstimate::SemiImplicit {
            if !logs_pi {
                return Err("entropy.estimate = \"semi-implicit\" needs entropy.mode = \"fixed\" \
                            or \"dual\": the other modes do not read log pi"
                    .into());
            }
        }
        if entropy.mode != EntropyMode::None && entropy.sigma_target == 0.0 {
            return Err("entropy.sigma_target is 0, expected above 0 unless entropy.mode = \
                        \"none\" (a deterministic head has no entropy)"
                .into());
        }
        if entropy.mode == EntropyMode::None && entropy.in_target != TargetEntropy::None {
            return Err("entropy.in_target needs an entropy: expected \"none\" where \
                        entropy.mode = \"none\""
                .into());
        }
        if entropy.mode == EntropyMode::Dual && entropy.alpha == 0.0 {
            return Err("entropy.alpha is 0, expected above 0 for entropy.mode = \"dual\", which \
                        starts there"
                .into());
        }
        if entropy.alpha_decay_updates > 0 && (entropy.alpha == 0.0 || entropy.alpha_initial == 0.0)
        {
            return Err("entropy.alpha and entropy.alpha_initial must be above 0 for a geometric \
                        fall over entropy.alpha_decay_updates"
                .into());
        }
        if mirror.only && objective.lambda == 0.0 {
            return Err("mirror.only = true needs objective.lambda above 0: nothing else would \
                        improve the policy"
                .into());
        }
        Ok(())
    }

    fn build(
        &self,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> Box<dyn Agent> {
        Box::new(crate::Smfp::new(self, obs_dim, act_dim, device, rng))
    }
}
