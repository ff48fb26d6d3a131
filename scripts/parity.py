#!/usr/bin/env python3
"""Compares the runner's environments with Gymnasium's and dm_control's, bit for bit.

Random actions are replayed through `gymnasium.make(ID)` and through `runner trace`; observations,
reset observations, rewards, terminations, truncations and, in v5, the terms of the rewards must be
bit-identical. Half of the actions are far outside the bounds.

    scripts/parity.py                                   # every task, seeds 0 to 2, 3000 steps
    scripts/parity.py --quick                           # every task in less than a minute
    scripts/parity.py --env Ant-v4 --seeds 17 99 --steps 20000
    scripts/parity.py --runner target/release/runner
    scripts/parity.py --suite dm_control                # the tasks of models/dm_control
    scripts/parity.py --suite dm_control --fast-numpy   # which last bits depend on NumPy's fast loops

Needs Python 3.11 or newer and pip. If Python does not have the pinned Gymnasium, installs it from
PyPI into third_party/python-parity (220 MB). Exit code: 0 equal, 1 different, 2 could not compare.
"""

import argparse
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ROOT / "third_party" / "python-parity"
# The versions that are reproduced. NumPy is pinned because it guarantees its random streams only
# within a version; importing the MuJoCo tasks requires imageio and packaging.
PINS = ["gymnasium==1.4.0", "mujoco==3.17.0", "numpy==2.4.6", "imageio", "packaging"]
OLDEST_PYTHON = (3, 11)  # required by this NumPy

ROBOTS = ["Ant", "HalfCheetah", "Hopper", "Humanoid", "HumanoidStandup", "Swimmer", "Walker2d"]
TASKS = [f"{robot}-{version}" for version in ("v4", "v5") for robot in ROBOTS]
# Pusher-v4's model is not valid with MuJoCo 3.
TASKS += ["InvertedPendulum-v4", "InvertedPendulum-v5", "InvertedDoublePendulum-v4"]
TASKS += ["InvertedDoublePendulum-v5", "Reacher-v4", "Reacher-v5", "Pusher-v5"]
# Environment variables that make a process compute as on another processor.
EDITIONS = {
    "fma": {"GLIBC_TUNABLES": "", "OPENBLAS_CORETYPE": "Haswell"},
    "fma-avx512": {"GLIBC_TUNABLES": "", "OPENBLAS_CORETYPE": "SkylakeX"},
    "no-fma": {
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-FMA,-AVX2,-FMA4,-FMA_Usable,-AVX2_Usable",
        "OPENBLAS_CORETYPE": "Haswell",
    },
}


def use_gymnasium():
    """Makes the pinned Gymnasium importable."""
    try:
        if all(metadata.version(name) == pin for name, pin in map(split_pin, PINS[:3])):
            return
    except metadata.PackageNotFoundError:
        pass
    if sys.version_info < OLDEST_PYTHON:
        fail(f"this is Python {sys.version.split()[0]}; {PINS[2]} needs 3.11 or newer")
    if not install(PACKAGES, PINS, "220 MB"):
        fail(f"pip cannot install {' '.join(PINS)}, see above")


def split_pin(pin):
    return pin.split("==")


def install(folder, packages, size):
    """Installs packages from PyPI into a folder, unless they are there, and makes them importable;
    returns whether that worked. (Not a virtual environment, which some systems' Python cannot create.)"""
    stamp = folder / "installed"
    wanted = f"Python {sys.version_info[0]}.{sys.version_info[1]}: {' '.join(packages)}"
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing {' '.join(packages)} from PyPI into {folder} ({size})", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "install", "--target", str(folder), *packages]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:  # otherwise its warnings are about packages that are not used here
            print(done.stderr.strip(), file=sys.stderr)
            shutil.rmtree(folder, ignore_errors=True)
            return False
        stamp.write_text(wanted)
    sys.path.insert(0, str(folder))
    return True


def fail(message):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def add_runner(parser):
    """Adds the option --runner: the program, as an absolute path."""

    def program(path):
        path = os.path.abspath(path)
        if not os.access(path, os.X_OK) or os.path.isdir(path):
            fail(f"{path} is not a program; build it with `cargo build -p runner`")
        return path

    default = str(ROOT / "target/debug/runner")
    parser.add_argument("--runner", type=program, default=default, help="the program")


@contextlib.contextmanager
def quiet():
    """Suppresses what MuJoCo prints about every model that it loads."""
    sys.stdout.flush()
    kept, nothing = [os.dup(1), os.dup(2)], os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        yield
    finally:
        for number, original in zip((1, 2), kept):
            os.dup2(original, number)
        for number in (*kept, nothing):
            os.close(number)


def draw_actions(space, seed, steps):
    """Actions of shape (steps, act_dim), float32: blocks of 50 within the bounds alternate with
    blocks of 50 up to ten times as large, some of them exactly at the bounds."""
    import numpy as np

    random = np.random.default_rng([seed, steps])
    actions = random.uniform(-1.0, 1.0, (steps, *space.shape)) * space.high
    wild = np.arange(steps) // 50 % 2 == 1
    actions[wild] *= random.choice([1.5, 3.0, 10.0], (wild.sum(), 1))
    on_bounds = random.random(actions.shape) < 0.02
    actions = np.where(on_bounds, np.sign(actions) * space.high, actions)
    return actions.astype(np.float32)


def replay(task, seed, actions):
    """Replays actions through Gymnasium, like `runner trace`."""
    import gymnasium
    import numpy as np

    with quiet():
        env = gymnasium.make(task)
    obs, resets, rewards, ends = [], [env.reset(seed=seed)[0]], [], []
    terms = {}
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        obs.append(observation)
        rewards.append(reward)
        ends.append((terminated, truncated))
        if task.endswith("-v5"):  # v4 has not all, and other names
            for name, value in info.items():
                if name.startswith("reward_") or name.endswith("_penalty"):
                    terms.setdefault("term_" + name.removeprefix("reward_"), []).append(value)
        if terminated or truncated:
            resets.append(env.reset()[0])
    env.close()
    ends = np.array(ends, np.uint8)
    return {
        "obs": np.array(obs, np.float64),
        "reset_obs": np.array(resets, np.float64),
        "reward": np.array(rewards, np.float64),
        "terminated": ends[:, 0],
        "truncated": ends[:, 1],
        **{name: np.array(values, np.float64) for name, values in terms.items()},
    }


def replay_here(runner, task, seed, actions, folder):
    """Replays actions through `runner trace`."""
    import numpy as np

    actions_file, trace_file = folder / "actions.npy", folder / "trace.npz"
    np.save(actions_file, actions)
    command = [runner, "trace", "--env", task, "--seed", str(seed)]
    command += ["--actions", str(actions_file), "--out", str(trace_file)]
    trace_file.unlink(missing_ok=True)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0 or not trace_file.exists():
        fail(f"`{' '.join(map(str, command))}` ended with {done.returncode}: {done.stderr.strip()}")
    with np.load(trace_file) as trace:
        return {name: trace[name] for name in trace.files}


def differences(theirs, ours):
    """Yields one line for every array that is not bit-identical."""
    import numpy as np

    for name, expected in theirs.items():
        found = ours.get(name)
        if found is None:
            yield f"{name} is missing"
        elif (found.shape, found.dtype) != (expected.shape, expected.dtype):
            form = f"{found.dtype}{found.shape}, theirs {expected.dtype}{expected.shape}"
            yield f"{name} is {form}"
        elif found.tobytes() != expected.tobytes():
            bits = [np.ascontiguousarray(a).view(f"u{a.itemsize}") for a in (found, expected)]
            where = np.argwhere(bits[0] != bits[1])
            first = tuple(int(i) for i in where[0])
            yield (
                f"{name}: {len(where)} of {found.size} numbers differ, first at {first}: "
                f"{found[first]!r}, theirs {expected[first]!r}"
            )


class Gymnasium:
    """Gymnasium's tasks, which are built into the runner."""

    tasks = TASKS

    def __init__(self):
        use_gymnasium()
        import gymnasium

        gymnasium.logger.min_level = gymnasium.logger.ERROR

    def id(self, task):
        return task

    def action_space(self, task):
        import gymnasium

        return gymnasium.make(task).action_space

    def replay(self, task, seed, actions):
        return replay(task, seed, actions)


class DmControl:
    """The tasks of dm_control's suite, which are files."""

    def __init__(self, fast_numpy):
        import dm_control_suite

        self.module, self.tasks = dm_control_suite, dm_control_suite.TASKS
        wanted = {} if fast_numpy else dm_control_suite.PORTABLE
        if any(os.environ.get(name) != value for name, value in wanted.items()):  # read when NumPy is loaded
            os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | wanted)
        dm_control_suite.use_dm_control()

    def id(self, task):
        return str(self.module.FILES / f"{task}.toml")

    def action_space(self, task):
        return self.module.action_space(task)

    def replay(self, task, seed, actions):
        return self.module.replay(task, seed, actions)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", default="gymnasium", choices=["gymnasium", "dm_control"])
    parser.add_argument("--env", nargs="+", metavar="ID", help="default: all tasks of the suite")
    parser.add_argument(
        "--fast-numpy",
        action="store_true",
        help="with dm_control: leave NumPy's vectorised exp, log1p ... on, whose last bits differ",
    )
    parser.add_argument("--seeds", nargs="+", type=int, metavar="N", help="default: 0 1 2")
    parser.add_argument("--steps", type=int, help="steps per task and seed (default: 3000)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="by default 2 seeds and 1050 steps, beyond the longest time limit; if Python is too "
        "old, prints a message and does nothing",
    )
    add_runner(parser)
    args = parser.parse_args()
    if args.seeds is None:
        args.seeds = [0, 1] if args.quick else [0, 1, 2]
    if args.steps is None:
        args.steps = 1050 if args.quick else 3000
    if args.steps < 1 or min(args.seeds) < 0:
        fail("--steps must be at least 1 and --seeds at least 0")
    if args.quick and sys.version_info < OLDEST_PYTHON:
        print(f"not compared with {args.suite}: {PINS[2]} needs Python 3.11 or newer")
        return
    suite = DmControl(args.fast_numpy) if args.suite == "dm_control" else Gymnasium()
    args.env = args.env or suite.tasks
    if unknown := set(args.env) - set(suite.tasks):
        fail(f"unknown task {', '.join(sorted(unknown))}: expected some of {', '.join(suite.tasks)}")

    import warnings

    warnings.filterwarnings("ignore")  # Gymnasium warns about v4 at every `make`
    different = 0
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # MuJoCo writes MUJOCO_LOG.TXT to the working directory
        for task in args.env:
            with quiet():
                space = suite.action_space(task)
            for seed in args.seeds:
                actions = draw_actions(space, seed, args.steps)
                theirs = suite.replay(task, seed, actions)
                ours = replay_here(args.runner, suite.id(task), seed, actions, pathlib.Path(folder))
                found = list(differences(theirs, ours))
                different += bool(found)
                episodes = len(theirs["reset_obs"]) - 1
                print(
                    f"{task:26} seed {seed:<10} {args.steps} steps, {episodes} episodes ended: "
                    + ("; ".join(found) or "equal"),
                    flush=True,
                )
    print(f"{different} of {len(args.env) * len(args.seeds)} replays differ")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
