#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs the GPU tests on this machine and writes what they showed. Needs no git history and no network; with programs that
# were packed elsewhere it needs no compiler, no GoogleTest, no Rust and no Go either.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

usage() {
  cat <<'TEXT'
tests/gpu/run.sh pack FOLDER            build the programs here and put them, stripped, into FOLDER
tests/gpu/run.sh [options]              run the tests on the GPU of this machine
  --programs FOLDER                     programs of `pack`; without it they are built here
  --commit HASH                         what the programs were built from; default: git's HEAD, or what `pack` noted
  --out FOLDER                          where <card>-<date>-tests.json and its log go; default: bench/results
  --only PATTERN                        steps whose name matches this extended regular expression; the others are left
                                        out, and the result says so
  --seconds N                           how long random calls are tried; default 150
The packages' steps are left out, and the result says so, where what they need is missing: a language's toolchain when
the programs are built here, torch or cupy for theirs. `pack` fails instead.
TEXT
}

# Below build/gpu. The golden programs load the library from the folder that they lie in.
programs=(tests/unit_gpu tests/unit_cuda tests/gpu_capi tests/gpu_allocation tests/gpu_quickstart tests/gpu_engine_loop
  tests/gpu_planted tests/golden/golden examples/tiny_lm/tiny_lm libindexcache.so.0.1)
targets=(gpu_programs golden tiny_lm indexcache)
# The packages whose tests run on a GPU too.
languages=(rust go python)
# What a result is about.
sources=(include lib kernels cmake CMakeLists.txt tests examples bindings)
# What is run under the tools: not what takes long, and nothing that looks at how much device memory is free.
reduced='--gtest_filter=-*Long*:*AllocateNothing*'
# Hopper's selection copies whole pieces of 16 bytes, so up to three columns in front of a row and behind it, which it does
# not use. In the matrix between scores and selection nobody has written these: initcheck sees that kernel here alone.
selected='--gtest_filter=Shapes/SelectSm90.*-*Long*'
# racecheck slows the use of shared memory a thousandfold: kernels once, at small sizes; Hopper's scores in a build of
# their own (tests/gpu/every_lane_arrives.cu).
raced='--gtest_filter=RandomSmall.*:Shapes/SelectSm90.RangesOutside*:Shapes/SelectSm90.RowsOfOne*/SmallRows'
raced+=':Shapes/SelectSm90.RowsOfOne*/TwoWindows:Shapes/SelectSm90.RowsOfOne*/FourWindows'
raced+=':Shapes/SelectSm90.RowsOfOne*/EightWindows:Shapes/SelectSm90.RowsOfOne*/ListedRows'
raced+=':Shapes/SelectSm90.ListsShort*/TwoWindows:Shapes/SelectSm90.ListsShort*/EightWindows:ScoresSm90.RacecheckRings'
raced+=':Merge.KeysInSeveralParts:Prepare.TiesRoundToEven:Prepare.SpecialValues'
raced+=':IndexSets.StampsAndTheirCheck:IndexSets.ReplayedImportChecksWhatItFinds:CudaApi.*:CheckValues.*'
raced+=':Attend.RowsWithoutKeysAreZero:Attend.LengthsMayBeNull:Attend.OneKeyIsCopied:AttentionMass.LengthsMayBeNull'

# commit_here: HEAD, marked when the tree differs from it; nothing without git
commit_here() {
  local head
  head=$(git rev-parse HEAD 2>/dev/null) || return 0
  [[ -z $(git status --porcelain -- "${sources[@]}") ]] || head+=-dirty
  echo "$head"
}

# tree_here: the hash of a git tree of HEAD's sources, for whoever has another history of them
tree_here() { git ls-tree HEAD -- "${sources[@]}" 2>/dev/null | git mktree 2>/dev/null || true; }

build() {
  local march=""
  [[ $(uname -m) != x86_64 ]] || march=x86-64-v3 # another machine's processor need not be this one's
  cmake --preset default -B build/gpu -DINDEXCACHE_CUDA=ON -DINDEXCACHE_BUILD_BENCH=OFF \
    "-DINDEXCACHE_EXAMPLES_MARCH=$march" >&2 ||
    { echo "run.sh: cannot configure here; pack the programs on a machine that can, and give --programs" >&2; return 1; }
  cmake --build build/gpu --parallel "$(nproc)" --target "${targets[@]}" >&2
}

# collect FOLDER: the programs, stripped, in one folder
collect() {
  local program
  mkdir -p "$1"
  for program in "${programs[@]}"; do strip -o "$1/${program##*/}" "build/gpu/$program"; done
}

pack() {
  local lacking
  lacking=$(tests/gpu/build_packages.sh --missing "${languages[@]}")
  [[ -z $lacking ]] || { echo "run.sh: the packages cannot be built without ${lacking//$'\n'/, }" >&2; return 1; }
  build
  collect "$1"
  tests/gpu/build_packages.sh build/gpu "$1" "${languages[@]}" >&2
  commit_here >"$1/commit"
  tree_here >"$1/tree"
  # What every machine with a driver has.
  local missing
  missing=$(readelf -d "$1"/* 2>/dev/null | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' | sort -u |
    grep -vE '^(lib(stdc\+\+|gcc_s|m|c|pthread|dl|rt)\.so\.[0-9]+|ld-linux.*|libindexcache\.so\.0\.1)$' || true)
  [[ -z $missing ]] || { echo "run.sh: the programs need $missing, which another machine may lack" >&2; return 1; }
  ls -l "$1"
  local bytes
  bytes=$(cat "$1"/* | wc -c)
  ((bytes < 60000000)) || { echo "run.sh: $bytes bytes are too many to be carried" >&2; return 1; }
}

folder="" commit="" out=bench/results only="" seconds=150
if [[ ${1-} == pack ]]; then
  [[ $# == 2 ]] || { usage >&2; exit 2; }
  pack "$2"
  exit
fi
while (($#)); do
  case $1 in
    --programs | --commit | --out | --only | --seconds) [[ $# -ge 2 ]] || { usage >&2; exit 2; } ;;&
    --programs) folder=$2 ;;
    --commit) commit=$2 ;;
    --out) out=$2 ;;
    --only) only=$2 ;;
    --seconds) seconds=$2 ;;
    -h | --help) usage; exit ;;
    *) usage >&2; exit 2 ;;
  esac
  shift 2
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=""
if [[ -z $folder ]]; then
  build
  folder=$work/programs
  collect "$folder"
  for language in "${languages[@]}"; do
    [[ -n $(tests/gpu/build_packages.sh --missing "$language") ]] ||
      tests/gpu/build_packages.sh build/gpu "$folder" "$language" >&2
  done
  tree=$(tree_here)
fi
[[ -n $commit || ! -s $folder/commit ]] || commit=$(<"$folder/commit")
[[ -n $tree || ! -s $folder/tree ]] || tree=$(<"$folder/tree")
[[ -n $commit ]] || commit=$(commit_here)
[[ -n $commit ]] || { echo "run.sh: --commit is needed where there is no git history" >&2; exit 2; }
folder=$(cd "$folder" && pwd)

export IC_TEST_SEED=${IC_TEST_SEED-$(($(date +%s) % 1000000000))}
export INDEXCACHE_SOURCE_DIR=$PWD TINY_LM_PROGRAM=$folder/tiny_lm # for the golden tests

# leave_out STEP WHY
leave_out() {
  printf '%s\t%s\n' "$1" "$2" >>"$work/left_out_steps"
  echo "== $1 is left out: $2"
}

wanted() {
  [[ -z $only || $1 =~ $only ]] || { printf '%s\tnot asked for\n' "$1" >>"$work/left_out_steps"; return 1; }
}

# run_step KIND NAME COMMAND…: its log goes into $work, and how it ended into $work/steps
run_step() {
  local kind=$1 name=$2 begin status=0
  shift 2
  wanted "$name" || return 0
  local shown=${*//"$folder"\//}
  shown=${shown//"$folder"/FOLDER}
  echo "== $name: ${shown//"$work"\//}" | tee "$work/$name.log"
  begin=$(date +%s.%N)
  timeout 300 "$@" >>"$work/$name.log" 2>&1 </dev/null || status=$?
  printf '%s\t%s\t%s\t%s\t%s\n' "$name" "$kind" "$status" "$(echo "$(date +%s.%N) $begin" | awk '{print $1 - $2}')" \
    "$shown" >>"$work/steps"
  if ((status)) && [[ $kind != planted ]]; then tail -n 60 "$work/$name.log"; fi
}
# step NAME COMMAND…: one GoogleTest run, whose result goes into $work too
step() { run_step gtest "$@" --gtest_brief=1 "--gtest_output=json:$work/$1.json"; }
# program NAME COMMAND…: a program whose exit status says all
program() { run_step program "$@"; }

# package LANGUAGE COMMAND…: a package's tests, unless something that they need is not here
package() {
  local language=$1 files=() needs=()
  shift
  case $language in
    rust) files=("$folder"/rust_*) ;;
    go) files=("$folder/go_tests") ;;
    python*) files=("$folder"/indexcache-*.whl) needs=(numpy pytest) ;;&
    python-*) needs+=("${language#python-}") ;;
  esac
  if [[ ! -e ${files[0]} ]]; then
    leave_out "$language" "its programs are not in the folder"
    return
  fi
  if [[ $language != python-* ]]; then tests/gpu/run_packages.sh --cpu-only "$language" "$folder" >>"$work/cpu_only"; fi
  for module in "${needs[@]}"; do
    python3 -c "import $module" >/dev/null 2>&1 || { leave_out "$language" "python3 has no $module here"; return; }
  done
  run_step "${language%-*}" "$language" "$@"
}

# without_cpu_only PROGRAM: a filter that leaves out the program's tests of tests/gpu/shim/cpu_only.txt
without_cpu_only() {
  local listed name names=()
  listed=$(IC_TEST_BACKEND=cpu "$folder/$1" --gtest_list_tests | awk '/^[^ ]/ {suite = $1} /^  / {print suite $1}')
  while read -r name _; do
    [[ -n $name && $name != '#' ]] || continue
    if grep -qxF -- "$name" <<<"$listed"; then names+=("$name"); fi
  done <tests/gpu/shim/cpu_only.txt
  printf '%s\n' "${names[@]}" >>"$work/cpu_only"
  (IFS=: && echo "--gtest_filter=-${names[*]}")
}

step plain "$folder/unit_gpu" '--gtest_filter=-RandomLong*:*VariantsLong*'
step statuses "$folder/unit_cuda"
capi_filter=$(without_cpu_only gpu_capi)
allocation_filter=$(without_cpu_only gpu_allocation)
for mode in cuda cuda-captured; do
  suffix=${mode#cuda}
  step "capi$suffix" env IC_TEST_BACKEND=$mode "$folder/gpu_capi" "$capi_filter"
  step "allocation$suffix" env IC_TEST_BACKEND=$mode "$folder/gpu_allocation" "$allocation_filter"
  program "quickstart$suffix" env IC_TEST_BACKEND=$mode "$folder/gpu_quickstart"
  program "engine_loop$suffix" env IC_TEST_BACKEND=$mode "$folder/gpu_engine_loop"
done

for language in rust go python python-torch python-cupy; do
  package $language tests/gpu/run_packages.sh $language "$folder"
done

# From here on side by side: each leaves most of the card idle, and none looks at time or free memory.
step random env "IC_TEST_RANDOM_SECONDS=$seconds" "$folder/unit_gpu" '--gtest_filter=RandomLong*' &
step golden env INDEXCACHE_GOLDEN_DEVICE=cuda "$folder/golden" &
if command -v compute-sanitizer >/dev/null; then
  # Some tests make CUDA calls fail on purpose; the tools are asked about kernels. A tool is believed after it has found
  # the fault of its kind that was planted for it.
  tools=(memcheck initcheck synccheck racecheck)
  for tool in "${tools[@]}"; do
    check=(compute-sanitizer --tool "$tool" --report-api-errors no --error-exitcode 99)
    run_step planted "planted-$tool" "${check[@]}" "$folder/gpu_planted" "$tool"
  done
  check=(compute-sanitizer --tool initcheck --report-api-errors no --error-exitcode 99)
  step initcheck-select env IC_TEST_INITCHECK=1 "${check[@]}" "$folder/unit_gpu" "$selected" &
  for tool in "${tools[@]}"; do
    check=(compute-sanitizer --tool "$tool" --report-api-errors no --error-exitcode 99)
    filter=$reduced
    [[ $tool != racecheck ]] || filter=$raced
    [[ $tool != initcheck ]] || check+=(--kernel-name-exclude kernel_substring=select_sm90_kernel)
    step "$tool" env IC_TEST_INITCHECK=1 "${check[@]}" "$folder/unit_gpu" "$filter" &
  done
fi
step ptx-jit env CUDA_FORCE_PTX_JIT=1 "$folder/unit_gpu" "$reduced:*Sm90*" # PTX has none of Hopper's own instructions
wait
python3 tests/gpu/report.py "$work" --commit "$commit" --tree "$tree" --out "$out"
