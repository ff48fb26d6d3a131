#!/usr/bin/env python3
"""Records reference results of NumPy and Gymnasium for the tests of `crates/envs`.

    scripts/record_env_fixtures.py              # everything
    scripts/record_env_fixtures.py ziggurat     # src/numpy/ziggurat_tables.rs
    scripts/record_env_fixtures.py numpy        # tests/fixtures/numpy.npz
    scripts/record_env_fixtures.py traces       # tests/fixtures/{traces.npz,digests.txt}

Versions and tasks are those of scripts/parity.py.

The results of two libraries depend on the processor in the last bits, which then changes whole runs:
the C library, which MuJoCo uses for sine, cosine and so on (glibc has variants with and
without FMA), and OpenBLAS, which NumPy uses for norms (with or without AVX-512). Whole runs are
therefore recorded with each variant, selected by environment variables, and a test determines which
one to compare with. Record on a machine with FMA.
"""

import hashlib
import math
import os
import pathlib
import subprocess
import sys
import warnings

import parity

parity.use_gymnasium()

import gymnasium
import numpy as np
import numpy.random

ENVS = parity.ROOT / "crates" / "envs"
FIXTURES = ENVS / "tests" / "fixtures"

SHORT_STEPS = 12
LONG_STEPS = 2000
VECTOR_ENVS = 3
VECTOR_STEPS = 1050  # beyond the longest time limit
RESETS = 4
SEEDS = [0, 20260731]


def record_ziggurat():
    """Reads the tables from NumPy's library: 256 numbers each, located by their first numbers,
    which are known from `ziggurat_constants.h`."""
    library = next(pathlib.Path(numpy.random.__path__[0]).glob("_generator.*.so")).read_bytes()
    tables = {
        "THRESHOLD": ("Mantissas below this are entirely under the curve (`ki_double`).",
                      np.array([0x000EF33D8025EF6A, 0, 0x000C08BE98FBC6A8], "<u8")),
        "WIDTH": ("Bits of the `f64` that scales a mantissa to the layer's width (`wi_double`).",
                  np.array([8.68362706080130616677e-16, 4.77933017572773682428e-17], "<f8")),
        "HEIGHT": ("Bits of the `f64` height of the density at the layer's edge (`fi_double`).",
                   np.array([1.0, 9.77101701267671596263e-01], "<f8")),
    }
    text = [
        "//! The 256 layers of NumPy's ziggurat for the normal distribution.",
        "//!",
        "//! Written by `scripts/record_env_fixtures.py ziggurat`, which reads them out of NumPy's compiled",
        "//! `_generator` (source: `numpy/random/src/distributions/ziggurat_constants.h`, BSD-3-Clause).",
        "//! They are not computed here because NumPy's differ from the exact values in the last bits.",
    ]
    for name, (meaning, start) in tables.items():
        at = library.index(start.tobytes())
        if library.find(start.tobytes(), at + 1) != -1:
            parity.fail(f"the beginning of {name} occurs twice in NumPy's library")
        words = np.frombuffer(library, "<u8", 256, at)
        text += ["", f"/// {meaning}", "#[rustfmt::skip]", f"pub(super) static {name}: [u64; 256] = ["]
        text += ["    " + " ".join(f"0x{word:016x}," for word in row) for row in words.reshape(-1, 4)]
        text += ["];"]
    (ENVS / "src/numpy/ziggurat_tables.rs").write_text("\n".join(text) + "\n")


def record_numpy():
    """Streams of several seeds; enough normal numbers to include the tail; sums of every length."""
    seeds = np.array([0, 1, 42, 2**32 - 1, 2**32, 12345678901234567890, 2**64 - 1], np.uint64)
    rngs = lambda: [np.random.default_rng(int(seed)) for seed in seeds]
    normal = np.random.default_rng(7).standard_normal(1_000_000)
    tail = np.abs(normal) > 3.6541528853610088
    x = np.random.default_rng(3).uniform(-2, 2, 300)
    lengths = range(1, 301)
    FIXTURES.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        FIXTURES / "numpy.npz",
        seeds=seeds,
        sequence=np.array([np.random.SeedSequence(int(s)).generate_state(4, np.uint64) for s in seeds]),
        bits=np.array([rng.bit_generator.random_raw(8) for rng in rngs()]),
        uniform=np.array([rng.uniform(-0.1, 0.1, 8) for rng in rngs()]),
        normal=np.array([rng.standard_normal(200) for rng in rngs()]),
        tail_at=np.flatnonzero(tail).astype(np.uint64),
        tail=normal[tail],
        body_sha256=np.frombuffer(hashlib.sha256(normal[~tail].tobytes()).digest(), np.uint8),
        x=x,
        squares_f64=np.array([np.sum(np.square(x[:n])) for n in lengths]),
        squares_f32=np.array([np.sum(np.square(x.astype(np.float32)[:n])) for n in lengths]),
    )


def draw_actions(space, seed, steps):
    """Random actions (steps, act_dim); every second block of 50 is three times as large as the bounds."""
    wide = np.where(np.arange(steps) // 50 % 2 == 1, 3.0, 1.0)[:, None]
    unit = np.random.default_rng(seed).uniform(-1.0, 1.0, (steps, *space.shape))
    return (unit * wide * space.high.astype(np.float64)).astype(np.float32)


def replay_vector(task, seed):
    """Copies of a task as a vector environment with Gymnasium's default auto-reset, NEXT_STEP."""
    envs = gymnasium.make_vec(task, num_envs=VECTOR_ENVS, vectorization_mode="sync")
    space = envs.single_action_space
    actions = [draw_actions(space, seed + i, VECTOR_STEPS) for i in range(VECTOR_ENVS)]
    reset_obs, _ = envs.reset(seed=seed)
    obs, rewards, terminated, truncated, _ = zip(*map(envs.step, np.stack(actions, 1)))
    assert envs.metadata["autoreset_mode"] == gymnasium.vector.AutoresetMode.NEXT_STEP
    return {
        "obs": np.array(obs, np.float64),
        "reset_obs": np.array(reset_obs, np.float64),
        "reward": np.array(rewards, np.float64),
        "terminated": np.array(terminated, np.uint8),
        "truncated": np.array(truncated, np.uint8),
    }


def digest(trace):
    names = ["obs", "reset_obs", "reward", "terminated", "truncated"]
    return hashlib.sha256(b"".join(trace[name].tobytes() for name in names)).hexdigest()


def fingerprint():
    """SHA-256 of the values of the C library's functions on a grid, which identifies its variant."""
    values = []
    for k in range(1, 20_001):
        x = k * 0.00078539
        y = x / 16.0
        values += [math.sin(x), math.cos(x), math.tan(x), math.exp(x), math.log(x), math.log1p(x)]
        values += [math.asin(y), math.acos(y), math.atan2(x, 3.0), math.pow(x, y), math.tanh(x)]
    return hashlib.sha256(np.array(values).tobytes()).hexdigest()


def record_digests():
    """Prints one line for every task and seed, for the parent process."""
    print("DIGEST fingerprint - -", fingerprint(), flush=True)
    for task in parity.TASKS:
        for seed in SEEDS:
            actions = draw_actions(gymnasium.make(task).action_space, seed, LONG_STEPS)
            trace = parity.replay(task, seed, actions)
            print("DIGEST", task, seed, len(trace["reset_obs"]) - 1, digest(trace), flush=True)
        trace = replay_vector(task, SEEDS[1])
        ended = (trace["terminated"] | trace["truncated"]).sum()
        print("DIGEST", f"{task}*{VECTOR_ENVS}", SEEDS[1], ended, digest(trace), flush=True)


def record_traces():
    """Records the first steps of runs, and digests of whole runs."""
    arrays = {}
    for task in parity.TASKS:
        env = gymnasium.make(task)
        resets = [env.reset(seed=SEEDS[1])[0]] + [env.reset()[0] for _ in range(RESETS - 1)]
        arrays[f"{task}/resets"] = np.array(resets)
        actions = draw_actions(env.action_space, SEEDS[1], SHORT_STEPS)
        trace = parity.replay(task, SEEDS[1], actions)
        arrays[f"{task}/obs"], arrays[f"{task}/reward"] = trace["obs"], trace["reward"]
    np.savez_compressed(FIXTURES / "traces.npz", **arrays)

    lines = [
        "# SHA-256 of whole runs under Gymnasium, written by scripts/record_env_fixtures.py.",
        f"# {LONG_STEPS} steps; see `draw_actions` and `digest` there. `*{VECTOR_ENVS}` is a vector of as many",
        f"# environments for {VECTOR_STEPS} steps; see `replay_vector`.",
        "# `fingerprint` tells which edition of the C library a machine has.",
        "# edition  task                             seed episodes digest",
    ]
    for edition, variables in parity.EDITIONS.items():
        environment = os.environ | variables
        done = subprocess.run(
            [sys.executable, __file__, "digests"], env=environment, stdout=subprocess.PIPE, text=True,
            check=True,
        )
        rows = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("DIGEST")]
        lines += [f"{edition:10} {task:28} {seed:>8} {ended:>8} {sha}" for task, seed, ended, sha in rows]
    (FIXTURES / "digests.txt").write_text("\n".join(lines) + "\n")


def main():
    parts = {"ziggurat": record_ziggurat, "numpy": record_numpy, "traces": record_traces,
             "digests": record_digests}
    wanted = sys.argv[1:] or ["ziggurat", "numpy", "traces"]
    if unknown := set(wanted) - set(parts):
        parity.fail(f"unknown part {', '.join(unknown)}: expected some of {', '.join(parts)}")
    if "OPENBLAS_CORETYPE" not in os.environ:  # read when NumPy is loaded
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | parity.EDITIONS["fma"])
    warnings.filterwarnings("ignore")
    gymnasium.logger.min_level = gymnasium.logger.ERROR
    for part in wanted:
        parts[part]()


if __name__ == "__main__":
    main()
