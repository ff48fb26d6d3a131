"""What several policies of recorded updates have in common: the squashed Gaussian, the temperature,
the embedding of time, choices among candidates, the scale of Q. An independent implementation, as
recording.py says.
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
    OBS,
    clear,
    descend,
    draw_adam,
    linear,
    linear_shapes,
    trunk,
    trunk_shapes,
)

# Constants of the crates that are not settings.
LOG_STD_RANGE = (-20.0, 2.0)
MIN_STD, MIN_SCALE = 1e-6, 1e-6
TEMPERATURE_BETA1 = 0.9
TEMPERATURE_SHAPES = [("log_alpha", (1,))]


# --- Squashed Gaussian (Haarnoja et al. 2018b, appendix C) ----------------------------------------


def gaussian_shapes(a):
    shapes = trunk_shapes(a, "trunk", OBS)
    shapes += linear_shapes("mean", a["width"], ACT)
    return shapes + linear_shapes("log_std", a["width"], ACT)


def gaussian(a, p, obs):
    """mu and sigma before squashing, and log sigma before it is clamped."""
    h = trunk(a, p, "trunk", obs)
    mean, log_std = linear(p, "mean", h), linear(p, "log_std", h)
    return mean, jnp.exp(jnp.clip(log_std, *LOG_STD_RANGE)), log_std


def squashed_density(u, mean, std):
    """log pi of tanh(u) for u ~ N(mu, sigma^2)."""
    # -log (1 - tanh^2 u) = 2 log cosh u.
    log_cosh = jnp.logaddexp(u, -u) - math.log(2)
    return (norm.logpdf(u, mean, std) + 2 * log_cosh).sum(axis=1)


def sample(a, p, obs, noise):
    """a = tanh(u), log pi(a|s), and log sigma before it is clamped."""
    mean, std, log_std = gaussian(a, p, obs)
    u = mean + std * noise
    return jnp.tanh(u), squashed_density(u, mean, std), log_std


def clear_clamp(log_std):
    for limit in LOG_STD_RANGE:
        clear("whether a deviation is clamped", jnp.abs(log_std - limit))


# --- Temperature ----------------------------------------------------------------------------------


def draw_temperature(rng, alpha):
    state = {"temperature.log_alpha": np.array([math.log(alpha)])}
    return state | draw_adam(rng, "temperature_adam", TEMPERATURE_SHAPES, ACTOR_UPDATES)


def alpha_of(state):
    return jnp.exp(state["temperature.log_alpha"][0])


def step_temperature(state, learning_rate, excess):
    """log alpha after a step of Adam against `excess`, the entropy less its target."""
    settings = {"learning_rate": learning_rate, "beta1": TEMPERATURE_BETA1}
    dual = lambda p: ((p["log_alpha"] * excess).mean(), None)
    return descend(state, "temperature", TEMPERATURE_SHAPES, settings, dual)[0]


# --- Time -----------------------------------------------------------------------------------------


def embed(frequencies, t):
    """temb of times (B, 1): sines and cosines of k pi t / 2."""
    angles = 0.5 * jnp.pi * t * jnp.arange(1, frequencies + 1)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1)


# --- Candidates -----------------------------------------------------------------------------------


def rows_of_share(share):
    """States of a batch that a term is computed on."""
    return min(max(math.floor(BATCH * share + 0.5), 1), BATCH)


def best_of(q, count):
    """The rows of the best of `count` proposals of every state, from the values of all."""
    q = q.reshape(-1, count)
    if count > 1:
        ordered = jnp.sort(q, axis=1)
        clear("the best candidate", ordered[:, -1] - ordered[:, -2])
    return jnp.arange(len(q)) * count + q.argmax(axis=1)


def logits(advantage, temperature):
    return advantage / (temperature * jnp.maximum(jnp.std(advantage), MIN_STD))


def draw_by_advantage(q, temperature, uniform):
    """The place of one of K candidates for each state: by softmax(A / (c std A)) of their values."""
    share = jax.nn.softmax(logits(q - q.mean(axis=1, keepdims=True), temperature), axis=1)
    edges = jnp.cumsum(share, axis=1)[:, :-1]
    clear("the candidate", jnp.abs(edges - uniform))
    return (edges <= uniform).sum(axis=1)


# --- The scale S of Q (docs/algorithm.md, section 4) ----------------------------------------------


def average_of(sums):
    """A running average, from a weighted sum and the sum of the weights."""
    return sums[0] / sums[1] if sums[1] > 0 else 0.0


def averaged(sums, decay, now):
    """The sums of a running average with one more number."""
    return decay * sums + (1 - decay) * jnp.array([now, 1.0])


def scale_of(o, sums):
    """S of `[objective]`, from a weighted sum and the sum of the weights."""
    return 1.0 if o["q_scale"] == "none" else jnp.maximum(average_of(sums), MIN_SCALE)


def scale_sums(o, sums, value, batch, q):
    """The sums after one more update, in which `q` are the values of the policy's actions."""
    if o["q_scale"] == "none":
        return sums
    if o["q_scale"] == "advantage_std":
        now = jnp.std(value(batch["obs"], batch["action"]) - q)
    else:
        now = jnp.abs(q).mean()
    return averaged(sums, o["q_scale_decay"], now)
