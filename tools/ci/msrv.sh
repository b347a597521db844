#!/usr/bin/env bash
# Compiles the workspace, tests, examples and benchmarks with the Rust version that Cargo.toml declares.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=$(sed -n 's/^rust-version = "\([^"]*\)".*/\1/p' Cargo.toml)
[ -n "$version" ] || { echo "Cargo.toml declares no Rust version"; exit 1; }
if ! rustup toolchain install "$version" --profile minimal >/dev/null 2>&1; then
    echo "Rust $version cannot be installed here: skipped"
    exit 0
fi
cargo "+$version" --version
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/msrv
cargo "+$version" check --locked --quiet --workspace --all-targets --features download,grammar
