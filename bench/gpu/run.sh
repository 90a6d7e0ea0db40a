#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs the GPU benchmarks on this machine and writes what they showed. With programs that were packed elsewhere it needs
# Python and nothing else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

usage() {
  cat <<'TEXT'
bench/gpu/run.sh pack FOLDER            build the program here and put it, stripped, with its libraries into FOLDER
bench/gpu/run.sh [options] [-- ...]     run it on the GPU of this machine; behind -- options of Google Benchmark
  --programs FOLDER                     what `pack` made; without it the program is built here
  --commit HASH                         what it was built from; default: git's HEAD, or what `pack` noted
  --out FOLDER                          where <card>-<date>-bench.json and .md go; default: bench/results
TEXT
}

# What a result is about.
sources=(include lib kernels cmake CMakeLists.txt bench/gpu)

# commit_here: HEAD, marked when the tree differs from it; nothing without git
commit_here() {
  local head
  head=$(git rev-parse HEAD 2>/dev/null) || return 0
  [[ -z $(git status --porcelain -- "${sources[@]}") ]] || head+=-dirty
  echo "$head"
}

build() {
  cmake --preset default -B build/gpu -DINDEXCACHE_CUDA=ON -DINDEXCACHE_BUILD_BENCH=ON >&2 ||
    { echo "run.sh: cannot configure here; pack the program on a machine that can, and give --programs" >&2; return 1; }
  cmake --build build/gpu --parallel "$(nproc)" --target gpu_bench >&2
}

pack() {
  build
  mkdir -p "$1"
  local program=build/gpu/bench/gpu/gpu_bench library
  strip -o "$1/gpu_bench" $program
  # The libraries that the program finds in its own folder.
  ldd $program | awk '/libindexcache|libbenchmark/ {print $1, $3}' | while read -r name library; do
    strip -o "$1/$name" "$library"
  done
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
    --) shift; break ;;
    -h | --help) usage; exit ;;
    *) usage >&2; exit 2 ;;
  esac
  shift 2
done
if [[ -z $folder ]]; then
  build
  folder=build/gpu/bench/gpu
fi
[[ -n $commit || ! -s $folder/commit ]] || commit=$(<"$folder/commit")
[[ -n $commit ]] || commit=$(commit_here)
[[ -n $commit ]] || { echo "run.sh: --commit is needed where there is no git history" >&2; exit 2; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
begin=$SECONDS
"$folder/gpu_bench" --benchmark_out="$work/measured.json" --benchmark_out_format=json "$@"
python3 bench/gpu/report.py "$work/measured.json" --commit "$commit" --seconds $((SECONDS - begin)) --out "$out"
