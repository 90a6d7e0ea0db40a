// SPDX-License-Identifier: Apache-2.0
// Index scores for AVX2: 4 heads x 2 registers.
#define IC_SCORE_VECTORS 1
#define IC_SCORE_HEADS 4
// clang-format off: the level comes first
#include "cpu/isa/simd_avx2.h"

#include "cpu/isa/score.inl"
// clang-format on

namespace ic::cpu {

const ScoreKernels kScoreAvx2 = {widen, pack, score};

}  // namespace ic::cpu
