// SPDX-License-Identifier: Apache-2.0
// Array forms of the conversions, for code that is not worth a kernel of its own.
#include "cpu/convert.h"

#include <cstring>

#include "indexcache.h"

namespace ic::cpu {

namespace {

template <class Code, class Convert>
void widen(const void *src, float *dst, int64_t count, Convert convert) {
  const char *bytes = static_cast<const char *>(src);
  for (int64_t i = 0; i < count; ++i) {
    Code code;
    std::memcpy(&code, bytes + i * static_cast<int64_t>(sizeof code), sizeof code);
    dst[i] = convert(code);
  }
}

template <class Convert>
void narrow(const float *src, void *dst, int64_t count, Convert convert) {
  char *bytes = static_cast<char *>(dst);
  for (int64_t i = 0; i < count; ++i) {
    const auto code = convert(src[i]);
    std::memcpy(bytes + i * static_cast<int64_t>(sizeof code), &code, sizeof code);
  }
}

}  // namespace

int32_t dtype_bytes(int32_t dtype) {
  switch (dtype) {
    case IC_DTYPE_F32:
      return 4;
    case IC_DTYPE_F16:
    case IC_DTYPE_BF16:
      return 2;
    case IC_DTYPE_E4M3:
      return 1;
    default:
      return 0;
  }
}

void convert_to_f32(int32_t dtype, const void *src, float *dst, int64_t count) {
  switch (dtype) {
    case IC_DTYPE_F32:
      if (count > 0) std::memcpy(dst, src, static_cast<size_t>(count) * sizeof *dst);
      break;
    case IC_DTYPE_F16:
      widen<uint16_t>(src, dst, count, [](uint16_t code) { return f32_from_f16(code); });
      break;
    case IC_DTYPE_BF16:
      widen<uint16_t>(src, dst, count, [](uint16_t code) { return f32_from_bf16(code); });
      break;
    case IC_DTYPE_E4M3:
      widen<uint8_t>(src, dst, count, [](uint8_t code) { return f32_from_e4m3(code); });
      break;
    default:
      break;
  }
}

void convert_from_f32(int32_t dtype, const float *src, void *dst, int64_t count) {
  switch (dtype) {
    case IC_DTYPE_F32:
      if (count > 0) std::memcpy(dst, src, static_cast<size_t>(count) * sizeof *src);
      break;
    case IC_DTYPE_F16:
      narrow(src, dst, count, [](float value) { return f16_from_f32(value); });
      break;
    case IC_DTYPE_BF16:
      narrow(src, dst, count, [](float value) { return bf16_from_f32(value); });
      break;
    case IC_DTYPE_E4M3:
      narrow(src, dst, count, [](float value) { return e4m3_from_f32(value); });
      break;
    default:
      break;
  }
}

}  // namespace ic::cpu
