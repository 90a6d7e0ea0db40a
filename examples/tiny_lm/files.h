// SPDX-License-Identifier: Apache-2.0
// Reads a whole file, or says which one could not be read and why.
#pragma once

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "error.h"

namespace tiny_lm {

inline std::string read_file(const std::string &path) {
  if (std::filesystem::is_directory(path)) throw Error(kExitFile, path + ": is a directory");
  errno = 0;
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) throw Error(kExitFile, path + ": " + (errno != 0 ? std::strerror(errno) : "cannot be opened"));
  const std::streamoff size = file.tellg();
  if (size < 0) throw Error(kExitFile, path + ": has no size");
  std::string bytes(static_cast<size_t>(size), '\0');
  file.seekg(0);
  if (!file.read(bytes.data(), size)) throw Error(kExitFile, path + ": cannot be read to its end");
  return bytes;
}

}  // namespace tiny_lm
