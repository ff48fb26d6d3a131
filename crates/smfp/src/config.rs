//! Settings of SMFP. `presets.toml` says what each key means.

use agent::CriticConfig;
use networks::Activation;
use serde::{Deserialize, Serialize};

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
    /// Where the Gaussian head stands.
    NoiseSide {
        /// a = g(s, z, 1) + sigma xi.
        Output = "output",
        /// a = g(s, m(s) + sigma(s) z, 1).
        Source = "source",
    }
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
    /// What improves the policy.
    Improvement {
        /// Pathwise and mirror term, equation (4).
        Unified = "unified",
        /// The pathwise term alone.
        Pathwise = "pathwise",
        /// The mirror term alone.
        Mirror = "mirror",
    }
}
choices! {
    /// What divides Q in the pathwise term.
    QScale {
        /// Running standard deviation of the advantage.
        AdvantageStd = "advantage_std",
        /// Running mean of |Q|.
        MeanAbsQ = "mean_abs_q",
        /// Nothing.
        None = "none",
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
choices! {
    /// Which times the mirror term is computed at.
    TimeSampling {
        /// Half r = t, a quarter r = 0, a quarter r = t U(0, 1).
        General = "general",
        /// r = 0.
        Endpoint = "endpoint",
    }
}

/// Everything that shapes SMFP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // `presets.toml` documents every key, once.
pub struct SmfpConfig {
    pub critic: CriticConfig,
    pub actor: ActorConfig,
    pub candidates: CandidatesConfig,
    pub objective: ObjectiveConfig,
    pub entropy: EntropyConfig,
    pub mirror: MirrorConfig,
}

/// `[actor]`: the network and its optimiser.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct ActorConfig {
    pub width: i64,
    pub depth: usize,
    pub activation: Activation,
    pub frequencies: i64,
    pub learning_rate: f64,
    pub update_every: i64,
    pub noise: NoiseSide,
    pub squash: Squash,
    pub std_init: f64,
    pub state_dependent_std: bool,
}

/// `[candidates]`: K_b and K_t.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct CandidatesConfig {
    pub act: i64,
    pub target: i64,
}

/// `[objective]`: equation (4).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct ObjectiveConfig {
    pub improvement: Improvement,
    pub lambda: f64,
    pub q_scale: QScale,
    pub q_scale_decay: f64,
    pub bound_penalty: f64,
}

/// `[entropy]`: equation (2) and how it binds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct EntropyConfig {
    pub mode: EntropyMode,
    pub alpha: f64,
    pub alpha_initial: f64,
    pub alpha_decay_updates: i64,
    pub alpha_learning_rate: f64,
    pub sigma_target: f64,
    pub estimate: EntropyEstimate,
    pub latents: i64,
    pub in_target: TargetEntropy,
    pub std_penalty: f64,
    pub std_low: f64,
    pub std_high: f64,
}

/// `[mirror]`: equations (3) and (5).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct MirrorConfig {
    pub actions: MirrorActions,
    pub candidates: i64,
    pub policy_tau: f64,
    pub temperature: f64,
    pub weight_max: f64,
    pub batch_share: f64,
    pub time: TimeSampling,
    pub target_clip: f64,
    pub adaptive_power: f64,
    pub adaptive_constant: f64,
}

impl SmfpConfig {
    /// Checks ranges and combinations.
    ///
    /// # Errors
    /// One line: the key, its value, and what was expected.
    pub fn validate(&self) -> Result<(), String> {
        self.critic.validate()?;
        let Self { actor, candidates, objective, entropy, mirror, .. } = self;
        let checks: &[(&str, f64, f64, f64)] = &[
            ("actor.width", actor.width as f64, 1.0, 65536.0),
            ("actor.depth", actor.depth as f64, 1.0, 64.0),
            ("actor.frequencies", actor.frequencies as f64, 1.0, 1024.0),
            ("actor.learning_rate", actor.learning_rate, 0.0, 1.0),
            ("actor.update_every", actor.update_every as f64, 1.0, 1e6),
            // log_std lives in [-10, 0].
            ("actor.std_init", actor.std_init, 4.6e-5, 1.0),
            ("candidates.act", candidates.act as f64, 1.0, 1024.0),
            ("candidates.target", candidates.target as f64, 1.0, 1024.0),
            ("objective.lambda", objective.lambda, 0.0, 1e9),
            ("objective.q_scale_decay", objective.q_scale_decay, 0.0, 1.0),
            ("objective.bound_penalty", objective.bound_penalty, 0.0, 1e9),
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
            ("mirror.adaptive_power", mirror.adaptive_power, 0.0, 10.0),
            ("mirror.adaptive_constant", mirror.adaptive_constant, 1e-12, 1e9),
        ];
        for &(key, value, low, high) in checks {
            agent::in_range(key, value, low, high)?;
        }
        let logs_pi = matches!(entropy.mode, EntropyMode::Fixed | EntropyMode::Dual);
        if entropy.estimate == EntropyEstimate::SemiImplicit {
            if !logs_pi {
                return Err("entropy.estimate = \"semi-implicit\" needs entropy.mode = \"fixed\" \
                            or \"dual\": the other modes do not read log pi"
                    .into());
            }
            if actor.noise == NoiseSide::Source {
                return Err(
                    "entropy.estimate = \"semi-implicit\" needs actor.noise = \"output\": \
                            behind the map there is no density given the latent"
                        .into(),
                );
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
        Ok(())
    }
}
