#!/usr/bin/env python3
"""Prints the table of results/README.md from the eval.csv and train.csv of the reference runs.

    python3 scripts/results_table.py [FOLDER]        (default: results/reference)
"""
import csv
import pathlib
import statistics
import sys

root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1] / "results/reference")
rows = []
for path in sorted(root.glob("*/*/seed-*/eval.csv")):
    algo, env, seed = path.parts[-4:-1]
    evaluations = [row for row in csv.DictReader(path.open()) if row["mode"] == "deterministic"]
    training = list(csv.DictReader((path.parent / "train.csv").open()))
    # Before the first update a step is only simulation, so that speed is not the training speed.
    speeds = [float(row["steps_per_s"]) for row in training if row["critic_loss"]]
    # Before the first update actions are uniform.
    warm_up = [row for row in training if row["return_mean"] and not row["critic_loss"]]
    uniform = statistics.mean(float(row["return_mean"]) for row in warm_up)
    curve = ", ".join(f"{float(row['return_mean']):.0f}" for row in evaluations)
    at = ", ".join(f"{int(row['step']) // 1000}k" for row in evaluations)
    rows.append((algo, env, seed.removeprefix("seed-"), at, curve, f"{uniform:.0f}", f"{statistics.median(speeds):.0f}"))

if not rows:
    print(f"error: {root}: no runs (ALGORITHM/TASK/seed-N/eval.csv) below this folder", file=sys.stderr)
    sys.exit(2)
print("| algorithm | task | seed | at step | deterministic return | uniform actions | steps/s (median) |")
print("|---|---|---|---|---|---|---|")
for row in rows:
    print("| " + " | ".join(row) + " |")
