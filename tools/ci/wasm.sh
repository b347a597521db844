#!/usr/bin/env bash
# WebAssembly with SIMD, under Node: the exactness suite, the bundled model, and examples/web, whose text must be the
# native one. Needs target/release/examples/generate.
set -euo pipefail
cd "$(dirname "$0")/../.."
node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)' 2>/dev/null ||
    { echo "no Node 20: skipped"; exit 0; }
rustup target add wasm32-wasip1 wasm32-unknown-unknown >/dev/null 2>&1 ||
    { echo "rustup cannot add the targets wasm32-wasip1 and wasm32-unknown-unknown: skipped"; exit 0; }
native=${CARGO_TARGET_DIR:-target}/release/examples/generate
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
# Symbols would be most of what is compiled.
export CARGO_PROFILE_RELEASE_DEBUG=0
# Without the option, Node 20's garbage collector can meet "unreachable code" where a program's memory grows while it marks.
export CARGO_TARGET_WASM32_WASIP1_RUNNER="node --no-warnings --no-incremental-marking $PWD/tools/ci/wasi_run.mjs"

# Whole logits in every way of computing them, against the digests that x86 recorded, and the bundled model's text. `wasm.sh
# all` adds the kernels' own tests.
export CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS="-C target-feature=+simd128" TRITWISE_EXPECT_ISA=wasm32-simd128
wasi() { cargo test --quiet --release --target wasm32-wasip1 "$@"; }
wasi -p tritwise --test exactness -- --include-ignored
wasi -p tritwise --test bundled -- a_seed_is_a_text where_there_are_no_threads
if [ "${1:-}" = all ]; then
    wasi -p tritwise-kernels --test '*conformance' --test binary --test fma --test screen
fi

prompt="Once upon a time there was a king"
"$native" --prompt "$prompt" -n 48 --seed 7 --temp 0.8 --repetition-penalty 1 >"$out/native" 2>/dev/null
export CARGO_TARGET_DIR=$PWD/${CARGO_TARGET_DIR:-target}/web
(cd examples/web && cargo clippy --quiet --release -- -D warnings && cargo fmt --check && cargo build --quiet --release)
web() { node examples/web/generate.mjs "$CARGO_TARGET_DIR/wasm32-unknown-unknown/release/tritwise_web.wasm" "$@"; }
web assets/stories-8m.gguf "$prompt" 7 48 >"$out/web" 2>"$out/isa"
cmp "$out/native" "$out/web"
grep -qx wasm32-simd128 "$out/isa"
echo "examples/web: the same text as natively"
web README.md "$prompt" 2>"$out/error" && { echo "a text file was taken for a model"; exit 1; }
grep -q "GGUF" "$out/error"
