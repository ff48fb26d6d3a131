#!/usr/bin/env bash
# A bundle is unpacked elsewhere, finds everything it needs there, and trains; a damaged piece is
# refused before anything is written.
#
#     scripts/test_bundle.sh [RUNNER]
set -euo pipefail
[ $# -eq 0 ] || runner=$(realpath "$1")
cd "$(dirname "$0")/.."
runner=${runner:-$PWD/target/debug/runner}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
arch=() nvidia=()
if [ -e third_party/libtorch/lib/libtorch_cuda.so ]; then
    arch=(--cuda-arch 90) nvidia=("$PWD/third_party/nvidia")
fi
# Fast rather than small.
XZ_OPT=-0 scripts/bundle.sh "${arch[@]}" --program "$runner" --out "$work/bundle" --piece-mib 40 > /dev/null
[ "$(find "$work/bundle" -size +40M | wc -l)" = 0 ] || { echo "FAILED: a piece is too large"; exit 1; }

mkdir "$work/other"
(
    cd "$work/other"
    sh ../bundle/unpack.sh smfp "${nvidia[@]}"
    alone="env -i HOME=$work PATH=/usr/bin:/bin"
    $alone smfp/runner doctor > doctor.txt || [ -n "${nvidia[*]}" ] # no GPU here, perhaps
    if ! grep -q "libtorch: .* from $PWD/smfp/third_party" doctor.txt; then
        echo "FAILED: the bundle uses other libraries"
        cat doctor.txt
        exit 1
    fi
    $alone smfp/runner --env Hopper-v4 --seed 0 --steps 1200 --threads 1 --set train.warmup_steps=1000 \
        --set train.eval_interval=1200 --set train.eval_episodes=1 --out runs > /dev/null 2>&1
    [ -s runs/smfp/Hopper-v4/seed-0/eval.csv ]
)

printf x | dd of="$work/bundle/smfp.tar.xz.01" bs=1 seek=1000 conv=notrunc status=none
if sh "$work/bundle/unpack.sh" "$work/damaged" "${nvidia[@]}" > "$work/error" 2>&1; then
    echo "FAILED: a damaged piece was unpacked"
    exit 1
fi
if ! grep -q "smfp.tar.xz.01" "$work/error" || [ -n "$(ls -A "$work/damaged")" ]; then
    echo "FAILED: a damaged piece is not named, or something was unpacked"
    cat "$work/error"
    exit 1
fi
echo "a bundle is unpacked elsewhere and trains, a damaged piece is refused"
