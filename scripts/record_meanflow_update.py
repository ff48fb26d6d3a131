#!/usr/bin/env python3
"""Records single updates of MeanFlow Q-learning, computed with JAX, for
`crates/baselines/tests/recorded.rs`.

    third_party/venv-jax/bin/python scripts/record_meanflow_update.py                    # every case
    third_party/venv-jax/bin/python scripts/record_meanflow_update.py meanflow-default   # one case

(recording.py says how to create the environment.) Reads
crates/baselines/tests/fixtures/meanflow.toml and writes a meanflow-<case>.safetensors next to it for
every case: `before.*` and `after.*` (the agent's state), `batch.*`, `noise.*`, `metrics.*`.

This is an independent implementation (see recording.py) of docs/baselines.md, meanflow. The target
is MeanFlow's identity (arXiv 2505.13447, equation 6: u = v - t du/dt at r = 0), with the derivative
along (dx, dt) = (v, 1) by `jax.jvp`, of the map g and not of u. The critics step first; then S, and
the actor with it.
"""

import jax
import jax.numpy as jnp
import numpy as np
from recording import (
    ACT,
    ACTOR_UPDATES,
    BATCH,
    OBS,
    UPDATES,
    actor_due,
    baseline_cases,
    clear,
    descend,
    draw_adam,
    draw_obs_norm,
    draw_params,
    linear,
    linear_shapes,
    named,
    observe,
    record_cases,
    relu,
    seen,
    sub,
    trunk,
    trunk_shapes,
)
from recording_critics import (
    clear_smallest,
    draw_critics,
    target_value_of,
    update_critics,
    value_of,
)
from recording_policies import best_of, embed, scale_of, scale_sums


def actor_shapes(c):
    a = c["actor"]
    shapes = trunk_shapes(a, "trunk", OBS + ACT + 2 * c["flow"]["frequencies"])
    return shapes + linear_shapes("velocity", a["width"], ACT)


def one_step_map(c, p, obs, x, t):
    """g(s, x, t) = x - u(s, x, t), from what the policy sees of s."""
    inputs = jnp.concatenate([obs, x, embed(c["flow"]["frequencies"], t)], axis=1)
    return x - linear(p, "velocity", trunk(c["actor"], p, "trunk", inputs))


def actions(c, p, obs, z):
    """g(s, z, 1), before clipping."""
    return one_step_map(c, p, obs, z, jnp.ones((len(z), 1)))


# --- Drawing a state and noise --------------------------------------------------------------------


def draw_state(rng, name, c):
    shapes = actor_shapes(c)
    state = named("actor", draw_params(rng, shapes))
    state |= draw_adam(rng, "actor_adam", shapes, ACTOR_UPDATES)
    state |= draw_critics(rng, c["critic"], UPDATES)
    # Weighted sum and sum of weights of a bias-corrected average: 0.8.
    state["q_scale"] = np.array([0.4, 0.5])
    return state | draw_obs_norm(rng, c["actor"], 570)


def draw_noise(rng, c, state):
    noise = {"next": rng.normal(size=(BATCH * c["candidates"]["target"], ACT))}
    if actor_due(c, state):
        noise |= {
            "z": rng.normal(size=(BATCH, ACT)),
            "e": rng.normal(size=(BATCH, ACT)),
            "t": rng.uniform(size=(BATCH, 1)),
        }
    return noise


# --- The update -----------------------------------------------------------------------------------


def regression(c, state, batch, noise):
    """L_flow as a function of the policy's parameters."""
    flow, b, e, t = c["flow"], batch["action"], noise["e"], noise["t"]
    obs, frozen = seen(c["actor"], state, batch["obs"]), sub(state, "actor")
    x, v = (1 - t) * b + t * e, e - b
    # g = x - u, so that du/dt = v - dg/dt along the path.
    _, along = jax.jvp(
        lambda x, t: one_step_map(c, frozen, obs, x, t), (x, t), (v, jnp.ones_like(t))
    )
    target = x - (v - t * (v - along))
    beyond = jnp.abs(target) > flow["target_clip"]
    assert not beyond.all(), "the case clips every target"
    if flow["target_clip"] <= 1.0:
        assert beyond.any(), "the case does not test the target's clipping"
    target = jnp.clip(target, -flow["target_clip"], flow["target_clip"])

    def loss(p):
        error = ((one_step_map(c, p, obs, x, t) - target) ** 2).mean(axis=1)
        weight = 1 / (error + flow["adaptive_constant"]) ** flow["adaptive_power"]
        return (jax.lax.stop_gradient(weight) * error).mean()

    return loss


def update_actor(c, state, batch, noise):
    """Steps of S and the actor; `state` has the updated critics. (new entries, metrics)"""
    a, k, o = c["actor"], c["critic"], c["objective"]
    value, obs = value_of(k, state), seen(a, state, batch["obs"])
    raw = actions(c, sub(state, "actor"), obs, noise["z"])
    clear("whether an action is clipped", jnp.abs(jnp.abs(raw) - 1))
    action = jnp.clip(raw, -1, 1)
    assert (raw != action).any(), "the case does not test the bounds"
    sums = scale_sums(o, state["q_scale"], value, batch, value(batch["obs"], action))
    scale, flow = scale_of(o, sums), regression(c, state, batch, noise)

    def loss(p):
        raw = actions(c, p, obs, noise["z"])
        q, regressed = value(batch["obs"], jnp.clip(raw, -1, 1)), flow(p)
        bound = c["flow"]["bound_penalty"] * relu(jnp.abs(raw) - 1).mean()
        return -(q / scale).mean() + bound + o["lambda"] * regressed, regressed

    new, loss_now, regressed, grad_norm = descend(state, "actor", actor_shapes(c), a, loss)
    clear_smallest(k, state, batch["obs"], action)
    metrics = {"actor_loss": loss_now, "mirror_loss": regressed, "grad_norm": grad_norm}
    return new | {"q_scale": sums}, metrics


def update(c, state, batch, noise):
    observed = observe(c["actor"], state, batch["obs"])
    state |= observed
    count, k = c["candidates"]["target"], c["critic"]
    obs = jnp.repeat(seen(c["actor"], state, batch["next_obs"]), count, axis=0)
    proposals = jnp.clip(actions(c, sub(state, "actor"), obs, noise["next"]), -1, 1)
    values = target_value_of(k, state)(jnp.repeat(batch["next_obs"], count, axis=0), proposals)
    new, metrics = update_critics(k, state, batch, proposals[best_of(values, count)])
    new |= observed
    if actor_due(c, state):
        actor, actor_metrics = update_actor(c, state | new, batch, noise)
        return new | actor, metrics | actor_metrics
    return new, metrics


if __name__ == "__main__":
    record_cases(baseline_cases("meanflow"), draw_state, draw_noise, update)
