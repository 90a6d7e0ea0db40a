// SPDX-License-Identifier: Apache-2.0
// Preparation and key writing on the GPU: the CPU backend's bytes, in every type and layout, plain and captured. In
// fp32 outputs a NaN is a NaN: processors disagree about its bits.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "cpu/convert.h"
#include "tests/cpu/sparse_memory.h"
#include "tests/gpu/backends.h"
#include "tests/gpu/captured.h"
#include "tests/gpu/device_array.h"

namespace ic::test {
namespace {

enum class Kind { kQueries, kKeys, kReadyKeys };

struct Shape {
  Kind kind = Kind::kQueries;
  int32_t head_dim = 128;
  int32_t num_heads = 5;  // queries
  int32_t x_dtype = IC_DTYPE_F32;
  int32_t dtype = IC_DTYPE_E4M3;
  int32_t rope_dim = 64;
  uint32_t flags = 0;
  bool norm = false;
  bool bias = false;
  int32_t page_tokens = 0;
  int64_t count = 23;
  bool illegal = false;    // positions and slots out of range
  bool special = false;    // NaN, infinities, subnormals, -0, zeros, huge and tiny vectors
  bool grid = false;       // values on a coarse grid: ties in every rounding
  bool unaligned = false;  // element alignment only
};

std::string describe(const Shape &s) {
  const char *const kinds[] = {"queries", "keys", "ready keys"};
  return std::string(kinds[static_cast<int>(s.kind)]) + ", dim " + std::to_string(s.head_dim) + ", heads " +
         std::to_string(s.num_heads) + ", from " + std::to_string(s.x_dtype) + " to " + std::to_string(s.dtype) +
         ", rope " + std::to_string(s.rope_dim) + ", flags " + std::to_string(s.flags) + (s.norm ? ", norm" : "") +
         (s.bias ? ", bias" : "") + ", page_tokens " + std::to_string(s.page_tokens) + ", rows " +
         std::to_string(s.count) + (s.illegal ? ", illegal" : "") + (s.special ? ", special" : "") +
         (s.grid ? ", grid" : "") + (s.unaligned ? ", unaligned" : "");
}

constexpr int32_t kPositions = 40;
constexpr uint8_t kUntouched = 0xa5;

int64_t bytes_of(int32_t dtype) { return cpu::dtype_bytes(dtype); }

/// What a call may write.
struct Result {
  std::vector<uint8_t> out;     // q_out, or the pool
  std::vector<uint8_t> scales;  // q_scale_out, or the scales of a contiguous pool
  uint32_t fault = 0;
};

bool is_nan_at(const std::vector<uint8_t> &bytes, size_t at) {
  float value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value != value;
}

void expect_same(const Result &cuda, const Result &cpu, int32_t dtype) {
  EXPECT_EQ(cuda.fault, cpu.fault);
  EXPECT_EQ(cuda.scales, cpu.scales);
  ASSERT_EQ(cuda.out.size(), cpu.out.size());
  if (std::memcmp(cuda.out.data(), cpu.out.data(), cpu.out.size()) == 0) return;
  const size_t step = dtype == IC_DTYPE_F32 ? 4 : 1;
  for (size_t i = 0; i + step <= cpu.out.size(); i += step) {
    if (dtype == IC_DTYPE_F32 && is_nan_at(cuda.out, i) && is_nan_at(cpu.out, i)) continue;
    ASSERT_EQ(std::memcmp(cuda.out.data() + i, cpu.out.data() + i, step), 0)
        << "byte " << i << ": cuda " << int{cuda.out[i]} << ", cpu " << int{cpu.out[i]};
  }
}

class Problem {
 public:
  Problem(const Shape &shape, uint32_t seed) : s(shape), random_(seed) {
    if (s.kind != Kind::kQueries) s.num_heads = 1;
    const int64_t vector = s.head_dim * bytes_of(s.dtype);
    const int64_t pad = s.unaligned ? draw(1, 5) : 8 * draw(0, 2);  // elements
    x_stride = int64_t{s.num_heads} * s.head_dim + pad;
    out_stride = int64_t{s.num_heads} * s.head_dim + (s.unaligned ? draw(1, 5) : 16 * draw(0, 2));
    const int64_t grain = s.dtype == IC_DTYPE_E4M3 ? 4 : bytes_of(s.dtype);
    const int64_t pool_pad = s.unaligned ? grain * draw(1, 5) : 16 * draw(0, 2);
    if (s.page_tokens == 0) {
      capacity = 2 * s.count + 3;
      pool_stride = vector + pool_pad;
    } else {
      capacity = 2 * s.count / s.page_tokens + 2;
      pool_stride = s.page_tokens * (vector + (s.dtype == IC_DTYPE_E4M3 ? 4 : 0)) + pool_pad;
    }
    key_stride = vector + (s.unaligned ? bytes_of(s.dtype) * draw(1, 5) : 16 * draw(0, 2));
    redraw();
  }

  /// New contents; sizes, strides and flags stay, as in a replayed graph.
  void redraw() {
    std::normal_distribution<float> normal(0.0f, 3.0f);
    const size_t elements = static_cast<size_t>(s.count * x_stride);
    std::vector<float> values(elements);
    for (float &v : values) v = s.grid ? 0.5f * static_cast<float>(draw(-896, 896)) : normal(random_);
    if (s.special) sprinkle(&values);
    x.resize(elements * static_cast<size_t>(bytes_of(s.x_dtype)));
    cpu::convert_from_f32(s.x_dtype, values.data(), x.data(), static_cast<int64_t>(elements));
    if (s.special && s.x_dtype != IC_DTYPE_F32) {  // any code at all
      for (int i = 0; i < 50; ++i)
        x[static_cast<size_t>(draw(0, static_cast<int32_t>(x.size()) - 1))] = static_cast<uint8_t>(draw(0, 255));
    }
    cosine.resize(static_cast<size_t>(kPositions * std::max(s.rope_dim / 2, 1)));
    sine.resize(cosine.size());
    for (size_t i = 0; i < cosine.size(); ++i) {
      const float angle = normal(random_);
      cosine[i] = s.grid ? 1.0f : std::cos(angle);
      sine[i] = s.grid ? 0.0f : std::sin(angle);
    }
    weight.resize(static_cast<size_t>(s.head_dim));
    bias.resize(weight.size());
    for (size_t i = 0; i < weight.size(); ++i) {
      weight[i] = normal(random_);
      bias[i] = normal(random_);
    }
    positions.clear();
    slots.clear();
    std::vector<int64_t> order(static_cast<size_t>(capacity * std::max(s.page_tokens, 1)));
    std::iota(order.begin(), order.end(), int64_t{0});
    std::shuffle(order.begin(), order.end(), random_);
    for (int64_t row = 0; row < s.count; ++row) {
      positions.push_back(draw(0, kPositions - 1));
      slots.push_back(draw(0, 6) == 0 ? -1 : order[static_cast<size_t>(row)]);
      if (!s.illegal) continue;
      constexpr int32_t kWrong[] = {-1, kPositions, INT32_MAX, INT32_MIN};
      if (draw(0, 3) == 0) positions.back() = kWrong[draw(0, 3)];
      const int64_t limit = capacity * std::max(s.page_tokens, 1);
      const int64_t no_slot[] = {-2, limit, std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()};
      if (draw(0, 3) == 0) slots.back() = no_slot[draw(0, 3)];
    }
    ready.resize(static_cast<size_t>(s.count * key_stride));
    for (uint8_t &byte : ready) byte = static_cast<uint8_t>(draw(0, 255));
    ready_scales.resize(static_cast<size_t>(s.count));
    for (float &scale : ready_scales) scale = normal(random_);
  }

  size_t out_bytes() const {
    return static_cast<size_t>(s.kind == Kind::kQueries ? s.count * out_stride * bytes_of(s.dtype)
                                                        : capacity * pool_stride);
  }
  size_t scale_bytes() const {
    return 4 * static_cast<size_t>(s.kind == Kind::kQueries ? s.count * s.num_heads : capacity);
  }

  struct Pointers {
    const uint8_t *x, *ready;
    const float *cosine, *sine, *weight, *bias, *ready_scales;
    const int32_t *positions;
    const int64_t *slots;
    uint8_t *out;
    float *scales;
    uint32_t *fault;
  };

  PoolView pool(const Pointers &at) const {
    PoolView pool{};
    pool.data = at.out;
    pool.scales = s.dtype == IC_DTYPE_E4M3 && s.page_tokens == 0 ? at.scales : nullptr;
    pool.stride_bytes = pool_stride;
    pool.capacity = capacity;
    pool.page_tokens = s.page_tokens;
    return pool;
  }

  void run(Backend &backend, const Pointers &at, cudaStream_t stream) const {
    if (s.kind == Kind::kReadyKeys) {
      backend.write_keys({at.ready, key_stride, s.dtype == IC_DTYPE_E4M3 ? at.ready_scales : nullptr, at.slots, s.count,
                          s.dtype, s.head_dim, pool(at), at.fault},
                         stream);
      return;
    }
    PrepareParams p{};
    p.x = at.x;
    p.x_row_stride = x_stride;
    p.count = s.count;
    p.x_dtype = s.x_dtype;
    p.dtype = s.dtype;
    p.num_heads = s.num_heads;
    p.head_dim = s.head_dim;
    p.positions = s.rope_dim > 0 ? at.positions : nullptr;
    p.cos_table = at.cosine;
    p.sin_table = at.sine;
    p.num_positions = kPositions;
    p.rope_dim = s.rope_dim;
    p.flags = s.flags;
    p.norm_eps = s.norm ? 1e-6f : 0.0f;
    p.norm_weight = s.norm ? at.weight : nullptr;
    p.norm_bias = s.norm && s.bias ? at.bias : nullptr;
    p.fault = at.fault;
    if (s.kind == Kind::kQueries) {
      p.q_out = at.out;
      p.q_out_stride = out_stride;
      p.q_scale_out = s.dtype == IC_DTYPE_E4M3 ? at.scales : nullptr;
      backend.prepare_queries(p, stream);
    } else {
      p.pool = pool(at);
      p.slots = at.slots;
      backend.prepare_keys(p, stream);
    }
  }

  Result run_on_cpu() {
    Result result{std::vector<uint8_t>(out_bytes(), kUntouched), std::vector<uint8_t>(scale_bytes(), kUntouched), 0};
    run(cpu_backend(),
        {x.data(), ready.data(), cosine.data(), sine.data(), weight.data(), bias.data(), ready_scales.data(),
         positions.data(), slots.data(), result.out.data(), reinterpret_cast<float *>(result.scales.data()),
         &result.fault},
        nullptr);
    return result;
  }

  Shape s;
  int64_t x_stride = 0, out_stride = 0, pool_stride = 0, key_stride = 0, capacity = 0;
  std::vector<uint8_t> x, ready;
  std::vector<float> cosine, sine, weight, bias, ready_scales;
  std::vector<int32_t> positions;
  std::vector<int64_t> slots;

 private:
  int32_t draw(int32_t low, int32_t high) { return std::uniform_int_distribution<int32_t>(low, high)(random_); }

  void sprinkle(std::vector<float> *values) {
    constexpr float kInf = std::numeric_limits<float>::infinity();
    constexpr float kSpecial[] = {
        std::numeric_limits<float>::quiet_NaN(), kInf, -kInf, -0.0f, 0.0f, 1e-40f, -1e-42f, 3e38f, -3e38f,
        std::numeric_limits<float>::denorm_min()};
    for (int64_t row = 0; row < s.count; ++row) {
      for (int32_t head = 0; head < s.num_heads; ++head) {
        float *v = values->data() + row * x_stride + int64_t{head} * s.head_dim;
        const int32_t how = draw(0, 9);
        for (int32_t d = 0; d < s.head_dim; ++d) {
          if (how == 0) v[d] = 0.0f;
          if (how == 1) v[d] *= 1e-7f;   // below the smallest scale
          if (how == 2) v[d] *= 1e-38f;  // subnormal squares
          if (how == 3) v[d] *= 1e37f;
          if (how == 4) v[d] = v[0];  // no variance
        }
        if (how > 6) v[draw(0, s.head_dim - 1)] = kSpecial[draw(0, 9)];
      }
    }
  }

  std::mt19937 random_;
};

/// The arrays of a problem on the device.
class Device {
 public:
  explicit Device(const Problem &problem)
      : problem_(problem),
        x_(problem.x, shift(bytes_of(problem.s.x_dtype))),
        ready_(problem.ready, shift(bytes_of(problem.s.dtype))),
        cosine_(problem.cosine, shift(4)),
        sine_(problem.sine, shift(4)),
        weight_(problem.weight),
        bias_(problem.bias),
        ready_scales_(problem.ready_scales),
        positions_(problem.positions),
        slots_(problem.slots),
        out_(problem.out_bytes(),
             shift(problem.s.kind != Kind::kQueries && problem.s.dtype == IC_DTYPE_E4M3 ? 4
                                                                                        : bytes_of(problem.s.dtype))),
        scales_(problem.scale_bytes()),
        fault_(1) {
    reset_outputs();
  }

  void upload() {
    x_.assign(problem_.x);
    ready_.assign(problem_.ready);
    cosine_.assign(problem_.cosine);
    sine_.assign(problem_.sine);
    weight_.assign(problem_.weight);
    bias_.assign(problem_.bias);
    ready_scales_.assign(problem_.ready_scales);
    positions_.assign(problem_.positions);
    slots_.assign(problem_.slots);
    reset_outputs();
  }

  void reset_outputs() {
    out_.assign(std::vector<uint8_t>(problem_.out_bytes(), kUntouched));
    scales_.assign(std::vector<uint8_t>(problem_.scale_bytes(), kUntouched));
    fault_.assign({0});
  }

  void run(Backend &backend, cudaStream_t stream) const {
    problem_.run(
        backend,
        {x_.data(), ready_.data(), cosine_.data(), sine_.data(), weight_.data(), bias_.data(), ready_scales_.data(),
         positions_.data(), slots_.data(), out_.data(), reinterpret_cast<float *>(scales_.data()), fault_.data()},
        stream);
  }

  Result read() const {
    IC_REQUIRE_CUDA(cudaDeviceSynchronize());
    return {out_.read(), scales_.read(), fault_.read()[0]};
  }

 private:
  size_t shift(int64_t bytes) const { return problem_.s.unaligned ? static_cast<size_t>(bytes) : 0; }

  const Problem &problem_;
  DeviceArray<uint8_t> x_, ready_;
  DeviceArray<float> cosine_, sine_, weight_, bias_, ready_scales_;
  DeviceArray<int32_t> positions_;
  DeviceArray<int64_t> slots_;
  DeviceArray<uint8_t> out_, scales_;
  DeviceArray<uint32_t> fault_;
};

void compare(const Shape &shape, uint32_t seed, Backend &backend = cuda_backend()) {
  SCOPED_TRACE(describe(shape) + ", seed " + std::to_string(seed));
  Problem problem(shape, seed);
  const Result expected = problem.run_on_cpu();
  const Device device(problem);
  device.run(backend, nullptr);
  expect_same(device.read(), expected, shape.dtype);
}

constexpr int32_t kInputs[] = {IC_DTYPE_F32, IC_DTYPE_F16, IC_DTYPE_BF16};
constexpr int32_t kOutputs[] = {IC_DTYPE_F32, IC_DTYPE_F16, IC_DTYPE_BF16, IC_DTYPE_E4M3};
constexpr int32_t kPageTokens[] = {0, 1, 16, 32, 64, 128};

/// A random shape of a type; every flag, and rotations of any even width.
Shape random_shape(Kind kind, int32_t head_dim, int32_t x_dtype, int32_t dtype, std::mt19937 *random) {
  const auto draw = [random](int32_t low, int32_t high) {
    return std::uniform_int_distribution<int32_t>(low, high)(*random);
  };
  const int32_t rope_dims[] = {0, 2, 6, 16, 20, head_dim / 2, head_dim - 2, head_dim};
  Shape shape{.kind = kind, .head_dim = head_dim, .x_dtype = x_dtype, .dtype = dtype};
  shape.num_heads = draw(0, 1) == 0 ? draw(1, 9) : draw(1, 80);
  shape.rope_dim = rope_dims[draw(0, 7)];
  shape.flags = static_cast<uint32_t>(draw(0, 7)) | (dtype == IC_DTYPE_E4M3 && draw(0, 1) == 1 ? IC_PREPARE_UE8M0 : 0u);
  shape.norm = kind == Kind::kKeys && draw(0, 3) > 0;
  shape.bias = draw(0, 1) == 1;
  shape.page_tokens = kPageTokens[draw(0, 5)];
  shape.count = draw(1, 70);
  shape.illegal = draw(0, 4) == 0;
  shape.special = draw(0, 3) == 0;
  shape.grid = draw(0, 4) == 0;
  shape.unaligned = draw(0, 3) == 0;
  return shape;
}

void compare_random(Kind kind, int rounds) {
  std::mt19937 random(run_seed());
  for (int round = 0; round < rounds; ++round) {
    for (const int32_t head_dim : {32, 64, 128}) {
      for (const int32_t x_dtype : kInputs) {
        for (const int32_t dtype : kOutputs) {
          compare(random_shape(kind, head_dim, x_dtype, dtype, &random), static_cast<uint32_t>(random()));
          if (testing::Test::HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST(Prepare, QueriesOfEveryType) { compare_random(Kind::kQueries, 4); }
TEST(Prepare, KeysOfEveryType) { compare_random(Kind::kKeys, 4); }
TEST(Prepare, ReadyKeysOfEveryType) { compare_random(Kind::kReadyKeys, 2); }
TEST(Prepare, RandomShapesLong) {
  compare_random(Kind::kQueries, 12);
  compare_random(Kind::kKeys, 12);
  compare_random(Kind::kReadyKeys, 6);
}

TEST(Prepare, ModelShapes) {
  // DeepSeek-V3.2 (halves) and GLM-5 (neighbours), decode and a chunk of prefill whose heads share a work item.
  for (const uint32_t flags : {IC_PREPARE_HADAMARD, IC_PREPARE_ROPE_INTERLEAVED | IC_PREPARE_HADAMARD}) {
    for (const int64_t count : {1, 130}) {
      compare({.num_heads = 64, .x_dtype = IC_DTYPE_BF16, .flags = flags, .count = count}, run_seed());
      compare({.num_heads = 64, .x_dtype = IC_DTYPE_BF16, .flags = flags | IC_PREPARE_UE8M0, .count = count},
              run_seed() + 1);
      compare({.kind = Kind::kKeys,
               .x_dtype = IC_DTYPE_BF16,
               .flags = flags,
               .norm = true,
               .bias = true,
               .page_tokens = 64,
               .count = count},
              run_seed() + 2);
    }
  }
}

TEST(Prepare, ManyRowsWhoseHeadsShareAnItem) {
  for (const int32_t head_dim : {32, 64, 128}) {
    for (const int32_t x_dtype : {IC_DTYPE_BF16, IC_DTYPE_F32}) {
      const int64_t count = 640 * 128 / head_dim;  // 61 heads: the last item of a row has fewer
      Shape shape{
          .head_dim = head_dim, .num_heads = 61, .x_dtype = x_dtype, .flags = IC_PREPARE_HADAMARD, .count = count};
      shape.rope_dim = head_dim / 2;
      shape.illegal = true;
      compare(shape, run_seed());
      shape.unaligned = true;
      compare(shape, run_seed() + 1);
    }
  }
}

TEST(Prepare, TiesRoundToEven) {
  for (const int32_t dtype : kOutputs) {
    compare({.num_heads = 40, .dtype = dtype, .rope_dim = 0, .count = 100, .grid = true}, run_seed());
  }
  compare({.num_heads = 40, .flags = IC_PREPARE_UE8M0, .count = 100, .grid = true}, run_seed());
}

TEST(Prepare, SpecialValues) {
  uint32_t seed = run_seed();
  for (const int32_t dtype : kOutputs) {
    for (const uint32_t flags : {0u, IC_PREPARE_HADAMARD}) {
      compare({.num_heads = 64, .dtype = dtype, .flags = flags, .count = 60, .special = true}, seed++);
      compare({.kind = Kind::kKeys, .dtype = dtype, .flags = flags, .norm = true, .count = 500, .special = true},
              seed++);
    }
  }
  compare({.num_heads = 64, .flags = IC_PREPARE_UE8M0, .count = 60, .special = true}, seed++);
}

TEST(Prepare, IllegalValuesAreSkippedAndReported) {
  uint32_t seen = 0;
  for (uint32_t i = 0; i < 18; ++i) {
    const Shape shape{
        .kind = static_cast<Kind>(i % 3), .page_tokens = kPageTokens[i / 3], .count = 90, .illegal = true};
    compare(shape, run_seed() + i);
    seen |= Problem(shape, run_seed() + i).run_on_cpu().fault;
  }
  EXPECT_EQ(seen, IC_FAULT_POSITION | IC_FAULT_SLOT) << "the test has not met every fault";
}

TEST(Prepare, NothingToDo) {
  for (const Kind kind : {Kind::kQueries, Kind::kKeys, Kind::kReadyKeys}) {
    Problem problem({.kind = kind, .count = 5}, run_seed());
    const Device device(problem);
    problem.s.count = 0;
    device.run(cuda_backend(), nullptr);
    problem.s.count = 5;
    for (const uint8_t byte : device.read().out) ASSERT_EQ(byte, kUntouched);
  }
}

TEST(Prepare, MaxCtasChangesNoByte) {
  for (const int32_t max_ctas : {1, 3, 500}) {
    const std::unique_ptr<Backend> limited = make_cuda_backend({0, max_ctas, {}});
    for (const Kind kind : {Kind::kQueries, Kind::kKeys, Kind::kReadyKeys}) {
      compare({.kind = kind, .num_heads = 9, .norm = kind == Kind::kKeys, .page_tokens = 64, .count = 300}, run_seed(),
              *limited);
    }
  }
}

TEST(Prepare, CapturedAndReplayedWithOtherContents) {
  std::mt19937 random(run_seed());
  for (uint32_t i = 0; i < 12; ++i) {
    const Shape shape = random_shape(static_cast<Kind>(i % 3), 32 << i % 3, kInputs[i % 3], kOutputs[i % 4], &random);
    SCOPED_TRACE(describe(shape));
    Problem problem(shape, run_seed() + i);
    Device device(problem);
    CapturedGraph graph([&](cudaStream_t stream) { device.run(cuda_backend(), stream); });
    for (const uint8_t byte : device.read().out) ASSERT_EQ(byte, kUntouched) << "ran in the capture";
    for (int replay = 0; replay < 4; ++replay) {
      graph.replay();
      expect_same(device.read(), problem.run_on_cpu(), shape.dtype);
      if (HasFatalFailure()) return;
      problem.redraw();
      device.upload();
    }
  }
}

TEST(Prepare, ReplaysAreIdentical) {
  for (const Kind kind : {Kind::kQueries, Kind::kKeys, Kind::kReadyKeys}) {
    const Shape shape{.kind = kind, .flags = IC_PREPARE_HADAMARD, .norm = kind == Kind::kKeys, .count = 60};
    Problem problem(shape, run_seed());
    Device device(problem);
    CapturedGraph graph([&](cudaStream_t stream) { device.run(cuda_backend(), stream); });
    graph.replay();
    const Result first = device.read();
    for (int i = 0; i < 25; ++i) {
      device.reset_outputs();
      graph.replay();
      expect_same(device.read(), first, shape.dtype);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Prepare, EightThreadsOnOneBackend) {
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 8; ++t) {
    threads.emplace_back([t] {
      const Shape shape{
          .kind = static_cast<Kind>(t % 3), .flags = IC_PREPARE_HADAMARD, .page_tokens = kPageTokens[t % 6]};
      Problem problem(shape, run_seed() + t);
      const Result expected = problem.run_on_cpu();
      Device device(problem);
      const TestStream stream;
      for (int i = 0; i < 10; ++i) {
        device.reset_outputs();
        device.run(cuda_backend(), stream.get());
        stream.wait();
        expect_same(device.read(), expected, shape.dtype);
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
}

/// Pages and rows beyond 2^32 bytes. The host side is address space: only what is touched exists.
TEST(Prepare, OffsetsBeyond32BitsLong) {
  constexpr int64_t kStride = int64_t{5} << 30;  // of pages
  constexpr int64_t kTokens = 16, kDim = 32, kPageBytes = kTokens * (kDim + 4);
  constexpr int64_t kXStride = (int64_t{1} << 31) - 8;  // elements
  constexpr int64_t kRows = 2;
  const size_t pool_bytes = kStride + kPageBytes, x_bytes = (kXStride + kDim) * 2;
  cpu::SparseMemory host_pool(pool_bytes), host_x(x_bytes);
  auto *pool = static_cast<uint8_t *>(device_malloc(pool_bytes));
  auto *x = static_cast<uint16_t *>(device_malloc(x_bytes));
  std::mt19937 random(run_seed());
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t d = 0; d < kDim; ++d)
      host_x.as<uint16_t>()[row * kXStride + d] = static_cast<uint16_t>(random() % 0x7000);
    upload(x + row * kXStride, host_x.as<uint16_t>() + row * kXStride, kDim * 2);
  }
  IC_REQUIRE_CUDA(cudaMemset(pool + kStride, 0, kPageBytes));
  IC_REQUIRE_CUDA(cudaMemset(pool, 0, kPageBytes));
  const std::vector<int64_t> slots{kTokens + 3, 5};  // page 1, page 0
  const DeviceArray<int64_t> device_slots(slots);
  PrepareParams p{};
  p.x = x;
  p.x_row_stride = kXStride;
  p.count = kRows;
  p.x_dtype = IC_DTYPE_F16;
  p.dtype = IC_DTYPE_E4M3;
  p.num_heads = 1;
  p.head_dim = kDim;
  p.pool = {pool, nullptr, kStride, 2, kTokens, 0, nullptr, 0, nullptr};
  p.slots = device_slots.data();
  cuda_backend().prepare_keys(p, nullptr);
  PrepareParams on_host = p;
  on_host.x = host_x.bytes();
  on_host.pool.data = host_pool.bytes();
  on_host.slots = slots.data();
  cpu_backend().prepare_keys(on_host, nullptr);
  std::vector<uint8_t> page(kPageBytes);
  for (const int64_t at : {int64_t{0}, kStride}) {
    IC_REQUIRE_CUDA(cudaMemcpy(page.data(), pool + at, page.size(), cudaMemcpyDeviceToHost));
    EXPECT_EQ(std::memcmp(page.data(), host_pool.bytes() + at, page.size()), 0) << "page at byte " << at;
  }
  cudaFree(x);
  cudaFree(pool);
}

}  // namespace
}  // namespace ic::test
