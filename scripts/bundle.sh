#!/usr/bin/env bash
# Packs the compiled runner with its libraries and the models, for a Linux machine (x86-64) that has
# no network, no Rust and no LibTorch: a compute node, a lent machine, a container.
#
#     scripts/bundle.sh [--out bundle] [--piece-mib 60] [--program target/debug/runner] [--cuda-arch 90] [--tests]
#
# writes OUT/smfp.tar.xz.00, .01, ..., none larger than a piece, and OUT/unpack.sh. Copy them to the
# other machine, in any order and number of transfers, then
#
#     sh unpack.sh ~/smfp && ~/smfp/runner doctor
#
# which checks the pieces' SHA-256 first. It needs xz and tar, and glibc as new as this machine's.
# The folder has the layout of a clone, so the program finds its libraries and models as it does here
# and may be moved as a whole.
#
# --cuda-arch packs the CUDA build, after `scripts/just setup-cuda` and a rebuild, with LibTorch's code
# for the GPU architectures named (90: H100 and H200; 80: A100; 86: RTX 30). NVIDIA's own libraries
# (cuBLAS, cuDNN and so on, 2 GB) stay behind: the other machine has them with any PyTorch for the same
# CUDA, in .../site-packages/nvidia, which unpack.sh asks its python3 for or takes as second argument.
#
# --tests adds what scripts/gpu_proof.py needs: itself, the tests of recorded updates, and the CPU's curves.
set -euo pipefail
out=bundle piece=60 program= archs= tests=
fail() {
    echo "error: $1" >&2
    exit 2
}
while [ $# -gt 0 ]; do
    case $1 in
        --out | --piece-mib | --program | --cuda-arch)
            [ $# -ge 2 ] || fail "$1 needs a value"
            case $1 in
                --out) out=$2 ;;
                --program) program=$2 ;;
                --cuda-arch) archs=$2 ;;
                *) piece=$2 ;;
            esac
            shift 2
            ;;
        --tests)
            tests=1
            shift
            ;;
        -h | --help)
            sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
            exit 0
            ;;
        *) fail "unknown argument $1; --help lists them" ;;
    esac
done
[[ $piece =~ ^[1-9][0-9]*$ ]] || fail "--piece-mib is $piece, expected a positive whole number"
out=$(realpath -m "$out")
[ -z "$program" ] || program=$(realpath -m "$program")
cd "$(dirname "$0")/.."
program=${program:-$PWD/target/debug/runner}
[ -x "$program" ] || fail "$program is missing; build it with \`cargo build -p runner\`"
[ -e third_party/libtorch/lib/libtorch_cpu.so ] || fail "set-up is not complete: run scripts/just setup"
[ -z "$(ls -A "$out" 2> /dev/null)" ] || fail "$out is not empty; choose another folder"

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
chmod 755 "$stage"
mkdir -p "$out" "$stage/target/bundle" "$stage/third_party/libtorch" "$stage/third_party/mujoco"
# Debug information is three quarters of the program.
strip --strip-debug -o "$stage/target/bundle/runner" "$program"
ln -s target/bundle/runner "$stage/runner"
cp -R third_party/libtorch/{lib,build-version} "$stage/third_party/libtorch/"
cp -R third_party/mujoco/lib "$stage/third_party/mujoco/"
cp -R third_party/nvidia/cu13/lib/libcu{dart,pti}.so.13 "$stage/third_party/"
cp -R third_party/{licenses,SHA256SUMS} "$stage/third_party/"
cp -R models LICENSE-APACHE LICENSE-MIT THIRD_PARTY_LICENSES.md "$stage/"
lib=$stage/third_party/libtorch/lib
if [ -n "$archs" ]; then
    [ -e "$lib/libtorch_cuda.so" ] || fail "the CUDA build is not set up: run scripts/just setup-cuda and cargo build -p runner"
    python3 scripts/prune_cuda.py third_party/libtorch/lib/libtorch_cuda.so "$lib/libtorch_cuda.so" --arch "$archs"
    # Solvers of linear systems, loaded when first used, which is never here.
    rm "$lib/libtorch_cuda_linalg.so" "$stage/third_party/"libcu{dart,pti}.so.13
    # The pinned checksums hold for whole libraries.
    (cd "$stage/third_party" && sha256sum libtorch/lib/* mujoco/lib/*.so.* > SHA256SUMS)
else
    [ ! -e "$lib/libtorch_cuda.so" ] || fail "this is the CUDA build: name the GPU architectures to pack, such as --cuda-arch 90"
    mkdir -p "$stage/third_party/nvidia/cu13/lib"
    mv "$stage/third_party/"libcu{dart,pti}.so.13 "$stage/third_party/nvidia/cu13/lib/"
fi

if [ -n "$tests" ]; then
    mkdir -p "$stage/scripts/peers"
    cp scripts/gpu_proof.py "$stage/scripts/"
    cp scripts/peers/update_sac.py "$stage/scripts/peers/"
    programs=$(python3 scripts/gpu_proof.py --list-tests)
    while read -r crate test; do
        strip --strip-debug -o "$stage/target/bundle/recorded-$crate" "$test"
        mkdir -p "$stage/crates/$crate/tests"
        cp -R "crates/$crate/tests/fixtures" "$stage/crates/$crate/tests/"
    done <<< "$programs"
    cp --parents results/campaign/a/{smfp,crossq}/{HalfCheetah,Hopper}-v4/seed-*/eval.csv "$stage/"
fi

tar -C "$stage" --owner=0 --group=0 --sort=name -c . | xz -T0 |
    split -b "${piece}MiB" -d -a 2 - "$out/smfp.tar.xz."
cat > "$out/unpack.sh" << 'END'
#!/bin/sh
# Unpacks the pieces beside this script: sh unpack.sh FOLDER [NVIDIA]
set -eu
if [ $# -lt 1 ] || { [ -e "$1" ] && [ -n "$(ls -A "$1")" ]; }; then
    echo "usage: sh unpack.sh FOLDER [NVIDIA], where FOLDER is new or empty" >&2
    exit 2
fi
cuda= # set to 1 in a bundle of the CUDA build
if [ -n "$cuda" ]; then
    nvidia=${2-$(python3 -c 'import nvidia; print(next(iter(nvidia.__path__)))' 2>/dev/null)} && [ -e "$nvidia/cu13/lib/libcudart.so.13" ] || {
        echo "error: no libraries of CUDA 13 in '${nvidia-}'; name the folder site-packages/nvidia of a PyTorch for CUDA 13 as second argument" >&2
        exit 2
    }
    nvidia=$(cd "$nvidia" && pwd)
fi
mkdir -p "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")"
sed -n 's/^#sha256 //p' unpack.sh | sha256sum -c --quiet || {
    echo "error: the pieces above are missing or damaged; copy them again" >&2
    exit 1
}
cat smfp.tar.xz.?? | xz -d | tar -x -C "$folder"
[ -z "$cuda" ] || ln -s "$nvidia" "$folder/third_party/nvidia"
END
[ -z "$archs" ] || sed -i 's/^cuda=/&1/' "$out/unpack.sh"
(cd "$out" && sha256sum smfp.tar.xz.?? | sed 's/^/#sha256 /' >> unpack.sh)
chmod +x "$out/unpack.sh"
du -h "$out"/*
