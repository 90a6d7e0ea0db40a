// SPDX-License-Identifier: Apache-2.0
// Every shape of the Hopper selection, forced, against the CPU backend and the portable kernel: same bits for every
// kind of data, length and launch. The tests of select_test.cpp see what the policy chooses.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/policy/sm90.h"
#include "kernels/topk/launch.h"
#include "tests/gpu/backends.h"
#include "tests/gpu/captured.h"
#include "tests/gpu/device_limits.h"
#include "tests/gpu/late_input.h"
#include "tests/gpu/select_matrix.h"
#include "tests/gpu/selection.h"

namespace ic::test {
namespace {

using cuda::LaunchLimits;
using cuda::SelectRowsParams;
using cuda::sm90::SelectVariant;

struct Variant {
  SelectVariant variant;
  const char *name;
  int32_t least_sampled;  // shorter rows are read without a sample
  int32_t strata;         // of the sample
  int32_t tile;           // columns of a cluster: one tile of each warp
  int32_t longest;        // row
  int32_t cluster;
};

constexpr Variant kVariants[] = {{SelectVariant::kSmallRows, "SmallRows", 64, 256, 8192, 9181, 1},
                                 {SelectVariant::kMediumRows, "MediumRows", 64, 512, 8192, 49117, 1},
                                 {SelectVariant::kOneWindow, "OneWindow", 64, 1024, 16384, 263133, 1},
                                 {SelectVariant::kTwoWindows, "TwoWindows", 64, 1024, 32768, 264125, 2},
                                 {SelectVariant::kThreeWindows, "ThreeWindows", 64, 1024, 49152, 270237, 3},
                                 {SelectVariant::kFourWindows, "FourWindows", 64, 1024, 65536, 266109, 4},
                                 {SelectVariant::kEightWindows, "EightWindows", 64, 1024, 131072, 270077, 8},
                                 {SelectVariant::kListedRows, "ListedRows", 4097, 512, 8192, 232800, 1}};

SelectRowsParams rows_params(const SelectParams &p, bool nan_is_absent) {
  SelectRowsParams r = {};
  r.rows.count = p.rows;
  r.rows.num_seqs = 1;
  r.rows.max_key_end = p.max_end;
  r.rows.key_begin = p.begin;
  r.rows.key_end = p.end;
  r.scores = p.scores;
  r.score_stride = p.score_stride;
  r.nan_is_absent = nan_is_absent ? 1 : 0;
  r.out = p.out;
  r.workspace = p.workspace;
  r.workspace_size = p.workspace_size;
  return r;
}

/// Calls body(column) for each group of four that the kernel looks at first.
template <class Body>
void for_each_sampled(const Variant &v, int32_t begin, int32_t end, Body &&body) {
  const auto hash = [](uint32_t x) {
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
  };
  const int32_t first = (begin + 3) / 4 * 4;
  const auto vectors = static_cast<uint32_t>((end - first) / 4);
  const auto strata = static_cast<uint32_t>(v.strata);
  for (uint32_t s = 0; s < strata; ++s) {
    const uint32_t low = s * vectors / strata;
    const uint32_t high = (s + 1) * vectors / strata;
    const uint64_t jitter = hash(s * 0x9e3779b9u + static_cast<uint32_t>(end - begin));
    body(first + 4 * static_cast<int32_t>(low + static_cast<uint32_t>(jitter * (high - low) >> 32)));
  }
}

/// The sample of a row, made to lie: scores above or below the others exactly where the kernel looks.
void set_trap(const Variant &v, float *row, int32_t begin, int32_t end, float by) {
  for_each_sampled(v, begin, end, [&](int32_t column) {
    for (int32_t i = column; i < column + 4; ++i) row[i] += by;
  });
}

void fill_kind(const Variant &v, Kind kind, float *row, int32_t length, Draw *draw) {
  const bool trap = kind == Kind::kTrapHigh || kind == Kind::kTrapLow;
  fill_row(trap ? Kind::kGaussian : kind, row, length, draw);
  if (trap && length >= v.least_sampled) set_trap(v, row, 0, length, kind == Kind::kTrapHigh ? 100.0f : -100.0f);
}

/// Rows that start on 16 bytes, as the kernel wants them.
Matrix make_rows(const Variant &v, Kind kind, int32_t rows, int32_t max_end, uint32_t seed, int32_t stride_pad = 0) {
  Matrix m;
  m.rows = rows;
  m.max_end = max_end;
  m.stride = (max_end + 3) / 4 * 4 + 4 * stride_pad;
  // Nothing behind the last row's columns: what is read there would be outside of the array.
  m.scores.assign(static_cast<size_t>((rows - 1) * m.stride + max_end), 1e30f);
  m.begin.assign(static_cast<size_t>(rows), 0);
  m.end.assign(static_cast<size_t>(rows), max_end);
  Draw draw(seed);
  for (int32_t r = 0; r < rows; ++r) fill_kind(v, kind, m.scores.data() + r * m.stride, max_end, &draw);
  return m;
}

class SelectSm90 : public testing::TestWithParam<Variant> {
 protected:
  void SetUp() override {
    if (!device_limits().sm90a) GTEST_SKIP() << "not a Hopper";
  }

  /// Both meanings of NaN. Outputs may lie anywhere, scores on 16 bytes.
  void compare(const Matrix &m, const Wanted &wanted, int32_t max_ctas = 0, size_t shift_bytes = 0) const {
    SCOPED_TRACE("rows " + std::to_string(m.rows) + ", max_end " + std::to_string(m.max_end) + ", k " +
                 std::to_string(wanted.k));
    const LaunchLimits limits = device_limits(max_ctas);
    const DeviceMatrix device(m);
    const PoisonedWorkspace workspace(cuda::select_workspace_bytes(m.rows, m.max_end, wanted.k, limits));
    for (const bool nan_is_absent : {false, true}) {
      const DeviceSelection selection(wanted, m.rows, shift_bytes);
      const SelectRowsParams p = rows_params(device.params(selection.out(), workspace), nan_is_absent);
      ASSERT_EQ(cuda::launch_select_sm90(p, limits, GetParam().variant, nullptr), cudaSuccess);
      const Selection got = selection.read();
      if (!nan_is_absent) {
        expect_same(got, select_on_cpu(m, wanted), wanted);
      } else {
        const DeviceSelection portable(wanted, m.rows);
        ASSERT_EQ(
            cuda::launch_select_portable(rows_params(device.params(portable.out(), workspace), true), limits, nullptr),
            cudaSuccess);
        expect_same(got, portable.read(), wanted);
      }
      if (HasFatalFailure()) return;
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Shapes, SelectSm90, testing::ValuesIn(kVariants),
                         [](const auto &tested) { return std::string(tested.param.name); });

TEST_P(SelectSm90, EveryKindOfData) {
  for (int32_t kind = 0; kind < static_cast<int32_t>(Kind::kNumKinds); ++kind) {
    SCOPED_TRACE(kind_name(static_cast<Kind>(kind)));
    for (const int32_t max_end : {4000, 9001, std::min(40003, GetParam().longest)}) {
      const Matrix m =
          make_rows(GetParam(), static_cast<Kind>(kind), 3, max_end, run_seed() + static_cast<uint32_t>(kind));
      for (const int32_t k : {1, 32, 2048}) {
        compare(m, {.k = k});
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_P(SelectSm90, EveryKindOfDataInLongRowsLong) {
  for (int32_t kind = 0; kind < static_cast<int32_t>(Kind::kNumKinds); ++kind) {
    SCOPED_TRACE(kind_name(static_cast<Kind>(kind)));
    const auto seed = run_seed() + static_cast<uint32_t>(kind);
    compare(make_rows(GetParam(), static_cast<Kind>(kind), 5, std::min(80000, GetParam().longest), seed), {.k = 2048},
            2 * GetParam().cluster);
    compare(make_rows(GetParam(), static_cast<Kind>(kind), 150, 8192, seed), {.k = 700}, 8 * GetParam().cluster);
    if (HasFatalFailure()) return;
  }
}

TEST_P(SelectSm90, LongestRows) {
  const int32_t most = GetParam().longest;
  Matrix m = make_rows(GetParam(), Kind::kGaussian, 2, most, run_seed());
  compare(m, {.k = 2048});
  m.begin[0] = 63;
  m.end[1] = most - 3;
  compare(m, {.k = 2047});
}

TEST_P(SelectSm90, LengthsAroundKAndTheTiles) {
  const int32_t tile = std::min(GetParam().tile, 40000);
  const int32_t most = std::min(tile + 100, GetParam().longest);
  for (const int32_t k : {1, 7, 2048}) {
    std::vector<int32_t> lengths = {0, 1, 2, 3, 4, 5, k - 1, k, k + 1, 2 * k, 10000, 16384, 16385};
    for (int32_t i = -2; i < 3; ++i) lengths.push_back(GetParam().least_sampled + i);
    for (int32_t i = -2; i < 3; ++i) lengths.push_back(1024 + i);
    for (int32_t i = -5; i < 6; ++i) lengths.push_back(tile + i);
    for (int32_t &length : lengths) length = std::min(length, most);
    Matrix m = make_rows(GetParam(), Kind::kGaussian, static_cast<int32_t>(lengths.size()), most, run_seed());
    m.end = lengths;
    compare(m, {.k = k});
    for (size_t r = 0; r < lengths.size(); ++r) {
      m.begin[r] = static_cast<int32_t>(r * 37 + r % 5);
      m.end[r] = std::min(m.begin[r] + lengths[r], most);
    }
    compare(m, {.k = k});
    if (HasFatalFailure()) return;
  }
}

TEST_P(SelectSm90, RangesOutsideTheMatrixAreEmptyOrClamped) {
  Matrix m = make_rows(GetParam(), Kind::kGaussian, 9, 7001, run_seed());
  m.begin = {-100, 10, 20, 7000, INT32_MIN, 100, INT32_MAX, 0, 3};
  m.end = {7000, 10, 5, 7001, INT32_MIN, 7002, INT32_MAX, INT32_MIN, 7001};
  compare(m, {.k = 30});
}

/// What one row leaves behind must not disturb the next: one block or cluster, rows that are read once and twice, whose
/// lists overflow or hold ties, and short ones in between.
TEST_P(SelectSm90, RowsOfOneBlockOneAfterAnother) {
  constexpr int32_t kColumns = 9001;
  Matrix m = make_rows(GetParam(), Kind::kGaussian, 12, kColumns, run_seed());
  Draw draw(run_seed() + 1);
  m.end = {kColumns, 8999, kColumns, 0, kColumns, 699, 8998, 50, 8000, kColumns, 701, kColumns};
  m.begin[8] = 3;
  const auto row = [&](size_t r) { return m.scores.data() + static_cast<int64_t>(r) * m.stride; };
  set_trap(GetParam(), row(1), 0, m.end[1], 100.0f);
  set_trap(GetParam(), row(2), 0, m.end[2], -100.0f);
  set_trap(GetParam(), row(4), 0, m.end[4], 0.4f);
  set_trap(GetParam(), row(6), 0, m.end[6], -0.4f);
  fill_row(Kind::kAllEqual, row(9), kColumns, &draw);
  fill_row(Kind::kIncreasing, row(11), kColumns, &draw);
  compare(m, {.k = 700}, GetParam().cluster);
}

/// Lists of a cluster are stored into the other blocks if they are short, and fetched if not: one after another.
TEST_P(SelectSm90, ListsShortAndLongInTurns) {
  const int32_t columns = std::min(80000, GetParam().longest);
  Matrix m = make_rows(GetParam(), Kind::kGaussian, 7, columns, run_seed());
  Draw draw(run_seed());
  const auto row = [&](size_t r) { return m.scores.data() + static_cast<int64_t>(r) * m.stride; };
  for (const size_t r : {size_t{1}, size_t{3}}) fill_row(Kind::kIncreasing, row(r), columns, &draw);
  fill_row(Kind::kDecreasing, row(4), columns, &draw);
  compare(m, {.k = 2048}, GetParam().cluster);
}

/// Fewer than k keys, and more than the list holds beside the bits of ties.
TEST_P(SelectSm90, FewerKeysThanK) {
  const int32_t columns = std::min(49000, GetParam().longest);
  Matrix m = make_rows(GetParam(), Kind::kAllNan, 4, columns, run_seed());
  Draw draw(run_seed());
  for (int32_t r = 0; r < m.rows; ++r) {
    float *row = m.scores.data() + r * m.stride;
    for (int32_t i = 0; i < 500 * (r + 1); ++i) row[draw.bits() % static_cast<uint32_t>(columns)] = draw.uniform();
    int32_t sampled = 0;
    for_each_sampled(GetParam(), 0, columns, [&](int32_t column) { sampled = column; });
    row[sampled] = -1e6f;
  }
  compare(m, {.k = 2048});
}

/// The sample sees zeros of both signs only; there are fewer than k of them, and what follows is next to -0.
TEST_P(SelectSm90, ZerosBesideTheSmallestNegatives) {
  constexpr int32_t kColumns = 9001;
  Matrix m = make_rows(GetParam(), Kind::kGaussian, 4, kColumns, run_seed());
  Draw draw(run_seed());
  for (int32_t r = 0; r < m.rows; ++r) {
    float *row = m.scores.data() + r * m.stride;
    const uint32_t values = r % 2 == 0 ? 100 : 5000;
    for (int32_t i = 0; i < kColumns; ++i) row[i] = -static_cast<float>(1 + draw.bits() % values) * 0x1p-149f;
    for_each_sampled(GetParam(), 0, kColumns, [&](int32_t column) {
      for (int32_t i = column; i < column + 4; ++i) row[i] = -1.0f;
      row[column] = draw.bits() % 2 == 0 ? 0.0f : -0.0f;
    });
  }
  for (const int32_t k : {700, 1100, 2048}) compare(m, {.k = k});
}

TEST_P(SelectSm90, OutputsAnywhereAndAnyStride) {
  for (int32_t pad = 0; pad < 5; ++pad) {
    for (const bool scores : {false, true}) {
      const Matrix m = make_rows(GetParam(), Kind::kNan, 5, 9002, run_seed() + static_cast<uint32_t>(pad), pad);
      compare(m, {.k = 100, .order = IC_ORDER_ANY, .scores = scores, .index_pad = pad}, 0,
              static_cast<size_t>(4 * pad));
      compare(m, {.k = 2048, .scores = scores, .index_pad = pad}, 0, static_cast<size_t>(4 * pad));
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(SelectSm90, RandomShapes) {
  std::mt19937 random(run_seed());
  const auto draw = [&](int32_t low, int32_t high) {
    return std::uniform_int_distribution<int32_t>(low, high)(random);
  };
  for (int i = 0; i < 40; ++i) {
    const auto kind = static_cast<Kind>(draw(0, static_cast<int32_t>(Kind::kNumKinds) - 1));
    SCOPED_TRACE(kind_name(kind));
    const int32_t max_end = draw(1, std::min(60000, GetParam().longest));
    Matrix m = make_rows(GetParam(), kind, draw(1, 12), max_end, static_cast<uint32_t>(random()), draw(0, 5));
    for (size_t r = 0; r < m.begin.size(); ++r) {
      m.begin[r] = draw(0, 1) == 0 ? 0 : draw(-2, max_end / 2);
      m.end[r] = draw(0, 9) == 0 ? draw(-1, max_end + 2) : draw(max_end / 2, max_end);
      if (draw(0, 3) == 0 && m.end[r] - m.begin[r] >= GetParam().least_sampled && m.begin[r] >= 0 &&
          m.end[r] <= max_end) {
        set_trap(GetParam(), m.scores.data() + static_cast<int64_t>(r) * m.stride, m.begin[r], m.end[r],
                 draw(0, 1) == 0 ? 50.0f : -50.0f);
      }
    }
    compare(m, {.k = draw(1, 2048), .scores = draw(0, 1) == 0, .index_pad = draw(0, 3)},
            draw(0, 1) == 0 ? 0 : GetParam().cluster * draw(1, 3), static_cast<size_t>(4 * draw(0, 3)));
    if (HasFatalFailure()) return;
  }
}

/// As the scores' test of this name.
TEST_P(SelectSm90, WaitsForTheKernelInFront) {
  const LaunchLimits limits = device_limits();
  for (const bool empty : {false, true}) {
    const int32_t columns = std::min(40000, GetParam().longest);
    Matrix m = make_rows(GetParam(), Kind::kGaussian, 3, columns, run_seed());
    if (empty) std::fill(m.end.begin(), m.end.end(), 0);
    const Wanted wanted{.k = 2048};
    const Selection expected = select_on_cpu(m, wanted);
    for (const Front front : kFronts) {
      SCOPED_TRACE("front " + std::to_string(static_cast<int>(front)));
      const DeviceMatrix device(m);
      const DeviceSelection selection(wanted, m.rows);
      const PoisonedWorkspace workspace(256);
      SelectRowsParams p = rows_params(device.params(selection.out(), workspace), false);
      LateInputs late;
      p.scores = late.add(p.scores, m.scores.size(), 0x7f);  // NaN
      p.rows.key_begin = late.add(p.rows.key_begin, m.begin.size(), 1);
      p.rows.key_end = late.add(p.rows.key_end, m.end.size(), 1);
      const DeviceArray<int32_t> end_behind(m.end.size());
      const Copy next = {end_behind.data(), p.rows.key_end, m.end.size() * 4};
      run_behind(
          late.copies(), front,
          [&](cudaStream_t stream) {
            ASSERT_EQ(cuda::launch_select_sm90(p, limits, GetParam().variant, stream), cudaSuccess);
          },
          next);
      expect_same(selection.read(), expected, wanted);
      EXPECT_EQ(end_behind.read(), m.end);
      if (HasFailure()) return;
    }
  }
}

TEST_P(SelectSm90, CapturedAndReplayedWithOtherContents) {
  constexpr int32_t kRows = 20;
  const int32_t columns = std::min(30000, GetParam().longest);
  const Wanted wanted{.k = 700};
  const LaunchLimits limits = device_limits(4 * GetParam().cluster);
  Matrix m = make_rows(GetParam(), Kind::kGaussian, kRows, columns, run_seed());
  DeviceMatrix device(m);
  DeviceSelection selection(wanted, kRows);
  PoisonedWorkspace workspace(256);
  const SelectRowsParams params = rows_params(device.params(selection.out(), workspace), false);
  CapturedGraph graph([&](cudaStream_t stream) {
    ASSERT_EQ(cuda::launch_select_sm90(params, limits, GetParam().variant, stream), cudaSuccess);
  });
  for (const int32_t length : selection.read().lengths) ASSERT_EQ(length, kPoison) << "ran in the capture";
  std::mt19937 random(run_seed());
  for (int replay = 0; replay < static_cast<int>(Kind::kNumKinds); ++replay) {
    m = make_rows(GetParam(), static_cast<Kind>(replay), kRows, columns, run_seed() + static_cast<uint32_t>(replay));
    for (int32_t &end : m.end) end = static_cast<int32_t>(random() % static_cast<uint32_t>(columns + 2));
    device.upload(m);
    selection.poison();
    workspace.poison();
    graph.replay();
    expect_same(selection.read(), select_on_cpu(m, wanted), wanted);
    if (HasFatalFailure()) return;
  }
  const Selection first = selection.read();
  for (int i = 0; i < 25; ++i) {
    selection.poison();
    graph.replay();
    expect_same(selection.read(), first, wanted);
    if (HasFatalFailure()) return;
  }
}

TEST_P(SelectSm90, RefusesWhatItCannot) {
  const LaunchLimits limits = device_limits();
  const Matrix m = make_rows(GetParam(), Kind::kGaussian, 1, 9000, run_seed());
  const DeviceMatrix device(m);
  const PoisonedWorkspace workspace(256);
  const auto fits = [&](const Wanted &wanted, auto &&change) {
    const DeviceSelection selection(wanted, 1);
    SelectRowsParams p = rows_params(device.params(selection.out(), workspace), false);
    LaunchLimits l = limits;
    change(&p, &l);
    const bool fit = cuda::select_sm90_fits(p, l, GetParam().variant);
    EXPECT_EQ(cuda::launch_select_sm90(p, l, GetParam().variant, nullptr), fit ? cudaSuccess : cudaErrorNotSupported);
    IC_REQUIRE_CUDA(cudaDeviceSynchronize());
    return fit;
  };
  EXPECT_TRUE(fits({.k = 2048}, [](auto *, auto *) {}));
  EXPECT_FALSE(fits({.k = 2049}, [](auto *, auto *) {}));
  EXPECT_FALSE(fits({.order = IC_ORDER_SCORE}, [](auto *, auto *) {}));
  EXPECT_FALSE(fits({}, [](auto *p, auto *) { p->scores += 1; }));
  EXPECT_FALSE(fits({}, [](auto *p, auto *) { p->score_stride += 2; }));
  EXPECT_FALSE(fits({}, [](auto *p, auto *) { p->rows.max_key_end = 1 << 24; }));
  EXPECT_FALSE(fits({}, [](auto *, auto *l) { l->sm90a = false; }));
  EXPECT_EQ(fits({}, [](auto *, auto *l) { l->max_ctas = 1; }), GetParam().cluster == 1);
}

// ---- speed -------------------------------------------------------------------------------------------------------

/// Median time of one selection in microseconds: a graph of several, one after another over different matrices, so that
/// rows do not wait in the cache.
class Stopwatch {
 public:
  Stopwatch(int32_t rows, int32_t columns) : rows_(rows), columns_(columns) {
    const int64_t elements = int64_t{rows} * columns;
    copies_ = static_cast<int32_t>(std::clamp<int64_t>((int64_t{48} << 20) / elements, 1, 256));
    scores_ = static_cast<float *>(device_malloc(static_cast<size_t>(elements * copies_) * 4));
    end_ = DeviceArray<int32_t>(std::vector<int32_t>(static_cast<size_t>(rows), columns));
    selection_ = std::make_unique<DeviceSelection>(Wanted{.k = 2048, .scores = false}, rows);
  }
  ~Stopwatch() { cudaFree(scores_); }
  Stopwatch(const Stopwatch &) = delete;
  Stopwatch &operator=(const Stopwatch &) = delete;

  void fill(const Variant &v, Kind kind) {
    const int32_t different = std::min(rows_ * copies_, std::max(1, (1 << 20) / columns_));
    std::vector<float> host(static_cast<size_t>(different) * static_cast<size_t>(columns_));
    Draw draw(run_seed());
    for (int32_t r = 0; r < different; ++r) fill_kind(v, kind, host.data() + int64_t{r} * columns_, columns_, &draw);
    IC_REQUIRE_CUDA(cudaMemcpy(scores_, host.data(), host.size() * 4, cudaMemcpyHostToDevice));
    const int64_t all = int64_t{rows_} * copies_;
    for (int64_t done = different; done < all;) {
      const int64_t count = std::min(done, all - done);
      IC_REQUIRE_CUDA(cudaMemcpy(scores_ + done * columns_, scores_, static_cast<size_t>(count * columns_) * 4,
                                 cudaMemcpyDeviceToDevice));
      done += count;
    }
    IC_REQUIRE_CUDA(cudaDeviceSynchronize());
  }

  double microseconds(SelectVariant variant) {
    const LaunchLimits limits = device_limits();
    const TestStream stream;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    IC_REQUIRE_CUDA(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeGlobal));
    cudaError_t error = cudaSuccess;
    for (int32_t copy = 0; copy < copies_; ++copy) {
      const SelectParams p = {scores_ + int64_t{copy} * rows_ * columns_,
                              columns_,
                              nullptr,
                              end_.data(),
                              rows_,
                              columns_,
                              selection_->out(),
                              nullptr,
                              0};
      const cudaError_t one = cuda::launch_select_sm90(rows_params(p, false), limits, variant, stream.get());
      if (one != cudaSuccess) error = one;
    }
    IC_REQUIRE_CUDA(cudaStreamEndCapture(stream.get(), &graph));
    if (error != cudaSuccess) {
      cudaGraphDestroy(graph);
      return -1;
    }
    IC_REQUIRE_CUDA(cudaGraphInstantiate(&exec, graph, 0));
    cudaEvent_t start = nullptr, stop = nullptr;
    IC_REQUIRE_CUDA(cudaEventCreate(&start));
    IC_REQUIRE_CUDA(cudaEventCreate(&stop));
    std::vector<double> times;
    for (int turn = 0; turn < 14; ++turn) {
      IC_REQUIRE_CUDA(cudaEventRecord(start, stream.get()));
      IC_REQUIRE_CUDA(cudaGraphLaunch(exec, stream.get()));
      IC_REQUIRE_CUDA(cudaEventRecord(stop, stream.get()));
      stream.wait();
      float milliseconds = 0;
      IC_REQUIRE_CUDA(cudaEventElapsedTime(&milliseconds, start, stop));
      if (turn >= 3) times.push_back(1000.0 * static_cast<double>(milliseconds) / copies_);
    }
    cudaEventDestroy(start);
    cudaEventDestroy(stop);
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }

 private:
  int32_t rows_, columns_, copies_;
  float *scores_ = nullptr;
  DeviceArray<int32_t> end_;
  std::unique_ptr<DeviceSelection> selection_;
};

const Variant &variant_of(SelectVariant variant) {
  return *std::find_if(std::begin(kVariants), std::end(kVariants),
                       [&](const Variant &v) { return v.variant == variant; });
}

TEST(SelectSm90Policy, ClustersOfACallRunAtOnce) {
  LaunchLimits limits = device_limits();
  if (!limits.sm90a) GTEST_SKIP() << "not a Hopper";
  for (const int cluster : {2, 3, 4, 8}) EXPECT_GT(limits.resident_clusters[cluster], 0) << cluster;
  for (const int32_t max_ctas : {0, 1, 2, 3, 7, 8, 15, 16, 64, 131, 132, 133, 400}) {
    limits.max_ctas = max_ctas;
    for (const int32_t columns : {2049, 9000, 10000, 32768, 40000, 131072, 200001, 240000, 261000, 262144}) {
      for (int32_t rows = 1; rows <= 140; ++rows) {
        SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(columns) + ", blocks " + std::to_string(max_ctas));
        const SelectVariant variant = cuda::sm90::select_variant(rows, columns, 2048, limits);
        ASSERT_NE(variant, SelectVariant::kPortable);
        const Variant &v = variant_of(variant);
        if (v.cluster > 1) {
          EXPECT_LE(rows, limits.resident_clusters[v.cluster]);
          EXPECT_LE(rows * v.cluster, max_ctas > 0 ? max_ctas : INT32_MAX);
        }
        EXPECT_LE(columns, v.longest);
      }
    }
  }
  EXPECT_EQ(cuda::sm90::select_variant(1, 262145, 2048, limits), SelectVariant::kPortable);
}

constexpr int32_t kSpeedShapes[][2] = {{4096, 8192}, {4096, 32768}, {4096, 131072}, {4096, 204800},
                                       {1, 32768},   {1, 131072},   {1, 204800},    {24, 131072},
                                       {32, 131072}, {64, 131072},  {128, 131072}};

TEST(SelectSm90Speed, EveryShapeAndKindLong) {
  if (!device_limits().sm90a) GTEST_SKIP() << "not a Hopper";
  for (const auto &[rows, columns] : kSpeedShapes) {
    const SelectVariant variant = cuda::sm90::select_variant(rows, columns, 2048, device_limits());
    ASSERT_NE(variant, SelectVariant::kPortable);
    Stopwatch watch(rows, columns);
    std::printf("select %4d x %6d %-11s us:", rows, columns, variant_of(variant).name);
    double usual = 0;
    for (int32_t kind = 0; kind <= static_cast<int32_t>(Kind::kTrapLow); ++kind) {
      watch.fill(variant_of(variant), static_cast<Kind>(kind));
      const double time = watch.microseconds(variant);
      if (kind == 0) usual = time;
      std::printf(" %s %.1f%s", kind_name(static_cast<Kind>(kind)), time,
                  kind == static_cast<int32_t>(Kind::kTrapLow) ? "\n" : ",");
      const bool natural = kind < static_cast<int32_t>(Kind::kTrapHigh);
      ASSERT_GT(time, 0);
      EXPECT_LT(time, (natural ? 2.0 : 6.0) * usual) << kind_name(static_cast<Kind>(kind));
    }
    std::fflush(stdout);
  }
}

TEST(SelectSm90Speed, VariantsLong) {
  if (!device_limits().sm90a) GTEST_SKIP() << "not a Hopper";
  constexpr int32_t kShapes[][2] = {{1, 8192},   {1, 32768},    {1, 131072},  {15, 131072}, {24, 131072},
                                    {32, 32768}, {32, 131072},  {66, 131072}, {132, 8192},  {200, 32768},
                                    {264, 8192}, {264, 131072}, {4096, 8192}, {4096, 32768}};
  for (const auto &[rows, columns] : kShapes) {
    Stopwatch watch(rows, columns);
    std::printf("select %4d x %6d us:", rows, columns);
    watch.fill(kVariants[0], Kind::kGaussian);
    for (const Variant &v : kVariants) std::printf("  %s %.1f", v.name, watch.microseconds(v.variant));
    std::printf("\n");
  }
}

}  // namespace
}  // namespace ic::test
