//! What SMFP promises, checked against definitions: finite differences,
//! densities by quadrature, and what an update may and may not move.

use agent::candidates::repeat_rows;
use agent::{ActMode, Agent, AgentConfig, Batch, CriticLearner, Diverged, Random, stream};
use networks::{Params, load_state, normal, uniform};
use smfp::entropy::{semi_implicit_log_prob, surrogate};
use smfp::{Policy, Smfp, SmfpConfig, UpdateNoise};
use std::f64::consts::PI;
use tch::{Device, Kind, Tensor};

const OBS: i64 = 5;
const ACT: i64 = 3;
const ROWS: i64 = 16;
const SMALL: &str = r#"
"critic.width" = 16
"actor.width" = 16
"actor.depth" = 2
"policy.frequencies" = 3
"#;

/// Preset `default` on small networks, with some keys of its own.
fn config(keys: &str) -> SmfpConfig {
    let config: SmfpConfig = testing::config(smfp::PRESETS, &format!("{SMALL}\n{keys}"));
    config.validate().unwrap();
    config
}

fn double(tensor: &Tensor) -> f64 {
    tensor.double_value(&[])
}

// --- The policy, in f64 ---------------------------------------------------

/// A policy in f64 whose every weight is drawn, its heads' too.
fn policy(keys: &str, act_dim: i64, scale: f64) -> (Policy, Params, Random) {
    let config = config(keys);
    let mut rng = stream(7, "policy");
    let (policy, params) = Policy::new(&config, OBS, act_dim, Kind::Double, Device::Cpu, &mut rng);
    let drawn = normal(&mut rng, &[params.count()], Device::Cpu).to_kind(Kind::Double) * scale;
    params.flat().shallow_clone().copy_(&drawn);
    // Deviations of 0.1 to 0.9: inside the range that they are clamped to, and
    // wide enough for the grids below.
    for (name, tensor) in params.named("head") {
        let mut tensor = tensor.shallow_clone();
        match name.as_str() {
            "head.log_std.weight" => drop(tensor.g_mul_scalar_(0.2)),
            "head.log_std.bias" => drop(tensor.fill_(0.3f64.ln())),
            _ => {}
        }
    }
    (policy, params, rng)
}

fn normal_f64(rng: &mut Random, shape: &[i64]) -> Tensor {
    normal(rng, shape, Device::Cpu).to_kind(Kind::Double)
}

#[test]
fn the_velocitys_tangent_is_its_derivative_along_x_and_t_jointly_at_fixed_r() {
    for activation in ["mish"] {
        let (policy, params, mut rng) =
            policy(&format!("\"actor.activation\" = \"{activation}\""), ACT, 0.4);
        let p = params.frozen();
        let [obs, x, v] = [OBS, ACT, ACT].map(|dim| normal_f64(&mut rng, &[ROWS, dim]));
        let t = uniform(&mut rng, &[ROWS, 1], Device::Cpu).to_kind(Kind::Double);
        let r = &t * uniform(&mut rng, &[ROWS, 1], Device::Cpu).to_kind(Kind::Double);
        let (velocity, tangent) = policy.velocity_jvp(p, &obs, &x, &r, &t, &v);
        assert!(velocity.allclose(&policy.velocity(p, &obs, &x, &r, &t), 1e-13, 1e-13, false));
        let h = 1e-5;
        let at = |h: f64| policy.velocity(p, &obs, &(&x + &v * h), &r, &(&t + h));
        let differences = (at(h) - at(-h)) / (2.0 * h);
        let error = double(&(&tangent - differences).abs().max());
        // Far below the size of what either input alone contributes.
        assert!(error < 1e-7, "{activation}: {error}");
        assert!(double(&tangent.abs().max()) > 0.1, "{activation}");
    }
}

/// One state, one action dimension: p(a | s) and what follows from it, by the
/// trapezoidal rule over the latent and over the action.
struct Quadrature {
    /// Weights of the latents, their means and deviations: (Z, 1) each.
    weight: Tensor,
    mean: Tensor,
    log_std: Tensor,
}

impl Quadrature {
    fn new(policy: &Policy, p: &[Tensor], obs: &Tensor) -> Self {
        let options = (Kind::Double, Device::Cpu);
        let z = Tensor::linspace(-8.0, 8.0, 801, options).unsqueeze(1);
        let weight = (&z * &z * -0.5).exp();
        let weight = &weight / weight.sum(Kind::Double);
        let (mean, log_std) = policy.one_step(p, &obs.repeat([801, 1]), &z);
        Self { weight, mean, log_std }
    }

    /// log p(a | s, z): (Z, A) for actions (A).
    fn conditional(&self, a: &Tensor) -> Tensor {
        let noise = (a.unsqueeze(0) - &self.mean) / self.log_std.exp();
        &noise * &noise * -0.5 - &self.log_std - 0.5 * (2.0 * PI).ln()
    }

    /// log p(a | s): (A).
    fn marginal(&self, a: &Tensor) -> Tensor {
        (self.conditional(a) + self.weight.log()).logsumexp(&[0i64][..], false)
    }
}

#[test]
fn the_entropy_surrogate_lies_below_the_entropy_by_the_mutual_information_with_the_latent() {
    let (policy, params, mut rng) = policy("", 1, 0.5);
    let obs = normal_f64(&mut rng, &[1, OBS]);
    let quadrature = Quadrature::new(&policy, params.frozen(), &obs);
    let a = Tensor::linspace(-15.0, 15.0, 6001, (Kind::Double, Device::Cpu));
    let step = 30.0 / 6000.0;
    let (conditional, marginal) = (quadrature.conditional(&a), quadrature.marginal(&a));
    let mass = double(&marginal.exp().sum(Kind::Double)) * step;
    assert!((mass - 1.0).abs() < 1e-9, "the density's mass is {mass}");

    let entropy = -double(&(marginal.exp() * &marginal).sum(Kind::Double)) * step;
    let information = (conditional.exp() * (&conditional - &marginal) * &quadrature.weight)
        .sum(Kind::Double)
        .double_value(&[])
        * step;
    let bound: f64 = (0..quadrature.weight.size()[0])
        .map(|i| {
            let at = |tensor: &Tensor| tensor.narrow(0, i, 1);
            double(&surrogate(&at(&quadrature.log_std)))
                * double(&at(&quadrature.weight).sum(None::<Kind>))
        })
        .sum();
    assert!(information > 0.3, "the latent tells nothing of the action: {information}");
    assert!(bound < entropy);
    let error = entropy - bound - information;
    assert!(error.abs() < 1e-8, "{entropy} - {bound} - {information} = {error}");
}

#[test]
fn the_semi_implicit_entropy_rises_from_the_surrogate_to_the_entropy_with_more_latents() {
    let (policy, params, mut rng) = policy("", 1, 0.5);
    let p = params.frozen();
    let state = normal_f64(&mut rng, &[1, OBS]);
    let rows = 4096;
    let obs = state.repeat([rows, 1]);
    let [z, xi] = [0, 1].map(|_| normal_f64(&mut rng, &[rows, 1]));
    let draw = policy.draw(p, &obs, &z, Some(&xi));
    // The truth on the very actions drawn, so that their randomness cancels.
    let exact = Quadrature::new(&policy, p, &state).marginal(&draw.raw.squeeze_dim(1));
    let truth = -double(&exact.mean(Kind::Double));

    let mut estimate = |latents: i64| {
        let all = Tensor::cat(&[&z, &normal_f64(&mut rng, &[latents * rows, 1])], 0);
        let (means, log_stds) = policy.one_step(p, &obs.repeat([latents + 1, 1]), &all);
        let shape = [latents + 1, rows, 1];
        let (means, log_stds) = (means.view(shape), log_stds.view(shape));
        semi_implicit_log_prob(&policy, &draw.raw, &means, &log_stds)
    };
    assert!(estimate(0).allclose(&draw.log_prob, 1e-12, 1e-12, false));
    let entropies =
        [0, 1, 4, 16, 256].map(|latents| -double(&estimate(latents).mean(Kind::Double)));
    for pair in entropies.windows(2) {
        assert!(pair[0] < pair[1], "{entropies:?}");
    }
    let gap = truth - entropies[4];
    assert!((-5e-3..1e-2).contains(&gap), "{entropies:?} against {truth}");
}

#[test]
fn densities_of_actions_integrate_to_one() {
    for squash in ["tanh", "clip"] {
        let keys = format!("\"policy.squash\" = \"{squash}\"");
        let (policy, params, mut rng) = policy(&keys, 1, 0.5);
        let p = params.frozen();
        let xi = Tensor::linspace(-9.0, 9.0, 4001, (Kind::Double, Device::Cpu)).unsqueeze(1);
        let integral = |log_prob: &Tensor, over: &Tensor| {
            let (density, over) = (log_prob.exp(), over.squeeze_dim(1));
            double(&Tensor::trapezoid_x(&density, &over, 0))
        };
        for _ in 0..5 {
            let obs = normal_f64(&mut rng, &[1, OBS]);
            let z = normal_f64(&mut rng, &[1, 1]);
            let every = |tensor: &Tensor| tensor.repeat([4001, 1]);
            let draw = policy.draw(p, &every(&obs), &every(&z), Some(&xi));
            // Clipping has no density; there it is that of the action before.
            let over = |action: &Tensor, raw: &Tensor| {
                if squash == "tanh" { action.shallow_clone() } else { raw.shallow_clone() }
            };
            let mass = integral(&draw.log_prob, &over(&draw.action, &draw.raw));
            assert!((mass - 1.0).abs() < 1e-4, "{squash}: {mass}");

            // The semi-implicit mixture, over a range that holds all of it.
            let latents = normal_f64(&mut rng, &[3, 1]);
            let (means, log_stds) = policy.one_step(p, &obs.repeat([3, 1]), &latents);
            let spread = |x: &Tensor| x.unsqueeze(1).expand([3, 4001, 1], false);
            let (low, high) = (double(&means.min()) - 9.0, double(&means.max()) + 9.0);
            let raw = Tensor::linspace(low, high, 4001, (Kind::Double, Device::Cpu)).unsqueeze(1);
            let log_prob =
                semi_implicit_log_prob(&policy, &raw, &spread(&means), &spread(&log_stds));
            let mass = integral(&log_prob, &over(&raw.tanh(), &raw));
            assert!((mass - 1.0).abs() < 1e-4, "{squash}, semi-implicit: {mass}");
        }
    }
}

// --- Updates --------------------------------------------------------------

fn batch(rng: &mut Random) -> Batch {
    let device = Device::Cpu;
    Batch {
        obs: normal(rng, &[ROWS, OBS], device),
        action: uniform(rng, &[ROWS, ACT], device) * 2.0 - 1.0,
        reward: normal(rng, &[ROWS], device),
        next_obs: normal(rng, &[ROWS, OBS], device),
        terminated: uniform(rng, &[ROWS], device).lt(0.25).to_kind(Kind::Float),
    }
}

fn agent(config: &SmfpConfig, seed: u64) -> Smfp {
    Smfp::new(config, OBS, ACT, Device::Cpu, &mut stream(seed, "agent"))
}

fn noise(config: &SmfpConfig, with_actor: bool, seed: u64) -> UpdateNoise {
    UpdateNoise::draw(config, ROWS, ACT, with_actor, Device::Cpu, &mut stream(seed, "noise"))
}

/// A copy of the agent's state.
struct Snapshot(Vec<(String, Tensor)>);

impl Snapshot {
    fn of(agent: &Smfp) -> Self {
        Self(agent.state().into_iter().map(|(name, tensor)| (name, tensor.copy())).collect())
    }

    /// All tensors of a part ("actor", "critic_adam"), as one vector.
    fn part(&self, part: &str) -> Tensor {
        let belongs = |name: &str| name == part || name.starts_with(&format!("{part}."));
        let tensors: Vec<Tensor> = (self.0.iter())
            .filter(|(name, _)| belongs(name))
            .map(|(_, tensor)| tensor.to_kind(Kind::Double).reshape([-1]))
            .collect();
        assert!(!tensors.is_empty(), "the state has no {part}");
        Tensor::cat(&tensors, 0)
    }

    fn equals(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| a == b)
    }
}

/// Whether a part moved, of which every number is finite.
fn moved(before: &Snapshot, after: &Snapshot, part: &str) -> bool {
    let (before, after) = (before.part(part), after.part(part));
    assert!(bool::try_from(after.isfinite().all()).unwrap());
    before != after
}

const ACTOR: [&str; 5] = ["actor", "actor_lagged", "actor_adam", "q_scale", "actor_updates"];

/// Whether `slow` went to `(1 - tau) slow + tau fast`.
fn followed(before: &Snapshot, after: &Snapshot, slow: &str, fast: &str, tau: f64) -> bool {
    let expected = before.part(slow) * (1.0 - tau) + after.part(fast) * tau;
    after.part(slow).allclose(&expected, 1e-6, 1e-8, false)
}

#[test]
fn an_update_without_the_actor_moves_the_critics_and_nothing_of_the_actor() {
    for kind in ["mlp", "layernorm", "crossq"] {
        let config = config(&format!("\"critic.kind\" = \"{kind}\""));
        let mut agent = agent(&config, 0);
        let before = Snapshot::of(&agent);
        let metrics = agent.update_with(&batch(&mut stream(0, "batch")), &noise(&config, false, 0));
        let after = Snapshot::of(&agent);
        let names: Vec<_> = metrics.names().collect();
        assert!(names.contains(&"critic_loss") && !names.contains(&"actor_loss"), "{names:?}");
        for part in ["critic", "critic_adam", "critic_updates"] {
            assert!(moved(&before, &after, part), "{kind}: {part} stood still");
        }
        for part in ACTOR {
            assert!(!moved(&before, &after, part), "{kind}: {part} moved");
        }
        if kind == "crossq" {
            assert!(moved(&before, &after, "critic_stats"));
        } else {
            assert!(followed(&before, &after, "critic_target", "critic", config.critic.tau));
        }
    }
}

#[test]
fn an_update_of_the_actor_moves_the_lagged_policy_by_tau_and_the_critics_no_further() {
    for kind in ["layernorm", "crossq"] {
        let config = config(&format!("\"critic.kind\" = \"{kind}\"\n\"mirror.policy_tau\" = 0.1"));
        let batch = batch(&mut stream(0, "batch"));
        let (mut without, mut with) = (agent(&config, 0), agent(&config, 0));
        let before = Snapshot::of(&with);
        without.update_with(&batch, &noise(&config, false, 0));
        with.update_with(&batch, &noise(&config, true, 0));
        let (without, after) = (Snapshot::of(&without), Snapshot::of(&with));
        for part in ACTOR {
            assert!(moved(&before, &after, part), "{kind}: {part} stood still");
        }
        assert!(followed(&before, &after, "actor_lagged", "actor", 0.1), "{kind}");
        let rest = if kind == "crossq" { "critic_stats" } else { "critic_target" };
        for part in ["critic", "critic_adam", "critic_updates", rest] {
            assert!(!moved(&without, &after, part), "{kind}: the actor moved {part}");
        }
    }
}

#[test]
fn the_actor_learns_at_every_nth_update() {
    let config = config("\"actor.update_every\" = 3");
    let (mut agent, mut rng) = (agent(&config, 0), stream(0, "update"));
    for n in 1..=7 {
        let before = Snapshot::of(&agent);
        let metrics = agent.update(&batch(&mut rng), &mut rng);
        assert_eq!(moved(&before, &Snapshot::of(&agent), "actor"), n % 3 == 0, "update {n}");
        assert_eq!(metrics.names().any(|name| name == "actor_loss"), n % 3 == 0, "update {n}");
    }
}

/// The actor after one update from a state in which the lagged policy's
/// velocity stands somewhere else by `shift`.
fn actor_after(config: &SmfpConfig, shift: f64) -> Tensor {
    let mut agent = agent(config, 0);
    for (name, tensor) in agent.state() {
        if name == "actor_lagged.velocity.bias" {
            let _ = tensor.shallow_clone().g_add_scalar_(shift);
        }
    }
    agent.update_with(&batch(&mut stream(0, "batch")), &noise(config, true, 0));
    Snapshot::of(&agent).part("actor")
}

#[test]
fn only_the_mirror_term_reads_the_lagged_policy() {
    let cases =
        [("\"objective.lambda\" = 0.0", false), ("", true), ("\"mirror.only\" = true", true)];
    for (keys, reads) in cases {
        let config = config(keys);
        let same = actor_after(&config, 0.0) == actor_after(&config, 0.5);
        assert_eq!(!same, reads, "{keys}");
    }
}

#[test]
fn the_mirror_term_moves_the_velocity_and_leaves_the_deviation_alone() {
    // With sigma at 0.3 the threshold of 0.1 does not bind.
    let config = config("\"mirror.only\" = true");
    let mut agent = agent(&config, 0);
    let before = Snapshot::of(&agent);
    agent.update_with(&batch(&mut stream(0, "batch")), &noise(&config, true, 0));
    let after = Snapshot::of(&agent);
    assert!(moved(&before, &after, "actor.velocity"));
    assert!(!moved(&before, &after, "actor.log_std"));
}

#[test]
fn what_follows_a_terminal_state_does_not_matter() {
    let config = config("\"critic.kind\" = \"mlp\"");
    let critics = |next: f64| {
        let mut batch = batch(&mut stream(0, "batch"));
        batch.next_obs += batch.terminated.unsqueeze(1) * next;
        let mut agent = agent(&config, 0);
        agent.update_with(&batch, &noise(&config, false, 0));
        Snapshot::of(&agent).part("critic")
    };
    assert_eq!(critics(0.0), critics(5.0));
}

/// The state after some updates.
fn trained(config: &SmfpConfig, seed: u64, updates: usize) -> Snapshot {
    let (mut agent, mut rng) = (agent(config, seed), stream(seed, "update"));
    for _ in 0..updates {
        agent.update(&batch(&mut rng), &mut rng).read().unwrap();
    }
    Snapshot::of(&agent)
}

#[test]
fn one_seed_gives_one_agent_to_the_byte_and_another_seed_another() {
    for keys in ["", "\"entropy.mode\" = \"dual\"\n\"entropy.estimate\" = \"semi-implicit\""] {
        let config = config(keys);
        assert!(trained(&config, 1, 5).equals(&trained(&config, 1, 5)));
        assert!(!trained(&config, 1, 5).equals(&trained(&config, 2, 5)));
    }
}

#[test]
fn an_agent_that_takes_over_a_state_goes_on_from_it_to_the_byte() {
    for keys in ["", "\"entropy.mode\" = \"dual\"\n\"critic.kind\" = \"mlp\""] {
        let config = config(keys);
        let mut agent = agent(&config, 9);
        agent.load(&trained(&config, 1, 4).0).unwrap();
        // Skip what the first four updates drew.
        let mut rng = stream(1, "update");
        let mut skipped = self::agent(&config, 1);
        for _ in 0..4 {
            skipped.update(&batch(&mut rng), &mut rng).read().unwrap();
        }
        for _ in 0..3 {
            agent.update(&batch(&mut rng), &mut rng).read().unwrap();
        }
        assert!(Snapshot::of(&agent).equals(&trained(&config, 1, 7)));
    }
}

#[test]
fn numbers_that_are_not_finite_are_an_error_that_names_the_quantity() {
    let config = config("\"actor.update_every\" = 1");
    for (value, shown) in [(f32::NAN, "critic_loss is NaN"), (f32::INFINITY, "critic_loss is inf")]
    {
        let mut rng = stream(0, "batch");
        let batch = batch(&mut rng);
        let _ = batch.reward.get(3).fill_(value as f64);
        let error: Diverged = agent(&config, 0).update(&batch, &mut rng).read().unwrap_err();
        assert_eq!(error.to_string(), shown);
    }
    // The actor's alone, the critics' being finite.
    let mut agent = agent(&config, 0);
    for (name, mut tensor) in agent.state() {
        if name == "q_scale" {
            let _ = tensor.fill_(f64::NAN);
        }
    }
    let mut rng = stream(0, "batch");
    let error = agent.update(&batch(&mut rng), &mut rng).read().unwrap_err();
    assert_eq!(error.quantity, "actor_loss");
}

// --- Acting ---------------------------------------------------------------

/// An agent after some updates, whose heads are no longer zero.
fn practised(config: &SmfpConfig) -> Smfp {
    let mut agent = agent(config, 3);
    agent.load(&trained(config, 3, 6).0).unwrap();
    agent
}

#[test]
fn deterministic_actions_are_the_one_step_map_of_a_latent_without_head_noise() {
    let config = config("");
    let agent = practised(&config);
    let obs = normal(&mut stream(0, "obs"), &[ROWS, OBS], Device::Cpu);
    let act = |seed, mode| agent.act(&obs, mode, &mut stream(seed, "act"));
    assert_eq!(act(0, ActMode::Deterministic), act(0, ActMode::Deterministic));
    assert_ne!(act(0, ActMode::Deterministic), act(1, ActMode::Deterministic));
    assert_ne!(act(0, ActMode::Deterministic), act(0, ActMode::Stochastic));
    assert_eq!(act(0, ActMode::Stochastic), act(0, ActMode::Stochastic));

    let z = normal(&mut stream(0, "act"), &[ROWS, ACT], Device::Cpu);
    let (policy, params) = agent.policy();
    let (mean, _) = policy.one_step(params.frozen(), &obs, &z);
    assert_eq!(act(0, ActMode::Deterministic), mean.clamp(-1.0, 1.0));
    let largest = double(&act(0, ActMode::Stochastic).abs().max());
    assert!(largest <= 1.0, "{largest}");
}

#[test]
fn the_best_of_k_is_a_proposal_that_no_other_outvalues() {
    let k = 6;
    for kind in ["layernorm", "crossq"] {
        let config = config(&format!("\"critic.kind\" = \"{kind}\"\n\"candidates.act\" = {k}"));
        let agent = practised(&config);
        let critic =
            CriticLearner::new(&config.critic, OBS, ACT, Device::Cpu, &mut stream(0, "critic"));
        load_state(&critic.state(), &agent.state()).unwrap();
        let obs = normal(&mut stream(0, "obs"), &[ROWS, OBS], Device::Cpu);
        let chosen = agent.act(&obs, ActMode::BestOf(k), &mut stream(0, "act"));
        assert_eq!(chosen, agent.act(&obs, ActMode::Explore, &mut stream(0, "act")));

        let (rows, mut rng) = (repeat_rows(&obs, k as i64), stream(0, "act"));
        let [z, xi] = [0, 1].map(|_| normal(&mut rng, &[ROWS * k as i64, ACT], Device::Cpu));
        let (policy, params) = agent.policy();
        let proposals = policy.draw(params.frozen(), &rows, &z, Some(&xi)).action;
        let values = critic.value(&rows, &proposals).view([ROWS, k as i64]);
        let best = critic.value(&obs, &chosen).unsqueeze(1);
        let short = double(&(values - best).max());
        assert!(short < 1e-5, "{kind}: a proposal is better by {short}");
        let proposals = proposals.view([ROWS, k as i64, ACT]);
        let distance = (proposals - chosen.unsqueeze(1)).abs().sum_dim_intlist(
            &[2i64][..],
            false,
            Kind::Float,
        );
        assert_eq!(double(&distance.min_dim(1, false).0.max()), 0.0, "{kind}");
    }
}
