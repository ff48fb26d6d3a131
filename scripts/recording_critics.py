"""The critics of recorded updates, of every kind: networks, random states, steps (docs/algorithm.md,
section 5). An independent implementation, as recording.py says. `k` is the section `[critic]`."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from recording import (
    ACT,
    BATCH,
    LAYER_NORM_EPSILON,
    OBS,
    clear,
    descend,
    draw_adam,
    draw_behind,
    draw_params,
    follow,
    linear,
    linear_shapes,
    named,
    relu,
    sub,
)

BATCH_NORM_EPSILON = 1e-3
RENORM_R_MAX, RENORM_D_MAX = 3.0, 5.0
BINS, HIGHEST = 101, 5.0
RETURN_EPSILON = 1e-8
SUPPORT = jnp.linspace(-HIGHEST, HIGHEST, BINS)


# --- Layout and random states -------------------------------------------------------------------


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


# --- Networks -----------------------------------------------------------------------------------


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


def value_of(k, state):
    """Q(s, a), the smallest of the members' values, as a function of rows of both."""
    p, stats = sub(state, "critic"), sub(state, "critic_stats")
    return lambda obs, action: smallest(critics(k, p, stats, obs, action)[0])


def target_value_of(k, state):
    """Q'(s, a) likewise."""
    p, stats = target_critics(k, state), sub(state, "critic_stats")
    return lambda obs, action: smallest(critics(k, p, stats, obs, action)[0])


def clear_smallest(k, state, obs, action):
    """Checks that every row has a clearly smallest member."""
    q, _ = critics(k, sub(state, "critic"), sub(state, "critic_stats"), obs, action)
    ordered = jnp.sort(q, axis=0)
    clear("the smallest value", ordered[1] - ordered[0])


# --- Updates --------------------------------------------------------------------------------------


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
    stats = sub(state, "critic_stats")
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
    shapes, _ = critic_shapes(k)
    new, value, (q_mean, moved), _ = descend(state, "critic", shapes, k, loss)
    if k["kind"] == "xqc":
        new |= named("critic", unit_rows(sub(new, "critic")))
    new |= named("critic_stats", moved)
    new["critic_updates"] = np.int64(state["critic_updates"] + 1)
    return new, {"critic_loss": value, "q_mean": q_mean}


def track_critics(k, state):
    """The targets after their Polyak step; nothing where there are none."""
    if not has_targets(k):
        return {}
    followed = follow(sub(state, "critic_target"), sub(state, "critic"), k["tau"])
    return named("critic_target", followed)


def update_critics(k, state, batch, next_action, bonus=0.0):
    """`step_critics`, and after it the targets' step: what every algorithm but TD3 does."""
    new, metrics = step_critics(k, state, batch, next_action, bonus)
    return new | track_critics(k, state | new), metrics
