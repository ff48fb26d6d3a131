#!/usr/bin/env python3
"""Records single updates of SMFP, computed with JAX, for `crates/smfp/tests/recorded.rs`.

    python3 -m venv third_party/venv-jax
    third_party/venv-jax/bin/pip install jax==0.10.2 numpy==2.4.6 safetensors==0.8.0
    third_party/venv-jax/bin/python scripts/record_smfp_update.py              # every case
    third_party/venv-jax/bin/python scripts/record_smfp_update.py renorm       # some cases

Reads crates/smfp/tests/fixtures/cases.toml and writes a <case>.safetensors next to it for every case:
`before.*` and `after.*` (the agent's state, with the names of `Smfp::state`), `batch.*`,
`noise.*`, `metrics.*`.

This is an independent implementation of docs/algorithm.md that shares only names, shapes and the
order of rows with the crates (see recording.py). The MeanFlow target's total derivative is
computed by `jax.jvp`, densities by `jax.scipy.stats`.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from recording import (
    ACT,
    ACTOR_UPDATES,
    BATCH,
    CRATES,
    OBS,
    cases,
    descend,
    draw_adam,
    draw_behind,
    draw_obs_norm,
    draw_params,
    follow,
    linear,
    linear_shapes,
    named,
    observe,
    preset_of,
    record_cases,
    relu,
    seen,
    sub,
    trunk,
    trunk_shapes,
)
from recording_critics import draw_critics, target_value_of, update_critics, value_of
from recording_policies import (
    alpha_of,
    best_of,
    draw_by_advantage,
    draw_temperature,
    embed,
    logits,
    rows_of_share,
    scale_of,
    scale_sums,
    step_temperature,
)

SMFP = CRATES / "smfp"
FIXTURES = SMFP / "tests" / "fixtures"

# Constants of the crates that are not settings.
LOG_STD_RANGE = (-10.0, 0.0)
TANH_MARGIN = 1e-3


# --- Layout: names and shapes, in the order of the flat vector ------------------------------------


def actor_shapes(c):
    a = c["actor"]
    width = a["width"]
    shapes = trunk_shapes(a, "trunk", OBS + ACT + 4 * c["policy"]["frequencies"])
    shapes += linear_shapes("velocity", width, ACT)
    if c["entropy"]["mode"] != "none":
        shapes += linear_shapes("log_std", width, ACT)
    return shapes


# --- Drawing a state, a batch and noise -----------------------------------------------------------


def draw_state(rng, name, c):
    actor = draw_params(rng, actor_shapes(c))
    if "log_std.bias" in actor:
        actor["log_std.bias"][0] = 0.4  # beyond the range that it is clamped to
    state = named("actor", actor) | named("actor_lagged", draw_behind(rng, actor))
    state |= draw_adam(rng, "actor_adam", actor_shapes(c), ACTOR_UPDATES)
    state |= draw_critics(rng, c["critic"], 111)
    if c["entropy"]["mode"] == "soft":
        state |= draw_temperature(rng, 0.3)
    # Weighted sum and sum of weights of a bias-corrected average: 0.8. One case has seen nothing.
    state["q_scale"] = np.array([0.0, 0.0] if name == "mirror-only" else [0.4, 0.5])
    state["actor_updates"] = np.int64(ACTOR_UPDATES)
    return state | draw_obs_norm(rng, c["actor"], 570)


def uses_mirror(c):
    return c["objective"]["lambda"] > 0


def mirror_rows(c):
    return rows_of_share(c["mirror"]["batch_share"])


def pathwise_states(c):
    return max(BATCH // (c["entropy"]["latents"] + 1), 1)


def draw_noise(rng, c, state):
    normal = lambda *shape: rng.normal(size=shape)
    uniform = lambda *shape: rng.uniform(size=shape)
    targets = BATCH * c["candidates"]["target"]
    extra = c["entropy"]["latents"]
    actions = (extra + 1) * pathwise_states(c)
    noise = {
        "next_z": normal(targets, ACT),
        "next_xi": normal(targets, ACT),
        "z": normal(actions, ACT),
        "xi": normal(actions, ACT),
    }
    if extra > 0 and c["entropy"]["mode"] == "soft":
        noise["next_latents"] = normal(extra * BATCH, ACT)
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


def features(c, p, obs, x, r, t):
    count = c["policy"]["frequencies"]
    inputs = jnp.concatenate([obs, x, embed(count, t), embed(count, r)], axis=1)
    return trunk(c["actor"], p, "trunk", inputs)


def one_step_map(c, p, obs, x, r, t):
    """g(s, x, r, t) = x - u(s, x, r, t)."""
    return x - linear(p, "velocity", features(c, p, obs, x, r, t))


def head(c, p, h):
    """log sigma, from the features `h`; None for a deterministic head."""
    if c["entropy"]["mode"] == "none":
        sigma = c["entropy"]["sigma_target"]
        return jnp.full((h.shape[0], ACT), math.log(sigma)) if sigma > 0 else None
    raw = linear(p, "log_std", h)
    return jnp.broadcast_to(jnp.clip(raw, *LOG_STD_RANGE), (h.shape[0], ACT))


def gaussian(c, p, obs, z):
    """mu = g(s, x, 1) for the latent x that `z` is scaled to, and log sigma of the head."""
    z = c["policy"]["latent_std"] * z
    zero, one = jnp.zeros((len(obs), 1)), jnp.ones((len(obs), 1))
    h = features(c, p, obs, z, zero, one)
    return z - linear(p, "velocity", h), head(c, p, h)


def log_density(raw, mean, log_std):
    return norm.logpdf(raw, mean, jnp.exp(log_std)).sum(axis=-1)


def semi_implicit(c, p, obs, raw, latents):
    """log pi(a|s) of actions (states, ACT) over the latents (count, states, ACT)."""
    each = jnp.stack([log_density(raw, *gaussian(c, p, obs, z)) for z in latents])
    return jnp.log(jnp.exp(each).mean(axis=0)) - squash(c, raw)[1]


def squash(c, raw):
    """The action, and log |d action / d raw|, which clipping leaves out."""
    if c["policy"]["squash"] == "clip":
        return jnp.clip(raw, -1.0, 1.0), jnp.zeros(len(raw))
    action = jnp.tanh(raw)
    return action, jnp.log1p(-(action**2)).sum(axis=1)


def draw(c, p, obs, z, xi):
    """Equation (1): action, mean, raw action, log sigma, log pi(a|s,z)."""
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


# --- Updates --------------------------------------------------------------------------------------


def entropy_target(c):
    return ACT * (math.log(c["entropy"]["sigma_target"]) + 0.5 * math.log(2 * math.pi * math.e))


def alpha_now(c, state):
    e = c["entropy"]
    if e["mode"] == "soft":
        return alpha_of(state)
    over = e["alpha_decay_updates"]
    share = min(int(state["actor_updates"]) / over, 1.0) if over > 0 else 1.0
    # Linear interpolation of the logarithms.
    return math.exp((1 - share) * math.log(e["alpha_initial"]) + share * math.log(e["alpha"]))


def step_values(c, state, batch, noise):
    """Equation (6); (new entries of the state, metrics)."""
    count = c["candidates"]["target"]
    actor, obs = sub(state, "actor"), seen(c["actor"], state, batch["next_obs"])
    rows = jnp.repeat(batch["next_obs"], count, axis=0)
    repeated = jnp.repeat(obs, count, axis=0)
    proposals = draw(c, actor, repeated, noise["next_z"], noise["next_xi"])
    best = best_of(target_value_of(c["critic"], state)(rows, proposals["action"]), count)
    chosen = {key: value[best] for key, value in proposals.items()}
    own = noise["next_z"][best]

    bonus = 0.0
    if c["entropy"]["mode"] == "soft":
        log_prob = chosen["log_prob"]
        if "next_latents" in noise:
            latents = jnp.concatenate([own, noise["next_latents"]]).reshape(-1, BATCH, ACT)
            log_prob = semi_implicit(c, actor, obs, chosen["raw"], latents)
        bonus = -alpha_now(c, state) * log_prob
    return update_critics(c["critic"], state, batch, chosen["action"], bonus)


def regressed(c, state, value, obs, replay, noise):
    """b and w of the mirror term."""
    m = c["mirror"]
    rows, k = len(obs), m["candidates"]
    lagged, repeated = sub(state, "actor_lagged"), jnp.repeat(obs, k, axis=0)
    repeated = seen(c["actor"], state, repeated)
    drawn = draw(c, lagged, repeated, noise["mirror.z"], noise["mirror.xi"])
    drawn = drawn["action"].reshape(rows, k, ACT)
    value_of_each = lambda actions: jax.vmap(lambda a: value(obs, a), 1, 1)(actions)
    if m["actions"] == "replay":
        q = value_of_each(drawn)
        advantage = value(obs, replay) - q.mean(axis=1)
        weight = jnp.minimum(jnp.exp(logits(advantage, m["temperature"])), m["weight_max"])
        return replay, weight / weight.mean()
    candidates = drawn
    if m["actions"] == "broad":
        spread = 2 * noise["mirror.uniform"] - 1
        candidates = jnp.concatenate([drawn, replay[:, None, :], spread], axis=1)
    q = value_of_each(candidates)
    choice = draw_by_advantage(q, m["temperature"], noise["mirror.choice"])
    return candidates[jnp.arange(rows), choice], jnp.ones(rows)


def mirror_term(c, state, value, batch, noise):
    """Equation (5): the map g as a function of the policy's parameters, and the loss as a function
    of the map."""
    m = c["mirror"]
    rows = mirror_rows(c)
    obs, replay = batch["obs"][:rows], batch["action"][:rows]
    b, weight = regressed(c, state, value, obs, replay, noise)
    if c["policy"]["squash"] == "tanh":
        b = jnp.arctanh(jnp.clip(b, TANH_MARGIN - 1, 1 - TANH_MARGIN))
    b = b + c["entropy"]["sigma_target"] * noise["mirror.eps"]
    t, e = noise["mirror.t"], c["policy"]["latent_std"] * noise["mirror.e"]
    equal = rows // 2
    zero = (rows - equal) // 2
    at = jnp.arange(rows)[:, None]
    r = jnp.where(at < equal, t, jnp.where(at < equal + zero, 0.0, t * noise["mirror.r"]))
    x, v = (1 - t) * b + t * e, e - b
    frozen, obs = sub(state, "actor"), seen(c["actor"], state, obs)
    _, along = jax.jvp(
        lambda x, t: one_step_map(c, frozen, obs, x, r, t), (x, t), (v, jnp.ones_like(t))
    )
    target = x - (v - (t - r) * (v - along))
    target = jnp.clip(target, -m["target_clip"], m["target_clip"])

    map_of = lambda p: one_step_map(c, p, obs, x, r, t)
    loss_of = lambda g: (weight * ((g - target) ** 2).sum(axis=1)).mean()
    return map_of, loss_of


def update_actor(c, state, batch, noise):
    """Equation (4); `state` has the updated critics. (new entries, metrics)"""
    o, e = c["objective"], c["entropy"]
    value = value_of(c["critic"], state)
    alpha = alpha_now(c, state)
    before, obs = sub(state, "actor"), seen(c["actor"], state, batch["obs"])
    soft = e["mode"] == "soft"

    mirror = mirror_term(c, state, value, batch, noise) if uses_mirror(c) else None
    # Several actions in some of the states: action i of every state, then action i + 1.
    count, states = e["latents"] + 1, pathwise_states(c)
    of_actions = lambda rows: jnp.concatenate([rows[:states]] * count)
    at = {key: of_actions(batch[key]) for key in ("obs", "action")}
    seen_at = of_actions(obs)
    drawn = draw(c, before, seen_at, noise["z"], noise["xi"])
    q = value(at["obs"], drawn["action"])
    sums = scale_sums(o, state["q_scale"], value, at, q)
    scale = scale_of(o, sums)
    divisor = 1.0 if soft else scale
    pathwise = lambda raw: -(value(at["obs"], squash(c, raw)[0]) / divisor).mean()
    factor = o["lambda"] * (scale if soft else 1.0)
    latents = noise["z"].reshape(count, states, ACT)

    def loss(p):
        a = draw(c, p, seen_at, noise["z"], noise["xi"])
        log_prob = a["log_prob"]
        if count > 1:
            each = a["raw"].reshape(count, states, ACT)
            among = [semi_implicit(c, p, obs[:states], raw, latents) for raw in each]
            log_prob = jnp.concatenate(among)
        total = 0.0
        if not c["mirror"]["only"]:
            total += pathwise(a["raw"])
        if e["mode"] == "threshold":
            total += alpha * relu(math.log(e["sigma_target"]) - a["log_std"]).sum(axis=1).mean()
        elif e["mode"] in ("fixed", "soft"):
            total += alpha * log_prob.mean()
        if c["policy"]["squash"] == "clip":
            total += c["policy"]["bound_penalty"] * relu(jnp.abs(a["mean"]) - 1).mean()
        mirrored = mirror[1](mirror[0](p)) if mirror else None
        if mirror:
            total += factor * mirrored
        if c["policy"]["squash"] == "tanh" or e["latents"] > 0:
            entropy = -log_prob.mean()
        else:
            entropy = (a["log_std"] + 0.5 * math.log(2 * math.pi * math.e)).sum(axis=1).mean()
        return total, (mirrored, entropy)

    new, total, (mirrored, entropy), grad_norm = descend(
        state, "actor", actor_shapes(c), c["actor"], loss
    )
    lagged = follow(sub(state, "actor_lagged"), sub(new, "actor"), c["mirror"]["policy_tau"])
    new |= named("actor_lagged", lagged)
    if soft:
        new |= step_temperature(state, e["alpha_learning_rate"], entropy - entropy_target(c))
    new["q_scale"] = sums
    new["actor_updates"] = np.int64(state["actor_updates"] + 1)
    metrics = {"actor_loss": total, "grad_norm": grad_norm}
    if mirror:
        metrics["mirror_loss"] = mirrored
    if e["mode"] != "none":
        metrics["alpha"] = alpha
    if e["mode"] != "none" or e["sigma_target"] > 0:
        metrics["entropy"] = entropy
    return new, metrics


def update(c, state, batch, noise):
    observed = observe(c["actor"], state, batch["obs"])
    critic, metrics = step_values(c, state | observed, batch, noise)
    actor, actor_metrics = update_actor(c, state | observed | critic, batch, noise)
    return observed | critic | actor, metrics | actor_metrics


if __name__ == "__main__":
    known = cases(FIXTURES / "cases.toml", preset_of(SMFP / "presets.toml"))
    record_cases(known, draw_state, draw_noise, update, FIXTURES)
