// SPDX-License-Identifier: Apache-2.0
// Outputs of a selection on the host and on the device, and rows of scores that a selection could stumble over.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/params.h"
#include "indexcache.h"
#include "tests/gpu/device_array.h"

namespace ic::test {

constexpr int32_t kPoison = -77;

/// What a selection is asked for.
struct Wanted {
  int32_t k = 32;
  int32_t order = IC_ORDER_POSITION;
  bool scores = true;
  int32_t index_pad = 0;  // entries between rows
};

/// Everything that a selection wrote, the untouched entries between rows included.
struct Selection {
  std::vector<int32_t> indices, lengths;
  std::vector<float> scores;
};

inline SelectionOut selection_out(const Wanted &wanted, int32_t *indices, int32_t *lengths, float *scores) {
  return {indices,
          lengths,
          wanted.scores ? scores : nullptr,
          IC_K_PADDED(wanted.k) + wanted.index_pad,
          wanted.k,
          IC_K_PADDED(wanted.k),
          wanted.order,
          0};
}

inline Selection poisoned_selection(const Wanted &wanted, int32_t rows) {
  const auto entries = static_cast<size_t>(rows) * static_cast<size_t>(IC_K_PADDED(wanted.k) + wanted.index_pad);
  return {std::vector<int32_t>(entries, kPoison), std::vector<int32_t>(static_cast<size_t>(rows), kPoison),
          std::vector<float>(entries, static_cast<float>(kPoison))};
}

class DeviceSelection {
 public:
  DeviceSelection(const Wanted &wanted, int32_t rows, size_t shift_bytes = 0)
      : wanted_(wanted),
        poison_(poisoned_selection(wanted, rows)),
        indices_(poison_.indices, shift_bytes),
        lengths_(poison_.lengths, shift_bytes),
        scores_(poison_.scores, shift_bytes) {}
  SelectionOut out() const { return selection_out(wanted_, indices_.data(), lengths_.data(), scores_.data()); }
  void poison() {
    indices_.assign(poison_.indices);
    lengths_.assign(poison_.lengths);
    scores_.assign(poison_.scores);
  }
  Selection read() const {
    IC_REQUIRE_CUDA(cudaDeviceSynchronize());
    return {indices_.read(), lengths_.read(), scores_.read()};
  }

 private:
  Wanted wanted_;
  Selection poison_;
  DeviceArray<int32_t> indices_, lengths_;
  DeviceArray<float> scores_;
};

/// Device workspace full of NaN patterns and absurd counters, with a guard behind it.
class PoisonedWorkspace {
 public:
  explicit PoisonedWorkspace(size_t bytes) : bytes_(bytes), data_(device_malloc(bytes + kGuardBytes)) {
    fill(0, bytes_ + kGuardBytes, kGuard);
    poison();
  }
  ~PoisonedWorkspace() {
    std::vector<uint8_t> guard(kGuardBytes);
    if (cudaMemcpy(guard.data(), static_cast<uint8_t *>(data_) + bytes_, kGuardBytes, cudaMemcpyDeviceToHost) ==
        cudaSuccess) {
      EXPECT_EQ(guard, std::vector<uint8_t>(kGuardBytes, kGuard)) << "written behind a workspace of " << bytes_;
    }
    cudaFree(data_);
  }
  PoisonedWorkspace(const PoisonedWorkspace &) = delete;
  PoisonedWorkspace &operator=(const PoisonedWorkspace &) = delete;
  void poison() { fill(0, bytes_, 0xff); }
  void *data() const { return data_; }
  size_t size() const { return bytes_; }

 private:
  static constexpr uint8_t kGuard = 0xa5;
  static constexpr size_t kGuardBytes = 256;
  void fill(size_t from, size_t bytes, uint8_t value) {
    IC_REQUIRE_CUDA(cudaMemset(static_cast<uint8_t *>(data_) + from, value, bytes));
    IC_REQUIRE_CUDA(cudaStreamSynchronize(cudaStreamLegacy));
  }
  size_t bytes_;
  void *data_;
};

/// Host workspace on 256 bytes.
class HostWorkspace {
 public:
  explicit HostWorkspace(size_t bytes) : size_(bytes), memory_(bytes + 256) {}
  void *data() { return memory_.data() + (256 - reinterpret_cast<uintptr_t>(memory_.data()) % 256) % 256; }
  size_t size() const { return size_; }

 private:
  size_t size_;
  std::vector<uint8_t> memory_;
};

inline void sort_rows(Selection *s, const Wanted &wanted) {
  const auto stride = static_cast<size_t>(IC_K_PADDED(wanted.k) + wanted.index_pad);
  for (size_t r = 0; r < s->lengths.size(); ++r) {
    const auto count = static_cast<size_t>(std::clamp(s->lengths[r], 0, wanted.k));
    std::vector<std::pair<int32_t, float>> row;
    for (size_t i = 0; i < count; ++i) row.emplace_back(s->indices[r * stride + i], s->scores[r * stride + i]);
    std::sort(row.begin(), row.end(), [](const auto &a, const auto &b) { return a.first < b.first; });
    for (size_t i = 0; i < count; ++i) std::tie(s->indices[r * stride + i], s->scores[r * stride + i]) = row[i];
  }
}

/// Bit for bit; with IC_ORDER_ANY up to the order.
inline void expect_same(Selection got, Selection expected, const Wanted &wanted) {
  if (wanted.order == IC_ORDER_ANY) {
    sort_rows(&got, wanted);
    sort_rows(&expected, wanted);
  }
  const auto stride = static_cast<size_t>(IC_K_PADDED(wanted.k) + wanted.index_pad);
  for (size_t r = 0; r < expected.lengths.size(); ++r) {
    ASSERT_EQ(got.lengths[r], expected.lengths[r]) << "row " << r;
    for (size_t i = r * stride; i < (r + 1) * stride; ++i) {
      ASSERT_EQ(got.indices[i], expected.indices[i])
          << "row " << r << ", entry " << i - r * stride << " of " << expected.lengths[r];
      ASSERT_EQ(std::memcmp(&got.scores[i], &expected.scores[i], 4), 0)
          << "row " << r << ", score " << i - r * stride << ": " << got.scores[i] << ", expected "
          << expected.scores[i];
    }
  }
}

// ---- rows of scores ----------------------------------------------------------------------------------------------

enum class Kind : int32_t {
  kGaussian,
  kClustered,
  kAllEqual,
  kIncreasing,
  kDecreasing,
  kRelu1,
  kRelu50,
  kNearConstant,
  kFourValues,
  kMinusInfinity60,
  kTrapHigh,
  kTrapLow,
  kNan,
  kAnyBits,
  kZeros,
  kAllNan,
  kNumKinds
};

inline const char *kind_name(Kind kind) {
  constexpr const char *kNames[] = {"Gaussian",      "clustered", "all equal",           "increasing",
                                    "decreasing",    "ReLU 1 %",  "ReLU 50 %",           "near-constant + outliers",
                                    "four values",   "60 % -inf", "trap: sample high",   "trap: sample low",
                                    "NaN sprinkled", "any bits",  "zeros of both signs", "all NaN"};
  return kNames[static_cast<int32_t>(kind)];
}

/// A quick generator: rows of 10^7 scores are drawn in the tests.
class Draw {
 public:
  explicit Draw(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  uint32_t bits() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return static_cast<uint32_t>(state_ >> 32);
  }
  float uniform() { return static_cast<float>(bits() >> 8) * 0x1p-24f; }
  float normal() {  // sum of eight: close enough
    float sum = -4.0f;
    for (int i = 0; i < 4; ++i) {
      const uint32_t both = bits();
      sum += static_cast<float>(both & 0xffffu) * 0x1p-16f + static_cast<float>(both >> 16) * 0x1p-16f;
    }
    return sum * 1.2f;
  }

 private:
  uint64_t state_;
};

/// Positions that the kernel looks at first, if the row starts on 16 bytes (kernels/topk/smxx/select.cu).
inline bool is_sampled(int32_t column, int32_t length) {
  const auto hash = [](uint32_t x) {
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
  };
  const int32_t vectors = length / 4;
  const int32_t strata = length > 65536 ? 1024 : length > 16384 ? 512 : 256;
  if (vectors < strata) return false;
  for (int32_t s = std::max(0, static_cast<int32_t>(int64_t{column / 4} * strata / vectors) - 1); s < strata; ++s) {
    const auto low = static_cast<int32_t>(int64_t{vectors} * s / strata);
    const auto high = static_cast<int32_t>(int64_t{vectors} * (s + 1) / strata);
    if (low > column / 4) return false;
    const uint32_t jitter = hash(static_cast<uint32_t>(s) * 0x9e3779b9u + static_cast<uint32_t>(length));
    if (low + static_cast<int32_t>(jitter % static_cast<uint32_t>(high - low)) == column / 4) return true;
  }
  return false;
}

inline void fill_row(Kind kind, float *scores, int32_t length, Draw *draw) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  float level = draw->normal();
  for (int32_t i = 0; i < length; ++i) {
    float x = 0;
    switch (kind) {
      case Kind::kGaussian:
        x = draw->normal();
        break;
      case Kind::kClustered:  // runs of about 64 keys with a common level
        if (draw->bits() % 64 == 0) level = draw->normal();
        x = level + 0.2f * draw->normal();
        break;
      case Kind::kAllEqual:
        x = 2.5f;
        break;
      case Kind::kIncreasing:
        x = static_cast<float>(i) * 0.001f;
        break;
      case Kind::kDecreasing:
        x = -static_cast<float>(i);
        break;
      case Kind::kRelu1:
        x = std::max(draw->uniform() - 0.99f, 0.0f);
        break;
      case Kind::kRelu50:
        x = std::max(draw->normal(), 0.0f);
        break;
      case Kind::kNearConstant: {
        const uint32_t bits = draw->bits();
        x = 1.0f + static_cast<float>(bits % 8) * 0x1p-23f;
        if (bits >> 20 == 7) x = draw->normal() * 1e6f;
        break;
      }
      case Kind::kFourValues:
        x = static_cast<float>(draw->bits() >> 30);
        break;
      case Kind::kMinusInfinity60:
        x = draw->uniform() < 0.6f ? -kInf : draw->normal();
        break;
      case Kind::kTrapHigh:
        x = draw->normal() + (is_sampled(i, length) ? 100.0f : 0.0f);
        break;
      case Kind::kTrapLow:
        x = draw->normal() - (is_sampled(i, length) ? 100.0f : 0.0f);
        break;
      case Kind::kNan:
        x = draw->bits() % 10 == 0 ? std::numeric_limits<float>::quiet_NaN() : draw->normal();
        break;
      case Kind::kAnyBits: {
        const uint32_t bits = draw->bits();
        std::memcpy(&x, &bits, 4);
        break;
      }
      case Kind::kZeros:
        x = draw->bits() % 2 == 0 ? 0.0f : -0.0f;
        break;
      default:
        x = draw->bits() % 2 == 0 ? std::numeric_limits<float>::quiet_NaN() : -std::numeric_limits<float>::quiet_NaN();
    }
    scores[i] = x;
  }
}

}  // namespace ic::test
