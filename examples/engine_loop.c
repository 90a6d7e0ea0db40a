/* SPDX-License-Identifier: Apache-2.0 */
/* An engine in small: continuous batching over paged pools, chunked prefill beside decode, MTP drafts that share, two
 * pipeline stages. Everything that the library computes is compared with brute force.
 *
 * The model is random but complete: tokens go in, greedy tokens come out. The same requests are served twice:
 *   plain  one after the other, a prompt in one piece, then one token per forward;
 *   busy   together, prompts in chunks, three drafts verified per request and forward.
 * What a row selects and attends to never depends on its batch, so both must generate the same tokens. */
#define _POSIX_C_SOURCE 200112L
#include <indexcache.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "brute_force.h"
#include "toy_engine.h"

enum { kCut = 4, kOwn = 3 }; /* first layer of the second pipeline stage; layer that runs the engine's own attention */

#define CHECK(call) check((call), #call, __LINE__)

static void check(ic_status status, const char *call, int line) {
  char message[512];
  if (status == IC_OK) return;
  ic_last_error(message, sizeof message);
  FAIL("line %d: %s\n  %s\n  %s", line, call, ic_status_string(status), message);
}

/* ----------------------------------------------------------------------------------------------------- the engine */

static uint8_t *index_pool; /* [key slots, kIndexPoolBytes]: only layers that run their indexer keep index keys */
static uint16_t kv_pool[kLayers + 1][kKvPages * kKvPage][kKv]; /* bf16 */
static ic_context *context;
static ic_schedule *schedule;
static ic_indexer *indexer;
static ic_topk *topk;
static ic_attention *attention;
static ic_cache *stages[2];
static void *workspace, *block; /* block: what the first stage sends to the second */
static size_t workspace_size;
static int num_forwards, num_drafted, num_accepted;
static double recall_sum, recall_rows;

static ic_cache *make_cache(int32_t num_slots) {
  ic_cache *cache = NULL;
  const ic_cache_desc desc = {.struct_size = sizeof desc,
                              .schedule = schedule,
                              .indexer = indexer,
                              .topk = topk,
                              .attention = attention,
                              .max_rows = kMaxRows,
                              .num_slots = num_slots};
  CHECK(ic_cache_create(context, &desc, &cache));
  return cache;
}

static void make_engine(void) {
  const char *const config =
      "{\"model_type\": \"glm_moe_dsa\", \"num_hidden_layers\": 8, \"index_topk\": 16,"
      " \"index_topk_freq\": 4, \"index_skip_topk_offset\": 3, \"num_nextn_predict_layers\": 1}";
  const ic_context_desc c = {.struct_size = sizeof c, .backend = IC_BACKEND_CPU, .num_threads = 2};
  CHECK(ic_context_create(&c, &context));
  /* The config says FFFSSSFS and one MTP layer; this deployment shares more. */
  const ic_schedule_desc s = {.struct_size = sizeof s, .config_json = config, .pattern = "FSFSSSFS"};
  ic_schedule_info info = IC_SCHEDULE_INFO_INIT;
  CHECK(ic_schedule_create(&s, &schedule));
  CHECK(ic_schedule_get_info(schedule, &info));
  const ic_indexer_desc i = {.struct_size = sizeof i, .num_heads = kHeads, .head_dim = kDim, .dtype = IC_DTYPE_E4M3};
  CHECK(ic_indexer_create(context, &i, &indexer));
  const ic_topk_desc t = {.struct_size = sizeof t, .k = kTopK};
  CHECK(ic_topk_create(context, &t, &topk));
  const ic_attention_desc a = {.struct_size = sizeof a,
                               .num_heads = kQHeads,
                               .d_latent = kLatent,
                               .d_rope = kKv - kLatent,
                               .kv_dtype = IC_DTYPE_BF16,
                               .q_dtype = IC_DTYPE_F32,
                               .softmax_scale = kScale};
  CHECK(ic_attention_create(context, &a, &attention));
  for (int stage = 0; stage < 2; ++stage) stages[stage] = make_cache(2); /* 2: for measure_overlap() */

  size_t compact_size = 0, block_size = 0;
  CHECK(ic_forward_workspace_size(stages[0], kMaxRows, kMaxTokens, &workspace_size));
  CHECK(ic_cache_compact_workspace_size(stages[0], kMaxRows, &compact_size));
  if (workspace_size < compact_size) workspace_size = compact_size;
  CHECK(ic_cache_export_size(stages[0], kMaxRows, 0, &block_size));
  block = malloc(block_size);
  index_pool = malloc((size_t)info.num_key_slots * kIndexPoolBytes);
  if (!block || !index_pool || posix_memalign(&workspace, 256, workspace_size)) FAIL("no memory");
  pages_init(&index_pages, kIndexPages);
  pages_init(&kv_pages, kKvPages);
}

static void destroy_engine(void) {
  for (int stage = 0; stage < 2; ++stage) ic_cache_destroy(stages[stage]);
  ic_attention_destroy(attention);
  ic_topk_destroy(topk);
  ic_indexer_destroy(indexer);
  ic_schedule_destroy(schedule);
  ic_context_destroy(context);
  free(workspace);
  free(index_pool);
  free(block);
}

static void begin(ic_cache *cache, const Rows *rows, uint32_t flags) {
  const ic_block_table tables[2] = {{index_pages.table[0], kTableStride, kMaxTokens / kIndexPage, kIndexPage},
                                    {kv_pages.table[0], kTableStride, kMaxTokens / kKvPage, kKvPage}};
  const ic_batch batch = {.struct_size = sizeof batch,
                          .num_rows = rows->count,
                          .num_seqs = kSeqs,
                          .max_key_end = kMaxTokens,
                          .row_seq = rows->seq,
                          .key_end = rows->key_end,
                          .num_block_tables = 2,
                          .block_tables = tables,
                          .flags = flags};
  CHECK(ic_cache_begin(cache, &batch));
}

/* ------------------------------------------------------------------------------------------------------ one layer */

static void run_layer(int stage, int32_t layer, int32_t mode, Rows *rows) {
  static Projection x[kMaxRows];
  static uint8_t q[kMaxRows][kHeads * kDim];
  static float q_scale[kMaxRows][kHeads], out[kMaxRows][kOut];
  static int64_t key_slots[kMaxRows];
  static int32_t slots[2][kMaxRows][IC_K_PADDED(kTopK)], lengths[2][kMaxRows]; /* [stage]: see ic_cache_remap() */
  ic_layer_info info = IC_LAYER_INFO_INIT;
  CHECK(ic_schedule_get_layer(schedule, layer, &info));
  if (mode == 0) mode = info.mode;
  uint8_t *const key_data = info.key_slot >= 0 ? index_pool + (ptrdiff_t)info.key_slot * kIndexPoolBytes : NULL;
  const ic_pool keys = {
      .struct_size = sizeof keys, .data = key_data, .capacity = kIndexPages, .layout = IC_LAYOUT_PAGED};
  const ic_pool kv = {.struct_size = sizeof kv,
                      .data = kv_pool[layer],
                      .capacity = kKvPages,
                      .layout = IC_LAYOUT_PAGED,
                      .block_table = 1};
  for (int32_t r = 0; r < rows->count; ++r) { /* the latent KV is written by the engine */
    project(&x[r], layer, rows->hidden[r]);
    for (int d = 0; d < kKv; ++d)
      kv_pool[layer][slot_of(&kv_pages, rows->seq[r], rows->position[r])][d] = to_bf16(x[r].kv[d]);
    key_slots[r] = slot_of(&index_pages, rows->seq[r], rows->position[r]);
  }

  ic_prepare_args common = IC_PREPARE_ARGS_INIT;
  common.x_row_stride = kStride;
  common.count = rows->count;
  common.x_dtype = IC_DTYPE_F32;
  common.flags = IC_PREPARE_ROPE_INTERLEAVED | IC_PREPARE_HADAMARD | IC_PREPARE_UE8M0;
  common.positions = rows->position;
  common.cos_table = cos_table[0];
  common.sin_table = sin_table[0];
  common.num_positions = kMaxTokens;
  common.rope_dim = kRope;
  if (key_data) {
    ic_prepare_args args = common;
    args.x = x[0].k;
    args.norm_weight = model[layer].norm_weight;
    args.norm_bias = model[layer].norm_bias;
    args.norm_eps = kNormEps;
    args.pool = &keys;
    args.slots = key_slots;
    args.page_tokens = kIndexPage;
    CHECK(ic_indexer_prepare_keys(indexer, &args, NULL));
  }
  if (mode == IC_LAYER_FULL) {
    ic_prepare_args args = common;
    args.x = x[0].q;
    args.q_out = q;
    args.q_scale_out = q_scale[0];
    CHECK(ic_indexer_prepare_queries(indexer, &args, NULL));
  }

  for (int part = 0; part < 2; ++part) { /* decode rows, prefill rows; a part without rows is fine */
    const int32_t first = part == 0 ? 0 : rows->num_decode;
    const ic_queries queries = {.struct_size = sizeof queries,
                                .q = q[first],
                                .w = x[first].w,
                                .w_row_stride = kStride,
                                .q_scale = q_scale[first]};
    const ic_attention_args attend = {
        .struct_size = sizeof attend, .q = x[first].mla_q, .q_row_stride = kStride, .kv = &kv, .out = out[first]};
    const ic_forward_args args = {.struct_size = sizeof args,
                                  .layer = layer,
                                  .mode = mode,
                                  .row_begin = first,
                                  .row_count = part == 0 ? rows->num_decode : IC_ALL_ROWS,
                                  .queries = &queries,
                                  .keys = &keys,
                                  .attention = layer == kOwn ? NULL : &attend,
                                  .workspace = workspace,
                                  .workspace_size = workspace_size};
    CHECK(ic_forward(stages[stage], &args, NULL, NULL));
  }

  ic_index_view view = IC_INDEX_VIEW_INIT, slot_view = IC_INDEX_VIEW_INIT;
  const ic_remap_args remap = {.struct_size = sizeof remap,
                               .source_layer = info.source_layer,
                               .layout = IC_LAYOUT_PAGED,
                               .block_table = kv.block_table,
                               .slots = slots[stage][0],
                               .lengths = lengths[stage]};
  CHECK(ic_cache_get_view(stages[stage], info.source_layer, &view));
  CHECK(ic_cache_remap(stages[stage], &remap, &slot_view, NULL));
  for (int32_t r = 0; r < rows->count; ++r) {
    float own[kOut], update[kHidden];
    if (key_data) check_key(&keys, &x[r], layer, rows->position[r], key_slots[r]);
    if (mode == IC_LAYER_FULL) check_selection(&keys, rows, r, q[r], q_scale[r], x[r].w, &view);
    attend_slots(own, x[r].mla_q, kv.data, slots[stage][r], lengths[stage][r]);
    if (layer == kOwn) memcpy(out[r], own, sizeof own);
    for (int i = 0; i < kOut; ++i)
      if (!(fabsf(out[r][i] - own[i]) < 1e-5f))
        FAIL("layer %d: attention is %g, not %g", (int)layer, out[r][i], own[i]);
    matvec(update, model[layer].out, out[r], kHidden, kOut);
    add(rows->hidden[r], update);
  }
}

/* ---------------------------------------------------------------------------------------------------- one forward */

/* How many keys two Full layers have in common: what tells a schedule search which of them could share. */
static void measure_overlap(int32_t layer, int32_t other) {
  ic_index_view a = IC_INDEX_VIEW_INIT, b = IC_INDEX_VIEW_INIT;
  float recall[kMaxRows];
  const ic_overlap_args args = {.struct_size = sizeof args, .recall = recall};
  CHECK(ic_cache_get_view(stages[0], layer, &a));
  CHECK(ic_cache_get_view(stages[0], other, &b));
  CHECK(ic_index_overlap(context, &a, &b, &args, NULL));
  for (int32_t r = 0; r < a.num_rows; ++r) {
    const int both =
        count_common(a.indices + r * a.row_stride, a.lengths[r], b.indices + r * b.row_stride, b.lengths[r]);
    if (fabsf(recall[r] - (float)both / (float)a.lengths[r]) > 1e-6f) FAIL("recall is %g", recall[r]);
    recall_sum += recall[r];
  }
  recall_rows += a.num_rows;
}

/* Hands the indices that the layers behind the cut need to the second stage's cache. */
static void cross_cut(int32_t num_rows) {
  ic_index_view sent = IC_INDEX_VIEW_INIT, received = IC_INDEX_VIEW_INIT;
  int32_t source = -1;
  size_t size = 0;
  CHECK(ic_schedule_get_cut(schedule, kCut, &source));
  if (source < 0) return;
  CHECK(ic_cache_export_size(stages[0], num_rows, 0, &size));
  CHECK(ic_cache_export(stages[0], source, 0, IC_MEMORY_HOST, block, size, NULL));
  CHECK(ic_cache_import(stages[1], -1, IC_IMPORT_SAME_NUMERICS, block, size, NULL, NULL));
  CHECK(ic_cache_get_view(stages[0], source, &sent));
  CHECK(ic_cache_get_view(stages[1], source, &received));
  if (received.num_rows != num_rows ||
      memcmp(received.indices, sent.indices, (size_t)(num_rows * sent.row_stride) * sizeof(int32_t)))
    FAIL("the second stage received other indices");
}

/* Draft step 0 runs the MTP layer Full over the rows of the forward. The later steps have one row per request and share
 * the indices of its last accepted row, last_row[i]. */
static void draft(Rows *rows, Request *const *requests, const int32_t *last_row, int32_t count) {
  static Rows step;
  static int32_t expected[kSeqs][IC_K_PADDED(kTopK)];
  ic_index_view view = IC_INDEX_VIEW_INIT;
  run_layer(1, kMtp, 0, rows);
  CHECK(ic_cache_get_view(stages[1], kMtp, &view));
  step.count = 0;
  for (int32_t i = 0; i < count; ++i) {
    const int32_t r = last_row[i];
    memcpy(expected[i], view.indices + r * view.row_stride, sizeof expected[i]);
    add_row(&step, rows->seq[r], rows->position[r], 0);
    memcpy(step.hidden[i], rows->hidden[r], sizeof step.hidden[i]);
  }
  for (int s = 0; count > 0; ++s) {
    for (int32_t i = 0; i < count; ++i) { /* predict a token, then feed it to the next step */
      const int32_t token = best_token(step.hidden[i]);
      requests[i]->drafts[requests[i]->num_drafts++] = token;
      add(step.hidden[i], embedding[token]);
      step.key_end[i] = ++step.position[i] + 1;
    }
    if (s + 1 == kDrafts) break;
    begin(stages[1], &step, IC_BATCH_KEEP);
    if (s == 0) { /* afterwards the rows stay the same: KEEP alone carries them */
      const ic_compact_args args = {.struct_size = sizeof args,
                                    .source_layer = kMtp,
                                    .publish_layer = kMtp,
                                    .rows = last_row,
                                    .num_rows = count,
                                    .workspace = workspace,
                                    .workspace_size = workspace_size};
      CHECK(ic_cache_compact(stages[1], &args, NULL));
    }
    run_layer(1, kMtp, IC_LAYER_SHARED, &step);
    CHECK(ic_cache_get_view(stages[1], kMtp, &view));
    for (int32_t i = 0; i < count; ++i)
      if (memcmp(expected[i], view.indices + i * view.row_stride, sizeof expected[i]))
        FAIL("draft %d does not share", s);
  }
}

/* One forward of the running requests: decode rows with drafts to verify, then at most `chunk` prefill rows. */
static void forward(Request **running, int32_t chunk, int use_drafts) {
  static Rows rows;
  Request *order[kSeqs], *drafting[kSeqs];
  int32_t first[kSeqs + 1] = {0}, last_row[kSeqs];
  int n = 0, num_drafting = 0;
  rows.count = 0;
  for (int prefill = 0; prefill < 2; ++prefill) {
    for (int32_t seq = 0; seq < kSeqs; ++seq) {
      Request *const q = running[seq];
      if (!q || (q->length - q->computed > 1) != prefill) continue;
      int32_t take = prefill ? q->length - q->computed : 1 + q->num_drafts;
      if (prefill) chunk -= take = take < chunk ? take : chunk;
      if (take == 0) continue;
      pages_grow(&index_pages, seq, q->computed + take + kDrafts);
      pages_grow(&kv_pages, seq, q->computed + take + kDrafts);
      for (int32_t p = q->computed; p < q->computed + take; ++p)
        add_row(&rows, seq, p, p < q->length ? q->tokens[p] : q->drafts[p - q->length]);
      order[n++] = q;
      first[n] = rows.count;
    }
    if (!prefill) rows.num_decode = rows.count;
  }

  for (int stage = 0; stage < 2; ++stage) begin(stages[stage], &rows, 0);
  for (int32_t layer = 0; layer < kLayers; ++layer) {
    if (layer == kCut) cross_cut(rows.count);
    run_layer(layer >= kCut, layer, 0, &rows);
    if (layer == 2) measure_overlap(0, 2);
  }
  ++num_forwards;

  for (int i = 0; i < n; ++i) {
    Request *const q = order[i];
    const int32_t known = q->length;
    int32_t r = first[i];
    num_drafted += q->num_drafts;
    q->num_drafts = 0;
    for (; r < first[i + 1]; ++r) { /* sample; a draft that was right makes the next row count */
      if (rows.position[r] + 1 < known) continue;
      q->tokens[q->length++] = best_token(rows.hidden[r]);
      if (q->length == q->want || r + 1 == first[i + 1] || rows.token[r + 1] != q->tokens[q->length - 1]) break;
      ++num_accepted;
    }
    if (r == first[i + 1]) --r;
    q->computed = rows.position[r] + 1;
    if (q->length > known && q->length < q->want) {
      last_row[num_drafting] = r;
      drafting[num_drafting++] = q;
    }
    for (r = first[i]; r < first[i + 1]; ++r) /* the MTP layer sees a row's result and the token behind it */
      add(rows.hidden[r], embedding[rows.position[r] + 1 < q->length ? q->tokens[rows.position[r] + 1] : 0]);
  }
  if (use_drafts) draft(&rows, drafting, last_row, num_drafting);
}

/* Serves all requests; busy: up to kSeqs at once, a new one every second forward. */
static void serve(Request *requests, int busy) {
  Request *running[kSeqs] = {NULL};
  num_forwards = num_drafted = num_accepted = 0;
  recall_sum = recall_rows = 0;
  for (int next = 0, left = kRequests; left > 0;) {
    for (int32_t seq = 0; seq < (busy ? kSeqs : 1); ++seq)
      if (!running[seq] && next < kRequests && (!busy || num_forwards >= 2 * next)) running[seq] = &requests[next++];
    forward(running, busy ? kChunk : kMaxRows, busy);
    for (int32_t seq = 0; seq < kSeqs; ++seq) {
      if (!running[seq] || running[seq]->length < running[seq]->want) continue;
      pages_release(&index_pages, seq);
      pages_release(&kv_pages, seq);
      running[seq] = NULL;
      --left;
    }
  }
  printf("%s: %d forwards, %d of %d drafts accepted, recall between layers 0 and 2 %.2f\n", busy ? "busy" : "plain",
         num_forwards, num_accepted, num_drafted, recall_sum / recall_rows);
}

/* ------------------------------------------------------------------------------------------------------- mistakes */

static void expect(ic_status wanted, ic_status status) {
  char message[256] = "";
  ic_last_error(message, sizeof message);
  if (status != wanted) FAIL("%s, expected %s", ic_status_string(status), ic_status_string(wanted));
  printf("refused: %s\n", message);
}

/* An engine that mixes up its calls: each is refused with a message, and changes nothing. */
static void make_mistakes(void) {
  static Rows rows;
  static const uint8_t q[8 * kHeads * kDim];
  static const float w[8 * kHeads];
  ic_cache *const cache = make_cache(1);
  const ic_pool keys = {
      .struct_size = sizeof keys, .data = index_pool, .capacity = kIndexPages, .layout = IC_LAYOUT_PAGED};
  const ic_queries queries = {.struct_size = sizeof queries, .q = q, .w = w};
  ic_forward_args full = {.struct_size = 8, .row_count = 4, .queries = &queries, .keys = &keys, .workspace = workspace};
  ic_forward_args shared = {.struct_size = sizeof shared, .layer = 1, .row_count = IC_ALL_ROWS};
  for (int32_t p = 0; p < 8; ++p) add_row(&rows, 0, p, 0);

  expect(IC_ERROR_STRUCT_SIZE, ic_forward(cache, &full, NULL, NULL));
  full.struct_size = sizeof full;
  expect(IC_ERROR_NO_BATCH, ic_forward(cache, &full, NULL, NULL));
  begin(cache, &rows, 0);
  expect(IC_ERROR_WORKSPACE_TOO_SMALL, ic_forward(cache, &full, NULL, NULL));
  full.workspace_size = workspace_size;
  expect(IC_ERROR_STALE_UNPUBLISHED, ic_forward(cache, &shared, NULL, NULL));
  CHECK(ic_forward(cache, &full, NULL, NULL)); /* rows 0 to 3 of layer 0 */
  expect(IC_ERROR_STALE_INCOMPLETE, ic_forward(cache, &shared, NULL, NULL));
  full.row_begin = 2;
  expect(IC_ERROR_PART_OVERLAP, ic_forward(cache, &full, NULL, NULL));
  full.row_begin = 4;
  CHECK(ic_forward(cache, &full, NULL, NULL)); /* rows 4 to 7: published */
  CHECK(ic_forward(cache, &shared, NULL, NULL));
  rows.count = 2;
  begin(cache, &rows, IC_BATCH_KEEP);
  expect(IC_ERROR_STALE_ROWS, ic_forward(cache, &shared, NULL, NULL));
  full.layer = 2;
  full.row_begin = 0;
  full.row_count = IC_ALL_ROWS;
  CHECK(ic_forward(cache, &full, NULL, NULL)); /* into the only slot */
  expect(IC_ERROR_STALE_OVERWRITTEN, ic_forward(cache, &shared, NULL, NULL));
  begin(cache, &rows, 0);
  expect(IC_ERROR_STALE, ic_forward(cache, &shared, NULL, NULL));
  ic_cache_destroy(cache);
}

int main(void) {
  static const int32_t prompts[kRequests] = {37, 5, 60, 18, 1}, answers[kRequests] = {20, 25, 30, 35, 40};
  static Request requests[2][kRequests];
  uint32_t faults = 0;
  make_model();
  make_engine();
  for (int i = 0; i < kRequests; ++i) {
    requests[0][i].length = prompts[i];
    requests[0][i].want = prompts[i] + answers[i];
    for (int32_t t = 0; t < prompts[i]; ++t) requests[0][i].tokens[t] = (int32_t)((random_float() + 1) * (kVocab / 2));
  }
  memcpy(requests[1], requests[0], sizeof requests[0]);
  for (int busy = 0; busy < 2; ++busy) serve(requests[busy], busy);
  for (int i = 0; i < kRequests; ++i)
    if (memcmp(requests[0][i].tokens, requests[1][i].tokens, sizeof requests[0][i].tokens))
      FAIL("request %d got other tokens in company", i);
  for (int stage = 0; stage < 2; ++stage) {
    CHECK(ic_cache_faults(stages[stage], 0, &faults, NULL));
    if (faults) FAIL("faults 0x%x", (unsigned)faults);
  }
  make_mistakes();
  destroy_engine();
  puts("all requests got the same tokens, alone and in company");
  return 0;
}
