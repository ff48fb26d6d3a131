#!/bin/sh
# For maintainers: regenerates mujoco-sys/src/mjbatch.rs from the mjbatch.h that set-up unpacked.
# Needs libclang (Debian: apt-get install libclang-dev clang). bindgen's version is pinned in
# mujoco-sys/Cargo.toml.
set -eu
cd "$(dirname "$0")/.."
touch mujoco-sys/build.rs # cargo does not watch the header
cargo build --package mujoco-sys --features regenerate
rustfmt --edition 2024 mujoco-sys/src/mjbatch.rs
git diff --stat -- mujoco-sys/src/mjbatch.rs
