#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# install_test.sh FOLDER: what a user does who has read the README only: a module outside of the repository, the README's
# example, the module from a folder, and the library from where pkg-config finds it (FOLDER has indexcache.pc).
set -euo pipefail
pc=$(realpath "$1")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/indexcache-go.XXXXXX")
trap 'rm -rf "$work"' EXIT
unset PKG_CONFIG_PATH LD_LIBRARY_PATH CGO_CFLAGS CGO_CPPFLAGS CGO_LDFLAGS
export GOFLAGS=-buildvcs=false GOPROXY=off

cp -r "$here" "$work/module" # nothing of the rest of the repository is needed
mkdir "$work/project"
cd "$work/project"
# shellcheck disable=SC2016 # no expansion is meant
sed -n '/^```go$/,/^```$/{/^```/d;p}' "$work/module/README.md" >main.go
go mod init example.org/user 2>/dev/null
go mod edit -require=libindexcache.invalid/go@v0.1.0 -replace=libindexcache.invalid/go="$work/module"

# decodes WHAT COMMAND…: the program that was just built says what the example says
decodes() {
  local said
  said=$("${@:2}" ./user)
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

PKG_CONFIG_PATH=$pc go build -o user .
decodes "shared library" env LD_LIBRARY_PATH="$(dirname "$pc")"
flags=$(PKG_CONFIG_PATH=$pc pkg-config --variable=static_libs indexcache)
CGO_LDFLAGS="$flags -Wl,--as-needed" PKG_CONFIG_PATH=$pc go build -o user .
decodes "static library" env

# Go's build cache does not know what pkg-config has said: other flags make it ask again.
refuses indexcache.pc env CGO_CPPFLAGS=-DASK_AGAIN=1 go build -o user .
mkdir -p "$work/other/lib/pkgconfig" "$work/other/include"
cp "$pc/indexcache.pc" "$work/other/lib/pkgconfig"
header=$(PKG_CONFIG_PATH=$pc pkg-config --variable=includedir indexcache)/indexcache.h
sed 's/^#define IC_VERSION_MINOR .*/#define IC_VERSION_MINOR 999/' "$header" >"$work/other/include/indexcache.h"
refuses "libindexcache 0.1.x" env CGO_CPPFLAGS=-DASK_AGAIN=2 PKG_CONFIG_PATH="$work/other/lib/pkgconfig" go build -o user .
