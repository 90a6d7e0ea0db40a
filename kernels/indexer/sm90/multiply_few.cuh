// SPDX-License-Identifier: Apache-2.0
// A warpgroup of the decode layout: one row, two tiles of 64 keys, which are a stage. The bytes of the keys are the
// bound; product and sum simply follow each other, and the warpgroups, which take the stages in turns, overlap.
#pragma once

#include "kernels/indexer/sm90/multiply_many.cuh"
#include "kernels/indexer/sm90/queries.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

namespace ic::cuda::sm90 {

/// The lane's chain for the rows (keys) lane / 4 and + 8 of a tile.
template <int kHeads>
__device__ inline void add_chain(float &sum0, float &sum1, const float (&d)[kHeads / 2], const float (&w)[kHeads / 4]) {
#pragma unroll
  for (int n = 0; n < kHeads / 8; ++n) {
    sum0 = __fmaf_rn(fmaxf(d[4 * n], 0.0f), w[2 * n], sum0);
    sum0 = __fmaf_rn(fmaxf(d[4 * n + 1], 0.0f), w[2 * n + 1], sum0);
    sum1 = __fmaf_rn(fmaxf(d[4 * n + 2], 0.0f), w[2 * n], sum1);
    sum1 = __fmaf_rn(fmaxf(d[4 * n + 3], 0.0f), w[2 * n + 1], sum1);
  }
}

/// (0 + 1) + (2 + 3) of each quad's chains for four keys; lane t keeps that of key t.
__device__ inline float add_chains(const float (&sum)[4], int lane) {
  const bool odd = lane % 2 != 0;
  const bool upper = lane % 4 >= 2;
  const float low = __fadd_rn(odd ? sum[1] : sum[0], __shfl_xor_sync(~0u, odd ? sum[0] : sum[1], 1));
  const float high = __fadd_rn(odd ? sum[3] : sum[2], __shfl_xor_sync(~0u, odd ? sum[2] : sum[3], 1));
  return __fadd_rn(upper ? high : low, __shfl_xor_sync(~0u, upper ? low : high, 2));
}

/// The warps that make the queries of the next segments ready. thread: among theirs.
template <int kHeads, int kThreads>
__device__ void load_queries(const ScoresParams &p, const Plan &plan, Control &control, uint8_t *queries, int thread) {
  constexpr int kWeights = (kHeads + kThreads - 1) / kThreads;  // of a thread
#pragma unroll 1
  for (uint32_t k = 0;; ++k) {
    const Segment segment = wait_segment(control, k);
    if (segment.stages == 0) return;
    const uint32_t slot = k % kQuerySlots;
    const int32_t row = segment.group_row;
    RowQuery &to = control.row_queries[slot];
    uint32_t fault = 0;  // has been reported
    const RowRange range = window_range(p, row, &fault);
    float w[kWeights];
    if (thread < kHeads) load_weights<kWeights, kThreads>(w, p.query, row, thread);
    ptx::mbarrier_wait(ptx::shared_address(&control.queries_empty[slot]), k / kQuerySlots % 2 ^ 1);
    if (thread == 0) to.range = range;
#pragma unroll
    for (int i = 0; i < kWeights; ++i) {
      if (thread < kHeads) to.weights[i * kThreads + thread] = w[i];
    }
    copy_queries<kHeads, false, kThreads>(p.query, plan.queries_aligned != 0, row, p.rows.count, 0,
                                          queries + slot * QueryLayout<kHeads, false>::kBytes, thread);
    ptx::mbarrier_arrive(ptx::shared_address(&control.queries_full[slot]));
  }
}

template <int kHeads, uint32_t kWarpgroups>
__device__ void score_few(const ScoresParams &p, Control &control, uint8_t *keys, uint8_t *queries) {
  using Stages = Ring<false>;
  // Lane 0's value: what the compiler knows to be one for the warp costs scalar instructions, and decode with many
  // requests is limited by power.
  const auto uniform = [](auto value) { return __shfl_sync(~0u, value, 0); };
  const uint32_t warpgroup = uniform(threadIdx.x / 128);
  const int warp = threadIdx.x / 32 % 4;
  const int lane = threadIdx.x % 32;
  // The two tiles take groups of 8 keys in turns, so that a warp has 32 neighbours and writes a whole line: the key of
  // a stage whose score the lane ends up with.
  const int own_key = warp * 32 + (lane % 2 * 2 + lane % 4 / 2) * 8 + lane / 4;
  const ptx::WgmmaOperand first_query = ptx::wgmma_operand(ptx::shared_address(queries));
  const ptx::WgmmaOperand first_key = ptx::wgmma_operand(ptx::shared_address(keys), 2);
  uint32_t number = 0;  // of the segment's first stage
#pragma unroll 1
  for (uint32_t k = 0;; ++k) {
    const Segment segment = wait_segment(control, k);
    const uint32_t stages = uniform(static_cast<uint32_t>(segment.stages));
    if (stages == 0) return;
    const uint32_t slot = k % kQuerySlots;
    ptx::mbarrier_wait(ptx::shared_address(&control.queries_full[slot]), k / kQuerySlots % 2);
    const RowRange range = control.row_queries[slot].range;
    float w[kHeads / 4];
#pragma unroll
    for (int i = 0; i < kHeads / 4; ++i) w[i] = control.row_queries[slot].weights[i / 2 * 8 + lane % 4 * 2 + i % 2];
    const int32_t position = (segment.stage - static_cast<int32_t>(number)) * Stages::kKeys + own_key;  // of stage 0
    float *to = p.scores + segment.group_row * p.score_stride - p.first_column;
    const auto visible = static_cast<uint32_t>(range.end - range.begin);
    const uint32_t end = number + stages;
    uint32_t next = number + (warpgroup + kWarpgroups - number % kWarpgroups) % kWarpgroups;
#pragma unroll 1
    for (; next < end; next += kWarpgroups) {
      const uint32_t stage = uniform(next | slot << 31);  // its number fills the lower 31 bits
      const ptx::WgmmaOperand key_operand = first_key + stage % Stages::kStages * (Stages::kBytes >> 4);
      const ptx::WgmmaOperand query_operand = first_query + (stage >> 31) * (QueryLayout<kHeads, false>::kBytes >> 4);
      float d0[kHeads / 2], d1[kHeads / 2];
      Stages::wait_full(control, stage);
      issue_product(d0, key_operand, query_operand);
      issue_product(d1, key_operand + (8 * kKeyBytes >> 4), query_operand);
      const float scale = Stages::first_scale(control, stage)[own_key];
      const bool there = is_there(Stages::info(control, stage), own_key);
      ptx::wgmma_wait<0>();
      ptx::pin_registers(d0);
      ptx::pin_registers(d1);
      Stages::release(control, stage, lane);
      float sum[4] = {};
      add_chain<kHeads>(sum[0], sum[1], d0, w);
      add_chain<kHeads>(sum[2], sum[3], d1, w);
      const float score = finish_score(__fmul_rn(add_chains(sum, lane), scale));
      const int32_t at = position + static_cast<int32_t>(next) * Stages::kKeys;
      if (static_cast<uint32_t>(at - range.begin) < visible) store_score(p.others, to + at, score, there);
    }
    number += stages;
    arrive_as_warp(control.queries_empty[slot], lane);
  }
}

}  // namespace ic::cuda::sm90

#endif
