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
read -ra private <<<"$(pkg-config --static --libs-only-l indexcache)"
private=("${private[@]/-lindexcache/}")
archive=$(pkg-config --variable=archive indexcache)
for compiler in gcc clang-16; do
  echo "== pkg-config, C99, shared and static, $compiler"
  $compiler -std=c99 -Wall -Wextra -pedantic -Werror "${cflags[@]}" "$here/consumer.c" "${shared[@]}" -o "$work/shared"
  "$work/shared"
  $compiler -std=c99 -Wall -Wextra -pedantic -Werror "${cflags[@]}" "$here/consumer.c" "$archive" -lm -lpthread -ldl -o "$work/static"
  env -u LD_LIBRARY_PATH "$work/static"
done
echo "== pkg-config, C++, shared and static"
g++ -std=c++11 -Wall -Wextra -pedantic -Werror "${cflags[@]}" "$here/consumer.cpp" "${shared[@]}" -o "$work/shared"
"$work/shared"
g++ -std=c++11 -Wall -Wextra -pedantic -Werror "${cflags[@]}" "$here/consumer.cpp" "$archive" "${private[@]}" -o "$work/static"
env -u LD_LIBRARY_PATH "$work/static"
