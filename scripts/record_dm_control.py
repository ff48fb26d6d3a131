#!/usr/bin/env python3
"""Records reference results of dm_control and NumPy for the tests of `crates/envs`.

    scripts/record_dm_control.py                  # everything
    scripts/record_dm_control.py random_state     # tests/fixtures/random_state.txt
    scripts/record_dm_control.py expressions      # tests/fixtures/expressions.txt
    scripts/record_dm_control.py tasks            # tests/fixtures/dm_control.txt

Versions and tasks are those of scripts/dm_control_suite.py. As in scripts/record_env_fixtures.py,
whole runs are recorded with each variant of the C library and of OpenBLAS.
"""

import hashlib
import os
import subprocess
import sys

import dm_control_suite
import parity

FIXTURES = parity.ROOT / "crates" / "envs" / "tests" / "fixtures"
SEED = 20261127
RESETS = 4
STEPS = 200


def hexadecimal(numbers):
    import numpy as np

    numbers = np.atleast_1d(np.asarray(numbers, np.float64))
    return " ".join(f"{bits:016x}" for bits in numbers.view(np.uint64))


def write(name, lines):
    (FIXTURES / name).write_text("\n".join(lines) + "\n")


def record_random_state():
    """Numbers of several streams, and a digest of many more."""
    import numpy as np

    lines = ["# RandomState(seed): 6 uniform(-2, 3), 7 randn(), 4 rand(); SHA-256 of 3000 randn() and rand()."]
    for seed in [0, 1, 42, 2**32 - 1, 2**32, 12345678901234567890]:
        # Larger seeds are keys of two words.
        random = np.random.RandomState(seed if seed < 2**32 else [seed % 2**32, seed >> 32])
        first = [random.uniform(-2, 3, 6), random.randn(7), random.rand(4)]
        more = np.array([[random.randn(), random.rand()] for _ in range(3000)])
        lines.append(f"{seed}: {hexadecimal(np.concatenate(first))} {hashlib.sha256(more.tobytes()).hexdigest()}")
    write("random_state.txt", lines)


def record_expressions():
    """Expressions of our files, and what NumPy and dm_control give for the same."""
    import numpy as np
    from dm_control.utils.rewards import tolerance

    lines = ["# Written by scripts/record_dm_control.py: bits of NumPy's values for expressions of `action`."]
    random = np.random.default_rng(5)
    vectors = [random.normal(0, 2, n) for n in (1, 3, 7, 8, 9, 21)]
    vectors += [np.array([0.0, -0.0, 1.0, 1e-300, -1e10])]
    single = lambda x: x.astype(np.float32)
    for x in vectors:
        lines.append("action = " + hexadecimal(x))
        values = {
            "sum(action)": np.sum(x),
            "mean(action)": x.mean(),
            "prod(action)": x.prod(),
            "min(action)": x.min(),
            "max(action)": x.max(),
            "sum(square(action))": np.sum(np.square(x)),
            "(sum(action) + 4) / 5": (np.sum(x) + 4) / 5,
            "action * 0.1 - action / 3": x * 0.1 - x / 3,
            "all(action < 1)": float(all(x < 1)),
            "any(action > 1)": float(any(x > 1)),
            "clip(action, -1, 0.5)": np.clip(x, -1, 0.5),
            "action[0]^2": float(x[0]) ** 2,
            "exp(action)": np.exp(x),
            "sin(action) + cos(action)": np.sin(x) + np.cos(x),
            "tanh(action)": np.tanh(x),
            "asinh(action)": np.arcsinh(x),
            "log1p(abs(action))": np.log1p(np.abs(x)),
            "atan2(action, 0.3)": np.arctan2(x, 0.3),
            "sqrt(abs(action))": np.sqrt(np.abs(x)),
            "control_cost(0.1)": 0.1 * np.sum(np.square(single(x))),
            "control_cost(1e-3)": 1e-3 * np.sum(np.square(single(x))),
        }
        cases = [
            ("", {}),
            (", margin=1", {"margin": 1}),
            (", lower=1, upper=inf, margin=0.5, value_at_margin=0.5, sigmoid='linear'",
             {"bounds": (1, float("inf")), "margin": 0.5, "value_at_margin": 0.5, "sigmoid": "linear"}),
            (", margin=1, value_at_margin=0, sigmoid='quadratic'",
             {"margin": 1, "value_at_margin": 0, "sigmoid": "quadratic"}),
            (", lower=-1, upper=0.25, margin=3, sigmoid='long_tail'",
             {"bounds": (-1, 0.25), "margin": 3, "sigmoid": "long_tail"}),
            (", lower=-1, upper=0.25, margin=3, sigmoid='reciprocal'",
             {"bounds": (-1, 0.25), "margin": 3, "sigmoid": "reciprocal"}),
            (", 0.6, 2", {"bounds": (0.6, 2)}),
            (", lower=0.1, upper=0.2, margin=7", {"bounds": (0.1, 0.2), "margin": 7}),
        ]
        # Bounds that are known only when the task runs.
        cases.append((", lower=action[0], upper=inf, margin=abs(action[0])",
                      {"bounds": (x[0], float("inf")), "margin": abs(x[0])}))
        for arguments, keywords in cases:
            values[f"tolerance(action{arguments})"] = tolerance(x, **keywords)
            values[f"tolerance(action[0]{arguments})"] = tolerance(x[0], **keywords)
        lines += [f"{text} -> {hexadecimal(value)}" for text, value in values.items()]
    write("expressions.txt", lines)


def record_digests():
    """Prints one line for every task, for the parent process."""
    import numpy as np

    for task in dm_control_suite.TASKS:
        env = dm_control_suite.load(task, SEED)
        shape = env.action_spec().shape
        hashed = hashlib.sha256()
        for _ in range(RESETS):
            hashed.update(dm_control_suite.flat(env.reset()).tobytes())
        for action in np.random.default_rng(SEED).uniform(-1.0, 1.0, (STEPS, *shape)).astype(np.float32):
            step = env.step(action.astype(np.float64))
            hashed.update(dm_control_suite.flat(step).tobytes() + np.float64(step.reward).tobytes())
        print("DIGEST", task, hashed.hexdigest(), flush=True)


def record_tasks():
    lines = [
        "# SHA-256 of runs under dm_control, written by scripts/record_dm_control.py.",
        f"# Seed {SEED}, {RESETS} resets, {STEPS} steps; see `record_digests` there.",
    ]
    for edition, variables in parity.EDITIONS.items():
        done = subprocess.run(
            [sys.executable, __file__, "digests"], env=os.environ | variables, stdout=subprocess.PIPE,
            text=True, check=True,
        )
        rows = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("DIGEST")]
        lines += [f"{edition:10} {task:26} {digest}" for task, digest in rows]
    write("dm_control.txt", lines)


def main():
    parts = {"random_state": record_random_state, "expressions": record_expressions, "tasks": record_tasks,
             "digests": record_digests}
    wanted = sys.argv[1:] or ["random_state", "expressions", "tasks"]
    if unknown := set(wanted) - set(parts):
        parity.fail(f"unknown part {', '.join(unknown)}: expected some of {', '.join(parts)}")
    settings = parity.EDITIONS["fma"] | dm_control_suite.PORTABLE
    if "NPY_DISABLE_CPU_FEATURES" not in os.environ:  # read when NumPy is loaded
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | settings)
    dm_control_suite.use_dm_control()
    for part in wanted:
        parts[part]()


if __name__ == "__main__":
    main()
