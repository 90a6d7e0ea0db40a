// SPDX-License-Identifier: Apache-2.0
// From projections to what the indexer reads: LayerNorm, rotary embedding, Hadamard, quantisation, writing of keys.
#pragma once

#include "core/params.h"
#include "cpu/executor.h"

namespace ic::cpu {

// The arithmetic, fixed so that every instruction level, thread count and device gives the same bits. All of it is
// fp32, every operation below is rounded on its own (no fused multiply-add), division and square root are IEEE; only
// the last step rounds to the output type. D = head_dim, a power of two; sum(v) is the tree v[i] += v[i + n], i < n,
// for n = D/2, D/4, ..., 1.
//
// 1. LayerNorm (keys, when norm_weight is given): mean = sum(x) * (1/D); c = x - mean; var = sum(c * c) * (1/D);
//    rstd = 1 / sqrt(var + eps); y = (c * rstd) * weight, then + bias when given.
// 2. Rotary embedding of rope_dim dimensions (the first, or the last with IC_PREPARE_ROPE_LAST), pairs (2i, 2i+1) with
//    IC_PREPARE_ROPE_INTERLEAVED, else (i, i + rope_dim/2): (a, b) becomes (a*cos - b*sin, b*cos + a*sin).
// 3. Hadamard: butterflies (a, b) -> (a + b, a - b) at distance 1, 2, 4, ..., D/2, then * fp32(D^-1/2).
// 4. Output. fp32, fp16, bf16: round to nearest even. e4m3: scale = max(amax, 1e-4) / 448, with IC_PREPARE_UE8M0 the
//    next power of two that is not below; value = e4m3(y / scale), saturating at +-448. A NaN in a vector makes its
//    scale and all its values NaN.
//
// head_dim is 32, 64 or 128. A row whose position is outside [0, num_positions) sets IC_FAULT_POSITION: a key is not
// written, a query becomes zeros with the scale of a zero vector. Without rotation the positions are not read.
// Key slots: page * page_tokens + offset, or the flat vector number. -1 skips the row and is no fault; a slot outside
// the pool is skipped with IC_FAULT_SLOT. The slots of one call are distinct.

/// Queries: x [count, num_heads, head_dim] to q_out and, for e4m3, q_scale_out.
void prepare_queries(const Executor &executor, const PrepareParams &params);

/// Keys: x [count, head_dim] into the pool at slots.
void prepare_keys(const Executor &executor, const PrepareParams &params);

/// Ready keys into the pool at slots, bytes unchanged.
void write_keys(const Executor &executor, const WriteKeysParams &params);

}  // namespace ic::cpu
