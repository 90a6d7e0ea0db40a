// SPDX-License-Identifier: Apache-2.0
// From bits to the output row: every thread counts the bits of a run of words, and a sum over the threads gives each
// position its place. Called by all threads of a block.
#pragma once

#include "kernels/ptx/bulk_copy.cuh"
#include "kernels/topk/launch.h"
#include "kernels/topk/sm90/shape.cuh"
#include "kernels/topk/smxx/order_key.cuh"

namespace ic::cuda {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// A row without a selection: all its columns, or none.
template <class S>
__device__ inline void write_all(const SelectRowsParams &p, int32_t row, const Span &span) {
  const SelectionOut &out = p.out;
  const float *scores = p.scores + row * p.score_stride;
  const int32_t count = span.count();
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < out.k_padded; i += S::kThreads) {
    out.indices[row * out.index_stride + i] = i < count ? span.begin + i : -1;
    if (out.scores != nullptr) {
      out.scores[row * out.index_stride + i] =
          i < count ? score_of_key(order_key(scores[span.begin + i], false)) : -INFINITY;
    }
  }
  if (threadIdx.x == 0) out.lengths[row] = count;
}

/// The sum of the values of the threads in front of this one. One barrier; of_warp is free.
template <class S>
__device__ inline int32_t sum_in_front(int32_t value, uint32_t *of_warp) {
  const int32_t inclusive = warp_inclusive_sum(value);
  if (lane_id() == 31) of_warp[warp_id()] = static_cast<uint32_t>(inclusive);
  __syncthreads();
  return static_cast<int32_t>(__reduce_add_sync(kWarp, lane_id() < warp_id() ? of_warp[lane_id()] : 0u)) + inclusive -
         value;
}

/// This block's chosen columns. The first of them has place `start`.
/// num_ties: so many of tie_bits are chosen too, the first ones
/// rank: of the block in its cluster; count: of the whole row
template <class S>
__device__ inline void write_chosen(const SelectRowsParams &p, bool bulk_output, int32_t row, const Span &part,
                                    const uint32_t *ties, int32_t num_ties, int32_t start, int32_t rank,
                                    int32_t count) {
  const SelectionOut &out = p.out;
  BlockWords &words = block_words<S>();
  const int tid = static_cast<int>(threadIdx.x);
  uint32_t *bits = column_bits<S>();
  const int32_t num_words = max(part.num_words(), 0);
  const int32_t each = ((num_words + S::kThreads - 1) / S::kThreads) | 1;  // odd: all banks work
  const int32_t from = min(tid * each, num_words);
  const int32_t to = min(from + each, num_words);
  if (num_ties > 0) {  // uniform
    int32_t own = 0;
    for (int32_t w = from; w < to; ++w) own += __popc(ties[w]);
    int32_t left = num_ties - sum_in_front<S>(own, words.of_warp_too);
    for (int32_t w = from; w < to && left > 0; ++w) {
      uint32_t chosen = ties[w];
      for (int32_t more = __popc(chosen) - left; more > 0; --more) chosen &= chosen - 1;
      left -= __popc(chosen);
      bits[w] |= chosen;
    }
  }
  int32_t own = 0;
  for (int32_t w = from; w < to; ++w) own += __popc(bits[w]);
  int32_t place = start + sum_in_front<S>(own, words.of_warp);

  const float *scores = p.scores + row * p.score_stride;
  int32_t *indices = out.indices + row * out.index_stride;
  float *out_scores = out.scores == nullptr ? nullptr : out.scores + row * out.index_stride;
  const auto write = [&](int32_t at, int32_t column) {
    if constexpr (S::kCluster == 1) {
      ranked<S>()[at] = column;
    } else {
      indices[at] = column;
      if (out_scores != nullptr) out_scores[at] = score_of_key(order_key(scores[column], false));
    }
  };
  for (int32_t w = from; w < to; ++w) {
    // Each lane begins somewhere else, so that full words do not meet in one bank.
    uint32_t rest = bits[w];
    uint32_t now = rest & (kWarp >> lane_id());
    rest ^= now;
    const int32_t next = place + __popc(now) + __popc(rest);
    int32_t at = place + __popc(rest);
    while ((now | rest) != 0) {
      if (now == 0) {
        now = rest;
        rest = 0;
        at = place;
      }
      const int bit = __clz(static_cast<int>(now));
      now &= ~(0x80000000u >> bit);
      write(at++, part.base + 32 * w + bit);
    }
    place = next;
  }
  if constexpr (S::kCluster == 1) {
    for (int32_t i = count + tid; i < out.k_padded; i += S::kThreads) ranked<S>()[i] = -1;
    ptx::fence_async();
    __syncthreads();
    if (bulk_output) {
      if (tid == 0) ptx::bulk_store(indices, shared_address(ranked<S>()), static_cast<uint32_t>(out.k_padded) * 4);
    } else {
      for (int32_t i = tid; i < out.k_padded; i += S::kThreads) indices[i] = ranked<S>()[i];
    }
    if (out_scores != nullptr) {
      for (int32_t i = tid; i < out.k_padded; i += S::kThreads) {
        const int32_t column = ranked<S>()[i];
        out_scores[i] = column < 0 ? -INFINITY : score_of_key(order_key(scores[column], false));
      }
    }
  } else if (rank == 0) {
    for (int32_t i = count + tid; i < out.k_padded; i += S::kThreads) {
      indices[i] = -1;
      if (out_scores != nullptr) out_scores[i] = -INFINITY;
    }
  }
  if (rank == 0 && tid == 0) out.lengths[row] = count;
}

#endif

}  // namespace ic::cuda
