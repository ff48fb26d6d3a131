#!/usr/bin/env bash
# Prints the manifest of the screening's third stage: preset `default`, the affordable form of what led in the
# second stage (one extra latent, which the actions of a state share; an eighth of the batch in the mirror term),
# with critics of kind "xqc", and with none and three extra latents; the same tasks, seeds and steps. CrossQ has the
# same bytes as in the second stage, so its runs are those.
#
#     scripts/screening_stage_3.sh > results/screening/stage-3.jsonl
#     cargo run -p runner -- sweep results/screening/stage-3.jsonl
#     scripts/screening.py results/screening/stage-[23]
#
# Seeds 20 and 21 are for choosing only; reported runs have others.
set -euo pipefail
cd "$(dirname "$0")/.."
runner=${RUNNER:-target/debug/runner}

plan() {
    "$runner" plan --steps 60000 --threads 1 --envs Hopper-v4,Walker2d-v4,HalfCheetah-v4,Ant-v4 --seeds "$seed" \
        --out results/screening/stage-3 --set train.eval_interval=5000 \
        --set 'train.eval_modes=["deterministic"]' "$@"
}
for seed in 20 21; do
    plan --algos smfp
    plan --algos smfp --name xqc --set critic.kind=xqc --set critic.tau=1 --set entropy.alpha=0.1
    plan --algos smfp --name conditional --set entropy.latents=0
    plan --algos smfp --name latents-3 --set entropy.latents=3
done
