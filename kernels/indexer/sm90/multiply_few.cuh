// SPDX-License-Identifier: Apache-2.0
// A warpgroup of the decode layout: one row, two tiles of 64 keys of each stage. The bytes of the keys are the bound; a
// tile takes a quarter of the tensor cores' time at full memory speed, so product and sum simply follow each other and
// the two warpgroups overlap.
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

/// The warp that makes the queries of the next segments ready.
template <int kHeads>
__device__ void load_queries(const ScoresParams &p, const Plan &plan, Control &control, uint8_t *queries) {
  const int lane = threadIdx.x % 32;
#pragma unroll 1
  for (uint32_t k = 0;; ++k) {
    const Segment segment = wait_segment(control, k);
    if (segment.stages == 0) return;
    const uint32_t slot = k % kQuerySlots;
    const int32_t row = segment.group_row;
    RowQuery &to = control.row_queries[slot];
    uint32_t fault = 0;  // has been reported
    const RowRange range = window_range(p, row, &fault);
    float w[kHeads / 32];
    load_weights<kHeads / 32, 32>(w, p.query, row, lane);
    ptx::mbarrier_wait(ptx::shared_address(&control.queries_empty[slot]), k / kQuerySlots % 2 ^ 1);
    if (lane == 0) to.range = range;
#pragma unroll
    for (int i = 0; i < kHeads / 32; ++i) to.weights[i * 32 + lane] = w[i];
    copy_queries<kHeads, false, 32>(p.query, plan.queries_aligned != 0, row, p.rows.count, 0,
                                    queries + slot * QueryLayout<kHeads, false>::kBytes, lane);
    ptx::mbarrier_arrive(ptx::shared_address(&control.queries_full[slot]));
  }
}

template <int kHeads>
__device__ void score_few(const ScoresParams &p, Control &control, uint8_t *keys, uint8_t *queries) {
  const int warpgroup = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 128, 0);  // known to be one for the warp
  const int warp = threadIdx.x / 32 % 4;
  const int lane = threadIdx.x % 32;
  // The key of a stage whose score the lane ends up with.
  const int own_key = warpgroup * 128 + lane % 4 / 2 * 64 + warp * 16 + lane % 2 * 8 + lane / 4;
  const uint64_t first_query = ptx::wgmma_operand(ptx::shared_address(queries));
  const uint64_t key_operand = ptx::wgmma_operand(ptx::shared_address(keys)) + warpgroup * (128 * kKeyBytes >> 4);
  uint32_t number = 0;
#pragma unroll 1
  for (uint32_t k = 0;; ++k) {
    const Segment segment = wait_segment(control, k);
    if (segment.stages == 0) return;
    const int32_t row = segment.group_row;
    const uint32_t slot = k % kQuerySlots;
    ptx::mbarrier_wait(ptx::shared_address(&control.queries_full[slot]), k / kQuerySlots % 2);
    const RowRange range = control.row_queries[slot].range;
    const uint64_t query_operand = first_query + slot * (QueryLayout<kHeads, false>::kBytes >> 4);
    float w[kHeads / 4];
#pragma unroll
    for (int i = 0; i < kHeads / 4; ++i) w[i] = control.row_queries[slot].weights[i / 2 * 8 + lane % 4 * 2 + i % 2];
    int32_t position = segment.stage * kStageKeys + own_key;
#pragma unroll 1
    for (int32_t left = segment.stages; left > 0; --left, ++number, position += kStageKeys) {
      float d0[kHeads / 2], d1[kHeads / 2];
      const StageInfo &info = control.info[number % kStages];
      const uint64_t stage_operand = key_operand + number % kStages * (kStageBytes >> 4);
      wait_full(control, number);
      issue_product(d0, stage_operand, query_operand);
      issue_product(d1, stage_operand + (64 * kKeyBytes >> 4), query_operand);
      const float scale = first_scale(control, number)[own_key];
      const bool there = is_there(info, own_key);
      ptx::wgmma_wait<0>();
      ptx::pin_registers(d0);
      ptx::pin_registers(d1);
      release_stage(control, number, lane);
      float sum[4] = {};
      add_chain<kHeads>(sum[0], sum[1], d0, w);
      add_chain<kHeads>(sum[2], sum[3], d1, w);
      const float score = __fmul_rn(add_chains(sum, lane), scale);
      if (position >= range.begin && position < range.end) write_score(p, row, position, score, there);
    }
    __syncwarp();
    if (lane == 0) ptx::mbarrier_arrive(ptx::shared_address(&control.queries_empty[slot]));
  }
}

}  // namespace ic::cuda::sm90

#endif
