#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# test.sh: everything that must hold for the Rust crates. INDEXCACHE_DIR is the prefix of an installed library; builds go
# into CARGO_TARGET_DIR (target/ here when it is not set).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
: "${INDEXCACHE_DIR:?the prefix of an installed libindexcache}"
INDEXCACHE_DIR=$(realpath "$INDEXCACHE_DIR")
CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export INDEXCACHE_DIR CARGO_TARGET_DIR RUST_BACKTRACE=0
pc=$(find "$INDEXCACHE_DIR" -name indexcache.pc | head -n 1)
LD_LIBRARY_PATH=$(dirname "$(dirname "$pc")")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
if ! command -v cargo >/dev/null; then
  echo "Rust 1.77 or newer is needed (https://rustup.rs)" >&2
  exit 1
fi

echo "== rustfmt, clippy, rustdoc"
cargo fmt --check
cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --quiet --locked --no-deps --workspace

echo "== tests, README and documentation examples"
cargo test --quiet --locked --workspace
cargo test --quiet --locked --workspace --features static --test indexer_rows
cargo run --quiet --locked --example decode

echo "== publish, and use what would be published"
rm -f "$CARGO_TARGET_DIR"/package/*.crate
./package.sh publish --dry-run --quiet --locked --allow-dirty
./package.sh package --quiet --locked --no-verify --allow-dirty
./install_test.sh "$CARGO_TARGET_DIR/package"
