#!/usr/bin/env python3
"""Records rliable's results for small matrices of scores, for `crates/report/tests/rliable.rs`.

    scripts/record_rliable.py       # about ten minutes

Writes crates/report/tests/fixtures/rliable.json: the scores; point estimates of the mean, the
interquartile mean, the probability of improvement and the performance profile; and, for each end of
their intervals, the range in which the end by another bootstrap must be.

That range needs no assumption on the distribution. An end is the p-quantile (p = 0.025 or 0.975) of
a bootstrap distribution estimated from R draws; the share of R' other draws below it has a
standard deviation of sqrt(p (1 - p) (1 / R + 1 / R')) around p. So the other end is between
the quantiles of this distribution at p - 5 and p + 5 of those deviations, except once in two million.

Needs Python 3.11 or newer and pip. Installs rliable and its dependencies from PyPI into
third_party/python-rliable (0.5 GB on disk).
"""

import json
import math
import sys

import parity

PACKAGES = parity.ROOT / "third_party" / "python-rliable"
PINS = ["rliable==1.2.0", "arch==7.2.0", "scipy==1.17.1", "numpy==2.4.6", "pandas==2.3.3"]
FIXTURE = parity.ROOT / "crates" / "report" / "tests" / "fixtures" / "rliable.json"
SEED = 20260731

# Draws of the bootstrap: here, and the minimum in the crate (`statistics::REPETITIONS`).
DRAWS, THEIR_DRAWS = 50_000, 10_000
# Draws for the profile, which has an interval at every threshold.
PROFILE_DRAWS = 20_000
THRESHOLDS = [-0.25, 0.0, 0.4, 0.8, 1.0, 1.3, 2.5]


def draw_scores():
    """Matrices (runs, tasks). The trimmed share is a whole number of runs in one of them and a
    fraction in the others; `tied` has equal scores within and between algorithms."""
    import numpy as np

    rng = np.random.default_rng(SEED)
    tied = rng.integers(0, 3, (5, 4)) / 2
    return {
        "even": rng.normal(1.0, 0.3, (5, 4)),
        "skewed": rng.exponential(0.9, (7, 4)),
        "few": rng.normal(0.8, 0.5, (3, 4)),
        "pair": rng.normal(0.6, 0.2, (2, 4)),
        "tied": tied,
        "tied too": np.roll(tied, 1, axis=0),
    }


def around(func, scores, reps):
    """Ranges of the ends of the 95 % interval by another bootstrap: [[low, high], [low, high]]."""
    import numpy as np
    from rliable import library

    p = 0.025
    slack = 5 * math.sqrt(p * (1 - p) * (1 / reps + 1 / THEIR_DRAWS))
    ends = []
    for size in (1 - 2 * (p - slack), 1 - 2 * (p + slack)):
        np.random.seed(SEED)
        _, interval = library.get_interval_estimates(
            {"": scores}, func, reps=reps, confidence_interval_size=size
        )
        ends.append(np.asarray(interval[""]))
    outer, inner = ends
    return {"low": [outer[0].tolist(), inner[0].tolist()],
            "high": [inner[1].tolist(), outer[1].tolist()]}


def main():
    if not parity.install(PACKAGES, PINS, "0.5 GB on the disk"):
        parity.fail(f"pip cannot install {' '.join(PINS)}, see above")
    import numpy as np
    from rliable import library, metrics

    scores = draw_scores()
    aggregates, profiles, improvements = {}, {}, []
    for name, matrix in scores.items():
        print(name, file=sys.stderr)
        aggregate = lambda x: np.array([metrics.aggregate_mean(x), metrics.aggregate_iqm(x)])
        mean, iqm = aggregate(matrix)
        aggregates[name] = {"mean": mean, "iqm": iqm, "ends": around(aggregate, matrix, DRAWS)}
        profile = lambda x: library.score_distributions(x, np.array(THRESHOLDS))
        profiles[name] = {
            "above": profile(matrix).tolist(),
            "ends": around(profile, matrix, PROFILE_DRAWS),
        }
    for x, y in [("even", "skewed"), ("few", "even"), ("skewed", "pair"), ("tied", "tied too")]:
        print(x, "over", y, file=sys.stderr)
        better = lambda a, b: np.array([metrics.probability_of_improvement(a, b)])
        [probability] = better(scores[x], scores[y])
        # SciPy's test is slow, so it has only as many draws as the crate.
        ends = around(better, [scores[x], scores[y]], THEIR_DRAWS)
        improvements.append({"x": x, "y": y, "probability": probability, "ends": ends})

    fixture = {
        "made_by": f"scripts/record_rliable.py with {', '.join(PINS)}",
        "scores": {name: matrix.T.tolist() for name, matrix in scores.items()},  # by task
        "thresholds": THRESHOLDS,
        "aggregates": aggregates,
        "profiles": profiles,
        "improvements": improvements,
    }
    FIXTURE.write_text(json.dumps(fixture, indent=1) + "\n")


if __name__ == "__main__":
    main()
