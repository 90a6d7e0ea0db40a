// SPDX-License-Identifier: Apache-2.0
// Top-k alone: ic_topk_select on fp32 scores, checked for exactness in the same run. Clustered scores, as indexers make
// them; for some shapes also normal and all-equal ones, to see how much the data matters.
#include <stdexcept>
#include <string>
#include <vector>

#include "device.h"
#include "fill.h"
#include "full_layer.h"
#include "library.h"
#include "measure.h"

namespace bench {
namespace {

enum class Data { kClustered, kNormal, kEqual };

class Selection {
 public:
  Selection(int32_t rows, int32_t length, int32_t num_sets, Data data)
      : rows_(rows),
        length_(length),
        topk_(make_topk(kTopK)),
        scores_(int64_t{num_sets} * rows * length),
        end_(std::vector<int32_t>(static_cast<size_t>(rows), length)),
        indices_(int64_t{rows} * kTopK),
        lengths_(rows) {
    if (data == Data::kClustered) fill_clustered_scores(scores_.data(), int64_t{num_sets} * rows, length, 5);
    if (data == Data::kNormal) fill_normal(scores_.data(), IC_DTYPE_F32, scores_.size(), 5);
    if (data == Data::kEqual) BENCH_CUDA(cudaMemset(scores_.data(), 0x3f, 4 * static_cast<size_t>(scores_.size())));
    check(ic_topk_select_workspace_size(topk_.get(), rows, length, &workspace_size_));
    workspace_ = DeviceArray<uint8_t>(static_cast<int64_t>(workspace_size_));
  }

  void run(int32_t set, ic_stream stream) {
    ic_select_args args = IC_SELECT_ARGS_INIT;
    args.scores = scores_.at(int64_t{set} * rows_ * length_);
    args.end = end_.data();
    args.num_rows = rows_;
    args.max_end = length_;
    args.indices = indices_.data();
    args.lengths = lengths_.data();
    args.workspace = workspace_.data();
    args.workspace_size = workspace_size_;
    check(ic_topk_select(topk_.get(), &args, stream));
  }

  void verify() {
    run(0, nullptr);
    BENCH_CUDA(cudaDeviceSynchronize());
    const int64_t wrong =
        count_wrong_rows(scores_.data(), rows_, length_, indices_.data(), kTopK, lengths_.data(), kTopK);
    if (wrong > 0) throw std::runtime_error(std::to_string(wrong) + " rows are not the exact top-k");
  }

 private:
  int32_t rows_;
  int32_t length_;
  Owner<ic_topk> topk_;
  DeviceArray<float> scores_;
  DeviceArray<int32_t> end_;
  DeviceArray<int32_t> indices_;
  DeviceArray<int32_t> lengths_;
  size_t workspace_size_ = 0;
  DeviceArray<uint8_t> workspace_;
};

void add_topk(int32_t rows, int32_t length, Data data = Data::kClustered) {
  std::string name = "topk/rows:" + std::to_string(rows) + "/length:" + std::to_string(length / 1024) + "K";
  if (data == Data::kNormal) name += "/data:normal";
  if (data == Data::kEqual) name += "/data:equal";
  add(name, benchmark::kMicrosecond, [=](benchmark::State &state) {
    const int64_t bytes = int64_t{4} * rows * length;
    const int32_t sets = sets_past_l2(bytes);
    Selection selection(rows, length, sets, data);
    selection.verify();
    measure(state, sets, Figure::kMedian, [&](int32_t set, uint64_t, ic_stream stream) { selection.run(set, stream); });
    state.counters["B/s"] =
        benchmark::Counter(static_cast<double>(bytes), benchmark::Counter::kIsIterationInvariantRate);
  });
}

const bool kRegistered = [] {
  for (const int32_t length : {8192, 32768, 131072, 204800}) add_topk(4096, length);
  for (const int32_t length : {32768, 131072, 204800}) add_topk(1, length);
  for (const int32_t rows : {32, 64, 128}) add_topk(rows, 131072);
  for (const int32_t rows : {4096, 1})
    for (const Data data : {Data::kNormal, Data::kEqual}) add_topk(rows, 131072, data);
  return true;
}();

}  // namespace
}  // namespace bench
