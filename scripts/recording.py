"""Shared code of the recorders of single updates (record_smfp_update.py, record_sac_update.py,
record_td3_update.py, record_path_update.py, record_flowrl_update.py): cases, layouts, random states, networks, critics,
Adam, writing files.

It is an independent implementation of the common parts of the algorithms, and shares only names,
shapes and the order of rows with the crates. Gradients are computed by `jax.grad`. Inputs are
rounded to float32, computations are in float64, and results are rounded to float32 again.

    python3 -m venv third_party/venv-jax
    third_party/venv-jax/bin/pip install jax==0.10.2 numpy==2.4.6 safetensors==0.8.0

A case is a dictionary {section: {key: value}} like a preset; functions below take the section that
they use: `k` is `[critic]`, `a` is `[actor]`.
"""

import math
import pathlib
import sys
import tomllib
import zlib

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from safetensors.numpy import save_file

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)

CRATES = pathlib.Path(__file__).resolve().parent.parent / "crates"
SEED = 20260731
OBS, ACT, BATCH = 5, 3, 8

# Constants of the crates that are not settings.
BATCH_NORM_EPSILON = 1e-3
LAYER_NORM_EPSILON = 1e-5
RENORM_R_MAX, RENORM_D_MAX = 3.0, 5.0
ADAM_BETA2, ADAM_EPSILON = 0.999, 1e-8
OBS_NORM_EPSILON, OBS_NORM_CLIP, OBS_NORM_MIN_WEIGHT = 1e-5, 10.0, 1e-3
BINS, HIGHEST = 101, 5.0
RETURN_EPSILON = 1e-8

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


def cases(path, preset=None):
    """The configuration of every case of the file `path`, by name.

    Keys ("section.key") above the file's first table belong to every case; a case's own go over
    them, and both over `preset`. Without one, the keys above the first table are all there are.
    """
    table = tomllib.loads(path.read_text())
    shared = {key: value for key, value in table.items() if not isinstance(value, dict)}
    if preset is None:
        preset = {}
        for key, value in shared.items():
            section, key = key.split(".")
            preset.setdefault(section, {})[key] = value
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


# --- Layout: names and shapes, in the order of the flat vector ------------------------------------


def linear_shapes(name, inputs, outputs):
    return [(f"{name}.weight", (outputs, inputs)), (f"{name}.bias", (outputs,))]


def trunk_shapes(a, name, inputs):
    return [
        entry
        for i in range(a["depth"])
        for entry in linear_shapes(f"{name}.{i}", inputs if i == 0 else a["width"], a["width"])
    ]


def critic_shapes(k):
    """Shapes of the parameters and of the running statistics."""
    width, xqc = k["width"], k["kind"] == "xqc"
    batch_norm = xqc or k["kind"] == "crossq"
    params, stats = [], []

    def norm_shapes(name, features, with_stats):
        params.extend([(f"{name}.weight", (features,)), (f"{name}.bias", (features,))])
        if with_stats:
            stats.extend([(f"{name}.mean", (features,)), (f"{name}.var", (features,))])

    for i in range(k["members"]):
        if batch_norm:
            norm_shapes(f"{i}.norm_in", OBS + ACT, True)
        for layer in range(k["depth"]):
            inputs = OBS + ACT if layer == 0 else width
            linear = linear_shapes(f"{i}.{layer}", inputs, width)
            params.extend(linear[:1] if xqc else linear)  # without a bias
            if k["kind"] != "mlp":
                norm_shapes(f"{i}.norm_{layer}", width, batch_norm)
        params.extend(linear_shapes(f"{i}.head", width, k.get("outputs", BINS if xqc else 1)))
    return params, stats


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


def draw_critics(rng, k, updates):
    """Online and target networks, running statistics and optimiser after some updates."""
    params, stats = critic_shapes(k)
    online = draw_params(rng, params)
    if k["kind"] == "xqc":
        online = unit_rows(online)
    state = named("critic", online)
    if has_targets(k):
        state |= named("critic_target", draw_behind(rng, online))
    for key, shape in stats:
        mean = key.endswith("mean")
        spread = rng.normal(size=shape) * 0.3 if mean else rng.uniform(0.3, 1.5, shape)
        # Partly so far from the batch's that renormalisation reaches its limits.
        if key == "0.norm_in.mean":
            spread[0] += 4.0
        if key == "0.norm_in.var":
            spread[:2] *= 0.05
        state[f"critic_stats.{key}"] = spread
    if k["kind"] == "xqc":
        # Number, mean, summed squares of deviations and largest size of the returns so far. With
        # targets the deviation (2) scales rewards, without the largest return (14 / 5).
        largest = 7.0 if has_targets(k) else 14.0
        state["critic_stats.returns"] = np.array([600.0, 1.5, 2400.0, largest])
    state |= draw_adam(rng, "critic_adam", params, updates)
    state["critic_updates"] = np.int64(updates)
    return state


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


def renorm_correction(mean, var, batch_mean, batch_var):
    """r and d of batch renormalisation (Ioffe 2017, algorithm 1) before their limits."""
    running = jnp.sqrt(var + BATCH_NORM_EPSILON)
    return jnp.sqrt(batch_var + BATCH_NORM_EPSILON) / running, (batch_mean - mean) / running


def normalise(k, p, stats, name, x, mode):
    """Batch normalisation; (output, updated statistics).

    `mode` is "running" (the running statistics), "batch" (the batch's) or "renorm" (the batch's,
    corrected towards the running ones).
    """
    mean, var = stats[f"{name}.mean"], stats[f"{name}.var"]
    scale, shift = p[f"{name}.weight"], p[f"{name}.bias"]
    if mode == "running":
        return scale * (x - mean) / jnp.sqrt(var + BATCH_NORM_EPSILON) + shift, {}
    n = len(x)
    batch_mean = x.mean(axis=0)
    batch_var = ((x - batch_mean) ** 2).mean(axis=0)
    y = (x - batch_mean) / jnp.sqrt(batch_var + BATCH_NORM_EPSILON)
    if mode == "renorm":
        r, d = renorm_correction(mean, var, batch_mean, batch_var)
        r = jnp.clip(r, 1 / RENORM_R_MAX, RENORM_R_MAX)
        d = jnp.clip(d, -RENORM_D_MAX, RENORM_D_MAX)
        y = y * lax.stop_gradient(r) + lax.stop_gradient(d)
    keep = k["norm_momentum"]
    # PyTorch keeps the unbiased variance.
    moved = {
        f"{name}.mean": keep * mean + (1 - keep) * batch_mean,
        f"{name}.var": keep * var + (1 - keep) * batch_var * n / (n - 1),
    }
    return scale * y + shift, moved


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


def critic_outputs(k, p, stats, obs, action, mode="running"):
    """Outputs of every member, (members, B, n), and the updated statistics."""
    moved, outputs = {}, []
    for i in range(k["members"]):
        h = jnp.concatenate([obs, action], axis=1)
        if k["kind"] in ("crossq", "xqc"):
            h, new = normalise(k, p, stats, f"{i}.norm_in", h, mode)
            moved |= new
        for layer in range(k["depth"]):
            h, at = linear(p, f"{i}.{layer}", h), f"{i}.norm_{layer}"
            if k["kind"] == "layernorm":
                centred = h - h.mean(axis=1, keepdims=True)
                var = (centred**2).mean(axis=1, keepdims=True)
                h = centred / jnp.sqrt(var + LAYER_NORM_EPSILON)
                h = h * p[f"{at}.weight"] + p[f"{at}.bias"]
            if k["kind"] == "xqc":
                h, new = normalise(k, p, stats, at, h, mode)
                moved |= new
            h = relu(h)
            if k["kind"] == "crossq":
                h, new = normalise(k, p, stats, at, h, mode)
                moved |= new
        outputs.append(linear(p, f"{i}.head", h))
    return jnp.stack(outputs), moved


SUPPORT = jnp.linspace(-HIGHEST, HIGHEST, BINS)


def return_scale(stats):
    """What rewards are divided by for XQC, from the statistics of the returns so far."""
    count, _, squares, largest = stats["returns"]
    return jnp.maximum(jnp.sqrt(squares / count + RETURN_EPSILON), largest / HIGHEST)


def values_of(k, stats, outputs):
    """Outputs (members, B, n) as values (members, B) in the units of the rewards."""
    if k["kind"] == "xqc":
        return jax.nn.softmax(outputs) @ SUPPORT * return_scale(stats)
    return outputs[:, :, 0]


def critics(k, p, stats, obs, action, mode="running"):
    """Q of every member, (members, B), and the updated statistics."""
    outputs, moved = critic_outputs(k, p, stats, obs, action, mode)
    return values_of(k, stats, outputs), moved


def smallest(q):
    """Clipped double Q."""
    return q.min(axis=0)


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


def follow(slow, fast, tau):
    """Polyak averaging."""
    return {name: (1 - tau) * slow[name] + tau * fast[name] for name in slow}


def clear(what, gap):
    gap = float(jnp.min(gap))
    assert gap > CLEAR, f"{what} has a gap of only {gap:.1e}: use another seed"


def has_targets(k):
    """At the rate 1, XQC's targets are the critics themselves."""
    return k["kind"] != "crossq" and not (k["kind"] == "xqc" and k["tau"] == 1.0)


def target_critics(k, state):
    """The networks of Q': the targets, or the critics themselves."""
    return sub(state, "critic_target" if has_targets(k) else "critic")


def unit_rows(params):
    """Weights with rows of length 1."""
    length = lambda w: (w**2).sum(axis=1, keepdims=True) ** 0.5
    return {name: w / length(w) if w.ndim == 2 else w for name, w in params.items()}


def clear_renorm(stats, obs, action):
    """Checks that some corrections of renormalisation reach their limits and others do not."""
    x = jnp.concatenate([obs, action], axis=1)
    mean, var = stats["0.norm_in.mean"], stats["0.norm_in.var"]
    r, d = renorm_correction(mean, var, x.mean(axis=0), x.var(axis=0))
    for beyond in ((r > RENORM_R_MAX) | (r < 1 / RENORM_R_MAX), jnp.abs(d) > RENORM_D_MAX):
        assert beyond.any() and not beyond.all(), "the case does not test renormalisation"


def step_critics(k, state, batch, next_action, bonus):
    """One step on sum_i mean (Q_i(s, a) - y)^2 with
    y = r + gamma (1 - terminated) (Q'(s', a') + bonus), or for XQC on the cross-entropy to the
    distribution of y. Targets stay where they are.

    (new entries of the state, metrics)
    """
    online, stats = sub(state, "critic"), sub(state, "critic_stats")
    crossq = k["kind"] == "crossq"
    renorm = k["renorm"] and int(state["critic_updates"]) >= k["renorm_warmup"]
    obs = jnp.concatenate([batch["obs"], batch["next_obs"]])
    action = jnp.concatenate([batch["action"], next_action])
    if crossq and renorm:
        clear_renorm(stats, obs, action)

    def cross_entropy(p):
        target = target_critics(k, state)
        of_target, _ = critic_outputs(k, target, stats, obs, action, "batch")
        next_p = jax.nn.softmax(of_target[:, BATCH:])
        means = next_p @ SUPPORT
        ordered = jnp.sort(means, axis=0)
        clear("the member with the smaller mean", ordered[1] - ordered[0])
        next_p = next_p[means.argmin(axis=0), jnp.arange(BATCH)]
        scale, column = return_scale(stats), lambda x: jnp.reshape(x, (-1, 1))
        discount = k["gamma"] * (1 - batch["terminated"])
        y = column(batch["reward"] / scale) + column(discount) * (
            SUPPORT + column(jnp.broadcast_to(bonus, BATCH) / scale)
        )
        beyond = jnp.abs(y) > HIGHEST
        assert beyond.any() and not beyond.all(), "the case does not test the support's ends"
        # Every y shares its probability among the bins that are less than a spacing away.
        spacing = SUPPORT[1] - SUPPORT[0]
        distance = jnp.abs(jnp.clip(y, -HIGHEST, HIGHEST)[:, :, None] - SUPPORT) / spacing
        label = (next_p[:, :, None] * jnp.maximum(1 - distance, 0.0)).sum(axis=1)
        both, moved = critic_outputs(k, p, stats, obs, action, "batch")
        own = both[:, :BATCH]
        each = -(lax.stop_gradient(label) * jax.nn.log_softmax(own)).sum(axis=2)
        return each.mean(axis=1).sum(), (values_of(k, stats, own).mean(), moved)

    def squared_error(p):
        if crossq:
            both, moved = critics(k, p, stats, obs, action, "renorm" if renorm else "batch")
            q, next_q = both[:, :BATCH], both[:, BATCH:]
        else:
            q, moved = critics(k, p, stats, batch["obs"], batch["action"])
            target = target_critics(k, state)
            next_q, _ = critics(k, target, stats, batch["next_obs"], next_action)
        next_value = smallest(next_q) + bonus
        y = batch["reward"] + k["gamma"] * (1 - batch["terminated"]) * next_value
        errors = q - lax.stop_gradient(y)
        return (errors**2).mean(axis=1).sum(), (q.mean(), moved)

    loss = cross_entropy if k["kind"] == "xqc" else squared_error
    (value, (q_mean, moved)), gradient = jax.value_and_grad(loss, has_aux=True)(online)
    shapes, _ = critic_shapes(k)
    online, optimiser = adam(
        state, "critic_adam", online, gradient, shapes, k["learning_rate"], k["beta1"]
    )
    if k["kind"] == "xqc":
        online = unit_rows(online)
    new = named("critic", online) | optimiser | named("critic_stats", moved)
    new["critic_updates"] = np.int64(state["critic_updates"] + 1)
    return new, {"critic_loss": value, "q_mean": q_mean}


def track_critics(k, state):
    """The targets after their Polyak step; nothing where there are none."""
    if not has_targets(k):
        return {}
    followed = follow(sub(state, "critic_target"), sub(state, "critic"), k["tau"])
    return named("critic_target", followed)


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


def chosen(known):
    """The cases named on the command line, or all of `known`."""
    for name in sys.argv[1:]:
        if name not in known:
            sys.exit(f"unknown case {name}, expected one of {', '.join(known)}")
    return {name: known[name] for name in sys.argv[1:] or known}
