"""SAC of Stable-Baselines3, and SAC and CrossQ of SBX, which shares its training loop.

    learn_sb3.py sb3|sbx SAC|CrossQ WARMUP SETTLE   # a peer of turns.py: makes the given number of steps

All settings are the libraries' defaults (replay, batches of 256, one update per step, CrossQ's
actor updated at every third step), except that all networks have two layers of 256 units and that
CrossQ's actor has no batch normalisation, like ours.
"""

import importlib
import sys
import time
from importlib import metadata

import turns

PACKAGES = {"sb3": ("stable_baselines3", "stable-baselines3"), "sbx": ("sbx", "sbx-rl")}


def count_parameters(library, model):
    """Number of parameters of actor and critics."""
    if library == "sb3":
        networks = (model.actor, model.critic)
        return sum(p.numel() for network in networks for p in network.parameters())
    import jax

    states = (model.policy.actor_state.params, model.policy.qf_state.params)
    return sum(leaf.size for leaf in jax.tree.leaves(states))


def prepare():
    library, algorithm = sys.argv[1:3]
    warmup, settle = map(int, sys.argv[3:5])
    module, package = PACKAGES[library]
    policy = {"net_arch": [256, 256]}
    if algorithm == "CrossQ":
        policy["batch_norm_actor"] = False
    algorithm = getattr(importlib.import_module(module), algorithm)
    model = algorithm(
        "MlpPolicy", turns.TASK, learning_starts=warmup, policy_kwargs=policy, seed=0, device="cpu"
    )

    def play(steps):
        begun = time.perf_counter()
        model.learn(steps, reset_num_timesteps=False)
        return steps / (time.perf_counter() - begun)

    play(warmup + settle)
    about = {"version": metadata.version(package), "parameters": count_parameters(library, model)}
    return about, play


if __name__ == "__main__":
    turns.serve(prepare)
