#!/usr/bin/env python3
"""Prints the tables of docs/toys.md from the output of `runner toy`: one row per variant, with the
values of its seeds separated by slashes.

    python3 scripts/toys_table.py [FOLDER]        (default: results/reference/toy)
"""
import csv
import pathlib
import sys

COLUMNS = ["variant", "updates", "modes", "shares", "W2", "sigma", "spread over z", "entropy"]


def cells(variant, rows):
    """The cells of a variant, from its last rows, in the order of COLUMNS."""

    def each(text):
        texts = [text(row) for row in rows]
        return " / ".join(texts) if any(text != "–" for text in texts) else "–"

    def value(name, digits):
        return each(lambda row: f"{float(row[name]):.{digits}f}" if row[name] else "–")

    def shares(row):
        names = [f"share_{i}" for i in (1, 2, 3)]
        return " ".join(f"{float(row[name]):.2f}" for name in names if row[name])

    updates = rows[0]["updates"] if variant != "exact" else "–"
    found = [each(lambda row: row["modes"]), each(shares), value("w2", 2)]
    policy = [value("sigma_mean", 3), value("spread_z", 2), value("entropy_surrogate", 2)]
    return [f"`{variant}`", updates, *found, *policy]


root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1] / "results/reference/toy")
tables = sorted(root.glob("*.csv"))
if not tables:
    print(f"error: {root}: no tables of `runner toy` in this folder", file=sys.stderr)
    sys.exit(2)
for path in tables:
    last = {}
    for row in csv.DictReader(path.open()):
        last.setdefault(row["variant"], {})[row["seed"]] = row  # the last row remains
    print(f"\n`{path.stem}`\n\n| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    for variant, seeds in last.items():
        print("| " + " | ".join(cells(variant, list(seeds.values()))) + " |")
