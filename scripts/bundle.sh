#!/usr/bin/env bash
# Packs the compiled runner with its libraries and the models, for a Linux machine (x86-64) that has
# no network, no Rust and no LibTorch: a compute node, a lent machine, a container.
#
#     scripts/bundle.sh [--out bundle] [--piece-mib 60] [--program target/debug/runner]
#
# writes OUT/smfp.tar.xz.00, .01, ..., none larger than a piece, and OUT/unpack.sh. Copy them to the
# other machine, in any order and number of transfers, then
#
#     sh unpack.sh ~/smfp && ~/smfp/runner doctor
#
# which checks the pieces' SHA-256 first. It needs xz and tar, and glibc as new as this machine's.
# The folder has the layout of a clone, so the program finds its libraries and models as it does here
# and may be moved as a whole.
set -euo pipefail
out=bundle piece=60 program=target/debug/runner
fail() {
    echo "error: $1" >&2
    exit 2
}
while [ $# -gt 0 ]; do
    case $1 in
        --out | --piece-mib | --program)
            [ $# -ge 2 ] || fail "$1 needs a value"
            case $1 in
                --out) out=$2 ;;
                --program) program=$2 ;;
                *) piece=$2 ;;
            esac
            shift 2
            ;;
        -h | --help)
            sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
            exit 0
            ;;
        *) fail "unknown argument $1; --help lists them" ;;
    esac
done
[[ $piece =~ ^[1-9][0-9]*$ ]] || fail "--piece-mib is $piece, expected a positive whole number"
[ -x "$program" ] || fail "$program is missing; build it with \`cargo build -p runner\`"
program=$(realpath "$program") out=$(realpath -m "$out")
cd "$(dirname "$0")/.."
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
cp -R third_party/nvidia third_party/licenses third_party/SHA256SUMS models LICENSE-APACHE LICENSE-MIT THIRD_PARTY_LICENSES.md "$stage/" 2> /dev/null ||
    fail "set-up is not complete: run scripts/just setup"
mv "$stage/nvidia" "$stage/licenses" "$stage/SHA256SUMS" "$stage/third_party/"

tar -C "$stage" --owner=0 --group=0 --sort=name -c . | xz -T0 |
    split -b "${piece}MiB" -d -a 2 - "$out/smfp.tar.xz."
cat > "$out/unpack.sh" << 'END'
#!/bin/sh
# Unpacks the pieces beside this script: sh unpack.sh FOLDER
set -eu
if [ $# -ne 1 ] || { [ -e "$1" ] && [ -n "$(ls -A "$1")" ]; }; then
    echo "usage: sh unpack.sh FOLDER, where FOLDER is new or empty" >&2
    exit 2
fi
mkdir -p "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")"
sed -n 's/^#sha256 //p' unpack.sh | sha256sum -c --quiet || {
    echo "error: the pieces above are missing or damaged; copy them again" >&2
    exit 1
}
cat smfp.tar.xz.?? | xz -d | tar -x -C "$folder"
END
(cd "$out" && sha256sum smfp.tar.xz.?? | sed 's/^/#sha256 /' >> unpack.sh)
chmod +x "$out/unpack.sh"
du -h "$out"/*
