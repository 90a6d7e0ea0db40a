// SPDX-License-Identifier: Apache-2.0
// Index scores in plain C++.
#define IC_SCORE_VECTORS 1
#define IC_SCORE_HEADS 4
// clang-format off: the level comes first
#include "cpu/isa/simd_portable.h"

#include "cpu/isa/score.inl"
// clang-format on

namespace ic::cpu {

const ScoreKernels kScorePortable = {widen, pack, score};

}  // namespace ic::cpu
