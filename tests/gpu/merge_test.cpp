// SPDX-License-Identifier: Apache-2.0
// Merging per-part selections on the GPU: the CPU backend's bits, for parts in any order.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "core/backend.h"
#include "tests/gpu/backends.h"
#include "tests/gpu/captured.h"
#include "tests/gpu/selection.h"

namespace ic::test {
namespace {

struct MergeShape {
  int32_t parts = 4;
  int32_t rows = 5;
  Wanted wanted;
  Kind kind = Kind::kGaussian;
  int32_t in_pad = 0;    // entries between rows of the parts
  bool full = false;     // every part has k entries
  bool illegal = false;  // lengths out of range, -1 among the indices
  bool unaligned = false;
};

/// Parts whose positions interleave; entry order ascending, by score or shuffled, part by part.
class MergeProblem {
 public:
  MergeProblem(const MergeShape &shape, uint32_t seed) : shape_(shape), random_(seed) { redraw(); }

  void redraw() {
    const int32_t k = shape_.wanted.k;
    const auto entries = static_cast<size_t>(part_stride() * shape_.parts);
    indices.assign(entries, 123456789);
    scores.assign(entries, 1e35f);
    lengths.assign(static_cast<size_t>(length_stride() * shape_.parts), 1 << 29);
    Draw draw(random_());
    std::vector<float> row(static_cast<size_t>(k));
    std::vector<int32_t> order(static_cast<size_t>(k));
    for (int32_t part = 0; part < shape_.parts; ++part) {
      for (int32_t r = 0; r < shape_.rows; ++r) {
        const int32_t length = shape_.full ? k : static_cast<int32_t>(random_() % static_cast<uint32_t>(k + 1));
        fill_row(shape_.kind, row.data(), length, &draw);
        std::iota(order.begin(), order.end(), 0);
        const auto end = order.begin() + length;
        if (part % 3 == 1) {
          std::sort(order.begin(), end, [&](int32_t a, int32_t b) {
            const auto value = [&](int32_t i) {
              const float x = row[static_cast<size_t>(i)];
              return x == x ? x : -std::numeric_limits<float>::infinity();
            };
            return value(a) != value(b) ? value(a) > value(b) : a < b;
          });
        } else if (part % 3 == 2) {
          std::shuffle(order.begin(), end, random_);
        }
        const bool blocks = r % 2 == 1;  // ranges, the last part first, instead of every parts-th key
        for (int32_t i = 0; i < length; ++i) {
          const auto at = static_cast<size_t>(part * part_stride() + r * in_stride() + i);
          const int32_t key = order[static_cast<size_t>(i)];
          indices[at] = blocks ? (shape_.parts - 1 - part) * k + key : key * shape_.parts + part;
          scores[at] = row[static_cast<size_t>(key)];
          if (shape_.illegal && random_() % 8 == 0) indices[at] = random_() % 2 == 0 ? -1 : INT32_MIN;
        }
        int32_t &written = lengths[static_cast<size_t>(part * length_stride() + r)];
        written = length;
        if (shape_.illegal && random_() % 4 == 0) written = random_() % 2 == 0 ? -5 : INT32_MIN;
        if (shape_.illegal && length == k) written = INT32_MAX;
      }
    }
  }

  int64_t in_stride() const { return IC_K_PADDED(shape_.wanted.k) + shape_.in_pad; }
  int64_t part_stride() const { return shape_.rows * in_stride() + shape_.in_pad; }
  int64_t length_stride() const { return shape_.rows + shape_.in_pad; }

  MergeParams params(const int32_t *i, const float *s, const int32_t *l, const SelectionOut &out) const {
    return {i, s, l, in_stride(), part_stride(), length_stride(), shape_.parts, shape_.rows, out, nullptr, 0};
  }

  Selection run_on_cpu() const {
    const Wanted &wanted = shape_.wanted;
    Selection result = poisoned_selection(wanted, shape_.rows);
    MergeParams p = params(indices.data(), scores.data(), lengths.data(),
                           selection_out(wanted, result.indices.data(), result.lengths.data(), result.scores.data()));
    HostWorkspace workspace(cpu_backend().merge_workspace_size(shape_.rows, shape_.parts, wanted.k));
    p.workspace = workspace.data();
    p.workspace_size = workspace.size();
    cpu_backend().merge(p, nullptr);
    return result;
  }

  const MergeShape &shape() const { return shape_; }
  std::vector<int32_t> indices, lengths;
  std::vector<float> scores;

 private:
  MergeShape shape_;
  std::mt19937 random_;
};

class DeviceMerge {
 public:
  explicit DeviceMerge(const MergeProblem &problem)
      : problem_(problem),
        indices_(problem.indices, shift()),
        lengths_(problem.lengths, shift()),
        scores_(problem.scores, shift()),
        selection_(problem.shape().wanted, problem.shape().rows, shift()),
        workspace_(cuda_backend().merge_workspace_size(problem.shape().rows, problem.shape().parts,
                                                       problem.shape().wanted.k)) {}
  void upload() {
    indices_.assign(problem_.indices);
    lengths_.assign(problem_.lengths);
    scores_.assign(problem_.scores);
    selection_.poison();
    workspace_.poison();
  }
  void poison() { selection_.poison(); }
  MergeParams params() const {
    MergeParams p = problem_.params(indices_.data(), scores_.data(), lengths_.data(), selection_.out());
    p.workspace = workspace_.data();
    p.workspace_size = workspace_.size();
    return p;
  }
  Selection read() const { return selection_.read(); }

 private:
  size_t shift() const { return problem_.shape().unaligned ? 4 : 0; }
  const MergeProblem &problem_;
  DeviceArray<int32_t> indices_, lengths_;
  DeviceArray<float> scores_;
  DeviceSelection selection_;
  PoisonedWorkspace workspace_;
};

void compare(const MergeShape &shape, uint32_t seed, Backend &backend = cuda_backend()) {
  SCOPED_TRACE("parts " + std::to_string(shape.parts) + ", rows " + std::to_string(shape.rows) + ", k " +
               std::to_string(shape.wanted.k) + ", order " + std::to_string(shape.wanted.order) + ", " +
               kind_name(shape.kind) + ", seed " + std::to_string(seed));
  const MergeProblem problem(shape, seed);
  const DeviceMerge device(problem);
  backend.merge(device.params(), nullptr);
  expect_same(device.read(), problem.run_on_cpu(), shape.wanted);
}

TEST(Merge, EveryKindOfDataAndOrder) {
  uint32_t seed = run_seed();
  for (int32_t kind = 0; kind < static_cast<int32_t>(Kind::kNumKinds); ++kind) {
    for (const int32_t k : {1, 7, 512, 2048, 4096}) {
      for (const int32_t parts : {1, 2, 9}) {
        const int32_t order = static_cast<int32_t>(seed % 3);
        compare({.parts = parts,
                 .wanted = {.k = k, .order = order, .scores = seed % 2 == 0},
                 .kind = static_cast<Kind>(kind),
                 .full = seed % 5 < 2},
                seed);
        ++seed;
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(Merge, IllegalLengthsAndMissingEntries) {
  for (uint32_t i = 0; i < 12; ++i) {
    compare(
        {.parts = 1 + static_cast<int32_t>(i), .rows = 20, .wanted = {.k = 300}, .full = i % 2 == 0, .illegal = true},
        run_seed() + i);
  }
}

TEST(Merge, UnalignedPointersAndStrides) {
  for (int32_t pad = 1; pad < 4; ++pad) {
    compare({.wanted = {.k = 100, .index_pad = pad}, .in_pad = pad, .unaligned = true}, run_seed());
  }
}

TEST(Merge, ManyPartsAndRowsLong) {
  compare({.parts = 1024, .rows = 2, .wanted = {.k = 2048}, .full = true}, run_seed());
  compare({.parts = 1024, .rows = 3, .wanted = {.k = 40}}, run_seed());
  compare({.parts = 1000, .rows = 1, .wanted = {.k = 1000}, .kind = Kind::kAllEqual, .full = true}, run_seed());
  compare({.parts = 3, .rows = 20000, .wanted = {.k = 16}}, run_seed());
  compare({.parts = 8, .rows = 200, .wanted = {.k = 2048}, .full = true}, run_seed());
}

/// A caller that breaks the contract (one key in two parts) gets an answer within bounds, the same on both backends.
TEST(Merge, KeysInSeveralParts) {
  MergeProblem problem({.parts = 6, .rows = 4, .wanted = {.k = 1500}, .kind = Kind::kFourValues, .full = true},
                       run_seed());
  for (int32_t &index : problem.indices) index /= 7;
  const DeviceMerge device(problem);
  cuda_backend().merge(device.params(), nullptr);
  expect_same(device.read(), problem.run_on_cpu(), problem.shape().wanted);
}

TEST(Merge, MaxCtasChangesNoBit) {
  for (const int32_t max_ctas : {1, 3}) {
    const std::unique_ptr<Backend> limited = make_cuda_backend({0, max_ctas, {}});
    compare({.rows = 30, .wanted = {.k = 600}}, run_seed(), *limited);
  }
}

TEST(Merge, CapturedAndReplayedWithOtherContents) {
  MergeProblem problem({.parts = 7, .rows = 12, .wanted = {.k = 900}, .illegal = true}, run_seed());
  DeviceMerge device(problem);
  const MergeParams params = device.params();
  CapturedGraph graph([&](cudaStream_t stream) { cuda_backend().merge(params, stream); });
  for (const int32_t length : device.read().lengths) ASSERT_EQ(length, kPoison) << "ran in the capture";
  for (int replay = 0; replay < 5; ++replay) {
    graph.replay();
    expect_same(device.read(), problem.run_on_cpu(), problem.shape().wanted);
    if (HasFatalFailure()) return;
    problem.redraw();
    device.upload();
  }
}

TEST(Merge, ReplaysAreIdentical) {
  const MergeProblem problem({.parts = 16, .rows = 9, .wanted = {.k = 2048}, .kind = Kind::kFourValues, .full = true},
                             run_seed());
  DeviceMerge device(problem);
  CapturedGraph graph([&](cudaStream_t stream) { cuda_backend().merge(device.params(), stream); });
  graph.replay();
  const Selection first = device.read();
  for (int i = 0; i < 25; ++i) {
    device.poison();
    graph.replay();
    expect_same(device.read(), first, problem.shape().wanted);
    if (HasFatalFailure()) return;
  }
}

TEST(Merge, NothingToDo) {
  const MergeProblem problem({}, run_seed());
  const DeviceMerge device(problem);
  MergeParams none = device.params();
  none.rows = 0;
  cuda_backend().merge(none, nullptr);
  for (const int32_t length : device.read().lengths) ASSERT_EQ(length, kPoison);
}

TEST(MergeSpeed, ShapesLong) {
  constexpr int32_t kShapes[][3] = {{2, 64, 2048}, {8, 64, 2048}, {8, 1024, 2048}, {1024, 1, 2048}};
  for (const auto &[parts, rows, k] : kShapes) {
    const MergeProblem problem({.parts = parts, .rows = rows, .wanted = {.k = k, .scores = false}, .full = true}, 1);
    const DeviceMerge device(problem);
    constexpr int kTurns = 8;
    const TestStream stream;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    cudaEvent_t start = nullptr, stop = nullptr;
    IC_REQUIRE_CUDA(cudaEventCreate(&start));
    IC_REQUIRE_CUDA(cudaEventCreate(&stop));
    IC_REQUIRE_CUDA(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeGlobal));
    for (int turn = 0; turn < kTurns; ++turn) cuda_backend().merge(device.params(), stream.get());
    IC_REQUIRE_CUDA(cudaStreamEndCapture(stream.get(), &graph));
    IC_REQUIRE_CUDA(cudaGraphInstantiate(&exec, graph, 0));
    std::vector<double> times;
    for (int turn = 0; turn < 9; ++turn) {
      IC_REQUIRE_CUDA(cudaEventRecord(start, stream.get()));
      IC_REQUIRE_CUDA(cudaGraphLaunch(exec, stream.get()));
      IC_REQUIRE_CUDA(cudaEventRecord(stop, stream.get()));
      stream.wait();
      float milliseconds = 0;
      IC_REQUIRE_CUDA(cudaEventElapsedTime(&milliseconds, start, stop));
      times.push_back(1000.0 * static_cast<double>(milliseconds) / kTurns);
    }
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
    std::sort(times.begin(), times.end());
    std::printf("merge %4d parts x %5d rows, k %d: %8.1f us\n", parts, rows, k, times[4]);
    cudaEventDestroy(start);
    cudaEventDestroy(stop);
  }
}

}  // namespace
}  // namespace ic::test
