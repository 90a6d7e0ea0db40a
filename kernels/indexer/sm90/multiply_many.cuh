// SPDX-License-Identifier: Apache-2.0
// A warpgroup of the prefill layout: 256 columns as two products of 64 keys x 128 columns with accumulators of their
// own, so that one runs on the tensor cores while the other is weighted and summed. Two stages that every row sees as a
// whole are one body of eight tiles without questions, any other stage one of four; nothing is in flight from one body
// to the next (with a product under way over the loop's back edge ptxas would serialize).
//
// Bound: the accumulators' registers are written four times by the product and once or twice per element by relu and
// multiply-add; at about 1.2 writes per clock that leaves 82 % of the tensor rate.
#pragma once

#include "kernels/indexer/sm90/queries.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

namespace ic::cuda::sm90 {

/// 64 keys x 128 columns x 128 elements.
template <int kCount>
__device__ inline void issue_product(float (&d)[kCount], ptx::WgmmaOperand keys, ptx::WgmmaOperand queries) {
  ptx::wgmma_fence();
#pragma unroll
  for (int step = 0; step < 4; ++step) ptx::wgmma_e4m3(d, keys + 2 * step, queries + 2 * step, step != 0);
  ptx::wgmma_commit();
}

/// Adds 32 heads of one row to the chains of the lane's two keys.
__device__ inline void add_heads(float (&chains)[4][2], const float (&d)[64], const float *w) {
#pragma unroll
  for (int n = 0; n < 16; ++n) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {  // fmaxf(NaN, 0) = 0
      chains[n % 4][0] = __fmaf_rn(fmaxf(d[4 * n + i], 0.0f), w[2 * n + i], chains[n % 4][0]);
      chains[n % 4][1] = __fmaf_rn(fmaxf(d[4 * n + 2 + i], 0.0f), w[2 * n + i], chains[n % 4][1]);
    }
  }
}

/// Stores at out + kKey if the row sees key kKey of the lane (positions relative to its first) and bit kBit is set.
template <int kKey, int kBit>
__device__ inline void store_seen(float *out, int32_t begin, int32_t end, uint32_t there, float score) {
  asm volatile(
      "{\n.reg .pred a, b, c;\n.reg .b32 t;\n"
      "setp.le.s32 a, %1, %5;\n"
      "setp.gt.and.s32 b, %2, %5, a;\n"
      "and.b32 t, %3, %6;\n"
      "setp.ne.and.b32 c, t, 0, b;\n"
      "@c st.global.f32 [%0 + %7], %4;\n}" ::"l"(out),
      "r"(begin), "r"(end), "r"(there), "f"(score), "n"(kKey), "n"(1 << kBit), "n"(kKey * 4)
      : "memory");
}

template <int kHeads>
struct ManyRows {
  static constexpr int kSets = kHeads == 64 ? 1 : 2;  // rows of a lane

  /// Weights and what a lane knows of its rows while a segment lasts.
  float w[64];
  float *out[kSets];  // of position 0, may point anywhere
  int32_t begin[kSets];
  int32_t end[kSets];

  __device__ static int32_t row_of(const Segment &segment, int warpgroup, int quad, int s) {
    return segment.group_row + warpgroup * (256 / kHeads) + s * 4 + quad;
  }

  /// False: the segment is of none of the warpgroup's rows.
  __device__ bool load_ranges(const ScoresParams &p, const Segment &segment, int warpgroup, int quad) {
    bool any = false;
#pragma unroll
    for (int s = 0; s < kSets; ++s) {
      const int32_t row = row_of(segment, warpgroup, quad, s);
      uint32_t fault = 0;  // has been reported
      RowRange range{0, 0, 0};
      if (row < p.rows.count) range = window_range(p, row, &fault);
      if (range.seq != segment.seq) range = {0, 0, 0};
      begin[s] = range.begin;
      end[s] = range.end;
      any |= range.begin < range.end;
    }
    return __any_sync(~0u, any) != 0;
  }

  __device__ void load_rows(const ScoresParams &p, const Segment &segment, int warpgroup, int quad) {
#pragma unroll
    for (int s = 0; s < kSets; ++s) {
      const int32_t row = row_of(segment, warpgroup, quad, s);
      out[s] = p.scores + (row * p.score_stride - p.first_column);
      load_weights<kHeads, 1>(w + s * 32, p.query, min(row, p.rows.count - 1), 0);
    }
  }
};

/// What the columns of keys that are not there get. Rare.
template <int kSets>
__device__ inline void fill_absent(float *const (&out)[kSets], const int32_t (&begin)[kSets],
                                   const int32_t (&end)[kSets], int32_t first, uint32_t there, float value) {
#pragma unroll 1
  for (int k = 0; k < 8; ++k) {
    if ((there >> k & 1) != 0) continue;
    const int32_t position = first + k % 4 * 64 + k / 4 * 8;
#pragma unroll
    for (int s = 0; s < kSets; ++s) {
      if (position >= begin[s] && position < end[s]) out[s][position] = value;
    }
  }
}

/// Where the scores of some stages go, and who sees them.
template <int kSets>
struct StageTarget {
  float *out[kSets];  // of the lane's first key
  int32_t begin[kSets];
  int32_t end[kSets];
  uint32_t there;
};

/// kPlain: every row sees every key, so that nothing need be asked.
template <bool kPlain, int kTile, int kSet, int kSets>
__device__ inline void store_pair(float (&chains)[4][2], const StageTarget<kSets> &target, float scale0, float scale1) {
  const float sum0 = __fadd_rn(__fadd_rn(chains[0][0], chains[1][0]), __fadd_rn(chains[2][0], chains[3][0]));
  const float sum1 = __fadd_rn(__fadd_rn(chains[0][1], chains[1][1]), __fadd_rn(chains[2][1], chains[3][1]));
  const float score0 = finish_score(__fmul_rn(sum0, scale0));
  const float score1 = finish_score(__fmul_rn(sum1, scale1));
  if constexpr (kPlain) {
    target.out[kSet][kTile * 64] = score0;
    target.out[kSet][kTile * 64 + 8] = score1;
  } else {
    store_seen<kTile * 64, kTile>(target.out[kSet], target.begin[kSet], target.end[kSet], target.there, score0);
    store_seen<kTile * 64 + 8, kTile + 4>(target.out[kSet], target.begin[kSet], target.end[kSet], target.there, score1);
  }
#pragma unroll
  for (int c = 0; c < 4; ++c) chains[c][0] = chains[c][1] = 0.0f;
}

/// Tile kTile of kTiles: the product of set 0 is under way when it begins, that of the next tile when it ends.
/// keys, scales: of the stage of tiles 0 to 3, and of 4 to 7.
template <bool kPlain, int kTile, int kTiles, int kHeads, int kSets, int kStageCount>
__device__ inline void score_tile(float (&d0)[64], float (&d1)[64], const float (&w)[64],
                                  const ptx::WgmmaOperand (&keys)[kStageCount],
                                  const float *const (&scales)[kStageCount], ptx::WgmmaOperand queries,
                                  const StageTarget<kSets> &target) {
  constexpr int kTileStep = 64 * kKeyBytes >> 4;
  constexpr int kSetStep = 128 * kKeyBytes >> 4;
  constexpr bool kLast = kTile + 1 == kTiles;
  issue_product(d1, keys[kTile / 4] + kTile % 4 * kTileStep, queries + kSetStep);
  const float scale0 = scales[kTile / 4][kTile % 4 * 64];
  const float scale1 = scales[kTile / 4][kTile % 4 * 64 + 8];
  float chains[4][2] = {};
  ptx::wgmma_wait<1>();
  ptx::pin_registers(d0);
  add_heads(chains, d0, w);
  ptx::pin_registers(d0);
  if constexpr (!kLast) issue_product(d0, keys[(kTile + 1) / 4] + (kTile + 1) % 4 * kTileStep, queries);
  if constexpr (kHeads == 32) store_pair<kPlain, kTile, 0>(chains, target, scale0, scale1);
  ptx::wgmma_wait<(kLast ? 0 : 1)>();
  ptx::pin_registers(d1);
  add_heads(chains, d1, w + 32);
  ptx::pin_registers(d1);
  store_pair<kPlain, kTile, kSets - 1>(chains, target, scale0, scale1);
}

template <int kHeads>
__device__ void score_many(const ScoresParams &p, const Plan &plan, Control &control, uint8_t *keys, uint8_t *queries) {
  using Stages = Ring<true>;
  constexpr int kSets = ManyRows<kHeads>::kSets;
  const int warpgroup = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 128, 0);  // known to be one for the warp
  const int warp = threadIdx.x / 32 % 4;
  const int lane = threadIdx.x % 32;
  const int row = warp * 16 + lane / 4;  // the lane's first key of a tile; the other is 8 further
  uint8_t *own = queries + warpgroup * QueryLayout<kHeads, true>::kBytes;
  const ptx::WgmmaOperand query_operand = ptx::wgmma_operand(ptx::shared_address(own));
  const ptx::WgmmaOperand key_operand = ptx::wgmma_operand(ptx::shared_address(keys));
  uint32_t number = 0;
  ManyRows<kHeads> rows;
  float d0[64], d1[64];
#pragma unroll 1
  for (uint32_t k = 0;; ++k) {
    const Segment segment = wait_segment(control, k);
    if (segment.stages == 0) return;
    if (!rows.load_ranges(p, segment, warpgroup, lane % 4)) {
      for (int32_t left = segment.stages; left > 0; --left, ++number) {
        Stages::wait_full(control, number);
        Stages::release(control, number, lane);
      }
      continue;
    }
    ptx::named_barrier(1 + warpgroup, 128);  // the last product has read what is overwritten
    copy_queries<kHeads, true, 128>(p.query, plan.queries_aligned != 0, segment.group_row, p.rows.count, warpgroup, own,
                                    threadIdx.x % 128);
    ptx::named_barrier(1 + warpgroup, 128);
    rows.load_rows(p, segment, warpgroup, lane % 4);
    int32_t first = segment.stage * Stages::kKeys + row;  // position
    const auto stage_of = [&](uint32_t n) { return key_operand + n % Stages::kStages * (Stages::kBytes >> 4); };
    const auto scales_of = [&](uint32_t n) -> const float * { return Stages::first_scale(control, n) + row; };
    int32_t left = segment.stages;
#pragma unroll 1
    while (left > 0) {
      StageTarget<kSets> target;
#pragma unroll
      for (int s = 0; s < kSets; ++s) {
        target.out[s] = rows.out[s] + first;
        target.begin[s] = rows.begin[s] - first;
        target.end[s] = rows.end[s] - first;
      }
      Stages::wait_full(control, number);
      const StageInfo &info = Stages::info(control, number);
      if (left >= 2) {
        Stages::wait_full(control, number + 1);
        if (info.plain == kEveryPart && Stages::info(control, number + 1).plain == kEveryPart) {
          const ptx::WgmmaOperand keys_at[2] = {stage_of(number), stage_of(number + 1)};
          const float *const scales[2] = {scales_of(number), scales_of(number + 1)};
          issue_product(d0, keys_at[0], query_operand);
          score_tile<true, 0, 8, kHeads>(d0, d1, rows.w, keys_at, scales, query_operand, target);
          score_tile<true, 1, 8, kHeads>(d0, d1, rows.w, keys_at, scales, query_operand, target);
          score_tile<true, 2, 8, kHeads>(d0, d1, rows.w, keys_at, scales, query_operand, target);
          score_tile<true, 3, 8, kHeads>(d0, d1, rows.w, keys_at, scales, query_operand, target);
          Stages::release(control, number, lane);
          score_tile<true, 4, 8, kHeads>(d0, d1, rows.w, keys_at, scales, query_operand, target);
          score_tile<true, 5, 8, kHeads>(d0, d1, rows.w, keys_at, scales, query_operand, target);
          score_tile<true, 6, 8, kHeads>(d0, d1, rows.w, keys_at, scales, query_operand, target);
          score_tile<true, 7, 8, kHeads>(d0, d1, rows.w, keys_at, scales, query_operand, target);
          Stages::release(control, number + 1, lane);
          left -= 2;
          number += 2;
          first += 2 * Stages::kKeys;
          continue;
        }
      }
      const ptx::WgmmaOperand keys_at[1] = {stage_of(number)};
      const float *const scales[1] = {scales_of(number)};
      target.there = 0xff;  // bit t for key 64 t + row, 4 + t for key 64 t + row + 8
      if (info.all != kEveryPart) {
        target.there = 0;
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          target.there |= static_cast<uint32_t>(is_there(info, i % 4 * 64 + i / 4 * 8 + row)) << i;
        }
      }
      issue_product(d0, keys_at[0], query_operand);
      score_tile<false, 0, 4, kHeads>(d0, d1, rows.w, keys_at, scales, query_operand, target);
      score_tile<false, 1, 4, kHeads>(d0, d1, rows.w, keys_at, scales, query_operand, target);
      score_tile<false, 2, 4, kHeads>(d0, d1, rows.w, keys_at, scales, query_operand, target);
      score_tile<false, 3, 4, kHeads>(d0, d1, rows.w, keys_at, scales, query_operand, target);
      Stages::release(control, number, lane);
      if (target.there != 0xff && p.others != OtherColumns::kKeep) {
        const float value = p.others == OtherColumns::kClean ? -INFINITY : __int_as_float(0x7fc00000);
        fill_absent<kSets>(rows.out, rows.begin, rows.end, first, target.there, value);
      }
      --left;
      ++number;
      first += Stages::kKeys;
    }
  }
}

}  // namespace ic::cuda::sm90

#endif
