#!/usr/bin/env python3
"""Prints the table of a screening: variants of SMFP and controls on a few tasks and seeds.

    scripts/screening.py results/screening/stage-1
    scripts/screening.py results/screening/stage-[23]    # runs of both, if they have the same length

A run's *area* is the mean over its deterministic evaluations (all at the same steps), which is the
area under the learning curve over the time trained. Its *score* is that area between the uniform
policy (0) and the reference algorithm of the same task and seed (1):

    score = (area - uniform) / (area of the reference - uniform)

`uniform` is the mean return of a task's episodes with uniform actions (the warm-up of every run
there). A variant's score is the mean over its tasks of the mean over seeds. The column +- is the
standard error over the task-and-seed pairs: with two seeds per task it is a rough guide, and a
difference is a lead, not a result. A variant counts with the pairs that it shares with the reference
(the column `pairs`); runs that are not finished are listed below the table.

Standard library only. Exit code 2 if there is nothing to compare.
"""

import argparse
import csv
import math
import pathlib
import sys


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


class Run:
    """One run's folder: <variant>/<task>/seed-<n>."""

    def __init__(self, folder):
        self.variant, self.task, seed = folder.parts[-3:]
        self.seed = int(seed.removeprefix("seed-"))
        self.curve = [
            (int(row["step"]), float(row["return_mean"]))
            for row in rows(folder / "eval.csv")
            if row["mode"] == "deterministic"
        ]
        # Rows before the first update: their episodes had uniform actions.
        warm = [row for row in rows(folder / "train.csv") if int(row["updates"]) == 0]
        weighted, count, before = 0.0, 0, 0
        for row in warm:
            ended = int(row["episodes"]) - before
            before = int(row["episodes"])
            if ended > 0 and row["return_mean"]:
                weighted += ended * float(row["return_mean"])
                count += ended
        self.uniform = (weighted, count)

    def area(self):
        return sum(value for _, value in self.curve) / len(self.curve)

    def last(self):
        """Mean of the last three evaluations."""
        values = [value for _, value in self.curve[-3:]]
        return sum(values) / len(values)


def find(folder):
    return [Run(path.parent) for path in sorted(folder.glob("*/*/seed-*/eval.csv"))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=pathlib.Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--reference", default="crossq", help="variant that scores 1 (crossq)")
    args = parser.parse_args()

    runs = [run for folder in args.folders for run in find(folder)]
    length = max((run.curve[-1][0] for run in runs if run.curve), default=0)
    whole = [run for run in runs if run.curve and run.curve[-1][0] == length]
    unfinished = [run for run in runs if run not in whole]
    by = {(run.variant, run.task, run.seed): run for run in whole}
    pairs = {(task, seed) for variant, task, seed in by if variant == args.reference}
    if not pairs:
        print(f"error: {args.folders[0]}: no finished run of {args.reference} to compare with", file=sys.stderr)
        sys.exit(2)
    tasks = sorted({task for task, _ in pairs})

    uniform = {}
    for task in tasks:
        sums = [run.uniform for run in whole if run.task == task]
        uniform[task] = sum(total for total, _ in sums) / sum(count for _, count in sums)

    def score(run):
        reference = by[args.reference, run.task, run.seed]
        zero = uniform[run.task]
        return (run.area() - zero) / (reference.area() - zero)

    table = []
    for variant in sorted({variant for variant, _, _ in by}):
        own = [by[variant, *pair] for pair in sorted(pairs) if (variant, *pair) in by]
        if not own:
            continue
        scores = [score(run) for run in own]
        mean = {
            task: sum(score(run) for run in own if run.task == task)
            / max(1, sum(run.task == task for run in own))
            for task in tasks
            if any(run.task == task for run in own)
        }
        centre = sum(scores) / len(scores)
        spread = math.sqrt(sum((value - centre) ** 2 for value in scores) / max(1, len(scores) - 1))
        table.append(
            (
                sum(mean.values()) / len(mean),
                spread / math.sqrt(len(scores)),
                len(scores),
                variant,
                mean,
                {
                    task: [run.last() for run in own if run.task == task]
                    for task in tasks
                },
            )
        )

    print(f"{length} steps; score 0: uniform actions, 1: {args.reference} of the same seed.")
    print("Last: mean of the last three evaluations, for each seed.\n")
    short = [task.removesuffix("-v4") for task in tasks]
    print("| variant | score | +- | pairs | " + " | ".join(short), end=" | ")
    print(" | ".join(f"{name} last" for name in short) + " |")
    print("|---" + "|--:" * (3 + 2 * len(tasks)) + "|")
    for total, error, count, variant, mean, last in sorted(table, reverse=True):
        cells = [f"{mean[task]:.2f}" if task in mean else "" for task in tasks]
        cells += [" ".join(f"{value:.0f}" for value in last[task]) for task in tasks]
        print(f"| {variant} | {total:.2f} | {error:.2f} | {count} | " + " | ".join(cells) + " |")
    missing = [row[3] for row in table if row[2] < len(pairs)]
    if missing:
        print(f"\nNot all {len(pairs)} pairs are there yet: {', '.join(sorted(missing))}.")
    for run in unfinished:
        step = run.curve[-1][0] if run.curve else 0
        print(f"Not finished: {run.variant} {run.task} seed {run.seed}, at step {step}.")


if __name__ == "__main__":
    main()
