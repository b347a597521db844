#!/usr/bin/env bash
# Tests in Miri, which interprets them and stops at undefined behaviour: a read or write out of bounds or of
# uninitialised memory, a data race, a reference that outlives its claim, code for a feature that the CPU lacks.
#
#   tools/ci/miri.sh          a selection of some minutes
#   tools/ci/miri.sh all      everything that Miri can run
#
# Kernels run with the features of each instruction set turned on: Miri knows what the intrinsics do, so those that
# this CPU lacks run too, and `is_x86_feature_detected!` follows the flags. Tests are smaller there (`cfg!(miri)`).
set -euo pipefail
cd "$(dirname "$0")/../.."
if ! cargo +nightly miri --version >/dev/null 2>&1; then
    echo "no Miri (rustup component add --toolchain nightly miri rust-src): skipped"
    exit 0
fi
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/miri
export PROPTEST_CASES=2
