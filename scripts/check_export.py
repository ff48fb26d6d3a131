#!/usr/bin/env python3
"""Trains every algorithm for a moment, exports it, and compares the exported files:

- both ONNX files pass the checker and give the runtime's actions within 1e-5, one by one and as a batch;
- WebAssembly (Node) and AArch64 (QEMU) give the runtime's bits, where this machine has them;
- the four programs of the exported README run as they are written.

    scripts/check_export.py                        # about a minute
    scripts/check_export.py --run results/smfp/Hopper-v4/seed-0

Needs Python 3.11 or newer and pip. Installs onnx and onnxruntime from PyPI into
third_party/python-onnx (190 MB on disk). Exit code: 0 equal, 1 different, 2 could not compare.
"""

import argparse
import ctypes
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import parity

ROOT = parity.ROOT
PACKAGES = ROOT / "third_party" / "python-onnx"
PINS = ["onnx==1.23.2", "onnxruntime==1.32.0", "numpy==2.4.6"]
ALGORITHMS = ["smfp", "sac", "td3", "crossq", "mdpo", "meanflow", "qvpo", "dpmd"]
ALGORITHMS += ["sac-flow-g", "sac-flow-t", "dime", "flowrl"]
# Together they have every operation of the runtime.
ON_OTHER_PROCESSORS = ["smfp", "sac", "dpmd", "sac-flow-t", "of the run"]
ROWS = 200
TOLERANCE = 1e-5
# Chains, of up to 20 network calls, accumulate their rounding.
CHAIN_TOLERANCE = 1e-4


def run(command, **options):
    """Runs a command; a failure ends the comparison."""
    done = subprocess.run(list(map(str, command)), capture_output=True, **options)
    if done.returncode:
        parity.fail(f"{' '.join(map(str, command))}: {done.stderr.decode().strip()}")
    return done.stdout


def train(runner, algo, out, task="Hopper-v4"):
    """A run of a second; returns its folder."""
    settings = ["train.warmup_steps=150", "train.batch_size=16", "train.eval_episodes=2", "critic.width=32"]
    settings += ["actor.normalise=true", 'train.eval_modes=["mean"]']
    settings += ["flow.batch_norm=true"] if algo == "sac-flow-g" else []
    sets = [word for setting in settings for word in ("--set", setting)]
    run([runner, "--algo", algo, "--env", task, "--seed", 1, "--steps", 300, "--out", out, *sets])
    return out / algo / task / "seed-1"


def build(*arguments, flags=""):
    """Builds with cargo."""
    env = {**os.environ, "RUSTFLAGS": flags} if flags else os.environ
    run(["cargo", "build", "--release", *arguments], cwd=ROOT, env=env)


def has_target(target):
    """Whether the toolchain can compile for a target, which is added if it can be."""
    subprocess.run(["rustup", "target", "add", target], cwd=ROOT, capture_output=True)
    sysroot = run(["rustc", "--print", "sysroot"], cwd=ROOT).decode().strip()
    return (pathlib.Path(sysroot) / "lib" / "rustlib" / target / "lib").is_dir()


def prepare():
    """Installs the packages and builds the runtime; returns its shared library."""
    if not parity.install(PACKAGES, PINS, "190 MB on disk"):
        parity.fail(f"pip cannot install {' '.join(PINS)}, see above")
    build("-p", "policy-c")
    folder = ROOT / "target" / "runtime"
    folder.mkdir(exist_ok=True)
    shutil.copy(ROOT / "crates" / "policy-c" / "include" / "smfp_policy.h", folder)
    for name in ["libsmfp_policy.a", "libsmfp_policy.so"]:
        shutil.copy(ROOT / "target" / "release" / name, folder)
    return folder / "libsmfp_policy.so"


class Runtime:
    """The shared library, by ctypes."""

    def __init__(self, path, policy):
        import numpy

        self.library = ctypes.CDLL(str(path))
        self.library.smfp_error.restype = ctypes.c_char_p
        self.policy = ctypes.c_void_p()
        code = self.library.smfp_load_file(str(policy).encode(), ctypes.byref(self.policy))
        if code:
            parity.fail(f"{policy}: {self.library.smfp_error(code).decode()}")
        sizes = (ctypes.c_size_t * 4)()
        self.library.smfp_sizes(self.policy, sizes)
        self.sizes = list(sizes)
        self.numpy = numpy

    def act(self, obs, z, xi):
        """Actions for rows of inputs; None for no noise."""
        actions = self.numpy.zeros((len(obs), self.sizes[3]), "f4")
        pointer = lambda row: None if row is None else row.ctypes.data_as(ctypes.c_void_p)
        for i, out in enumerate(actions):
            rows = [None if x is None else x[i] for x in (obs, z, xi)]
            self.library.smfp_act(self.policy, *map(pointer, rows), pointer(out))
        return actions


def compare_onnx(export, runtime, inputs, tolerance):
    """Lines about differences between the ONNX files and the runtime."""
    import numpy
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    obs, z, xi = inputs
    for name, noise in [("policy.onnx", True), ("policy-mean.onnx", False)]:
        model = onnx.load(export / name)
        onnx.checker.check_model(model, full_check=True)
        session = onnxruntime.InferenceSession(str(export / name), options)
        feed = {"obs": obs, "z": z, "xi": xi} if noise else {"obs": obs}
        feed = {key: value for key, value in feed.items() if value.shape[1]}
        if sorted(feed) != sorted(value.name for value in session.get_inputs()):
            yield f"{name} has the inputs {[value.name for value in session.get_inputs()]}"
            continue
        batch = session.run(["actions"], feed)[0]
        single = [session.run(["actions"], {k: v[i : i + 1] for k, v in feed.items()})[0] for i in range(len(obs))]
        ours = runtime.act(obs, z if noise else None, xi if noise else None)
        for what, theirs in [("a batch", batch), ("single rows", numpy.concatenate(single))]:
            worst = float(numpy.abs(theirs - ours).max())
            if not worst <= tolerance:
                yield f"{name}, {what}: {worst} off"
        print(f"  {name}: at most {numpy.abs(batch - ours).max():.1e} from the runtime")


def other_processors(export, inputs, folder):
    """(name, actions' bytes) of the runtime on other processors; says which are not there."""
    import numpy

    (folder / "inputs").write_bytes(numpy.concatenate(inputs, axis=1).tobytes())
    target = "wasm32-unknown-unknown"
    if not shutil.which("node"):
        print("not compared with WebAssembly: there is no `node`")
    elif not has_target(target):
        print(f"not compared with WebAssembly: rustc has no target {target}")
    else:
        build("-p", "policy-c", "--target", target, flags="-C target-feature=+simd128 -C strip=symbols")
        wasm = ROOT / "target" / target / "release" / "smfp_policy.wasm"
        shipped = ROOT / "crates" / "show" / "runtime" / "smfp_policy.wasm"
        if wasm.read_bytes() != shipped.read_bytes():
            parity.fail(f"{shipped} is not what its source gives; `scripts/just policy-wasm` builds it")
        script = ROOT / "scripts" / "act_wasm.mjs"
        run(["node", script, wasm, export / "policy.smfp", folder / "inputs", folder / "actions"])
        yield "WebAssembly", (folder / "actions").read_bytes()

    target = "aarch64-unknown-linux-gnu"
    linker, emulator = "aarch64-linux-gnu-gcc", shutil.which("qemu-aarch64")
    if not emulator or not shutil.which(linker):
        print("not compared with AArch64: there is no `qemu-aarch64` or no `aarch64-linux-gnu-gcc`")
        return
    if not has_target(target):
        print(f"not compared with AArch64: rustc has no target {target}")
        return
    build("-p", "policy", "--example", "act", "--target", target, flags=f"-C linker={linker}")
    program = ROOT / "target" / target / "release" / "examples" / "act"
    command = [emulator, "-L", "/usr/aarch64-linux-gnu", program, export / "policy.smfp"]
    with open(folder / "inputs") as stdin:
        yield "AArch64", run(command, stdin=stdin)


def programs(export):
    """(language, what its program of the README prints)."""
    text = (export / "README.md").read_text()
    files = {"python": "policy.py", "c": "policy.c", "cpp": "policy.cpp"}
    env = {**os.environ, "SMFP": str(ROOT), "PYTHONPATH": str(PACKAGES)}
    alone = {key: value for key, value in os.environ.items() if key != "CARGO_TARGET_DIR"}
    for language, program in re.findall(r"```(python|c|cpp|rust)\n(.*?)```", text, re.S):
        if language == "rust":
            crate = ROOT / "target" / "check-export"
            (crate / "src").mkdir(parents=True, exist_ok=True)
            (crate / "src" / "main.rs").write_text(program)
            manifest = '[package]\nname = "acts"\nedition = "2024"\n[workspace]\n[dependencies]\n'
            (crate / "Cargo.toml").write_text(manifest + f'policy = {{ path = "{ROOT}/crates/policy" }}\n')
            # (From the clone, whose toolchain is pinned; the program reads files of the export.)
            run(["cargo", "build", "--quiet", "--offline", "--manifest-path", crate / "Cargo.toml"], cwd=ROOT, env=alone)
            yield language, run([crate / "target" / "debug" / "acts"], cwd=export)
            continue
        (export / files[language]).write_text(program)
        line = re.search(rf"`([^`]*{re.escape(files[language])}[^`]*)`:\n\n```{language}", text)[1]
        yield language, run(["sh", "-c", line.replace("python3", sys.executable)], cwd=export, env=env)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parity.add_runner(parser)
    parser.add_argument("--run", type=pathlib.Path, help="compare this run's policy instead")
    args = parser.parse_args()
    runner = args.runner
    if sys.version_info < parity.OLDEST_PYTHON:
        print(f"not compared with onnxruntime: {PINS[2]} needs Python 3.11 or newer")
        return 0
    library = prepare()

    import numpy

    rng = numpy.random.default_rng(0)
    different = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for algo in ["of the run"] if args.run else ALGORITHMS:
            export = folder / f"export-{algo}"
            run([runner, "export", "--run", args.run or train(runner, algo, folder), "--out", export])
            runtime = Runtime(library, export / "policy.smfp")
            inputs = [rng.standard_normal((ROWS, n)).astype("f4") for n in runtime.sizes[:3]]
            print(f"{algo}: obs, z, xi, actions have {runtime.sizes}", flush=True)
            chain = max(runtime.sizes[1:3]) > runtime.sizes[3]
            found = list(compare_onnx(export, runtime, inputs, CHAIN_TOLERANCE if chain else TOLERANCE))
            bits = runtime.act(*inputs).tobytes()
            if algo in ON_OTHER_PROCESSORS:
                for name, actions in other_processors(export, inputs, folder):
                    print(f"  {name}: {'the same bits' if actions == bits else 'other bits'}")
                    found += [f"{name} gives other bits"] if actions != bits else []
            if algo in ["smfp", "of the run"]:
                expected = runtime.act(numpy.zeros((1, runtime.sizes[0]), "f4"), None, None)[0]
                for language, printed in programs(export):
                    numbers = [float(word.strip("[],")) for word in printed.decode().split()]
                    if not numpy.allclose(numbers, expected, atol=TOLERANCE, rtol=1e-5):
                        found.append(f"README, {language}: {numbers}, expected {expected}")
                    print(f"  README, {language}: {numbers}")
            different += [f"{algo}: {line}" for line in found]
    for line in different:
        print(f"different: {line}")
    return 1 if different else 0


if __name__ == "__main__":
    raise SystemExit(main())
