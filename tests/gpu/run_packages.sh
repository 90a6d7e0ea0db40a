#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run_packages.sh LANGUAGE FOLDER: runs one package's tests on the GPU, with what build_packages.sh has put into FOLDER.
# run_packages.sh --cpu-only LANGUAGE FOLDER: prints its tests of packages_cpu_only.txt that there are.
# LANGUAGE is rust, go, python, python-torch or python-cupy. INDEXCACHE_TEST_BACKEND=cpu runs the same on the CPU.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
list=$PWD/tests/gpu/packages_cpu_only.txt
export INDEXCACHE_TEST_BACKEND=${INDEXCACHE_TEST_BACKEND-cuda}

# tests_of LANGUAGE: what there is (of Python those files run that take their memory from tests/memory.py), as packages_cpu_only.txt names it
tests_of() {
  local program
  case $1 in
    rust)
      for program in "$folder"/rust_*; do
        "$program" --list --format terse | sed -n "s/^\(.*\): test$/rust:${program##*/rust_}::\1/p"
      done
      ;;
    go) (cd bindings/go && "$folder/go_tests" -test.list . | sed -n 's/^Test/go:Test/p') ;;
  esac
}

# cpu_only LANGUAGE: those of them that the list has
cpu_only() {
  local there name
  there=$(tests_of "$1")
  while read -r name _; do
    if grep -qxF -- "$name" <<<"$there"; then echo "$name"; fi
  done < <(grep "^$1:" "$list" || true)
}

run_rust() {
  local program name skipped status=0
  skipped=$(cpu_only rust)
  cd bindings/rust/indexcache
  for program in "$folder"/rust_*; do
    local options=()
    while read -r name; do
      [[ $name != rust:${program##*/rust_}::* ]] || options+=(--skip "${name##*::}")
    done <<<"$skipped"
    echo "-- ${program##*/}"
    "$program" --exact "${options[@]}" || status=1
  done
  return $status
}

run_go() {
  local skipped
  skipped=$(cpu_only go | sed 's/^go://' | paste -sd '|')
  cd bindings/go
  "$folder/go_tests" -test.v -test.timeout 120s -test.skip "^($skipped)\$"
}

# pytest_with FILE…: with the wheel, installed where nothing else of the repository is
pytest_with() {
  site=$(mktemp -d) # not local: it is removed at the end
  trap 'rm -rf "$site"' EXIT
  python3 -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --disable-pip-version-check \
    --target "$site" "$folder"/indexcache-*.whl
  cd bindings/python
  unset INDEXCACHE_LIBRARY
  PYTHONPATH=$site PYTHONDONTWRITEBYTECODE=1 python3 -c "
import indexcache
print(indexcache.build_info())
assert indexcache.__file__.startswith('$site'), 'another package is in front of the wheel'"
  PYTHONPATH=$site PYTHONDONTWRITEBYTECODE=1 python3 -m pytest -q -rfEs -p no:cacheprovider --color=no "$@"
}

run_python() {
  local files
  mapfile -t files < <(cd bindings/python && grep -lE '^(from|import) memory\b' tests/test_*.py)
  pytest_with "${files[@]}"
}

if [[ $1 == --cpu-only ]]; then
  folder=$(realpath "$3")
  export LD_LIBRARY_PATH=$folder
  cpu_only "$2"
  exit
fi
folder=$(realpath "$2")
export LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
case $1 in
  python-torch | python-cupy) pytest_with "tests/gpu/with_${1#python-}.py" ;;
  *) "run_$1" ;;
esac
