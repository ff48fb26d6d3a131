#!/usr/bin/env python3
"""One SAC update in PyTorch or JAX: its time, for comparison with `runner bench update --algo sac`.

    update_sac.py torch-eager cuda 256 256       # program, device, batch, width
    update_sac.py torch-compiled cuda 1024 2048  # torch.compile, on a GPU as CUDA graphs
    update_sac.py jax cpu 256 256                # one jitted function

The update is that of preset `default` of `sac` (crates/baselines/src/sac.toml) at HalfCheetah's sizes:
two critics with targets, two hidden layers everywhere, a squashed Gaussian, a learned temperature, Adam.
One thread on the CPU. The minibatch is on the device; noise is drawn there, losses are not read. Prints a line of JSON: the
median over five rounds of 60 updates, after twenty, and the critics' loss before and after, which shows
that they learn.
"""

import json
import math
import os
import statistics
import sys
import time

OBS, ACT = 17, 6
GAMMA, TAU, RATE = 0.99, 0.005, 3e-4
LOG_STD_RANGE = (-20.0, 2.0)
ROUNDS, UPDATES, WARM = 5, 60, 20


def torch_update(device, batch, width, compiled):
    import torch
    from torch import nn
    from torch.nn import functional as f

    torch.manual_seed(0)
    torch.set_num_threads(1)
    device = torch.device("cuda" if device.startswith("cuda") else "cpu")

    def network(inputs, outputs):
        layers = [nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(width, outputs)).to(device)

    actor, critics = network(OBS, 2 * ACT), [network(OBS + ACT, 1) for _ in range(2)]
    targets = [network(OBS + ACT, 1) for _ in range(2)]
    fast = [p for critic in critics for p in critic.parameters()]
    slow = [p for target in targets for p in target.parameters()]
    torch._foreach_copy_([p.data for p in slow], [p.data for p in fast])
    log_alpha = torch.zeros((), device=device, requires_grad=True)
    adam = lambda of: torch.optim.Adam(of, lr=RATE, capturable=device.type == "cuda")
    steps = [adam(fast), adam(list(actor.parameters())), adam([log_alpha])]
    normal = lambda *shape: torch.randn(*shape, device=device)
    obs, next_obs, reward = normal(batch, OBS), normal(batch, OBS), normal(batch)
    action, goes_on = normal(batch, ACT).tanh(), (torch.rand(batch, device=device) > 0.01).float()

    def draw(obs):
        mean, log_std = actor(obs).chunk(2, dim=1)
        log_std = log_std.clamp(*LOG_STD_RANGE)
        noise = torch.randn_like(mean)
        raw = mean + log_std.exp() * noise
        slope = 2 * (math.log(2) - raw - f.softplus(-2 * raw))
        density = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)
        return raw.tanh(), (density - slope).sum(1)

    def smallest(networks, obs, action):
        both = torch.cat([obs, action], 1)
        return torch.min(*(network(both).squeeze(1) for network in networks))

    def step(optimiser, loss):
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    def update():
        alpha = log_alpha.exp().detach()
        with torch.no_grad():
            next_action, log_prob = draw(next_obs)
            value = smallest(targets, next_obs, next_action) - alpha * log_prob
            goal = reward + GAMMA * goes_on * value
        both = torch.cat([obs, action], 1)
        critic_loss = sum(f.mse_loss(critic(both).squeeze(1), goal) for critic in critics)
        step(steps[0], critic_loss)
        drawn, log_prob = draw(obs)
        for p in fast:
            p.requires_grad_(False)
        step(steps[1], (alpha * log_prob - smallest(critics, obs, drawn)).mean())
        for p in fast:
            p.requires_grad_(True)
        step(steps[2], log_alpha * (-log_prob.detach().mean() + ACT))
        with torch.no_grad():
            torch._foreach_lerp_(slow, fast, TAU)
        return critic_loss.detach()

    finish = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    run = torch.compile(update, mode="reduce-overhead") if compiled else update
    return f"torch {torch.__version__}", run, finish


def jax_update(device, batch, width):
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    import jax
    import jax.numpy as jnp

    if device.startswith("cpu"):
        jax.config.update("jax_platforms", "cpu")
    keys = iter(jax.random.split(jax.random.key(0), 64))

    def network(inputs, outputs):
        sizes = [(inputs, width), (width, width), (width, outputs)]
        return [
            (jax.random.uniform(next(keys), s, minval=-1, maxval=1) / math.sqrt(s[0]), jnp.zeros(s[1]))
            for s in sizes
        ]

    def apply(layers, x):
        for weight, bias in layers[:-1]:
            x = jax.nn.relu(x @ weight + bias)
        return x @ layers[-1][0] + layers[-1][1]

    critics = [network(OBS + ACT, 1) for _ in range(2)]
    learned = {"critics": critics, "actor": network(OBS, 2 * ACT), "alpha": jnp.zeros(())}
    zeros = lambda tree: jax.tree.map(jnp.zeros_like, tree)
    state = (learned, critics, zeros(learned), zeros(learned), jnp.zeros(()), next(keys))
    obs, next_obs = (jax.random.normal(next(keys), (batch, OBS)) for _ in range(2))
    action = jnp.tanh(jax.random.normal(next(keys), (batch, ACT)))
    reward = jax.random.normal(next(keys), (batch,))
    goes_on = (jax.random.uniform(next(keys), (batch,)) > 0.01).astype(jnp.float32)

    def draw(actor, obs, key):
        mean, log_std = jnp.split(apply(actor, obs), 2, axis=1)
        log_std = jnp.clip(log_std, *LOG_STD_RANGE)
        noise = jax.random.normal(key, mean.shape)
        raw = mean + jnp.exp(log_std) * noise
        slope = 2 * (math.log(2) - raw - jax.nn.softplus(-2 * raw))
        density = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)
        return jnp.tanh(raw), (density - slope).sum(1)

    def values(networks, obs, action):
        both = jnp.concatenate([obs, action], 1)
        return jnp.stack([apply(network, both)[:, 0] for network in networks])

    def adam(p, g, m, v, count):
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, v, g)
        rate = RATE * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        return jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-8), p, m, v), m, v

    @jax.jit
    def update(state):
        learned, targets, m, v, count, key = state
        key, first, second = jax.random.split(key, 3)
        count, alpha = count + 1, jnp.exp(learned["alpha"])
        next_action, log_prob = draw(learned["actor"], next_obs, first)
        value = values(targets, next_obs, next_action).min(0) - alpha * log_prob
        goal = reward + GAMMA * goes_on * value
        loss = lambda critics: ((values(critics, obs, action) - goal) ** 2).mean(1).sum()
        critic_loss, gradient = jax.value_and_grad(loss)(learned["critics"])
        new, moments = {}, {}
        of = lambda name, g: adam(learned[name], g, m[name], v[name], count)
        new["critics"], *moments["critics"] = of("critics", gradient)

        def actor_loss(actor):
            drawn, log_prob = draw(actor, obs, second)
            q = values(new["critics"], obs, drawn).min(0)
            return (alpha * log_prob - q).mean(), log_prob.mean()

        gradient, log_prob = jax.grad(actor_loss, has_aux=True)(learned["actor"])
        new["actor"], *moments["actor"] = of("actor", gradient)
        new["alpha"], *moments["alpha"] = of("alpha", -log_prob + ACT)
        targets = jax.tree.map(lambda slow, fast: slow + TAU * (fast - slow), targets, new["critics"])
        m, v = ({name: pair[i] for name, pair in moments.items()} for i in range(2))
        return (new, targets, m, v, count, key), critic_loss

    box = [state, None]

    def run():
        box[0], box[1] = update(box[0])
        return box[1]

    return f"jax {jax.__version__}", run, lambda: jax.block_until_ready(box[1])


def main():
    program, device, batch, width = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    if program == "jax":
        version, run, finish = jax_update(device, batch, width)
    else:
        version, run, finish = torch_update(device, batch, width, program == "torch-compiled")
    first = float(run())
    for _ in range(WARM):
        run()
    times = []
    for _ in range(ROUNDS):
        finish()
        begun = time.perf_counter()
        for _ in range(UPDATES):
            loss = run()
        finish()
        times.append((time.perf_counter() - begun) / UPDATES * 1e6)
    report = {"version": version, "us_per_update": statistics.median(times)}
    print(json.dumps({**report, "first_loss": first, "last_loss": float(loss)}))


if __name__ == "__main__":
    main()
