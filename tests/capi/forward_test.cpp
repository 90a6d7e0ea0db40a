// SPDX-License-Identifier: Apache-2.0
// ic_forward: Full and Shared layers, parts, forced modes, slots, attention, new keys, replayed lengths.
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "tests/capi/toy_engine.h"

namespace ic::test {
namespace {

constexpr size_t kOutWidth = ToyEngine::kAttentionHeads * ToyEngine::kLatent;

TEST(Forward, SharedLayersReuseTheFullLayersIndices) {
  ToyEngine engine(ToyOptions{});
  engine.set_last_rows(60);
  ASSERT_IC_OK(engine.begin());
  ic_index_view full = IC_INDEX_VIEW_INIT;
  ic_index_view shared = IC_INDEX_VIEW_INIT;
  for (const int32_t layer : {0, 2}) {
    ASSERT_IC_OK(engine.forward({.layer = layer}, &full));
    EXPECT_EQ(full.source_layer, layer);
    EXPECT_EQ(full.num_rows, engine.rows());
    EXPECT_EQ(full.kind, IC_INDEX_LOGICAL);
    EXPECT_EQ(full.generation, 1u);
    engine.expect_selection(full, layer);
    ASSERT_IC_OK(engine.forward({.layer = layer + 1}, &shared));
    EXPECT_EQ(shared.source_layer, layer);
    EXPECT_EQ(shared.indices, full.indices);
    EXPECT_EQ(shared.lengths, full.lengths);
    engine.expect_selection(shared, layer);
  }
}

TEST(Forward, RowsWithoutKeysAndShortRows) {
  ToyEngine engine(ToyOptions{});
  engine.set_rows({0, 0, 1, 1, 2, 2, 0}, {-1, 0, 30, 31, 32, 149, 10});
  engine.key_begin[6] = 200;  // behind its end
  engine.remove_page(2, 1);
  ASSERT_IC_OK(engine.begin());
  ic_index_view view = IC_INDEX_VIEW_INIT;
  std::vector<float> out(7 * kOutWidth, 9.0f);
  ASSERT_IC_OK(engine.forward({.layer = 0, .attention_out = out.data()}, &view));
  engine.expect_selection(view, 0);
  EXPECT_EQ(std::vector<int32_t>(view.lengths, view.lengths + 7), (std::vector<int32_t>{0, 1, 31, 32, 17, 32, 0}));
  for (size_t i = 0; i < kOutWidth; ++i) {
    EXPECT_EQ(out[i], 0.0f);
    EXPECT_EQ(out[6 * kOutWidth + i], 0.0f);
  }
}

TEST(Forward, PartsInAnyOrderGiveTheSameBits) {
  ToyEngine engine(ToyOptions{});
  engine.set_last_rows(70);
  const auto rows = static_cast<size_t>(engine.rows());
  std::vector<float> whole(rows * kOutWidth), parts(rows * kOutWidth);
  ic_index_view view = IC_INDEX_VIEW_INIT;
  ASSERT_IC_OK(engine.begin());
  ASSERT_IC_OK(engine.forward({.layer = 0, .attention_out = whole.data()}, &view));
  const std::vector<int32_t> indices(view.indices, view.indices + engine.rows() * view.row_stride);
  ASSERT_IC_OK(engine.begin());
  for (const auto &[begin, count] :
       std::vector<std::pair<int32_t, int32_t>>{{130, engine.rows() - 130}, {0, 1}, {1, 99}, {100, 0}, {100, 30}})
    ASSERT_IC_OK(engine.forward({.layer = 0,
                                 .row_begin = begin,
                                 .row_count = count,
                                 .attention_out = parts.data() + static_cast<size_t>(begin) * kOutWidth},
                                &view));
  ASSERT_IC_OK(engine.forward({.layer = 1}, &view));
  EXPECT_EQ(std::memcmp(view.indices, indices.data(), indices.size() * sizeof(int32_t)), 0);
  EXPECT_EQ(std::memcmp(whole.data(), parts.data(), whole.size() * sizeof(float)), 0);
}

TEST(Forward, SharedViewOfAPartStartsAtItsRow) {
  ToyEngine engine(ToyOptions{});
  engine.set_last_rows(20);
  ASSERT_IC_OK(engine.begin());
  ASSERT_IC_OK(engine.forward({.layer = 0}));
  ic_index_view view = IC_INDEX_VIEW_INIT;
  ASSERT_IC_OK(engine.forward({.layer = 1, .row_begin = 17, .row_count = 5}, &view));
  EXPECT_EQ(view.num_rows, 5);
  engine.expect_selection(view, 0, 17);
}

TEST(Forward, ForcedFullServesTheLayersBehind) {
  ToyEngine engine(ToyOptions{.pattern = "FSSS"});
  engine.set_last_rows(20);
  ASSERT_IC_OK(engine.begin());
  ic_index_view view = IC_INDEX_VIEW_INIT;
  ASSERT_IC_OK(engine.forward({.layer = 0}));
  ASSERT_IC_OK(engine.forward({.layer = 2, .mode = IC_LAYER_FULL}, &view));
  engine.expect_selection(view, 2);
  ASSERT_IC_OK(engine.forward({.layer = 3}, &view));
  EXPECT_EQ(view.source_layer, 2);
  engine.expect_selection(view, 2);
  EXPECT_EQ(engine.forward({.layer = 1}), IC_ERROR_STALE_OVERWRITTEN);
}

TEST(Forward, AttentionInForwardIsAttentionAlone) {
  ToyEngine engine(ToyOptions{});
  engine.set_last_rows(40);
  const auto rows = static_cast<size_t>(engine.rows());
  std::vector<float> fused(rows * kOutWidth), alone(rows * kOutWidth), by_slot(rows * kOutWidth);
  ASSERT_IC_OK(engine.begin());
  ASSERT_IC_OK(engine.forward({.layer = 0}));
  ic_index_view view = IC_INDEX_VIEW_INIT;
  ASSERT_IC_OK(engine.forward({.layer = 1, .attention_out = fused.data()}, &view));

  const ic_pool kv = engine.kv_pool(1);
  ic_attention_args args = IC_ATTENTION_ARGS_INIT;
  args.q = engine.attention_q(1);
  args.kv = &kv;
  args.out = alone.data();
  size_t size = 0;
  ASSERT_IC_OK(ic_attention_workspace_size(engine.attention.get(), engine.rows(), view.k, &size));
  Workspace workspace;
  const ic_batch batch = engine.batch();
  ASSERT_IC_OK(ic_attention_run(engine.attention.get(), &batch, 0, &view, &args, workspace.get(size), size, nullptr));
  EXPECT_EQ(std::memcmp(fused.data(), alone.data(), fused.size() * sizeof(float)), 0);

  std::vector<int32_t> slots(rows * IC_K_PADDED(32)), lengths(rows);
  ic_remap_args remap = IC_REMAP_ARGS_INIT;
  remap.source_layer = 0;
  remap.layout = IC_LAYOUT_PAGED;
  remap.slots = slots.data();
  remap.lengths = lengths.data();
  ASSERT_IC_OK(ic_cache_remap(engine.cache.get(), &remap, &view, nullptr));
  EXPECT_EQ(view.kind, IC_INDEX_SLOT);
  args.out = by_slot.data();
  ASSERT_IC_OK(ic_attention_run(engine.attention.get(), &batch, 0, &view, &args, workspace.get(size), size, nullptr));
  EXPECT_EQ(std::memcmp(fused.data(), by_slot.data(), fused.size() * sizeof(float)), 0);
}

TEST(Forward, NewKeysAreWrittenInEveryMode) {
  ToyEngine engine(ToyOptions{});
  engine.set_last_rows(10);
  ASSERT_IC_OK(engine.begin());
  std::vector<float> fresh = engine.numbers(3 * ToyEngine::kDim);
  const std::vector<int64_t> slots = {engine.slot(0, 3), -1, engine.slot(1, 70)};
  ic_new_keys keys = IC_NEW_KEYS_INIT;
  keys.keys = fresh.data();
  keys.slots = slots.data();
  keys.count = 3;
  ic_index_view view = IC_INDEX_VIEW_INIT;
  for (const int32_t layer : {0, 1}) {
    ASSERT_IC_OK(engine.forward({.layer = layer, .new_keys = &keys}, &view));
    for (const size_t i : {size_t{0}, size_t{2}})
      EXPECT_EQ(std::memcmp(&engine.keys(layer)[static_cast<size_t>(slots[i]) * ToyEngine::kDim],
                            &fresh[i * ToyEngine::kDim], ToyEngine::kDim * sizeof(float)),
                0);
    engine.expect_selection(view, 0);  // layer 0 scored with the new keys; layer 1 reads layer 0
  }
}

TEST(Forward, AKeyEndThatGrowsAfterBeginMakesTheRowEmpty) {
  ToyEngine engine(ToyOptions{});
  engine.set_last_rows(10);
  ASSERT_IC_OK(engine.begin());
  engine.key_end[4] = 201;  // as a replay would see it
  ic_index_view view = IC_INDEX_VIEW_INIT;
  ASSERT_IC_OK(engine.forward({.layer = 0}, &view));
  EXPECT_EQ(view.lengths[4], 0);
  EXPECT_EQ(view.lengths[3], 32);
  uint32_t faults = 0;
  ASSERT_IC_OK(ic_cache_faults(engine.cache.get(), 1, &faults, nullptr));
  EXPECT_EQ(faults, IC_FAULT_KEY_END);
  ASSERT_IC_OK(ic_cache_faults(engine.cache.get(), 0, &faults, nullptr));
  EXPECT_EQ(faults, 0u);
}

TEST(Forward, ScoresOfTheSelectedKeysAreKept) {
  ToyEngine engine(ToyOptions{.cache_flags = IC_CACHE_SCORES});
  engine.set_last_rows(30);
  ASSERT_IC_OK(engine.begin());
  ic_index_view view = IC_INDEX_VIEW_INIT;
  ASSERT_IC_OK(engine.forward({.layer = 0}, &view));
  ASSERT_NE(view.scores, nullptr);

  const ic_batch batch = engine.batch();
  const auto columns = static_cast<size_t>(batch.max_key_end);
  std::vector<float> scores(static_cast<size_t>(engine.rows()) * columns);
  ic_queries queries = IC_QUERIES_INIT;
  queries.q = engine.queries(0).data();
  queries.w = engine.weights(0).data();
  const ic_pool keys = engine.key_pool(0);
  ic_scores_args args = IC_SCORES_ARGS_INIT;
  args.row_count = IC_ALL_ROWS;
  args.queries = &queries;
  args.keys = &keys;
  args.scores = scores.data();
  ASSERT_IC_OK(
      ic_indexer_scores_workspace_size(engine.indexer.get(), engine.rows(), batch.max_key_end, &args.workspace_size));
  Workspace workspace;
  args.workspace = workspace.get(args.workspace_size);
  ASSERT_IC_OK(ic_indexer_scores(engine.indexer.get(), &batch, &args, nullptr));
  for (int32_t row = 0; row < view.num_rows; ++row)
    for (int32_t i = 0; i < view.lengths[row]; ++i) {
      const size_t at =
          static_cast<size_t>(row) * columns + static_cast<size_t>(view.indices[row * view.row_stride + i]);
      ASSERT_EQ(view.scores[row * view.row_stride + i], scores[at]);
    }
}

TEST(Forward, DeviceEpochGuardsConsumers) {
  uint32_t epoch = 40;
  ToyEngine engine(ToyOptions{.epoch = &epoch});
  engine.set_last_rows(10);
  const auto rows = static_cast<size_t>(engine.rows());
  std::vector<float> out(rows * kOutWidth, 9.0f);
  ASSERT_IC_OK(engine.begin());
  ASSERT_IC_OK(engine.forward({.layer = 0, .attention_out = out.data()}));
  const std::vector<float> first = out;
  ASSERT_IC_OK(engine.forward({.layer = 1, .attention_out = out.data()}));
  EXPECT_NE(first, out);
  uint32_t faults = 0;
  ASSERT_IC_OK(ic_cache_faults(engine.cache.get(), 1, &faults, nullptr));
  EXPECT_EQ(faults, 0u);

  ++epoch;  // the next step, but the Full layer has not run in it
  ASSERT_IC_OK(engine.forward({.layer = 1, .attention_out = out.data()}));
  EXPECT_EQ(out, std::vector<float>(rows * kOutWidth, 0.0f));
  std::vector<int32_t> slots(rows * 128, 5), lengths(rows, 5);
  ic_remap_args remap = IC_REMAP_ARGS_INIT;
  remap.layout = IC_LAYOUT_PAGED;
  remap.slots = slots.data();
  remap.lengths = lengths.data();
  ASSERT_IC_OK(ic_cache_remap(engine.cache.get(), &remap, nullptr, nullptr));
  EXPECT_EQ(slots, std::vector<int32_t>(rows * 128, -1));
  EXPECT_EQ(lengths, std::vector<int32_t>(rows, 0));
  ASSERT_IC_OK(ic_cache_faults(engine.cache.get(), 1, &faults, nullptr));
  EXPECT_EQ(faults, IC_FAULT_EPOCH);

  ASSERT_IC_OK(engine.begin());
  ASSERT_IC_OK(engine.forward({.layer = 0, .attention_out = out.data()}));
  EXPECT_EQ(out, first);
  ASSERT_IC_OK(ic_cache_remap(engine.cache.get(), &remap, nullptr, nullptr));
  EXPECT_EQ(lengths, std::vector<int32_t>(rows, 32));
}

TEST(Forward, AHostsParallelForGivesTheSameBits) {
  ToyEngine engine(ToyOptions{});
  engine.set_last_rows(70);
  ASSERT_IC_OK(engine.begin());
  ic_index_view view = IC_INDEX_VIEW_INIT;
  ASSERT_IC_OK(engine.forward({.layer = 0}, &view));
  engine.expect_selection(view, 0);

  ic_context_desc desc = IC_CONTEXT_DESC_INIT;
  desc.backend = IC_BACKEND_CPU;
  desc.num_threads = 3;
  int64_t calls = 0;
  desc.parallel_user = &calls;
  desc.parallel_for = [](void *user, int64_t count, ic_task_fn task, void *data) {
    ++*static_cast<int64_t *>(user);
    for (int64_t i = count - 1; i >= 0; --i) task(data, i);
  };
  ic_context *handle = nullptr;
  ASSERT_IC_OK(ic_context_create(&desc, &handle));
  engine.cache.reset();
  engine.context.reset(handle);
  ic_indexer_desc indexer_desc = IC_INDEXER_DESC_INIT;
  indexer_desc.num_heads = ToyEngine::kHeads;
  indexer_desc.head_dim = ToyEngine::kDim;
  indexer_desc.dtype = IC_DTYPE_F32;
  ic_indexer *indexer = nullptr;
  ASSERT_IC_OK(ic_indexer_create(handle, &indexer_desc, &indexer));
  engine.indexer.reset(indexer);
  ic_topk_desc topk_desc = IC_TOPK_DESC_INIT;
  topk_desc.k = 32;
  ic_topk *topk = nullptr;
  ASSERT_IC_OK(ic_topk_create(handle, &topk_desc, &topk));
  engine.topk.reset(topk);
  engine.attention.reset();
  engine.cache = engine.make_cache();
  ASSERT_IC_OK(engine.begin());
  ASSERT_IC_OK(engine.forward({.layer = 0}, &view));
  engine.expect_selection(view, 0);
  EXPECT_GT(calls, 0);
}

}  // namespace
}  // namespace ic::test
