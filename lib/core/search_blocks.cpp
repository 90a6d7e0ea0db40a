// SPDX-License-Identifier: Apache-2.0
#include "core/search_blocks.h"

#include <algorithm>

namespace ic {

GreedyWalk::GreedyWalk(const SearchPlan &plan) : num_full_(count_full(plan.start)), target_(plan.num_full) {
  const int32_t layers = plan.num_layers(), blocks = std::max(plan.num_blocks, 1);
  blocks_.resize(static_cast<size_t>(blocks));
  for (int32_t block = 0; block < blocks; ++block) {
    const int32_t end = first_layer_of_block(block + 1, blocks, layers);
    for (int32_t layer = first_layer_of_block(block, blocks, layers); layer < end; ++layer) {
      const size_t at = static_cast<size_t>(layer);
      if (plan.start[at] == 'F' && !plan.held[at]) blocks_[static_cast<size_t>(block)].push_back(layer);
    }
  }
  if (blocks_[0].empty()) pass_turn();
}

std::span<const int32_t> GreedyWalk::layers() const noexcept {
  if (reached()) return {};
  return blocks_[turn_];
}

void GreedyWalk::flip(int32_t layer) noexcept {
  std::vector<int32_t> &block = blocks_[turn_];
  block.erase(std::lower_bound(block.begin(), block.end(), layer));
  --num_full_;
  pass_turn();
}

void GreedyWalk::retire() noexcept {
  blocks_[turn_].clear();
  pass_turn();
}

void GreedyWalk::pass_turn() noexcept {
  for (size_t i = 0; i < blocks_.size(); ++i) {
    turn_ = (turn_ + 1) % blocks_.size();
    if (!blocks_[turn_].empty()) return;
  }
}

int64_t count_evaluations(GreedyWalk walk) noexcept {
  int64_t count = 0;
  while (!walk.layers().empty()) {
    count += static_cast<int64_t>(walk.layers().size());
    walk.flip(walk.layers().front());
  }
  return count;
}

}  // namespace ic
