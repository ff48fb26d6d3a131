"""Systems that are measured alternately, each in a process that waits for its turn.

A benchmark starts a `Peer` for every other system; the peer's program passes its measurement
function to `serve`. They communicate by lines: when ready, the peer sends a description of itself as
JSON; then it receives numbers (how much to measure) and replies with JSON. A waiting peer sleeps,
so that only one system runs at a time; `warn_of_idlers` checks that.
"""

import collections
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import parity

PACKAGES = parity.ROOT / "third_party" / "python-bench-learn"
SIZE = "0.7 GB to download, 2.2 GB on disk"
QUIET = 0.3  # above this load average other processes use the machine
TASK, OBS_DIM, ACT_DIM = "HalfCheetah-v4", 17, 6
DENOISING_STEPS, TIME_DIM = 20, 16  # of diffusion policies; size of the time embedding

# The CUDA libraries that PyTorch's wheel is linked against, except two small ones that are
# installed, and the prefixes of their functions.
CUDA_LIBRARIES = ["cublas.so.13", "cublasLt.so.13", "cudnn.so.9", "cufft.so.12", "cufile.so.0"]
CUDA_LIBRARIES += ["curand.so.10", "cusparse.so.12", "cusparseLt.so.0", "nccl.so.2"]
CUDA_LIBRARIES += ["nvrtc.so.13", "nvshmem_host.so.3"]
CUDA_FUNCTIONS = "cublas|cudnn|cufft|cuFile|curand|cusparse|nccl|nvrtc|nvshmem"


def install():
    """Installs the pinned packages of requirements.txt; exits if that fails."""
    lines = (HERE / "requirements.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    if not parity.install(PACKAGES, ["--no-deps", *pins], SIZE):
        parity.fail("pip cannot install scripts/peers/requirements.txt, see above")
    stand_in_for_cuda()


def stand_in_for_cuda():
    """Replaces the CUDA libraries, which PyTorch loads even without a GPU, by a stub library: it
    defines every function that PyTorch imports from them, and aborts if one is called."""
    folder = PACKAGES / "nvidia" / "cu13" / "lib"
    library = folder / "stand-in.so"
    if library.exists():
        return
    for name in CUDA_LIBRARIES:
        link = folder / f"lib{name}"
        link.unlink(missing_ok=True)
        link.symlink_to(library.name)
    libraries = sorted(PACKAGES.glob("torch/lib/libtorch_*.so"))
    command = ["nm", "--dynamic", "--undefined-only", *libraries]
    wanted = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    versions = collections.defaultdict(list)
    found = re.findall(rf" U ((?:{CUDA_FUNCTIONS})\w+)(?:@(\S+))?", wanted)
    for function, version in sorted(set(found)):
        versions[version or "NONE"].append(function)
    functions = [function for group in versions.values() for function in group]
    labels = [f".globl {function}\n{function}:\n" for function in functions]
    with tempfile.NamedTemporaryFile("w") as script:
        for version, group in versions.items():
            script.write(f"{version} {{ {'; '.join(group)}; }};\n")
        script.flush()
        command = ["cc", "-shared", "-nostdlib", f"-Wl,--version-script={script.name}"]
        command += ["-x", "assembler", "-", "-o", library]
        # `ud2`, an illegal instruction, aborts the process.
        subprocess.run(command, input=f".text\n{''.join(labels)}ud2\n", text=True, check=True)


def on_cores(count):
    """Arguments of `subprocess` that restrict a process and its thread pools to `count` cores."""
    cores = sorted(os.sched_getaffinity(0))[:count]
    variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {
        "preexec_fn": lambda: os.sched_setaffinity(0, cores),
        "env": {**os.environ, **dict.fromkeys(variables, str(count))},
    }


def ask(command, threads=1):
    """Runs our runner on some cores and returns its output, parsed as JSON, if there is any."""
    done = subprocess.run(command, capture_output=True, text=True, **on_cores(threads))
    if done.returncode != 0:
        parity.fail(f"`{' '.join(command)}` ended with {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout or "null")


class Peer:
    """Another system, in its own process on some cores. `about` is its description of itself."""

    def __init__(self, threads, script, *words):
        self.name = " ".join((script, *words))
        where = on_cores(threads)
        where["env"] |= {"PYTHONPATH": str(PACKAGES), "PYTHONWARNINGS": "ignore"}
        where["env"] |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
        self.messages = tempfile.TemporaryFile("w+")
        command = [sys.executable, str(HERE / script), *words]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.messages}
        self.process = subprocess.Popen(command, text=True, **pipes, **where)
        self.idle_cpu, self.idle_wall = 0.0, 0.0
        self.about = self.answer()

    def play(self, amount):
        """One turn; returns what was measured."""
        self.count_idling()
        self.process.stdin.write(f"{amount}\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.messages.seek(0)
            tail = "".join(self.messages.readlines()[-15:])
            parity.fail(f"{self.name} ended with {self.process.wait()}: {tail}")
        self.since = self.cpu_seconds(), time.perf_counter()
        return json.loads(line)

    def cpu_seconds(self):
        """Processor time of all its threads so far."""
        stat = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def count_idling(self):
        cpu, wall = self.since
        self.idle_cpu += self.cpu_seconds() - cpu
        self.idle_wall += time.perf_counter() - wall

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def warn_of_idlers(peers):
    """Warns about peers that used the processor during the turns of others."""
    for peer in peers:
        if peer.idle_cpu > 0.01 * peer.idle_wall:
            share = peer.idle_cpu / peer.idle_wall
            print(f"warning: {peer.name} used {share:.1%} of a core in others' turns",
                  file=sys.stderr)


def warn_of_load():
    """Warns if other processes use the machine; returns its load average."""
    load = os.getloadavg()[0]
    if load > QUIET:
        print(f"warning: the load average is {load:.2f}: other processes use the machine", file=sys.stderr)
    return load


def generation():
    """Family and model of the processor, which tell its generation where its name does not."""
    with open("/proc/cpuinfo") as file:
        first = file.read().split("\n\n")[0].splitlines()
    pairs = (line.split(":", 1) for line in first if ":" in line)
    known = {key.strip(): value.strip() for key, value in pairs}
    if "cpu family" not in known:
        return ""
    return f" (family {known['cpu family']}, model {known['model']})"


def describe(machine, load):
    """A description of the machine; `machine` is a report of the runner's bench update or bench act."""
    return "; ".join([
        f"{machine['processor']}{generation()}, {machine['instructions']}",
        f"{len(os.sched_getaffinity(0))} logical processors",
        f"load {load:.2f} at the start",
        f"ours {machine['commit'][:12]} with LibTorch {machine['libtorch']}",
        f"Python {'.'.join(map(str, sys.version_info[:3]))}",
    ])


def diffusion_schedule():
    """The schedule of a diffusion policy, the noisiest step first: "times", embeddings of shape
    (DENOISING_STEPS, TIME_DIM), and "steps", triples (scale, share, std) of
    x <- scale (x - share noise(x)) + std xi (DDPM, arXiv 2006.11239, algorithm 2).
    Variance-preserving, as in Diffusion-QL (arXiv 2208.06193)."""
    import numpy as np

    t = np.arange(1, DENOISING_STEPS + 1) / DENOISING_STEPS
    low, high = 0.1, 10.0
    width = 1 / DENOISING_STEPS
    betas = 1 - np.exp(-(low * width + (high - low) * width * (t - width / 2)))
    kept = np.cumprod(1 - betas)
    before = np.concatenate([[1.0], kept[:-1]])
    stds = np.sqrt(betas * (1 - before) / (1 - kept))  # the last step adds none
    steps = np.stack([1 / np.sqrt(1 - betas), betas / np.sqrt(1 - kept), stds], 1)
    angles = np.outer(t, np.arange(1, TIME_DIM // 2 + 1) * np.pi / 2)
    times = np.concatenate([np.sin(angles), np.cos(angles)], 1)
    return {"steps": steps[::-1].tolist(), "times": times[::-1].astype(np.float32)}


def time_actions(version, variants):
    """For `serve`: a turn times a number of actions of each variant, a function from observation
    (1, OBS_DIM) to action (1, ACT_DIM), both float32; results are the median and the 99th
    percentile in microseconds. A variant that fails is skipped, and its error is reported."""
    import numpy as np

    observations = np.random.default_rng(0).standard_normal((500, 1, OBS_DIM), np.float32)

    def measure(act, count):
        times = []
        for k in range(count):
            obs = observations[k % len(observations)]
            begun = time.perf_counter()
            act(obs)
            times.append((time.perf_counter() - begun) * 1e6)
        return np.percentile(times, [50, 99]).tolist()

    failed = {}
    for name, act in variants.items():
        try:
            action = act(observations[0])
            assert action.shape == (1, ACT_DIM) and action.dtype == np.float32
            measure(act, 500)
        except Exception as error:  # compilers may raise anything
            failed[name] = str(error).strip().partition("\n")[0]
    working = {name: act for name, act in variants.items() if name not in failed}
    about = {"version": version, "failed": failed}
    return about, lambda count: {name: measure(act, count) for name, act in working.items()}


def serve(prepare):
    """The peer's side: `prepare()` returns its description and a function that makes one turn.
    Output of libraries is redirected to stderr."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    about, play = prepare()
    while True:
        print(json.dumps(about), file=out, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        about = play(int(line))
