// SPDX-License-Identifier: Apache-2.0
// A sample of a row and the window of keys that it promises the k-th to be in. A guess only: what is counted later
// decides, so no data gives a wrong answer.
#pragma once

#include "kernels/topk/sm90_sample.cuh"
#include "kernels/topk/sm90_windows/bins.cuh"

namespace ic::cuda::windows {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

template <class S>
using Sample = sm90::Sample<S::kThreads, S::kSampleGroups>;

/// Bins over the sample's scores, then, where scores crowd, over keys. Four barriers as a rule, no more than 21. Calls
/// arrived() once, when the sample has: loads that are asked for then cannot delay it.
template <class S, class Body>
__device__ inline Window find_window(const Sample<S> &sample, int32_t columns, int32_t k, Body &&arrived) {
  const auto for_each_score = [&](auto &&body) {  // above -inf
    sample.for_each([&](float score) {
      if (score > -INFINITY) body(score);
    });
  };
  // Ranks in the sample: the best one inside the window, and the last.
  const float fraction = static_cast<float>(4 * S::kStrata) * __fdividef(1.0f, static_cast<float>(columns));
  const float expected = static_cast<float>(k) * fraction;
  const float share = static_cast<float>(k) * __fdividef(1.0f, static_cast<float>(columns));
  const auto root_of = [](float x) { return x * rsqrtf(x); };
  const float half = 0.5f * S::kMargin * root_of(fmaxf(fmaxf(1.0f - fraction, 0.0f) * (1.0f - share), 1e-6f));
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
  for_each_score([&](float score) {
    if (score < INFINITY) {
      from = min(from, key_of(score));
      to = max(to, key_of(score));
    }
  });
  block_range<S>(&from, &to);
  arrived();
  if (from > to) return {kMinusInfinityKey, kMinusInfinityKey, true};
  const float low = score_of_key(from);
  const float scale = __fdividef(static_cast<float>(S::kBins), score_of_key(to) - low);  // may be 0 or inf
  const auto bin_of = [&](float score) { return min(max(__float2int_rz((score - low) * scale), 0), S::kBins - 1); };
  for_each_score([&](float score) { atomicAdd(bins<S>() + bin_of(score), 1u); });
  __syncthreads();
  Bin found[2];
  find_bins<S>(ranks, found);
  if (found[0].index < 0) return {kMinusInfinityKey, kMinusInfinityKey, true};
  const auto edge = [&](int32_t bin) { return key_of(low + __fdividef(static_cast<float>(bin), scale)); };
  Window window;
  window.high = open || found[0].index == S::kBins - 1 ? kInfinityKey : edge(found[0].index + 1);
  window.low = found[1].index <= 0 ? from : min(edge(found[1].index), window.high);
  window.ties = false;
  if (found[1].index < 0) return {kMinusInfinityKey, window.high, true};
  if (found[1].above + found[1].count - found[0].above <= most) return window;

  // Crowded: is it the lowest key? Its bin, and no other, once more.
  const int32_t crowded = found[1].index;
  from = 0xffffffffu;
  to = 0;
  for_each_score([&](float score) {
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
    for_each_score([&](float score) {
      if (key_of(score) - first <= span) atomicAdd(bins<S>() + ((key_of(score) - first) >> shift), 1u);
    });
    __syncthreads();
    const int32_t inside[2] = {max(ranks[0], 1), ranks[1]};
    find_bins<S>(inside, found);
    if (ranks[0] > 0 && !open) {
      window.high = window_end(min(span, ((static_cast<uint32_t>(found[0].index) + 1) << shift) - 1) + first);
    }
    window.low = first + (static_cast<uint32_t>(found[1].index) << shift);
    window.high = max(window.high, window.low);
    if (found[1].count <= most) return window;
    const uint32_t bin_low = window.low;
    const uint32_t bin_span = (1u << shift) - 1;
    from = 0xffffffffu;
    to = 0;
    for_each_score([&](float score) {
      if (key_of(score) - bin_low <= bin_span) {
        from = min(from, key_of(score));
        to = max(to, key_of(score));
      }
    });
  }
}

#endif

}  // namespace ic::cuda::windows
