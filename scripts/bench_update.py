#!/usr/bin/env python3
"""Measures the time of an update, and compares it with that of its matrix products alone.

An update has batch 256 and the sizes of HalfCheetah-v4, and runs on one core and on two. Its speed is that of
its multiplications, whatever else it does, as a share of the speed of LibTorch's 256 x 256 matrix products on
the same number of threads, measured between the updates by `runner bench update`. An actor that is
updated every third time counts as a third.

    scripts/bench_update.py                             # SAC and SMFP, about two minutes
    scripts/bench_update.py --algo td3 crossq mdpo meanflow --rounds 9 --threads 1

(QVPO and DPMD, with 20 network calls per action, take minutes each.)

Numbers of threads alternate within every round; results are medians over the rounds. Prints a
Markdown table; writes results/bench/update.csv, one line per algorithm and number of threads,
after a line that describes the machine. Run it on an otherwise idle machine.
"""

import argparse
import csv
import os
import statistics

import parity
from peers import turns

COLUMNS = ["algo", "threads", "rounds", "us_per_update", "us_min", "us_max"]
COLUMNS += ["products_m", "of_libtorch_products", "of_sac", "parameters"]


def measure(args):
    """Rows of `runner bench update` by algorithm and threads, one per round; its last report."""
    found = {}
    for _ in range(args.rounds):
        for threads in args.threads:
            for algo in ["sac", *args.algo]:
                command = [args.runner, "bench", "update", "--env", turns.TASK, "--algo", algo]
                command += ["--threads", str(threads), "--rounds", "3", "--json"]
                report = turns.ask(command, threads)
                found.setdefault((algo, threads), []).extend(report["rows"])
    return found, report


def summarise(found):
    """Yields one line per algorithm and number of threads."""
    for (algo, threads), rows in found.items():
        times = [row["us_per_update"] for row in rows]
        sac = [row["us_per_update"] for row in found["sac", threads]]
        ratio = statistics.median(a / b for a, b in zip(times, sac, strict=True))
        share = statistics.median(row["of_libtorch_products"] for row in rows)
        yield dict(zip(COLUMNS, [
            algo, threads, len(rows), f"{statistics.median(times):.0f}",
            f"{min(times):.0f}", f"{max(times):.0f}", f"{rows[0]['products_m']:.1f}",
            f"{share:.3f}", f"{ratio:.2f}", rows[0]["parameters"],
        ], strict=True))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cores = len(os.sched_getaffinity(0))
    parser.add_argument(
        "--threads", nargs="+", type=int, default=[1, 2][:cores], help="default: 1 2"
    )
    parser.add_argument(
        "--algo", nargs="+", default=["smfp"], metavar="NAME", help="in addition to sac; default: smfp"
    )
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds")
    parity.add_runner(parser)
    args = parser.parse_args()
    if args.rounds < 1 or min(args.threads) < 1 or max(args.threads) > cores:
        parity.fail(f"--rounds must be at least 1, --threads from 1 to {cores}")

    load = turns.warn_of_load()
    found, machine = measure(args)
    lines = list(summarise(found))
    description = turns.describe(machine, load)
    print(f"{description}\n\nAn update at batch 256, medians of {args.rounds} rounds.\n")
    print("| algorithm | threads | µs | min – max | million multiply-adds | of LibTorch's products | / sac |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for line in lines:
        share = f"{float(line['of_libtorch_products']):.0%}"
        cells = [line["algo"], line["threads"], line["us_per_update"]]
        cells += [f"{line['us_min']} – {line['us_max']}", line["products_m"], share, line["of_sac"]]
        print(f"| {' | '.join(map(str, cells))} |")
    file = parity.ROOT / "results" / "bench" / "update.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w", newline="") as out:
        out.write(f"# {description}\n")
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    print(f"\nwritten: {file.relative_to(parity.ROOT)}")


if __name__ == "__main__":
    main()
