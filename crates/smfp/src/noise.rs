//! All random numbers of one update, drawn at once.
//!
//! They are separate from the update, so that a test can repeat a recorded update with its noise
//! (`tests/recorded.rs`).

use crate::config::{MirrorActions, SmfpConfig};
use agent::{Noise, Random};
use networks::{normal, uniform};
use tch::{Device, Tensor};

/// Noise of an update over a batch of B transitions. All of it is standard normal or uniform in
/// [0, 1); the policy scales latents.
pub struct UpdateNoise {
    /// Latents of the K_t candidates for the next action: (B K_t, act).
    pub next_z: Tensor,
    /// Head noise of those candidates: (B K_t, act).
    pub next_xi: Tensor,
    /// Extra latents of the estimate of log pi in the critics' target: (M B, act).
    pub next_latents: Option<Tensor>,
    /// Noise of the actor's update, where one is due.
    pub actor: Option<ActorNoise>,
}

impl UpdateNoise {
    /// Draws the noise that the configuration asks for, on the CPU.
    pub fn draw(
        config: &SmfpConfig,
        batch: i64,
        act_dim: i64,
        with_actor: bool,
        rng: &mut Random,
    ) -> Self {
        let next = [batch * config.candidates.target, act_dim];
        Self {
            next_z: normal(rng, &next, Device::Cpu),
            next_xi: normal(rng, &next, Device::Cpu),
            next_latents: (config.soft() && config.entropy.latents > 0)
                .then(|| normal(rng, &[config.entropy.latents * batch, act_dim], Device::Cpu)),
            actor: with_actor.then(|| ActorNoise::draw(config, batch, act_dim, rng)),
        }
    }
}

impl Noise for UpdateNoise {
    fn tensors(&mut self) -> Vec<&mut Tensor> {
        let mut all = vec![&mut self.next_z, &mut self.next_xi];
        all.extend(&mut self.next_latents);
        let Some(ActorNoise { z, xi, mirror }) = &mut self.actor else { return all };
        all.extend([z, xi]);
        if let Some(MirrorNoise { z, xi, uniform, choice, eps, e, t, r }) = mirror {
            all.extend([z, xi, choice, eps, e, t, r]);
            all.extend(uniform);
        }
        all
    }
}

/// Noise of an actor update over a batch of B states, of which S = B / (M + 1) take part in the
/// pathwise term and B_m in the mirror term.
pub struct ActorNoise {
    /// Latents of the M + 1 actions per state: ((M + 1) S, act).
    pub z: Tensor,
    /// Noise of the Gaussian head: ((M + 1) S, act).
    pub xi: Tensor,
    /// Noise of the mirror term.
    pub mirror: Option<MirrorNoise>,
}

/// Noise of the mirror term.
pub struct MirrorNoise {
    /// Latents of the candidates: (B_m K, act).
    pub z: Tensor,
    /// Head noise of the candidates: (B_m K, act).
    pub xi: Tensor,
    /// Uniform candidates of `actions = "broad"`: (B_m, K, act) in [0, 1).
    pub uniform: Option<Tensor>,
    /// Chooses a candidate: (B_m, 1) in [0, 1).
    pub choice: Tensor,
    /// eps, the noise on the regressed action: (B_m, act).
    pub eps: Tensor,
    /// e, the flow's noise end: (B_m, act).
    pub e: Tensor,
    /// Flow times t: (B_m, 1) in [0, 1).
    pub t: Tensor,
    /// r / t where r is drawn: (B_m, 1) in [0, 1).
    pub r: Tensor,
}

impl ActorNoise {
    /// Draws the noise that the configuration asks for, on the CPU.
    pub fn draw(config: &SmfpConfig, batch: i64, act_dim: i64, rng: &mut Random) -> Self {
        let device = Device::Cpu;
        let actions = config.actions_per_state() * config.pathwise_states(batch);
        Self {
            z: normal(rng, &[actions, act_dim], device),
            xi: normal(rng, &[actions, act_dim], device),
            mirror: config.uses_mirror().then(|| {
                let rows = config.mirror_rows(batch);
                let k = config.mirror.candidates;
                let broad = config.mirror.actions == MirrorActions::Broad;
                MirrorNoise {
                    z: normal(rng, &[rows * k, act_dim], device),
                    xi: normal(rng, &[rows * k, act_dim], device),
                    uniform: broad.then(|| uniform(rng, &[rows, k, act_dim], device)),
                    choice: uniform(rng, &[rows, 1], device),
                    eps: normal(rng, &[rows, act_dim], device),
                    e: normal(rng, &[rows, act_dim], device),
                    t: uniform(rng, &[rows, 1], device),
                    r: uniform(rng, &[rows, 1], device),
                }
            }),
        }
    }
}
