#!/usr/bin/env python3
"""Records single updates of TD3, computed with JAX, for `crates/baselines/tests/recorded.rs`.

    third_party/venv-jax/bin/python scripts/record_td3_update.py               # every case
    third_party/venv-jax/bin/python scripts/record_td3_update.py td3-mlp       # one case

(recording.py says how to create the environment.) Reads crates/baselines/tests/fixtures/td3.toml
and writes a td3-<case>.safetensors next to it for every case: `before.*` and `after.*` (the agent's
state), `batch.*`, `noise.next`, `metrics.*`.

This is an independent implementation (see recording.py) of Fujimoto et al. 2018 (arXiv
1802.09477), algorithm 1; what the paper leaves open is as in the authors' code and
Stable-Baselines3. In detail:

- The actor is deterministic: pi(s) = tanh(mean(trunk(s))), with layers `trunk.0`, `trunk.1`, ...
  and `mean`, each with `weight` (outputs, inputs) and `bias`; the activation follows every layer of
  the trunk. Adam's flat moments have the same order.
- The state is `actor.*`, `actor_target.*`, `actor_adam.{mean,square,steps}`, `critic.*`,
  `critic_target.*`, `critic_adam.{mean,square,steps}` and `critic_updates`.
- Target: a' = clip(pi'(s') + clip(sigma eps, -c, c), -1, 1) with the target actor pi',
  sigma = `noise.target`, c = `noise.target_clip` and eps = the tensor `noise.next`, standard
  normal (B, act); y = r + gamma (1 - terminated) min_i Q'_i(s', a') with the target critics.
  No entropy.
- Critics: one Adam step on sum_i mean (Q_i(s, a) - y)^2, without a factor 1/2.
- Actor: its step is due if the number of critic updates, including this one, is a multiple of
  `actor.update_every`. It is one Adam step on -mean Q_0(s, pi(s)): the first critic, not the
  minimum, with its parameters after this update's step.
- Targets of critics and actor make a Polyak step at the rate `critic.tau` only after an actor
  step, towards the updated networks. In other updates targets do not change.
- CrossQ's critics (`critic.kind = "crossq"`) have no targets, and the actor then has none either,
  as in the TD3 mode of CrossQ's code (Bhatt et al. 2024): pi' is pi. The state has
  `critic_stats.*` instead of `actor_target.*` and `critic_target.*`; the actor's step uses the
  first critic with the running statistics after the critics' step.
- Metrics: `critic_loss` (the sum above) and `q_mean` (over all critics and rows, before the step);
  if the actor's step is due, also `actor_loss` and `grad_norm` (of the actor's gradient).
"""

import jax.numpy as jnp
from recording import (
    ACT,
    BATCH,
    OBS,
    UPDATES,
    actor_due,
    baseline_cases,
    descend,
    draw_adam,
    draw_behind,
    draw_params,
    follow,
    linear,
    linear_shapes,
    named,
    record_cases,
    sub,
    trunk,
    trunk_shapes,
)
from recording_critics import critics, draw_critics, step_critics, track_critics


def has_targets(c):
    return c["critic"]["kind"] != "crossq"


def actor_shapes(a):
    return trunk_shapes(a, "trunk", OBS) + linear_shapes("mean", a["width"], ACT)


# --- Drawing a state and noise --------------------------------------------------------------------


def draw_state(rng, name, c):
    shapes = actor_shapes(c["actor"])
    actor = draw_params(rng, shapes)
    # Some actions must be near a bound, so that smoothing crosses it.
    actor["mean.bias"][:2] = [1.5, -1.5]
    state = named("actor", actor)
    if has_targets(c):
        state |= named("actor_target", draw_behind(rng, actor))
    state |= draw_adam(rng, "actor_adam", shapes, 56)
    return state | draw_critics(rng, c["critic"], UPDATES)


def draw_noise(rng, c, state):
    eps = rng.normal(size=(BATCH, ACT))
    # Beyond the bound on both sides.
    eps[0, 2], eps[3, 2] = 3.0, -3.5
    return {"next": eps}


# --- The update -----------------------------------------------------------------------------------


def policy(c, p, obs):
    return jnp.tanh(linear(p, "mean", trunk(c["actor"], p, "trunk", obs)))


def smoothed(c, p, obs, eps):
    """The target policy's actions with clipped noise."""
    bound = c["noise"]["target_clip"]
    noise = c["noise"]["target"] * eps
    action = policy(c, p, obs) + jnp.clip(noise, -bound, bound)
    for beyond in (jnp.abs(noise) > bound, jnp.abs(action) > 1):
        assert beyond.any() and not beyond.all(), "the case does not test the bounds"
    return jnp.clip(action, -1, 1)


def update(c, state, batch, noise):
    """(changed entries of the state, metrics)"""
    a, k = c["actor"], c["critic"]
    actor_target = sub(state, "actor_target" if has_targets(c) else "actor")
    next_action = smoothed(c, actor_target, batch["next_obs"], noise["next"])
    new, metrics = step_critics(k, state, batch, next_action, 0.0)
    if not actor_due(c, state):
        return new, metrics

    critic, stats = sub(new, "critic"), sub(state | new, "critic_stats")

    def loss(p):
        q, _ = critics(k, critic, stats, batch["obs"], policy(c, p, batch["obs"]))
        return -q[0].mean(), None

    stepped, value, _, grad_norm = descend(state, "actor", actor_shapes(a), a, loss)
    new |= stepped
    if has_targets(c):
        new |= named("actor_target", follow(actor_target, sub(new, "actor"), k["tau"]))
        new |= track_critics(k, state | new)
    return new, metrics | {"actor_loss": value, "grad_norm": grad_norm}


if __name__ == "__main__":
    record_cases(baseline_cases("td3"), draw_state, draw_noise, update)
