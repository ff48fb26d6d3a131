#!/usr/bin/env python3
"""Records single updates of SAC, computed with JAX, for `crates/baselines/tests/recorded.rs`.

    third_party/venv-jax/bin/python scripts/record_sac_update.py               # every case
    third_party/venv-jax/bin/python scripts/record_sac_update.py mlp fixed     # some cases

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

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from recording import (
    ACT,
    BATCH,
    CRATES,
    OBS,
    adam,
    cases,
    chosen,
    clear,
    critics,
    draw_adam,
    draw_batch,
    draw_critics,
    draw_obs_norm,
    draw_params,
    linear,
    linear_shapes,
    named,
    norm_of,
    observe,
    preset_of,
    record,
    seen,
    smallest,
    step_critics,
    sub,
    track_critics,
    trunk,
    trunk_shapes,
)

BASELINES = CRATES / "baselines"
FIXTURES = BASELINES / "tests" / "fixtures"
UPDATES = 113

# Constants of the crates that are not settings.
LOG_STD_RANGE = (-20.0, 2.0)
TEMPERATURE_BETA1 = 0.9

TEMPERATURE_SHAPES = [("log_alpha", (1,))]


def actor_shapes(a):
    shapes = trunk_shapes(a, "trunk", OBS)
    shapes += linear_shapes("mean", a["width"], ACT)
    return shapes + linear_shapes("log_std", a["width"], ACT)


def actor_due(c, state):
    return (int(state["critic_updates"]) + 1) % c["actor"]["update_every"] == 0


# --- Drawing a state and noise --------------------------------------------------------------------


def draw_state(rng, name, c):
    shapes, e = actor_shapes(c["actor"]), c["temperature"]
    actor = draw_params(rng, shapes)
    if name == "clamped":
        actor["log_std.bias"][:2] = [6.0, -24.0]
    state = named("actor", actor) | draw_adam(rng, "actor_adam", shapes, 37)
    state |= draw_critics(rng, c["critic"], UPDATES)
    alpha = 0.3 if e["automatic"] else e["alpha"]
    state["temperature.log_alpha"] = np.array([math.log(alpha)])
    state |= draw_adam(rng, "temperature_adam", TEMPERATURE_SHAPES, 37)
    # After 4,000 minibatches the next has the smallest weight.
    return state | draw_obs_norm(rng, c["actor"], 4000)


def draw_noise(rng, c, state):
    noise = {"next": rng.normal(size=(BATCH, ACT))}
    if actor_due(c, state):
        noise["actor"] = rng.normal(size=(BATCH, ACT))
    return noise


# --- The update -----------------------------------------------------------------------------------


def sample(c, p, obs, noise):
    """a = tanh(u) for u ~ N(mu, sigma^2), log pi(a|s), and log sigma before it is clamped."""
    h = trunk(c["actor"], p, "trunk", obs)
    mean, log_std = linear(p, "mean", h), linear(p, "log_std", h)
    std = jnp.exp(jnp.clip(log_std, *LOG_STD_RANGE))
    u = mean + std * noise
    # -log (1 - tanh^2 u) = 2 log cosh u.
    log_cosh = jnp.logaddexp(u, -u) - math.log(2)
    return jnp.tanh(u), (norm.logpdf(u, mean, std) + 2 * log_cosh).sum(axis=1), log_std


def clear_clamp(log_std):
    for limit in LOG_STD_RANGE:
        clear("whether a deviation is clamped", jnp.abs(log_std - limit))


def update_critics(c, state, batch, noise):
    """Step of the critics and their targets; (changed entries of the state, metrics)."""
    k, actor = c["critic"], sub(state, "actor")
    alpha = jnp.exp(state["temperature.log_alpha"][0])
    next_obs = seen(c["actor"], state, batch["next_obs"])
    next_action, next_log_prob, log_std = sample(c, actor, next_obs, noise["next"])
    clear_clamp(log_std)
    bonus = -alpha * next_log_prob if c["temperature"]["in_target"] else 0.0
    new, metrics = step_critics(k, state, batch, next_action, bonus)
    return new | track_critics(k, state | new), metrics


def update_actor(c, state, batch, noise):
    """Steps of actor and temperature; `state` has the updated critics. (new entries, metrics)"""
    a, k, e = c["actor"], c["critic"], c["temperature"]
    critic, stats = sub(state, "critic"), sub(state, "critic_stats")
    actor, temperature = sub(state, "actor"), sub(state, "temperature")
    alpha = jnp.exp(temperature["log_alpha"][0])

    def loss(p):
        obs = seen(a, state, batch["obs"])
        action, log_prob, log_std = sample(c, p, obs, noise["actor"])
        q, _ = critics(k, critic, stats, batch["obs"], action)
        return (alpha * log_prob - smallest(q)).mean(), (log_prob, log_std, q)

    (value, (log_prob, log_std, q)), gradient = jax.value_and_grad(loss, has_aux=True)(actor)
    clear_clamp(log_std)
    ordered = jnp.sort(q, axis=0)
    clear("the smallest value", ordered[1] - ordered[0])
    actor, new = adam(
        state, "actor_adam", actor, gradient, actor_shapes(a), a["learning_rate"], a["beta1"]
    )
    new |= named("actor", actor)

    if e["automatic"]:
        target = e["target_per_dim"] * ACT
        dual = lambda p: -(p["log_alpha"] * (log_prob + target)).mean()
        temperature, optimiser = adam(
            state,
            "temperature_adam",
            temperature,
            jax.grad(dual)(temperature),
            TEMPERATURE_SHAPES,
            e["learning_rate"],
            TEMPERATURE_BETA1,
        )
        new |= named("temperature", temperature) | optimiser
    return new, {
        "actor_loss": value,
        "entropy": -log_prob.mean(),
        "alpha": alpha,
        "grad_norm": norm_of(gradient),
    }


def update(c, state, batch, noise):
    observed = observe(c["actor"], state, batch["obs"])
    state |= observed
    new, metrics = update_critics(c, state, batch, noise)
    new |= observed
    if actor_due(c, state):
        actor, actor_metrics = update_actor(c, state | new, batch, noise)
        return new | actor, metrics | actor_metrics
    return new, metrics


# --- Recording ------------------------------------------------------------------------------------


def main():
    preset = preset_of(BASELINES / "src" / "sac.toml")
    for name, c in chosen(cases(FIXTURES / "sac.toml", preset)).items():

        def draw(rng):
            state = draw_state(rng, name, c)
            return state, draw_batch(rng), draw_noise(rng, c, state)

        record(FIXTURES / f"sac-{name}.safetensors", draw, functools.partial(update, c))


if __name__ == "__main__":
    main()
