#!/usr/bin/env python3
"""Records single updates of MDPO, computed with JAX, for `crates/baselines/tests/recorded.rs`.

    third_party/venv-jax/bin/python scripts/record_mdpo_update.py                # every case
    third_party/venv-jax/bin/python scripts/record_mdpo_update.py mdpo-default   # one case

(recording.py says how to create the environment.) Reads crates/baselines/tests/fixtures/mdpo.toml
and writes an mdpo-<case>.safetensors next to it for every case: `before.*` and `after.*` (the agent's
state), `batch.*`, `noise.*`, `metrics.*`.

This is an independent implementation (see recording.py) of docs/baselines.md, mdpo, whose objective,
scale S and choice of actions are those of docs/algorithm.md, sections 3 and 4, and whose policy and
temperature are SAC's. The critics step first, with S as it was; then S, the actor, the temperature
and the lagged policy, in this order. The divergence of two squashed Gaussians is that of the
Gaussians (Kullback and Leibler: a bijection changes none), here by its definition as the difference
of cross-entropy and entropy.
"""

import jax.numpy as jnp
import numpy as np
from recording import (
    ACT,
    ACTOR_UPDATES,
    BATCH,
    UPDATES,
    actor_due,
    baseline_cases,
    descend,
    draw_adam,
    draw_behind,
    draw_obs_norm,
    draw_params,
    follow,
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
    draw_by_advantage,
    draw_temperature,
    gaussian,
    gaussian_shapes,
    rows_of_share,
    sample,
    scale_of,
    scale_sums,
    squashed_density,
    step_temperature,
)

# --- Drawing a state and noise --------------------------------------------------------------------


def draw_state(rng, name, c):
    shapes, e = gaussian_shapes(c["actor"]), c["temperature"]
    actor = draw_params(rng, shapes)
    # Deviations near 1: likelihoods of actions far from a narrow Gaussian lose digits in float32.
    actor["log_std.weight"] *= 0.2
    actor["log_std.bias"] += [4.2, 2.0, 1.5]  # the first is partly beyond the range
    state = named("actor", actor) | named("actor_lagged", draw_behind(rng, actor))
    state |= draw_adam(rng, "actor_adam", shapes, ACTOR_UPDATES)
    state |= draw_critics(rng, c["critic"], UPDATES)
    state |= draw_temperature(rng, 0.3 if e["automatic"] else e["alpha"])
    # Weighted sum and sum of weights of a bias-corrected average: 0.8.
    state["q_scale"] = np.array([0.4, 0.5])
    state["actor_updates"] = np.int64(ACTOR_UPDATES)
    return state | draw_obs_norm(rng, c["actor"], 570)


def draw_noise(rng, c, state):
    noise = {"next": rng.normal(size=(BATCH, ACT))}
    if actor_due(c, state):
        rows = rows_of_share(c["mirror"]["batch_share"])
        noise |= {
            "action": rng.normal(size=(BATCH, ACT)),
            "candidates": rng.normal(size=(rows * c["mirror"]["candidates"], ACT)),
            "choice": rng.uniform(size=(rows, 1)),
        }
    return noise


# --- The update -----------------------------------------------------------------------------------


def divergence(new, old):
    """KL of Gaussians given as (mean, deviation), per row."""
    (mean, std), (old_mean, old_std) = new, old
    cross = jnp.log(old_std) + (std**2 + (mean - old_mean) ** 2) / (2 * old_std**2)
    return (cross - (jnp.log(std) + 0.5)).sum(axis=1)


def mirror_term(c, state, value, batch, noise):
    """L_mirror as a function of the policy's parameters."""
    a, m, lagged = c["actor"], c["mirror"], sub(state, "actor_lagged")
    rows, k = rows_of_share(m["batch_share"]), m["candidates"]
    raw = batch["obs"][:rows]
    obs = seen(a, state, raw)
    if m["kind"] == "kl":
        old = gaussian(a, lagged, obs)[:2]
        return lambda p: divergence(gaussian(a, p, obs)[:2], old).mean()
    mean, std, _ = gaussian(a, lagged, jnp.repeat(obs, k, axis=0))
    u = mean + std * noise["candidates"]
    q = value(jnp.repeat(raw, k, axis=0), jnp.tanh(u)).reshape(rows, k)
    at = draw_by_advantage(q, m["temperature"], noise["choice"])
    u = u.reshape(rows, k, ACT)[jnp.arange(rows), at]
    return lambda p: -squashed_density(u, *gaussian(a, p, obs)[:2]).mean()


def update_actor(c, state, batch, noise):
    """Steps of S, actor, temperature, lagged policy; `state` has the updated critics.
    (new entries, metrics)"""
    a, k, e, o, m = (c[x] for x in ("actor", "critic", "temperature", "objective", "mirror"))
    value, alpha, obs = value_of(k, state), alpha_of(state), seen(a, state, batch["obs"])
    mirror = mirror_term(c, state, value, batch, noise)
    action, _, _ = sample(a, sub(state, "actor"), obs, noise["action"])
    q = value(batch["obs"], action)
    sums = scale_sums(o, state["q_scale"], value, batch, q)
    scale = scale_of(o, sums)

    def loss(p):
        action, log_prob, log_std = sample(a, p, obs, noise["action"])
        pathwise = (alpha * log_prob - value(batch["obs"], action) / scale).mean()
        mirrored = mirror(p)
        return pathwise + o["lambda"] * mirrored, (mirrored, log_prob, log_std)

    new, loss_now, (mirrored, log_prob, log_std), grad_norm = descend(
        state, "actor", gaussian_shapes(a), a, loss
    )
    clear_clamp(log_std)
    clear_smallest(k, state, batch["obs"], action)
    entropy = -log_prob.mean()
    if e["automatic"]:
        new |= step_temperature(state, e["learning_rate"], entropy - e["target_per_dim"] * ACT)
    made = ACTOR_UPDATES + 1
    if made % m["policy_interval"] == 0:
        lagged = follow(sub(state, "actor_lagged"), sub(new, "actor"), m["policy_tau"])
        new |= named("actor_lagged", lagged)
    return new | {"q_scale": sums, "actor_updates": np.int64(made)}, {
        "actor_loss": loss_now,
        "mirror_loss": mirrored,
        "entropy": entropy,
        "alpha": alpha,
        "grad_norm": grad_norm,
    }


def update(c, state, batch, noise):
    observed = observe(c["actor"], state, batch["obs"])
    state |= observed
    next_obs = seen(c["actor"], state, batch["next_obs"])
    next_action, log_prob, _ = sample(c["actor"], sub(state, "actor"), next_obs, noise["next"])
    weight = alpha_of(state) * scale_of(c["objective"], state["q_scale"])
    bonus = -weight * log_prob if c["temperature"]["in_target"] else 0.0
    new, metrics = update_critics(c["critic"], state, batch, next_action, bonus)
    new |= observed
    if actor_due(c, state):
        actor, actor_metrics = update_actor(c, state | new, batch, noise)
        return new | actor, metrics | actor_metrics
    return new, metrics


if __name__ == "__main__":
    record_cases(baseline_cases("mdpo"), draw_state, draw_noise, update)
