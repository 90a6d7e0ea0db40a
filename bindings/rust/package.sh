#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# package.sh CARGO-COMMAND…: vendors the library's sources into indexcache-sys and runs a cargo command on the workspace,
# for example "package.sh publish --dry-run"; the sources go away again. Without --allow-dirty all else must be committed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
command=$1
shift
if [[ " $* " != *" --allow-dirty "* ]]; then
  if [[ -n $(git status --porcelain) ]]; then
    echo "package.sh: there are changes that are not committed (--allow-dirty packages them)" >&2
    exit 1
  fi
  set -- "$@" --allow-dirty # cargo takes what is vendored for such a change
fi
vendor=$PWD/indexcache-sys/vendor
trap 'rm -rf "$vendor"' EXIT
../vendor.sh "$vendor"
cargo "$command" --workspace "$@"
