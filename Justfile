# Without an installed `just`, run `scripts/just`, which downloads it.

set positional-arguments

# Show this list
[private]
default:
    @{{ quote(just_executable()) }} --justfile {{ quote(justfile()) }} --list --unsorted

# Install LibTorch, MuJoCo and the models (does nothing if they are in place)
[no-exit-message]
setup:
    @python3 scripts/setup.py

# Set up with CUDA: 2.5 GB to download in total
[no-exit-message]
setup-cuda:
    @python3 scripts/setup.py --cuda

# Set up for `runner show --live`: MuJoCo's WebAssembly build, 6 MB, with npm
[no-exit-message]
setup-live:
    @python3 scripts/setup.py --live

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

# Write a trained policy for programs without LibTorch: `just export --run results/smfp/Hopper-v4/seed-0`
[no-exit-message]
export *ARGS: setup
    @cargo run -p runner -- export "$@"

# Build the runtime of exported policies for C and C++ into target/runtime: header, static and shared library
runtime:
    cargo build --release -p policy-c
    mkdir -p target/runtime
    cp crates/policy-c/include/smfp_policy.h target/release/libsmfp_policy.a target/release/libsmfp_policy.so target/runtime/

# Show a trained policy in 3D: `just show --run results/smfp/Hopper-v4/seed-0`
[no-exit-message]
show *ARGS: setup
    @case " $* " in *" --live "*) python3 scripts/setup.py --live ;; esac
    @cargo run -p runner -- show "$@"

# Write a video of a trained policy: `just video --run results/smfp/Hopper-v4/seed-0 --out hopper.mp4`
[no-exit-message]
video *ARGS: setup
    @cargo run -p runner --features video -- video "$@"

# For maintainers: build the policies' runtime that pages of `runner show --live` contain
policy-wasm:
    rustup target add wasm32-unknown-unknown
    RUSTFLAGS="-C target-feature=+simd128 -C strip=symbols" cargo build --release -p policy-c --target wasm32-unknown-unknown
    cp target/wasm32-unknown-unknown/release/smfp_policy.wasm crates/show/runtime/

# Train on the seven tasks, one run per processor: `just bench-all --steps 20000 --seeds 0-2`
[no-exit-message]
bench-all *ARGS: setup
    #!/usr/bin/env bash
    set -euo pipefail
    tasks=Ant-v4,HalfCheetah-v4,Hopper-v4,Humanoid-v4,HumanoidStandup-v4,Swimmer-v4,Walker2d-v4
    plan=$(cargo run -p runner -- plan --envs "$tasks" "$@")
    # Named by its content: the same command resumes, another command has another manifest.
    manifest=results/bench-all-$(cksum <<< "$plan" | cut -d ' ' -f 1).jsonl
    cat > "$manifest" <<< "$plan"
    exec cargo run -p runner -- sweep "$manifest"

# Train and write a report to results/NAME/report: `just compare first --algos smfp,sac --envs Ant-v4,Hopper-v4 --seeds 0-2 --steps 20000`
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
        echo "error: $manifest contains another plan; choose another name" >&2
        exit 2
    fi
    cat > "$manifest" <<< "$plan"
    code=0
    cargo run -p runner -- sweep "$manifest" || code=$?
    # Failed runs (1) are part of the report; stopped runs (75) must be resumed first.
    [ "$code" -le 1 ] || exit "$code"
    cargo run -p runner -- report "$folder"
    exit "$code"

# Compare the speed of updates, training and actions with other systems (half an hour; 0.7 GB from PyPI)
bench: build
    python3 scripts/bench_update.py
    python3 scripts/bench_act.py
    python3 scripts/bench_runtime.py
    python3 scripts/bench_learn.py

# Check the libraries and models
[no-exit-message]
doctor:
    @# Without libraries nothing compiles; what else set-up can't fix, `doctor` explains.
    @python3 scripts/setup.py || [ -e third_party/libtorch/lib/libtorch_cpu.so ]
    @cargo run -p runner -- doctor

# Check formatting and lints, run all tests, compare with Gymnasium, TensorBoard and onnxruntime (570 MB from PyPI on disk)
test: setup
    python3 scripts/test_setup.py
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --features runner/video -- -D warnings
    cargo clippy -p runner -- -D warnings # as users build it
    cargo test --workspace --features runner/video
    python3 scripts/parity.py --quick
    python3 scripts/check_tensorboard.py
    scripts/test_bundle.sh
    python3 scripts/check_export.py

# Check on this machine's GPU that updates are right, also as CUDA graphs, that runs learn and resume (five minutes; after setup-cuda)
test-gpu *ARGS: build
    python3 scripts/gpu_proof.py --parts updates,graph,resume,curves "$@"

# Run a sweep under a real Slurm with a time limit and a preemption (installs Slurm; needs root)
test-slurm: build
    scripts/test_slurm.sh

# The report over the campaign, in results/campaign/report: seven tasks, ablations, rivals
report-campaign: setup
    #!/usr/bin/env bash
    set -euo pipefail
    shopt -s nullglob # a part may have no run of a task yet
    campaign=results/campaign
    make() {
        local out=$campaign/report/$1
        shift
        cargo run -p runner -- report "$@" --out "$out" --curves $campaign/published.toml --replays 0
    }
    make tasks $campaign/a --reference crossq --act-times results/bench/act.csv
    [ ! -d $campaign/e ] || make ablations $campaign/{a,e}/*/{Hopper,Walker2d,HalfCheetah}-v4 --reference smfp
    [ ! -d $campaign/rivals ] || make rivals $campaign/{a,rivals}/*/{Hopper,Walker2d,HalfCheetah}-v4 --reference crossq --at 50000

# For maintainers: the campaign's report and the README's picture of its page (needs Chromium)
pictures: report-campaign
    python3 scripts/screenshot_report.py results/campaign/report/tasks/index.html --out target/pictures
    cp target/pictures/desktop-light-hover.png docs/pictures/

# For maintainers: update the README's picture of a robot (trains for some minutes; needs Chromium)
picture-of-a-robot: setup
    cargo run -p runner -- train --env HalfCheetah-v4 --seed 0 --steps 20000 --out target/show
    cargo run -p runner -- show --run target/show/smfp/HalfCheetah-v4/seed-0 --untrained --episodes 2
    python3 scripts/screenshot_show.py target/show/smfp/HalfCheetah-v4/seed-0/show.html --out target/pictures
    cp target/pictures/show-desktop-light-middle.png docs/pictures/show.png

# Format the code
fmt:
    cargo fmt --all

# For maintainers: regenerate the MuJoCo bindings (needs libclang)
regenerate-bindings: setup
    scripts/regenerate-bindings.sh

# For maintainers: regenerate scripts/native.lock from the versions in it
lock:
    python3 scripts/setup.py --lock
