#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# consumers.sh BUILD_DIR: installs, moves the tree to another prefix, then builds and runs programs that use it from there.
set -euo pipefail
build=$1
here=$(cd "$(dirname "$0")" && pwd)
work=$build/install-test
rm -rf "$work"
mkdir -p "$work"

echo "== install into one prefix, move to another"
cmake --install "$build" --prefix "$work/first" >"$work/install.log"
mv "$work/first" "$work/moved"
prefix=$work/moved
if grep -rlF "$work/first" "$prefix"; then
  echo "the files above name the prefix of the installation" >&2
  exit 1
fi

echo "== find_package"
cmake -G Ninja -S "$here" -B "$work/find_package" -DCMAKE_PREFIX_PATH="$prefix" >"$work/configure.log"
cmake --build "$work/find_package"
ctest --test-dir "$work/find_package" --output-on-failure

PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name indexcache.pc)")
LD_LIBRARY_PATH=$(dirname "$PKG_CONFIG_PATH")
export PKG_CONFIG_PATH LD_LIBRARY_PATH
read -ra cflags <<<"$(pkg-config --cflags indexcache)"
read -ra shared <<<"$(pkg-config --libs indexcache)"
read -ra static <<<"$(pkg-config --variable=static_libs indexcache)"
warnings=(-Wall -Wextra -pedantic -Werror)

# build_and_run COMPILER…: as the arguments say, against the shared and the static library
build_and_run() {
  echo "== pkg-config: $*"
  "$@" "${warnings[@]}" "${cflags[@]}" "${shared[@]}" -o "$work/shared"
  "$work/shared"
  "$@" "${warnings[@]}" "${cflags[@]}" "${static[@]}" -o "$work/static"
  env -u LD_LIBRARY_PATH "$work/static"
}
build_and_run gcc -std=c99 "$here/consumer.c"
build_and_run clang-16 -std=c99 "$here/consumer.c"
build_and_run g++ -std=c++11 "$here/consumer.cpp"
build_and_run clang++-16 -std=c++20 "$here/consumer.cpp"

# The .pc file finds its prefix at every depth of libdir; an absolute libdir stays where it is.
for libdir in lib64 lib/x86_64-linux-gnu "$work/absolute/lib"; do
  echo "== pkg-config: libdir $libdir"
  cmake -G Ninja -S "$here/../.." -B "$work/libdir" -DCMAKE_INSTALL_PREFIX="$work/prefix" -DCMAKE_INSTALL_LIBDIR="$libdir" \
    -DINDEXCACHE_CUDA=OFF -DINDEXCACHE_BUILD_TESTS=OFF -DINDEXCACHE_BUILD_EXAMPLES=OFF >"$work/configure.log"
  case $libdir in /*) pc_dir=$libdir/pkgconfig ;; *) pc_dir=$work/prefix/$libdir/pkgconfig ;; esac
  mkdir -p "$pc_dir" "$work/prefix/include"
  cp "$work/libdir/indexcache.pc" "$pc_dir"
  libs=$(PKG_CONFIG_PATH=$pc_dir pkg-config --variable=libdir indexcache)
  includes=$(PKG_CONFIG_PATH=$pc_dir pkg-config --variable=includedir indexcache)
  [[ $(realpath "$libs") == "${pc_dir%/pkgconfig}" && $(realpath "$includes") == "$work/prefix/include" ]]
done
