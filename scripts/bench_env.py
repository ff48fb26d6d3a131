#!/usr/bin/env python3
"""Compares the speed of our environments with Gymnasium, EnvPool and plain MuJoCo.

All systems apply random actions within the bounds over consecutive episodes, on one thread and
on all processors. They alternate over several rounds, because a machine's speed
drifts; results are medians, and medians of the rounds' ratios. Ours and Gymnasium get the same
seeds and actions, and so make the same steps with the same MuJoCo; so does plain MuJoCo, a loop
of `mj_step` and `mj_rnePostConstraint`. EnvPool contains its own, older MuJoCo, and draws its own
initial states.

    scripts/bench_env.py                                # seven tasks, about six minutes
    scripts/bench_env.py --env Ant-v4 --rounds 9 --envs 64

Prints a Markdown table; writes results/bench/env.csv, one line per task and system, after a
line that describes the machine. Run it on an otherwise idle machine.

Needs Python (3.11 or newer for EnvPool) and pip. Installs Gymnasium and EnvPool from PyPI into
third_party/python-bench, 1.1 GB including EnvPool's dependencies.
"""

import argparse
import csv
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

import parity
from peers import turns

PACKAGES = parity.ROOT / "third_party" / "python-bench"
ENVPOOL = "envpool==1.2.5"


def use_packages():
    """Makes Gymnasium importable and, if it can be installed, EnvPool."""
    if not parity.install(PACKAGES, [*parity.PINS, ENVPOOL], "1.1 GB"):
        print(f"{ENVPOOL} cannot be installed for this Python, see above; continuing without it")
        parity.use_gymnasium()


def import_envpool():
    """EnvPool and its built-in version of MuJoCo, or (None, None)."""
    try:
        import envpool
    except ImportError:
        return None, None
    library = pathlib.Path(envpool.__file__).parent / "mujoco" / "mujoco_gym_envpool.so"
    found = set(re.findall(rb"\0(\d+\.\d+\.\d+)\0", library.read_bytes()))
    return envpool, found.pop().decode() if len(found) == 1 else "unknown"


def draw_actions(space, envs, rows):
    """The actions of `runner bench env`, of shape (rows, envs, act_dim)."""
    import numpy as np

    streams = [np.random.default_rng(2**64 - 1 - seed) for seed in range(envs)]
    low, high = float(space.low[0]), float(space.high[0])
    actions = [stream.uniform(low, high, (rows, *space.shape)) for stream in streams]
    return np.stack(actions, 1).astype(np.float32)


class Gymnasium:
    """One environment, which makes the steps of all members of the batch one after the other."""

    def __init__(self, task, envs):
        import gymnasium

        self.env, self.envs = gymnasium.make(task), envs

    def play(self, actions):
        """Returns the number of steps and the seconds they took."""
        env, made, begun = self.env, 0, time.perf_counter()
        for seed in range(self.envs):
            env.reset(seed=seed)
            over = False
            for action in actions[:, seed]:
                if over:
                    env.reset()
                    over = False
                else:
                    _, _, terminated, truncated, _ = env.step(action)
                    over = terminated or truncated
                    made += 1
        return made, time.perf_counter() - begun

    def close(self):
        self.env.close()


class GymnasiumProcesses:
    """Gymnasium on all processors: one process per environment."""

    def __init__(self, task, envs):
        import gymnasium

        self.env = gymnasium.make_vec(task, num_envs=envs, vectorization_mode="async")

    def play(self, actions):
        made, begun = 0, time.perf_counter()
        self.env.reset(seed=0)
        over = 0
        for row in actions:
            _, _, terminated, truncated, _ = self.env.step(row)
            made += len(terminated) - over  # the step after the end of an episode is a reset
            over = int((terminated | truncated).sum())
        return made, time.perf_counter() - begun

    def close(self):
        self.env.close()


class EnvPool:
    """EnvPool in synchronous mode, as used in place of a vector environment."""

    def __init__(self, envpool, task, envs, threads):
        self.env = envpool.make(
            task, env_type="gymnasium", num_envs=envs, num_threads=threads, seed=0
        )

    def play(self, actions):
        import numpy as np

        actions = actions.astype(self.env.action_space.dtype)
        made, begun = 0, time.perf_counter()
        self.env.reset()
        for row in actions:
            info = self.env.step(row)[-1]
            made += np.count_nonzero(info["elapsed_step"])  # 0 where it was reset
        return made, time.perf_counter() - begun

    def close(self):
        self.env.close()


def bench_here(args, task, steps):
    """One round of ours and of plain MuJoCo."""
    command = [args.runner, "bench", "env", "--json", "--rounds", "1", "--env", task]
    command += ["--envs", str(args.envs), "--threads", str(args.threads), "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        parity.fail(f"`{' '.join(command)}` ended with {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def measure(args, task, envpool):
    """Speeds by system: lists with one number per round."""
    import gymnasium

    others = {}
    with parity.quiet():
        space = gymnasium.make(task).action_space
        others["gymnasium"] = Gymnasium(task, args.envs)
        others["gymnasium processes"] = GymnasiumProcesses(task, args.envs)
        if envpool:
            others["envpool 1"] = EnvPool(envpool, task, args.envs, 1)
            others["envpool"] = EnvPool(envpool, task, args.envs, args.threads)
    [trial] = bench_here(args, task, 500)["tasks"]
    rows = max(10, round(args.seconds * trial["limit"] / args.envs))
    actions = draw_actions(space, args.envs, rows)
    speeds = {}
    for other in others.values():
        other.play(actions[:10])  # warms up; `runner bench env` does so itself
    for _ in range(args.rounds):
        report = bench_here(args, task, rows * args.envs)
        [ours] = report["tasks"]
        for name in ("limit", "step", "batch_1", "batch"):
            speeds.setdefault(name, []).append(ours[name])
        for name, other in others.items():
            made, seconds = other.play(actions)
            if name.startswith("gymnasium") and made != ours["steps"]:
                parity.fail(f"{task}: {made} steps under {name}, {ours['steps']} under ours")
            speeds.setdefault(name, []).append(made / seconds)
    for other in others.values():
        other.close()
    return speeds, report["machine"]


def table(rows, args):
    """Yields the Markdown tables."""

    def speed(speeds, name):
        return f"{statistics.median(speeds[name]):,.0f}" if name in speeds else "–"

    def ratio(speeds, ours, other, form="{:.2f}"):
        if other not in speeds:
            return "–"
        ratios = [a / b for a, b in zip(speeds[ours], speeds[other], strict=True)]
        return form.format(statistics.median(ratios))

    percent = "{:.1%}"
    yield "| one thread | plain MuJoCo | ours, `Env` | of MuJoCo | Gymnasium | ours / theirs "
    yield "| ours, `Batch` | of MuJoCo | EnvPool | ours / theirs |\n|---" + "|--:" * 9 + "|\n"
    for task, s in rows.items():
        cells = [task, speed(s, "limit"), speed(s, "step"), ratio(s, "step", "limit", percent)]
        cells += [speed(s, "gymnasium"), ratio(s, "step", "gymnasium")]
        cells += [speed(s, "batch_1"), ratio(s, "batch_1", "limit", percent)]
        cells += [speed(s, "envpool 1"), ratio(s, "batch_1", "envpool 1")]
        yield f"| {' | '.join(cells)} |\n"

    yield f"\n| {args.threads} threads | ours, `Batch` | of one thread | EnvPool | ours / theirs "
    yield "| Gymnasium, processes | ours / theirs |\n|---" + "|--:" * 6 + "|\n"
    for task, s in rows.items():
        cells = [task, speed(s, "batch"), ratio(s, "batch", "batch_1")]
        cells += [speed(s, "envpool"), ratio(s, "batch", "envpool")]
        cells += [speed(s, "gymnasium processes"), ratio(s, "batch", "gymnasium processes")]
        yield f"| {' | '.join(cells)} |\n"


def write_csv(rows, args, description, versions):
    file = parity.ROOT / "results" / "bench" / "env.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    settings = {  # system: threads, environments
        "limit": (1, 1),
        "step": (1, 1),
        "batch_1": (1, args.envs),
        "batch": (args.threads, args.envs),
        "gymnasium": (1, 1),
        "gymnasium processes": (args.envs, args.envs),
        "envpool 1": (1, args.envs),
        "envpool": (args.threads, args.envs),
    }
    columns = ["env", "system", "version", "mujoco", "threads", "envs", "rounds"]
    columns += ["steps_per_s", "of_limit"]
    with open(file, "w", newline="") as out:
        out.write(f"# {description}\n")
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(columns)
        for task, speeds in rows.items():
            for system, values in speeds.items():
                name = system.split()[0] if system.split()[0] in versions else "ours"
                shares = [a / b for a, b in zip(values, speeds["limit"], strict=True)]
                writer.writerow(
                    [task, system, *versions[name], *settings[system], len(values)]
                    + [f"{statistics.median(values):.0f}", f"{statistics.median(shares):.4f}"]
                )
    print(f"written: {file.relative_to(parity.ROOT)}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tasks = [f"{robot}-v4" for robot in parity.ROBOTS]
    parser.add_argument(
        "--env", nargs="+", default=tasks, choices=tasks, metavar="ID", help="default: all seven"
    )
    parser.add_argument("--envs", type=int, default=16, help="environments in a batch")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: all")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds")
    parser.add_argument(
        "--seconds", type=float, default=0.6, help="duration of a measurement of plain MuJoCo"
    )
    parity.add_runner(parser)
    args = parser.parse_args()
    if min(args.envs, args.threads, args.rounds) < 1 or not args.seconds > 0:
        parity.fail("--envs, --threads and --rounds must be at least 1, --seconds positive")
    use_packages()

    load = turns.warn_of_load()
    envpool, envpool_mujoco = import_envpool()

    import gymnasium
    import mujoco

    warnings.filterwarnings("ignore")  # Gymnasium warns about v4 at every `make`
    gymnasium.logger.min_level = gymnasium.logger.ERROR
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # MuJoCo writes MUJOCO_LOG.TXT to the working directory
        for task in args.env:
            print(f"{task} ...", file=sys.stderr, flush=True)
            rows[task], machine = measure(args, task, envpool)
        os.chdir(parity.ROOT)

    versions = {
        "ours": (machine["commit"][:12], machine["mujoco"]),
        "gymnasium": (gymnasium.__version__, mujoco.__version__),
    }
    if envpool:
        versions["envpool"] = (envpool.__version__, envpool_mujoco)
    python = ".".join(map(str, sys.version_info[:3]))
    description = "; ".join([
        machine["processor"],
        f"{machine['logical_processors']} logical processors",
        f"load {load:.2f} at the start",
        *(f"{name} {version} with MuJoCo {own}" for name, (version, own) in versions.items()),
        f"Python {python}",
    ])
    print(f"{description}\n\nSteps per second, medians of {args.rounds} rounds; "
          f"batches, EnvPool and processes: {args.envs} environments.\n")
    print("".join(table(rows, args)))
    write_csv(rows, args, description, versions)


if __name__ == "__main__":
    main()
