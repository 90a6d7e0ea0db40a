#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# layout.sh: prints sizes, offsets and values as Go has them. pkg-config must find the library, and so must the loader.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
header=$(pkg-config --variable=includedir indexcache)/indexcache.h
CGO_CPPFLAGS=-DINDEXCACHE_HEADER=$(sha256sum "$header" | cut -c 1-16) # Go's build cache does not know the header
export CGO_CPPFLAGS
export GOFLAGS="${GOFLAGS:-} -buildvcs=false"
exec go run ./internal/layout
