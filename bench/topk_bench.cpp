// SPDX-License-Identifier: Apache-2.0
// Stand-alone selection on one core: columns per second for data that is usual and data that is meant to hurt.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cpu/executor.h"
#include "cpu/select.h"
#include "cpu/workers.h"
#include "indexcache.h"

namespace {

using ic::cpu::Executor;
using ic::cpu::Isa;
using ic::cpu::Workers;

enum class Data { kRandom, kAscending, kAllEqual, kReluZeros, kRandomBits };
constexpr struct {
  Data data;
  const char *name;
} kData[] = {{Data::kRandom, "random"},
             {Data::kAscending, "ascending"},
             {Data::kAllEqual, "all_equal"},
             {Data::kReluZeros, "relu_zeros"},
             {Data::kRandomBits, "random_bits"}};

std::vector<float> make_scores(Data data, int64_t count, int64_t columns) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> scores(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    float &score = scores[static_cast<size_t>(i)];
    if (data == Data::kRandom) score = normal(random);
    if (data == Data::kAscending) score = static_cast<float>(i % columns);
    if (data == Data::kAllEqual) score = 1.0f;
    if (data == Data::kReluZeros) score = std::max(normal(random) - 2.5f, 0.0f);  // 0.6 % are not zero
    if (data == Data::kRandomBits) {
      const auto bits = static_cast<uint32_t>(random());
      __builtin_memcpy(&score, &bits, 4);
    }
  }
  return scores;
}

void select(benchmark::State &state, Data data, Isa isa, int32_t columns, int32_t k) {
  constexpr int32_t kRows = 8;
  const std::vector<float> scores = make_scores(data, int64_t{kRows} * columns, columns);
  const std::vector<int32_t> end(kRows, columns);
  const int32_t k_padded = (k + 127) / 128 * 128;
  std::vector<int32_t> indices(static_cast<size_t>(kRows * k_padded)), lengths(kRows);
  Workers workers(1);
  const Executor executor{isa, &workers};
  const size_t size = ic::cpu::select_workspace_size(executor, kRows, columns, k);
  const std::unique_ptr<void, decltype(&std::free)> workspace(std::aligned_alloc(256, size), &std::free);
  const ic::SelectionOut out{indices.data(), lengths.data(), nullptr, k_padded, k, k_padded, IC_ORDER_POSITION, 0};
  const ic::SelectParams params{scores.data(), columns, nullptr,         end.data(), kRows,
                                columns,       out,     workspace.get(), size};
  for (auto _ : state) ic::cpu::select(executor, params);
  state.counters["columns/s"] =
      benchmark::Counter(static_cast<double>(kRows) * columns, benchmark::Counter::kIsIterationInvariantRate);
}

const bool kRegistered = [] {
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
    if (!ic::cpu::isa_available(isa)) continue;
    for (const auto &[data, name] : kData) {
      for (const auto &[columns, k] : {std::pair{2048, 64}, {32768, 2048}, {131072, 2048}}) {
        benchmark::RegisterBenchmark(("select/" + std::string(name) + "/" + std::to_string(columns) +
                                      "/k:" + std::to_string(k) + "/" + ic::cpu::isa_name(isa))
                                         .c_str(),
                                     select, data, isa, columns, k)
            ->Unit(benchmark::kMicrosecond);
      }
    }
  }
  return true;
}();

}  // namespace
