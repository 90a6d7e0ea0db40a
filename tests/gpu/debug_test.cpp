// SPDX-License-Identifier: Apache-2.0
// Contexts that check values (IC_CONTEXT_CHECK_VALUES): each operation says at once which illegal value it has met.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "tests/gpu/captured.h"
#include "tests/gpu/small_engine.h"

namespace ic::test {
namespace {

class CheckValues : public testing::Test {
 protected:
  CheckValues() : engine(IC_BACKEND_CUDA, IC_DTYPE_F32, IC_CONTEXT_CHECK_VALUES, run_seed()) {}

  void SetUp() override {
    ASSERT_IC_OK(engine.prepare_keys(nullptr));
    ASSERT_IC_OK(engine.prepare_queries(nullptr));
    ASSERT_IC_OK(engine.begin());
  }

  /// `call` is refused as long as one value of an array is wrong, and the message has all the words.
  template <class T>
  void expect_refused(T *array, size_t count, size_t at, T wrong, const std::function<ic_status()> &call,
                      const std::vector<const char *> &words) {
    const std::vector<T> right = engine.memory.get(array, count);
    std::vector<T> values = right;
    values[at] = wrong;
    engine.memory.set(array, values);
    EXPECT_EQ(call(), IC_ERROR_OUT_OF_RANGE) << last_error();
    for (const char *word : words) EXPECT_NE(last_error().find(word), std::string::npos) << last_error();
    engine.memory.set(array, right);
    EXPECT_IC_OK(engine.begin());  // what a failed layer was to publish is not there
    EXPECT_IC_OK(call());
  }

  SmallEngine engine;
};

TEST_F(CheckValues, OperationsWithoutACacheSayWhatTheyMet) {
  const size_t rows = SmallEngine::kRows;
  const size_t keys = SmallEngine::kPages * SmallEngine::kPageTokens;
  const auto prepare_queries = [&] { return engine.prepare_queries(nullptr); };
  const auto prepare_keys = [&] { return engine.prepare_keys(nullptr); };
  const auto score = [&] { return engine.score(nullptr); };
  const auto select = [&] { return engine.select(nullptr); };
  expect_refused(engine.positions, keys, 3, int32_t{SmallEngine::kPositions}, prepare_queries,
                 {"ic_indexer_prepare_queries", "IC_FAULT_POSITION"});
  expect_refused(engine.positions, keys, 50, -1, prepare_keys, {"ic_indexer_prepare_keys", "IC_FAULT_POSITION"});
  expect_refused(engine.slots, keys, 7, static_cast<int64_t>(keys), prepare_keys,
                 {"ic_indexer_prepare_keys", "IC_FAULT_SLOT"});
  expect_refused(engine.key_end, rows, 1, SmallEngine::kMaxKeyEnd + 1, score,
                 {"ic_indexer_scores", "IC_FAULT_KEY_END"});
  expect_refused(engine.row_seq, rows, 4, 2, score, {"ic_indexer_scores", "IC_FAULT_SEQUENCE"});
  expect_refused(engine.pages, 12, 8, int32_t{SmallEngine::kPages}, score, {"ic_indexer_scores", "IC_FAULT_PAGE"});
  expect_refused(engine.key_end, rows, 0, SmallEngine::kMaxKeyEnd + 1, select, {"ic_topk_select", "IC_FAULT_KEY_END"});
}

TEST_F(CheckValues, ListsOfAnEngineAreLookedAt) {
  std::vector<int32_t> indices(SmallEngine::kRows * SmallEngine::kPadded, -1), lengths(SmallEngine::kRows, 2);
  for (size_t row = 0; row < SmallEngine::kRows; ++row) {
    indices[row * SmallEngine::kPadded] = 3;
    indices[row * SmallEngine::kPadded + 1] = 30;
  }
  ic_index_view view = IC_INDEX_VIEW_INIT;
  int32_t *device_lengths = engine.memory.put(lengths);
  view.indices = engine.memory.put(indices);
  view.lengths = device_lengths;
  view.scores = engine.memory.put(std::vector<float>(indices.size(), 1.0f));
  view.row_stride = SmallEngine::kPadded;
  view.num_rows = SmallEngine::kRows;
  view.k = SmallEngine::kK;
  view.kind = IC_INDEX_LOGICAL;
  expect_refused(device_lengths, lengths.size(), 2, SmallEngine::kK + 1,
                 [&] { return engine.run_attention(view, nullptr); }, {"ic_attention_run", "IC_FAULT_INDEX"});
  expect_refused(device_lengths, lengths.size(), 2, SmallEngine::kK + 1, [&] { return engine.run_mass(view, nullptr); },
                 {"ic_attention_mass", "IC_FAULT_INDEX"});
  expect_refused(engine.row_seq, SmallEngine::kRows, 4, 2, [&] { return engine.run_mass(view, nullptr); },
                 {"ic_attention_mass", "IC_FAULT_SEQUENCE"});
  expect_refused(engine.pages, 12, 0, int32_t{SmallEngine::kPages} + 5, [&] { return engine.run_mass(view, nullptr); },
                 {"ic_attention_mass", "IC_FAULT_PAGE"});
  expect_refused(device_lengths, lengths.size(), 2, -1, [&] { return engine.merge(view, nullptr); },
                 {"ic_topk_merge", "IC_FAULT_INDEX"});
  expect_refused(device_lengths, lengths.size(), 5, -1, [&] { return engine.overlap(view, view, nullptr); },
                 {"ic_index_overlap", "IC_FAULT_INDEX"});
  expect_refused(engine.pages, 12, 0, int32_t{SmallEngine::kPages} + 5,
                 [&] { return engine.run_attention(view, nullptr); }, {"ic_attention_run", "IC_FAULT_PAGE"});
}

TEST_F(CheckValues, OperationsOnACacheSayItAndKeepTheBit) {
  const auto forward = [&] { return engine.forward(0, nullptr); };
  expect_refused(engine.key_end, SmallEngine::kRows, 1, SmallEngine::kMaxKeyEnd + 1, forward,
                 {"ic_forward", "IC_FAULT_KEY_END"});
  EXPECT_EQ(engine.faults(), IC_FAULT_KEY_END);
  EXPECT_EQ(engine.faults(), 0u);
  ASSERT_IC_OK(engine.begin());
  expect_refused(engine.pages, 12, 0, int32_t{SmallEngine::kPages}, forward, {"ic_forward", "IC_FAULT_PAGE"});
  EXPECT_EQ(engine.faults(), IC_FAULT_PAGE);
  // An error that leaves nothing published: the Shared layer says so.
  ASSERT_IC_OK(engine.begin());
  engine.memory.set(engine.row_seq, std::vector<int32_t>{0, 0, 0, 1, 9, 1});
  EXPECT_EQ(engine.forward(0, nullptr), IC_ERROR_OUT_OF_RANGE);
  EXPECT_TRUE(IC_STATUS_IS_STALE(engine.forward(1, nullptr))) << last_error();
  engine.memory.set(engine.row_seq, std::vector<int32_t>{0, 0, 0, 1, 1, 1});
  EXPECT_EQ(engine.faults(), IC_FAULT_SEQUENCE);

  ASSERT_IC_OK(engine.begin());
  ASSERT_IC_OK(engine.forward(0, nullptr));
  std::vector<int32_t> rows = engine.memory.get(engine.moved_rows, SmallEngine::kRows);
  rows[4] = SmallEngine::kRows;
  engine.memory.set(engine.moved_rows, rows);
  EXPECT_EQ(engine.compact(0, nullptr), IC_ERROR_OUT_OF_RANGE);
  EXPECT_NE(last_error().find("IC_FAULT_ROW"), std::string::npos) << last_error();
  EXPECT_EQ(engine.faults(), IC_FAULT_ROW);
}

TEST_F(CheckValues, AFailedRemapIsMadeAgain) {
  ASSERT_IC_OK(engine.forward(0, nullptr));
  ASSERT_IC_OK(engine.remap(0, IC_LAYOUT_PAGED, nullptr));
  const std::vector<int32_t> right = engine.memory.get(engine.remapped, SmallEngine::kRows * SmallEngine::kPadded);
  const std::vector<int32_t> pages = engine.memory.get(engine.pages, 12);
  engine.memory.set(engine.pages, std::vector<int32_t>(12, INT32_MAX));
  ASSERT_IC_OK(engine.begin(0, IC_BATCH_KEEP));
  EXPECT_EQ(engine.remap(0, IC_LAYOUT_PAGED, nullptr), IC_ERROR_OUT_OF_RANGE);
  EXPECT_NE(last_error().find("ic_cache_remap"), std::string::npos) << last_error();
  EXPECT_NE(last_error().find("IC_FAULT_SLOT"), std::string::npos) << last_error();
  engine.memory.set(engine.pages, pages);
  ASSERT_IC_OK(engine.remap(0, IC_LAYOUT_PAGED, nullptr));
  EXPECT_EQ(engine.memory.get(engine.remapped, right.size()), right);
}

TEST_F(CheckValues, LegalCallsGiveTheSameResults) {
  SmallEngine plain(IC_BACKEND_CUDA, IC_DTYPE_F32, 0, run_seed());
  std::vector<uint8_t> checked_block(engine.block_size), plain_block(engine.block_size);
  engine.run_everything(checked_block.data(), 0, nullptr);
  plain.run_everything(plain_block.data(), 0, nullptr);
  EXPECT_EQ(checked_block, plain_block);
  const size_t outs = SmallEngine::kRows * SmallEngine::kAttentionHeads * SmallEngine::kLatent;
  EXPECT_EQ(engine.memory.get(engine.out, outs), plain.memory.get(plain.out, outs));
  EXPECT_EQ(engine.faults(), 0u);
}

TEST_F(CheckValues, CapturesAreRefusedBeforeAnythingChanges) {
  ASSERT_IC_OK(engine.forward(0, nullptr));
  const uint32_t before = engine.faults();
  ic_status full = IC_OK, scored = IC_OK;
  std::string text;
  CapturedGraph graph([&](cudaStream_t stream) {
    full = engine.forward(0, stream);
    text = last_error();
    scored = engine.score(stream);
  });  // the capture itself is still good
  EXPECT_EQ(full, IC_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(scored, IC_ERROR_INVALID_ARGUMENT);
  EXPECT_NE(text.find("captured"), std::string::npos) << text;
  EXPECT_NE(text.find("IC_CONTEXT_CHECK_VALUES"), std::string::npos) << text;
  EXPECT_IC_OK(engine.forward(1, nullptr));  // the publication is as it was
  EXPECT_EQ(engine.faults(), before);
}

TEST_F(CheckValues, ThreadsDoNotSeeEachOthersFaults) {
  // One context, two threads: one whose values are wrong, one whose values are right.
  const DeviceArray<int32_t> wrong_end(std::vector<int32_t>(SmallEngine::kRows, SmallEngine::kMaxKeyEnd + 1));
  const auto select = [&](const int32_t *end, ic_status expected) {
    const TestStream stream;
    const DeviceArray<int32_t> indices(SmallEngine::kRows * SmallEngine::kPadded), lengths(SmallEngine::kRows);
    ic_select_args args = IC_SELECT_ARGS_INIT;
    args.scores = engine.scores;
    args.end = end;
    args.num_rows = SmallEngine::kRows;
    args.max_end = SmallEngine::kMaxKeyEnd;
    args.indices = indices.data();
    args.lengths = lengths.data();
    ASSERT_IC_OK(ic_topk_select_workspace_size(engine.topk, args.num_rows, args.max_end, &args.workspace_size));
    const DeviceArray<uint8_t> workspace(args.workspace_size + 1);
    args.workspace = workspace.data();
    for (int i = 0; i < 100; ++i) {
      ASSERT_EQ(ic_topk_select(engine.topk, &args, stream.get()), expected) << last_error();
    }
  };
  std::thread wrong([&] { select(wrong_end.data(), IC_ERROR_OUT_OF_RANGE); });
  select(engine.key_end, IC_OK);
  wrong.join();
}

TEST(CheckValuesOnTheCpu, TheFlagChangesNothing) {
  SmallEngine checked(IC_BACKEND_CPU, IC_DTYPE_F32, IC_CONTEXT_CHECK_VALUES, run_seed());
  SmallEngine plain(IC_BACKEND_CPU, IC_DTYPE_F32, 0, run_seed());
  std::vector<uint8_t> checked_block(checked.block_size), plain_block(plain.block_size);
  checked.run_everything(checked_block.data(), 0, nullptr);
  plain.run_everything(plain_block.data(), 0, nullptr);
  EXPECT_EQ(checked_block, plain_block);
}

}  // namespace
}  // namespace ic::test
