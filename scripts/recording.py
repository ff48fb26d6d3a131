"""Shared code of the recorders of single updates (record_*_update.py): cases, layouts, random states,
networks, Adam, writing files. recording_critics.py has the critics, recording_policies.py what
several policies have in common.

It is an independent implementation of the common parts of the algorithms, and shares only names,
shapes and the order of rows with the crates. Gradients are computed by `jax.grad`. Inputs are
rounded to float32, computations are in float64, and results are rounded to float32 again.

    python3 -m venv third_party/venv-jax
    third_party/venv-jax/bin/pip install jax==0.10.2 numpy==2.4.6 safetensors==0.8.0

A case is a dictionary {section: {key: value}} like a preset; functions below take the section that
they use: `k` is `[critic]`, `a` is `[actor]`.
"""

import functools
import math
import pathlib
import sys
import tomllib
import zlib

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)

CRATES = pathlib.Path(__file__).resolve().parent.parent / "crates"
BASELINES = CRATES / "baselines"
SEED = 20260731
OBS, ACT, BATCH = 5, 3, 8
# Updates that the critics of the baselines, and that actors, have made before the recorded one.
UPDATES, ACTOR_UPDATES = 113, 37

# Constants of the crates that are not settings.
LAYER_NORM_EPSILON = 1e-5
ADAM_BETA2, ADAM_EPSILON = 0.999, 1e-8
OBS_NORM_EPSILON, OBS_NORM_CLIP, OBS_NORM_MIN_WEIGHT = 1e-5, 10.0, 1e-3

SHARED = tomllib.loads((CRATES / "agent" / "sections.toml").read_text())

# A choice among candidates must be clear enough for float32 to make the same one.
CLEAR = 1e-4


def preset_of(path):
    """The preset `default` of a preset file: the shared sections that it names, then its own."""
    file = tomllib.loads(path.read_text())
    sections = {name: dict(SHARED[name]) for name in file["shared"]}
    for name, keys in file["default"].items():
        if name != "task":
            sections.setdefault(name, {}).update(keys)
    return sections


def cases(path, preset):
    """The configuration of every case of the file `path`, by name.

    Keys ("section.key") above the file's first table belong to every case; a case's own go over
    them, and both over `preset`.
    """
    table = tomllib.loads(path.read_text())
    shared = {key: value for key, value in table.items() if not isinstance(value, dict)}
    found = {}
    for name, own in table.items():
        if not isinstance(own, dict):
            continue
        config = {section: dict(keys) for section, keys in preset.items()}
        for key, value in (shared | own).items():
            section, key = key.split(".")
            assert key in config[section], f"{name}: unknown key {section}.{key}"
            config[section][key] = value
        found[name] = config
    return found


def baseline_cases(algorithm):
    """The cases of a baseline, by the names of their recordings."""
    preset = preset_of(BASELINES / "src" / f"{algorithm.replace('-', '_')}.toml")
    found = cases(BASELINES / "tests" / "fixtures" / f"{algorithm}.toml", preset)
    return {f"{algorithm}-{name}": c for name, c in found.items()}


# --- Layout: names and shapes, in the order of the flat vector ------------------------------------


def linear_shapes(name, inputs, outputs):
    return [(f"{name}.weight", (outputs, inputs)), (f"{name}.bias", (outputs,))]


def trunk_shapes(a, name, inputs):
    return [
        entry
        for i in range(a["depth"])
        for entry in linear_shapes(f"{name}.{i}", inputs if i == 0 else a["width"], a["width"])
    ]


# --- Drawing a state and a batch ------------------------------------------------------------------


def draw_params(rng, shapes):
    """Parameters as after some training: no weight is 0, no scale is 1."""
    params = {}
    for name, shape in shapes:
        if len(shape) == 2:
            value = rng.uniform(-1, 1, shape) * 1.5 / math.sqrt(shape[1])
        elif name.startswith("log_std"):
            value = rng.uniform(math.log(0.03), math.log(0.5), shape)
        elif ".norm_" in name and name.endswith("weight"):
            value = rng.uniform(0.7, 1.3, shape)
        else:
            value = rng.uniform(-0.3, 0.3, shape)
        params[name] = value
    return params


def draw_behind(rng, params):
    """A lagged copy of a network: close to it, but not equal."""
    return {name: value + 0.1 * rng.normal(size=value.shape) for name, value in params.items()}


def draw_adam(rng, prefix, shapes, steps):
    """Moments large enough that steps are not dominated by rounding errors."""
    count = sum(math.prod(shape) for _, shape in shapes)
    return {
        f"{prefix}.mean": rng.normal(size=count) * 0.1,
        f"{prefix}.square": rng.uniform(1e-4, 3e-4, count),
        f"{prefix}.steps": np.int64(steps),
    }


def draw_obs_norm(rng, a, batches):
    """Statistics of `batches` minibatches, which clip the first entry of some observations."""
    if not a["normalise"]:
        return {}
    mean, var = rng.normal(size=OBS) * 0.5, rng.uniform(0.3, 2.0, OBS)
    var[0] = 2e-3
    return named("obs_norm", {"mean": mean, "var": var, "batches": np.int64(batches)})


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


# --- Networks -------------------------------------------------------------------------------------

ACTIVATIONS = {
    "mish": lambda x: x * jnp.tanh(jnp.logaddexp(x, 0.0)),
    "relu": lambda x: jnp.where(x > 0, x, 0.0),
    "swish": lambda x: x / (1 + jnp.exp(-x)),
    "gelu": jax.nn.gelu,
    "elu": lambda x: jnp.where(x > 0, x, jnp.expm1(jnp.minimum(x, 0.0))),
}


def relu(x):
    # jnp.maximum splits the gradient at 0; where() gives 0 there.
    return jnp.where(x > 0, x, 0.0)


def linear(p, name, x):
    return x @ p[f"{name}.weight"].T + p.get(f"{name}.bias", 0.0)


def trunk(a, p, name, x):
    for i in range(a["depth"]):
        x = ACTIVATIONS[a["activation"]](linear(p, f"{name}.{i}", x))
    return x


def observe(a, state, obs):
    """Changed entries of the state: statistics that include the minibatch `obs`."""
    if not a["normalise"]:
        return {}
    n = state["obs_norm.batches"] + 1
    weight = max(1 / n, OBS_NORM_MIN_WEIGHT)
    mix = lambda key, now: (1 - weight) * state[f"obs_norm.{key}"] + weight * now
    moved = {"mean": mix("mean", obs.mean(axis=0)), "var": mix("var", obs.var(axis=0))}
    return named("obs_norm", moved | {"batches": np.int64(n)})


def seen(a, state, obs):
    """The observations that the policy gets."""
    if not a["normalise"]:
        return obs
    scaled = (obs - state["obs_norm.mean"]) / jnp.sqrt(state["obs_norm.var"] + OBS_NORM_EPSILON)
    clipped = jnp.abs(scaled) > OBS_NORM_CLIP
    assert clipped.any() and not clipped.all(), "the case does not test clipping"
    return jnp.clip(scaled, -OBS_NORM_CLIP, OBS_NORM_CLIP)


# --- Updates --------------------------------------------------------------------------------------


def named(prefix, tensors):
    return {f"{prefix}.{key}": value for key, value in tensors.items()}


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


def norm_of(gradient):
    return jnp.sqrt(sum((g**2).sum() for g in gradient.values()))


def descend(state, name, shapes, settings, loss, edit=lambda gradient: gradient):
    """One step of Adam on the parameters `name` of the state, down `loss`, which returns a value and
    what else it has computed; `edit` changes the gradient before the step.

    (new entries of the state, value, what else there is, the gradient's norm)
    """
    before = sub(state, name)
    (value, rest), gradient = jax.value_and_grad(loss, has_aux=True)(before)
    rate, beta1 = settings["learning_rate"], settings["beta1"]
    after, new = adam(state, f"{name}_adam", before, edit(gradient), shapes, rate, beta1)
    return new | named(name, after), value, rest, norm_of(gradient)


def actor_due(c, state):
    return (int(state["critic_updates"]) + 1) % c["actor"]["update_every"] == 0


def follow(slow, fast, tau):
    """Polyak averaging."""
    return {name: (1 - tau) * slow[name] + tau * fast[name] for name in slow}


def clear(what, gap):
    gap = float(jnp.min(gap))
    assert gap > CLEAR, f"{what} has a gap of only {gap:.1e}: use another seed"


# --- Recording ------------------------------------------------------------------------------------


def rounded(tensors):
    """Rounded as stored: float32, integers int64."""
    return {
        key: np.asarray(value, np.int64 if np.asarray(value).dtype.kind == "i" else np.float32)
        for key, value in tensors.items()
    }


def widened(tensors):
    return {
        key: value if value.dtype.kind == "i" else jnp.asarray(value, jnp.float64)
        for key, value in tensors.items()
    }


def record(path, draw, update):
    """Draws a case, updates it and writes the file `path`, whose name selects the random stream.

    `draw(rng)` returns a state, a batch and noise; `update(state, batch, noise)` returns the
    changed entries of the state, and the metrics.
    """
    rng = np.random.default_rng([SEED, zlib.crc32(path.stem.encode())])
    before, batch, noise = map(rounded, draw(rng))
    state = widened(before)
    new, metrics = update(state, widened(batch), widened(noise))
    after, metrics = rounded(state | new), rounded(metrics)
    assert before.keys() == after.keys(), before.keys() ^ after.keys()

    groups = {"before": before, "after": after, "batch": batch, "noise": noise, "metrics": metrics}
    tensors = {
        f"{group}.{key}": np.ascontiguousarray(value).reshape(value.shape)
        for group, entries in groups.items()
        for key, value in entries.items()
    }
    assert all(np.isfinite(value).all() for value in tensors.values())
    save_file(tensors, path)
    print(path.stem, {key: round(float(value), 6) for key, value in metrics.items()})


def record_cases(known, draw_state, draw_noise, update, folder=BASELINES / "tests" / "fixtures"):
    """Records the cases named on the command line, or all of `known` ({name: configuration}).

    `draw_state(rng, name, c)`, `draw_noise(rng, c, state)` and `update(c, state, batch, noise)`.
    """
    for name in sys.argv[1:]:
        if name not in known:
            sys.exit(f"unknown case {name}, expected one of {', '.join(known)}")
    for name in sys.argv[1:] or known:

        def draw(rng):
            state = draw_state(rng, name, known[name])
            return state, draw_batch(rng), draw_noise(rng, known[name], state)

        record(folder / f"{name}.safetensors", draw, functools.partial(update, known[name]))
