#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# vendor.sh FOLDER: fills FOLDER with what a source package needs to build the library with CMake and nothing else: our
# sources, and nlohmann-json as it is installed here, under third_party/.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
to=$1
rm -rf "$to"
mkdir -p "$to/third_party/include" "$to/third_party/share/cmake"
for name in CMakeLists.txt LICENSE cmake include kernels lib pkgconfig; do
  cp -R "$root/$name" "$to/$name"
done

json=$(PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 pkg-config --cflags-only-I nlohmann_json | sed "s/^-I//; s/ *$//")
prefix=${json%/include}
cp -R "$json/nlohmann" "$to/third_party/include/"
cp -R "$prefix/share/cmake/nlohmann_json" "$to/third_party/share/cmake/"
license=$prefix/share/doc/nlohmann-json3-dev/copyright # Debian's place for it
if [[ ! -f $license ]]; then
  echo "vendor.sh: the license of nlohmann-json is not at $license" >&2
  exit 1
fi
cp "$license" "$to/third_party/LICENSE.nlohmann_json"
