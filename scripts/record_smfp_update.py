#!/usr/bin/env python3
"""Records single updates of SMFP, computed with JAX, for `crates/smfp/tests/recorded.rs`.

    python3 -m venv third_party/venv-jax
    third_party/venv-jax/bin/pip install jax==0.10.2 numpy==2.4.6 safetensors==0.8.0
    third_party/venv-jax/bin/python scripts/record_smfp_update.py              # every case
    third_party/venv-jax/bin/python scripts/record_smfp_update.py renorm       # some cases

Reads crates/smfp/tests/fixtures/cases.toml, writes a <case>.safetensors beside it for every case:
`before.*` and `after.*` (the agent's whole state by the names of `Smfp::state`), `batch.*`,
`noise.*`, `metrics.*`.

This is a second implementation of docs/algorithm.md and shares nothing with the crates but names,
shapes and the order of rows. Gradients are `jax.grad`'s, the MeanFlow target's total derivative is
`jax.jvp`'s, densities are `jax.scipy.stats`'. Inputs are rounded to float32, computed with in
float64, and results are rounded to float32 again.
"""

import math
import os
import pathlib
import sys
import tomllib
import zlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.stats import norm
from safetensors.numpy import save_file

jax.config.update("jax_enable_x64", True)

SMFP = pathlib.Path(__file__).resolve().parent.parent / "crates" / "smfp"
FIXTURES = SMFP / "tests" / "fixtures"
SEED = 20260731
OBS, ACT, BATCH = 5, 3, 8

# Constants of the crates that are no settings.
LOG_STD_RANGE = (-10.0, 0.0)
TANH_MARGIN = 1e-3
MIN_STD = 1e-6
MIN_SCALE = 1e-6
BATCH_NORM_EPSILON = 1e-3
LAYER_NORM_EPSILON = 1e-5
RENORM_R_MAX, RENORM_D_MAX = 3.0, 5.0
ADAM_BETA2, ADAM_EPSILON = 0.999, 1e-8

# A choice among candidates must be clear enough for float32 to make the same one.
CLEAR = 1e-4


def cases():
    """The configuration of every case, as {section: {key: value}}."""
    presets = tomllib.loads((SMFP / "presets.toml").read_text())["default"]
    table = tomllib.loads((FIXTURES / "cases.toml").read_text())
    shared = {key: value for key, value in table.items() if not isinstance(value, dict)}
    for name, own in table.items():
        if not isinstance(own, dict):
            continue
        config = {section: dict(keys) for section, keys in presets.items() if section != "task"}
        for key, value in (shared | own).items():
            section, key = key.split(".")
            assert key in config[section], f"{name}: unknown key {section}.{key}"
            config[section][key] = value
        yield name, config


# --- Layout: names and shapes, in the order of the flat vector ------------------------------------


def linear_shapes(name, inputs, outputs):
    return [(f"{name}.weight", (outputs, inputs)), (f"{name}.bias", (outputs,))]


def trunk_shapes(name, inputs, width, depth):
    return [
        entry
        for i in range(depth)
        for entry in linear_shapes(f"{name}.{i}", inputs if i == 0 else width, width)
    ]


def actor_shapes(c):
    a = c["actor"]
    width, depth = a["width"], a["depth"]
    shapes = trunk_shapes("trunk", OBS + ACT + 4 * a["frequencies"], width, depth)
    shapes += linear_shapes("velocity", width, ACT)
    if c["entropy"]["mode"] != "none":
        if a["state_dependent_std"]:
            shapes += linear_shapes("log_std", width, ACT)
        else:
            shapes += [("log_std", (ACT,))]
    if a["noise"] == "source":
        shapes += trunk_shapes("source", OBS, width, depth)
        shapes += linear_shapes("source_mean", width, ACT)
    return shapes


def critic_shapes(c):
    """Shapes of the parameters and of the running statistics."""
    k = c["critic"]
    width, crossq = k["width"], k["kind"] == "crossq"
    params, stats = [], []

    def norm_shapes(name, features, with_stats):
        params.extend([(f"{name}.weight", (features,)), (f"{name}.bias", (features,))])
        if with_stats:
            stats.extend([(f"{name}.mean", (features,)), (f"{name}.var", (features,))])

    for i in range(k["members"]):
        if crossq:
            norm_shapes(f"{i}.norm_in", OBS + ACT, True)
        for layer in range(k["depth"]):
            inputs = OBS + ACT if layer == 0 else width
            params.extend(linear_shapes(f"{i}.{layer}", inputs, width))
            if k["kind"] != "mlp":
                norm_shapes(f"{i}.norm_{layer}", width, crossq)
        params.extend(linear_shapes(f"{i}.head", width, 1))
    return params, stats


# --- Drawing a state, a batch and noise -----------------------------------------------------------


def draw_params(rng, shapes):
    """Parameters as after some training: no weight is zero, no scale is one."""
    params = {}
    for name, shape in shapes:
        if len(shape) == 2:
            value = rng.uniform(-1, 1, shape) * 1.5 / math.sqrt(shape[1])
        elif name.startswith("log_std"):
            # Deviations from 0.03 to 0.5: on both sides of sigma_target, std_low and std_high.
            value = rng.uniform(math.log(0.03), math.log(0.5), shape)
            if name == "log_std":
                value[0] = 0.4  # beyond the range that it is clamped to
        elif ".norm_" in name and name.endswith("weight"):
            value = rng.uniform(0.7, 1.3, shape)
        else:
            value = rng.uniform(-0.3, 0.3, shape)
        params[name] = value
    return params


def draw_adam(rng, prefix, shapes, steps):
    """Moments large enough that no step is a division of rounding errors."""
    count = sum(math.prod(shape) for _, shape in shapes)
    return {
        f"{prefix}.mean": rng.normal(size=count) * 0.1,
        f"{prefix}.square": rng.uniform(1e-4, 3e-4, count),
        f"{prefix}.steps": np.int64(steps),
    }


def draw_state(rng, name, c):
    state = {}

    def put(prefix, tensors):
        state.update({f"{prefix}.{key}": value for key, value in tensors.items()})

    actor = draw_params(rng, actor_shapes(c))
    put("actor", actor)
    put("actor_lagged", {k: v + 0.1 * rng.normal(size=v.shape) for k, v in actor.items()})
    state.update(draw_adam(rng, "actor_adam", actor_shapes(c), 37))
    params, stats = critic_shapes(c)
    critic = draw_params(rng, params)
    put("critic", critic)
    if c["critic"]["kind"] != "crossq":
        put("critic_target", {k: v + 0.1 * rng.normal(size=v.shape) for k, v in critic.items()})
    for key, shape in stats:
        mean = key.endswith("mean")
        spread = rng.normal(size=shape) * 0.3 if mean else rng.uniform(0.3, 1.5, shape)
        # Far enough from the batch's in places that renormalisation meets its limits.
        if key == "0.norm_in.mean":
            spread[0] += 4.0
        if key == "0.norm_in.var":
            spread[:2] *= 0.05
        put("critic_stats", {key: spread})
    state.update(draw_adam(rng, "critic_adam", params, 111))
    state["critic_updates"] = np.int64(111)
    if c["entropy"]["mode"] == "dual":
        state["temperature.log_alpha"] = np.array([math.log(0.3)])
        state.update(draw_adam(rng, "temperature_adam", [("log_alpha", (1,))], 37))
    # One case starts with no scale yet.
    state["q_scale"] = np.array([-1.0 if name == "source" else 0.8])
    state["actor_updates"] = np.int64(37)
    return state


def draw_batch(rng):
    terminated = np.zeros(BATCH)
    terminated[[1, 6]] = 1.0
    return {
        "obs": rng.normal(size=(BATCH, OBS)),
        "action": rng.uniform(-1, 1, (BATCH, ACT)),
        "reward": rng.normal(size=BATCH),
        "next_obs": rng.normal(size=(BATCH, OBS)),
        "terminated": terminated,
    }


def uses_mirror(c):
    return c["objective"]["improvement"] != "pathwise" and c["objective"]["lambda"] > 0


def mirror_rows(c):
    return min(max(math.floor(BATCH * c["mirror"]["batch_share"] + 0.5), 1), BATCH)


def draw_noise(rng, c):
    normal = lambda *shape: rng.normal(size=shape)
    uniform = lambda *shape: rng.uniform(size=shape)
    targets = BATCH * c["candidates"]["target"]
    noise = {
        "next_z": normal(targets, ACT),
        "next_xi": normal(targets, ACT),
        "z": normal(BATCH, ACT),
        "xi": normal(BATCH, ACT),
    }
    if c["entropy"]["estimate"] == "semi-implicit" and c["entropy"]["latents"] > 0:
        noise["latents"] = normal(c["entropy"]["latents"] * BATCH, ACT)
    if uses_mirror(c):
        rows, k = mirror_rows(c), c["mirror"]["candidates"]
        noise |= {
            "mirror.z": normal(rows * k, ACT),
            "mirror.xi": normal(rows * k, ACT),
            "mirror.choice": uniform(rows, 1),
            "mirror.eps": normal(rows, ACT),
            "mirror.e": normal(rows, ACT),
            "mirror.t": uniform(rows, 1),
            "mirror.r": uniform(rows, 1),
        }
        if c["mirror"]["actions"] == "broad":
            noise["mirror.uniform"] = uniform(rows, k, ACT)
    return noise


# --- Networks -------------------------------------------------------------------------------------

ACTIVATIONS = {
    "mish": lambda x: x * jnp.tanh(jnp.logaddexp(x, 0.0)),
    "silu": lambda x: x / (1.0 + jnp.exp(-x)),
    "tanh": jnp.tanh,
    "relu": lambda x: jnp.where(x > 0, x, 0.0),
}


def relu(x):
    # jnp.maximum splits the gradient at 0; where() gives 0 there.
    return jnp.where(x > 0, x, 0.0)


def linear(p, name, x):
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def trunk(c, p, name, x):
    for i in range(c["actor"]["depth"]):
        x = ACTIVATIONS[c["actor"]["activation"]](linear(p, f"{name}.{i}", x))
    return x


def embed(c, t):
    k = jnp.arange(1, c["actor"]["frequencies"] + 1)
    angles = 0.5 * jnp.pi * t * k
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1)


def features(c, p, obs, x, r, t):
    return trunk(c, p, "trunk", jnp.concatenate([obs, x, embed(c, t), embed(c, r)], axis=1))


def one_step_map(c, p, obs, x, r, t):
    """g(s, x, r, t) = x - u(s, x, r, t)."""
    return x - linear(p, "velocity", features(c, p, obs, x, r, t))


def head(c, p, h):
    """log sigma, from the features `h`; None where the head has no noise."""
    if c["entropy"]["mode"] == "none":
        sigma = c["entropy"]["sigma_target"]
        return jnp.full((h.shape[0], ACT), math.log(sigma)) if sigma > 0 else None
    raw = linear(p, "log_std", h) if c["actor"]["state_dependent_std"] else p["log_std"]
    return jnp.broadcast_to(jnp.clip(raw, *LOG_STD_RANGE), (h.shape[0], ACT))


def gaussian(c, p, obs, z):
    """mu = g(s, z, 1) and log sigma of the head on the output."""
    zero, one = jnp.zeros((len(obs), 1)), jnp.ones((len(obs), 1))
    h = features(c, p, obs, z, zero, one)
    return z - linear(p, "velocity", h), head(c, p, h)


def log_density(raw, mean, log_std):
    return norm.logpdf(raw, mean, jnp.exp(log_std)).sum(axis=-1)


def squash(c, raw):
    """The action, and log |d action / d raw|, which clipping leaves out."""
    if c["actor"]["squash"] == "clip":
        return jnp.clip(raw, -1.0, 1.0), jnp.zeros(len(raw))
    action = jnp.tanh(raw)
    return action, jnp.log1p(-(action**2)).sum(axis=1)


def draw(c, p, obs, z, xi):
    """Equation (1): action, mean, raw action, log sigma, log pi(a|s,z)."""
    if c["actor"]["noise"] == "source":
        h = trunk(c, p, "source", obs)
        m, log_std = linear(p, "source_mean", h), head(c, p, h)
        x = m + jnp.exp(log_std) * z
        mean = raw = one_step_map(c, p, obs, x, jnp.zeros((len(obs), 1)), jnp.ones((len(obs), 1)))
        log_prob = log_density(x, m, log_std)
    else:
        mean, log_std = gaussian(c, p, obs, z)
        if log_std is None:
            raw, log_prob = mean, jnp.zeros(len(obs))
            log_std = jnp.full_like(mean, LOG_STD_RANGE[0])
        else:
            raw = mean + jnp.exp(log_std) * xi
            log_prob = log_density(raw, mean, log_std)
    action, log_det = squash(c, raw)
    return {
        "action": action,
        "mean": mean,
        "raw": raw,
        "log_std": log_std,
        "log_prob": log_prob - log_det,
    }


def normalise(c, p, stats, name, x, mode):
    """Batch normalisation; (output, the statistics that have moved)."""
    mean, var = stats[f"{name}.mean"], stats[f"{name}.var"]
    scale, shift = p[f"{name}.weight"], p[f"{name}.bias"]
    if mode == "running":
        return scale * (x - mean) / jnp.sqrt(var + BATCH_NORM_EPSILON) + shift, {}
    n = len(x)
    batch_mean = x.mean(axis=0)
    batch_var = ((x - batch_mean) ** 2).mean(axis=0)
    y = (x - batch_mean) / jnp.sqrt(batch_var + BATCH_NORM_EPSILON)
    if mode == "renorm":
        running = jnp.sqrt(var + BATCH_NORM_EPSILON)
        r = jnp.sqrt(batch_var + BATCH_NORM_EPSILON) / running
        r = jnp.clip(r, 1 / RENORM_R_MAX, RENORM_R_MAX)
        d = jnp.clip((batch_mean - mean) / running, -RENORM_D_MAX, RENORM_D_MAX)
        y = y * lax.stop_gradient(r) + lax.stop_gradient(d)
    keep = c["critic"]["norm_momentum"]
    # PyTorch keeps the unbiased variance.
    moved = {
        f"{name}.mean": keep * mean + (1 - keep) * batch_mean,
        f"{name}.var": keep * var + (1 - keep) * batch_var * n / (n - 1),
    }
    return scale * y + shift, moved


def critics(c, p, stats, obs, action, mode="running"):
    """Q of every member: (members, B), and the statistics that have moved."""
    k, moved, values = c["critic"], {}, []
    for i in range(k["members"]):
        h = jnp.concatenate([obs, action], axis=1)
        if k["kind"] == "crossq":
            h, new = normalise(c, p, stats, f"{i}.norm_in", h, mode)
            moved |= new
        for layer in range(k["depth"]):
            h, at = linear(p, f"{i}.{layer}", h), f"{i}.norm_{layer}"
            if k["kind"] == "layernorm":
                centred = h - h.mean(axis=1, keepdims=True)
                var = (centred**2).mean(axis=1, keepdims=True)
                h = centred / jnp.sqrt(var + LAYER_NORM_EPSILON)
                h = h * p[f"{at}.weight"] + p[f"{at}.bias"]
            h = relu(h)
            if k["kind"] == "crossq":
                h, new = normalise(c, p, stats, at, h, mode)
                moved |= new
        values.append(linear(p, f"{i}.head", h)[:, 0])
    return jnp.stack(values), moved


def aggregate(c, q):
    return q.min(axis=0) if c["critic"]["aggregate"] == "min" else q.mean(axis=0)


# --- Updates --------------------------------------------------------------------------------------


def sub(state, prefix):
    return {
        key.removeprefix(f"{prefix}."): value
        for key, value in state.items()
        if key.startswith(f"{prefix}.")
    }


def adam(state, prefix, params, gradient, shapes, rate, beta1):
    """Adam; (new parameters, new optimiser state)."""
    flat = lambda tensors: jnp.concatenate([jnp.ravel(tensors[name]) for name, _ in shapes])
    g, t = flat(gradient), int(state[f"{prefix}.steps"]) + 1
    mean = beta1 * state[f"{prefix}.mean"] + (1 - beta1) * g
    square = ADAM_BETA2 * state[f"{prefix}.square"] + (1 - ADAM_BETA2) * g**2
    mean_hat, square_hat = mean / (1 - beta1**t), square / (1 - ADAM_BETA2**t)
    x = flat(params) - rate * mean_hat / (jnp.sqrt(square_hat) + ADAM_EPSILON)
    new, at = {}, 0
    for name, shape in shapes:
        new[name] = x[at : at + math.prod(shape)].reshape(shape)
        at += math.prod(shape)
    return new, {
        f"{prefix}.mean": mean,
        f"{prefix}.square": square,
        f"{prefix}.steps": np.int64(t),
    }


def follow(slow, fast, tau):
    return {name: (1 - tau) * slow[name] + tau * fast[name] for name in slow}


def clear(what, gap):
    gap = float(jnp.min(gap))
    assert gap > CLEAR, f"{what} is decided by {gap:.1e}: take another seed"


def entropy_target(c):
    return ACT * (math.log(c["entropy"]["sigma_target"]) + 0.5 * math.log(2 * math.pi * math.e))


def alpha_now(c, state):
    e = c["entropy"]
    if e["mode"] == "dual":
        return jnp.exp(state["temperature.log_alpha"][0])
    over = e["alpha_decay_updates"]
    share = min(int(state["actor_updates"]) / over, 1.0) if over > 0 else 1.0
    # A straight line between the logarithms.
    return math.exp((1 - share) * math.log(e["alpha_initial"]) + share * math.log(e["alpha"]))


def update_critics(c, state, batch, noise):
    """Equation (6); (new entries of the state, metrics)."""
    k = c["critic"]
    online, stats = sub(state, "critic"), sub(state, "critic_stats")
    crossq = k["kind"] == "crossq"
    target = online if crossq else sub(state, "critic_target")

    count = c["candidates"]["target"]
    rows = jnp.repeat(batch["next_obs"], count, axis=0)
    proposals = draw(c, sub(state, "actor"), rows, noise["next_z"], noise["next_xi"])
    q = aggregate(c, critics(c, target, stats, rows, proposals["action"])[0])
    q = q.reshape(BATCH, count)
    if count > 1:
        ordered = jnp.sort(q, axis=1)
        clear("the best candidate", ordered[:, -1] - ordered[:, -2])
    best = jnp.arange(BATCH) * count + q.argmax(axis=1)
    next_action, next_log_prob = proposals["action"][best], proposals["log_prob"][best]

    bonus = 0.0
    if c["entropy"]["in_target"] != "none":
        centre = entropy_target(c) if c["entropy"]["in_target"] == "centred" else 0.0
        # alpha weighs the entropy against Q / S.
        scale = jnp.maximum(state["q_scale"][0], 0.0)
        bonus = alpha_now(c, state) * (-next_log_prob - centre) * scale

    renorm = k["renorm"] and int(state["critic_updates"]) >= k["renorm_warmup"]

    def loss(p):
        if crossq:
            obs = jnp.concatenate([batch["obs"], batch["next_obs"]])
            action = jnp.concatenate([batch["action"], next_action])
            both, moved = critics(c, p, stats, obs, action, "renorm" if renorm else "batch")
            q, next_q = both[:, :BATCH], both[:, BATCH:]
        else:
            q, moved = critics(c, p, stats, batch["obs"], batch["action"])
            next_q, _ = critics(c, target, stats, batch["next_obs"], next_action)
        next_value = aggregate(c, next_q) + bonus
        y = batch["reward"] + k["gamma"] * (1 - batch["terminated"]) * next_value
        errors = q - lax.stop_gradient(y)
        return (errors**2).mean(axis=1).sum(), (q.mean(), moved)

    (value, (q_mean, moved)), gradient = jax.value_and_grad(loss, has_aux=True)(online)
    shapes, _ = critic_shapes(c)
    online, optimiser = adam(
        state, "critic_adam", online, gradient, shapes, k["learning_rate"], k["beta1"]
    )
    new = {f"critic.{name}": tensor for name, tensor in online.items()} | optimiser
    new |= {f"critic_stats.{name}": tensor for name, tensor in moved.items()}
    if not crossq:
        followed = follow(target, online, k["tau"])
        new |= {f"critic_target.{name}": tensor for name, tensor in followed.items()}
    new["critic_updates"] = np.int64(state["critic_updates"] + 1)
    return new, {"critic_loss": value, "q_mean": q_mean}


def logits(c, advantage):
    return advantage / (c["mirror"]["temperature"] * jnp.maximum(jnp.std(advantage), MIN_STD))


def regressed(c, state, value, obs, replay, noise):
    """b and w of the mirror term."""
    m = c["mirror"]
    rows, k = len(obs), m["candidates"]
    lagged = sub(state, "actor_lagged")
    drawn = draw(c, lagged, jnp.repeat(obs, k, axis=0), noise["mirror.z"], noise["mirror.xi"])
    drawn = drawn["action"].reshape(rows, k, ACT)
    value_of_each = lambda actions: jax.vmap(lambda a: value(obs, a), 1, 1)(actions)
    if m["actions"] == "replay":
        advantage = value(obs, replay) - value_of_each(drawn).mean(axis=1)
        weight = jnp.minimum(jnp.exp(logits(c, advantage)), m["weight_max"])
        return replay, weight / weight.mean()
    candidates = drawn
    if m["actions"] == "broad":
        spread = 2 * noise["mirror.uniform"] - 1
        candidates = jnp.concatenate([drawn, replay[:, None, :], spread], axis=1)
    q = value_of_each(candidates)
    share = jax.nn.softmax(logits(c, q - q.mean(axis=1, keepdims=True)), axis=1)
    edges = jnp.cumsum(share, axis=1)[:, :-1]
    clear("the mirror term's candidate", jnp.abs(edges - noise["mirror.choice"]))
    choice = (edges <= noise["mirror.choice"]).sum(axis=1)
    return candidates[jnp.arange(rows), choice], jnp.ones(rows)


def mirror_term(c, state, value, batch, noise):
    """Equation (5): the loss as a function of the policy's parameters."""
    m = c["mirror"]
    rows = mirror_rows(c)
    obs, replay = batch["obs"][:rows], batch["action"][:rows]
    b, weight = regressed(c, state, value, obs, replay, noise)
    if c["actor"]["squash"] == "tanh":
        b = jnp.arctanh(jnp.clip(b, TANH_MARGIN - 1, 1 - TANH_MARGIN))
    b = b + c["entropy"]["sigma_target"] * noise["mirror.eps"]
    t, e = noise["mirror.t"], noise["mirror.e"]
    if m["time"] == "endpoint":
        r = jnp.zeros_like(t)
    else:
        equal = rows // 2
        zero = (rows - equal) // 2
        at = jnp.arange(rows)[:, None]
        r = jnp.where(at < equal, t, jnp.where(at < equal + zero, 0.0, t * noise["mirror.r"]))
    x, v = (1 - t) * b + t * e, e - b
    frozen = sub(state, "actor")
    _, along = jax.jvp(
        lambda x, t: one_step_map(c, frozen, obs, x, r, t), (x, t), (v, jnp.ones_like(t))
    )
    target = x - (v - (t - r) * (v - along))
    target = jnp.clip(target, -m["target_clip"], m["target_clip"])

    def loss(p):
        error = ((one_step_map(c, p, obs, x, r, t) - target) ** 2).sum(axis=1)
        w = weight
        if m["adaptive_power"] > 0:
            w = w / (lax.stop_gradient(error) + m["adaptive_constant"]) ** m["adaptive_power"]
        return (w * error).mean()

    return loss


def update_actor(c, state, batch, noise):
    """Equation (4); `state` has the updated critics. (new entries, metrics)"""
    o, e = c["objective"], c["entropy"]
    critic, stats = sub(state, "critic"), sub(state, "critic_stats")
    value = lambda obs, action: aggregate(c, critics(c, critic, stats, obs, action)[0])
    alpha = alpha_now(c, state)
    before = sub(state, "actor")

    q = value(batch["obs"], draw(c, before, batch["obs"], noise["z"], noise["xi"])["action"])
    if o["q_scale"] == "none":
        scale = 1.0
    else:
        if o["q_scale"] == "advantage_std":
            now = jnp.std(value(batch["obs"], batch["action"]) - q)
        else:
            now = jnp.abs(q).mean()
        old, keep = float(state["q_scale"][0]), o["q_scale_decay"]
        scale = now if old < 0 else keep * old + (1 - keep) * now
    divisor = jnp.maximum(scale, MIN_SCALE)
    mirror = mirror_term(c, state, value, batch, noise) if uses_mirror(c) else None

    def loss(p):
        a = draw(c, p, batch["obs"], noise["z"], noise["xi"])
        log_prob = a["log_prob"]
        if "latents" in noise:
            latents = noise["latents"].reshape(-1, BATCH, ACT)
            each = [log_density(a["raw"], a["mean"], a["log_std"])]
            each += [log_density(a["raw"], *gaussian(c, p, batch["obs"], z)) for z in latents]
            log_prob = jnp.log(jnp.exp(jnp.stack(each)).mean(axis=0)) - squash(c, a["raw"])[1]
        total = 0.0
        if o["improvement"] != "mirror":
            total += -(value(batch["obs"], a["action"]) / divisor).mean()
        if e["mode"] == "threshold":
            total += alpha * relu(math.log(e["sigma_target"]) - a["log_std"]).sum(axis=1).mean()
        elif e["mode"] in ("fixed", "dual"):
            total += alpha * log_prob.mean()
        low, high = math.log(e["std_low"]), math.log(e["std_high"])
        outside = relu(low - a["log_std"]) + relu(a["log_std"] - high)
        total += e["std_penalty"] * outside.sum(axis=1).mean()
        if c["actor"]["squash"] == "clip":
            total += o["bound_penalty"] * relu(jnp.abs(a["mean"]) - 1).mean()
        mirrored = mirror(p) if mirror else None
        if mirror:
            total += o["lambda"] * mirrored
        if c["actor"]["squash"] == "tanh" or e["estimate"] == "semi-implicit":
            entropy = -log_prob.mean()
        else:
            entropy = (a["log_std"] + 0.5 * math.log(2 * math.pi * math.e)).sum(axis=1).mean()
        return total, (mirrored, entropy)

    (total, (mirrored, entropy)), gradient = jax.value_and_grad(loss, has_aux=True)(before)
    shapes, rate = actor_shapes(c), c["actor"]["learning_rate"]
    actor, new = adam(state, "actor_adam", before, gradient, shapes, rate, 0.9)
    new |= {f"actor.{name}": tensor for name, tensor in actor.items()}
    lagged = follow(sub(state, "actor_lagged"), actor, c["mirror"]["policy_tau"])
    new |= {f"actor_lagged.{name}": tensor for name, tensor in lagged.items()}
    if e["mode"] == "dual":
        step = {"log_alpha": (entropy - entropy_target(c)).reshape(1)}
        moved, optimiser = adam(
            state,
            "temperature_adam",
            sub(state, "temperature"),
            step,
            [("log_alpha", (1,))],
            e["alpha_learning_rate"],
            0.9,
        )
        new |= {"temperature.log_alpha": moved["log_alpha"]} | optimiser
    new["q_scale"] = jnp.reshape(scale, (1,))
    new["actor_updates"] = np.int64(state["actor_updates"] + 1)
    metrics = {
        "actor_loss": total,
        "grad_norm": jnp.sqrt(sum((g**2).sum() for g in gradient.values())),
    }
    if mirror:
        metrics["mirror_loss"] = mirrored
    if e["mode"] != "none":
        metrics["alpha"] = alpha
    if e["mode"] != "none" or e["sigma_target"] > 0:
        metrics["entropy"] = entropy
    return new, metrics


# --- Recording ------------------------------------------------------------------------------------


def rounded(tensors):
    """As they are stored: float32, integers int64."""
    return {
        key: np.asarray(value, np.int64 if np.asarray(value).dtype.kind == "i" else np.float32)
        for key, value in tensors.items()
    }


def widened(tensors):
    return {
        key: value if value.dtype.kind == "i" else jnp.asarray(value, jnp.float64)
        for key, value in tensors.items()
    }


def record(name, c):
    rng = np.random.default_rng([SEED, zlib.crc32(name.encode())])
    before = rounded(draw_state(rng, name, c))
    batch, noise = rounded(draw_batch(rng)), rounded(draw_noise(rng, c))
    state, wide_batch, wide_noise = widened(before), widened(batch), widened(noise)

    critic, metrics = update_critics(c, state, wide_batch, wide_noise)
    after = state | critic
    actor, actor_metrics = update_actor(c, after, wide_batch, wide_noise)
    after, metrics = rounded(after | actor), rounded(metrics | actor_metrics)
    assert before.keys() == after.keys(), before.keys() ^ after.keys()

    groups = {"before": before, "after": after, "batch": batch, "noise": noise, "metrics": metrics}
    tensors = {
        f"{group}.{key}": np.ascontiguousarray(value).reshape(value.shape)
        for group, entries in groups.items()
        for key, value in entries.items()
    }
    assert all(np.isfinite(value).all() for value in tensors.values())
    save_file(tensors, FIXTURES / f"{name}.safetensors")
    print(name, {key: round(float(value), 6) for key, value in metrics.items()})


def main():
    known = dict(cases())
    for name in sys.argv[1:] or known:
        if name not in known:
            sys.exit(f"unknown case {name}, expected one of {', '.join(known)}")
        record(name, known[name])


if __name__ == "__main__":
    main()
