#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh PYTHON: the layout of include/indexcache.h as C, C++, Rust, Go and Python have it, each evaluated in that language
# and compared with bindings/api.json; and libclang's opinion. PYTHON has what requirements.txt says. INDEXCACHE_DIR is
# the prefix of an installed library.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
python=$(realpath -s "$1")
: "${INDEXCACHE_DIR:?the prefix of an installed libindexcache}"
INDEXCACHE_DIR=$(realpath "$INDEXCACHE_DIR")
pc=$(dirname "$(find "$INDEXCACHE_DIR" -name indexcache.pc | head -n 1)")
export INDEXCACHE_DIR PKG_CONFIG_PATH=$pc LD_LIBRARY_PATH
LD_LIBRARY_PATH=$(dirname "$pc")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

# report LANGUAGE: what the program of that language says
report() {
  case $1 in
    c) "${CC:-cc}" -std=c11 -I"$root/include" "$here/report.c" -o "$work/c" && "$work/c" ;;
    c++) "${CXX:-c++}" -std=c++11 -x c++ -I"$root/include" "$here/report.c" -o "$work/c++" && "$work/c++" ;;
    rust) (cd "$root/bindings/rust" && cargo run --quiet --locked -p indexcache-sys --example layout) ;;
    go) (cd "$root/bindings/go" && ./layout.sh) ;;
    python) "$python" "$root/bindings/python/layout.py" ;;
  esac
}

for language in c c++ rust go python; do
  report "$language" >"$work/report" || {
    echo "$language: the program that reports its layout has failed" >&2
    status=1
  }
  "$python" "$here/agree.py" "$language" <"$work/report" || status=1
done
"$python" "$here/libclang_agrees.py" || status=1
"$python" "$here/agree_test.py" || status=1
exit $status
