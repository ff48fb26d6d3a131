#!/usr/bin/env python3
"""Trains with `--tensorboard`, kills the run, resumes it, and reads the event file with
TensorBoard's reader: every number of the CSV files must occur exactly once.

    scripts/check_tensorboard.py                        # about 15 seconds
    scripts/check_tensorboard.py --runner target/release/runner

Needs Python 3.11 or newer and pip. Installs TensorBoard from PyPI into
third_party/python-tensorboard (160 MB). Exit code: 0 equal, 1 different, 2 could not compare.
"""

import argparse
import csv
import pathlib
import struct
import subprocess
import sys
import tempfile
import time

import parity

PACKAGES = parity.ROOT / "third_party" / "python-tensorboard"
PINS = ["tensorboard==2.20.0", "numpy==2.4.6", "setuptools==80.9.0"]
STEPS, CHECKPOINTS = 900, 200

TRAIN_TAGS = {
    "train/return_mean": "return_mean",
    "train/length_mean": "length_mean",
    "train/episodes": "episodes",
    "train/updates": "updates",
    "train/diverged": "diverged",
    "loss/critic_loss": "critic_loss",
    "loss/actor_loss": "actor_loss",
    "loss/mirror_loss": "mirror_loss",
    "policy/entropy": "entropy",
    "policy/alpha": "alpha",
    "policy/grad_norm": "grad_norm",
    "critic/q_mean": "q_mean",
    "speed/steps_per_s": "steps_per_s",
}
EVAL_NAMES = ["return_mean", "return_std", "return_min", "return_max", "length_mean"]


def single(text):
    """The number as float32, the type in event files."""
    return struct.unpack("f", struct.pack("f", float(text)))[0]


def expected(run):
    """(step, value) of every scalar of the CSV files, by tag."""
    scalars = {}
    with open(run / "train.csv") as file:
        for row in csv.DictReader(file):
            terms = {column: column for column in row if column.startswith("reward/")}
            for tag, column in (TRAIN_TAGS | terms).items():
                if row[column]:
                    scalars.setdefault(tag, []).append((int(row["step"]), single(row[column])))
    with open(run / "eval.csv") as file:
        for row in csv.DictReader(file):
            for name in EVAL_NAMES:
                tag = f"eval-{row['mode']}/{name}"
                scalars.setdefault(tag, []).append((int(row["step"]), single(row[name])))
    return scalars


def train(runner, out):
    """Makes a run of a second that is killed once and resumed; returns its folder."""
    command = [runner, "--env", "Hopper-v4", "--seed", "1", "--steps", str(STEPS), "--tensorboard"]
    command += ["--out", str(out), "--threads", "1"]
    settings = {
        "train.warmup_steps": 150,
        "train.batch_size": 16,
        "train.log_interval": 50,
        "train.eval_interval": 300,
        "train.eval_episodes": 2,
        "train.checkpoint_interval": CHECKPOINTS,
        "critic.width": 32,
        "actor.width": 32,
    }
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    run = out / "smfp" / "Hopper-v4" / "seed-1"
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    # The two newest are kept, so that the second may be gone when this looks.
    step = lambda path: int(path.name.removeprefix("step-"))
    while not any(step(path) >= 2 * CHECKPOINTS for path in run.glob("checkpoint/step-*")):
        if first.poll() is not None:
            parity.fail("the run ended before it could be killed")
        time.sleep(0.002)
    first.kill()
    first.wait()
    second = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if second.returncode:
        parity.fail(f"the run failed: {second.stderr}")
    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parity.add_runner(parser)
    runner = parser.parse_args().runner
    if sys.version_info < parity.OLDEST_PYTHON:
        print(f"not compared with TensorBoard: {PINS[1]} needs Python 3.11 or newer")
        return 0
    if not parity.install(PACKAGES, PINS, "160 MB"):
        parity.fail(f"pip cannot install {' '.join(PINS)}, see above")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tempfile.TemporaryDirectory() as folder:
        run = train(runner, pathlib.Path(folder))
        accumulator = EventAccumulator(str(run), size_guidance={"scalars": 0})
        accumulator.Reload()
        tags = accumulator.Tags()["scalars"]
        found = {tag: [(s.step, s.value) for s in accumulator.Scalars(tag)] for tag in tags}
        wanted = expected(run)
        for tag in sorted(found.keys() | wanted.keys()):
            if found.get(tag) != wanted.get(tag):
                print(f"different: {tag}: {found.get(tag)}, expected {wanted.get(tag)}")
                return 1
        files = list(run.glob("events.out.tfevents.*"))
        if len(files) != 1:
            print(f"different: {len(files)} event files, expected 1")
            return 1
        numbers = sum(map(len, wanted.values()))
        print(f"{numbers} numbers of {len(wanted)} scalars equal those of the CSV files")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
