#!/usr/bin/env python3
"""Copies a CUDA library without the device code of other GPU architectures.

    scripts/prune_cuda.py third_party/libtorch/lib/libtorch_cuda.so pruned.so --arch 90

The code of the other architectures becomes zeros in place, so every offset in the file holds and the
copy shrinks when it is compressed. A GPU of another architecture than those kept finds no code in it
("no kernel image is available").

A CUDA library has its device code in containers ("fat binaries"). Their layout is not documented by
NVIDIA; it is known from readers such as cuda-fatbin-decompression and is checked here:

    container   u32 magic, u16 version = 1, u16 bytes of this header = 16, u64 bytes that follow
    entry       u16 kind (1: PTX, 2: machine code), u16, u32 bytes of this header, u64 bytes of code,
                ..., u32 architecture (90 for sm_90) at byte 28

Standard library only. Exit code 2 if the library has no code of an architecture.
"""

import argparse
import collections
import mmap
import shutil
import struct
import sys

MAGIC = struct.pack("<I", 0xBA55ED50)


def entries(data):
    """Architecture, first byte and size of each piece of device code."""
    at = 0
    while (at := data.find(MAGIC, at)) >= 0:
        version, header, size = struct.unpack_from("<HHQ", data, at + 4)
        if (version, header) != (1, 16):  # these four bytes by chance
            at += 4
            continue
        entry, at = at + header, at + header + size
        while entry < at:
            kind, _, header, size = struct.unpack_from("<HHIQ", data, entry)
            if kind not in (1, 2) or not 64 <= header <= 4096 or entry + header + size > at:
                raise ValueError(f"byte {entry} is no entry of a fat binary as known to this program")
            (arch,) = struct.unpack_from("<I", data, entry + 28)
            yield arch, entry + header, size
            entry += header + size


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library")
    parser.add_argument("out")
    parser.add_argument("--arch", required=True, help="architectures to keep, such as 90 or 80,90")
    args = parser.parse_args()
    keep = {int(arch) for arch in args.arch.split(",")}
    shutil.copyfile(args.library, args.out)
    sizes = collections.Counter()
    with open(args.out, "r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        for arch, first, size in list(entries(data)):
            sizes[arch] += size
            if arch not in keep:
                data[first : first + size] = bytes(size)
    if missing := keep - set(sizes):
        found = ", ".join(map(str, sorted(sizes))) or "none that this program knows"
        print(f"error: {args.library} has no code for {missing}; it has {found}", file=sys.stderr)
        sys.exit(2)
    kept = sum(size for arch, size in sizes.items() if arch in keep)
    print(f"{args.out}: kept {kept / 1e6:.0f} of {sum(sizes.values()) / 1e6:.0f} MB of device code")


if __name__ == "__main__":
    main()
