// SPDX-License-Identifier: Apache-2.0
// A latent token in fp8: 512 e4m3, a fp32 scale for each 128 of them, 64 bf16 of rotary part.
#pragma once

#include "core/dtype.h"

namespace ic::cuda {

constexpr int kFp8Latent = 512;
constexpr int kFp8Group = 128;  // elements of a scale
constexpr int kFp8ScalesAt = kFp8Latent;
constexpr int kFp8RopeAt = kFp8ScalesAt + 4 * (kFp8Latent / kFp8Group);
constexpr int kFp8TokenBytes = kFp8RopeAt + 2 * 64;
static_assert(kFp8TokenBytes == kMlaE4m3TokenBytes);

}  // namespace ic::cuda
