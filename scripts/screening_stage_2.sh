#!/usr/bin/env bash
# Prints the manifest of the screening's second stage: the levers that led in the first, together and in
# smaller combinations, on four tasks, with both kinds of critics; CrossQ with the same critic beside them,
# also with SMFP's first alpha and two updates per step, so that those are not taken for the policy's.
#
#     scripts/screening_stage_2.sh > results/screening/stage-2.jsonl
#     cargo run -p runner -- sweep results/screening/stage-2.jsonl
#     scripts/screening.py results/screening/stage-2                           # crossq is 1
#     scripts/screening.py results/screening/stage-2 --reference crossq-xqc
#
# Some levers lost and are gone, and `soft` became `default`: RUNNER must be a `runner` of commit 728796b.
#
# Seeds 20 and 21 are for choosing only; reported runs have others.
set -euo pipefail
cd "$(dirname "$0")/.."
runner=${RUNNER:-target/debug/runner}

for seed in 20 21; do
    for critic in crossq xqc; do
        # alpha is in units of Q. "xqc" clips its targets to a range of 5 return scales: alpha starts low.
        case $critic in
            crossq) alpha=0.2 prefix='' kind=() first=() ;;
            xqc) alpha=0.1 prefix=-xqc kind=(critic.kind=xqc critic.tau=1) first=(temperature.alpha=0.1) ;;
        esac
        plan() {
            local algo=$1 preset=$2 name=$3
            shift 3
            name=$prefix$name
            "$runner" plan --algos "$algo" --preset "$preset" --seeds "$seed" --steps 60000 --threads 1 \
                --envs Hopper-v4,Walker2d-v4,HalfCheetah-v4,Ant-v4 ${name:+--name "${name#-}"} \
                --out results/screening/stage-2 --set train.eval_interval=5000 \
                --set 'train.eval_modes=["deterministic"]' "${kind[@]/#/--set=}" "${@/#/--set=}"
        }
        crossq() { plan crossq default "$@"; }
        soft() { plan smfp soft "$@" entropy.alpha=$alpha; }
        crossq "" "${first[@]}"
        crossq -twice temperature.alpha=$alpha train.updates_per_step=2
        soft -alpha
        soft -twice train.updates_per_step=2
        soft -spread entropy.estimate=semi-implicit entropy.target_latents=4
        soft -both train.updates_per_step=2 entropy.estimate=semi-implicit entropy.target_latents=4
    done
done
