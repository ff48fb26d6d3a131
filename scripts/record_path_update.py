#!/usr/bin/env python3
"""Records single updates of the algorithms whose policy draws an action in several steps, computed
with JAX, for `crates/baselines/tests/recorded.rs`: SAC Flow-G and -T, and
DIME.

    third_party/venv-jax/bin/python scripts/record_path_update.py                      # every case
    third_party/venv-jax/bin/python scripts/record_path_update.py sac-flow-g-default   # some cases

(recording.py says how to create the environment.) Reads
crates/baselines/tests/fixtures/<algorithm>.toml and writes <algorithm>-<case>.safetensors next to
it: `before.*` and `after.*` (the agent's state), `batch.*`, `noise.*`, `metrics.*`.

This is an independent implementation (see recording.py) of two papers: SAC on the log density of
a path x_0, .., x_K (SAC Flow, arXiv 2509.25756, section 4), or on a lower bound of the entropy
(DIME, arXiv 2502.02316, sections 4 and 5). Here both are computed from the states of the path, as
products of Gaussians.

- The critics step first; the actor's step uses the updated critics. The target uses the running
  statistics of the policy's batch normalisation, the actor's step those of the batch, which move
  with every step of the path.
- The temperature minimises log(alpha) (E[-log p] - target), with the log p of the actor before
  its step.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
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
    critic_outputs,
    critic_shapes,
    draw_critics,
    normalise,
    update_critics,
    value_of,
)
from recording_policies import alpha_of, draw_temperature, step_temperature

LOG_STD_RANGE = (-5.0, 2.0)


def net_shapes(name, inputs, width, depth, outputs):
    """Hidden layers, then the output layer `<name>.out`."""
    shapes = []
    for i in range(depth):
        shapes += linear_shapes(f"{name}.{i}", inputs if i == 0 else width, width)
    return shapes + linear_shapes(f"{name}.out", width, outputs)


def net(p, name, x, depth, activation):
    for i in range(depth):
        x = ACTIVATIONS[activation](linear(p, f"{name}.{i}", x))
    return linear(p, f"{name}.out", x)


def norm_layer_shapes(name, features):
    """Shapes of the parameters and of the running statistics of a batch normalisation."""
    params = [(f"{name}.weight", (features,)), (f"{name}.bias", (features,))]
    return params, [(f"{name}.mean", (features,)), (f"{name}.var", (features,))]


def squashed(x, log_density):
    """tanh x, and the log density of a path that ends there."""
    return jnp.tanh(x), log_density - jnp.log(1 - jnp.tanh(x) ** 2).sum(axis=1)


def log_std_of(x):
    low, high = LOG_STD_RANGE
    return low + 0.5 * (high - low) * (jnp.tanh(x) + 1)


# --- SAC Flow-G -----------------------------------------------------------------------------------

TIME = 32


class FlowG:
    def shapes(c):
        a = c["actor"]
        params, stats = norm_layer_shapes("norm_in", OBS + ACT)
        if not c["flow"]["batch_norm"]:
            params, stats = [], []
        params += net_shapes("time", TIME, 2 * TIME, 1, TIME)
        for head in ("gate", "candidate"):
            params += net_shapes(head, OBS + ACT + TIME, a["width"], a["depth"], ACT)
        return params + net_shapes("std", OBS, a["width"], 2, ACT), stats

    def steps(c):
        return c["flow"]["steps"]

    def mode(c, critic_updates):
        return "renorm" if critic_updates > c["flow"]["renorm_warmup"] else "batch"

    def draw(c, p, stats, obs, noise, mode):
        """Actions, log densities of their paths, moved statistics."""
        a, flow = c["actor"], c["flow"]
        k, stats = flow["steps"], dict(stats)
        std = jnp.exp(log_std_of(net(p, "std", obs, 2, "relu")))
        half = TIME // 2
        rates = jnp.array([10_000.0 ** (-i / (half - 1)) for i in range(half)])
        x = noise[0]
        log_density = norm.logpdf(x).sum(axis=1)
        for step in range(k):
            t = step / k
            e = jnp.concatenate([jnp.sin(t * rates), jnp.cos(t * rates)])
            e = net(p, "time", e[None], 1, "swish")
            h = jnp.concatenate([obs, x], axis=1)
            if flow["batch_norm"]:
                h, moved = normalise(flow, p, stats, "norm_in", h, mode)
                stats |= moved
            h = jnp.concatenate([h, jnp.repeat(e, len(x), axis=0)], axis=1)
            z = 1 / (1 + jnp.exp(-net(p, "gate", h, a["depth"], a["activation"])))
            u = z * (net(p, "candidate", h, a["depth"], a["activation"]) - x)
            mean = x + u / k
            x = mean + std * noise[step + 1]
            log_density += norm.logpdf(x, mean, std).sum(axis=1)
        return *squashed(x, log_density), stats


# --- SAC Flow-T -----------------------------------------------------------------------------------


def layer_norm(p, name, x):
    x = x - x.mean(axis=1, keepdims=True)
    x = x / jnp.sqrt((x**2).mean(axis=1, keepdims=True) + LAYER_NORM_EPSILON)
    return x * p[f"{name}.weight"] + p[f"{name}.bias"]


class FlowT:
    """Attention to one token as its value and output projections: its softmax is 1."""

    def shapes(c):
        width, flow = c["actor"]["width"], c["flow"]
        shapes, stats = [], []

        def batch_norm(name, features):
            own, running = norm_layer_shapes(name, features)
            shapes.extend(own)
            stats.extend(running if flow["batch_norm"] else [])

        if flow["batch_norm"]:
            batch_norm("norm_obs", OBS)
            for k in range(flow["steps"]):
                batch_norm(f"norm_x{k}", ACT)
        half, quarter = width // 2, width // 4
        shapes.extend(net_shapes("memory", OBS, half, 1, width))
        shapes.extend(linear_shapes("action", ACT, width))
        for i, (inputs, outputs) in enumerate([(1, quarter), (quarter, half), (half, width)]):
            shapes.extend(linear_shapes(f"time.{i}", inputs, outputs))
        for i in range(c["actor"]["depth"]):
            for part in ("self.value", "self.out", "cross.value", "cross.out"):
                shapes.extend(linear_shapes(f"layer{i}.{part}", width, width))
            shapes.extend(net_shapes(f"layer{i}.inner", width, 4 * width, 1, width))
            for n in range(3):
                batch_norm(f"layer{i}.norm_{n}", width)
        for head in ("velocity", "std"):
            shapes.extend(linear_shapes(head, width, ACT))
        return shapes, stats

    def steps(c):
        return c["flow"]["steps"]

    def mode(c, critic_updates):
        return FlowG.mode(c, critic_updates)

    def draw(c, p, stats, obs, noise, mode):
        """Actions, log densities of their paths, moved statistics."""
        flow, silu, stats = c["flow"], ACTIVATIONS["swish"], dict(stats)
        count, batch_norm = flow["steps"], flow["batch_norm"]

        def normed(name, x, otherwise):
            if not batch_norm:
                return otherwise(x)
            y, moved = normalise(flow, p, stats, name, x, mode)
            stats.update(moved)
            return y

        def attention(name, token):
            return linear(p, f"{name}.out", linear(p, f"{name}.value", token))

        memory = net(p, "memory", normed("norm_obs", obs, lambda x: x), 1, "swish")
        x = noise[0]
        log_density = norm.logpdf(x).sum(axis=1)
        for k in range(count):
            t = jnp.full((1, 1), k / count)
            t = linear(p, "time.2", silu(linear(p, "time.1", silu(linear(p, "time.0", t)))))
            token = linear(p, "action", normed(f"norm_x{k}", x, lambda x: x)) + t
            for i in range(c["actor"]["depth"]):
                at = f"layer{i}"
                for n, part in enumerate(
                    [
                        lambda y: attention(f"{at}.self", y),
                        lambda y: attention(f"{at}.cross", memory),
                        lambda y: net(p, f"{at}.inner", y, 1, c["actor"]["activation"]),
                    ]
                ):
                    name = f"{at}.norm_{n}"
                    token = normed(name, token + part(token), lambda x: layer_norm(p, name, x))
            mean = x + linear(p, "velocity", token) / count
            std = jnp.exp(log_std_of(linear(p, "std", token))) / count
            x = mean + std * noise[k + 1]
            if c["density"]["exact"]:
                log_density += norm.logpdf(x, mean, std).sum(axis=1)
            else:
                log_density += norm.logpdf(noise[k + 1]).sum(axis=1)
        return *squashed(x, log_density), stats


# --- DIME -----------------------------------------------------------------------------------------

WAVES = 256


class Dime:
    def shapes(c):
        a = c["actor"]
        width = a["width"]
        shapes = [("delta", (1,)), ("phi", (ACT,)), ("phases", (WAVES,))]
        shapes += net_shapes("time", 2 * WAVES, width, 1, width)
        shapes += [("trunk.time.weight", (width, width))]
        return shapes + net_shapes("trunk", OBS + ACT, width, a["depth"], ACT), []

    def steps(c):
        return c["diffusion"]["steps"]

    def mode(c, critic_updates):
        return "running"

    def draw(c, p, stats, obs, noise, mode):
        """Actions, log ratios R of their paths, no statistics."""
        a, (count, s) = c["actor"], (c["diffusion"]["steps"], c["diffusion"]["prior_std"])
        x = s * noise[0]
        log_ratio = norm.logpdf(x, 0.0, s).sum(axis=1)
        rates = jnp.linspace(0.1, 100.0, WAVES)
        first = [jnp.concatenate([p["trunk.0.weight"], p["trunk.time.weight"]], axis=1)]
        whole = p | {"trunk.0.weight": first[0]}
        for n in range(count):
            t = (count - n) / count
            c_n = 0.999 * jnp.cos(math.pi / 2 * (1.008 - t) / 1.008) ** 2 + 0.001
            eta = jnp.logaddexp(p["delta"], 0.0) * c_n / jnp.logaddexp(p["phi"], 0.0)
            angles = rates * n + p["phases"]
            waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)])
            e = net(p, "time", waves[None], 1, a["activation"])
            h = jnp.concatenate([x, obs, jnp.repeat(e, len(x), axis=0)], axis=1)
            f = net(whole, "trunk", h, a["depth"], a["activation"])
            mean = x + eta * (f - x / s**2)
            std = jnp.sqrt(2 * eta)
            after = mean + std * noise[n + 1]
            log_ratio += norm.logpdf(after, mean, std).sum(axis=1)
            log_ratio -= norm.logpdf(x, after - eta * after / s**2, std).sum(axis=1)
            x = after
        return *squashed(x, log_ratio), stats


ALGORITHMS = {"sac-flow-g": FlowG, "sac-flow-t": FlowT, "dime": Dime}


# --- Drawing a state and noise --------------------------------------------------------------------


def draw_state(rng, name, c):
    shapes, stats = c["algorithm"].shapes(c)
    state = named("actor", draw_params(rng, shapes))
    state |= draw_adam(rng, "actor_adam", shapes, ACTOR_UPDATES)
    for key, shape in stats:
        mean = key.endswith("mean")
        state[f"actor_stats.{key}"] = (
            rng.normal(size=shape) * 0.3 if mean else rng.uniform(0.3, 1.5, shape)
        )
    state |= draw_critics(rng, c["critic"], UPDATES)
    e = c["temperature"]
    state |= draw_temperature(rng, 0.3 if e["automatic"] else e["alpha"])
    return state | draw_obs_norm(rng, c["actor"], 4000)


def draw_noise(rng, c, state):
    rows = lambda share: (c["algorithm"].steps(c) + 1, round(BATCH * share), ACT)
    noise = {"next": rng.normal(size=rows(1.0))}
    if actor_due(c, state):
        share = c.get("diffusion", {}).get("batch_share", 1.0)
        noise["actor"] = rng.normal(size=rows(share))
    return noise


# --- Critics that return distributions (DIME, section 5.2) -----------------------------------------


def distributional(c):
    return c.get("distribution", {}).get("on", False)


def atoms(c):
    d = c["distribution"]
    return jnp.linspace(-d["highest"], d["highest"], d["atoms"])


def step_distribution(c, state, batch, next_action, bonus):
    """One step on the cross-entropies to the average of the members' projected targets, less a
    share of the entropies. (new entries of the state, metrics)"""
    k, z, ends = c["critic"], atoms(c), c["distribution"]["highest"]
    obs = jnp.concatenate([batch["obs"], batch["next_obs"]])
    action = jnp.concatenate([batch["action"], next_action])
    column = lambda x: jnp.reshape(x, (-1, 1))
    y = column(batch["reward"]) + k["gamma"] * column(1 - batch["terminated"]) * (
        z + column(jnp.broadcast_to(bonus, BATCH))
    )
    beyond = jnp.abs(y) > ends
    assert beyond.any() and not beyond.all(), "the case does not test the ends"
    spacing = z[1] - z[0]
    distance = jnp.abs(jnp.clip(y, -ends, ends)[:, :, None] - z) / spacing
    project = lambda p: (p[:, :, None] * jnp.maximum(1 - distance, 0.0)).sum(axis=1)

    def loss(p):
        both, moved = critic_outputs(k, p, sub(state, "critic_stats"), obs, action, "batch")
        of_next = jax.nn.softmax(both[:, BATCH:])
        label = jax.lax.stop_gradient(sum(map(project, of_next)) / len(of_next))
        log_p = jax.nn.log_softmax(both[:, :BATCH])
        entropy = -(jnp.exp(log_p) * log_p).sum(axis=2)
        each = -(label * log_p).sum(axis=2) - c["distribution"]["entropy"] * entropy
        return each.mean(axis=1).sum(), ((jnp.exp(log_p) @ z).mean(), moved)

    shapes, _ = critic_shapes(k)
    new, value, (q_mean, moved), _ = descend(state, "critic", shapes, k, loss)
    new |= named("critic_stats", moved)
    new["critic_updates"] = np.int64(state["critic_updates"] + 1)
    return new, {"critic_loss": value, "q_mean": q_mean}


def value_for_actor(c, state):
    """The smallest of the members' values, or the mean of their distributions' means."""
    k, p, stats = c["critic"], sub(state, "critic"), sub(state, "critic_stats")
    if not distributional(c):
        return value_of(k, state)

    def value(obs, action):
        outputs, _ = critic_outputs(k, p, stats, obs, action)
        return (jax.nn.softmax(outputs) @ atoms(c)).mean(axis=0)

    return value


# --- The update -----------------------------------------------------------------------------------


def clipped(gradient, limit):
    """Every entry clipped to +- `limit`."""
    beyond = jnp.concatenate([jnp.ravel(jnp.abs(g) > limit) for g in gradient.values()])
    assert beyond.any() and not beyond.all(), "the case does not test clipping"
    return {name: jnp.clip(g, -limit, limit) for name, g in gradient.items()}


def step_values(c, state, batch, noise):
    """Step of the critics and their targets; (changed entries of the state, metrics)."""
    k, actor, stats = c["critic"], sub(state, "actor"), sub(state, "actor_stats")
    next_obs = seen(c["actor"], state, batch["next_obs"])
    action, log_p, _ = c["algorithm"].draw(c, actor, stats, next_obs, noise["next"], "running")
    bonus = -alpha_of(state) * log_p if c["temperature"]["in_target"] else 0.0
    if distributional(c):
        return step_distribution(c, state, batch, action, bonus)
    return update_critics(k, state, batch, action, bonus)


def update_actor(c, state, batch, noise):
    """Steps of actor and temperature; `state` has the updated critics. (new entries, metrics)"""
    a, e, algorithm = c["actor"], c["temperature"], c["algorithm"]
    stats, alpha, value = sub(state, "actor_stats"), alpha_of(state), value_for_actor(c, state)
    mode = algorithm.mode(c, int(state["critic_updates"]))
    raw = batch["obs"][: noise["actor"].shape[1]]
    obs = seen(a, state, raw)

    def loss(p):
        action, log_p, moved = algorithm.draw(c, p, stats, obs, noise["actor"], mode)
        return (alpha * log_p - value(raw, action)).mean(), (action, log_p, moved)

    limit = c.get("diffusion", {}).get("gradient_clip", math.inf)
    edit = (lambda g: clipped(g, limit)) if math.isfinite(limit) else lambda g: g
    shapes, _ = algorithm.shapes(c)
    new, loss_now, (action, log_p, moved), grad_norm = descend(state, "actor", shapes, a, loss, edit)
    if not distributional(c):
        clear_smallest(c["critic"], state, raw, action)
    new |= named("actor_stats", moved)
    entropy = -log_p.mean()
    if e["automatic"]:
        new |= step_temperature(state, e["learning_rate"], entropy - e["target_per_dim"] * ACT)
    metrics = {"actor_loss": loss_now, "entropy": entropy, "alpha": alpha, "grad_norm": grad_norm}
    return new, metrics


def update(c, state, batch, noise):
    observed = observe(c["actor"], state, batch["obs"])
    state |= observed
    new, metrics = step_values(c, state, batch, noise)
    new |= observed
    if actor_due(c, state):
        actor, actor_metrics = update_actor(c, state | new, batch, noise)
        return new | actor, metrics | actor_metrics
    return new, metrics


def main():
    known = {}
    for algorithm, policy in ALGORITHMS.items():
        for name, c in baseline_cases(algorithm).items():
            known[name] = c | {"algorithm": policy}
            if distributional(c):
                c["critic"]["outputs"] = c["distribution"]["atoms"]
    record_cases(known, draw_state, draw_noise, update)


if __name__ == "__main__":
    main()
