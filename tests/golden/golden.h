// SPDX-License-Identifier: Apache-2.0
// What the golden tests share: the model, its text, device and threads, and the golden values.
//
// Environment: INDEXCACHE_GOLDEN_DEVICE is cpu (default) or cuda. Where the tests run elsewhere than they were built,
// INDEXCACHE_SOURCE_DIR is the source tree (tests/golden and examples/tiny_lm/model are read), TINY_LM_PROGRAM tiny_lm.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "device.h"
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
tiny_lm::Device *device();
tiny_lm::Corpus corpus();

/// "cpu" or "cuda".
std::string device_option();

/// Folder of the model, and the program tiny_lm.
std::string model_folder();
std::string program();

/// Values of the library's memory, when all that was enqueued has run.
template <class T>
std::vector<T> read_device(const T *values, int64_t count) {
  const auto n = static_cast<size_t>(count);
  tiny_lm::SharedArray<T> host(device(), n);
  device()->copy(host.data(), values, n * sizeof(T));
  device()->wait();
  return std::vector<T>(host.data(), host.data() + n);
}

/// |value / expected - 1|
double relative(double value, double expected);

}  // namespace golden
