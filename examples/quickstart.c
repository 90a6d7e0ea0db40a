/* SPDX-License-Identifier: Apache-2.0 */
/* One decode step of a two-layer model through libindexcache: layer 0 is Full (scores and selects), layer 1 is Shared
 * (reuses the selection). Both then attend to the selected keys only. Runs on the CPU; on CUDA the pointers below
 * would be device pointers and the stream a cudaStream_t. */
#include <indexcache.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { kLayers = 2, kContext = 1000, kHeads = 4, kDim = 32, kTopK = 64, kAttentionHeads = 2, kLatent = 32, kRope = 16 };

static void check(ic_status status) {
  if (status == IC_OK) return;
  char message[512];
  ic_last_error(message, sizeof message);
  fprintf(stderr, "%s\n  %s\n", ic_status_string(status), message);
  exit(1);
}

/* Stands for a model's projections: any numbers do. */
static void some_numbers(float *numbers, size_t count) {
  for (size_t i = 0; i < count; ++i) numbers[i] = sinf((float)i * 0.37f);
}

/* What an engine keeps for each layer: projections of this step, pools of the whole context, and arguments over both
 * that are built once. */
struct layer {
  float q[kHeads * kDim], w[kHeads], index_keys[kContext * kDim];
  float attention_q[kAttentionHeads * (kLatent + kRope)], latent_kv[kContext * (kLatent + kRope)];
  float attention_out[kAttentionHeads * kLatent];
  ic_queries queries;
  ic_pool keys, kv;
  ic_attention_args attention;
};

static ic_pool contiguous_pool(float *data) {
  ic_pool pool = IC_POOL_INIT;
  pool.layout = IC_LAYOUT_CONTIGUOUS;
  pool.data = data;
  pool.capacity = kContext;
  return pool;
}

static ic_forward_args build_layer(int32_t id, struct layer *layer, void *workspace, size_t workspace_size) {
  some_numbers(layer->q, kHeads * kDim);
  some_numbers(layer->w, kHeads);
  some_numbers(layer->index_keys, kContext * kDim);
  some_numbers(layer->attention_q, kAttentionHeads * (kLatent + kRope));
  some_numbers(layer->latent_kv, kContext * (kLatent + kRope));
  layer->keys = contiguous_pool(layer->index_keys);
  layer->kv = contiguous_pool(layer->latent_kv);
  layer->queries = (ic_queries)IC_QUERIES_INIT; /* read when the layer is Full */
  layer->queries.q = layer->q;
  layer->queries.w = layer->w;
  layer->attention = (ic_attention_args)IC_ATTENTION_ARGS_INIT;
  layer->attention.q = layer->attention_q;
  layer->attention.kv = &layer->kv;
  layer->attention.out = layer->attention_out;

  ic_forward_args args = IC_FORWARD_ARGS_INIT;
  args.layer = id;
  args.row_count = IC_ALL_ROWS;
  args.queries = &layer->queries;
  args.keys = &layer->keys;
  args.attention = &layer->attention;
  args.workspace = workspace;
  args.workspace_size = workspace_size;
  return args;
}

int main(void) {
  /* Once per process: where to run, and what the model looks like. */
  ic_context *context;
  ic_context_desc context_desc = IC_CONTEXT_DESC_INIT;
  context_desc.backend = IC_BACKEND_CPU;
  check(ic_context_create(&context_desc, &context));

  ic_schedule *schedule;
  ic_schedule_desc schedule_desc = IC_SCHEDULE_DESC_INIT;
  schedule_desc.num_layers = kLayers;
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

  static struct layer layers[kLayers];
  ic_forward_args args[kLayers];
  for (int32_t layer = 0; layer < kLayers; ++layer)
    args[layer] = build_layer(layer, &layers[layer], workspace, workspace_size);

  /* Once per step: one row, which sees all keys of sequence 0; then one call per layer. */
  const int32_t key_end[1] = {kContext};
  ic_batch batch = IC_BATCH_INIT;
  batch.num_rows = 1;
  batch.num_seqs = 1;
  batch.max_key_end = kContext;
  batch.key_end = key_end;
  check(ic_cache_begin(cache, &batch));
  for (int32_t layer = 0; layer < kLayers; ++layer) {
    ic_index_view view = IC_INDEX_VIEW_INIT;
    check(ic_forward(cache, &args[layer], &view, NULL));  // Full: score, select. Shared: the source's indices
    printf("layer %d attends to %d keys selected by layer %d\n", (int)layer, (int)view.lengths[0],
           (int)view.source_layer);
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
