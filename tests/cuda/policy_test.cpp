// SPDX-License-Identifier: Apache-2.0
// Which of Hopper's selections a call gets, with the numbers of an H200. Host code: no GPU is asked.
#include <gtest/gtest.h>

#include <map>

#include "kernels/policy/sm90.h"

namespace ic::cuda::sm90 {
namespace {

LaunchLimits h200(int32_t max_ctas = 0) {
  LaunchLimits limits{132, max_ctas, 90, true};
  limits.resident_clusters[2] = 66;
  limits.resident_clusters[3] = 39;
  limits.resident_clusters[4] = 30;
  limits.resident_clusters[8] = 15;
  return limits;
}

SelectVariant select(int32_t rows, int32_t max_end, int32_t max_ctas = 0) {
  return select_variant(rows, max_end, 2048, h200(max_ctas));
}

TEST(Sm90Policy, FewLongRowsTakeTheLargestClustersThatRunAtOnce) {
  EXPECT_EQ(select(1, 131072), SelectVariant::kEightWindows);
  EXPECT_EQ(select(15, 131072), SelectVariant::kEightWindows);
  EXPECT_EQ(select(16, 131072), SelectVariant::kFourWindows);
  EXPECT_EQ(select(31, 131072), SelectVariant::kThreeWindows);
  EXPECT_EQ(select(40, 131072), SelectVariant::kTwoWindows);
  EXPECT_EQ(select(67, 131072), SelectVariant::kOneWindow);
  EXPECT_EQ(select(15, 10000), SelectVariant::kEightWindows);
  EXPECT_EQ(select(16, 10000), SelectVariant::kOneWindow);
  EXPECT_EQ(select(1, 9000), SelectVariant::kOneWindow);
}

TEST(Sm90Policy, ManyRowsByTheirLength) {
  EXPECT_EQ(select(133, 9000), SelectVariant::kSmallRows);
  EXPECT_EQ(select(4096, 32768), SelectVariant::kMediumRows);
  EXPECT_EQ(select(4096, 131072), SelectVariant::kListedRows);
  EXPECT_EQ(select(4096, 204800), SelectVariant::kListedRows);
  EXPECT_EQ(select(4096, 262144), SelectVariant::kOneWindow);
}

TEST(Sm90Policy, WhatHopperDoesNotServe) {
  EXPECT_EQ(select(1, 2048), SelectVariant::kPortable);
  EXPECT_EQ(select(1, kMostColumns + 1), SelectVariant::kPortable);
  EXPECT_EQ(select_variant(1, 131072, kMostSelected + 1, h200()), SelectVariant::kPortable);
}

TEST(Sm90Policy, ALimitOfBlocksIsKept) {
  const std::map<SelectVariant, int32_t> clusters = {{SelectVariant::kTwoWindows, 2},
                                                     {SelectVariant::kThreeWindows, 3},
                                                     {SelectVariant::kFourWindows, 4},
                                                     {SelectVariant::kEightWindows, 8}};
  for (int32_t max_ctas = 1; max_ctas < 140; ++max_ctas) {
    for (int32_t rows = 1; rows < 140; ++rows) {
      for (const int32_t max_end : {2049, 10000, 40000, 131072, kMostColumns}) {
        const SelectVariant variant = select(rows, max_end, max_ctas);
        ASSERT_NE(variant, SelectVariant::kPortable) << rows << " x " << max_end << ", blocks " << max_ctas;
        const auto cluster = clusters.find(variant);
        if (cluster == clusters.end()) continue;
        ASSERT_LE(rows * cluster->second, max_ctas) << rows << " x " << max_end;
      }
    }
  }
}

}  // namespace
}  // namespace ic::cuda::sm90
