// SPDX-License-Identifier: Apache-2.0
// A sample of a row and the window of keys that it promises the k-th to be in. A guess only: what is counted later
// decides, so no data gives a wrong answer.
#pragma once

#include "kernels/topk/sm90_windows/bins.cuh"

namespace ic::cuda::windows {

/// What the host decides about sampling.
struct SamplePlan {
  int32_t strata;  // groups of four scores per row, one in each of equal strata
  float margin;    // of the window to both sides, in standard deviations
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

template <class S>
class Sample {
 public:
  /// One group in each stratum, at a place that depends on the length only. The row has at least seven columns.
  __device__ void load(const float *row_scores, const Span &row, const SamplePlan &plan) {
    const int32_t first = (row.begin + 3) & ~3;
    const auto vectors = static_cast<uint32_t>(row.end - first) / 4;
    const auto *from = reinterpret_cast<const float4 *>(row_scores + first);
    const auto strata = static_cast<uint32_t>(plan.strata);
    strata_ = plan.strata;
#pragma unroll
    for (int i = 0; i < S::kSampleVectors; ++i) {
      const uint32_t s = stratum(i);
      scores_[i] = make_float4(0, 0, 0, 0);
      if (s < strata) {
        const uint32_t low = s * vectors / strata;
        const uint32_t high = (s + 1) * vectors / strata;
        uint32_t jitter = s * 0x9e3779b9u + static_cast<uint32_t>(row.count());
        jitter = (jitter ^ (jitter >> 16)) * 0x7feb352du;
        jitter = (jitter ^ (jitter >> 15)) * 0x846ca68bu;
        jitter ^= jitter >> 16;
        scores_[i] = __ldg(from + low + __umulhi(jitter, high - low));
      }
    }
  }
  /// No row follows. (A sample that is neither loaded nor cleared would be kept, in memory, while tiles go by.)
  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < S::kSampleVectors; ++i) scores_[i] = make_float4(0, 0, 0, 0);
    strata_ = 0;
  }
  /// Scores above -inf.
  template <class Body>
  __device__ void for_each(Body &&body) const {
    const auto one = [&](float score) {
      if (score > -INFINITY) body(score);
    };
#pragma unroll
    for (int i = 0; i < S::kSampleVectors; ++i) {
      if (stratum(i) < static_cast<uint32_t>(strata_)) {
        one(scores_[i].x);
        one(scores_[i].y);
        one(scores_[i].z);
        one(scores_[i].w);
      }
    }
  }

 private:
  __device__ static uint32_t stratum(int i) { return static_cast<uint32_t>(i * S::kThreads) + threadIdx.x; }
  float4 scores_[S::kSampleVectors];
  int32_t strata_ = 0;
};

/// Bins over the sample's scores, then, where scores crowd, over keys. Four barriers as a rule, no more than 16.
template <class S>
__device__ inline Window find_window(const Sample<S> &sample, const SamplePlan &plan, int32_t columns, int32_t k) {
  // Ranks in the sample: the best one inside the window, and the last.
  const float fraction = static_cast<float>(4 * plan.strata) * __fdividef(1.0f, static_cast<float>(columns));
  const float expected = static_cast<float>(k) * fraction;
  const float share = static_cast<float>(k) * __fdividef(1.0f, static_cast<float>(columns));
  const auto root_of = [](float x) { return x * rsqrtf(x); };
  const float half = 0.5f * plan.margin * root_of(fmaxf(fmaxf(1.0f - fraction, 0.0f) * (1.0f - share), 1e-6f));
  const float root = root_of(half * half + expected);
  const int32_t slack = 1 + static_cast<int32_t>(8.0f * fraction);  // columns beside the strata
  int32_t ranks[2] = {static_cast<int32_t>((root - half) * (root - half)) - slack,
                      static_cast<int32_t>((root + half) * (root + half)) + 1 + slack};
  const bool open = ranks[0] < 1;  // nothing is surely among the best
  ranks[0] = max(ranks[0], 1);
  const int32_t width = ranks[1] - ranks[0] + 1;
  const int32_t most = width + width / 4 + 8;  // entries of the sample in the window, where scores do not crowd

  uint32_t from = 0xffffffffu;
  uint32_t to = 0;
  sample.for_each([&](float score) {
    if (score < INFINITY) {
      from = min(from, key_of(score));
      to = max(to, key_of(score));
    }
  });
  block_range<S>(&from, &to);
  if (from > to) return {kKeyOfMinusInfinity, kKeyOfMinusInfinity, true};
  const float low = score_of(from);
  const float scale = __fdividef(static_cast<float>(S::kBins), score_of(to) - low);  // may be 0 or inf
  const auto bin_of = [&](float score) { return min(max(__float2int_rz((score - low) * scale), 0), S::kBins - 1); };
  sample.for_each([&](float score) { atomicAdd(bins<S>() + bin_of(score), 1u); });
  __syncthreads();
  Bin found[2];
  find_bins<S>(ranks, found);
  if (found[0].index < 0) return {kKeyOfMinusInfinity, kKeyOfMinusInfinity, true};
  const auto edge = [&](int32_t bin) { return key_of(low + __fdividef(static_cast<float>(bin), scale)); };
  Window window;
  window.high = open || found[0].index == S::kBins - 1 ? kKeyOfInfinity : edge(found[0].index + 1);
  window.low = found[1].index <= 0 ? from : min(edge(found[1].index), window.high);
  window.ties = false;
  if (found[1].index < 0) return {kKeyOfMinusInfinity, window.high, true};
  if (found[1].above + found[1].count - found[0].above <= most) return window;

  // Crowded: is it the lowest key? Its bin, and no other, once more.
  const int32_t crowded = found[1].index;
  from = 0xffffffffu;
  to = 0;
  sample.for_each([&](float score) {
    if (bin_of(score) == crowded) {
      from = min(from, key_of(score));
      to = max(to, key_of(score));
    }
  });
#pragma unroll 1
  for (;;) {
    block_range<S>(&from, &to);
    ranks[0] -= found[1].above;
    ranks[1] -= found[1].above;
    if (from == to) return {from, ranks[0] > 0 && !open ? from : max(window.high, from), true};
    const uint32_t first = from;
    const uint32_t span = to - from;
    const int shift = bin_shift<S>(span);
    sample.for_each([&](float score) {
      if (key_of(score) - first <= span) atomicAdd(bins<S>() + ((key_of(score) - first) >> shift), 1u);
    });
    __syncthreads();
    const int32_t inside[2] = {max(ranks[0], 1), ranks[1]};
    find_bins<S>(inside, found);
    if (ranks[0] > 0 && !open) {
      window.high = min(span, ((static_cast<uint32_t>(found[0].index) + 1) << shift) - 1) + first;
    }
    window.low = first + (static_cast<uint32_t>(found[1].index) << shift);
    window.high = max(window.high, window.low);
    if (found[1].count <= most) return window;
    const uint32_t bin_low = window.low;
    const uint32_t bin_span = (1u << shift) - 1;
    from = 0xffffffffu;
    to = 0;
    sample.for_each([&](float score) {
      if (key_of(score) - bin_low <= bin_span) {
        from = min(from, key_of(score));
        to = max(to, key_of(score));
      }
    });
  }
}

#endif

}  // namespace ic::cuda::windows
