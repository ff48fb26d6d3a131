#!/usr/bin/env bash
# Prints the manifest of one part of the campaign: the runs that are reported.
#
#     scripts/campaign.sh a > results/campaign/a.jsonl
#     cargo run -p runner -- sweep results/campaign/a.jsonl
#     cargo run -p runner -- report results/campaign
#
# All runs of a part are of one commit, which results/campaign/README.md names: RUNNER is to be a `runner` of it,
# because a manifest has every key of its version. The alpha of SAC Flow and the learning rate of DIME's actor are
# set because in b6904f3 their presets did not yet have the published ones.
#
#   a       smfp and crossq on the seven tasks, seeds 0 to 2, 100,000 steps
#   b       those of seeds 0 and 1, carried on to 300,000 steps
#   c       the other algorithms on the seven tasks, seeds 0 and 1; the slow ones on three tasks, seed 1
#   d       smfp and crossq on HalfCheetah and Walker2d, seed 0, carried on to 1,000,000 steps
#   e       parts of smfp taken away or replaced, on three tasks, seeds 0 to 2, 100,000 steps
#   rivals  the flow and diffusion policies that smfp is compared with, on three tasks, 50,000 steps
#   flowrl  FlowRL's runs among the rivals, of a later commit
#   suite   smfp on three tasks of dm_control, seed 0, 100,000 steps
#   bf16    smfp and crossq with products in f32 and bf16, seeds 40 and 41, 50,000 steps
set -euo pipefail
cd "$(dirname "$0")/.."
runner=${RUNNER:-target/debug/runner}
seven=Hopper-v4,Walker2d-v4,HalfCheetah-v4,Ant-v4,Humanoid-v4,HumanoidStandup-v4,Swimmer-v4
three=Hopper-v4,Walker2d-v4,HalfCheetah-v4
# Mode `mean` leaves out all noise, as SMFP's `deterministic` does, while the rivals' draws x_0.
modes='train.eval_modes=["deterministic","stochastic","best-of-8","mean"]'
suite=models/dm_control/cheetah-run.toml,models/dm_control/walker-walk.toml,models/dm_control/cartpole-swingup.toml

plan() {
    local out=$1 steps=$2
    shift 2
    "$runner" plan --steps "$steps" --threads 1 --out "results/campaign/$out" "$@"
}
# Runs that other parts carry on keep their replay.
long() { plan a "$1" --set train.keep_replay=true "${@:2}"; }
ablation() {
    local name=$1 seeds=$2
    shift 2
    plan e 100000 --envs $three --seeds "$seeds" --name "$name" "${@/#/--set=}"
}

case ${1:?which part, such as a?} in
    a) for seed in 0 1 2; do long 100000 --algos smfp,crossq --envs $seven --seeds $seed; done ;;
    b) for seed in 0 1; do long 300000 --algos smfp,crossq --envs $seven --seeds $seed; done ;;
    c)
        plan c 100000 --algos sac,td3,meanflow --envs $seven --seeds 0-1
        plan c 100000 --algos sac-flow-g --envs $seven --seeds 0-1 --set temperature.alpha=0.2
        plan c 100000 --algos mdpo --envs $seven --seeds 0-1 --set mirror.batch_share=0.125
        # DPMD's preset was changed after runs with seed 0.
        plan c 100000 --algos qvpo,dpmd --envs $three --seeds 1
        plan c 100000 --algos dime --envs $three --seeds 1 --set actor.learning_rate=3e-4
        ;;
    d) for algo in smfp crossq; do long 1000000 --algos $algo --envs HalfCheetah-v4,Walker2d-v4 --seeds 0; done ;;
    e)
        for seed in 0 1 2; do
            ablation no-mirror $seed objective.lambda=0
            ablation no-entropy $seed entropy.mode=none entropy.latents=0
            ablation conditional $seed entropy.latents=0
            # A Gaussian policy: with SMFP's objective, and with SAC's (preset control: SMFP's critics, network and
            # optimisers).
            plan e 100000 --algos mdpo --envs $three --seeds $seed --set mirror.batch_share=0.125
            plan e 100000 --algos sac --preset control --name control --envs $three --seeds $seed
        done
        ablation latents-3 0-2 entropy.latents=3
        ;;
    rivals)
        for seed in 0 1 2; do
            plan rivals 50000 --algos sac-flow-g,sac-flow-t --envs $three --seeds $seed --set "$modes" --set temperature.alpha=0.2
            plan rivals 50000 --algos dime --envs $three --seeds $seed --set "$modes" --set actor.learning_rate=3e-4
        done
        ;;
    flowrl) plan rivals 50000 --algos flowrl --envs $three --seeds 0-2 --set "$modes" ;;
    suite) plan suite 100000 --algos smfp --envs $suite --seeds 0 ;;
    bf16) plan bf16 50000 --algos smfp,crossq --envs $three --seeds 40-41 --grid train.precision=f32,bf16 ;;
    *)
        echo "error: no part '$1'; there are a, b, c, d, e, rivals, flowrl, suite and bf16" >&2
        exit 2
        ;;
esac
