#!/usr/bin/env python3
"""Compares the time of an action with PyTorch's and JAX's, at batch 1 on one thread.

SMFP needs one network call per action, like a Gaussian policy; a diffusion policy needs 20 here.
SAC's Gaussian policy is compared with the same policy in PyTorch, eager and compiled, and in JAX,
compiled by `jit`; SMFP's with a diffusion policy with a network of the same size. Sizes are those
of HalfCheetah-v4. The peers take an observation and return an action as NumPy arrays. Ours takes
a tensor and reads the first number of the action, which requires all of it to be computed.

    scripts/bench_act.py                                # about three minutes, most of it compiling
    scripts/bench_act.py --rounds 9 --actions 4000

The systems alternate within every round, each in its own process; results are medians over the
rounds. Prints a Markdown table; writes results/bench/act.csv, one line per policy, after a line
that describes the machine. Run it on an otherwise idle machine.

Has the requirements of scripts/bench_learn.py, and needs a C++ compiler for `torch.compile`.
"""

import argparse
import csv
import statistics
import sys

import parity
from peers import turns

# Policies in the order of the table: ours, then those it is compared with.
GROUPS = {
    "ours, sac": ["gaussian, PyTorch", "gaussian, PyTorch compiled", "gaussian, JAX"],
    "ours, smfp": ["diffusion, PyTorch", "diffusion, PyTorch compiled", "diffusion, JAX"],
}
PEERS = ["act_torch.py", "act_jax.py"]


def act_here(args):
    """One round of ours; a round of the runner is 2,000 actions."""
    times = {}
    for name in GROUPS:
        algo = name.removeprefix("ours, ")
        command = [args.runner, "bench", "act", "--env", turns.TASK, "--algo", algo]
        command += ["--threads", "1", "--rounds", str(args.actions // 2000), "--json"]
        report = turns.ask(command)
        [row] = report["rows"]
        times[name] = [row["us_p50"], row["us_p99"]]
    return times, report


def measure(args):
    """Microseconds by policy, [median, 99th percentile] per round; versions; a report of ours."""
    peers, versions = [], {}
    for script in PEERS:
        print(f"{script}: compiling ...", file=sys.stderr, flush=True)
        peers.append(turns.Peer(1, script))
        for name, reason in peers[-1].about["failed"].items():
            print(f"warning: {name} is skipped: {reason}", file=sys.stderr)
    times = {}
    for turn in range(args.rounds):
        print(f"round {turn + 1} of {args.rounds} ...", file=sys.stderr, flush=True)
        ours, report = act_here(args)
        found = {name: (report["commit"][:12], pair) for name, pair in ours.items()}
        for peer in peers:
            theirs = peer.play(args.actions)
            found |= {name: (peer.about["version"], pair) for name, pair in theirs.items()}
        for name, (version, pair) in found.items():
            versions[name] = version
            times.setdefault(name, []).append(pair)
    turns.warn_of_idlers(peers)
    for peer in peers:
        peer.close()
    return times, versions, report


def table(times):
    """Yields the Markdown table."""
    yield "| µs per action | network calls | p50 | p99 | p50 theirs / ours |\n"
    yield "|---|--:|--:|--:|--:|\n"
    for ours, theirs in GROUPS.items():
        for name in (ours, *theirs):
            if name not in times:
                continue
            p50, p99 = (statistics.median(column) for column in zip(*times[name], strict=True))
            ratios = [b[0] / a[0] for a, b in zip(times[ours], times[name], strict=True)]
            ratio = "–" if name == ours else f"{statistics.median(ratios):.2f}"
            yield f"| {name} | {calls(name)} | {p50:.1f} | {p99:.1f} | {ratio} |\n"


def calls(name):
    """Network calls per action."""
    return turns.DENOISING_STEPS if name.startswith("diffusion") else 1


def write_csv(times, versions, description):
    file = parity.ROOT / "results" / "bench" / "act.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    columns = ["policy", "system", "version", "network_calls", "threads", "rounds"]
    columns += ["us_p50", "us_p50_min", "us_p50_max", "us_p99"]
    with open(file, "w", newline="") as out:
        out.write(f"# {description}\n")
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(columns)
        for name, pairs in times.items():
            policy, system = name.split(", ")
            if policy == "ours":
                policy, system = system, policy
            p50, p99 = zip(*pairs, strict=True)
            numbers = statistics.median(p50), min(p50), max(p50), statistics.median(p99)
            writer.writerow(
                [policy, system, versions[name], calls(name), 1, len(pairs)]
                + [f"{number:.1f}" for number in numbers]
            )
    print(f"written: {file.relative_to(parity.ROOT)}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds")
    parser.add_argument(
        "--actions", type=int, default=2000, help="actions per measurement, a multiple of 2000"
    )
    parity.add_runner(parser)
    args = parser.parse_args()
    if args.rounds < 1 or args.actions < 1 or args.actions % 2000:
        parity.fail("--rounds must be at least 1, --actions a multiple of 2000")
    turns.install()

    load = turns.warn_of_load()
    times, versions, machine = measure(args)
    description = turns.describe(machine, load)
    print(f"{description}\n\nTime of an action at batch 1 with the sizes of {turns.TASK}, one "
          f"thread, medians of {args.rounds} rounds of {args.actions} actions.\n")
    print("".join(table(times)))
    write_csv(times, versions, description)


if __name__ == "__main__":
    main()
