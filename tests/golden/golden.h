// SPDX-License-Identifier: Apache-2.0
// What the golden tests share: the model, its text, threads, and the golden values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine.h"
#include "evaluate.h"
#include "model.h"
#include "thread_pool.h"

namespace golden {

/// Golden losses of one schedule.
struct Losses {
  std::string pattern;
  double text = 0;
  std::vector<double> text_rows;
  double recall = 0;
};

/// name: all_full, searched_1_2, uniform_1_2, uniform_1_4 or uniform_1_8.
Losses losses(const std::string &name);

/// Golden values at some positions of text row 0; name: all_full or searched_1_2.
std::vector<int32_t> positions();
std::vector<float> logits(const std::string &name);                   ///< [positions, 256]
std::vector<int32_t> index_sets(const std::string &name, int layer);  ///< [positions, 64]; layers 0, 4, 9, 15

/// Loaded once per process.
const tiny_lm::Model &model();
tiny_lm::ThreadPool *pool();
tiny_lm::Corpus corpus();

/// |value / expected - 1|
double relative(double value, double expected);

}  // namespace golden
