// SPDX-License-Identifier: Apache-2.0
// The immutable operator handles: an indexer, a selection rule, an attention geometry, each on one context.
#pragma once

#include <cstdint>

#include "core/context.h"
#include "core/ref.h"
#include "indexcache.h"

struct ic_indexer final : ic::RefCounted {
  ic_indexer(ic_context *context_in, const ic_indexer_desc &desc)
      : context(context_in), num_heads(desc.num_heads), head_dim(desc.head_dim), dtype(desc.dtype) {}
  const ic::Ref<ic_context> context;
  const int32_t num_heads;
  const int32_t head_dim;
  const int32_t dtype;
};

struct ic_topk final : ic::RefCounted {
  ic_topk(ic_context *context_in, const ic_topk_desc &desc)
      : context(context_in), k(desc.k), k_padded(IC_K_PADDED(desc.k)), order(desc.order) {}
  const ic::Ref<ic_context> context;
  const int32_t k;
  const int32_t k_padded;
  const int32_t order;
};

struct ic_attention final : ic::RefCounted {
  ic_attention(ic_context *context_in, const ic_attention_desc &desc)
      : context(context_in),
        num_heads(desc.num_heads),
        d_latent(desc.d_latent),
        d_rope(desc.d_rope),
        kv_dtype(desc.kv_dtype),
        q_dtype(desc.q_dtype),
        out_dtype(desc.out_dtype == 0 ? desc.q_dtype : desc.out_dtype),
        softmax_scale(desc.softmax_scale) {}
  const ic::Ref<ic_context> context;
  const int32_t num_heads;
  const int32_t d_latent;
  const int32_t d_rope;
  const int32_t kv_dtype;
  const int32_t q_dtype;
  const int32_t out_dtype;
  const float softmax_scale;
};
