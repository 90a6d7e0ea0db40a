// SPDX-License-Identifier: Apache-2.0
// The walk of the greedy strategies: whose turn it is, and which layers it may try. Greedy without blocks is a walk
// over one block. Knows no losses.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/search_plan.h"

namespace ic {

/// floor(block * num_layers / num_blocks + 1/2). Blocks whose sizes differ are spread evenly, and the counts of
/// evaluations are those that are published for 47 and 78 layers (paper, section 3).
constexpr int32_t first_layer_of_block(int32_t block, int32_t num_blocks, int32_t num_layers) noexcept {
  return static_cast<int32_t>((int64_t{2} * block * num_layers + num_blocks) / (int64_t{2} * num_blocks));
}

class GreedyWalk {
 public:
  explicit GreedyWalk(const SearchPlan &plan);

  /// Layers that the block whose turn it is may make Shared, ascending. Empty at the end: num_full is reached, or every
  /// block is done.
  std::span<const int32_t> layers() const noexcept;
  /// The block whose turn it is makes one of layers() Shared; the next one's turn.
  void flip(int32_t layer) noexcept;
  /// The block whose turn it is takes no further part; the next one's turn.
  void retire() noexcept;

  bool reached() const noexcept { return num_full_ == target_; }
  int32_t num_full() const noexcept { return num_full_; }

 private:
  void pass_turn() noexcept;

  std::vector<std::vector<int32_t>> blocks_;  // layers that are still Full and may be tried
  size_t turn_ = 0;
  int32_t num_full_;
  int32_t target_;
};

/// Evaluations of a walk in which no block retires. They do not depend on which layers are flipped.
int64_t count_evaluations(GreedyWalk walk) noexcept;

}  // namespace ic
