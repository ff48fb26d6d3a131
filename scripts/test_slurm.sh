#!/usr/bin/env bash
# Runs a short sweep under a real single-node Slurm on this machine. For a container, as root:
# it installs Debian's slurm-wlm, starts munged, slurmctld and slurmd with a configuration
# in a temporary folder, and stops them afterwards. Takes five to ten minutes: Slurm may signal a
# time limit up to a minute early, so the runs may be stopped more than twice.
#
# Two runs, one array task each, on one processor. The first is stopped by its time limit, one
# of them by a job of a preempting partition; both are requeued and must finish normally.
set -euo pipefail
cd "$(dirname "$0")/.."
runner=$PWD/target/debug/runner

if [ "$(id -u)" != 0 ]; then
    echo "test_slurm: not root; run it as root in a container" >&2
    exit 2
fi
if [ ! -x "$runner" ]; then
    echo "test_slurm: $runner is missing; run \`scripts/just build\` first" >&2
    exit 2
fi
for program in slurmctld slurmd munged sbatch; do
    command -v "$program" > /dev/null || missing=$program
done
if [ -n "${missing-}" ]; then
    apt-get update -q > /dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q slurm-wlm munge > /dev/null
fi

place=$(mktemp -d)
# munged requires a folder that no other user can write to, including its parents.
munge=/run/munge-test-$$
services=()
finish() {
    code=$?
    # First the jobs, which the services must end; then the services, which wait for jobs.
    export SLURM_CONF=$place/slurm.conf
    if [ -n "${job:-}" ]; then
        scancel "$job" 2>/dev/null || true
        sleep 2
        scancel --full --signal=KILL "$job" 2>/dev/null || true
        for ((i = 0; i < 30; i++)); do
            if [ -z "$(squeue --noheader --states=all --format=%t 2>/dev/null | grep -v '^CA\|^CD\|^F')" ]; then break; fi
            sleep 1
        done
    fi
    for service in "${services[@]}"; do kill "$service" 2>/dev/null || true; done
    for ((i = 0; i < 50; i++)); do
        if ! kill -0 "${services[@]}" 2>/dev/null; then break; fi
        sleep 0.1
    done
    for service in "${services[@]}"; do kill -KILL "$service" 2>/dev/null || true; done
    rm -rf "$munge"
    if [ "$code" = 0 ]; then rm -rf "$place"; else echo "test_slurm: failed; logs are in $place" >&2; fi
}
trap finish EXIT
trap 'exit 1' INT TERM
fail() { echo "test_slurm: $*" >&2; exit 1; }
# Waits at most some seconds for a command to succeed.
within() {
    local seconds=$1 what=$2
    shift 2
    for ((i = 0; i < seconds; i++)); do
        if "$@" > /dev/null 2>&1; then
            echo "after $SECONDS seconds: $what" >&2
            return
        fi
        sleep 1
    done
    fail "not within $seconds seconds: $what"
}

host=$(hostname -s)
mkdir "$place/state" "$place/spool" "$place/munge" "$place/work"
install -d -m 755 "$munge"
head -c 1024 /dev/urandom > "$place/munge/key"
chmod 600 "$place/munge/key"
cat > "$place/slurm.conf" <<EOF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$munge/socket,cred_expire=10
StateSaveLocation=$place/state
SlurmdSpoolDir=$place/spool
SlurmctldPidFile=$place/slurmctld.pid
SlurmdPidFile=$place/slurmd.pid
SlurmctldPort=16817
SlurmdPort=16818
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=5,bf_interval=5,batch_sched_delay=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=30
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=1 RealMemory=1000
PartitionName=low Nodes=$host Default=YES PriorityTier=1 GraceTime=60
PartitionName=high Nodes=$host PriorityTier=10 PreemptMode=OFF
EOF
export SLURM_CONF=$place/slurm.conf
munged --foreground --force --key-file="$place/munge/key" --socket="$munge/socket" \
    --pid-file="$munge/pid" --seed-file="$place/munge/seed" > "$place/munge.log" 2>&1 &
services+=($!)
within 10 "munge has a socket" test -S "$munge/socket"
slurmctld -D > "$place/slurmctld.log" 2>&1 &
services+=($!)
slurmd -D > "$place/slurmd.log" 2>&1 &
services+=($!)
idle() { sinfo --noheader --partition=low --format=%T | grep -q '^idle'; }
within 60 "the node is idle" idle

cd "$place/work"
"$runner" plan --algos sac --envs InvertedPendulum-v4 --seeds 0-1 --steps "${STEPS:-100000}" --threads 1 \
    --set critic.width=32 --set actor.width=32 --set train.batch_size=32 \
    --set 'train.eval_modes=["deterministic"]' > sweep.jsonl
job=$("$runner" slurm sweep.jsonl --partition low --time 2 --stop-before 60 | grep -o '[0-9]*$')
echo "job $job submitted" >&2

restarts() { scontrol show job "${job}_$1" 2>/dev/null | grep -o 'Restarts=[0-9]*' | cut -d = -f 2; }
restarted() { [ "$(restarts "$1" || echo 0)" -ge "${2:-1}" ]; }
state() { "$runner" status sweep.jsonl --json | grep '"state"' | sed -n "$(($1 + 1))p" | cut -d '"' -f 4; }
is() { [ "$(state "$1")" = "$2" ]; }

within 60 "the first run is running" is 0 running
within 180 "the first run was stopped before its time limit and requeued" restarted 0
grep -q 'step' "results/sac/InvertedPendulum-v4/seed-0/log.txt"

running() { is 0 running || is 1 running; }
within 120 "a run is running again" running
sleep 5
sbatch --partition=high --job-name=urgent --output="$place/urgent.out" --wrap "sleep 3; echo ran"
within 90 "the urgent job ran before the sweep" grep -qs ran "$place/urgent.out"
preempted() { (($(restarts 0) + $(restarts 1) >= 2)); }
within 60 "the preempted run was requeued" preempted

both() { is 0 done && is 1 done; }
within 600 "both runs are done" both
"$runner" status sweep.jsonl
"$runner" slurm sweep.jsonl 2>&1 | grep 'nothing to submit'
echo "test_slurm: passed" >&2
