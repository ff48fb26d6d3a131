//! Settings of SMFP. `presets.toml` says what each key means.

use agent::candidates::rows_of_share;
use agent::{ActorConfig, Agent, AgentConfig, CandidatesConfig, CriticConfig, ObjectiveConfig};
use agent::{Idle, Random, idle_where, in_range};
use serde::{Deserialize, Serialize};
use tch::Device;

/// The preset file: every key with its default, its meaning, and the presets
/// per task.
pub const PRESETS: &str = include_str!("../presets.toml");

/// Everything that shapes SMFP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmfpConfig {
    /// The critics.
    pub critic: CriticConfig,
    /// The policy's network, its input and its optimiser.
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

/// How actions stay in [-1, 1].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Squash {
    /// Clipping, with a penalty on means beyond the bounds.
    Clip,
    /// tanh, with its log-determinant in the density.
    Tanh,
}

/// The latent of deterministic actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvalLatent {
    /// Drawn, as elsewhere.
    Drawn,
    /// Zero.
    Zero,
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
    /// Standard deviation of the latent z, and of e in the mirror term.
    pub latent_std: f64,
    /// The latent of deterministic actions.
    pub eval_latent: EvalLatent,
}

/// How the target deviation binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntropyMode {
    /// alpha log pi - Q with a learned alpha in units of Q, and log pi in the critics' target.
    Soft,
    /// alpha sum_j relu(log sigma_target - l_j).
    Threshold,
    /// alpha log pi with a given alpha.
    Fixed,
    /// No entropy: the deviation is sigma_target.
    None,
}

/// `[entropy]`: equation (2) and how it binds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntropyConfig {
    /// How the target deviation binds.
    pub mode: EntropyMode,
    /// Weight of the entropy: in units of Q / S, for [`EntropyMode::Soft`] its start in units
    /// of Q.
    pub alpha: f64,
    /// Weight at the start of a geometric fall to `alpha`.
    pub alpha_initial: f64,
    /// Actor updates of that fall; 0: none.
    pub alpha_decay_updates: i64,
    /// Adam's learning rate for log alpha.
    pub alpha_learning_rate: f64,
    /// Target deviation of the head, and of the noise on the mirror term's actions.
    pub sigma_target: f64,
    /// Extra latents M of the semi-implicit estimate of log pi; 0: log pi given the latent,
    /// equation (2). The actor's update draws M + 1 actions per state, which share theirs.
    pub latents: i64,
}

/// Which actions the mirror term regresses to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MirrorActions {
    /// The replay's, weighted by advantage.
    Replay,
    /// Candidates of a lagged policy.
    Policy,
    /// Candidates of lagged policy, replay and uniform noise.
    Broad,
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
    /// Whether -Q is left out of the actor's loss; the entropy's part stays.
    pub only: bool,
}

impl SmfpConfig {
    /// Whether the mirror term is part of the objective.
    pub(crate) fn uses_mirror(&self) -> bool {
        self.objective.lambda > 0.0
    }

    /// Actions per state of the pathwise term: each is one of the others' extra latents.
    pub(crate) fn actions_per_state(&self) -> i64 {
        self.entropy.latents + 1
    }

    /// States of a batch that take part in the pathwise term: at most as many actions as the batch has
    /// rows, but at least one state.
    pub(crate) fn pathwise_states(&self, batch: i64) -> i64 {
        (batch / self.actions_per_state()).max(1)
    }

    /// States of a batch that take part in the mirror term.
    pub(crate) fn mirror_rows(&self, batch: i64) -> i64 {
        rows_of_share(batch, self.mirror.batch_share)
    }

    /// Whether alpha is learned in units of Q.
    pub(crate) fn soft(&self) -> bool {
        self.entropy.mode == EntropyMode::Soft
    }

    fn check_ranges(&self) -> Result<(), String> {
        let Self { policy, entropy, mirror, .. } = self;
        let checks: &[(&str, f64, f64, f64)] = &[
            ("policy.frequencies", policy.frequencies as f64, 1.0, 1024.0),
            ("policy.bound_penalty", policy.bound_penalty, 0.0, 1e9),
            // log_std lives in [-10, 0].
            ("policy.std_init", policy.std_init, 4.6e-5, 1.0),
            ("policy.latent_std", policy.latent_std, 0.0, 10.0),
            ("entropy.alpha", entropy.alpha, 0.0, 1e9),
            ("entropy.alpha_initial", entropy.alpha_initial, 0.0, 1e9),
            ("entropy.alpha_decay_updates", entropy.alpha_decay_updates as f64, 0.0, 1e12),
            ("entropy.alpha_learning_rate", entropy.alpha_learning_rate, 0.0, 1.0),
            ("entropy.sigma_target", entropy.sigma_target, 0.0, 1.0),
            ("entropy.latents", entropy.latents as f64, 0.0, 1024.0),
            ("mirror.candidates", mirror.candidates as f64, 1.0, 1024.0),
            ("mirror.policy_tau", mirror.policy_tau, 0.0, 1.0),
            ("mirror.temperature", mirror.temperature, 1e-6, 1e9),
            ("mirror.weight_max", mirror.weight_max, 1.0, 1e9),
            ("mirror.batch_share", mirror.batch_share, 1e-3, 1.0),
            ("mirror.target_clip", mirror.target_clip, 1.0, 1e9),
        ];
        checks.iter().try_for_each(|&(key, value, low, high)| in_range(key, value, low, high))
    }

    fn check_combinations(&self) -> Result<(), String> {
        let Self { entropy, mirror, .. } = self;
        let (mode, soft, mirrored) = (entropy.mode, self.soft(), self.uses_mirror());
        let falls = entropy.alpha_decay_updates > 0;
        let forbidden: &[(bool, &str)] = &[
            (
                entropy.latents > 0 && !soft && mode != EntropyMode::Fixed,
                "entropy.latents above 0 needs entropy.mode = \"soft\" or \"fixed\": the other \
                 modes do not read log pi",
            ),
            (
                mode != EntropyMode::None && entropy.sigma_target == 0.0,
                "entropy.sigma_target is 0, expected above 0 unless entropy.mode = \"none\" (a \
                 deterministic head has no entropy)",
            ),
            (
                soft && entropy.alpha == 0.0,
                "entropy.alpha is 0, expected above 0 for entropy.mode = \"soft\", where log \
                 alpha is learned",
            ),
            (
                soft && falls,
                "entropy.alpha_decay_updates must be 0 for entropy.mode = \"soft\", where alpha \
                 is learned",
            ),
            (
                falls && (entropy.alpha == 0.0 || entropy.alpha_initial == 0.0),
                "entropy.alpha and entropy.alpha_initial must be above 0 for a geometric fall \
                 over entropy.alpha_decay_updates",
            ),
            (
                mirror.only && !mirrored,
                "mirror.only = true needs objective.lambda above 0: nothing else would improve \
                 the policy",
            ),
        ];
        match forbidden.iter().find(|(found, _)| *found) {
            Some((_, message)) => Err((*message).to_string()),
            None => Ok(()),
        }
    }
}

impl AgentConfig for SmfpConfig {
    fn validate(&self) -> Result<(), String> {
        self.critic.validate()?;
        self.actor.validate()?;
        self.candidates.validate()?;
        self.objective.validate()?;
        self.check_ranges()?;
        self.check_combinations()
    }

    fn idle(&self) -> Vec<Idle> {
        let Self { policy, entropy, mirror, .. } = self;
        let soft = self.soft();
        let own = idle_where(&[
            (
                policy.squash == Squash::Tanh,
                &["policy.bound_penalty"],
                "policy.squash = \"tanh\" keeps actions in bounds",
            ),
            (
                entropy.alpha_decay_updates == 0,
                &["entropy.alpha_initial"],
                "entropy.alpha_decay_updates = 0",
            ),
            (!soft, &["entropy.alpha_learning_rate"], "entropy.mode is not \"soft\""),
            (
                mirror.actions != MirrorActions::Replay,
                &["mirror.weight_max"],
                "mirror.actions is not \"replay\"",
            ),
            (
                !self.uses_mirror(),
                &[
                    "mirror.actions",
                    "mirror.candidates",
                    "mirror.policy_tau",
                    "mirror.temperature",
                    "mirror.batch_share",
                    "mirror.target_clip",
                ],
                "objective.lambda = 0",
            ),
            (
                !self.uses_mirror() && mirror.actions == MirrorActions::Replay,
                &["mirror.weight_max"],
                "objective.lambda = 0",
            ),
            (
                entropy.mode == EntropyMode::None,
                &["entropy.alpha", "entropy.alpha_decay_updates", "policy.std_init"],
                "entropy.mode = \"none\"",
            ),
            (
                entropy.mode == EntropyMode::None && entropy.alpha_decay_updates > 0,
                &["entropy.alpha_initial"],
                "entropy.mode = \"none\"",
            ),
            (
                entropy.mode == EntropyMode::Fixed && !self.uses_mirror(),
                &["entropy.sigma_target"],
                "entropy.mode = \"fixed\" and objective.lambda = 0",
            ),
        ]);
        [self.critic.idle(), self.objective.idle(), own].into_iter().flatten().collect()
    }

    fn why_not_captured(&self) -> Option<&'static str> {
        let EntropyConfig { mode, alpha_decay_updates, .. } = self.entropy;
        let moves = matches!(mode, EntropyMode::Threshold | EntropyMode::Fixed);
        (moves && alpha_decay_updates > 0).then_some("alpha follows a schedule")
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
