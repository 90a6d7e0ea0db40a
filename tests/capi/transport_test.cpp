// SPDX-License-Identifier: Apache-2.0
// Indices that leave their place: compact, export and import, remap, merge, overlap.
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "tests/capi/toy_engine.h"

namespace ic::test {
namespace {

std::vector<uint8_t> exported(ToyEngine &engine, int32_t layer, uint32_t flags = 0) {
  size_t size = 0;
  EXPECT_IC_OK(ic_cache_export_size(engine.cache.get(), engine.rows(), flags, &size));
  std::vector<uint8_t> block(size);
  EXPECT_IC_OK(ic_cache_export(engine.cache.get(), layer, flags, IC_MEMORY_HOST, block.data(), size, nullptr));
  return block;
}

TEST(Transport, DraftStepsKeepTheLastAcceptedRows) {
  // Verification of 3 requests with 4 tokens each; the MTP layer (id 4) computes at draft step 0 and shares afterwards.
  ToyEngine engine(ToyOptions{.num_mtp_layers = 1, .cache_flags = IC_CACHE_SCORES});
  engine.set_last_rows(4);
  ASSERT_EQ(engine.rows(), 12);
  ASSERT_IC_OK(engine.begin());
  ASSERT_IC_OK(engine.forward({.layer = 0}));
  ic_index_view view = IC_INDEX_VIEW_INIT;
  ASSERT_IC_OK(engine.forward({.layer = 4}, &view));
  engine.expect_selection(view, 4);
  const std::vector<int32_t> step0(view.indices, view.indices + 12 * view.row_stride);
  const std::vector<float> step0_scores(view.scores, view.scores + 12 * view.row_stride);

  const std::vector<int32_t> accepted = {9, 0, 6};  // any order, rows move up and down
  engine.set_rows({0, 1, 2}, {199, 76, 149});
  ASSERT_IC_OK(engine.begin(IC_BATCH_KEEP));
  EXPECT_EQ(engine.forward({.layer = 4, .mode = IC_LAYER_SHARED}), IC_ERROR_STALE_ROWS);
  ic_compact_args args = IC_COMPACT_ARGS_INIT;
  args.source_layer = 4;
  args.publish_layer = 4;
  args.rows = accepted.data();
  args.num_rows = 3;
  Workspace workspace;
  ASSERT_IC_OK(ic_cache_compact_workspace_size(engine.cache.get(), 3, &args.workspace_size));
  args.workspace = workspace.get(args.workspace_size);
  args.publish_layer = 0;  // as if forgotten: a layer of the stack must not get a draft's rows
  EXPECT_EQ(ic_cache_compact(engine.cache.get(), &args, nullptr), IC_ERROR_INVALID_ARGUMENT);
  EXPECT_NE(last_error().find("publish_layer is 0"), std::string::npos) << last_error();
  args.publish_layer = 4;
  std::memset(args.workspace, 0xa5, args.workspace_size);  // needs no clearing
  ASSERT_IC_OK(ic_cache_compact(engine.cache.get(), &args, nullptr));
  for (int32_t step = 1; step < 4; ++step) {
    if (step > 1) {
      ASSERT_IC_OK(engine.begin(IC_BATCH_KEEP));
    }
    ASSERT_IC_OK(engine.forward({.layer = 4, .mode = IC_LAYER_SHARED}, &view));
    EXPECT_EQ(view.source_layer, 4);
    for (size_t row = 0; row < 3; ++row) {
      const auto from = static_cast<size_t>(accepted[row]) * static_cast<size_t>(view.row_stride);
      const auto at = row * static_cast<size_t>(view.row_stride);
      EXPECT_EQ(std::memcmp(view.indices + at, &step0[from], 128 * sizeof(int32_t)), 0);
      EXPECT_EQ(std::memcmp(view.scores + at, &step0_scores[from], 128 * sizeof(float)), 0);
    }
  }
  EXPECT_EQ(engine.forward({.layer = 1}), IC_ERROR_STALE);  // the stack's own publication is gone: one slot
}

TEST(Transport, AnotherStageImportsWhatThisOneExports) {
  ToyEngine engine(ToyOptions{.pattern = "FSSS"});
  engine.set_last_rows(40);
  ASSERT_IC_OK(engine.begin());
  ic_index_view view = IC_INDEX_VIEW_INIT;
  ASSERT_IC_OK(engine.forward({.layer = 0}, &view));
  const std::vector<uint8_t> block = exported(engine, 0);
  ASSERT_EQ(block.size(), 64u + static_cast<size_t>(engine.rows()) * 4 * (1 + 32));

  const Cache next_stage = engine.make_cache();
  const ic_batch batch = engine.batch();
  ASSERT_IC_OK(ic_cache_begin(next_stage.get(), &batch));
  EXPECT_EQ(engine.forward(next_stage.get(), {.layer = 2}), IC_ERROR_STALE_UNPUBLISHED);
  ic_export_header header;
  ASSERT_IC_OK(ic_cache_import(next_stage.get(), -1, 0, block.data(), block.size(), &header, nullptr));
  EXPECT_EQ(header.source_layer, 0);
  EXPECT_EQ(header.num_rows, engine.rows());
  EXPECT_EQ(header.k, 32);
  EXPECT_EQ(header.numerics_id, view.numerics_id);
  ic_schedule_info info = IC_SCHEDULE_INFO_INIT;
  ASSERT_IC_OK(ic_schedule_get_info(engine.schedule.get(), &info));
  EXPECT_EQ(header.schedule_hash, info.hash);
  ASSERT_IC_OK(engine.forward(next_stage.get(), {.layer = 2}, &view));
  EXPECT_EQ(view.source_layer, 0);
  engine.expect_selection(view, 0);
  // A stage that only reuses passes the same block on.
  std::vector<uint8_t> again(block.size());
  ASSERT_IC_OK(ic_cache_export(next_stage.get(), 0, 0, IC_MEMORY_DEVICE, again.data(), again.size(), nullptr));
  EXPECT_EQ(again, block);
}

TEST(Transport, BlocksCarryScoresWhenAsked) {
  ToyEngine engine(ToyOptions{.cache_flags = IC_CACHE_SCORES});
  engine.set_last_rows(10);
  ASSERT_IC_OK(engine.begin());
  ic_index_view view = IC_INDEX_VIEW_INIT;
  ASSERT_IC_OK(engine.forward({.layer = 0}, &view));
  const std::vector<float> scores(view.scores, view.scores + engine.rows() * view.row_stride);
  const std::vector<uint8_t> block = exported(engine, 0, IC_EXPORT_SCORES);
  ASSERT_IC_OK(engine.begin());
  ASSERT_IC_OK(ic_cache_import(engine.cache.get(), 0, 0, block.data(), block.size(), nullptr, nullptr));
  ASSERT_IC_OK(ic_cache_get_view(engine.cache.get(), 0, &view));
  EXPECT_EQ(std::memcmp(view.scores, scores.data(), scores.size() * sizeof(float)), 0);
  engine.expect_selection(view, 0);
}

TEST(Transport, ImportRules) {
  ToyEngine engine(ToyOptions{});
  engine.set_last_rows(10);
  ASSERT_IC_OK(engine.begin());
  ASSERT_IC_OK(engine.forward({.layer = 0}));
  std::vector<uint8_t> block = exported(engine, 0);
  ASSERT_IC_OK(engine.begin());
  const auto import = [&](uint32_t flags) {
    return ic_cache_import(engine.cache.get(), -1, flags, block.data(), block.size(), nullptr, nullptr);
  };
  block[8] ^= 1;  // schedule hash
  EXPECT_EQ(import(0), IC_ERROR_SCHEDULE_HASH);
  EXPECT_IC_OK(import(IC_IMPORT_ANY_SCHEDULE));
  block[8] ^= 1;
  block[16] ^= 1;  // numerics id
  EXPECT_IC_OK(import(0));
  EXPECT_EQ(import(IC_IMPORT_SAME_NUMERICS), IC_ERROR_NUMERICS);
}

TEST(Transport, RemapIsMadeOncePerGroup) {
  ToyEngine engine(ToyOptions{});
  engine.set_last_rows(50);
  engine.remove_page(0, 2);
  ASSERT_IC_OK(engine.begin());
  ic_index_view logical = IC_INDEX_VIEW_INIT;
  ASSERT_IC_OK(engine.forward({.layer = 0}, &logical));
  const auto rows = static_cast<size_t>(engine.rows());
  std::vector<int32_t> slots(rows * 128), lengths(rows);
  ic_remap_args remap = IC_REMAP_ARGS_INIT;
  remap.layout = IC_LAYOUT_PAGED;
  remap.slots = slots.data();
  remap.lengths = lengths.data();
  ASSERT_IC_OK(ic_cache_remap(engine.cache.get(), &remap, nullptr, nullptr));
  for (size_t row = 0; row < rows; ++row)
    for (size_t i = 0; i < 128; ++i) {
      const int32_t index = logical.indices[row * 128 + i];
      ASSERT_EQ(slots[row * 128 + i], index < 0 ? -1 : engine.slot(engine.row_seq[row], index));
    }
  const std::vector<int32_t> right = slots;
  slots[0] = 12345;  // shows whether the array is written again
  ASSERT_IC_OK(ic_cache_remap(engine.cache.get(), &remap, nullptr, nullptr));
  EXPECT_EQ(slots[0], 12345);
  ASSERT_IC_OK(engine.begin(IC_BATCH_KEEP));  // a new generation may have new pages
  ASSERT_IC_OK(ic_cache_remap(engine.cache.get(), &remap, nullptr, nullptr));
  EXPECT_EQ(slots, right);
  ASSERT_IC_OK(engine.forward({.layer = 0}));
  slots[0] = 12345;
  ASSERT_IC_OK(ic_cache_remap(engine.cache.get(), &remap, nullptr, nullptr));
  EXPECT_EQ(slots, right);
  // Another target in the same array is another remap.
  remap.layout = IC_LAYOUT_CONTIGUOUS;
  ASSERT_IC_OK(ic_cache_remap(engine.cache.get(), &remap, nullptr, nullptr));
  EXPECT_EQ(slots[0], logical.indices[0]);
  remap.layout = IC_LAYOUT_PAGED;
  ASSERT_IC_OK(ic_cache_remap(engine.cache.get(), &remap, nullptr, nullptr));
  EXPECT_EQ(slots, right);
}

TEST(Transport, RanksMergeToTheWholeSelection) {
  ToyEngine engine(ToyOptions{.cache_flags = IC_CACHE_SCORES});
  engine.set_last_rows(33);
  const auto rows = static_cast<size_t>(engine.rows());
  const std::vector<int32_t> whole_end = engine.key_end;
  std::vector<int32_t> indices(2 * rows * 128), lengths(2 * rows);
  std::vector<float> scores(2 * rows * 128);
  ic_index_view view = IC_INDEX_VIEW_INIT;
  for (size_t part = 0; part < 2; ++part) {  // keys below and above position 90
    for (size_t row = 0; row < rows; ++row) {
      engine.key_begin[row] = part == 0 ? 0 : 90;
      engine.key_end[row] = part == 0 ? std::min(whole_end[row], 90) : whole_end[row];
    }
    ASSERT_IC_OK(engine.begin());
    ASSERT_IC_OK(engine.forward({.layer = 0}, &view));
    std::memcpy(&indices[part * rows * 128], view.indices, rows * 128 * 4);
    std::memcpy(&scores[part * rows * 128], view.scores, rows * 128 * 4);
    std::memcpy(&lengths[part * rows], view.lengths, rows * 4);
  }
  std::vector<int32_t> merged(rows * 128), merged_lengths(rows);
  ic_merge_args args = IC_MERGE_ARGS_INIT;
  args.in_indices = indices.data();
  args.in_scores = scores.data();
  args.in_lengths = lengths.data();
  args.num_parts = 2;
  args.num_rows = engine.rows();
  args.indices = merged.data();
  args.lengths = merged_lengths.data();
  ASSERT_IC_OK(ic_topk_merge_workspace_size(engine.topk.get(), engine.rows(), 2, &args.workspace_size));
  Workspace workspace;
  args.workspace = workspace.get(args.workspace_size);
  ASSERT_IC_OK(ic_topk_merge(engine.topk.get(), &args, nullptr));
  engine.key_begin.assign(rows, 0);
  engine.key_end = whole_end;
  view.indices = merged.data();
  view.lengths = merged_lengths.data();
  engine.expect_selection(view, 0);
}

TEST(Transport, OverlapOfTwoLayers) {
  ToyEngine engine(ToyOptions{.pattern = "FF", .num_slots = 2});
  engine.set_last_rows(25);
  ASSERT_IC_OK(engine.begin());
  ic_index_view a = IC_INDEX_VIEW_INIT;
  ic_index_view b = IC_INDEX_VIEW_INIT;
  ASSERT_IC_OK(engine.forward({.layer = 0}, &a));
  ASSERT_IC_OK(engine.forward({.layer = 1}, &b));
  const auto rows = static_cast<size_t>(engine.rows());
  std::vector<int32_t> common(rows);
  std::vector<float> recall(rows), jaccard(rows);
  ic_overlap_args out = IC_OVERLAP_ARGS_INIT;
  out.intersection = common.data();
  out.recall = recall.data();
  out.jaccard = jaccard.data();
  ASSERT_IC_OK(ic_index_overlap(engine.context.get(), &a, &b, &out, nullptr));
  for (size_t row = 0; row < rows; ++row) {
    const auto x = engine.expected(0, static_cast<int32_t>(row));
    const auto y = engine.expected(1, static_cast<int32_t>(row));
    std::vector<int32_t> both;
    std::set_intersection(x.begin(), x.end(), y.begin(), y.end(), std::back_inserter(both));
    EXPECT_EQ(common[row], static_cast<int32_t>(both.size()));
    EXPECT_FLOAT_EQ(recall[row], static_cast<float>(both.size()) / 32.0f);
    EXPECT_FLOAT_EQ(jaccard[row], static_cast<float>(both.size()) / (64.0f - static_cast<float>(both.size())));
  }
}

// Layer 0's attention over its own keys, and how much of it the keys of layer 1 hold.
TEST(Transport, MassThatAnotherLayersKeysHold) {
  ToyEngine engine(ToyOptions{.pattern = "FF", .num_slots = 2});
  engine.set_last_rows(25);
  ASSERT_IC_OK(engine.begin());
  ic_index_view a = IC_INDEX_VIEW_INIT;
  ic_index_view b = IC_INDEX_VIEW_INIT;
  ASSERT_IC_OK(engine.forward({.layer = 0}, &a));
  ASSERT_IC_OK(engine.forward({.layer = 1}, &b));
  const auto rows = static_cast<size_t>(engine.rows());
  const auto k = static_cast<size_t>(a.k);
  const size_t stride = k + 2;
  std::vector<float> mass(rows * stride, -1.0f), by_slot(rows * stride, -1.0f), recall(rows);
  const ic_batch batch = engine.batch();
  const ic_pool kv = engine.kv_pool(0);
  ic_mass_args args = IC_MASS_ARGS_INIT;
  args.q = engine.attention_q(0);
  args.kv = &kv;
  args.mass = mass.data();
  args.mass_row_stride = static_cast<int64_t>(stride);
  size_t size = 0;
  ASSERT_IC_OK(ic_attention_mass_workspace_size(engine.attention.get(), engine.rows(), a.k, &size));
  Workspace workspace;
  ASSERT_IC_OK(ic_attention_mass(engine.attention.get(), &batch, 0, &a, &args, workspace.get(size), size, nullptr));
  ic_overlap_args overlap = IC_OVERLAP_ARGS_INIT;
  overlap.mass = mass.data();
  overlap.mass_row_stride = static_cast<int64_t>(stride);
  overlap.mass_recall = recall.data();
  ASSERT_IC_OK(ic_index_overlap(engine.context.get(), &a, &b, &overlap, nullptr));
  for (size_t row = 0; row < rows; ++row) {
    const auto x = engine.expected(0, static_cast<int32_t>(row));
    const auto y = engine.expected(1, static_cast<int32_t>(row));
    double all = 0;
    double common = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const auto value = static_cast<double>(mass[row * stride + i]);
      EXPECT_GT(value, 0.0);
      all += value;
      if (std::binary_search(y.begin(), y.end(), x[i])) common += value;
    }
    EXPECT_NEAR(all, 1.0, 1e-6);
    EXPECT_NEAR(static_cast<double>(recall[row]), common / all, 1e-6);
    EXPECT_EQ(mass[row * stride + k], -1.0f);
  }
  std::vector<int32_t> slots(rows * IC_K_PADDED(32)), lengths(rows);
  ic_remap_args remap = IC_REMAP_ARGS_INIT;
  remap.layout = IC_LAYOUT_PAGED;
  remap.slots = slots.data();
  remap.lengths = lengths.data();
  ASSERT_IC_OK(ic_cache_remap(engine.cache.get(), &remap, &a, nullptr));
  ASSERT_EQ(a.kind, IC_INDEX_SLOT);
  args.mass = by_slot.data();
  ASSERT_IC_OK(ic_attention_mass(engine.attention.get(), &batch, 0, &a, &args, workspace.get(size), size, nullptr));
  EXPECT_EQ(std::memcmp(mass.data(), by_slot.data(), mass.size() * sizeof(float)), 0);
}

TEST(Transport, HandlesDieInAnyOrder) {
  ToyEngine engine(ToyOptions{});
  engine.set_last_rows(5);
  engine.context.reset();
  engine.schedule.reset();
  engine.indexer.reset();
  engine.topk.reset();
  engine.attention.reset();
  ASSERT_IC_OK(engine.begin());
  ic_index_view view = IC_INDEX_VIEW_INIT;
  ASSERT_IC_OK(engine.forward({.layer = 0}, &view));
  engine.expect_selection(view, 0);
  engine.cache.reset();
}

TEST(Transport, ACacheInTheCallersMemory) {
  ToyEngine engine(ToyOptions{});
  engine.set_last_rows(5);
  ic_cache_desc desc = IC_CACHE_DESC_INIT;
  desc.schedule = engine.schedule.get();
  desc.indexer = engine.indexer.get();
  desc.topk = engine.topk.get();
  desc.max_rows = 15;
  ASSERT_IC_OK(ic_cache_memory_size(&desc, &desc.memory_size));
  Workspace memory;
  desc.memory = memory.get(desc.memory_size);
  std::memset(desc.memory, 0xff, desc.memory_size);
  ic_cache *handle = nullptr;
  ASSERT_IC_OK(ic_cache_create(engine.context.get(), &desc, &handle));
  engine.cache.reset(handle);
  ASSERT_IC_OK(engine.begin());
  ic_index_view view = IC_INDEX_VIEW_INIT;
  ASSERT_IC_OK(engine.forward({.layer = 0}, &view));
  engine.expect_selection(view, 0);
  const auto *begin = static_cast<const uint8_t *>(desc.memory);
  EXPECT_GE(reinterpret_cast<const uint8_t *>(view.indices), begin);
  EXPECT_LE(reinterpret_cast<const uint8_t *>(view.indices + 15 * view.row_stride), begin + desc.memory_size);
  uint32_t faults = 1;
  ASSERT_IC_OK(ic_cache_faults(handle, 0, &faults, nullptr));
  EXPECT_EQ(faults, 0u);
}

}  // namespace
}  // namespace ic::test
