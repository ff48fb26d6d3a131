#!/usr/bin/env python3
"""Records single updates of SAC, computed with JAX, for `crates/baselines/tests/recorded.rs`.

    third_party/venv-jax/bin/python scripts/record_sac_update.py               # every case
    third_party/venv-jax/bin/python scripts/record_sac_update.py sac-mlp       # one case

(recording.py says how to create the environment.) Reads crates/baselines/tests/fixtures/sac.toml
and writes a sac-<case>.safetensors next to it for every case: `before.*` and `after.*` (the agent's
state, with the names of `Sac::state`), `batch.*`, `noise.*`, `metrics.*`.

This is an independent implementation (see recording.py) of these sources:

- Haarnoja et al. 2018b (arXiv 1812.05905), algorithm 1: the critics step first; the actor's step
  uses the updated critics; the targets follow these in every update, with or without an actor
  step. Equation 5 is the critics' loss (here without its factor 1/2, and summed over the critics),
  equation 7 the actor's, with the minimum of the critics' values in both; appendix C has the
  density of a squashed Gaussian.
- The temperature minimises -log(alpha) (log pi + target), as in Stable-Baselines3, unlike
  equation 18, which has alpha for log(alpha). Critics, actor and the metric `alpha` use the
  alpha before that step, and log pi is that of the actor before its step. It steps with the actor.
- CrossQ (Bhatt et al. 2024, arXiv 1902.05605): (s, a) and (s', a') pass through the critics in one
  batch; the actor's step uses the running statistics after the critics' step; an actor step is
  due if the number of updates, including this one, is a multiple of the delay. Batch
  renormalisation is algorithm 1 of Ioffe 2017, active after its number of warm-up updates.
  The authors' code also normalises inside the actor; SAC's actor here does not.
"""

from recording import (
    ACT,
    ACTOR_UPDATES,
    BATCH,
    UPDATES,
    actor_due,
    baseline_cases,
    descend,
    draw_adam,
    draw_obs_norm,
    draw_params,
    named,
    observe,
    record_cases,
    seen,
    sub,
)
from recording_critics import clear_smallest, draw_critics, update_critics, value_of
from recording_policies import (
    alpha_of,
    clear_clamp,
    draw_temperature,
    gaussian_shapes,
    sample,
    step_temperature,
)

# --- Drawing a state and noise --------------------------------------------------------------------


def draw_state(rng, name, c):
    shapes, e = gaussian_shapes(c["actor"]), c["temperature"]
    actor = draw_params(rng, shapes)
    if name == "sac-clamped":
        actor["log_std.bias"][:2] = [6.0, -24.0]
    state = named("actor", actor) | draw_adam(rng, "actor_adam", shapes, ACTOR_UPDATES)
    state |= draw_critics(rng, c["critic"], UPDATES)
    state |= draw_temperature(rng, 0.3 if e["automatic"] else e["alpha"])
    # After 4,000 minibatches the next has the smallest weight.
    return state | draw_obs_norm(rng, c["actor"], 4000)


def draw_noise(rng, c, state):
    noise = {"next": rng.normal(size=(BATCH, ACT))}
    if actor_due(c, state):
        noise["actor"] = rng.normal(size=(BATCH, ACT))
    return noise


# --- The update -----------------------------------------------------------------------------------


def update_actor(c, state, batch, noise):
    """Steps of actor and temperature; `state` has the updated critics. (new entries, metrics)"""
    a, k, e = c["actor"], c["critic"], c["temperature"]
    value, alpha, obs = value_of(k, state), alpha_of(state), seen(a, state, batch["obs"])

    def loss(p):
        action, log_prob, log_std = sample(a, p, obs, noise["actor"])
        return (alpha * log_prob - value(batch["obs"], action)).mean(), (action, log_prob, log_std)

    new, loss_now, (action, log_prob, log_std), grad_norm = descend(
        state, "actor", gaussian_shapes(a), a, loss
    )
    clear_clamp(log_std)
    clear_smallest(k, state, batch["obs"], action)
    entropy = -log_prob.mean()
    if e["automatic"]:
        new |= step_temperature(state, e["learning_rate"], entropy - e["target_per_dim"] * ACT)
    metrics = {"actor_loss": loss_now, "entropy": entropy, "alpha": alpha, "grad_norm": grad_norm}
    return new, metrics


def update(c, state, batch, noise):
    observed = observe(c["actor"], state, batch["obs"])
    state |= observed
    next_obs = seen(c["actor"], state, batch["next_obs"])
    next_action, log_prob, log_std = sample(
        c["actor"], sub(state, "actor"), next_obs, noise["next"]
    )
    clear_clamp(log_std)
    bonus = -alpha_of(state) * log_prob if c["temperature"]["in_target"] else 0.0
    new, metrics = update_critics(c["critic"], state, batch, next_action, bonus)
    new |= observed
    if actor_due(c, state):
        actor, actor_metrics = update_actor(c, state | new, batch, noise)
        return new | actor, metrics | actor_metrics
    return new, metrics


if __name__ == "__main__":
    record_cases(baseline_cases("sac"), draw_state, draw_noise, update)
