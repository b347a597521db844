#!/usr/bin/env bash
# The pool and the cursor of work under every order of events that the memory model allows (with a bound on
# preemptions where there are too many), by loom. docs/unsafe.md says what the models claim.
set -euo pipefail
cd "$(dirname "$0")/../.."
# A target directory of its own, because the flag compiles everything anew.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/loom
RUSTFLAGS="--cfg loom" cargo test --quiet --release -p tritwise-kernels --lib model
