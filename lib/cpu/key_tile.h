// SPDX-License-Identifier: Apache-2.0
// Where the index keys of a range of positions lie: the only code that reads block tables and key offsets for scores.
#pragma once

#include <cstdint>

#include "core/params.h"
#include "cpu/isa/score_kernels.h"

namespace ic::cpu {

/// Keys of up to kTileKeys consecutive positions; those that are not there are left out.
struct KeyTile {
  const uint8_t *keys[kTileKeys];     // first element of each key
  int32_t positions[kTileKeys + 16];  // ascending; whole vectors may be read behind the last
  float scales[kTileKeys + 16];       // e4m3 only
  int32_t count;
};

/// Finds the keys at positions [first, first + num) of sequence seq, 0 <= seq < num_seqs, first >= 0, num <= kTileKeys.
/// wanted: null, or num flags: positions without one are left out and not looked up. Returns IC_FAULT_* bits: a key
/// outside the pool is left out and reported, one on page -1 or behind the last block just left out.
/// @param scaled  e4m3 keys: their scales are read too.
uint32_t find_keys(const PoolView &pool, int32_t seq, int32_t first, int32_t num, const uint8_t *wanted,
                   int32_t vector_bytes, bool scaled, KeyTile *tile) noexcept;

}  // namespace ic::cpu
