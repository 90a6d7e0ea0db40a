// SPDX-License-Identifier: Apache-2.0
// Selection from a score matrix on the GPU: the CPU backend's bits for every kind of data, length and launch.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "core/backend.h"
#include "tests/gpu/backends.h"
#include "tests/gpu/captured.h"
#include "tests/gpu/select_matrix.h"
#include "tests/gpu/selection.h"

namespace ic::test {
namespace {

constexpr int32_t kSizes[] = {1, 7, 32, 512, 2048, 4095, 4096};

void compare(const Matrix &m, const Wanted &wanted, Backend &backend = cuda_backend(), size_t shift_bytes = 0) {
  SCOPED_TRACE("rows " + std::to_string(m.rows) + ", max_end " + std::to_string(m.max_end) + ", k " +
               std::to_string(wanted.k) + ", order " + std::to_string(wanted.order));
  const DeviceMatrix device(m, shift_bytes);
  const DeviceSelection selection(wanted, m.rows, shift_bytes);
  const PoisonedWorkspace workspace(backend.select_workspace_size(m.rows, m.max_end, wanted.k));
  backend.select(device.params(selection.out(), workspace), nullptr);
  expect_same(selection.read(), select_on_cpu(m, wanted), wanted);
}

TEST(Select, EveryKindOfData) {
  for (int32_t kind = 0; kind < static_cast<int32_t>(Kind::kNumKinds); ++kind) {
    SCOPED_TRACE(kind_name(static_cast<Kind>(kind)));
    for (const int32_t max_end : {6000, 20000, 33000}) {  // in the list, in one piece, cut
      const Matrix m = make_matrix(static_cast<Kind>(kind), 3, max_end, run_seed() + static_cast<uint32_t>(kind));
      for (const int32_t k : kSizes) {
        compare(m, {.k = k});
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(Select, EveryKindOfDataInLongRowsLong) {
  for (int32_t kind = 0; kind < static_cast<int32_t>(Kind::kNumKinds); ++kind) {
    SCOPED_TRACE(kind_name(static_cast<Kind>(kind)));
    const auto seed = run_seed() + static_cast<uint32_t>(kind);
    compare(make_matrix(static_cast<Kind>(kind), 1, 131072, seed), {.k = 2048});
    compare(make_matrix(static_cast<Kind>(kind), 2, 131072, seed), {.k = 4096});
    compare(make_matrix(static_cast<Kind>(kind), 1, 1 << 20, seed), {.k = 512});
    compare(make_matrix(static_cast<Kind>(kind), 300, 32768, seed), {.k = 2048});  // not cut on any chip
    if (HasFatalFailure()) return;
  }
}

TEST(Select, LengthsAroundKAndTheList) {
  for (const int32_t k : kSizes) {
    std::vector<int32_t> lengths = {0, 1, 2, 3, 4, 5, k - 1, k, k + 1, 2 * k, k + 4095, k + 4096, k + 4097};
    for (int32_t i = 0; i < 12; ++i) lengths.push_back((k + 127) / 128 * 128 + 4096 - 4 + i);
    for (const int32_t max_end : {13000, 26000}) {
      Matrix m = make_matrix(Kind::kGaussian, static_cast<int32_t>(lengths.size()), max_end, run_seed());
      m.end = lengths;
      compare(m, {.k = k});
      for (size_t r = 0; r < lengths.size(); ++r) {
        m.begin[r] = static_cast<int32_t>(r * 37 + r % 5);
        m.end[r] = std::min(m.begin[r] + lengths[r], max_end);
      }
      compare(m, {.k = k});
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Select, RangesOutsideTheMatrixAreEmptyOrClamped) {
  Matrix m = make_matrix(Kind::kGaussian, 8, 500, run_seed());
  m.begin = {-100, 10, 20, 499, INT32_MIN, 100, INT32_MAX, 0};
  m.end = {400, 10, 5, 500, INT32_MIN, 501, INT32_MAX, INT32_MIN};
  compare(m, {.k = 30});
  EXPECT_EQ(select_on_cpu(m, {.k = 30}).lengths, (std::vector<int32_t>{30, 0, 0, 1, 0, 0, 0, 0}));
}

TEST(Select, Orders) {
  for (const int32_t order : {IC_ORDER_POSITION, IC_ORDER_SCORE, IC_ORDER_ANY}) {
    for (const Kind kind : {Kind::kGaussian, Kind::kFourValues, Kind::kNan, Kind::kRelu1}) {
      for (const int32_t k : {1, 33, 1000, 2048, 4096}) {
        for (const bool scores : {true, false}) {
          for (const int32_t max_end : {900, 9000, 40000}) {
            compare(make_matrix(kind, 2, max_end, run_seed()), {.k = k, .order = order, .scores = scores});
            if (HasFatalFailure()) return;
          }
        }
      }
    }
  }
}

TEST(Select, UnalignedPointersAndStrides) {
  for (int32_t pad = 0; pad < 5; ++pad) {
    for (const size_t shift_bytes : {size_t{4}, size_t{8}, size_t{12}}) {
      for (const int32_t max_end : {7001, 30002}) {
        Matrix m = make_matrix(Kind::kGaussian, 5, max_end, run_seed() + static_cast<uint32_t>(pad), pad);
        m.begin = {0, 1, 2, 3, 4};
        m.end = {max_end, max_end - 1, max_end - 2, max_end - 3, 8};
        compare(m, {.k = 100, .index_pad = pad}, cuda_backend(), shift_bytes);
      }
    }
  }
}

TEST(Select, ManyShortRowsLong) {
  Matrix m = make_matrix(Kind::kRelu50, 100000, 90, run_seed());
  std::mt19937 random(run_seed());
  for (int32_t r = 0; r < m.rows; ++r) {
    m.begin[static_cast<size_t>(r)] = static_cast<int32_t>(random() % 40);
    m.end[static_cast<size_t>(r)] = static_cast<int32_t>(random() % 91);
  }
  compare(m, {.k = 16});
}

TEST(Select, LongestRowLong) {
  Matrix m = make_matrix(Kind::kGaussian, 1, 1 << 24, run_seed());
  compare(m, {.k = 2048});
  m.begin[0] = 12345;
  compare(m, {.k = 4096});
  compare(make_matrix(Kind::kRelu1, 1, 1 << 24, run_seed()), {.k = 2048});
}

TEST(Select, RandomShapesLong) {
  std::mt19937 random(run_seed());
  const auto draw = [&](int32_t low, int32_t high) {
    return std::uniform_int_distribution<int32_t>(low, high)(random);
  };
  for (int i = 0; i < 120; ++i) {
    const auto kind = static_cast<Kind>(draw(0, static_cast<int32_t>(Kind::kNumKinds) - 1));
    SCOPED_TRACE(kind_name(kind));
    const int32_t max_end = draw(0, 2) == 0 ? draw(1, 300) : draw(1, 60000);
    Matrix m = make_matrix(kind, draw(1, 12), max_end, static_cast<uint32_t>(random()), draw(0, 5));
    for (size_t r = 0; r < m.begin.size(); ++r) {
      m.begin[r] = draw(0, 1) == 0 ? 0 : draw(-2, max_end / 2);
      m.end[r] = draw(0, 9) == 0 ? draw(-1, max_end + 2) : draw(max_end / 2, max_end);
    }
    compare(m,
            {.k = draw(0, 1) == 0 ? draw(1, 4096) : kSizes[draw(0, 6)],
             .order = draw(0, 3) == 0 ? IC_ORDER_SCORE : IC_ORDER_POSITION,
             .scores = draw(0, 1) == 0,
             .index_pad = draw(0, 3)},
            cuda_backend(), static_cast<size_t>(4 * draw(0, 3)));
    if (HasFatalFailure()) return;
  }
}

TEST(Select, MaxCtasChangesNoBit) {
  for (const int32_t max_ctas : {1, 3, 100}) {
    const std::unique_ptr<Backend> limited = make_cuda_backend({0, max_ctas, {}});
    compare(make_matrix(Kind::kGaussian, 40, 9000, run_seed()), {.k = 300}, *limited);
    compare(make_matrix(Kind::kGaussian, 3, 50000, run_seed()), {.k = 2048}, *limited);
  }
}

TEST(Select, CapturedAndReplayedWithOtherContents) {
  for (const int32_t rows : {3, 400}) {
    const Wanted wanted{.k = 700};
    const int32_t max_end = rows == 3 ? 60000 : 5000;
    Matrix m = make_matrix(Kind::kGaussian, rows, max_end, run_seed());
    DeviceMatrix device(m);
    DeviceSelection selection(wanted, rows);
    PoisonedWorkspace workspace(cuda_backend().select_workspace_size(rows, max_end, wanted.k));
    const SelectParams params = device.params(selection.out(), workspace);
    CapturedGraph graph([&](cudaStream_t stream) { cuda_backend().select(params, stream); });
    for (const int32_t length : selection.read().lengths) ASSERT_EQ(length, kPoison) << "ran in the capture";
    std::mt19937 random(run_seed());
    for (int replay = 0; replay < static_cast<int>(Kind::kNumKinds); ++replay) {
      m = make_matrix(static_cast<Kind>(replay), rows, max_end, run_seed() + static_cast<uint32_t>(replay));
      for (int32_t &end : m.end) end = static_cast<int32_t>(random() % static_cast<uint32_t>(max_end + 2));
      device.upload(m);
      selection.poison();
      workspace.poison();
      graph.replay();
      expect_same(selection.read(), select_on_cpu(m, wanted), wanted);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Select, ReplaysAreIdentical) {
  const Wanted wanted{.k = 2048};
  for (const int32_t rows : {2, 300}) {
    const Matrix m = make_matrix(Kind::kRelu1, rows, 40000, run_seed());
    const DeviceMatrix device(m);
    DeviceSelection selection(wanted, rows);
    PoisonedWorkspace workspace(cuda_backend().select_workspace_size(rows, m.max_end, wanted.k));
    const SelectParams params = device.params(selection.out(), workspace);
    CapturedGraph graph([&](cudaStream_t stream) { cuda_backend().select(params, stream); });
    graph.replay();
    const Selection first = selection.read();
    for (int i = 0; i < 25; ++i) {
      selection.poison();
      graph.replay();
      expect_same(selection.read(), first, wanted);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Select, EightThreadsOnOneBackend) {
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 8; ++t) {
    threads.emplace_back([t] {
      const Wanted wanted{.k = 500};
      const Matrix m = make_matrix(Kind::kGaussian, 3, 30000, run_seed() + t);
      const Selection expected = select_on_cpu(m, wanted);
      const DeviceMatrix device(m);
      DeviceSelection selection(wanted, m.rows);
      const PoisonedWorkspace workspace(cuda_backend().select_workspace_size(m.rows, m.max_end, wanted.k));
      const TestStream stream;
      for (int i = 0; i < 10; ++i) {
        selection.poison();
        cuda_backend().select(device.params(selection.out(), workspace), stream.get());
        stream.wait();
        expect_same(selection.read(), expected, wanted);
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
}

TEST(Select, NothingToDo) {
  cuda_backend().select(
      {nullptr, 0, nullptr, nullptr, 0, 100, selection_out({}, nullptr, nullptr, nullptr), nullptr, 0}, nullptr);
  IC_REQUIRE_CUDA(cudaDeviceSynchronize());
}

TEST(Select, WorkspaceOfTheMaximaServesLess) {
  const Backend &backend = cuda_backend();
  for (const int32_t k : {1, 2048, 4096}) {
    const size_t most = backend.select_workspace_size(8192, 1 << 24, k);
    EXPECT_LE(most, size_t{64} << 20);
    size_t before = 0;
    for (int32_t rows = 1; rows < 1000; rows += 7) {
      const size_t needed = backend.select_workspace_size(rows, 100000, k);
      EXPECT_GE(needed, before);
      EXPECT_LE(needed, most);
      before = needed;
    }
  }
}

/// Rows beyond 2^31 elements: the matrix is not initialised but for the rows' own columns.
TEST(Select, OffsetsBeyond32BitsLong) {
  constexpr int32_t kRows = 5, kColumns = 30000;
  constexpr int64_t kStride = (int64_t{1} << 30) + 3;
  Matrix m = make_matrix(Kind::kGaussian, kRows, kColumns, run_seed());
  const Wanted wanted{.k = 64};
  auto *scores = static_cast<float *>(device_malloc(static_cast<size_t>((kRows - 1) * kStride + kColumns) * 4));
  for (int32_t r = 0; r < kRows; ++r) {
    upload(scores + r * kStride, m.scores.data() + int64_t{r} * kColumns, size_t{kColumns} * 4);
  }
  const DeviceArray<int32_t> end(m.end);
  const DeviceSelection selection(wanted, kRows);
  const PoisonedWorkspace workspace(cuda_backend().select_workspace_size(kRows, kColumns, wanted.k));
  cuda_backend().select(
      {scores, kStride, nullptr, end.data(), kRows, kColumns, selection.out(), workspace.data(), workspace.size()},
      nullptr);
  expect_same(selection.read(), select_on_cpu(m, wanted), wanted);
  cudaFree(scores);
}

// ---- speed -------------------------------------------------------------------------------------------------------

/// Median time of one selection in microseconds: a graph of several, one after another over different matrices, so that
/// rows do not wait in the cache of the last turn if they are large.
class Stopwatch {
 public:
  Stopwatch(int32_t rows, int32_t columns, int32_t k) : rows_(rows), columns_(columns), k_(k) {
    const int64_t elements = int64_t{rows} * columns;
    copies_ = static_cast<int32_t>(std::clamp<int64_t>((int64_t{48} << 20) / elements, 1, 16));
    scores_ = static_cast<float *>(device_malloc(static_cast<size_t>(elements * copies_) * 4));
    end_ = DeviceArray<int32_t>(std::vector<int32_t>(static_cast<size_t>(rows), columns));
    selection_ = std::make_unique<DeviceSelection>(Wanted{.k = k, .scores = false}, rows);
    workspace_ = std::make_unique<PoisonedWorkspace>(cuda_backend().select_workspace_size(rows, columns, k));
  }
  ~Stopwatch() { cudaFree(scores_); }
  Stopwatch(const Stopwatch &) = delete;
  Stopwatch &operator=(const Stopwatch &) = delete;

  double microseconds(Kind kind) {
    // A few different rows, repeated.
    const int32_t different = std::min(rows_, std::max(1, (1 << 22) / columns_));
    std::vector<float> host(static_cast<size_t>(different) * static_cast<size_t>(columns_));
    Draw draw(run_seed());
    for (int32_t r = 0; r < different; ++r) fill_row(kind, host.data() + int64_t{r} * columns_, columns_, &draw);
    for (int64_t row = 0; row < int64_t{rows_} * copies_; row += different) {
      const int64_t count = std::min<int64_t>(different, int64_t{rows_} * copies_ - row);
      IC_REQUIRE_CUDA(cudaMemcpy(scores_ + row * columns_, row == 0 ? host.data() : scores_,
                                 static_cast<size_t>(count * columns_) * 4,
                                 row == 0 ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToDevice));
    }
    IC_REQUIRE_CUDA(cudaDeviceSynchronize());
    const TestStream stream;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    IC_REQUIRE_CUDA(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeGlobal));
    for (int32_t copy = 0; copy < copies_; ++copy) {
      cuda_backend().select({scores_ + int64_t{copy} * rows_ * columns_, columns_, nullptr, end_.data(), rows_,
                             columns_, selection_->out(), workspace_->data(), workspace_->size()},
                            stream.get());
    }
    IC_REQUIRE_CUDA(cudaStreamEndCapture(stream.get(), &graph));
    IC_REQUIRE_CUDA(cudaGraphInstantiate(&exec, graph, 0));
    cudaEvent_t start = nullptr, stop = nullptr;
    IC_REQUIRE_CUDA(cudaEventCreate(&start));
    IC_REQUIRE_CUDA(cudaEventCreate(&stop));
    std::vector<double> times;
    for (int turn = 0; turn < 9; ++turn) {
      IC_REQUIRE_CUDA(cudaEventRecord(start, stream.get()));
      IC_REQUIRE_CUDA(cudaGraphLaunch(exec, stream.get()));
      IC_REQUIRE_CUDA(cudaEventRecord(stop, stream.get()));
      stream.wait();
      float milliseconds = 0;
      IC_REQUIRE_CUDA(cudaEventElapsedTime(&milliseconds, start, stop));
      times.push_back(1000.0 * static_cast<double>(milliseconds) / copies_);
    }
    cudaEventDestroy(start);
    cudaEventDestroy(stop);
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
    std::sort(times.begin() + 1, times.end());
    return times[5];
  }

 private:
  int32_t rows_, columns_, k_, copies_;
  float *scores_ = nullptr;
  DeviceArray<int32_t> end_;
  std::unique_ptr<DeviceSelection> selection_;
  std::unique_ptr<PoisonedWorkspace> workspace_;
};

TEST(SelectSpeed, ShapesLong) {
  constexpr int32_t kShapes[][3] = {{4096, 8192, 2048},  {4096, 32768, 2048}, {4096, 131072, 2048}, {4096, 32768, 512},
                                    {4096, 32768, 4096}, {1, 8192, 2048},     {1, 32768, 2048},     {1, 131072, 2048},
                                    {32, 131072, 2048},  {64, 131072, 2048},  {128, 131072, 2048},  {256, 131072, 2048},
                                    {1, 1 << 24, 2048},  {100000, 64, 16},    {300, 32768, 2048}};
  for (const auto &[rows, columns, k] : kShapes) {
    Stopwatch watch(rows, columns, k);
    std::printf("select %6d x %8d, k %4d: Gaussian %8.1f us, clustered %8.1f us\n", rows, columns, k,
                watch.microseconds(Kind::kGaussian), watch.microseconds(Kind::kClustered));
  }
}

TEST(SelectSpeed, KindsOfDataLong) {
  Stopwatch watch(4096, 32768, 2048);
  Stopwatch few(1, 131072, 2048);
  const double usual = watch.microseconds(Kind::kGaussian);
  const double usual_few = few.microseconds(Kind::kGaussian);
  for (int32_t kind = 0; kind <= static_cast<int32_t>(Kind::kTrapLow); ++kind) {
    const double time = watch.microseconds(static_cast<Kind>(kind));
    const double time_few = few.microseconds(static_cast<Kind>(kind));
    std::printf("select %-25s 4096 x 32768: %8.1f us, %4.2f of Gaussian; 1 x 131072: %7.1f us, %4.2f\n",
                kind_name(static_cast<Kind>(kind)), time, time / usual, time_few, time_few / usual_few);
    const bool natural = kind < static_cast<int32_t>(Kind::kTrapHigh);
    EXPECT_LT(time, (natural ? 2.2 : 20.0) * usual) << kind_name(static_cast<Kind>(kind));
    EXPECT_LT(time_few, (natural ? 3.0 : 20.0) * usual_few) << kind_name(static_cast<Kind>(kind));
  }
}

}  // namespace
}  // namespace ic::test
