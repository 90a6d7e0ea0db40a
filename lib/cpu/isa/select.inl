// SPDX-License-Identifier: Apache-2.0
// Exact streaming selection on sixteen-lane vectors. Include after one simd_*.h.
#include "cpu/isa/select_kernels.h"

namespace ic::cpu {
namespace {

/// Integer in the order of the scores (no NaN, no -0 among them).
IC_INLINE I32 order_key(F32 score) {
  const I32 bits = as_i32(score);
  return bit_xor(bits, shift_right<1>(shift_right_signed<31>(bits)));
}

IC_INLINE float score_of_key(int32_t key) {
  const uint32_t flipped = static_cast<uint32_t>(key >> 31) >> 1;
  return float1(static_cast<uint32_t>(key) ^ flipped);
}

IC_INLINE I32 positions_at(const int32_t *positions, int32_t first_position, int32_t column) {
  return positions == nullptr ? iota(first_position + column) : load(positions + column);
}

void push(Candidates &c, const float *scores, const int32_t *positions, int32_t first_position, int32_t begin,
          int32_t end) {
  int32_t count = c.count;
  if (c.bounded) {
    const F32 threshold = set1(c.threshold);
    for (int32_t at = begin; at < end; at += kLanes) {
      const F32 score = load(scores + at);
      const Mask better = mask_and(gt(score, threshold), mask_first(end - at));  // never a NaN
      if (mask_bits(better) == 0) continue;
      compress_store(c.scores + count, add(score, zero()), better);
      count += compress_store(c.positions + count, positions_at(positions, first_position, at), better);
    }
  } else {
    for (int32_t at = begin; at < end; at += kLanes) {
      const F32 score = add(load(scores + at), zero());
      store(c.scores + count, select(eq(score, score), score, set1(-__builtin_inff())));
      store(c.positions + count, positions_at(positions, first_position, at));
      count += end - at < kLanes ? end - at : kLanes;
    }
  }
  c.count = count;
}

IC_INLINE int32_t lane_min(I32 a) {
  int32_t v[kLanes];
  store(v, a);
  int32_t least = v[0];
  for (int i = 1; i < kLanes; ++i) least = v[i] < least ? v[i] : least;
  return least;
}
IC_INLINE int32_t lane_max(I32 a) {
  int32_t v[kLanes];
  store(v, a);
  int32_t most = v[0];
  for (int i = 1; i < kLanes; ++i) most = v[i] > most ? v[i] : most;
  return most;
}

/// The rank-th largest of keys[0 .. count), 1 <= rank <= count, and how many are larger. Halves the interval of values
/// and keeps the side that holds it: at most 32 passes whatever the data, each over what is left; commonly the sum of
/// all passes is two or three counts. Destroys keys and other.
int32_t nth_largest(int32_t *keys, int32_t *other, int32_t count, int32_t rank, int32_t *num_larger) {
  const I32 lowest = set1i(INT32_MIN);
  const I32 highest = set1i(INT32_MAX);
  I32 low_lanes = highest;
  I32 high_lanes = lowest;
  for (int32_t i = 0; i < count; i += kLanes) {
    const Mask valid = mask_first(count - i);
    const I32 key = load(keys + i);
    low_lanes = min(low_lanes, select(valid, key, highest));
    high_lanes = max(high_lanes, select(valid, key, lowest));
  }
  int32_t low = lane_min(low_lanes);
  int32_t high = lane_max(high_lanes);
  const int32_t wanted = rank;
  while (low < high) {
    const int32_t middle = static_cast<int32_t>(static_cast<uint32_t>(low) +
                                                (static_cast<uint32_t>(high) - static_cast<uint32_t>(low)) / 2);
    const I32 pivot = set1i(middle);
    I32 upper_low = highest;
    I32 lower_high = lowest;
    int32_t num_upper = 0;
    int32_t num_lower = 0;
    for (int32_t i = 0; i < count; i += kLanes) {
      const Mask valid = mask_first(count - i);
      const I32 key = load(keys + i);
      const Mask above = gt(key, pivot);
      const Mask upper = mask_and(above, valid);
      const Mask lower = mask_and_not(valid, above);
      upper_low = min(upper_low, select(upper, key, highest));
      lower_high = max(lower_high, select(lower, key, lowest));
      // Stays behind the reads: at most i elements have been kept so far, and 16 are written.
      num_lower += compress_store(keys + num_lower, key, lower);
      num_upper += compress_store(other + num_upper, key, upper);
    }
    if (num_upper >= rank) {
      int32_t *swap = keys;
      keys = other;
      other = swap;
      count = num_upper;
      low = lane_min(upper_low);
    } else {
      rank -= num_upper;
      count = num_lower;
      high = lane_max(lower_high);
    }
  }
  *num_larger = wanted - rank;
  return low;
}

void reduce(Candidates &c, int32_t *scratch, int64_t scratch_stride) {
  if (c.count <= c.k) return;
  for (int32_t i = 0; i < c.count; i += kLanes) store(scratch + i, order_key(load(c.scores + i)));
  int32_t num_larger = 0;
  const int32_t kth = nth_largest(scratch, scratch + scratch_stride, c.count, c.k, &num_larger);
  c.threshold = score_of_key(kth);
  c.bounded = true;
  const F32 threshold = set1(c.threshold);
  int32_t ties = c.k - num_larger;  // the first so many keys that equal the k-th stay
  int32_t kept = 0;
  int32_t i = 0;
  for (; i < c.count && ties > 0; i += kLanes) {
    const Mask valid = mask_first(c.count - i);
    const F32 score = load(c.scores + i);
    const I32 position = load(c.positions + i);
    const Mask larger = mask_and(gt(score, threshold), valid);
    const Mask equal = mask_and(eq(score, threshold), valid);
    uint32_t tie_bits = mask_bits(equal);
    int32_t num_equal = __builtin_popcount(tie_bits);
    uint32_t stay = tie_bits;
    for (; num_equal > ties; --num_equal) {  // drop the tie in the highest lane
      stay &= ~(0x80000000u >> __builtin_clz(stay));
    }
    ties -= num_equal;
    const Mask keep = mask_or(larger, stay == tie_bits ? equal : mask_from_bits(stay));
    compress_store(c.scores + kept, score, keep);
    kept += compress_store(c.positions + kept, position, keep);
  }
  for (; i < c.count; i += kLanes) {
    const F32 score = load(c.scores + i);
    const I32 position = load(c.positions + i);
    const Mask larger = mask_and(gt(score, threshold), mask_first(c.count - i));
    compress_store(c.scores + kept, score, larger);
    kept += compress_store(c.positions + kept, position, larger);
  }
  c.count = kept;
}

}  // namespace
}  // namespace ic::cpu
