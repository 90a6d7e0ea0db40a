// SPDX-License-Identifier: Apache-2.0
// Batches, pools and the values in their arrays: what begin, scores, forward and attention must refuse.
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/capi/small_problem.h"

namespace ic::test {
namespace {

constexpr ic_status kInvalid = IC_ERROR_INVALID_ARGUMENT;
using Words = std::initializer_list<const char *>;

class BadInputBatch : public BadInput {
 protected:
  /// Every function that takes a batch refuses it.
  void expect(ic_status status, Words words, const std::function<void()> &spoil) {
    EXPECT_TRUE(refuses(problem, status, words, [&] {
      spoil();
      return problem.call_begin();
    })) << "begin";
    EXPECT_TRUE(refuses(problem, status, words, [&] {
      spoil();
      return problem.call_scores();
    })) << "scores";
    EXPECT_TRUE(refuses(problem, status, words, [&] {
      spoil();
      return problem.call_attend();
    })) << "attention";
  }
  /// A value in an array: attention treats it as absent, because no rule of its own depends on it.
  void expect_value(Words words, const std::function<void()> &spoil) {
    EXPECT_TRUE(refuses(problem, IC_ERROR_OUT_OF_RANGE, words, [&] {
      spoil();
      return problem.call_begin();
    })) << "begin";
    EXPECT_TRUE(refuses(problem, IC_ERROR_OUT_OF_RANGE, words, [&] {
      spoil();
      return problem.call_scores();
    })) << "scores";
    spoil();
    EXPECT_EQ(problem.call_attend(), IC_OK) << last_error();
    problem.ready();
  }
};

template <class T>
T *shifted(T *pointer, uintptr_t bytes) {
  return reinterpret_cast<T *>(reinterpret_cast<uintptr_t>(pointer) + bytes);
}

TEST_F(BadInputBatch, Counts) {
  ic_batch &batch = problem.batch;
  expect(kInvalid, {"batch->num_rows is -1", "0 to"}, [&] { batch.num_rows = -1; });
  for (const int32_t seqs : {0, -1})
    expect(kInvalid, {"batch->num_seqs is ", std::to_string(seqs).c_str(), "1 to"}, [&] { batch.num_seqs = seqs; });
  for (const int32_t end : {-1, (1 << 24) + 1})
    expect(kInvalid, {"batch->max_key_end is ", std::to_string(end).c_str(), "0 to 16777216"},
           [&] { batch.max_key_end = end; });
  for (const int32_t tables : {-1, 9})
    expect(kInvalid, {"batch->num_block_tables is ", std::to_string(tables).c_str(), "0 to 8"},
           [&] { batch.num_block_tables = tables; });
  EXPECT_TRUE(refuses(problem, kInvalid, {"batch->num_rows is 9", "0 to 8"}, [&] {
    batch.num_rows = SmallProblem::kMaxRows + 1;
    return problem.call_begin();
  }));
}

TEST_F(BadInputBatch, FlagsAndWhatIsNotImplemented) {
  ic_batch &batch = problem.batch;
  for (const uint32_t flag : {0x4u, 0x80000001u})
    expect(IC_ERROR_UNKNOWN_FLAG, {"batch->flags is 0x", "known bits: 0x1"}, [&] { batch.flags = flag; });
  for (const uint32_t flags : {IC_BATCH_TREE_DRAFT, IC_BATCH_TREE_DRAFT | IC_BATCH_KEEP})
    expect(IC_ERROR_UNSUPPORTED, {"batch->flags", "IC_BATCH_TREE_DRAFT", "not implemented"},
           [&] { batch.flags = flags; });
  for (const int32_t unit : {-1, 2, 4})
    expect(IC_ERROR_UNSUPPORTED, {"batch->unit_tokens is ", std::to_string(unit).c_str(), "not implemented", "0 or 1"},
           [&] { batch.unit_tokens = unit; });
  for (const int32_t ranks : {-1, 2, 8})
    expect(IC_ERROR_UNSUPPORTED, {"batch->interleave is ", std::to_string(ranks).c_str(), "not implemented"},
           [&] { batch.interleave = ranks; });
  expect(IC_ERROR_UNSUPPORTED, {"interleave_rank 1", "not implemented"}, [&] { batch.interleave_rank = 1; });
}

TEST_F(BadInputBatch, BlockTables) {
  for (const int32_t tokens : {0, -16, 2, 8, 48, 256})
    expect(kInvalid, {"batch->block_tables[1].page_tokens is ", std::to_string(tokens).c_str(), "1, 16, 32, 64, 128"},
           [&] { problem.tables[1].page_tokens = tokens; });
  expect(kInvalid, {"batch->block_tables[0].num_blocks is -1", "0 to"}, [&] { problem.tables[0].num_blocks = -1; });
  for (const int64_t stride : {int64_t{2}, int64_t{-3}, INT64_MAX})
    expect(kInvalid, {"batch->block_tables[0].stride is ", std::to_string(stride).c_str(), "0 (dense), or 3"},
           [&] { problem.tables[0].stride = stride; });
  expect(IC_ERROR_MISALIGNED, {"batch->block_tables[1].pages", "multiple of 4"},
         [&] { problem.tables[1].pages = shifted(problem.tables[1].pages, 2); });
  expect(IC_ERROR_NULL_POINTER, {"batch->block_tables[1].pages is NULL"}, [&] { problem.tables[1].pages = nullptr; });
  // Eight are allowed.
  problem.batch.num_block_tables = 8;
  EXPECT_TRUE(accepts(problem, [&] { return problem.call_begin(); }));
}

TEST_F(BadInputBatch, MisalignedArrays) {
  ic_batch &batch = problem.batch;
  const ic_status status = IC_ERROR_MISALIGNED;
  expect(status, {"batch->row_seq", "multiple of 4"}, [&] { batch.row_seq = shifted(batch.row_seq, 1); });
  expect(status, {"batch->key_begin", "multiple of 4"}, [&] { batch.key_begin = shifted(batch.key_begin, 2); });
  expect(status, {"batch->key_end", "multiple of 4"}, [&] { batch.key_end = shifted(batch.key_end, 3); });
  expect(status, {"batch->key_offsets", "multiple of 8"}, [&] { batch.key_offsets = shifted(batch.key_offsets, 4); });
  expect(status, {"batch->block_tables", "multiple of 8"},
         [&] { batch.block_tables = shifted(batch.block_tables, 4); });
}

TEST_F(BadInputBatch, Values) {
  expect_value({"row_seq[2] is 2", "0 to 1"}, [&] { problem.row_seq[2] = 2; });
  expect_value({"row_seq[4] is -1", "0 to 1"}, [&] { problem.row_seq[4] = -1; });
  expect_value({"key_begin[1] is -1", "at least 0"}, [&] { problem.key_begin[1] = -1; });
  expect_value({"key_end[3] is 49", "max_key_end", "48"}, [&] { problem.key_end[3] = 49; });
  expect_value({"key_end[0] is 2147483647"}, [&] { problem.key_end[0] = INT32_MAX; });
  expect_value({"block_tables[0]", "sequence 0, block 2", "-2", "-1 (absent)"}, [&] { problem.pages[2] = -2; });
  expect_value({"block_tables[1]", "sequence 1, block 0", "-2147483648"}, [&] { problem.kv_pages[1] = INT32_MIN; });
}

TEST_F(BadInputBatch, ValuesThatNobodySeesAreNotLookedAt) {
  problem.pages[5] = -7;  // behind the last key of sequence 1
  EXPECT_TRUE(accepts(problem, [&] { return problem.call_begin(); }));
  problem.key_end[1] = INT32_MIN;  // a padded row
  EXPECT_TRUE(accepts(problem, [&] { return problem.call_begin(); }));
  problem.pages[1] = -1;  // absent
  EXPECT_TRUE(accepts(problem, [&] { return problem.call_begin(); }));
}

TEST_F(BadInputBatch, KeysOutsideOfThePool) {
  const auto begin_and_run = [&] {
    EXPECT_EQ(problem.call_begin(), IC_OK) << last_error();
    problem.full.layer = 0;
    return problem.call_full();
  };
  const auto expect_pool = [&](Words words, const std::function<void()> &spoil) {
    problem.ready();
    spoil();
    ASSERT_EQ(problem.call_begin(), IC_OK) << last_error();
    problem.full.layer = 0;
    EXPECT_TRUE(refuses(problem, IC_ERROR_OUT_OF_RANGE, words, [&] { return problem.call_full(); }));
    problem.ready();
    EXPECT_TRUE(refuses(problem, IC_ERROR_OUT_OF_RANGE, words, [&] {
      problem.scores.keys = &problem.keys;
      spoil();
      if (problem.full.keys == &problem.flat_keys) problem.scores.keys = &problem.flat_keys;
      return problem.call_scores();
    }));
  };
  const auto flat = [&] {
    problem.full.keys = &problem.flat_keys;
    problem.full.new_keys = nullptr;
  };
  expect_pool({"sequence 1, block 1 is page 6", "args->keys has 6 pages"}, [&] { problem.pages[4] = 6; });
  expect_pool({"sequence 0, block 0 is page 2147483647"}, [&] { problem.pages[0] = INT32_MAX; });
  expect_pool({"row 3", "sequence 1", "vector 78", "args->keys has 96"}, [&] {
    flat();
    problem.key_offsets[1] = 78;
  });
  expect_pool({"row 0", "sequence 0", "vector -1"}, [&] {
    flat();
    problem.key_offsets[0] = -1;
  });
  for (const int64_t offset : {INT64_MAX, INT64_MIN})
    expect_pool({"sequence 0", std::to_string(offset).c_str()}, [&] {
      flat();
      problem.key_offsets[0] = offset;
    });
  // Rows outside of the part are not looked at.
  problem.ready();
  problem.pages[4] = 6;
  problem.full.row_count = 3;
  EXPECT_EQ(begin_and_run(), IC_OK) << last_error();
}

TEST_F(BadInputBatch, Pools) {
  struct User {
    const char *named;
    ic_pool Arguments::*pool;
    ic_status (SmallProblem::*call)();
    int64_t dense, alignment;
  };
  const User users[] = {
      {"args->keys", &Arguments::keys, &SmallProblem::call_full, 16 * 32 * 4, 4},
      {"args->keys", &Arguments::flat_keys, &SmallProblem::call_scores, 32 * 4, 4},
      {"args->attention->kv", &Arguments::kv, &SmallProblem::call_shared, 64 * 32 * 4, 4},
      {"args->kv", &Arguments::kv, &SmallProblem::call_attend, 64 * 32 * 4, 4},
      {"args->pool", &Arguments::prepared, &SmallProblem::call_prepare_keys, 32 * 4, 4},
  };
  for (const User &user : users) {
    SCOPED_TRACE(user.named);
    const auto expect_pool = [&](ic_status status, Words words, auto spoil) {
      EXPECT_TRUE(refuses(problem, status, words, [&] {
        spoil(problem.*user.pool);
        return (problem.*user.call)();
      }));
    };
    const std::string at = user.named;
    const std::string data = at + "->data", stride = at + "->stride_bytes is ", capacity = at + "->capacity is ";
    const std::string layout = at + "->layout is ", scales = at + "->scales", dense = std::to_string(user.dense);
    expect_pool(IC_ERROR_MISALIGNED, {data.c_str(), "multiple of 4"},
                [](ic_pool &pool) { pool.data = shifted(static_cast<uint8_t *>(pool.data), 2); });
    expect_pool(kInvalid, {(capacity + "-1").c_str(), "at least 0"}, [](ic_pool &pool) { pool.capacity = -1; });
    expect_pool(kInvalid, {at.c_str(), "capacity 9223372036854775807", "63 bits"},
                [](ic_pool &pool) { pool.capacity = INT64_MAX; });
    for (const int64_t bytes : {user.dense - user.alignment, int64_t{-64}, int64_t{1}})
      expect_pool(kInvalid, {(stride + std::to_string(bytes)).c_str(), dense.c_str()},
                  [&](ic_pool &pool) { pool.stride_bytes = bytes; });
    expect_pool(IC_ERROR_MISALIGNED, {(stride + std::to_string(user.dense + 2)).c_str(), "multiple of 4"},
                [&](ic_pool &pool) { pool.stride_bytes = user.dense + 2; });
    for (const int32_t number : {0, 3, -1})
      expect_pool(kInvalid, {(layout + std::to_string(number)).c_str(), "IC_LAYOUT_PAGED"},
                  [&](ic_pool &pool) { pool.layout = number; });
    float scale = 1;
    expect_pool(kInvalid, {scales.c_str(), "only contiguous e4m3"}, [&](ic_pool &pool) { pool.scales = &scale; });
    if (user.pool == &Arguments::keys || user.pool == &Arguments::kv)
      for (const int32_t table : {-1, 2, 8})
        expect_pool(kInvalid, {"block_table is ", std::to_string(table).c_str(), "the batch has 2"},
                    [&](ic_pool &pool) { pool.block_table = table; });
  }
}

class BadInputBatchE4m3 : public BadInput {
 protected:
  BadInputBatchE4m3() : BadInput({.dtype = IC_DTYPE_E4M3}) {}
};

TEST_F(BadInputBatchE4m3, Scales) {
  EXPECT_TRUE(refuses(problem, IC_ERROR_NULL_POINTER, {"args->keys->scales is NULL"}, [&] {
    problem.flat_keys.scales = nullptr;
    return problem.call_scores();
  }));
  EXPECT_TRUE(refuses(problem, IC_ERROR_MISALIGNED, {"args->keys->scales", "multiple of 4"}, [&] {
    problem.flat_keys.scales = shifted(problem.flat_keys.scales, 1);
    return problem.call_scores();
  }));
  EXPECT_TRUE(refuses(problem, kInvalid, {"args->keys->scales", "only contiguous e4m3"}, [&] {
    problem.keys.scales = problem.flat_keys.scales;  // pages have theirs inside
    return problem.call_full();
  }));
  EXPECT_TRUE(refuses(problem, IC_ERROR_MISALIGNED, {"args->keys->stride_bytes is 577", "multiple of 4"}, [&] {
    problem.keys.stride_bytes = 577;  // the scales behind the vectors would be misaligned
    return problem.call_full();
  }));
  EXPECT_TRUE(refuses(problem, IC_ERROR_MISALIGNED, {"args->keys->data", "multiple of 4"}, [&] {
    problem.keys.data = static_cast<uint8_t *>(problem.keys.data) + 2;
    return problem.call_full();
  }));
  EXPECT_TRUE(refuses(problem, IC_ERROR_MISALIGNED, {"args->new_keys->scales", "multiple of 4"}, [&] {
    problem.new_keys.scales = shifted(problem.new_keys.scales, 2);
    return problem.call_full();
  }));
}

}  // namespace
}  // namespace ic::test
