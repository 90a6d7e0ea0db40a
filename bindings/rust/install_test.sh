#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# install_test.sh PACKAGES: what a user does who has read the README only: a project outside of the repository with the
# packaged crates (PACKAGES has the .crate files), the README's example, and the library from each place that it may
# come from. INDEXCACHE_DIR is an installed library.
set -euo pipefail
packages=$1
prefix=$INDEXCACHE_DIR
pc=$(dirname "$(find "$prefix" -name indexcache.pc | head -n 1)")
work=$(mktemp -d "${TMPDIR:-/tmp}/indexcache-rust.XXXXXX")
trap 'rm -rf "$work"' EXIT
unset INDEXCACHE_DIR PKG_CONFIG_PATH LD_LIBRARY_PATH CARGO_TARGET_DIR

mkdir -p "$work/crates" "$work/project/src"
for crate in "$packages"/*.crate; do
  tar -xzf "$crate" -C "$work/crates"
done
cd "$work/project"
# shellcheck disable=SC2016 # no expansion is meant
sed -n '/^```rust$/,/^```$/{/^```/d;p}' "$work"/crates/indexcache-0*/README.md >src/main.rs
cat >Cargo.toml <<TOML
[package]
name = "user"
version = "0.1.0"
edition = "2021"

[features]
static = ["indexcache/static"]
bundled = ["indexcache/bundled"]

[dependencies]
indexcache = "0.1"
indexcache-sys = "0.1"

[patch.crates-io]
indexcache = { path = "$(echo "$work"/crates/indexcache-0*)" }
indexcache-sys = { path = "$(echo "$work"/crates/indexcache-sys-*)" }
TOML

cat >build.rs <<'RUST'
fn main() {
    let folder = std::env::var("DEP_INDEXCACHE_INCLUDE").expect("dependents are told where the header is");
    assert!(std::path::Path::new(&folder).join("indexcache.h").is_file(), "{folder}");
}
RUST

# decodes TEXT: the program that was just built says what the example says
decodes() {
  local said
  said=$("${@:2}" ./target/debug/user)
  if [[ $(wc -l <<<"$said") != 13 || $said != *"run the source layer first: IC_ERROR_STALE"* ]]; then
    echo "$1: the example says" >&2
    echo "$said" >&2
    exit 1
  fi
  echo "install test: $1"
}

# refuses WORD COMMAND…: fails, and says why
refuses() {
  local said
  if said=$("${@:2}" 2>&1); then
    echo "not refused: ${*:2}" >&2
    exit 1
  fi
  if [[ $said != *"$1"* ]]; then
    echo "the refusal does not name $1: $said" >&2
    exit 1
  fi
  echo "install test: refused because of $1"
}

build=(cargo build --quiet)
INDEXCACHE_DIR=$prefix "${build[@]}"
decodes "shared library of INDEXCACHE_DIR" env LD_LIBRARY_PATH="$(dirname "$pc")"
PKG_CONFIG_PATH=$pc "${build[@]}"
decodes "shared library of pkg-config" env LD_LIBRARY_PATH="$(dirname "$pc")"
PKG_CONFIG_PATH=$pc "${build[@]}" --features static
decodes "static library of pkg-config" env
INDEXCACHE_DIR=$prefix "${build[@]}" --features static
decodes "static library of INDEXCACHE_DIR" env

refuses INDEXCACHE_DIR "${build[@]}"
refuses indexcache.pc env INDEXCACHE_DIR="$work" "${build[@]}"
mkdir -p "$work/other/lib/pkgconfig"
sed 's/^Version: .*/Version: 0.999.0/' "$pc/indexcache.pc" >"$work/other/lib/pkgconfig/indexcache.pc"
refuses "version 0.999.0" env INDEXCACHE_DIR="$work/other" "${build[@]}"
refuses "libindexcache 0.1.x" env PKG_CONFIG_PATH="$work/other/lib/pkgconfig" "${build[@]}"

"${build[@]}" --features bundled
decodes "library of the package's own sources" env
json=$(sed -n 's/^nlohmann_json_DIR:PATH=//p' target/debug/build/indexcache-sys-*/out/build/CMakeCache.txt)
if [[ $json != "$work"/crates/* ]]; then
  echo "the bundled build has taken nlohmann-json from $json" >&2
  exit 1
fi
