#!/usr/bin/env python3
"""Shows whether training on a GPU computes, learns, resumes and pays, in one call of some minutes.

    scripts/gpu_proof.py                                # a clone, after setup-cuda and a rebuild
    ~/smfp/scripts/gpu_proof.py                         # a bundle of scripts/bundle.sh --tests
    scripts/gpu_proof.py --device cpu --short           # the same path without a GPU, two minutes

Parts, all of them by default (--parts):

    updates   recorded updates (JAX) of every algorithm, in f32 and in TF32, on the device, and that no
              update reads a tensor's numbers to the host. f32 has the tolerance of the tests on the CPU, 1e-5 relative and 1e-6 absolute: the
              operations are the same, in another order. TF32 keeps 11 bits of a factor in a product where
              f32 has 24, so both tolerances are 2^13 times as large.
    graph     an update captured as a CUDA graph and replayed: 300 updates of SMFP, CrossQ and SAC end where
              300 without a graph end. They may be off, as a share of the way from the start, by 0.1 % and ten
              times what two runs without graphs are apart. Then updates per second with and without. Where
              this passes, the parts below train with graphs. On a CPU, which has no graphs, its operations
              are recorded and repeated as a graph would do it, and must agree to the bit.
    curves    SMFP and CrossQ on HalfCheetah and Hopper for 20,000 steps, beside the CPU's curves in
              results/campaign/a. A final return below half of the lowest of the CPU's seeds is a failure.
    resume    a run that is killed (SIGKILL) after a checkpoint and resumed ends like one that is not. On
              the CPU the two are equal; a GPU adds in another order each time, so there the difference is
              shown beside that of two undisturbed runs.
    speed     steps per second of SMFP, CrossQ and SAC on HalfCheetah with 1, 4 and 16 runs sharing the
              device, and the time of an update at batch 256 and 1024, width 256 and 2048, beside that of
              SAC's update in PyTorch, eager and compiled, and in JAX, if this Python has them.

Writes a CSV file for each part and README.md with all tables to --out, part by part: what is there when
the time is over (--limit, seconds) holds. Needs Python 3.8, nothing else. Exit code: 0 all as expected,
1 a difference, 2 could not run.
"""

import argparse
import csv
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUNDLE = ROOT / "target" / "bundle"
# Crates that have recorded updates.
RECORDED = ["smfp", "baselines"]
TF32 = 2**13


def fail(message):
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def tests():
    """The test programs that repeat recorded updates, by crate."""
    if BUNDLE.is_dir():
        found = {crate: BUNDLE / f"recorded-{crate}" for crate in RECORDED}
        missing = [str(path) for path in found.values() if not path.is_file()]
        if missing:
            fail(f"{', '.join(missing)} missing: pack the bundle with scripts/bundle.sh --tests")
        return found
    packages = [word for crate in RECORDED for word in ("-p", crate)]
    command = ["cargo", "test", *packages, "--test", "recorded", "--no-run", "--message-format", "json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        fail(f"`{' '.join(command)}` failed")
    found = {}
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "recorded":
            crate = pathlib.Path(message["manifest_path"]).parent.name
            found[crate] = pathlib.Path(message["executable"])
    return found


class Proof:
    """The runs of one call, and what they found."""

    def __init__(self, args):
        self.device, self.short, self.out = args.device, args.short, args.out
        self.runner = os.path.abspath(args.runner)
        self.end = time.monotonic() + args.limit
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="gpu-proof-"))
        self.started = []
        self.failures = []
        # Settings of all runs.
        self.sets = []
        self.text = []

    def left(self):
        """Seconds that are left."""
        return max(1.0, self.end - time.monotonic())

    def ask(self, *words):
        """Output of the runner; None if it fails, which is a failure of the proof."""
        command = [self.runner, *map(str, words)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=self.left())
        except subprocess.TimeoutExpired:
            self.failures.append(f"`runner {' '.join(command[1:])}` was not done in time")
            return None
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            self.failures.append(f"`runner {' '.join(command[1:])}` ended with {done.returncode}: {reason}")
            return None
        return done.stdout

    def peer(self, program, batch, width):
        """Microseconds of SAC's update in another program; why not, if it does not run."""
        command = [sys.executable, ROOT / "scripts" / "peers" / "update_sac.py", program, self.device, batch, width]
        try:
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=min(90, self.left()))
        except subprocess.TimeoutExpired:
            return "not done in 90 s"
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["no message"])[-1]
        return f"{json.loads(done.stdout)['us_per_update']:.0f}"

    def train(self, folder, algo, env, seed, steps, *sets):
        """Starts a run."""
        command = [self.runner, "train", "--algo", algo, "--env", env, "--seed", seed, "--steps", steps]
        command += ["--device", self.device, "--threads", 1, "--out", folder]
        command += [word for setting in [*self.sets, *sets] for word in ("--set", setting)]
        messages = open(self.work / "messages", "ab")
        self.started.append(subprocess.Popen(list(map(str, command)), stdout=messages, stderr=messages))
        return self.started[-1]

    def wait(self, processes):
        """Waits for runs; those that are late are ended. Returns whether all succeeded."""
        good = True
        for process in processes:
            try:
                good &= process.wait(self.left()) == 0
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                good = False
        return good

    def write(self, name, title, rows):
        """Writes a part's CSV file, and its table to the README."""
        self.text.append(f"## {title}\n")
        if rows:
            with open(self.out / f"{name}.csv", "w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
            self.text.append("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
            self.text += ["| " + " | ".join(str(x) for x in row.values()) + " |" for row in rows]
        else:
            self.text.append("Nothing was measured.")
        self.text.append("")

    def report(self):
        """Writes the README: all tables so far, and what differs."""
        lines = self.failures or ["Everything is as expected."]
        report = [HEAD + self.about, "", *self.text, "## Differences\n", *[f"- {x}" for x in lines]]
        (self.out / "README.md").write_text("\n".join(report) + "\n")

    def start(self):
        """The description of the device; ends the program if it can't be used."""
        # (Whether graphs work is for their part to say.)
        command = [self.runner, "bench", "update", "--algo", "sac", "--rounds", "1", "--json", "--set", "train.cuda_graph=false"]
        done = subprocess.run([*command, "--device", self.device], capture_output=True, text=True)
        if done.returncode:
            fail(done.stderr.strip().replace("error: ", "", 1))
        machine = json.loads(done.stdout)
        device = self.device
        if device != "cpu" and shutil.which("nvidia-smi"):
            query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
            names = subprocess.run(query, capture_output=True, text=True).stdout.strip().splitlines()
            device += f" ({'; '.join(names)})"
        self.about = f"{device}; {machine['processor']}; commit {machine['commit'][:12]}; LibTorch {machine['libtorch']}"
        print(self.about, flush=True)


def repeat(proof, crate, program, precision, slack, names):
    """Runs a crate's tests on the device whose names contain `names`."""
    env = {**os.environ, "CARGO_MANIFEST_DIR": str(ROOT / "crates" / crate)}
    env.update(SMFP_TEST_DEVICE=proof.device, SMFP_TEST_TOLERANCE=str(slack))
    if proof.device != "cpu":
        if " " in str(ROOT):
            sys.exit(f"error: {ROOT}: LD_PRELOAD can't name a path with a space; move the folder")
        # The tests name nothing of LibTorch's CUDA half, so they are not linked with it.
        library = ROOT / "third_party" / "libtorch" / "lib" / "libtorch_cuda.so"
        env.update(LD_PRELOAD=str(library), TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=str(int(precision == "tf32")))
    command = [program, "--nocapture", "--test-threads", "1", names]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=proof.left())


def updates(proof):
    programs = tests()
    rows = []
    for precision, slack in [("f32", 1), ("tf32", TF32)]:
        if precision == "tf32" and proof.device == "cpu":
            continue
        for crate, program in sorted(programs.items()):
            done = repeat(proof, crate, program, precision, slack, "one_update")
            form = "LibTorch"
            for line in done.stdout.splitlines():
                # (The first line of a test begins with the test's name.)
                form = line.partition("instructions: ")[2] or form
                found = re.search(r"(\S+): at most ([\d.]+|NaN|inf) tolerances off, at (.*)", line)
                if found:
                    row = {"precision": precision, "crate": crate, "form": form, "case": found[1]}
                    rows.append({**row, "tolerances off": found[2], "at": found[3]})
            if done.returncode:
                lines = (done.stdout + done.stderr).splitlines()
                # (A panic's message is on the line after the place of it.)
                wrong = [x for x in lines if " tolerances off" in x and "at most" not in x]
                wrong += [message for x, message in zip(lines, lines[1:]) if "panicked" in x]
                wrong = list(dict.fromkeys(wrong)) or ["no message"]
                proof.failures.append(f"updates of {crate} in {precision}: " + "; ".join(wrong[:20]))
    if not rows:
        proof.failures.append("updates: no test has run")
    proof.write("updates", "Recorded updates, in units of the tolerance", rows)


def graph(proof):
    before, program = len(proof.failures), tests()["baselines"]
    done = repeat(proof, "baselines", program, "f32", 1, "updates_as_cuda_graphs")
    found = re.findall(r"(\S+): (\d+) updates, (\d+) graphs, (\S+) off, (\S+) twice without", done.stdout)
    if done.returncode or not found:
        # LibTorch's own messages have many lines.
        wrong = [message for x, message in zip(done.stderr.splitlines(), done.stderr.splitlines()[1:]) if "panicked" in x]
        proof.failures.append("graph: " + (wrong or ["no test has run"])[0])
    rows = []
    for algo, count, graphs, off, again in found:
        row = {"algorithm": algo, "updates": count, "graphs": graphs, "off": off, "two without graphs": again}
        rates = {}
        for captured in ["false", "true"]:
            sets = ["--set", f"train.cuda_graph={captured}"]
            report = proof.ask("bench", "update", "--algo", algo, "--device", proof.device, "--json", *sets)
            rates[captured] = f"{json.loads(report)['rows'][0]['updates_per_s']:.0f}" if report else "failed"
        if proof.device == "cpu":
            row["graphs"], rates["true"] = f"{graphs} rehearsed, not run: no GPU", "not run: no GPU"
        rows.append({**row, "updates/s without": rates["false"], "updates/s with": rates["true"]})
    if len(proof.failures) == before and proof.device != "cpu":
        proof.sets.append("train.cuda_graph=true")
    proof.write("graph", "Updates as CUDA graphs, beside updates without", rows)


def curves(proof):
    steps = 1500 if proof.short else 20_000
    sets = ["train.warmup_steps=1000", "train.eval_interval=1500", "train.eval_episodes=2"] if proof.short else []
    tasks = [(algo, env) for algo in ["smfp", "crossq"] for env in ["HalfCheetah-v4", "Hopper-v4"]]
    folder = proof.work / "curves"
    started = [proof.train(folder, algo, env, 0, steps, *sets) for algo, env in tasks]
    if not proof.wait(started):
        proof.failures.append(f"curves: a run failed or was not done in time: {last_message(proof)}")
    rows = []
    for algo, env in tasks:
        found = deterministic(folder / algo / env / "seed-0")
        reference = ROOT / "results" / "campaign" / "a" / algo / env
        cpu = [deterministic(path) for path in sorted(reference.glob("seed-*"))]
        if not any(cpu):
            proof.failures.append(f"curves: no curves of {algo} on {env} in {reference} to compare with")
        for step, value in found.items():
            of_cpu = [curve[step] for curve in cpu if step in curve]
            row = {"algorithm": algo, "task": env, "step": step, "return": f"{value:.0f}"}
            rows.append({**row, "on the CPU": ", ".join(f"{x:.0f}" for x in of_cpu)})
            if step == steps and of_cpu and not value >= 0.5 * min(of_cpu):
                proof.failures.append(f"curves: {algo} on {env} returns {value:.0f}, on the CPU {min(of_cpu):.0f}")
    proof.write("curves", "Deterministic returns", rows)


def deterministic(run):
    """Return by step of a run's deterministic evaluations."""
    try:
        with open(run / "eval.csv", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["mode"] == "deterministic"]
    except OSError:
        return {}
    return {int(row["step"]): float(row["return_mean"]) for row in rows}


def last_message(proof):
    lines = (proof.work / "messages").read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no message"


def resume(proof):
    steps = 1600 if proof.short else 6000
    sets = [f"train.warmup_steps={steps // 4}", f"train.eval_interval={steps}", f"train.checkpoint_interval={steps // 4}"]
    names = ["undisturbed", "undisturbed again", "killed"]
    folders = {name: proof.work / name.replace(" ", "-") for name in names}
    run = {name: folder / "smfp" / "Hopper-v4" / "seed-3" for name, folder in folders.items()}
    begin = lambda name: proof.train(folders[name], "smfp", "Hopper-v4", 3, steps, *sets)
    started = {name: begin(name) for name in names}
    # Killed in the middle of the steps after its second checkpoint.
    kills = 0
    while started["killed"].poll() is None and proof.left() > 1:
        if len(list((run["killed"] / "checkpoint").glob("step-*"))) >= 2:
            time.sleep(0.5)
            started["killed"].send_signal(signal.SIGKILL)
            kills += 1
            break
        time.sleep(0.02)
    if not kills:
        started["killed"].kill()
    started["killed"].wait()
    started["killed"] = begin("killed")
    if not proof.wait(started.values()):
        proof.failures.append(f"resume: a run failed or was not done in time: {last_message(proof)}")
    if not kills:
        proof.failures.append("resume: the run ended before it could be killed")
    rows, found = [], {}
    for name in names:
        found[name] = deterministic(run[name]).get(steps)
        logged = [line.split(",")[0] for line in read(run[name] / "train.csv").splitlines()[1:]]
        weights = list((run[name] / "checkpoint").glob(f"step-{steps:012}/agent.safetensors"))
        rows.append({"run": name, "return": found[name], "rows logged": len(logged), "kills": kills if name == "killed" else 0})
        if not weights or not (run[name] / "DONE").exists() or len(set(logged)) != len(logged):
            proof.failures.append(f"resume: {name}: not finished, or rows of train.csv twice")
        found[name] = found[name], weights[0].read_bytes() if weights else None
    if proof.device == "cpu" and found["killed"] != found["undisturbed"]:
        proof.failures.append("resume: the killed run differs from the undisturbed one")
    proof.write("resume", f"A run of {steps} steps on Hopper-v4, killed and resumed", rows)


def read(path):
    try:
        return path.read_text()
    except OSError:
        return ""


def speed(proof):
    algos = ["smfp"] if proof.short else ["smfp", "crossq", "sac"]
    rows = []
    for algo in algos:
        for count in [1, 2] if proof.short else [1, 4, 16]:
            folder = proof.work / f"speed-{algo}-{count}"
            # Runs log the steps per second of every 250 steps after the first updates; they are stopped.
            sets = ["train.warmup_steps=500", "train.log_interval=250", "train.eval_interval=1000000"]
            started = [proof.train(folder, algo, "HalfCheetah-v4", seed, 1_000_000, *sets) for seed in range(count)]
            paths = [folder / algo / "HalfCheetah-v4" / f"seed-{seed}" / "train.csv" for seed in range(count)]
            end = time.monotonic() + min(proof.left(), 60 if proof.short else 12 + count)
            while time.monotonic() < end and all(process.poll() is None for process in started):
                time.sleep(0.2)
            for process in started:
                process.kill()
                process.wait()
            rates = []
            for path in paths:
                logged = list(csv.DictReader(read(path).splitlines()))
                measured = [float(row["steps_per_s"]) for row in logged if int(row["step"]) > 750]
                rates.append(sorted(measured)[len(measured) // 2] if measured else 0.0)
            if not all(rates):
                proof.failures.append(f"speed: {algo}, {count} runs: a run made too few steps to have a rate")
            row = {"algorithm": algo, "runs": count, "steps/s of all": f"{sum(rates):.0f}"}
            rows.append({**row, "steps/s of the slowest": f"{min(rates):.0f}"})
    proof.write("speed", "Steps per second on HalfCheetah-v4, runs sharing the device", rows)
    rows = []
    # With and without graphs, where there are any.
    forms = [["train.cuda_graph=true"], ["train.cuda_graph=false"]] if proof.sets else [[]]
    for algo in algos:
        for batch in [256] if proof.short else [256, 1024]:
            for width in [256] if proof.short else [256, 2048]:
                for form in forms:
                    sets = [*form, f"train.batch_size={batch}", f"critic.width={width}", f"actor.width={width}"]
                    words = [word for setting in sets for word in ("--set", setting)]
                    report = proof.ask("bench", "update", "--algo", algo, "--device", proof.device, "--json", *words)
                    if report:
                        [row] = json.loads(report)["rows"]
                        name = f"{algo}, as a CUDA graph" if form == ["train.cuda_graph=true"] else algo
                        rows.append({"update": name, "batch": batch, "width": width, "us": f"{row['us_per_update']:.0f}"})
    # The update of `sac` in other programs, as far as they are installed.
    for program in ["torch-eager", "torch-compiled", "jax"]:
        for batch in [256] if proof.short else [256, 1024]:
            for width in [256] if proof.short else [256, 2048]:
                measured = proof.peer(program, batch, width)
                rows.append({"update": f"sac, {program}", "batch": batch, "width": width, "us": measured})
    proof.write("update", "Time of an update, medians of five rounds of 60", rows)


HEAD = "# Proof on "
PARTS = {part.__name__: part for part in [updates, graph, resume, curves, speed]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    program = ROOT / "runner" if BUNDLE.is_dir() else ROOT / "target" / "debug" / "runner"
    parser.add_argument("--device", default="cuda", help="cuda, cuda:INDEX or cpu")
    parser.add_argument("--parts", default=",".join(PARTS), help="parts, joined by commas")
    parser.add_argument("--short", action="store_true", help="shorter runs, fewer sizes")
    parser.add_argument("--limit", type=float, default=580, help="seconds for all")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("gpu-proof"), help="folder of the results")
    parser.add_argument("--runner", default=str(program))
    parser.add_argument("--list-tests", action="store_true", help="print the tests' programs by crate, and end")
    args = parser.parse_args()
    if args.list_tests:
        print("\n".join(f"{crate} {program}" for crate, program in sorted(tests().items())))
        return 0
    wrong = [part for part in args.parts.split(",") if part not in PARTS]
    if wrong:
        fail(f"--parts {wrong[0]}: expected some of {', '.join(PARTS)}")
    if not os.access(args.runner, os.X_OK):
        fail(f"{args.runner} is not a program; build it with `cargo build -p runner`")
    readme = args.out / "README.md"
    if readme.exists() and not readme.read_text(errors="replace").startswith(HEAD):
        fail(f"{readme} is not a proof's; name another folder with --out")
    args.out.mkdir(parents=True, exist_ok=True)
    proof = Proof(args)
    try:
        proof.start()
        for name in args.parts.split(","):
            begun = time.monotonic()
            try:
                PARTS[name](proof)
            except subprocess.TimeoutExpired:
                proof.failures.append(f"{name}: was not done in time")
            print(f"{name}: {time.monotonic() - begun:.0f} s", flush=True)
            proof.report()
    finally:
        for process in proof.started:
            process.kill()  # nothing of the proof outlives it
        shutil.rmtree(proof.work, ignore_errors=True)
    print((args.out / "README.md").read_text())
    return 1 if proof.failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
