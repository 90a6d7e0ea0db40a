/* SPDX-License-Identifier: Apache-2.0 */
/* One decode step of a two-layer model through libindexcache: layer 0 is Full (scores and selects), layer 1 is Shared
 * (reuses the selection). Both then attend to the selected keys only. Runs on the CPU; on CUDA the pointers below
 * would be device pointers and the stream a cudaStream_t. */
#include <indexcache.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { kContext = 1000, kHeads = 4, kDim = 32, kTopK = 64, kAttentionHeads = 2, kLatent = 32, kRope = 16 };

static void check(ic_status status) {
  if (status == IC_OK) return;
  char message[512];
  ic_last_error(message, sizeof message);
  fprintf(stderr, "%s\n  %s\n", ic_status_string(status), message);
  exit(1);
}

/* Stands for a model's projections: any numbers do. */
static float *some_numbers(size_t count) {
  float *numbers = malloc(count * sizeof *numbers);
  if (numbers == NULL) exit(1);
  for (size_t i = 0; i < count; ++i) numbers[i] = sinf((float)i * 0.37f);
  return numbers;
}

int main(void) {
  /* Once per process: where to run, and what the model looks like. */
  ic_context *context;
  ic_context_desc context_desc = IC_CONTEXT_DESC_INIT;
  context_desc.backend = IC_BACKEND_CPU;
  check(ic_context_create(&context_desc, &context));

  ic_schedule *schedule;
  ic_schedule_desc schedule_desc = IC_SCHEDULE_DESC_INIT;
  schedule_desc.num_layers = 2;
  schedule_desc.pattern = "FS"; /* or a model's config.json */
  check(ic_schedule_create(&schedule_desc, &schedule));

  ic_indexer *indexer;
  ic_indexer_desc indexer_desc = IC_INDEXER_DESC_INIT;
  indexer_desc.num_heads = kHeads;
  indexer_desc.head_dim = kDim;
  indexer_desc.dtype = IC_DTYPE_F32;
  check(ic_indexer_create(context, &indexer_desc, &indexer));

  ic_topk *topk;
  ic_topk_desc topk_desc = IC_TOPK_DESC_INIT;
  topk_desc.k = kTopK;
  check(ic_topk_create(context, &topk_desc, &topk));

  ic_attention *attention;
  ic_attention_desc attention_desc = IC_ATTENTION_DESC_INIT;
  attention_desc.num_heads = kAttentionHeads;
  attention_desc.d_latent = kLatent;
  attention_desc.d_rope = kRope;
  attention_desc.kv_dtype = IC_DTYPE_F32;
  attention_desc.q_dtype = IC_DTYPE_F32;
  attention_desc.softmax_scale = 1.0f / sqrtf(kLatent + kRope);
  check(ic_attention_create(context, &attention_desc, &attention));

  /* Once per micro-batch: the cache of indices, and a workspace for the largest step. */
  ic_cache *cache;
  ic_cache_desc cache_desc = IC_CACHE_DESC_INIT;
  cache_desc.schedule = schedule;
  cache_desc.indexer = indexer;
  cache_desc.topk = topk;
  cache_desc.attention = attention;
  cache_desc.max_rows = 1;
  check(ic_cache_create(context, &cache_desc, &cache));

  size_t workspace_size;
  check(ic_forward_workspace_size(cache, 1, kContext, &workspace_size));
  void *workspace = aligned_alloc(256, (workspace_size + 255) / 256 * 256);

  /* Once per step: one row, which sees all keys of sequence 0. */
  const int32_t key_end[1] = {kContext};
  ic_batch batch = IC_BATCH_INIT;
  batch.num_rows = 1;
  batch.num_seqs = 1;
  batch.max_key_end = kContext;
  batch.key_end = key_end;
  check(ic_cache_begin(cache, &batch));

  /* Once per layer: its queries, its keys, its latent KV. */
  float out[2][kAttentionHeads * kLatent];
  for (int32_t layer = 0; layer < 2; ++layer) {
    ic_queries queries = IC_QUERIES_INIT; /* read by Full layers only */
    queries.q = some_numbers(kHeads * kDim);
    queries.w = some_numbers(kHeads);
    ic_pool keys = IC_POOL_INIT;
    keys.layout = IC_LAYOUT_CONTIGUOUS;
    keys.data = some_numbers((size_t)kContext * kDim);
    keys.capacity = kContext;
    ic_pool kv = IC_POOL_INIT;
    kv.layout = IC_LAYOUT_CONTIGUOUS;
    kv.data = some_numbers((size_t)kContext * (kLatent + kRope));
    kv.capacity = kContext;
    ic_attention_args attend = IC_ATTENTION_ARGS_INIT;
    attend.q = some_numbers(kAttentionHeads * (kLatent + kRope));
    attend.kv = &kv;
    attend.out = out[layer];

    ic_forward_args args = IC_FORWARD_ARGS_INIT;
    args.layer = layer;
    args.row_count = IC_ALL_ROWS;
    args.queries = &queries;
    args.keys = &keys;
    args.attention = &attend;
    args.workspace = workspace;
    args.workspace_size = workspace_size;
    ic_index_view view = IC_INDEX_VIEW_INIT;
    check(ic_forward(cache, &args, &view, NULL));
    printf("layer %d: %d keys of layer %d, the first %d and the last %d\n", (int)layer, (int)view.lengths[0],
           (int)view.source_layer, (int)view.indices[0], (int)view.indices[view.lengths[0] - 1]);

    free((void *)queries.q);
    free((void *)queries.w);
    free(keys.data);
    free(kv.data);
    free((void *)attend.q);
  }

  /* Any order: handles keep what they need. */
  free(workspace);
  ic_cache_destroy(cache);
  ic_attention_destroy(attention);
  ic_topk_destroy(topk);
  ic_indexer_destroy(indexer);
  ic_schedule_destroy(schedule);
  ic_context_destroy(context);
  return 0;
}
