#!/usr/bin/env python3
"""Trains on the seven tasks, for some seeds, each run a process of its own.

Options that aren't listed below go to `runner train` as they are. A run whose folder holds
DONE is skipped, so that a benchmark that was stopped goes on when it is started again.
"""
import argparse
import json
import os
import signal
import subprocess
import sys
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TASKS = ["Ant-v4", "HalfCheetah-v4", "Hopper-v4", "Humanoid-v4", "HumanoidStandup-v4", "Swimmer-v4", "Walker2d-v4"]
STOPPED = 75  # the runner's exit code: stopped on request, with a checkpoint


def seeds(text):
    """`0-2`, `0,1,4` or both; each seed once."""
    found = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        try:
            several = range(int(first), int(last or first) + 1)
        except ValueError:
            several = range(0)
        if not several:
            raise argparse.ArgumentTypeError("%r; expected seeds like 0-2 or 0,1,4" % text)
        found += [seed for seed in several if seed not in found]
    return found


def at_least_one(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("%r; expected a whole number from 1" % text)
    return int(text)


def say(line):
    print("bench-all: " + line, file=sys.stderr, flush=True)


def build():
    """Compiles the runner; returns its path, or None when the compiler complains (it has said why)."""
    command = ["cargo", "build", "-p", "runner", "--message-format", "json-render-diagnostics"]
    try:
        result = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, universal_newlines=True)
    except FileNotFoundError:
        say("no cargo on the PATH; install Rust and run this again")
        return None
    if result.returncode:
        return None
    for line in result.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message.get("target", {}).get("name") == "runner":
            return message["executable"]
    say("cargo built no program `runner`")
    return None


class Bench:
    """The runs that are left, and the children that work on them."""

    def __init__(self, runner, options, rest):
        self.runner, self.options, self.rest = runner, options, rest
        # The folder that the runner gives an algorithm's variant (`docs/protocol.md`).
        self.variant = "%s-%s" % (options.algo, options.name) if options.name else options.algo
        self.guard = threading.Lock()
        self.left = [(task, seed) for seed in options.seeds for task in TASKS]
        self.total, self.begun = len(self.left), 0
        self.children, self.failed = set(), []
        self.stopping = False

    def work(self):
        """One job: takes runs until none is left."""
        while True:
            with self.guard:
                if self.stopping or not self.left:
                    return
                task, seed = self.left.pop(0)
                self.begun += 1
                name = "%d/%d %s seed %d" % (self.begun, self.total, task, seed)
            run = os.path.join(self.options.out, self.variant, task, "seed-%d" % seed)
            if os.path.exists(os.path.join(run, "DONE")):
                say(name + ": done before, skipped")
                continue
            say(name)
            code, log = self.train(task, seed)
            with self.guard:
                if code and not self.stopping:
                    self.failed.append("%s seed %d: exit code %d%s" % (task, seed, code, log and ", see " + log))
                    say("%s: failed" % name)

    def train(self, task, seed):
        command = [self.runner, "train", "--env", task, "--seed", str(seed), "--out", self.options.out, "--algo", self.options.algo]
        if not any(argument.split("=")[0] == "--threads" for argument in self.rest):
            command += ["--threads", str(max(1, (os.cpu_count() or 1) // self.options.jobs))]
        if self.options.name:
            command += ["--name", self.options.name]
        if self.options.steps is not None:
            command += ["--steps", self.options.steps]
        log = ""
        output = None
        if self.options.jobs > 1:  # side by side, progress bars would overwrite each other
            folder = os.path.join(self.options.out, "logs")
            os.makedirs(folder, exist_ok=True)
            log = os.path.join(folder, "%s-%s-seed-%d.log" % (self.variant, task, seed))
            output = open(log, "ab")
        try:
            with self.guard:
                if self.stopping:
                    return STOPPED, log
                # A session of its own: Ctrl-C reaches the children once, through us.
                child = subprocess.Popen(command + self.rest, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
                self.children.add(child)
            code = child.wait()
            with self.guard:
                self.children.discard(child)
            return code, log
        finally:
            if output:
                output.close()

    def stop(self, number):
        """Asks the children to stop, which leaves a checkpoint; kills them when asked again."""
        with self.guard:
            number = signal.SIGKILL if self.stopping else number
            self.stopping = True
            for child in self.children:
                child.send_signal(number)


def main():
    parser = argparse.ArgumentParser(prog="bench-all", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--seeds", type=seeds, default=[0], help="like 0-2 or 0,1,4 (0)")
    parser.add_argument("--jobs", type=at_least_one, default=1, help="how many runs at a time (1); with several, each writes to a file in <out>/logs")
    parser.add_argument("--steps", help="environment steps of each run (as the preset has it)")
    parser.add_argument("--algo", default="smfp", help="the algorithm (smfp)")
    parser.add_argument("--name", help="a variant's name, added to the algorithm's folder")
    parser.add_argument("--out", default="results", help="where the runs' folders go (results)")
    options, rest = parser.parse_known_args()
    options.out = os.path.relpath(os.path.join(ROOT, options.out), ROOT) if not os.path.isabs(options.out) else options.out
    os.chdir(ROOT)
    for taken in ("--env", "--seed"):
        if any(argument == taken or argument.startswith(taken + "=") for argument in rest):
            say("%s isn't an option here: expected %s; `runner train` does a single run" % (taken, "--seeds" if taken == "--seed" else "all seven tasks"))
            return 2
    runner = build()
    if not runner:
        return 1
    bench = Bench(runner, options, rest)
    jobs = [threading.Thread(target=bench.work) for _ in range(options.jobs)]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: threading.Thread(target=bench.stop, args=(number,)).start())
    for job in jobs:
        job.start()
    for job in jobs:
        while job.is_alive():  # with a timeout, so that signals are seen
            job.join(0.2)
    if bench.stopping:
        say("stopped; run it again to go on")
        return STOPPED
    for line in bench.failed:
        say("failed: " + line)
    say("%d of %d runs done" % (bench.total - len(bench.failed), bench.total))
    return 1 if bench.failed else 0


if __name__ == "__main__":
    sys.exit(main())
