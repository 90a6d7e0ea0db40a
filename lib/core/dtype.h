// SPDX-License-Identifier: Apache-2.0
// Element types: sizes and names.
#pragma once

#include <cstdint>

#include "indexcache.h"

namespace ic {

/// Bytes of one element; 0 for anything that is not an element type.
constexpr int64_t dtype_bytes(int32_t dtype) noexcept {
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

constexpr const char *dtype_name(int32_t dtype) noexcept {
  switch (dtype) {
    case IC_DTYPE_F32:
      return "fp32";
    case IC_DTYPE_F16:
      return "fp16";
    case IC_DTYPE_BF16:
      return "bf16";
    case IC_DTYPE_E4M3:
      return "e4m3";
    default:
      return "unknown";
  }
}

/// Bytes of one index key with its scale.
constexpr int64_t index_key_bytes(int32_t head_dim, int32_t dtype) noexcept {
  return head_dim * dtype_bytes(dtype) + (dtype == IC_DTYPE_E4M3 ? 4 : 0);
}

/// Bytes of one MLA token: d_latent + d_rope elements, or 512 e4m3 + 4 fp32 scales + 64 bf16.
constexpr int64_t kMlaE4m3TokenBytes = 656;
constexpr int64_t kv_token_bytes(int32_t d_latent, int32_t d_rope, int32_t kv_dtype) noexcept {
  return kv_dtype == IC_DTYPE_E4M3 ? kMlaE4m3TokenBytes : (d_latent + d_rope) * dtype_bytes(kv_dtype);
}

}  // namespace ic
