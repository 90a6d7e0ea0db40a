// SPDX-License-Identifier: Apache-2.0
// A sample of a row and the window of keys that it promises the k-th to be in. A guess only: what is counted later
// decides, so no data gives a wrong answer.
#pragma once

#include "kernels/topk/sm90/bins.cuh"

namespace ic::cuda {

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
  /// By all threads; neighbouring strata in neighbouring threads.
  template <class Body>
  __device__ void for_each_group(Body &&body) const {
#pragma unroll
    for (int i = 0; i < S::kSampleVectors; ++i) body(scores_[i], stratum(i) < static_cast<uint32_t>(strata_));
  }

 private:
  __device__ static uint32_t stratum(int i) { return static_cast<uint32_t>(i * S::kThreads) + threadIdx.x; }
  float4 scores_[S::kSampleVectors];
  int32_t strata_ = 0;
};

/// A window, and where to look next should the k-th lie outside of it.
struct Guess {
  Window window;
  uint32_t lower;   // key below the window
  uint32_t higher;  // above it
};

/// Bins over the sample's scores, then, where scores crowd, over keys. Five barriers as a rule, no more than 16.
template <class S>
__device__ inline Guess find_window(const Sample<S> &sample, const SamplePlan &plan, int32_t columns, int32_t k) {
  // Ranks in the sample: the best one inside the window, and the last.
  const float fraction = static_cast<float>(4 * plan.strata) * __fdividef(1.0f, static_cast<float>(columns));
  const float expected = static_cast<float>(k) * fraction;
  const float share = static_cast<float>(k) * __fdividef(1.0f, static_cast<float>(columns));
  const auto root_of = [](float x) { return x * rsqrtf(x); };
  const float half = 0.5f * plan.margin * root_of(fmaxf(fmaxf(1.0f - fraction, 0.0f) * (1.0f - share), 1e-6f));
  const int32_t slack = 1 + static_cast<int32_t>(8.0f * fraction);  // columns beside the strata
  int32_t ranks[2];                                                 // first and last of the window
  int32_t wide[2];                                                  // and of one with twice the margin
  const auto set_ranks = [&](int32_t *r, float margin) {
    const float root = root_of(margin * margin + expected);
    r[0] = root > margin ? static_cast<int32_t>((root - margin) * (root - margin)) - slack : 0;
    r[1] = static_cast<int32_t>((root + margin) * (root + margin)) + 1 + slack;
  };
  set_ranks(ranks, half);
  set_ranks(wide, 2.0f * half);
  const bool open = ranks[0] < 1;  // nothing is surely among the best
  const bool wide_open = wide[0] < 1;
  ranks[0] = max(ranks[0], 1);
  wide[0] = max(wide[0], 1);
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
  if (from > to) return {{kKeyOfMinusInfinity, kKeyOfMinusInfinity, true}, kKeyOfMinusInfinity, kKeyOfInfinity};
  const float low = score_of(from);
  const float scale = __fdividef(static_cast<float>(S::kBins), score_of(to) - low);  // may be 0 or inf
  const auto bin_of = [&](float score) { return min(max(__float2int_rz((score - low) * scale), 0), S::kBins - 1); };
  sample.for_each([&](float score) { atomicAdd(bins<S>() + bin_of(score), 1u); });
  __syncthreads();
  Bin found[4];
  if (threadIdx.x == 0) block_words<S>().spread = 0;
  find_bins<S>({ranks[0], ranks[1], wide[0], wide[1]}, found);
  if (found[0].index < 0) {
    return {{kKeyOfMinusInfinity, kKeyOfMinusInfinity, true}, kKeyOfMinusInfinity, kKeyOfInfinity};
  }
  const auto high_edge = [&](int32_t bin, bool is_open) {
    return is_open || bin == S::kBins - 1 ? kKeyOfInfinity
                                          : key_of(low + __fdividef(static_cast<float>(bin + 1), scale));
  };
  const auto low_edge = [&](int32_t bin) {
    return bin < 0 ? kKeyOfMinusInfinity : bin == 0 ? from : key_of(low + __fdividef(static_cast<float>(bin), scale));
  };
  Guess guess;
  Window &window = guess.window;
  guess.higher = high_edge(found[2].index, wide_open);
  guess.lower = low_edge(found[3].index);
  if (found[1].index >= 0 && found[1].above + found[1].count - found[0].above <= most) {
    // Scores near each other may be alike, and then a sample of groups says less than its size promises: neighbouring
    // strata differ more in how many of their scores reach the window.
    const int32_t bin = found[1].index;
    uint32_t spread = 0;
    sample.for_each_group([&](const float4 &group, bool is_in) {
      const auto reaches = [&](float score) { return score > -INFINITY && bin_of(score) >= bin ? 1 : 0; };
      const int32_t own = is_in ? reaches(group.x) + reaches(group.y) + reaches(group.z) + reaches(group.w) : 0;
      const int32_t other = __shfl_xor_sync(kWarp, own, 1);
      spread += static_cast<uint32_t>((own - other) * (own - other));
    });
    spread = __reduce_add_sync(kWarp, spread);
    if (lane_id() == 0 && spread > 0) atomicAdd(&block_words<S>().spread, spread);
    __syncthreads();
    // Independent scores: each pair counts twice, so the sum is about twice their number.
    const auto reaching = static_cast<float>(found[1].above + found[1].count);
    const bool alike = static_cast<float>(block_words<S>().spread) > 3.2f * (1.0f - share) * reaching + 16.0f;
    const auto wide_entries = static_cast<float>(found[3].above + found[3].count - found[2].above);
    if (alike && found[3].index >= 0 && 1.3f * wide_entries <= static_cast<float>(S::kCapacity) * fraction) {
      window = {min(guess.lower, guess.higher), guess.higher, false};
      guess.lower = kKeyOfMinusInfinity;
      guess.higher = kKeyOfInfinity;
    } else {
      window.high = high_edge(found[0].index, open);
      window.low = min(low_edge(found[1].index), window.high);
      window.ties = false;
    }
    return guess;
  }
  window.high = high_edge(found[0].index, open);
  window.low = kKeyOfMinusInfinity;
  window.ties = true;
  if (found[1].index < 0) return guess;

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
    if (from == to) {
      window = {from, ranks[0] > 0 && !open ? from : max(window.high, from), true};
      return guess;
    }
    const uint32_t first = from;
    const uint32_t span = to - from;
    const int shift = bin_shift<S>(span);
    sample.for_each([&](float score) {
      if (key_of(score) - first <= span) atomicAdd(bins<S>() + ((key_of(score) - first) >> shift), 1u);
    });
    __syncthreads();
    Bin inside[2];
    find_bins<S>({max(ranks[0], 1), ranks[1]}, inside);
    found[0] = inside[0];
    found[1] = inside[1];
    if (ranks[0] > 0 && !open) {
      window.high = min(span, ((static_cast<uint32_t>(found[0].index) + 1) << shift) - 1) + first;
    }
    window.low = first + (static_cast<uint32_t>(found[1].index) << shift);
    window.high = max(window.high, window.low);
    if (found[1].count <= most) {
      window.ties = false;
      return guess;
    }
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

}  // namespace ic::cuda
