// SPDX-License-Identifier: Apache-2.0
// Numerics ids: pinned numbers, since exported indices carry them.
#include "core/numerics.h"

#include <gtest/gtest.h>

#include "indexcache.h"

namespace ic {
namespace {

TEST(Numerics, IdsArePinned) {
  EXPECT_EQ(fma_chain_id(IC_DTYPE_F32), 0x4943000101000101u);
  EXPECT_EQ(fma_chain_id(IC_DTYPE_F16), 0x4943000101000102u);
  EXPECT_EQ(fma_chain_id(IC_DTYPE_BF16), 0x4943000101000103u);
  EXPECT_EQ(fma_chain_id(IC_DTYPE_E4M3), 0x4943000101000104u);
  EXPECT_EQ(wgmma_id(IC_DTYPE_E4M3), 0x4943000102090304u);
}

TEST(Numerics, EveryFieldTellsIdsApart) {
  const uint64_t id = make_numerics_id(ScoreFamily::kFmaChain, IC_DTYPE_BF16, 9, 1, 1);
  EXPECT_NE(id, make_numerics_id(ScoreFamily::kFmaChain, IC_DTYPE_F16, 9, 1, 1));
  EXPECT_NE(id, make_numerics_id(ScoreFamily::kFmaChain, IC_DTYPE_BF16, 8, 1, 1));
  EXPECT_NE(id, make_numerics_id(ScoreFamily::kFmaChain, IC_DTYPE_BF16, 9, 2, 1));
  EXPECT_NE(id, make_numerics_id(ScoreFamily::kFmaChain, IC_DTYPE_BF16, 9, 1, 2));
}

TEST(Numerics, BoundGrowsWithTheChains) {
  EXPECT_EQ(fma_chain_error_bound(64, 128), 200.0 / 16777216.0);
  EXPECT_LT(fma_chain_error_bound(32, 128), fma_chain_error_bound(64, 128));
}

}  // namespace
}  // namespace ic
