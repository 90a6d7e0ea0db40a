// SPDX-License-Identifier: Apache-2.0
// Numerics ids: one 64-bit name per exact arithmetic of scores, and the constants of their error bounds.
#pragma once

#include <cstdint>

#include "indexcache.h"

namespace ic {

/// What multiplies and adds, and in which order: two paths of one family and element type give the same bits.
enum class ScoreFamily : uint8_t {
  /// Elements widened to fp32 exactly; one chain of fused multiply-adds over d ascending from +0; relu; one chain over
  /// h ascending from +0 with w' = fl(w * q_scale); times the key's scale where there is one; -0 to +0, NaN to -inf.
  /// Every level of the CPU backend, and the CUDA cores of every GPU.
  kFmaChain = 1,
  /// Tensor cores of a GPU by mma.sync m16n8k16, keys on m and heads on n: fp16 or bf16 operands (e4m3 widened to fp16
  /// exactly), fp32 accumulators from +0 over d ascending in steps of 16. Product k of a step is d = k; for e4m3, where
  /// a lane reads four codes at once, d = 4 (k % 8 / 2) + k % 2 + 2 (k / 8). Then relu; the head sum of four lanes,
  /// each a chain of fused multiply-adds from +0 over h ascending of the heads with h / 2 % 4 == lane, heads padded to
  /// a multiple of 8 by zeros, w' = fl(w * q_scale); (lane 0 + lane 1) + (lane 2 + lane 3); times the key's scale where
  /// there is one; -0 to +0, NaN to -inf. How one instruction adds its 16 products is the chip's affair, so the id
  /// names the chip's family.
  kMmaSync = 2,
  /// Tensor cores of Hopper by wgmma on e4m3 as it is, keys on m and heads on n: accumulators of few bits from 0 over d
  /// ascending in steps of 32. The rest as for kMmaSync: relu; four chains over h ascending of the heads with h / 2 % 4
  /// == chain, w' = fl(w * q_scale); (0 + 1) + (2 + 3); times the key's scale; -0 to +0, NaN to -inf.
  kWgmma = 3,
};

/// Layout of an id, from the top:
///   bits 63-48  0x4943, the letters "IC"
///   bits 47-32  revision of the family's definition, from 1
///   bits 31-24  order of the head sum: 1 = one chain, h ascending; 2 = four chains of pairs of heads
///   bits 23-16  family of compute capabilities that share the arithmetic (9 = Hopper); 0 = no chip decides it
///   bits 15-8   ScoreFamily
///   bits  7-0   IC_DTYPE_* of queries and keys
constexpr uint64_t make_numerics_id(ScoreFamily family, int32_t dtype, uint8_t chip_family, uint8_t head_order,
                                    uint16_t revision) noexcept {
  return uint64_t{0x4943} << 48 | uint64_t{revision} << 32 | uint64_t{head_order} << 24 | uint64_t{chip_family} << 16 |
         uint64_t{static_cast<uint8_t>(family)} << 8 | static_cast<uint8_t>(dtype);
}

constexpr uint64_t fma_chain_id(int32_t dtype) noexcept {
  return make_numerics_id(ScoreFamily::kFmaChain, dtype, 0, 1, 1);
}

/// major: of the compute capability.
constexpr uint64_t mma_sync_id(int32_t dtype, int32_t major) noexcept {
  return make_numerics_id(ScoreFamily::kMmaSync, dtype, static_cast<uint8_t>(major), 2, 1);
}

constexpr uint64_t wgmma_id(int32_t dtype) noexcept { return make_numerics_id(ScoreFamily::kWgmma, dtype, 9, 2, 1); }

/// The indexers whose every score has wgmma_id(dtype). Nothing but these values may decide it.
constexpr bool has_wgmma_scores(bool sm90a, int32_t num_heads, int32_t head_dim, int32_t dtype) noexcept {
  return sm90a && dtype == IC_DTYPE_E4M3 && head_dim == 128 && (num_heads == 32 || num_heads == 64);
}

/// Hopper's e4m3 instructions cut every addend off below 2^-13 of the largest one's power of two: D products once each,
/// and in each of D / 32 steps at most four times the accumulator and a sum. Then the head sum as for mma.sync.
constexpr double wgmma_e4m3_error_bound(int32_t num_heads, int32_t head_dim) noexcept {
  return 1.125 * static_cast<double>(head_dim) / (1 << 13) + (0.25 * static_cast<double>(num_heads) + 8.0) / (1 << 24);
}

/// A tensor core adds the products of a step to the accumulator exactly but for what it cuts off: what lies below the
/// last bits of the largest addend, and the last bits of the result. Chips since sm_80 keep at least one bit more than
/// fp32 while they add at least 8 products at once, so that a product costs at most (9 + 2) / 8 units of 2^-24 of the
/// sum of magnitudes; 1.5 is used (the largest seen on Hopper is 0.36). Then H / 4 roundings in a lane's chain, two in
/// the sum of the lanes and two factors.
constexpr double mma_sync_error_bound(int32_t num_heads, int32_t head_dim) noexcept {
  return (1.5 * static_cast<double>(head_dim) + 0.25 * static_cast<double>(num_heads) + 8.0) / (1 << 24);
}

/// eps of |I - I_exact| <= eps * ks * sum_h |w_h| * sum_d |q_hd * k_d|: a term passes at most D roundings in the dot
/// product, H in the head sum and two factors (q_scale, ks); the rest covers the terms of second order.
constexpr double fma_chain_error_bound(int32_t num_heads, int32_t head_dim) noexcept {
  return (static_cast<double>(num_heads) + static_cast<double>(head_dim) + 8.0) / (1 << 24);
}

}  // namespace ic
