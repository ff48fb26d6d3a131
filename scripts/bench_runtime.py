#!/usr/bin/env python3
"""Compares the time of an action by the runtime of exported policies with LibTorch's and onnxruntime's,
at batch 1 on one thread.

Two pairs: within the runner, the runtime beside LibTorch, as `runner bench act` measures them; from
Python, the runtime by ctypes beside onnxruntime with its inputs and outputs bound in advance. The
policies are those of HalfCheetah-v4, with the networks of the preset.

    scripts/bench_runtime.py                            # about a minute after compiling
    scripts/bench_runtime.py --algos all --rounds 15

All take turns within every round, those of a pair by blocks of 100 actions; results are medians over the
rounds, ratios medians of the rounds' ratios. Prints a Markdown table; writes results/bench/runtime.csv
after a line that describes the machine. Run it on an otherwise idle machine.

Has the requirements of scripts/check_export.py.
"""

import argparse
import csv
import ctypes
import pathlib
import statistics
import sys
import tempfile
import time

import check_export
import parity
from peers import turns

NAMES = ["runtime", "LibTorch", "runtime, ctypes", "onnxruntime"]
BLOCK, BLOCKS = 100, 20


class FromPython:
    """An exported policy as called from Python, in two ways."""

    def __init__(self, library, export):
        import numpy
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(export / "policy.onnx"), options)
        binding = session.io_binding()
        for value in session.get_inputs():
            row = numpy.full((1, value.shape[1]), 0.5, "f4")
            binding.bind_ortvalue_input(value.name, onnxruntime.OrtValue.ortvalue_from_numpy(row))
        [output] = session.get_outputs()
        row = numpy.zeros((1, output.shape[1]), "f4")
        binding.bind_ortvalue_output(output.name, onnxruntime.OrtValue.ortvalue_from_numpy(row))
        runtime = check_export.Runtime(library, export / "policy.smfp")
        self.rows = [numpy.full(n, 0.5, "f4") for n in runtime.sizes]
        pointers = [row.ctypes.data_as(ctypes.c_void_p) for row in self.rows]
        act, policy = runtime.library.smfp_act, runtime.policy
        self.calls = [lambda: act(policy, *pointers), lambda: session.run_with_iobinding(binding)]
        self.round()

    def round(self):
        """Microseconds of an action, the median for each way."""
        found = [[] for _ in self.calls]
        for _ in range(BLOCKS):
            for times, call in zip(found, self.calls):
                for _ in range(BLOCK):
                    begun = time.perf_counter_ns()
                    call()
                    times.append((time.perf_counter_ns() - begun) / 1e3)
        return [statistics.median(times) for times in found]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algos", default="smfp,sac", help="algorithms, or all")
    parser.add_argument("--rounds", type=int, default=9, help="number of rounds")
    parity.add_runner(parser)
    args = parser.parse_args()
    if args.rounds < 1:
        parity.fail("--rounds must be at least 1")
    runner = args.runner
    algos = check_export.ALGORITHMS if args.algos == "all" else args.algos.split(",")
    library = check_export.prepare()
    load = turns.warn_of_load()
    rows, machine = [], None
    with tempfile.TemporaryDirectory() as folder:
        for algo in algos:
            run = check_export.train(runner, algo, pathlib.Path(folder), turns.TASK)
            check_export.run([runner, "export", "--run", run])
            python = FromPython(library, run / "export")
            rounds = []
            for turn in range(args.rounds):
                print(f"{algo}, round {turn + 1} of {args.rounds} ...", file=sys.stderr, flush=True)
                command = [runner, "bench", "act", "--env", turns.TASK, "--algo", algo, "--mode", "stochastic"]
                machine = turns.ask([*command, "--threads", "1", "--rounds", "1", "--json"])
                [row] = machine["rows"]
                rounds.append([row["runtime_us_p50"], row["us_p50"], *python.round()])
            rows.append((algo, row["calls_per_action"], rounds))

    description = turns.describe(machine, load)
    print(f"{description}\n\nMicroseconds of an action at batch 1, one thread, {turns.TASK}; medians of "
          f"{args.rounds} rounds.\n")
    print("| | network calls | " + " | ".join(NAMES) + " | LibTorch / runtime | onnxruntime / runtime |")
    print("|---|" + "--:|" * (len(NAMES) + 3))
    file = parity.ROOT / "results" / "bench" / "runtime.csv"
    with open(file, "w", newline="") as out:
        out.write(f"# {description}\n")
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["algorithm", "network_calls", "system", "rounds", "us_p50", "us_p50_min", "us_p50_max"])
        for algo, calls, rounds in rows:
            medians = [statistics.median(column) for column in zip(*rounds)]
            ratios = [statistics.median(r[i + 1] / r[i] for r in rounds) for i in (0, 2)]
            cells = [f"{x:.1f}" for x in medians + ratios]
            print(f"| {algo} | {calls} | " + " | ".join(cells) + " |")
            for name, column in zip(NAMES, zip(*rounds)):
                numbers = statistics.median(column), min(column), max(column)
                writer.writerow([algo, calls, name, len(rounds)] + [f"{number:.1f}" for number in numbers])
    print(f"written: {file.relative_to(parity.ROOT)}")


if __name__ == "__main__":
    main()
