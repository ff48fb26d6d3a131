#!/usr/bin/env python3
"""Records single updates of FlowRL, computed with JAX, for `crates/baselines/tests/recorded.rs`.

    third_party/venv-jax/bin/python scripts/record_flowrl_update.py                # every case
    third_party/venv-jax/bin/python scripts/record_flowrl_update.py flowrl-steps   # one case

(recording.py says how to create the environment.) Reads
crates/baselines/tests/fixtures/flowrl.toml and writes a flowrl-<case>.safetensors next to it for
every case: `before.*` and `after.*` (the agent's state), `batch.*`, `noise.*`, `metrics.*`.

This is an independent implementation (see recording.py) of arXiv 2506.12811, section 4. Order: the
critics step first, then V_b on the targets of Q_b, then Q_b on V_b as it was before its step, then
the actor with the critics after their steps. The state values are an expectile regression
(Kostrikov et al. 2022, equation 5).
"""

import jax
import jax.numpy as jnp
from recording import (
    ACT,
    ACTIVATIONS,
    ACTOR_UPDATES,
    BATCH,
    LAYER_NORM_EPSILON,
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
    seen,
    sub,
)
from recording_critics import (
    clear_smallest,
    draw_critics,
    target_value_of,
    update_critics,
    value_of,
)

WEIGHT_RANGE = (1e-3, 1.0)
TANH_MARGIN = 1e-3


def net_shapes(inputs, width, depth, head, outputs):
    shapes = []
    for i in range(depth):
        shapes += linear_shapes(f"trunk.{i}", inputs if i == 0 else width, width)
        shapes += [(f"trunk.norm_{i}.weight", (width,)), (f"trunk.norm_{i}.bias", (width,))]
    return shapes + linear_shapes(head, width, outputs)


def net(p, head, x, depth, activation):
    for i in range(depth):
        x = linear(p, f"trunk.{i}", x)
        x = x - x.mean(axis=1, keepdims=True)
        x = x / jnp.sqrt((x**2).mean(axis=1, keepdims=True) + LAYER_NORM_EPSILON)
        x = x * p[f"trunk.norm_{i}.weight"] + p[f"trunk.norm_{i}.bias"]
        x = ACTIVATIONS[activation](x)
    return linear(p, head, x)


def actor_shapes(a):
    return net_shapes(OBS + ACT + 1, a["width"], a["depth"], "velocity", ACT)


def value_shapes(k):
    return net_shapes(OBS, k["width"], k["depth"], "value", 1)


def velocity(a, p, obs, x, t):
    h = jnp.concatenate([obs, x, jnp.broadcast_to(t, (len(x), 1))], axis=1)
    return net(p, "velocity", h, a["depth"], a["activation"])


def integrate(c, p, obs, noise):
    steps, x = c["flow"]["steps"], jnp.clip(noise, -1, 1)
    for i in range(steps):
        first = velocity(c["actor"], p, obs, x, i / steps)
        x = x + velocity(c["actor"], p, obs, x + first / (2 * steps), (i + 0.5) / steps) / steps
    return jnp.tanh(x)


def k_of_replay(c):
    return c["critic"] | c["replay_critic"] | {"kind": "layernorm"}


def state_value(k, p, obs):
    return net(p, "value", obs, k["depth"], "relu")[:, 0]


def of_replay(state):
    """The state of Q_b under the names of critics."""
    return {
        key.removeprefix("replay_"): value
        for key, value in state.items()
        if key.startswith("replay_critic")
    }


def to_replay(entries):
    return {f"replay_{key}": value for key, value in entries.items()}


def draw_state(rng, name, c):
    a, k = c["actor"], c["critic"]
    state = named("actor", draw_params(rng, actor_shapes(a)))
    state |= draw_adam(rng, "actor_adam", actor_shapes(a), ACTOR_UPDATES)
    state |= draw_critics(rng, k, UPDATES)
    state |= to_replay(draw_critics(rng, k_of_replay(c), UPDATES))
    state |= named("replay_value", draw_params(rng, value_shapes(k)))
    state |= draw_adam(rng, "replay_value_adam", value_shapes(k), UPDATES)
    return state | draw_obs_norm(rng, a, 4000)


def draw_noise(rng, c, state):
    shape = (BATCH, ACT)
    noise = {"next": rng.normal(size=shape)}
    if actor_due(c, state):
        noise["start"] = rng.normal(size=shape)
        noise["flow_start"] = rng.normal(size=shape)
        noise["t"] = rng.uniform(size=(BATCH, 1))
    return noise


def update_replay_values(c, state, batch, next_action):
    k, k_b, value = c["critic"], k_of_replay(c), sub(state, "replay_value")
    q = target_value_of(k_b, of_replay(state))(batch["obs"], batch["action"])
    gap = q - state_value(k, value, batch["obs"])
    clear("the side of the expectile", jnp.abs(gap))
    assert (gap > 0).any() and (gap < 0).any(), "the case does not test the expectile"

    def loss(p):
        error = q - state_value(k, p, batch["obs"])
        return (jnp.abs(c["flow"]["expectile"] - (error < 0)) * error**2).mean(), None

    new, value_loss, _, _ = descend(state, "replay_value", value_shapes(k), k, loss)
    # (Critics bootstrap from critics: what is to be regressed to is a last reward.)
    next_value = state_value(k, value, batch["next_obs"])
    y = batch["reward"] + k["gamma"] * (1 - batch["terminated"]) * next_value
    last = batch | {"reward": y, "terminated": jnp.ones(BATCH)}
    stepped, metrics = update_critics(k_b, of_replay(state), last, next_action)
    return new | to_replay(stepped), {
        "replay_value_loss": value_loss,
        "replay_critic_loss": metrics["critic_loss"],
        "replay_q_mean": metrics["q_mean"],
    }


def update_actor(c, state, batch, noise):
    a, k, flow = c["actor"], c["critic"], c["flow"]
    value = value_of(k, state)
    of_replays = value_of(k_of_replay(c), of_replay(state))(batch["obs"], batch["action"])
    obs = seen(a, state, batch["obs"])
    b = batch["action"]
    if flow["unsquash"]:
        b = jnp.arctanh(jnp.clip(b, -1 + TANH_MARGIN, 1 - TANH_MARGIN))
    x0, t = jnp.clip(noise["flow_start"], -1, 1), noise["t"]

    def loss(p):
        action = integrate(c, p, obs, noise["start"])
        q = value(batch["obs"], action)
        better = jnp.maximum(of_replays - q, 0.0)
        w = jnp.clip(flow["weight"] * jnp.exp(better - better.mean()), *WEIGHT_RANGE)
        w = jax.lax.stop_gradient(w)
        error = velocity(a, p, obs, t * b + (1 - t) * x0, t) - (b - x0)
        each = (error**2).mean(axis=1)
        regression = (w * each).mean() if flow["weight_each"] else w.mean() * each.mean()
        return (-q).mean() + regression, (regression, w.mean(), action)

    new, loss_now, (regression, w, action), grad_norm = descend(
        state, "actor", actor_shapes(a), a, loss
    )
    clear_smallest(k, state, batch["obs"], action)
    return new, {
        "actor_loss": loss_now,
        "flow_loss": regression,
        "flow_weight": w,
        "grad_norm": grad_norm,
    }


def update(c, state, batch, noise):
    k = c["critic"]
    new = observe(c["actor"], state, batch["obs"])
    state = state | new
    next_obs = seen(c["actor"], state, batch["next_obs"])
    next_action = integrate(c, sub(state, "actor"), next_obs, noise["next"])
    stepped, metrics = update_critics(k, state, batch, next_action)
    new |= stepped
    stepped, replay_metrics = update_replay_values(c, state, batch, next_action)
    new, metrics = new | stepped, metrics | replay_metrics
    if actor_due(c, state):
        actor, actor_metrics = update_actor(c, state | new, batch, noise)
        return new | actor, metrics | actor_metrics
    return new, metrics


if __name__ == "__main__":
    record_cases(baseline_cases("flowrl"), draw_state, draw_noise, update)
