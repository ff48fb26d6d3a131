"""The two policies of act_torch.py in JAX, compiled by `jit`: the time of an action.

    act_jax.py              # a peer of turns.py: times the given number of actions of each
"""

import jax
import numpy as np
import turns
from jax import numpy as jnp


def layers(key, *widths):
    """Weights and biases of layers between these widths."""
    pairs = list(zip(widths, widths[1:]))
    draw = jax.nn.initializers.lecun_normal()
    keys = jax.random.split(key, len(pairs))
    return [(draw(k, pair), jnp.zeros(pair[1])) for k, pair in zip(keys, pairs)]


def forward(parameters, activation, x):
    """An MLP with a linear last layer."""
    *hidden, (weights, biases) = parameters
    for w, b in hidden:
        x = activation(x @ w + b)
    return x @ weights + biases


@jax.jit
def gaussian(parameters, key, obs):
    key, noise_key = jax.random.split(key)
    mean, log_std = jnp.split(forward(parameters, jax.nn.relu, obs), 2, axis=1)
    noise = jax.random.normal(noise_key, mean.shape)
    return key, jnp.tanh(mean + jnp.exp(jnp.clip(log_std, -20, 2)) * noise)


@jax.jit
def diffusion(parameters, key, obs):
    schedule = turns.diffusion_schedule()
    steps, times = jnp.array(schedule["steps"]), jnp.array(schedule["times"])
    key, start_key, noise_key = jax.random.split(key, 3)
    shape = (obs.shape[0], turns.ACT_DIM)
    draws = jax.random.normal(noise_key, (len(steps), *shape))

    def denoise(k, x):
        scale, share, std = steps[k]
        noise = forward(parameters, jax.nn.mish, jnp.concatenate([obs, x, times[k][None]], 1))
        return scale * (x - share * noise) + std * draws[k]

    x = jax.lax.fori_loop(0, len(steps), denoise, jax.random.normal(start_key, shape))
    return key, jnp.clip(x, -1, 1)


def prepare():
    inputs = turns.OBS_DIM + turns.ACT_DIM + turns.TIME_DIM
    policies = {
        "gaussian": (gaussian, (turns.OBS_DIM, 256, 256, 2 * turns.ACT_DIM)),
        "diffusion": (diffusion, (inputs, 256, 256, 256, turns.ACT_DIM)),
    }

    def acting(policy, widths):
        key, parameters_key = jax.random.split(jax.random.key(0))
        parameters = layers(parameters_key, *widths)

        def act(obs):
            nonlocal key
            key, action = policy(parameters, key, obs)
            return np.asarray(action)

        return act

    variants = {f"{name}, JAX": acting(*policy) for name, policy in policies.items()}
    return turns.time_actions(f"jax {jax.__version__}", variants)


if __name__ == "__main__":
    turns.serve(prepare)
