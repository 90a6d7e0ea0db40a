// SPDX-License-Identifier: Apache-2.0
// Reader of .safetensors files: 8 bytes of header length, a JSON header, then the tensors' bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace tiny_lm {

/// One tensor, row-major; its bytes stay in the file object.
struct Tensor {
  std::string dtype;  ///< as in the file: "BF16", "F32", "I32"
  std::vector<int64_t> shape;
  const std::byte *data = nullptr;
  size_t count = 0;  ///< elements
};

/// A file held in memory. Every offset has been checked against its size.
class Safetensors {
 public:
  /// Throws Error (kExitFile) when the file cannot be read or contradicts itself.
  explicit Safetensors(const std::string &path);
  Safetensors(const Safetensors &) = delete;
  Safetensors &operator=(const Safetensors &) = delete;

  /// Throws Error (kExitFile) when the tensor is absent or has another shape.
  const Tensor &get(const std::string &name, const std::vector<int64_t> &shape) const;

  /// Values of a BF16 or F32 tensor as fp32.
  std::vector<float> floats(const std::string &name, const std::vector<int64_t> &shape) const;

  /// Values of an I32 tensor.
  std::vector<int32_t> int32s(const std::string &name, const std::vector<int64_t> &shape) const;

 private:
  std::string path_;
  std::string bytes_;
  std::map<std::string, Tensor> tensors_;
};

}  // namespace tiny_lm
