#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# build_packages.sh BUILD FOLDER LANGUAGE…: what runs the tests of the packages (rust, go, python) on a GPU, into FOLDER:
# test programs that load the library of BUILD, a configured build with CUDA, and a wheel with a library of its own.
# build_packages.sh --missing LANGUAGE…: prints what this machine lacks for that, and nothing when it has all.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if [[ $1 == --missing ]]; then
  for language in "${@:2}"; do
    case $language in
      rust) command -v cargo >/dev/null || echo "cargo" ;;
      go)
        command -v go >/dev/null || echo "go"
        command -v pkg-config >/dev/null || echo "pkg-config"
        ;;
      python)
        python3 -c "import build, scikit_build_core, auditwheel" 2>/dev/null ||
          echo "a python3 with bindings/python/test-requirements.txt"
        ;;
    esac
  done
  exit
fi
build=$(realpath "$1") folder=$(realpath "$2")
shift 2

install_library() {
  cmake --build "$build" --parallel "$(nproc)" --target indexcache indexcache_static
  cmake --install "$build" --prefix "$build/prefix" >/dev/null
  pc=$(dirname "$(find "$build/prefix" -name indexcache.pc | head -n 1)")
  export INDEXCACHE_DIR=$build/prefix PKG_CONFIG_PATH=$pc
}

build_rust() {
  local name program
  export CARGO_TARGET_DIR=$PWD/build/rust
  (cd bindings/rust && cargo test --quiet --locked --release --no-run --package indexcache --message-format=json) |
    python3 -c '
import json, sys
for line in sys.stdin:
    artifact = json.loads(line)
    if artifact.get("executable") and artifact["target"]["kind"] == ["test"]:
        print(artifact["target"]["name"], artifact["executable"])' |
    while read -r name program; do strip -o "$folder/rust_$name" "$program"; done
  [[ -s $folder/rust_vectors ]] || { echo "build_packages.sh: cargo built no test programs" >&2; return 1; }
}

build_go() {
  # Go's build cache knows neither what pkg-config has said nor the header: other flags for another library.
  local known
  known=$(cat "$INDEXCACHE_DIR/include/indexcache.h" "$PKG_CONFIG_PATH/indexcache.pc" | sha256sum | cut -c 1-16)
  (cd bindings/go && CGO_ENABLED=1 CGO_CPPFLAGS=-DINDEXCACHE_HEADER=$known \
    go test -c -trimpath -buildvcs=false -ldflags='-s -w' -o "$folder/go_tests" .)
}

build_python() {
  local nvcc work=$build/wheel
  nvcc=$(sed -n 's/^CMAKE_CUDA_COMPILER:[A-Z]*=//p' "$build/CMakeCache.txt")
  rm -rf "$work/dist" "$folder"/indexcache-*.whl
  # Below a fixed folder, so that ccache knows the files again.
  CMAKE_C_COMPILER_LAUNCHER=ccache CMAKE_CXX_COMPILER_LAUNCHER=ccache CMAKE_CUDA_COMPILER_LAUNCHER=ccache \
    python3 -m build --no-isolation --wheel -o "$work/dist" -Cbuild-dir="$work/build" \
    -Ccmake.define.INDEXCACHE_CUDA=ON "-Ccmake.define.CMAKE_CUDA_COMPILER=$nvcc" bindings/python
  auditwheel repair --wheel-dir "$folder" "$work"/dist/indexcache-*.whl
}

install_library
for language in "$@"; do "build_$language"; done
