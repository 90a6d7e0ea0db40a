// SPDX-License-Identifier: Apache-2.0
// What surrounds a Full layer: preparation of queries and keys, the call of a Shared layer, logical indices to slots.
#include <string>
#include <vector>

#include "device.h"
#include "fill.h"
#include "full_layer.h"
#include "library.h"
#include "measure.h"

namespace bench {
namespace {

constexpr int32_t kRope = 64;

/// bf16 projections to rotated, Hadamard-transformed e4m3.
class Preparation {
 public:
  Preparation(int32_t rows, int32_t heads, int32_t num_sets)
      : rows_(rows),
        heads_(heads),
        indexer_(make_indexer(heads, kIndexDim, IC_DTYPE_E4M3)),
        x_(int64_t{num_sets} * rows * heads * kIndexDim),
        out_(int64_t{num_sets} * rows * heads * kIndexDim),
        scales_(int64_t{num_sets} * rows * heads),
        norm_(2 * kIndexDim),
        tables_(int64_t{rows} * kRope) {
    fill_normal(x_.data(), IC_DTYPE_BF16, x_.size(), 10);
    fill_normal(norm_.data(), IC_DTYPE_F32, norm_.size(), 11);
    fill_normal(tables_.data(), IC_DTYPE_F32, tables_.size(), 12);
    std::vector<int32_t> positions;
    std::vector<int64_t> slots;
    for (int32_t row = 0; row < rows; ++row) {
      positions.push_back(row);
      slots.push_back(row);
    }
    positions_ = DeviceArray<int32_t>(positions);
    slots_ = DeviceArray<int64_t>(slots);
    pool_ = DeviceArray<uint8_t>(int64_t{rows + 63} / 64 * 64 * (kIndexDim + 4));
  }

  void queries(int32_t set, ic_stream stream) {
    ic_prepare_args args = common(set);
    args.q_out = out_.at(int64_t{set} * rows_ * heads_ * kIndexDim);
    args.q_scale_out = scales_.at(int64_t{set} * rows_ * heads_);
    check(ic_indexer_prepare_queries(indexer_.get(), &args, stream));
  }

  void keys(int32_t set, ic_stream stream) {
    ic_pool pool = IC_POOL_INIT;
    pool.layout = IC_LAYOUT_PAGED;
    pool.data = pool_.data();
    pool.capacity = (rows_ + 63) / 64;
    ic_prepare_args args = common(set);
    args.norm_weight = norm_.data();
    args.norm_bias = norm_.at(kIndexDim);
    args.norm_eps = 1e-6f;
    args.pool = &pool;
    args.slots = slots_.data();
    args.page_tokens = 64;
    check(ic_indexer_prepare_keys(indexer_.get(), &args, stream));
  }

 private:
  ic_prepare_args common(int32_t set) const {
    ic_prepare_args args = IC_PREPARE_ARGS_INIT;
    args.x = x_.at(int64_t{set} * rows_ * heads_ * kIndexDim);
    args.count = rows_;
    args.x_dtype = IC_DTYPE_BF16;
    args.flags = IC_PREPARE_HADAMARD;
    args.positions = positions_.data();
    args.cos_table = tables_.data();
    args.sin_table = tables_.at(int64_t{rows_} * kRope / 2);
    args.num_positions = rows_;
    args.rope_dim = kRope;
    return args;
  }

  int32_t rows_;
  int32_t heads_;
  Owner<ic_indexer> indexer_;
  DeviceArray<uint16_t> x_;
  DeviceArray<uint8_t> out_;
  DeviceArray<float> scales_;
  DeviceArray<float> norm_;
  DeviceArray<float> tables_;
  DeviceArray<int32_t> positions_;
  DeviceArray<int64_t> slots_;
  DeviceArray<uint8_t> pool_;
};

void add_prepare(int32_t rows, int32_t heads) {
  const std::string place = "/rows:" + std::to_string(rows) + "/heads:" + std::to_string(heads);
  add("prepare_queries" + place, benchmark::kMicrosecond, [=](benchmark::State &state) {
    const int64_t bytes = int64_t{rows} * heads * (3 * kIndexDim + 4);
    const int32_t sets = sets_past_l2(bytes);
    Preparation preparation(rows, heads, sets);
    measure(state, sets, Figure::kMedian,
            [&](int32_t set, uint64_t, ic_stream stream) { preparation.queries(set, stream); });
    state.counters["B/s"] =
        benchmark::Counter(static_cast<double>(bytes), benchmark::Counter::kIsIterationInvariantRate);
  });
}

void add_prepare_keys(int32_t rows) {
  add("prepare_keys/rows:" + std::to_string(rows), benchmark::kMicrosecond, [=](benchmark::State &state) {
    const int64_t bytes = int64_t{rows} * (3 * kIndexDim + 4);
    const int32_t sets = sets_past_l2(bytes);
    Preparation preparation(rows, 1, sets);
    measure(state, sets, Figure::kMedian,
            [&](int32_t set, uint64_t, ic_stream stream) { preparation.keys(set, stream); });
    state.counters["B/s"] =
        benchmark::Counter(static_cast<double>(bytes), benchmark::Counter::kIsIterationInvariantRate);
  });
}

/// Sequences of 32K keys in pages of 64. Each call is a generation of its own that keeps the publication, because a
/// second remap into the same arrays would do nothing.
void add_remap(int32_t requests, int32_t rows_per_request) {
  const LayerShape shape{64, requests, rows_per_request, 32768, 64};
  add("remap/rows:" + std::to_string(shape.rows()), benchmark::kMicrosecond, [=](benchmark::State &state) {
    FullLayer layer(shape, 1, shape.rows());
    layer.forward(0, 0, nullptr);
    BENCH_CUDA(cudaDeviceSynchronize());
    constexpr int32_t kSets = 3;
    const DeviceArray<int32_t> slots(int64_t{kSets} * shape.rows() * kTopK);
    const DeviceArray<int32_t> lengths(int64_t{kSets} * shape.rows());
    measure(state, kSets, Figure::kEager, [&](int32_t set, uint64_t, ic_stream stream) {
      ic_batch batch = layer.batch_of(0, 0, shape.rows());
      batch.flags = IC_BATCH_KEEP;
      check(ic_cache_begin(layer.cache(), &batch));
      ic_remap_args args = IC_REMAP_ARGS_INIT;
      args.layout = IC_LAYOUT_PAGED;
      args.slots = slots.at(int64_t{set} * shape.rows() * kTopK);
      args.lengths = lengths.at(int64_t{set} * shape.rows());
      check(ic_cache_remap(layer.cache(), &args, nullptr, stream));
    });
    const double bytes = 8.0 * shape.rows() * kTopK;
    state.counters["B/s"] = benchmark::Counter(bytes, benchmark::Counter::kIsIterationInvariantRate);
  });
}

/// Time on the host: there is no work for the device.
void shared_layer(benchmark::State &state) {
  try {
    const LayerShape shape{64, 1, 1, 32768, 64};
    FullLayer layer(shape, 1, 1);
    layer.forward(0, 0, nullptr);
    ic_forward_args args = IC_FORWARD_ARGS_INIT;
    args.layer = 1;
    args.row_count = IC_ALL_ROWS;
    for (auto _ : state) {
      ic_index_view view = IC_INDEX_VIEW_INIT;
      check(ic_forward(layer.cache(), &args, &view, nullptr));
      benchmark::DoNotOptimize(view);
    }
  } catch (const std::exception &error) {
    state.SkipWithError(error.what());
  }
}
BENCHMARK(shared_layer)->Unit(benchmark::kMicrosecond);

const bool kRegistered = [] {
  add_prepare(8192, 64);
  add_prepare(64, 64);
  add_prepare_keys(8192);
  add_prepare_keys(64);
  add_remap(1, 8192);
  add_remap(64, 1);
  return true;
}();

}  // namespace
}  // namespace bench
