#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# test.sh PREFIX: everything that must hold for the Go module. PREFIX is where the library is installed. staticcheck is
# put into .cache/go of the repository when it is not there.
set -euo pipefail
prefix=$(realpath "${1:?the prefix of an installed libindexcache}")
cd "$(dirname "${BASH_SOURCE[0]}")"
staticcheck=0.8.2
tools=$(realpath ../..)/.cache/go

if ! command -v go >/dev/null; then
  echo "Go 1.24 or newer is needed (https://go.dev/dl)" >&2
  exit 1
fi
pc=$(dirname "$(find "$prefix" -name indexcache.pc | head -n 1)")
export PKG_CONFIG_PATH=$pc LD_LIBRARY_PATH
LD_LIBRARY_PATH=$(dirname "$pc")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export CGO_ENABLED=1 GOFLAGS="${GOFLAGS:-} -buildvcs=false"
# Go's build cache knows neither what pkg-config has said nor the header: other flags for another library.
header=$(pkg-config --variable=includedir indexcache)/indexcache.h
CGO_CPPFLAGS=-DINDEXCACHE_HEADER=$(cat "$header" "$pc/indexcache.pc" | sha256sum | cut -c 1-16)
export CGO_CPPFLAGS

echo "== gofmt, go vet, staticcheck"
unformatted=$(gofmt -l .)
if [[ -n $unformatted ]]; then
  gofmt -d .
  exit 1
fi
go vet ./...
if [[ ! -x $tools/staticcheck || $("$tools/staticcheck" --version) != *"($staticcheck)"* ]]; then
  GOBIN=$tools go install "honnef.co/go/tools/cmd/staticcheck@v$staticcheck"
fi
"$tools/staticcheck" ./...

echo "== tests: race detector; rules of passing pointers, at calls and at every store"
GODEBUG=cgocheck=1 go test -count=1 -race ./...
GOEXPERIMENT=cgocheck2 go test -count=1 .

echo "== layout, and a module of a user"
python3 ../../tests/bindings/layout/agree.py go < <(./layout.sh)
./install_test.sh "$pc"
echo "the Go module is fine"
