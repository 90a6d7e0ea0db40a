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
    const auto enter = [&](int32_t at, F32 score, Mask better) {
      compress_store(c.scores + count, add(score, zero()), better);
      count += compress_store(c.positions + count, positions_at(positions, first_position, at), better);
    };
    int32_t at = begin;
    // One branch for four vectors. Early in a row it is always taken, late almost never: either way it is foreseen.
    for (; at + 4 * kLanes <= end; at += 4 * kLanes) {
      F32 score[4];
      Mask better[4];
      for (int i = 0; i < 4; ++i) {
        score[i] = load(scores + at + i * kLanes);
        better[i] = gt(score[i], threshold);  // never a NaN
      }
      if (mask_bits(mask_or(mask_or(better[0], better[1]), mask_or(better[2], better[3]))) == 0) continue;
      for (int i = 0; i < 4; ++i) enter(at + i * kLanes, score[i], better[i]);
    }
    for (; at < end; at += kLanes) {
      const F32 score = load(scores + at);
      enter(at, score, mask_and(gt(score, threshold), mask_first(end - at)));
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

/// A value that at least `wanted` and at most wanted + spare of keys[0 .. count) reach; with too many ties for that, or
/// with spare 0, the wanted-th largest. *ties: how many of the keys that equal it belong to the best, INT32_MAX when
/// all. All keys lie in [low, high], and both occur. Halves the interval of values and keeps the side that holds the
/// wanted-th: at most 32 passes whatever the data, each over what is left; commonly the sum of all passes is two or
/// three counts. Destroys keys and other.
int32_t find_threshold(int32_t *keys, int32_t *other, int32_t count, int32_t wanted, int32_t spare, int32_t low,
                       int32_t high, int32_t *ties) {
  const I32 lowest = set1i(INT32_MIN);
  const I32 highest = set1i(INT32_MAX);
  int32_t rank = wanted;  // of the wanted-th among the keys that are left; wanted - rank keys are above those
  while (low < high) {
    if (count <= kLanes) {  // in one register: the key with fewer than rank above it, and rank with its equals
      const I32 all = select(mask_first(count), load(keys), lowest);
      for (int32_t i = 0; i < count; ++i) {
        const I32 key = set1i(keys[i]);
        const int32_t above = __builtin_popcount(mask_bits(gt(all, key)));
        const int32_t equal = __builtin_popcount(mask_bits(eq(all, key)));
        if (above < rank && above + equal >= rank) {
          *ties = rank - above;
          return keys[i];
        }
      }
    }
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
      low = reduce_min(upper_low);
      if (num_upper - rank <= spare) {
        *ties = INT32_MAX;
        return low;
      }
    } else {
      rank -= num_upper;
      count = num_lower;
      high = reduce_max(lower_high);
    }
  }
  *ties = rank;
  return low;
}

void reduce(Candidates &c, int32_t spare, int32_t *scratch, int64_t scratch_stride) {
  if (c.count <= c.k) return;
  I32 low = set1i(INT32_MAX);
  I32 high = set1i(INT32_MIN);
  for (int32_t at = 0; at < c.count; at += kLanes) {
    const I32 key = order_key(load(c.scores + at));
    const Mask valid = mask_first(c.count - at);
    low = select(valid, min(low, key), low);
    high = select(valid, max(high, key), high);
    store(scratch + at, key);
  }
  int32_t ties = 0;
  const int32_t key =
      find_threshold(scratch, scratch + scratch_stride, c.count, c.k, spare, reduce_min(low), reduce_max(high), &ties);
  c.threshold = score_of_key(key);
  c.bounded = true;
  const F32 threshold = set1(c.threshold);
  int32_t kept = 0;
  int32_t i = 0;
  for (; i < c.count && ties > 0; i += kLanes) {  // the first ties stay
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
