// SPDX-License-Identifier: Apache-2.0
// Reader of .safetensors files. Nothing in the file is believed before it has been checked.
#include "safetensors.h"

#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>

#include "error.h"
#include "files.h"

namespace tiny_lm {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian, and so is this reader");

std::string shape_text(const std::vector<int64_t> &shape) {
  std::string text = "[";
  for (const int64_t extent : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
  return text + "]";
}

size_t element_size(const std::string &dtype) {
  if (dtype == "BF16") return 2;
  if (dtype == "F32" || dtype == "I32") return 4;
  throw Error(kExitFile, "dtype " + dtype + "; known: BF16, F32, I32");
}

Tensor parse_tensor(const nlohmann::json &entry, const std::byte *data, size_t data_size) {
  Tensor tensor;
  tensor.dtype = entry.at("dtype").get<std::string>();
  tensor.shape = entry.at("shape").get<std::vector<int64_t>>();
  const auto offsets = entry.at("data_offsets").get<std::vector<uint64_t>>();
  if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > data_size) {
    throw Error(kExitFile, "data_offsets outside the file");
  }
  const size_t size = offsets[1] - offsets[0];
  const size_t element = element_size(tensor.dtype);
  tensor.count = 1;
  for (const int64_t extent : tensor.shape) {
    if (extent < 0 || (extent != 0 && tensor.count > size / static_cast<size_t>(extent))) {
      throw Error(kExitFile, "shape " + shape_text(tensor.shape) + " does not fit into its bytes");
    }
    tensor.count *= static_cast<size_t>(extent);
  }
  if (tensor.count * element != size) {
    throw Error(kExitFile, "shape " + shape_text(tensor.shape) + " does not fit into its bytes");
  }
  tensor.data = data + offsets[0];
  return tensor;
}

float bf16_to_float(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

}  // namespace

Safetensors::Safetensors(const std::string &path) : path_(path), bytes_(read_file(path)) {
  uint64_t header_size = 0;
  if (bytes_.size() < sizeof header_size) throw Error(kExitFile, path + ": too short for a safetensors file");
  std::memcpy(&header_size, bytes_.data(), sizeof header_size);
  if (header_size > bytes_.size() - sizeof header_size) {
    throw Error(kExitFile, path + ": not a safetensors file, or cut short");
  }
  const size_t data_begin = sizeof header_size + static_cast<size_t>(header_size);
  const auto *data = reinterpret_cast<const std::byte *>(bytes_.data()) + data_begin;
  std::string name = "header";
  try {
    const auto header = nlohmann::json::parse(bytes_.begin() + sizeof header_size,
                                              bytes_.begin() + static_cast<std::ptrdiff_t>(data_begin));
    for (const auto &[key, entry] : header.items()) {
      name = key;
      if (key != "__metadata__") tensors_.emplace(key, parse_tensor(entry, data, bytes_.size() - data_begin));
    }
  } catch (const Error &error) {
    throw Error(kExitFile, path + ": " + name + ": " + error.what());
  } catch (const nlohmann::json::exception &error) {
    throw Error(kExitFile, path + ": " + name + ": " + error.what());
  }
}

const Tensor &Safetensors::get(const std::string &name, const std::vector<int64_t> &shape) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) throw Error(kExitFile, path_ + ": has no tensor " + name);
  if (found->second.shape != shape) {
    throw Error(kExitFile, path_ + ": " + name + " has shape " + shape_text(found->second.shape) + ", expected " +
                               shape_text(shape));
  }
  return found->second;
}

std::vector<float> Safetensors::floats(const std::string &name, const std::vector<int64_t> &shape) const {
  const Tensor &tensor = get(name, shape);
  std::vector<float> values(tensor.count);
  if (tensor.dtype == "F32") {
    std::memcpy(values.data(), tensor.data, tensor.count * sizeof(float));
  } else if (tensor.dtype == "BF16") {
    for (size_t i = 0; i < tensor.count; ++i) {
      uint16_t bits = 0;
      std::memcpy(&bits, tensor.data + i * sizeof bits, sizeof bits);
      values[i] = bf16_to_float(bits);
    }
  } else {
    throw Error(kExitFile, path_ + ": " + name + " has dtype " + tensor.dtype + ", expected BF16 or F32");
  }
  return values;
}

std::vector<int32_t> Safetensors::int32s(const std::string &name, const std::vector<int64_t> &shape) const {
  const Tensor &tensor = get(name, shape);
  if (tensor.dtype != "I32")
    throw Error(kExitFile, path_ + ": " + name + " has dtype " + tensor.dtype + ", expected I32");
  std::vector<int32_t> values(tensor.count);
  std::memcpy(values.data(), tensor.data, tensor.count * sizeof(int32_t));
  return values;
}

}  // namespace tiny_lm
