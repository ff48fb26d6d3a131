#!/usr/bin/env bash
# Prints the manifest of the screening's first stage: each lever alone against the base (preset
# `soft`), today's default, and CrossQ with and without normalised observations.
#
#     scripts/screening_stage_1.sh > results/screening/stage-1.jsonl
#     cargo run -p runner -- sweep results/screening/stage-1.jsonl
#     scripts/screening.py results/screening/stage-1
#
# Some levers lost and are gone: RUNNER must be a `runner` of commit 8cb80b8.
#
# Seeds 10 and 11 are for choosing only; reported runs have others.
set -euo pipefail
cd "$(dirname "$0")/.."
runner=${RUNNER:-target/debug/runner}

for seed in 10 11; do
    plan() {
        "$runner" plan --envs Hopper-v4,Walker2d-v4,HalfCheetah-v4 --seeds "$seed" --steps 30000 \
            --threads 1 --out results/screening/stage-1 --set train.eval_interval=2500 \
            --set 'train.eval_modes=["deterministic"]' "$@"
    }
    soft() {
        local name=$1
        shift
        plan --preset soft --name "$name" "${@/#/--set=}"
    }
    plan --algos crossq
    plan --preset soft --name soft
    plan --preset default
    plan --algos crossq --name normalise --set actor.normalise=true
    soft no-mirror objective.lambda=0
    soft value-std objective.q_scale=value_std
    soft balanced mirror.weight=balanced objective.lambda=0.2
    soft raw actor.normalise=false
    soft alpha-0.2 entropy.alpha=0.2
    soft budget mirror.weight=budget
    soft lambda-1 objective.lambda=1
    soft semi-implicit entropy.estimate=semi-implicit entropy.target_latents=4
    soft latent-1 policy.latent_std=1
    soft hold policy.hold=16
    soft body actor.depth=3 actor.activation=mish actor.beta1=0.9
    soft clip policy.squash=clip
    soft broad mirror.actions=broad entropy.estimate=semi-implicit entropy.target_latents=4
    soft updates-2 train.updates_per_step=2
    soft candidates candidates.act=4 candidates.target=2
    soft drawn policy.eval_latent=drawn
done
