#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs the GPU tests on this machine and writes what they showed. Needs no git history and no network; with programs that
# were packed elsewhere it needs no compiler and no GoogleTest either.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

usage() {
  cat <<'TEXT'
tests/gpu/run.sh pack FOLDER            build the programs here and put them, stripped, into FOLDER
tests/gpu/run.sh [options]              run the tests on the GPU of this machine
  --programs FOLDER                     programs of `pack`; without it they are built here
  --commit HASH                         what the programs were built from; default: git's HEAD, or what `pack` noted
  --out FOLDER                          where <card>-<date>-tests.json and its log go; default: bench/results
TEXT
}

programs=(unit_gpu unit_cuda)

# commit_here: HEAD, marked when the tree differs from it; nothing without git
commit_here() {
  local head
  head=$(git rev-parse HEAD 2>/dev/null) || return 0
  [[ -z $(git status --porcelain --untracked-files=no -- include lib kernels tests cmake CMakeLists.txt) ]] || head+=-dirty
  echo "$head"
}

build() {
  cmake --preset default -B build/gpu -DINDEXCACHE_CUDA=ON -DINDEXCACHE_BUILD_BENCH=OFF -DINDEXCACHE_BUILD_EXAMPLES=OFF >&2 ||
    { echo "run.sh: cannot configure here; pack the programs on a machine that can, and give --programs" >&2; return 1; }
  cmake --build build/gpu --parallel "$(nproc)" --target "${programs[@]}" >&2
}

pack() {
  build
  mkdir -p "$1"
  local program
  for program in "${programs[@]}"; do strip -o "$1/$program" "build/gpu/tests/$program"; done
  commit_here >"$1/commit"
  ls -l "$1"
}

folder="" commit="" out=bench/results
if [[ ${1-} == pack ]]; then
  [[ $# == 2 ]] || { usage >&2; exit 2; }
  pack "$2"
  exit
fi
while (($#)); do
  case $1 in
    --programs | --commit | --out) [[ $# -ge 2 ]] || { usage >&2; exit 2; } ;;&
    --programs) folder=$2 ;;
    --commit) commit=$2 ;;
    --out) out=$2 ;;
    -h | --help) usage; exit ;;
    *) usage >&2; exit 2 ;;
  esac
  shift 2
done
if [[ -z $folder ]]; then
  build
  folder=build/gpu/tests
fi
[[ -n $commit || ! -s $folder/commit ]] || commit=$(<"$folder/commit")
[[ -n $commit ]] || commit=$(commit_here)
[[ -n $commit ]] || { echo "run.sh: --commit is needed where there is no git history" >&2; exit 2; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export IC_TEST_SEED=${IC_TEST_SEED-$(($(date +%s) % 1000000000))}

# step NAME COMMAND…: one GoogleTest run; its result and log go into $work
step() {
  local name=$1 begin status=0
  shift
  echo "== $name: $*" | tee "$work/$name.log"
  begin=$(date +%s.%N)
  timeout 240 "$@" "--gtest_output=json:$work/$name.json" >>"$work/$name.log" 2>&1 || status=$?
  printf '%s\t%s\t%s\t%s\n' "$name" "$status" "$(echo "$(date +%s.%N) $begin" | awk '{print $1 - $2}')" "$*" >>"$work/steps"
  if ((status)); then tail -n 60 "$work/$name.log"; fi
}

small='--gtest_filter=-*Long*' # what is slow under a tool
step plain "$folder/unit_gpu"
step ptx-jit env CUDA_FORCE_PTX_JIT=1 "$folder/unit_gpu" "$small"
step statuses "$folder/unit_cuda"
if command -v compute-sanitizer >/dev/null; then
  # Some tests make CUDA calls fail on purpose; the sanitizer is asked about memory.
  step memcheck compute-sanitizer --tool memcheck --report-api-errors no --error-exitcode 99 "$folder/unit_gpu" "$small"
fi
python3 tests/gpu/report.py "$work" --commit "$commit" --out "$out"
