// SPDX-License-Identifier: Apache-2.0
// Calls in the wrong order: indices that are not there, with the reason as its own status, and parts that overlap.
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>

#include "tests/capi/small_problem.h"

namespace ic::test {
namespace {

using Words = std::initializer_list<const char *>;

class BadInputState : public BadInput {
 protected:
  /// Runs a part of a Full layer without new keys.
  void run_full(int32_t layer, int32_t row_begin = 0, int32_t row_count = IC_ALL_ROWS) {
    problem.full.layer = layer;
    problem.full.row_begin = row_begin;
    problem.full.row_count = row_count;
    problem.full.new_keys = nullptr;
    ASSERT_EQ(problem.call_full(), IC_OK) << last_error();
    problem.reset_inputs();
  }
  void begin(uint32_t flags = 0, int32_t rows = SmallProblem::kRows, uint64_t capture_id = 0) {
    problem.batch.flags = flags;
    problem.batch.num_rows = rows;
    problem.batch.capture_id = capture_id;
    ASSERT_EQ(problem.call_begin(), IC_OK) << last_error();
    problem.reset_inputs();
  }
  /// Everything that reads the indices of `source` (whose first Shared layer is the next) gives this status.
  void expect_stale(int32_t source, ic_status status, Words words, bool compact_too = true) {
    EXPECT_TRUE(IC_STATUS_IS_STALE(status) || status == IC_ERROR_NO_BATCH);
    SmallProblem &p = problem;
    const auto refused = [&](const char *what, const std::function<ic_status()> &call) {
      EXPECT_TRUE(refuses(p, status, words, call)) << what;
    };
    refused("shared with attention", [&] {
      p.shared.layer = source + 1;
      return p.call_shared();
    });
    refused("shared alone", [&] {
      p.shared.layer = source + 1;
      p.shared.attention = nullptr;
      p.shared.workspace = nullptr;
      p.shared.workspace_size = 0;
      return p.call_shared();
    });
    refused("shared with new keys: none is written", [&] {
      p.shared.layer = source + 1;
      p.shared.keys = &p.keys;
      p.shared.new_keys = &p.new_keys;
      return p.call_shared();
    });
    refused("view", [&] { return ic_cache_get_view(p.cache, source, &p.view); });
    refused("remap", [&] {
      p.remap.source_layer = source;
      return p.call_remap();
    });
    refused("export",
            [&] { return ic_cache_export(p.cache, source, 0, IC_MEMORY_HOST, p.exported, p.block_bytes, nullptr); });
    if (!compact_too) return;
    refused("compact", [&] {
      p.compact.source_layer = source;
      return p.call_compact();
    });
  }
};

TEST_F(BadInputState, NoBatch) {
  SmallProblem &p = problem;
  ASSERT_EQ(ic_cache_reset(p.cache), IC_OK);
  const ic_status status = IC_ERROR_NO_BATCH;
  const Words words = {"no generation is open", "ic_cache_begin()"};
  expect_stale(0, status, words);
  EXPECT_TRUE(refuses(p, status, words, [&] { return p.call_full(); }));
  EXPECT_TRUE(refuses(p, status, words, [&] { return p.call_import(); }));
  ic_cache_info info = IC_CACHE_INFO_INIT;
  ASSERT_EQ(ic_cache_get_info(p.cache, &info), IC_OK);
  EXPECT_EQ(info.num_rows, -1);
}

TEST_F(BadInputState, SharedBeforeFull) {
  ic_cache *used = problem.cache;
  ic_cache *fresh = nullptr;
  ASSERT_EQ(ic_cache_create(problem.context, &problem.cache_desc, &fresh), IC_OK) << last_error();
  problem.cache = fresh;
  expect_stale(0, IC_ERROR_NO_BATCH, {"ic_cache_begin()"});
  begin();
  expect_stale(0, IC_ERROR_STALE_UNPUBLISHED, {"layer 0", "never published"});
  run_full(0);
  expect_stale(2, IC_ERROR_STALE_UNPUBLISHED, {"layer 2", "never published"});
  EXPECT_TRUE(refuses(problem, IC_ERROR_STALE_UNPUBLISHED, {"layer 5"}, [&] {
    problem.shared.layer = 5;  // an MTP layer shares with itself
    problem.shared.mode = IC_LAYER_SHARED;
    return problem.call_shared();
  }));
  problem.shared.layer = 1;
  EXPECT_TRUE(accepts(problem, [&] { return problem.call_shared(); }));
  problem.cache = used;
  ic_cache_destroy(fresh);
}

TEST_F(BadInputState, BetweenTheParts) {
  begin();
  run_full(2, 3, 2);
  expect_stale(2, IC_ERROR_STALE_INCOMPLETE, {"layer 2", "2 of 5 rows"});
  EXPECT_TRUE(refuses(problem, IC_ERROR_STALE_INCOMPLETE, {"layer 2"}, [&] {
    problem.shared.layer = 3;  // rows that are there, but the publication is not
    problem.shared.row_begin = 3;
    problem.shared.row_count = 2;
    return problem.call_shared();
  }));
  run_full(2, 0, 1);
  expect_stale(2, IC_ERROR_STALE_INCOMPLETE, {"layer 2", "3 of 5 rows"});
  run_full(2, 1, 2);
  problem.shared.layer = 3;
  EXPECT_TRUE(accepts(problem, [&] { return problem.call_shared(); }));
}

TEST_F(BadInputState, PartsThatOverlap) {
  begin();
  run_full(2, 1, 2);
  const auto overlap = [&](int32_t row_begin, int32_t row_count, Words words) {
    EXPECT_TRUE(refuses(problem, IC_ERROR_PART_OVERLAP, words, [&] {
      problem.full.row_begin = row_begin;
      problem.full.row_count = row_count;
      return problem.call_full();
    })) << row_begin;
  };
  overlap(1, 2, {"layer 2", "rows 1 to 2", "2 of 5"});
  overlap(2, 2, {"layer 2", "rows 2 to 3"});
  overlap(0, 2, {"layer 2", "rows 0 to 1"});
  overlap(0, IC_ALL_ROWS, {"layer 2", "rows 0 to 4"});
  run_full(2, 3, 2);
  run_full(2, 0, 1);
  overlap(4, 1, {"layer 2", "rows 4 to 4", "5 of 5"});  // the layer is complete
}

TEST_F(BadInputState, EarlierGeneration) {
  run_full(2);
  begin();
  ic_cache_info info = IC_CACHE_INFO_INIT;
  ASSERT_EQ(ic_cache_get_info(problem.cache, &info), IC_OK);
  const std::string now = std::to_string(info.generation), before = "generation " + std::to_string(info.generation - 1);
  expect_stale(0, IC_ERROR_STALE, {"layer 0", before.c_str(), now.c_str()});
  expect_stale(2, IC_ERROR_STALE, {"layer 2", before.c_str(), now.c_str()});
}

TEST_F(BadInputState, OverwrittenByALaterLayer) {
  run_full(4, 0, 2);  // layers 0 and 4 share slot 0; the first part is enough
  expect_stale(0, IC_ERROR_STALE_OVERWRITTEN, {"layer 0", "layer 4", "slot 0", "2 slots"});
  run_full(4, 2, 3);
  expect_stale(0, IC_ERROR_STALE_OVERWRITTEN, {"layer 0", "layer 4"});
  run_full(5);
  expect_stale(2, IC_ERROR_STALE, {"layer 2"});  // of an earlier generation, whoever took its slot
}

TEST_F(BadInputState, CaptureIds) {
  begin(0, SmallProblem::kRows, 7);
  run_full(0);
  problem.shared.layer = 1;
  EXPECT_TRUE(accepts(problem, [&] { return problem.call_shared(); }));
  begin(IC_BATCH_KEEP, SmallProblem::kRows, 8);
  expect_stale(0, IC_ERROR_STALE_CAPTURE, {"layer 0", "capture_id 7", "capture_id 8"});
  begin(IC_BATCH_KEEP);
  expect_stale(0, IC_ERROR_STALE_CAPTURE, {"layer 0", "capture_id 7", "capture_id 0"});
  begin(IC_BATCH_KEEP, SmallProblem::kRows, 7);
  problem.shared.layer = 1;
  EXPECT_TRUE(accepts(problem, [&] { return problem.call_shared(); }));
}

TEST_F(BadInputState, KeptRowsOfAnotherCount) {
  begin(IC_BATCH_KEEP, 3);
  expect_stale(0, IC_ERROR_STALE_ROWS, {"layer 0", "5 rows", "the batch has 3", "ic_cache_compact()"}, false);
  if (host_sees_values()) {
    EXPECT_TRUE(refuses(problem, IC_ERROR_OUT_OF_RANGE, {"rows[1] is 5", "0 to 4"}, [&] {
      problem.compact.num_rows = 3;
      problem.compact_rows[1] = 5;  // counted in the rows of the publication
      return problem.call_compact();
    }));
  }
  problem.compact.num_rows = 3;
  EXPECT_TRUE(accepts(problem, [&] { return problem.call_compact(); }));
  problem.shared.layer = 1;
  EXPECT_TRUE(accepts(problem, [&] { return problem.call_shared(); }));
}

TEST_F(BadInputState, IncompletePublicationsAreNotKept) {
  run_full(2, 0, 4);
  begin(IC_BATCH_KEEP);
  expect_stale(2, IC_ERROR_STALE, {"layer 2"});
  EXPECT_TRUE(accepts(problem, [&] { return problem.call_shared(); })) << "layer 0 was complete";
}

TEST_F(BadInputState, AfterReset) {
  ASSERT_EQ(ic_cache_reset(problem.cache), IC_OK);
  begin(IC_BATCH_KEEP);
  expect_stale(0, IC_ERROR_STALE, {"layer 0"});  // a reset leaves nothing to keep
}

TEST_F(BadInputState, AFailedBeginKeepsTheGeneration) {
  EXPECT_TRUE(refuses(problem, IC_ERROR_OUT_OF_RANGE, {"row_seq[0]"}, [&] {
    problem.row_seq[0] = 99;
    problem.batch.num_rows = 2;
    problem.batch.capture_id = 5;
    return problem.call_begin();
  }));
  EXPECT_TRUE(refuses(problem, IC_ERROR_INVALID_ARGUMENT, {"batch->num_rows is 9"}, [&] {
    problem.batch.num_rows = SmallProblem::kMaxRows + 1;
    problem.batch.capture_id = 5;
    return problem.call_begin();
  }));
  EXPECT_TRUE(accepts(problem, [&] { return problem.call_shared(); }));
}

TEST_F(BadInputState, AForcedModeThatFailsIsForgotten) {
  begin();
  EXPECT_TRUE(refuses(problem, IC_ERROR_STALE, {"layer 0"}, [&] {
    problem.shared.layer = 2;  // a Full layer asked to share with layer 0, which has not run
    problem.shared.mode = IC_LAYER_SHARED;
    return problem.call_shared();
  }));
  EXPECT_TRUE(refuses(problem, IC_ERROR_WORKSPACE_TOO_SMALL, {"args->workspace"}, [&] {
    problem.full.layer = 1;
    problem.full.mode = IC_LAYER_FULL;
    problem.full.workspace_size = 0;
    return problem.call_full();
  }));
  run_full(0);
  run_full(2);
  problem.shared.layer = 3;
  ASSERT_EQ(problem.call_shared(), IC_OK) << last_error();
  EXPECT_EQ(problem.view.source_layer, 2);
  problem.shared.layer = 1;
  ASSERT_EQ(problem.call_shared(), IC_OK) << last_error();
  EXPECT_EQ(problem.view.source_layer, 0);
}

class BadInputHandles : public BadInput {
 protected:
  void SetUp() override {
    BadInput::SetUp();
    other = std::make_unique<SmallProblem>();
  }
  std::unique_ptr<SmallProblem> other;
};

TEST_F(BadInputHandles, OfTwoContexts) {
  const auto expect = [&](Words words, const std::function<void()> &spoil) {
    EXPECT_TRUE(refuses(problem, IC_ERROR_HANDLE_MISMATCH, words, [&] {
      spoil();
      return problem.call_cache_create();
    }));
  };
  expect({"desc->topk", "desc->indexer", "different contexts"}, [&] { problem.cache_desc.topk = other->topk; });
  expect({"desc->attention", "desc->indexer", "different contexts"},
         [&] { problem.cache_desc.attention = other->attention; });
  expect({"desc->topk", "different contexts"}, [&] { problem.cache_desc.indexer = other->indexer; });
  expect({"another context than the one given"}, [&] {
    problem.cache_desc.indexer = other->indexer;
    problem.cache_desc.topk = other->topk;
    problem.cache_desc.attention = other->attention;
  });
  EXPECT_TRUE(refuses(problem, IC_ERROR_HANDLE_MISMATCH, {"desc->topk", "different contexts"}, [&] {
    problem.cache_desc.topk = other->topk;
    return ic_cache_memory_size(&problem.cache_desc, &problem.size);
  }));
  // A schedule belongs to no context.
  problem.cache_desc.schedule = other->schedule;
  EXPECT_TRUE(accepts(problem, [&] { return problem.call_cache_create(); }));
}

TEST_F(BadInputHandles, OrdersThatACacheCannotHave) {
  for (const int32_t order : {IC_ORDER_SCORE, IC_ORDER_ANY}) {
    problem.topk_desc.order = order;
    ic_topk *topk = nullptr;
    ASSERT_EQ(ic_topk_create(problem.context, &problem.topk_desc, &topk), IC_OK);
    EXPECT_TRUE(refuses(problem, IC_ERROR_HANDLE_MISMATCH,
                        {"desc->topk", "order ", std::to_string(order).c_str(), "IC_ORDER_POSITION"}, [&] {
                          problem.cache_desc.topk = topk;
                          return problem.call_cache_create();
                        }));
    ic_topk_destroy(topk);
  }
}

class BadInputWithoutAttention : public BadInput {
 protected:
  BadInputWithoutAttention() : BadInput({.attention = false}) {}
};

TEST_F(BadInputWithoutAttention, AttentionArgumentsAreRefused) {
  for (const bool full : {true, false})
    EXPECT_TRUE(refuses(problem, IC_ERROR_HANDLE_MISMATCH, {"args->attention", "without an ic_attention"}, [&] {
      (full ? problem.full : problem.shared).attention = &problem.attend;
      return full ? problem.call_full() : problem.call_shared();
    }));
}

}  // namespace
}  // namespace ic::test
