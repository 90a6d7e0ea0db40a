#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# test.sh PREFIX [FOLDER]: linters and tests of the Python package with the library installed in PREFIX; then the source
# distribution, the wheel built from it, and both used as a stranger would. FOLDER keeps environments and builds.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$here/../..
prefix=$(realpath "$1")
work=${2:-$root/build/python}
mkdir -p "$work"
work=$(realpath "$work")
python=python3
[[ -x /usr/bin/python3 ]] && python=/usr/bin/python3 # the one that the package python3-venv belongs to
library=$(find "$prefix" -name 'libindexcache.so.[0-9].[0-9]' | head -1)
[[ -n $library ]] || { echo "no libindexcache.so in $prefix" >&2 && exit 1; }

# environment FOLDER REQUIREMENTS: made once, and again when the requirements change
environment() {
  cmp -s "$2" "$1/requirements" && return
  rm -rf "$1"
  "$python" -m venv "$1"
  "$1/bin/pip" install --quiet --disable-pip-version-check -r "$2"
  cp "$2" "$1/requirements"
}

cd "$here"
environment "$work/env" test-requirements.txt
export PATH="$work/env/bin:$PATH" PYTHONDONTWRITEBYTECODE=1 RUFF_CACHE_DIR="$work/ruff"
echo "== ruff and mypy"
ruff check --quiet . && ruff format --quiet --check .
mypy --cache-dir="$work/mypy" src examples layout.py backend tests/*.py tests/*/*.py
echo "== tests against $library"
INDEXCACHE_LIBRARY=$library PYTHONPATH=$here/src pytest -q -rs --strict-markers tests --ignore=tests/install

echo "== source distribution and wheel"
rm -rf "$work/dist" "$work/sdist" "$work/wheelhouse"
mkdir -p "$work/sdist"
python -m build --no-isolation --sdist -o "$work/dist" . >"$work/sdist.log"
[[ ! -e vendor ]] || { echo "vendor is left over" >&2 && exit 1; }
tar -xzf "$work"/dist/indexcache-*.tar.gz -C "$work/sdist" --strip-components 1
# Below a fixed folder, so that ccache knows the files again.
python -m build --no-isolation --wheel -o "$work/dist" -Cbuild-dir="$work/wheel" -Ccmake.define.INDEXCACHE_CUDA=OFF \
  "$work/sdist" >"$work/wheel.log"
auditwheel repair --wheel-dir "$work/wheelhouse" "$work"/dist/indexcache-*.whl
wheel=$(echo "$work"/wheelhouse/indexcache-*.whl)
echo "wheel: $(basename "$wheel"), $(stat -c %s "$wheel") bytes"
[[ $wheel == *-py3-none-manylinux_* ]]

echo "== the wheel in a new environment, outside of the repository"
elsewhere=$(mktemp -d "${TMPDIR:-/tmp}/indexcache-wheel.XXXXXX")
trap 'rm -rf "$elsewhere"' EXIT
"$python" -m venv "$elsewhere/env"
"$elsewhere/env/bin/pip" install --quiet --disable-pip-version-check -r tests/install/requirements.txt "$wheel"
cp -R tests/install examples/decode.py "$root/tests/install/consumer.c" "$elsewhere"
cd "$elsewhere"
env -u PYTHONPATH -u INDEXCACHE_LIBRARY CONSUMER="$elsewhere/consumer.c" \
  "$elsewhere/env/bin/python" -m pytest -q -rs -p no:cacheprovider install
numpy=$(grep '^numpy==' "$here/test-requirements.txt")
"$elsewhere/env/bin/pip" install --quiet --disable-pip-version-check "$numpy"
env -u PYTHONPATH -u INDEXCACHE_LIBRARY "$elsewhere/env/bin/python" decode.py >decode.txt
grep -q '^position 999: layer 1 attends to 64 keys selected by layer 0$' decode.txt
grep -q '^refused: STALE' decode.txt
echo "the Python package is fine"
