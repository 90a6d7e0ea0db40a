// SPDX-License-Identifier: Apache-2.0
// Index scores for AVX-512: 4 heads x 4 registers.
#define IC_SCORE_VECTORS 4
#define IC_SCORE_HEADS 4
// clang-format off: the level comes first
#include "cpu/isa/simd_avx512.h"

#include "cpu/isa/score.inl"
// clang-format on

namespace ic::cpu {

const ScoreKernels kScoreAvx512 = {widen, pack, score};

}  // namespace ic::cpu
