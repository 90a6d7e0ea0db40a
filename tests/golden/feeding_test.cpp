// SPDX-License-Identifier: Apache-2.0
// The same text fed at once, in odd chunks and token by token: the same losses.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "golden.h"

namespace {

double mean_loss(tiny_lm::Engine *engine, const std::vector<tiny_lm::Window> &windows,
                 const std::function<int(int)> &chunk) {
  double sum = 0;
  for (const tiny_lm::Window &window : windows) {
    const std::vector<double> losses = window_losses(engine, window, chunk);
    EXPECT_EQ(losses.size(), static_cast<size_t>(tiny_lm::kWindow));
    sum += std::accumulate(losses.begin(), losses.end(), 0.0);
  }
  return sum / static_cast<double>(windows.size() * tiny_lm::kWindow);
}

TEST(GoldenFeeding, OddChunksGiveTheSameLosses) {
  const std::string pattern = golden::losses("searched_1_2").pattern;
  tiny_lm::Engine engine(golden::model(), pattern, golden::device(), golden::pool());
  std::vector<tiny_lm::Window> windows = golden::corpus().text;
  windows.resize(4);
  const double at_once = mean_loss(&engine, windows, [](int left) { return left; });
  const int sizes[] = {1, 63, 64, 65, 7, 128, 129, 1, 500, 3};
  size_t next = 0;
  const double in_chunks =
      mean_loss(&engine, windows, [&](int left) { return std::min(left, sizes[next++ % std::size(sizes)]); });
  EXPECT_LE(golden::relative(in_chunks, at_once), 1e-5);
}

TEST(GoldenFeeding, TokenByTokenGivesTheSameLosses) {
  const std::string pattern = golden::losses("searched_1_2").pattern;
  tiny_lm::Engine engine(golden::model(), pattern, golden::device(), golden::pool());
  const std::vector<tiny_lm::Window> windows = {golden::corpus().text[1]};
  const double at_once = mean_loss(&engine, windows, [](int left) { return left; });
  const double by_token = mean_loss(&engine, windows, [](int) { return 1; });
  EXPECT_LE(golden::relative(by_token, at_once), 1e-5);
}

// Attention inside ic_forward, as an engine would run it, has the bits of attention in a call of its own.
TEST(GoldenFeeding, OneCallPerLayerGivesTheSameBits) {
  const std::string pattern = golden::losses("searched_1_2").pattern;
  const tiny_lm::Window window = golden::corpus().text[2];
  tiny_lm::EngineOptions options;
  tiny_lm::Engine apart(golden::model(), pattern, golden::device(), golden::pool(), options);
  options.one_call_per_layer = true;
  tiny_lm::Engine together(golden::model(), pattern, golden::device(), golden::pool(), options);
  const tiny_lm::Matrix expected = apart.feed(window.data(), tiny_lm::kWindow);
  const tiny_lm::Matrix found = together.feed(window.data(), tiny_lm::kWindow);
  EXPECT_TRUE(expected == found);
}

}  // namespace
