#!/usr/bin/env python3
"""Compares the times of updates that differ in their algorithm, settings or instructions.

    scripts/bench_pairs.py "crossq" "crossq --set train.precision=bf16"
    scripts/bench_pairs.py "SMFP_INSTRUCTIONS=avx512 smfp" "SMFP_INSTRUCTIONS=avx2 smfp"

Each case is one argument: variables, an algorithm, and options of `runner bench update`. All cases take
turns on one thread, in every other round in the opposite order. Prints a Markdown table: the median and the
least time in microseconds, and the median of the ratios to the first case in the same round. Run it on an
otherwise idle machine.
"""

import argparse
import shlex
import statistics

import parity
from peers import turns


def measure(runner, case):
    """Microseconds of an update, one round."""
    words = shlex.split(case)
    variables = dict(word.split("=", 1) for word in words if word.startswith("SMFP_"))
    algo, *options = [word for word in words if not word.startswith("SMFP_")]
    command = ["env", *(f"{name}={value}" for name, value in variables.items()), runner]
    command += ["bench", "update", "--env", turns.TASK, "--algo", algo, *options]
    report = turns.ask([*command, "--threads", "1", "--rounds", "1", "--json"], 1)
    return report["rows"][0]["us_per_update"], report["processor"]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="+", metavar="CASE")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds")
    parity.add_runner(parser)
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")

    load = turns.warn_of_load()
    times = {case: [] for case in args.cases}
    for i in range(args.rounds):
        for case in args.cases if i % 2 == 0 else reversed(args.cases):
            microseconds, processor = measure(args.runner, case)
            times[case].append(microseconds)
    print(f"{processor}; load {load:.2f} at the start; {args.rounds} rounds\n")
    print("| case | median us | least us | of the first |\n|---|--:|--:|--:|")
    for case, own in times.items():
        ratio = statistics.median(a / b for a, b in zip(own, times[args.cases[0]], strict=True))
        print(f"| `{case}` | {statistics.median(own):.0f} | {min(own):.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
