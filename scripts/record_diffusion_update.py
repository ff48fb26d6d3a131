#!/usr/bin/env python3
"""Records single updates of the diffusion policies, QVPO and DPMD, computed with JAX, for
`crates/baselines/tests/recorded.rs`.

    third_party/venv-jax/bin/python scripts/record_diffusion_update.py                # every case
    third_party/venv-jax/bin/python scripts/record_diffusion_update.py qvpo-default   # one case

(recording.py says how to create the environment.) Reads
crates/baselines/tests/fixtures/<algorithm>.toml and writes <algorithm>-<case>.safetensors next to it
for every case: `before.*` and `after.*` (the agent's state), `batch.*`, `noise.*`, `metrics.*`.

This is an independent implementation (see recording.py) of docs/baselines.md, diffusion policies:

- Schedules: Nichol and Dhariwal 2021 (arXiv 2102.09672), equation 17 with beta at most 0.999, and
  the variance-preserving one of Xiao et al. 2022 (arXiv 2112.07804).
- A step back draws from the posterior of x_(t-1), which is computed as the product of two Gaussians
  in x_(t-1): forward from the predicted action, and backward from x_t. The predicted action is
  clipped.
- The critics step first; the actor learns with their new values. DPMD's lambda steps last.
- Noise of a sample: x_T, then one tensor for each step but the last.
"""

import math

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
    draw_behind,
    draw_obs_norm,
    draw_params,
    follow,
    linear,
    linear_shapes,
    named,
    observe,
    record_cases,
    seen,
    sub,
    trunk,
    trunk_shapes,
)
from recording_critics import draw_critics, target_value_of, update_critics, value_of
from recording_policies import (
    MIN_STD,
    alpha_of,
    average_of,
    averaged,
    best_of,
    draw_temperature,
    embed,
    rows_of_share,
    step_temperature,
)

# --- The chain ------------------------------------------------------------------------------------


def alpha_bars(d):
    """abar_t for t = 0..T, the share of the action's variance in x_t."""
    count, found = d["steps"], [1.0]
    for t in range(1, count + 1):
        if d["schedule"] == "cosine":
            f = lambda t: math.cos((t / count + 0.008) / 1.008 * math.pi / 2) ** 2
            beta = min(1 - f(t) / f(t - 1), 0.999)
        else:
            # The integral of a rate that grows linearly from 0.1 to 10, over (t - 1, t) / T.
            rate = lambda x: 0.1 + 9.9 * x
            beta = 1 - math.exp(-0.5 * (rate((t - 1) / count) + rate(t / count)) / count)
        found.append(found[-1] * (1 - beta))
    return found


def actor_shapes(c):
    a = c["actor"]
    shapes = trunk_shapes(a, "trunk", OBS + ACT + 2 * c["diffusion"]["frequencies"])
    return shapes + linear_shapes("eps", a["width"], ACT)


def predicted(c, p, obs, x, t):
    """The noise in x, whose rows are at the times `t` (B, 1), of integers."""
    d = c["diffusion"]
    inputs = jnp.concatenate([obs, x, embed(d["frequencies"], t / d["steps"])], axis=1)
    return linear(p, "eps", trunk(c["actor"], p, "trunk", inputs))


def chain(c, p, obs, noise):
    """Actions from noise (T, B, act)."""
    bars, count = alpha_bars(c["diffusion"]), c["diffusion"]["steps"]
    x, clipped = noise[0], []
    for t in range(count, 0, -1):
        eps = predicted(c, p, obs, x, jnp.full((len(x), 1), t))
        action = (x - math.sqrt(1 - bars[t]) * eps) / math.sqrt(bars[t])
        clipped.append(jnp.abs(action) > 1)
        action = jnp.clip(action, -1, 1)
        if t == 1:
            x = action
            continue
        alpha = bars[t] / bars[t - 1]
        # N(x_(t-1); sqrt(abar) a, 1 - abar) N(x_t; sqrt(alpha) x_(t-1), 1 - alpha): precisions
        # add, means are weighed by them.
        forward, backward = 1 / (1 - bars[t - 1]), alpha / (1 - alpha)
        mean = math.sqrt(bars[t - 1]) * action * forward + x / math.sqrt(alpha) * backward
        deviation = (forward + backward) ** -0.5
        x = mean / (forward + backward) + deviation * noise[count - t + 1]
    clipped = jnp.stack(clipped)
    assert clipped.any() and not clipped.all(), "the case does not test clipping"
    return x


def regression(c, obs, action, weight, noise):
    """E w |eps(x_t, t) - eps|^2 as a function of the policy's parameters."""
    bars = jnp.array(alpha_bars(c["diffusion"]))[noise["t"]][:, None]
    x = jnp.sqrt(bars) * action + jnp.sqrt(1 - bars) * noise["eps"]
    t = noise["t"][:, None]
    error = lambda p: ((predicted(c, p, obs, x, t) - noise["eps"]) ** 2).sum(axis=1)
    return lambda p: ((weight * error(p)).mean(), None)


# --- Drawing a state and noise --------------------------------------------------------------------


def draw_state(rng, name, c):
    shapes = actor_shapes(c)
    actor = draw_params(rng, shapes)
    state = named("actor", actor)
    state |= draw_adam(rng, "actor_adam", shapes, ACTOR_UPDATES)
    state |= draw_critics(rng, c["critic"], UPDATES)
    if "mirror" in c:
        state |= named("actor_lagged", draw_behind(rng, actor))
        state |= draw_temperature(rng, c["temperature"]["lambda"])
        # Weighted sums and sums of weights: a mean of 0.2 and a deviation of 0.8.
        state |= {"q_mean": np.array([0.08, 0.4]), "q_std": np.array([0.32, 0.4])}
    return state | draw_obs_norm(rng, c["actor"], 570)


def draw_denoising(rng, c, rows):
    t = rng.integers(1, c["diffusion"]["steps"], rows, endpoint=True)
    return {"t": t, "eps": rng.normal(size=(rows, ACT))}


def draw_qvpo_noise(rng, c, state):
    steps, r = c["diffusion"]["steps"], c["regression"]
    noise = {"next": rng.normal(size=(steps, BATCH * c["candidates"]["target"], ACT))}
    if actor_due(c, state):
        rows = rows_of_share(r["batch_share"])
        noise["proposals"] = rng.normal(size=(steps, rows * r["candidates"], ACT))
        noise["uniform"] = rng.uniform(size=(rows * r["uniform"], ACT))
        noise |= draw_denoising(rng, c, rows * (1 + r["uniform"]))
    return noise


def draw_dpmd_noise(rng, c, state):
    steps, m = c["diffusion"]["steps"], c["mirror"]
    noise = {
        "next": rng.normal(size=(steps, BATCH * c["candidates"]["target"], ACT)),
        "next_added": rng.normal(size=(BATCH, ACT)),
    }
    if actor_due(c, state):
        rows = rows_of_share(m["batch_share"])
        if m["actions"] == "policy":
            noise["proposals"] = rng.normal(size=(steps, rows * m["candidates"], ACT))
            noise["added"] = rng.normal(size=(rows, ACT))
        noise |= draw_denoising(rng, c, rows)
    return noise


# --- The updates ----------------------------------------------------------------------------------


def propose(c, state, raw, count, noise):
    """`count` proposals for every state of `raw`, and those states, row by row."""
    rows = jnp.repeat(raw, count, axis=0)
    obs = jnp.repeat(seen(c["actor"], state, raw), count, axis=0)
    return rows, chain(c, sub(state, "actor"), obs, noise)


def next_actions(c, state, batch, noise):
    count = c["candidates"]["target"]
    rows, proposals = propose(c, state, batch["next_obs"], count, noise["next"])
    return proposals[best_of(target_value_of(c["critic"], state)(rows, proposals), count)]


def update_qvpo_actor(c, state, batch, noise):
    r = c["regression"]
    raw, n = batch["obs"][: rows_of_share(r["batch_share"])], r["candidates"]
    rows, proposals = propose(c, state, raw, n, noise["proposals"])
    q = value_of(c["critic"], state)(rows, proposals)
    advantage = q.reshape(-1, n).max(axis=1) - q.reshape(-1, n).mean(axis=1)
    share = min(int(state["critic_updates"]) / r["entropy_decay_updates"], 1.0)
    entropy = (1 - share) * r["entropy"] + share * r["entropy_final"]
    # The best of every state, then the uniform actions of the first, of the second, ..
    spread, uniform = lambda x: jnp.repeat(x, r["uniform"], axis=0), 2 * noise["uniform"] - 1
    obs = seen(c["actor"], state, raw)
    loss = regression(
        c,
        jnp.concatenate([obs, spread(obs)]),
        jnp.concatenate([proposals[best_of(q, n)], uniform]),
        jnp.concatenate([advantage, entropy * spread(advantage)]),
        noise,
    )
    new, loss_now, _, grad_norm = descend(state, "actor", actor_shapes(c), c["actor"], loss)
    return new, {"actor_loss": loss_now, "alpha": entropy, "grad_norm": grad_norm}


def update_qvpo(c, state, batch, noise):
    observed = observe(c["actor"], state, batch["obs"])
    state |= observed
    next_action = next_actions(c, state, batch, noise)
    new, metrics = update_critics(c["critic"], state, batch, next_action)
    new |= observed
    if actor_due(c, state):
        actor, actor_metrics = update_qvpo_actor(c, state | new, batch, noise)
        return new | actor, metrics | actor_metrics
    return new, metrics


def with_noise(c, state, action, noise):
    """Actions with noise of deviation 0.1 lambda."""
    noisy = action + c["temperature"]["noise"] * alpha_of(state) * noise
    assert (jnp.abs(noisy) > 1).any(), "the case does not test the bounds"
    return jnp.clip(noisy, -1, 1)


def update_dpmd_actor(c, state, batch, noise):
    m, k, value = c["mirror"], c["mirror"]["candidates"], value_of(c["critic"], state)
    rows = rows_of_share(m["batch_share"])
    raw, action = batch["obs"][:rows], batch["action"][:rows]
    if m["actions"] == "policy":
        repeated, proposals = propose(c, state, raw, k, noise["proposals"])
        best = proposals[best_of(value(repeated, proposals), k)]
        action = with_noise(c, state, best, noise["added"])
    q = value(raw, action)
    mean = averaged(state["q_mean"], m["q_decay"], q.mean())
    std = averaged(state["q_std"], m["q_decay"], jnp.std(q))
    normalised = (q - average_of(mean)) / jnp.maximum(average_of(std), MIN_STD)
    beyond = jnp.abs(normalised) > m["q_clip"]
    assert beyond.any() and not beyond.all(), "the case does not test the values' clipping"
    clear("whether a value is clipped", jnp.abs(jnp.abs(normalised) - m["q_clip"]))
    weight = jnp.exp(jnp.clip(normalised, -m["q_clip"], m["q_clip"]) / alpha_of(state))
    loss = regression(c, seen(c["actor"], state, raw), action, weight, noise)
    new, loss_now, _, grad_norm = descend(state, "actor", actor_shapes(c), c["actor"], loss)
    lagged = follow(sub(state, "actor_lagged"), sub(new, "actor"), m["policy_tau"])
    new |= named("actor_lagged", lagged) | {"q_mean": mean, "q_std": std}
    return new, {"actor_loss": loss_now, "alpha": alpha_of(state), "grad_norm": grad_norm}


def update_dpmd(c, state, batch, noise):
    e = c["temperature"]
    observed = observe(c["actor"], state, batch["obs"])
    state |= observed
    next_action = with_noise(c, state, next_actions(c, state, batch, noise), noise["next_added"])
    new, metrics = update_critics(c["critic"], state, batch, next_action)
    new |= observed
    if actor_due(c, state):
        actor, actor_metrics = update_dpmd_actor(c, state | new, batch, noise)
        new, metrics = new | actor, metrics | actor_metrics
    if int(new["critic_updates"]) % e["update_every"] == 0:
        # Of N(0, sigma^2): log sigma + log(2 pi e) / 2.
        entropy = 0.5 * jnp.log(2 * math.pi * math.e * (e["noise"] * alpha_of(state)) ** 2)
        new |= step_temperature(state, e["learning_rate"], entropy - e["target_per_dim"])
    return new, metrics


def main():
    draw = {"qvpo": draw_qvpo_noise, "dpmd": draw_dpmd_noise}
    step = {"qvpo": update_qvpo, "dpmd": update_dpmd}
    of = lambda c: "dpmd" if "mirror" in c else "qvpo"
    record_cases(
        baseline_cases("qvpo") | baseline_cases("dpmd"),
        draw_state,
        lambda rng, c, state: draw[of(c)](rng, c, state),
        lambda c, *rest: step[of(c)](c, *rest),
    )


if __name__ == "__main__":
    main()
