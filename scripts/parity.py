#!/usr/bin/env python3
"""Compares the runner's environments with Gymnasium's, bit for bit.

Random actions of the tasks' seeds are replayed through `gymnasium.make(ID)` and through
`runner trace`; observations, reset observations, rewards and both ends of episodes must be equal
to the last bit. Half of the episodes' stretches use actions far outside of the bounds.

    scripts/parity.py                                   # every task, seeds 0 to 2, 3000 steps
    scripts/parity.py --env Ant-v4 --seeds 17 99 --steps 20000
    scripts/parity.py --runner target/release/runner

Needs nothing but Python and pip: if Gymnasium is not importable, it is installed into
third_party/venv-parity first. Exit code: 0 equal, 1 different, 2 could not compare.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import venv

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV = ROOT / "third_party" / "venv-parity"
# The versions whose numbers are reproduced. NumPy is pinned because it promises its random streams
# only within a version; imageio and packaging are what importing the MuJoCo tasks needs.
PINS = ["gymnasium==1.4.0", "mujoco==3.17.0", "numpy==2.4.6", "imageio", "packaging"]

ROBOTS = ["Ant", "HalfCheetah", "Hopper", "Humanoid", "HumanoidStandup", "Swimmer", "Walker2d"]
TASKS = [f"{robot}-{version}" for version in ("v4", "v5") for robot in ROBOTS]
# Pusher-v4's model is not valid with MuJoCo 3.
TASKS += ["InvertedPendulum-v4", "InvertedPendulum-v5", "InvertedDoublePendulum-v4"]
TASKS += ["InvertedDoublePendulum-v5", "Reacher-v4", "Reacher-v5", "Pusher-v5"]


def use_gymnasium():
    """Imports the pinned Gymnasium, or starts this program again where it can be imported."""
    try:
        import gymnasium
        import mujoco

        if (gymnasium.__version__, mujoco.__version__) == ("1.4.0", "3.17.0"):
            return
    except ImportError:
        pass
    python = VENV / "bin" / "python"
    if pathlib.Path(sys.prefix) == VENV:
        fail(f"{VENV} does not hold {' '.join(PINS)}; delete the folder and run this again")
    if not python.exists():
        print(f"installing {' '.join(PINS)} into {VENV}", flush=True)
        venv.create(VENV, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PINS], check=True)
    os.execv(python, [str(python), *sys.argv])


def fail(message):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def draw_actions(space, seed, steps):
    """Actions of shape (steps, act_dim), float32: stretches of 50 within the bounds, then 50
    outside, up to ten times as far and in between exactly on the bounds."""
    import numpy as np

    random = np.random.default_rng([seed, steps])
    actions = random.uniform(-1.0, 1.0, (steps, *space.shape)) * space.high
    wild = np.arange(steps) // 50 % 2 == 1
    actions[wild] *= random.choice([1.5, 3.0, 10.0], (wild.sum(), 1))
    on_bounds = random.random(actions.shape) < 0.02
    actions = np.where(on_bounds, np.sign(actions) * space.high, actions)
    return actions.astype(np.float32)


def replay(task, seed, actions):
    """What `runner trace` does, through Gymnasium."""
    import gymnasium
    import numpy as np

    env = gymnasium.make(task)
    obs, resets, rewards, ends = [], [env.reset(seed=seed)[0]], [], []
    for action in actions:
        observation, reward, terminated, truncated, _ = env.step(action)
        obs.append(observation)
        rewards.append(reward)
        ends.append((terminated, truncated))
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
    }


def replay_here(runner, task, seed, actions, folder):
    """The same through `runner trace`."""
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
    """One line for every array that is not the same to the last bit."""
    import numpy as np

    for name, expected in theirs.items():
        found = ours.get(name)
        if found is None:
            yield f"{name} is missing"
        elif (found.shape, found.dtype) != (expected.shape, expected.dtype):
            yield f"{name} is {found.dtype}{found.shape}, Gymnasium's {expected.dtype}{expected.shape}"
        elif found.tobytes() != expected.tobytes():
            bits = [np.ascontiguousarray(a).view(f"u{a.itemsize}") for a in (found, expected)]
            where = np.argwhere(bits[0] != bits[1])
            first = tuple(int(i) for i in where[0])
            yield (
                f"{name}: {len(where)} of {found.size} numbers differ, first at {first}: "
                f"{found[first]!r}, Gymnasium's {expected[first]!r}"
            )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--env", nargs="+", default=TASKS, choices=TASKS, metavar="ID", help="default: all"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N")
    parser.add_argument("--steps", type=int, default=3000, help="steps per task and seed")
    parser.add_argument("--runner", default=str(ROOT / "target/debug/runner"), help="the program")
    args = parser.parse_args()
    if args.steps < 1 or min(args.seeds) < 0:
        fail("--steps must be at least 1 and --seeds at least 0")
    if not os.access(args.runner, os.X_OK):
        fail(f"{args.runner} is not a program; build it with `cargo build -p runner`")
    use_gymnasium()

    import warnings

    import gymnasium

    warnings.filterwarnings("ignore")  # Gymnasium advises against v4 at every `make`
    gymnasium.logger.min_level = gymnasium.logger.ERROR
    different = 0
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # MuJoCo leaves MUJOCO_LOG.TXT where it runs
        for task in args.env:
            space = gymnasium.spec(task).make().action_space
            for seed in args.seeds:
                actions = draw_actions(space, seed, args.steps)
                theirs = replay(task, seed, actions)
                ours = replay_here(args.runner, task, seed, actions, pathlib.Path(folder))
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
