#!/usr/bin/env bash
# WebAssembly, under Node: the kernels' conformance tests, with SIMD.
set -euo pipefail
cd "$(dirname "$0")/../.."
node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20)' 2>/dev/null ||
    { echo "no Node 20: skipped"; exit 0; }
rustup target add wasm32-wasip1 >/dev/null 2>&1 ||
    { echo "rustup cannot add the target wasm32-wasip1: skipped"; exit 0; }
# Symbols would be most of what is compiled.
export CARGO_PROFILE_DEV_DEBUG=0
export CARGO_TARGET_WASM32_WASIP1_RUNNER="node --no-warnings $PWD/tools/ci/wasi_run.mjs"

wasi() { cargo test --quiet --target wasm32-wasip1 "$@"; }
(
    export CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS="-C target-feature=+simd128" TRITWISE_EXPECT_ISA=wasm32-simd128
    wasi -p tritwise-kernels --test '*conformance' --test binary --test fma --test screen
)
