#!/usr/bin/env python3
"""Tests of set-up: runs the program against a local index with small wheels."""
import hashlib
import http.server
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import unittest
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, HERE)
import setup  # noqa: E402

TORCH = "torch-1.0-cp311-cp311-manylinux_2_28_x86_64.whl"
NOISE = random.Random(1)


def noise(size):
    return NOISE.getrandbits(8 * size).to_bytes(size, "big")


# Incompressible bytes, and unwanted files between the wanted ones, so that wheels have several
# pieces, like the real ones.
WHEELS = {
    TORCH: {
        "torch/unwanted.py": noise(400_000),
        "torch/include/ATen/ATen.h": b"// ATen\n",
        "torch/lib/libc10.so": noise(90_000),
        "torch/lib/libgomp.so.1": noise(1000),
        "torch/lib/libtorch.so": noise(1000),
        "torch/lib/libtorch_cpu.so": noise(200_000),
        "torch/lib/libtorch_cuda.so": noise(300_000),
        "torch/lib/libtorch_python.so": noise(300_000),
        "torch-1.0.dist-info/licenses/LICENSE": b"torch's licence\n",
        "torch-1.0.dist-info/licenses/third_party/fmt/LICENSE": b"fmt's licence\n",
    },
    "mujoco-3.0.0-cp311-cp311-manylinux_2_28_x86_64.whl": {
        "mujoco/libmujoco.so.3.0.0": noise(5000),
        "mujoco/include/mujoco/mujoco.h": b"// mujoco\n",
        "mujoco/include/mujoco/experimental/unwanted.h": b"",
        "mujoco-3.0.0.dist-info/licenses/LICENSE": b"mujoco's licence\n",
    },
    "gymnasium-1.0-py3-none-any.whl": {
        "gymnasium/envs/mujoco/assets/ant.xml": b"<mujoco model='ant'/>\n",
        "gymnasium/envs/mujoco/assets/hopper.xml": b"<mujoco model='hopper'/>\n",
        "gymnasium-1.0.dist-info/licenses/LICENSE": b"gymnasium's licence\n",
    },
    "nvidia_cuda_runtime-13.0-py3-none-manylinux2014_x86_64.whl": {
        "nvidia/cu13/lib/libcudart.so.13": noise(1000),
        "nvidia_cuda_runtime-13.0.dist-info/licenses/License.txt": b"licence\n",
    },
    "nvidia_cuda_cupti-13.0-py3-none-manylinux2014_x86_64.whl": {
        "nvidia/cu13/lib/libcupti.so.13": noise(1000),
        "nvidia_cuda_cupti-13.0.dist-info/licenses/License.txt": b"licence\n",
    },
    "nvidia_cublas-13.0-py3-none-manylinux2014_x86_64.whl": {
        "nvidia/cu13/lib/libcublas.so.13": noise(1000),
        "nvidia/cu13/include/unwanted.h": b"",
        "nvidia_cublas-13.0.dist-info/licenses/License.txt": b"licence\n",
    },
    "rust_just-1.0-py3-none-manylinux2014_x86_64.whl": {
        "rust_just-1.0.data/scripts/just": b"#!/bin/sh\necho just 1.0\n",
        "rust_just-1.0.dist-info/licenses/LICENSE": b"just's licence\n",
    },
}
# A fake pip: it knows the index's address and "downloads" from a folder.
PIP = """
import os, shutil, sys
if "config" in sys.argv:
    print(":env:.index-url=%r" % os.environ["PIP_INDEX_URL"])
if "download" in sys.argv:
    name, version = sys.argv[-1].split("==")
    target = sys.argv[sys.argv.index("--dest") + 1]
    os.makedirs(target)
    for file in os.listdir(os.environ["TEST_WHEELS"]):
        if file.startswith(name.replace("-", "_") + "-" + version):
            shutil.copy(os.path.join(os.environ["TEST_WHEELS"], file), target)
"""
SETS = {"torch": ["cpu", "cuda"], "nvidia-cublas": ["cuda"], "rust-just": ["tool"]}


def make_wheel(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in members.items():
            wheel.writestr(name, content)


class Index(http.server.BaseHTTPRequestHandler):
    """A package index with the faults of real ones."""

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers.get("Range")))
        name = self.path.rstrip("/").rsplit("/", 1)[-1]
        if self.path.startswith("/simple/"):
            files = [file for file in server.files if file.split("-")[0].replace("_", "-") == name]
            if server.html:
                kind, body = "text/html", "".join('<a href="../../files/%s#sha256=0">x</a>' % file for file in files).encode()
            else:
                kind, body = "application/vnd.pypi.simple.v1+json", json.dumps({"files": [{"filename": file, "url": "/files/" + file} for file in files]}).encode()
            self.answer(200, body, {"Content-Type": kind})
            return
        body = server.files[name]
        wanted = self.headers.get("Range")
        if wanted and not server.ignore_ranges:
            first, last = map(int, wanted[len("bytes=") :].split("-"))
            self.answer(206, body[first : last + 1], {"Content-Range": "bytes %d-%d/%d" % (first, last, len(body))})
        else:
            self.answer(200, body, {})

    def answer(self, status, body, headers):
        if self.server.refuse:
            status, body, headers = self.server.refuse, b"", {}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        limit = self.server.cut_after.pop(0) if self.path.startswith("/files/") and self.server.cut_after else None
        try:
            if self.server.slow and len(body) > 50_000:
                for start in range(0, len(body), 20_000):
                    self.wfile.write(body[start : start + 20_000])
                    time.sleep(0.05)
            else:
                self.wfile.write(body[:limit])
        except OSError:
            pass  # the client was killed by a test
        self.close_connection = True


class SetupTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.plain = tempfile.mkdtemp(prefix="smfp-test-")
        cls.addClassCleanup(shutil.rmtree, cls.plain)
        os.makedirs(os.path.join(cls.plain, "scripts"))
        os.makedirs(os.path.join(cls.plain, "models"))
        os.makedirs(os.path.join(cls.plain, "wheels"))
        shutil.copy(os.path.join(HERE, "setup.py"), os.path.join(cls.plain, "scripts"))
        os.makedirs(os.path.join(cls.plain, "stand-in", "pip"))
        for file, text in (("__init__.py", ""), ("__main__.py", PIP)):
            with open(os.path.join(cls.plain, "stand-in", "pip", file), "w") as module:
                module.write(text)
        cls.files, lines = {}, ["# a comment"]
        gap, setup.GAP, whole, setup.WHOLE = setup.GAP, 50_000, setup.WHOLE, 500_000
        for file, members in WHEELS.items():
            path = os.path.join(cls.plain, "wheels", file)
            make_wheel(path, members)
            with open(path, "rb") as wheel:
                cls.files[file] = wheel.read()
            name, version = file.split("-")[0].replace("_", "-"), file.split("-")[1]
            lines += setup.lock_lines(path, name, version, SETS.get(name, ["cpu"]))
        setup.GAP, setup.WHOLE = gap, whole
        cls.lock = "\n".join(lines) + "\n"
        with open(os.path.join(cls.plain, "scripts", "native.lock"), "w") as lock:
            lock.write(cls.lock)
        gymnasium = WHEELS["gymnasium-1.0-py3-none-any.whl"]
        with open(os.path.join(cls.plain, "models", "SHA256SUMS"), "w") as sums:
            for path, content in gymnasium.items():
                if path.endswith(".xml"):
                    sums.write("%s  %s\n" % (hashlib.sha256(content).hexdigest(), os.path.basename(path)))

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="smfp-test-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.root, self.cache = os.path.join(self.folder, "clone"), os.path.join(self.folder, "cache")
        shutil.copytree(self.plain, self.root, ignore=shutil.ignore_patterns("wheels", "stand-in"))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index)
        self.server.files, self.server.requests, self.server.cut_after = dict(self.files), [], []
        self.server.html = self.server.ignore_ranges = self.server.slow = False
        self.server.refuse = None
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)

    # ---------------------------------------------------------------- helpers

    def start(self, *options, **variables):
        environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower() and not name.startswith("PIP_")}
        environment.update(
            XDG_CACHE_HOME=self.cache,
            PIP_INDEX_URL="http://127.0.0.1:%d/simple" % self.server.server_address[1],
            PIP_CONFIG_FILE=os.devnull,
            PYTHONPATH=os.path.join(self.plain, "stand-in"),
            TEST_WHEELS=os.path.join(self.plain, "wheels"),
        )
        environment.update(variables)
        command = [sys.executable, os.path.join(self.root, "scripts", "setup.py")] + list(options)
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)

    def run_setup(self, *options, code=0, **variables):
        process = self.start(*options, **variables)
        output = process.communicate(timeout=120)[0]
        self.assertEqual(process.returncode, code, output)
        self.assertNotIn("Traceback", output)
        return output

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def bytes_of(self, *parts):
        with open(self.path(*parts), "rb") as file:
            return file.read()

    def piece(self, index=0):
        """A piece of the torch wheel, and its path in the cache."""
        piece = [setup.Piece(line) for line in self.lock.splitlines() if " torch " in line][index]
        return piece, piece.cached(os.path.join(self.cache, "smfp"))

    def downloads(self, file=TORCH):
        return [wanted for path, wanted in self.server.requests if path == "/files/" + file]

    def assert_in_place(self, cuda=False):
        torch = WHEELS[TORCH]
        for name in ["libc10.so", "libtorch_cpu.so", "libgomp.so.1"] + (["libtorch.so", "libtorch_cuda.so"] if cuda else []):
            self.assertEqual(self.bytes_of("third_party/libtorch/lib", name), torch["torch/lib/" + name])
        self.assertEqual(self.bytes_of("third_party/libtorch/include/ATen/ATen.h"), b"// ATen\n")
        self.assertEqual(self.bytes_of("third_party/libtorch/build-version"), b"1.0\n")
        if not cuda:
            self.assertEqual(self.bytes_of("third_party/libtorch/lib/libtorch.so"), b"INPUT(-ltorch_cpu)\n")
        self.assertFalse(os.path.exists(self.path("third_party/libtorch/lib/libtorch_python.so")))
        self.assertEqual(os.path.exists(self.path("third_party/libtorch/lib/libtorch_cuda.so")), cuda)
        self.assertEqual(os.path.exists(self.path("third_party/nvidia/cu13/lib/libcublas.so.13")), cuda)
        self.assertEqual(os.readlink(self.path("third_party/mujoco/lib/libmujoco.so")), "libmujoco.so.3.0.0")
        self.assertEqual(os.listdir(self.path("third_party/mujoco/include/mujoco")), ["mujoco.h"])
        self.assertEqual(self.bytes_of("third_party/licenses/torch/third_party/fmt/LICENSE"), b"fmt's licence\n")
        self.assertEqual(self.bytes_of("models/ant.xml"), b"<mujoco model='ant'/>\n")
        sums = setup.parse_sums(self.bytes_of("third_party/SHA256SUMS").decode())
        found = {
            os.path.relpath(os.path.join(folder, file), self.path("third_party"))
            for folder, _, files in os.walk(self.path("third_party"))
            for file in files
            if ".so" in file and not os.path.islink(os.path.join(folder, file))
        }
        self.assertEqual(set(sums), found - (set() if cuda else {"libtorch/lib/libtorch.so"}))
        for path, digest in sums.items():
            self.assertEqual(setup.sha256_of(self.path("third_party", path)), digest)
        for leftover in (".new", ".old"):
            self.assertFalse(os.path.exists(self.path("third_party", leftover)))
        self.assertEqual([name for name in os.listdir(os.path.join(self.cache, "smfp")) if name.endswith(".part")], [])

    # ---------------------------------------------------------------- tests

    def test_fresh_then_nothing_to_do(self):
        output = self.run_setup()
        self.assertIn("done:", output)
        self.assert_in_place()
        ranges = self.downloads()
        self.assertGreater(len(ranges), 1)
        fetched = sum(int(last) - int(first) + 1 for first, last in (wanted[6:].split("-") for wanted in ranges))
        self.assertLess(fetched, 0.5 * len(self.files[TORCH]))
        self.server.requests.clear()
        self.assertEqual(self.run_setup(), "")
        self.assertEqual(self.server.requests, [])

    def test_second_clone_uses_the_cache(self):
        self.run_setup()
        self.server.requests.clear()
        shutil.rmtree(self.path("third_party"))
        self.assertIn("0.0 MB fetched", self.run_setup())
        self.assertEqual(self.server.requests, [])
        self.assert_in_place()

    def test_the_index_of_the_real_pip(self):
        self.run_setup("--just", PYTHONPATH="")
        self.assertEqual(self.bytes_of("third_party/bin/just"), WHEELS["rust_just-1.0-py3-none-manylinux2014_x86_64.whl"]["rust_just-1.0.data/scripts/just"])

    def test_html_index(self):
        self.server.html = True
        self.run_setup()
        self.assert_in_place()
        self.assertTrue(all(self.downloads()))

    def test_server_without_ranges(self):
        self.server.ignore_ranges = True
        self.run_setup()
        self.assert_in_place()

    def test_interrupted_connection_resumes_where_it_stopped(self):
        piece, _ = self.piece()
        self.server.cut_after = [None, None, 10_000, 10_000]  # the two CUDA pieces come first
        self.run_setup()
        self.assert_in_place()
        self.assertEqual(self.downloads()[:3], ["bytes=%d-%d" % (piece.first + start, piece.last) for start in (0, 10_000, 20_000)])

    def test_partial_piece_is_completed(self):
        piece, path = self.piece()
        os.makedirs(os.path.dirname(path))
        with open(path + ".part", "wb") as part:
            part.write(self.files[TORCH][piece.first : piece.first + 12_345])
        self.run_setup()
        self.assertEqual(self.downloads()[0], "bytes=%d-%d" % (piece.first + 12_345, piece.last))
        self.assert_in_place()

    def test_damaged_partial_piece_is_fetched_again(self):
        piece, path = self.piece()
        for size in (12_345, piece.size + 5):
            shutil.rmtree(self.cache, ignore_errors=True)
            shutil.rmtree(self.path("third_party"), ignore_errors=True)
            os.makedirs(os.path.dirname(path))
            with open(path + ".part", "wb") as part:
                part.write(b"\0" * size)
            self.assertIn("fetched again", self.run_setup())
            self.assert_in_place()

    def test_damaged_cache_is_fetched_again(self):
        self.run_setup()
        _, path = self.piece()
        with open(path, "r+b") as file:
            file.write(b"spoilt")
        shutil.rmtree(self.path("third_party"))
        self.assertIn("damaged", self.run_setup())
        self.assert_in_place()

    def test_altered_download_is_refused_and_deleted(self):
        piece, path = self.piece()
        body = bytearray(self.files[TORCH])
        body[piece.first + 100] ^= 1
        self.server.files[TORCH] = bytes(body)
        output = self.run_setup(code=1)
        self.assertIn(piece.sha256, output.splitlines()[-1])
        self.assertFalse(os.path.exists(path) or os.path.exists(path + ".part"))
        self.assertFalse(os.path.exists(self.path("third_party/libtorch")))
        self.server.files[TORCH] = self.files[TORCH]
        self.run_setup()
        self.assert_in_place()

    def test_rejecting_index_falls_back_to_pip(self):
        self.server.refuse = 403
        output = self.run_setup()
        self.assertIn("asking pip", output)
        self.assert_in_place()
        self.assertFalse(os.path.exists(os.path.join(self.cache, "smfp", "pip")))

    def test_killed_at_any_moment(self):
        self.server.slow = True
        for moment in (0.2, 0.5, 0.8, 1.0, 1.2, 0.4, 0.3):
            process = self.start()
            time.sleep(moment)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        self.run_setup()
        self.assert_in_place()

    def test_killed_between_two_folders(self):
        self.run_setup()
        # The state after a kill between removing the old folder and renaming the new one.
        shutil.move(self.path("third_party/libtorch"), self.path("third_party/.old"))
        os.makedirs(self.path("third_party/.new/half"))
        self.run_setup()
        self.assert_in_place()
        self.assertEqual(self.run_setup(), "")

    def test_missing_library_is_restored(self):
        self.run_setup()
        os.remove(self.path("third_party/libtorch/lib/libc10.so"))
        self.run_setup()
        self.assert_in_place()

    def test_changed_lock_redoes_only_what_changed(self):
        self.run_setup()
        stamp, mujoco = os.path.getmtime(self.path("third_party/stamps/libtorch")), self.path("third_party/stamps/mujoco")
        before = os.path.getmtime(mujoco)
        with open(mujoco) as file:
            lines = file.read()
        with open(mujoco, "w") as file:
            file.write("cpu of-an-older-lock\n" + lines.split("\n", 1)[1])
        os.utime(mujoco, (before - 100, before - 100))
        self.run_setup()
        self.assertGreater(os.path.getmtime(mujoco), before - 100)
        self.assertEqual(os.path.getmtime(self.path("third_party/stamps/libtorch")), stamp)
        self.assert_in_place()

    def test_cuda_adds_to_cpu_and_stays(self):
        self.run_setup()
        self.server.requests.clear()
        self.run_setup("--cuda")
        self.assert_in_place(cuda=True)
        cpu = {"bytes=%d-%d" % (piece.first, piece.last) for piece in (self.piece(0)[0], self.piece(1)[0])}
        self.assertFalse(cpu.intersection(self.downloads()), "pieces of the CPU set-up are fetched again")
        self.assertEqual(self.run_setup(), "")
        self.assertEqual(self.run_setup("--cuda"), "")
        self.assert_in_place(cuda=True)

    def test_tool_alone(self):
        self.run_setup("--just")
        self.assertTrue(os.access(self.path("third_party/bin/just"), os.X_OK))
        self.assertFalse(os.path.exists(self.path("third_party/libtorch")))
        self.assertEqual(self.run_setup("--just"), "")

    def test_live_alone_fetches_with_npm_once_and_checks(self):
        """npm is a program that copies a package of ours; another content than the lock's is refused."""
        tarball, programs = os.path.join(self.folder, "mujoco-mujoco-1.0.tgz"), os.path.join(self.folder, "programs")
        contents = {name: noise(1000) for name in setup.NPM_FILES + ("mujoco.d.ts",)}

        def pack():
            with tarfile.open(tarball, "w:gz") as tar:
                for name, content in contents.items():
                    info = tarfile.TarInfo("package/" + name)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))

        pack()
        os.makedirs(programs)
        count = os.path.join(self.folder, "count")
        with open(os.path.join(programs, "npm"), "w") as npm:
            npm.write("#!/bin/sh\necho $3 >> %s\ncp %s .\n" % (count, tarball))
        os.chmod(npm.name, 0o755)
        with open(self.path("scripts/native.lock"), "a") as lock:
            lock.write("live @mujoco/mujoco 1.0 %s 0-%d mujoco-mujoco-1.0.tgz\n" % (setup.sha256_of(tarball), os.path.getsize(tarball) - 1))
        path = programs + ":" + os.environ["PATH"]
        self.run_setup("--live", PATH=path)
        for name in setup.NPM_FILES:
            with open(self.path("third_party/mujoco-wasm/" + name), "rb") as file:
                self.assertEqual(file.read(), contents[name])
        self.assertFalse(os.path.exists(self.path("third_party/libtorch")))
        self.assertEqual(self.run_setup("--live", PATH=path), "")
        with open(count) as calls:
            self.assertEqual(calls.read(), "@mujoco/mujoco@1.0\n")

        shutil.rmtree(self.path("third_party/mujoco-wasm"))
        shutil.rmtree(self.cache)
        contents["mujoco.js"] = noise(1000)
        pack()
        output = self.run_setup("--live", code=1, PATH=path)
        self.assertIn("doesn't match SHA-256", output)
        self.assertFalse(os.path.exists(self.path("third_party/mujoco-wasm")))
        output = self.run_setup("--live", code=1, PATH="/nowhere")
        self.assertIn("npm, which is not installed", output.splitlines()[-1])

    def test_changed_model_is_never_overwritten(self):
        self.run_setup()
        with open(self.path("models/ant.xml"), "w") as file:
            file.write("mine")
        output = self.run_setup(code=1)
        self.assertEqual(output.count("\n"), 1)
        self.assertIn("models/ant.xml", output)
        self.assertEqual(self.bytes_of("models/ant.xml"), b"mine")
        os.remove(self.path("models/ant.xml"))
        self.run_setup()
        self.assert_in_place()

    def test_model_of_an_older_lock_is_replaced(self):
        self.run_setup()
        old = b"<mujoco model='old ant'/>\n"
        with open(self.path("models/ant.xml"), "wb") as file:
            file.write(old)
        stamp = self.path("third_party/stamps/models")
        sums = setup.parse_sums(self.bytes_of("third_party/stamps/models").decode())
        sums["ant.xml"] = hashlib.sha256(old).hexdigest()
        with open(stamp, "w") as file:
            file.write("cpu of-an-older-lock\n" + setup.format_sums(sums))
        self.run_setup()
        self.assert_in_place()

    def test_two_at_once(self):
        self.server.slow = True
        both = [self.start(), self.start()]
        for process in both:
            output = process.communicate(timeout=120)[0]
            self.assertEqual(process.returncode, 0, output)
        self.assert_in_place()
        self.assertEqual(len(self.downloads()), len(set(self.downloads())), "a piece was fetched twice")

    def test_errors_are_one_clear_line(self):
        blocked = os.path.join(self.folder, "file")
        open(blocked, "w").close()
        output = self.run_setup(code=1, XDG_CACHE_HOME=blocked)
        self.assertEqual(output.count("\n"), 1)
        self.assertIn("XDG_CACHE_HOME", output)
        with open(self.path("scripts/native.lock"), "a") as lock:
            lock.write("cpu torch 1.0\n")
        output = self.run_setup(code=1)
        self.assertEqual(output.count("\n"), 1)
        self.assertIn("native.lock, line", output)

    def test_wheel_from_pieces(self):
        """An assembled wheel is sparse between its pieces."""
        self.run_setup()
        pieces = sorted((piece for piece in (self.piece(0)[0], self.piece(1)[0])), key=lambda piece: piece.first)
        with setup.open_wheel(pieces, os.path.join(self.cache, "smfp")) as wheel:
            self.assertEqual(wheel.read("torch/lib/libc10.so"), WHEELS[TORCH]["torch/lib/libc10.so"])
            with self.assertRaises(zipfile.BadZipFile):
                wheel.read("torch/unwanted.py")

    def test_the_committed_lock(self):
        """Each wheel of the table is named by a `#:` line, with all its sets, and is covered to its end."""
        pieces, named = setup.read_lock(), {}
        for line in setup.read_text(setup.LOCK).splitlines():
            if line.startswith("#:"):
                name, version, *sets = line[2:].split()
                named[name] = (version, set(sets))
        self.assertEqual({(piece.name, piece.version) for piece in pieces}, {(name, version) for name, (version, _) in named.items()})
        for name, (_, sets) in named.items():
            self.assertEqual({piece.set for piece in pieces if piece.name == name}, sets)
        self.assertLess(sum(piece.size for piece in pieces if piece.set == "cpu"), 150e6)


if __name__ == "__main__":
    unittest.main()
