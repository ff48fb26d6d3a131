# Run `scripts/just` where `just` isn't installed: it fetches it.

set positional-arguments

# Show this list
[private]
default:
    @{{ quote(just_executable()) }} --justfile {{ quote(justfile()) }} --list --unsorted

# Put LibTorch, MuJoCo and the models in place (does nothing when they are)
[no-exit-message]
setup:
    @python3 scripts/setup.py

# The same with what CUDA needs: 2.5 GB to fetch
[no-exit-message]
setup-cuda:
    @python3 scripts/setup.py --cuda

# Compile everything
build: setup
    cargo build --workspace

# Train: `just train --env Hopper-v4 --seed 0 --steps 20000`
[no-exit-message]
train *ARGS: setup
    @cargo run -p runner -- train "$@"

# Evaluate a trained policy: `just eval --run results/smfp/Hopper-v4/seed-0`
[no-exit-message]
eval *ARGS: setup
    @cargo run -p runner -- eval "$@"

# Train on the seven tasks, a run on each processor: `just bench-all --steps 20000 --seeds 0-2`
[no-exit-message]
bench-all *ARGS: setup
    #!/usr/bin/env bash
    set -euo pipefail
    tasks=Ant-v4,HalfCheetah-v4,Hopper-v4,Humanoid-v4,HumanoidStandup-v4,Swimmer-v4,Walker2d-v4
    plan=$(cargo run -p runner -- plan --envs "$tasks" "$@")
    # Named by what it holds: the same command goes on, another has a manifest of its own.
    manifest=results/bench-all-$(cksum <<< "$plan" | cut -d ' ' -f 1).jsonl
    cat > "$manifest" <<< "$plan"
    exec cargo run -p runner -- sweep "$manifest"

# From nothing to a report in results/NAME/report: `just compare first --algos smfp,sac --envs Ant-v4,Hopper-v4 --seeds 0-2 --steps 20000`
[no-exit-message]
compare NAME *ARGS: setup
    #!/usr/bin/env bash
    set -euo pipefail
    folder=results/$1
    shift
    plan=$(cargo run -p runner -- plan --out "$folder" "$@")
    mkdir -p "$folder"
    manifest=$folder/sweep.jsonl
    if [ -e "$manifest" ] && ! cmp -s "$manifest" <<< "$plan"; then
        echo "error: $manifest is another plan: give this one another name" >&2
        exit 2
    fi
    cat > "$manifest" <<< "$plan"
    code=0
    cargo run -p runner -- sweep "$manifest" || code=$?
    # Runs that failed (1) are part of the report; runs that were stopped come first.
    [ "$code" -le 1 ] || exit "$code"
    cargo run -p runner -- report "$folder"
    exit "$code"

# Compare the speed of updates, training and actions with other systems' (half an hour; 0.7 GB from PyPI)
bench: build
    python3 scripts/bench_update.py
    python3 scripts/bench_act.py
    python3 scripts/bench_learn.py

# Say which libraries and models are found, and what is wrong with them
[no-exit-message]
doctor:
    @python3 scripts/setup.py || true # what set-up can't mend, the doctor explains
    @cargo run -p runner -- doctor

# Check formatting and lints, run all tests, compare the tasks with Gymnasium, event files with TensorBoard (380 MB from PyPI)
test: setup
    python3 scripts/test_setup.py
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo test --workspace
    python3 scripts/parity.py --quick
    python3 scripts/check_tensorboard.py

# Run a sweep under a real Slurm on this machine, with a stop and a preemption (installs it; root)
test-slurm: build
    scripts/test_slurm.sh

# For maintainers: make the README's pictures anew from results/reference (needs Chromium)
pictures: setup
    cargo run -p runner -- report results/reference --out target/report --act-times results/bench/act.csv
    python3 scripts/screenshot_report.py target/report/index.html --out target/pictures
    cp target/report/curves.png target/pictures/desktop-light-hover.png docs/pictures/

# Format the code
fmt:
    cargo fmt --all

# For maintainers: make the MuJoCo bindings anew (needs libclang)
regenerate-bindings: setup
    scripts/regenerate-bindings.sh

# For maintainers: make scripts/native.lock anew from the versions it names
lock:
    python3 scripts/setup.py --lock
