#!/usr/bin/env python3
"""Compares the speed of our training with Stable-Baselines3, SBX and CleanRL-style code.

All train on HalfCheetah-v4 from one environment, with networks of two hidden layers of 256 units,
batches of 256 and one update per environment step. Measured are environment steps per second after
5,000 random steps and 500 warm-up steps, in which the peers' just-in-time compilers finish, without
evaluation and checkpoints. SAC is compared with SAC; SBX's CrossQ with `crossq`; SMFP, which no other system has, with all.

The systems alternate within every round, because a machine's speed drifts; results are medians
over the rounds, and medians of the rounds' ratios. Peers run in their own processes, which sleep
between their turns. Every process is restricted to one core, then two, with as many threads.

    scripts/bench_learn.py                              # about half an hour
    scripts/bench_learn.py --rounds 1 --steps 500 --threads 1

Prints Markdown tables; writes results/bench/learn.csv, one line per system and number of
threads, after a line that describes the machine. Run it on an otherwise idle machine.

Needs Python 3.11 or newer, pip and a C compiler. Installs the packages of
scripts/peers/requirements.txt from PyPI into third_party/python-bench-learn: 0.7 GB to download
(of which PyTorch is 0.5 GB) and 2.2 GB on disk. PyTorch's CUDA dependencies, another 2 GB, are not
installed (see scripts/peers/turns.py).
"""

import argparse
import csv
import os
import pathlib
import statistics
import sys
import tempfile

import parity
from peers import turns

WARMUP, SETTLE, LOG_INTERVAL = 5000, 500, 500
# `runner` arguments of each of our algorithms.
OURS = {
    "sac": ["--algo", "sac"],
    "crossq": ["--algo", "crossq"],
    "smfp": ["--algo", "smfp"],
}
# Program and arguments of each peer.
THEIRS = {
    "Stable-Baselines3 SAC": ["learn_sb3.py", "sb3", "SAC"],
    "CleanRL-style SAC": ["cleanrl_sac.py"],
    "SBX SAC": ["learn_sb3.py", "sbx", "SAC"],
    "SBX CrossQ": ["learn_sb3.py", "sbx", "CrossQ"],
}
# Pairs (ours, theirs).
RATIOS = [
    ("sac", "Stable-Baselines3 SAC"),
    ("sac", "CleanRL-style SAC"),
    ("sac", "SBX SAC"),
    ("crossq", "SBX CrossQ"),
    *(("smfp", other) for other in THEIRS),
]


def train_here(args, algorithm, threads):
    """One round of ours: a run up to the end of the measured interval. The final evaluation and
    checkpoint come after the last row of train.csv."""
    with tempfile.TemporaryDirectory() as out:
        command = [args.runner, "train", "--env", turns.TASK, "--seed", "0", "--out", out]
        command += [*OURS[algorithm], "--threads", str(threads)]
        command += ["--steps", str(WARMUP + SETTLE + args.steps)]
        for key, value in {
            "train.warmup_steps": WARMUP,
            "train.log_interval": LOG_INTERVAL,
            "train.eval_interval": 10**9,
            "train.eval_episodes": 1,
            "train.eval_modes": '["deterministic"]',
        }.items():
            command += ["--set", f"{key}={value}"]
        turns.ask(command, threads)
        [file] = pathlib.Path(out).glob("*/*/*/train.csv")
        with open(file, newline="") as rows:
            seconds = {int(row["step"]): float(row["wall_s"]) for row in csv.DictReader(rows)}
    begun = seconds[WARMUP + SETTLE]
    return args.steps / (seconds[WARMUP + SETTLE + args.steps] - begun)


def describe_ours(args):
    """Commit, processor, and the parameters of each algorithm."""
    about = {}
    for name, words in OURS.items():
        command = [args.runner, "bench", "update", "--env", turns.TASK, "--rounds", "1", "--json"]
        report = turns.ask([*command, *words])
        [row] = report["rows"]
        about[name] = {"version": report["commit"][:12], "parameters": row["parameters"]}
    return about, report


def measure(args, about):
    """Steps per second by system and threads: lists with one number per round."""
    peers = {}
    for threads in args.threads:
        for name, words in THEIRS.items():
            print(f"{name}, {threads} threads: warming up ...", file=sys.stderr, flush=True)
            peer = turns.Peer(threads, *words, str(WARMUP), str(SETTLE))
            peers[name, threads], about[name] = peer, peer.about
    speeds = {}
    for turn in range(args.rounds):
        print(f"round {turn + 1} of {args.rounds} ...", file=sys.stderr, flush=True)
        for threads in args.threads:
            for name in OURS:
                speed = train_here(args, name, threads)
                speeds.setdefault((name, threads), []).append(speed)
            for name in THEIRS:
                speed = peers[name, threads].play(args.steps)
                speeds.setdefault((name, threads), []).append(speed)
    turns.warn_of_idlers(peers.values())
    for peer in peers.values():
        peer.close()
    return speeds


def table(speeds, about, threads):
    """Yields the Markdown tables."""

    def ratios(ours, theirs):
        return [a / b for a, b in zip(speeds[ours], speeds[theirs], strict=True)]

    yield "| steps per second | parameters |"
    yield "".join(f" {n} thread{'s' * (n > 1)} | min – max |" for n in threads)
    yield f"\n|---|--:{'|--:' * 2 * len(threads)}|\n"
    for name in (*OURS, *THEIRS):
        cells = [f"ours, {name}" if name in OURS else name, f"{about[name]['parameters']:,}"]
        for n in threads:
            values = speeds[name, n]
            cells += [f"{statistics.median(values):.1f}", f"{min(values):.1f} – {max(values):.1f}"]
        yield f"| {' | '.join(cells)} |\n"

    yield "\n| ours / theirs |" + "".join(f" {n} thread{'s' * (n > 1)} |" for n in threads)
    yield f"\n|---{'|--:' * len(threads)}|\n"
    for ours, theirs in RATIOS:
        cells = [f"{ours} / {theirs}"]
        for n in threads:
            ratio = statistics.median(ratios((ours, n), (theirs, n)))
            cells.append(f"{ratio:.2f}")
        yield f"| {' | '.join(cells)} |\n"


def write_csv(speeds, about, description):
    file = parity.ROOT / "results" / "bench" / "learn.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    columns = ["system", "version", "algorithm", "threads", "rounds", "steps_per_s"]
    columns += ["steps_per_s_min", "steps_per_s_max", "parameters"]
    with open(file, "w", newline="") as out:
        out.write(f"# {description}\n")
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(columns)
        for (name, threads), values in speeds.items():
            system, _, algorithm = ("ours", "", name) if name in OURS else name.rpartition(" ")
            writer.writerow(
                [system, about[name]["version"], algorithm, threads]
                + [len(values), f"{statistics.median(values):.1f}"]
                + [f"{min(values):.1f}", f"{max(values):.1f}", about[name]["parameters"]]
            )
    print(f"written: {file.relative_to(parity.ROOT)}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cores = len(os.sched_getaffinity(0))
    parser.add_argument(
        "--threads", nargs="+", type=int, default=[1, 2][:cores], help="default: 1 2"
    )
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds")
    parser.add_argument(
        "--steps", type=int, default=1000, help=f"steps per measurement, a multiple of {LOG_INTERVAL}"
    )
    parity.add_runner(parser)
    args = parser.parse_args()
    if args.rounds < 1 or args.steps < 1 or args.steps % LOG_INTERVAL:
        parity.fail(f"--rounds must be at least 1, --steps a multiple of {LOG_INTERVAL}")
    if min(args.threads) < 1 or max(args.threads) > cores:
        parity.fail(f"--threads must be from 1 to {cores}, the number of cores")
    turns.install()

    load = turns.warn_of_load()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # MuJoCo writes MUJOCO_LOG.TXT to the working directory
        about, machine = describe_ours(args)
        speeds = measure(args, about)
        os.chdir(parity.ROOT)

    description = turns.describe(machine, load)
    print(f"{description}\n\nEnvironment steps per second on {turns.TASK}, medians of "
          f"{args.rounds} rounds of {args.steps} steps.\n")
    print("".join(table(speeds, about, args.threads)))
    write_csv(speeds, about, description)


if __name__ == "__main__":
    main()
