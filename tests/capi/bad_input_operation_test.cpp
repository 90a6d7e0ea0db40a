// SPDX-License-Identifier: Apache-2.0
// Arguments of operations: flags, counts, parts, windows, strides, alignment, workspaces, streams, and values in
// arrays.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include "tests/capi/small_problem.h"

namespace ic::test {
namespace {

constexpr ic_status kInvalid = IC_ERROR_INVALID_ARGUMENT;
using Words = std::initializer_list<const char *>;
using Operation = ic_status (SmallProblem::*)();

template <class T>
T *shifted(T *pointer, uintptr_t bytes) {
  return reinterpret_cast<T *>(reinterpret_cast<uintptr_t>(pointer) + bytes);
}
void *shifted(void *pointer, uintptr_t bytes) { return shifted(static_cast<uint8_t *>(pointer), bytes); }
const void *shifted(const void *pointer, uintptr_t bytes) {
  return shifted(static_cast<const uint8_t *>(pointer), bytes);
}

class BadInputOperation : public BadInput {
 protected:
  explicit BadInputOperation(const Variant &variant = {}) : BadInput(variant) {}
  void expect(Operation operation, ic_status status, Words words, const std::function<void()> &spoil) {
    EXPECT_TRUE(refuses(problem, status, words, [&] {
      spoil();
      return (problem.*operation)();
    }));
  }
  void expect_invalid(Operation operation, Words words, const std::function<void()> &spoil) {
    expect(operation, kInvalid, words, spoil);
  }
  /// 0 and the dense value are fine; one less, a negative and an absurd one are not.
  void stride(Operation operation, const char *named, int64_t dense, const std::function<int64_t *()> &field,
              int64_t step = 1) {
    SCOPED_TRACE(named);
    const std::string is = std::string(named) + " is ";
    for (const int64_t value : {dense - step, int64_t{-1}, INT64_MIN, INT64_MAX})
      expect_invalid(operation, {(is + std::to_string(value)).c_str(), ("or " + std::to_string(dense)).c_str()},
                     [&] { *field() = value; });
    problem.ready();
    *field() = dense;
    EXPECT_TRUE(accepts(problem, [&] { return (problem.*operation)(); }));
    problem.ready();
  }
  template <class T, class Owner>
  void misaligned(Operation operation, const char *named, Owner *owner, T *Owner::*field, size_t alignment) {
    const std::string multiple = "multiple of " + std::to_string(alignment);
    for (const size_t by : {size_t{1}, alignment / 2})
      expect(operation, IC_ERROR_MISALIGNED, {named, multiple.c_str()},
             [&] { owner->*field = shifted(owner->*field, by); });
  }
  /// One byte short, misaligned, NULL; exactly enough is fine (and a sanitizer sees that it is not exceeded).
  void workspace(Operation operation, const char *named, void **pointer, size_t *size) {
    SCOPED_TRACE(named);
    const size_t enough = *size;
    if (enough == 0 && !host_sees_values()) return;  // a backend may need none
    ASSERT_GT(enough, 0u);
    const std::string less = std::to_string(enough - 1), needed = std::to_string(enough) + " are needed";
    expect(operation, IC_ERROR_WORKSPACE_TOO_SMALL, {named, less.c_str(), needed.c_str()}, [&] { *size -= 1; });
    expect(operation, IC_ERROR_WORKSPACE_TOO_SMALL, {named, "has 0 bytes", needed.c_str()}, [&] {
      *pointer = nullptr;
      *size = 0;
    });
    expect(operation, IC_ERROR_NULL_POINTER, {named, "NULL"}, [&] { *pointer = nullptr; });
    for (const uintptr_t by : {1u, 64u, 128u})
      expect(operation, IC_ERROR_MISALIGNED, {named, "multiple of 256"}, [&] { *pointer = shifted(*pointer, by); });
    problem.ready();
    EXPECT_TRUE(accepts(problem, [&] { return (problem.*operation)(); }));
    problem.ready();
  }
};

constexpr Operation kFull = &SmallProblem::call_full;
constexpr Operation kShared = &SmallProblem::call_shared;
constexpr Operation kScores = &SmallProblem::call_scores;
constexpr Operation kSelect = &SmallProblem::call_select;
constexpr Operation kMerge = &SmallProblem::call_merge;
constexpr Operation kAttend = &SmallProblem::call_attend;
constexpr Operation kPrepareQueries = &SmallProblem::call_prepare_queries;
constexpr Operation kPrepareKeys = &SmallProblem::call_prepare_keys;
constexpr Operation kRemap = &SmallProblem::call_remap;
constexpr Operation kCompact = &SmallProblem::call_compact;
constexpr Operation kMass = &SmallProblem::call_mass;
constexpr Operation kOverlap = &SmallProblem::call_overlap;

TEST_F(BadInputOperation, UnknownFlagsAndReservedFields) {
  SmallProblem &p = problem;
  const ic_status flag = IC_ERROR_UNKNOWN_FLAG, field = IC_ERROR_UNKNOWN_FIELD;
  expect(kFull, flag, {"args->flags is 0x1;"}, [&] { p.full.flags = 1; });
  expect(kShared, flag, {"args->flags is 0x80000000;"}, [&] { p.shared.flags = 0x80000000u; });
  expect(kFull, field, {"args->reserved is 3"}, [&] { p.full.reserved = 3; });
  expect(kScores, flag, {"args->flags is 0x2;", "0x1"}, [&] { p.scores.flags = 2; });
  expect(kScores, field, {"args->reserved is 3"}, [&] { p.scores.reserved = 3; });
  expect(kPrepareQueries, flag, {"args->flags is 0x10;", "0xf"}, [&] { p.prepare_queries.flags = 0x10; });
  expect(kPrepareKeys, flag, {"args->flags is 0x20;", "0xf"}, [&] { p.prepare_keys.flags = 0x20; });
  expect(kPrepareKeys, field, {"args->reserved is 1"}, [&] { p.prepare_keys.reserved = 1; });
  expect(kPrepareKeys, field, {"args->reserved2 is 1"}, [&] { p.prepare_keys.reserved2 = 1; });
  expect(kRemap, field, {"args->reserved is 9"}, [&] { p.remap.reserved = 9; });
  expect(kCompact, field, {"args->reserved is 9"}, [&] { p.compact.reserved = 9; });
  EXPECT_TRUE(refuses(p, flag, {"flags is 0x2;", "0x1"}, [&] {
    return ic_cache_export(p.cache, 0, 2, IC_MEMORY_HOST, p.exported, p.block_bytes, nullptr);
  }));
  EXPECT_TRUE(refuses(p, flag, {"flags is 0x4;", "0x3"},
                      [&] { return ic_cache_import(p.cache, -1, 4, p.block, p.block_bytes, &p.header, nullptr); }));
}

TEST_F(BadInputOperation, StreamsOnTheCpu) {
  SmallProblem &p = problem;
  const auto stream = reinterpret_cast<ic_stream>(uintptr_t{0x1000});
  const std::function<ic_status()> calls[] = {
      [&] { return ic_forward(p.cache, &p.full, &p.view, stream); },
      [&] { return ic_forward(p.cache, &p.shared, &p.view, stream); },
      [&] { return ic_indexer_scores(p.indexer, &p.batch, &p.scores, stream); },
      [&] { return ic_topk_select(p.topk, &p.select, stream); },
      [&] { return ic_topk_merge(p.topk, &p.merge, stream); },
      [&] {
        return ic_attention_run(p.attention, &p.batch, 0, &p.given, &p.attend, p.attend_workspace,
                                p.attend_workspace_size, stream);
      },
      [&] {
        return ic_attention_mass(p.attention, &p.batch, 0, &p.given, &p.mass, p.mass_workspace, p.mass_workspace_size,
                                 stream);
      },
      [&] { return ic_indexer_prepare_queries(p.indexer, &p.prepare_queries, stream); },
      [&] { return ic_indexer_prepare_keys(p.indexer, &p.prepare_keys, stream); },
      [&] { return ic_cache_remap(p.cache, &p.remap, &p.view, stream); },
      [&] { return ic_cache_compact(p.cache, &p.compact, stream); },
      [&] { return ic_cache_export(p.cache, 0, 0, IC_MEMORY_HOST, p.exported, p.block_bytes, stream); },
      [&] { return ic_cache_import(p.cache, -1, 0, p.block, p.block_bytes, &p.header, stream); },
      [&] { return ic_cache_faults(p.cache, 0, &p.faults, stream); },
      [&] { return ic_index_overlap(p.context, &p.given, &p.given, &p.overlap, stream); },
  };
  for (const auto &call : calls) EXPECT_TRUE(refuses(p, kInvalid, {"stream is 0x1000", "CPU", "NULL"}, call));
}

TEST_F(BadInputOperation, Parts) {
  SmallProblem &p = problem;
  struct Part {
    Operation operation;
    int32_t *begin, *count;
  };
  const Part users[] = {{kFull, &p.full.row_begin, &p.full.row_count},
                        {kShared, &p.shared.row_begin, &p.shared.row_count},
                        {kScores, &p.scores.row_begin, &p.scores.row_count}};
  for (const Part &part : users) {
    for (const int32_t begin : {-1, 6, std::numeric_limits<int32_t>::max()})
      expect_invalid(part.operation, {"args->row_begin is ", std::to_string(begin).c_str(), "0 to 5"},
                     [&] { *part.begin = begin; });
    for (const int32_t count : {-2, 4, std::numeric_limits<int32_t>::max(), std::numeric_limits<int32_t>::min()})
      expect_invalid(part.operation, {"args->row_count is ", std::to_string(count).c_str(), "row 2", "0 to 3"}, [&] {
        *part.begin = 2;
        *part.count = count;
      });
  }
}

TEST_F(BadInputOperation, LayersAndModes) {
  SmallProblem &p = problem;
  for (const int32_t layer : {-1, 6, std::numeric_limits<int32_t>::max()})
    expect_invalid(kFull, {"layer is ", std::to_string(layer).c_str(), "0 to 5"}, [&] { p.full.layer = layer; });
  for (const int32_t mode : {-1, IC_LAYER_NONE, 5})
    expect_invalid(kFull, {"mode is ", std::to_string(mode).c_str(), "IC_LAYER_FULL"}, [&] { p.full.mode = mode; });
  expect(kFull, IC_ERROR_UNSUPPORTED, {"IC_LAYER_REINDEX", "not implemented"}, [&] { p.full.mode = IC_LAYER_REINDEX; });
  expect(kFull, IC_ERROR_UNSUPPORTED, {"args->candidates", "not implemented"},
         [&] { p.full.candidates = p.given_indices; });
  expect(kShared, IC_ERROR_UNSUPPORTED, {"args->candidates", "not implemented"},
         [&] { p.shared.candidates = p.given_indices; });
  expect(kFull, IC_ERROR_SCHEDULE_INVALID, {"layer 3", "no indexer weights"}, [&] {
    p.full.layer = 3;
    p.full.mode = IC_LAYER_FULL;
  });
  expect(kShared, IC_ERROR_SCHEDULE_INVALID, {"layer 0", "no Full layer precedes"}, [&] {
    p.shared.layer = 0;
    p.shared.mode = IC_LAYER_SHARED;
  });
  for (const int32_t source : {-1, 6}) {
    const std::string is = "source_layer is " + std::to_string(source);
    expect_invalid(kRemap, {is.c_str(), "0 to 5"}, [&] { p.remap.source_layer = source; });
    expect_invalid(kCompact, {is.c_str(), "0 to 5"}, [&] { p.compact.source_layer = source; });
    EXPECT_TRUE(refuses(p, kInvalid, {is.c_str()}, [&] { return ic_cache_get_view(p.cache, source, &p.view); }));
    EXPECT_TRUE(refuses(p, kInvalid, {is.c_str()}, [&] {
      return ic_cache_export(p.cache, source, 0, IC_MEMORY_HOST, p.exported, p.block_bytes, nullptr);
    }));
  }
  for (const int32_t layer : {-1, 6})
    expect_invalid(kCompact, {"args->publish_layer is ", std::to_string(layer).c_str(), "0 to 5"},
                   [&] { p.compact.publish_layer = layer; });
  expect_invalid(kCompact, {"args->publish_layer is 1", "no Full layer"}, [&] { p.compact.publish_layer = 1; });
}

TEST_F(BadInputOperation, Scores) {
  SmallProblem &p = problem;
  for (const int32_t column : {-1, 49})
    expect_invalid(kScores, {"args->first_column is ", std::to_string(column).c_str(), "0 to 48"},
                   [&] { p.scores.first_column = column; });
  for (const int32_t columns : {-1, (1 << 24) + 1})
    expect_invalid(kScores, {"args->num_columns is ", std::to_string(columns).c_str(), "0 to 16777216"},
                   [&] { p.scores.num_columns = columns; });
  stride(kScores, "args->score_stride", SmallProblem::kMaxKeyEnd, [&] { return &p.scores.score_stride; });
  misaligned(kScores, "args->scores", &p.scores, &ic_scores_args::scores, 4);
  workspace(kScores, "args->workspace", &p.scores.workspace, &p.scores.workspace_size);
}

TEST_F(BadInputOperation, Queries) {
  SmallProblem &p = problem;
  for (const Operation operation : {kFull, kScores}) {
    stride(operation, "args->queries->q_row_stride", 4 * 32, [&] { return &p.queries.q_row_stride; });
    stride(operation, "args->queries->w_row_stride", 4, [&] { return &p.queries.w_row_stride; });
    stride(operation, "args->queries->q_scale_row_stride", 4, [&] { return &p.queries.q_scale_row_stride; });
    misaligned(operation, "args->queries->q", &p.queries, &ic_queries::q, 4);
    misaligned(operation, "args->queries->w", &p.queries, &ic_queries::w, 4);
    misaligned(operation, "args->queries->q_scale", &p.queries, &ic_queries::q_scale, 4);
  }
}

TEST_F(BadInputOperation, Forward) {
  SmallProblem &p = problem;
  workspace(kFull, "args->workspace", &p.full.workspace, &p.full.workspace_size);
  workspace(kShared, "args->workspace", &p.shared.workspace, &p.shared.workspace_size);
  misaligned(kFull, "args->hint", &p.full, &ic_forward_args::hint, 4);
}

TEST_F(BadInputOperation, NewKeys) {
  SmallProblem &p = problem;
  expect_invalid(kFull, {"args->new_keys->count is -1", "0 to"}, [&] { p.new_keys.count = -1; });
  expect_invalid(kFull, {"args->new_keys->scales", "fp32 keys have none"}, [&] { p.new_keys.scales = p.given_scores; });
  stride(kFull, "args->new_keys->key_stride_bytes", 32 * 4, [&] { return &p.new_keys.key_stride_bytes; });
  expect(kFull, IC_ERROR_MISALIGNED, {"args->new_keys->key_stride_bytes is 130", "multiple of 4"},
         [&] { p.new_keys.key_stride_bytes = 130; });
  misaligned(kFull, "args->new_keys->keys", &p.new_keys, &ic_new_keys::keys, 4);
  misaligned(kFull, "args->new_keys->slots", &p.new_keys, &ic_new_keys::slots, 8);
  for (const int64_t slot : {int64_t{-2}, int64_t{96}, INT64_MAX, INT64_MIN}) {
    const std::string is = "slots[2] is " + std::to_string(slot);
    expect(kFull, IC_ERROR_OUT_OF_RANGE, {is.c_str(), "-1 (skip)", "0 to 95", "args->keys"},
           [&] { p.slots[2] = slot; });
    expect(kShared, IC_ERROR_OUT_OF_RANGE, {is.c_str()}, [&] {
      p.shared.keys = &p.keys;
      p.shared.new_keys = &p.new_keys;
      p.slots[2] = slot;
    });
  }
}

TEST_F(BadInputOperation, AttentionInsideOfForward) {
  SmallProblem &p = problem;
  for (const Operation operation : {kFull, kShared}) {
    stride(operation, "args->attention->q_row_stride", 2 * 32, [&] { return &p.attend.q_row_stride; });
    stride(operation, "args->attention->out_row_stride", 2 * 16, [&] { return &p.attend.out_row_stride; });
    stride(operation, "args->attention->lse_row_stride", 2, [&] { return &p.attend.lse_row_stride; });
    misaligned(operation, "args->attention->q", &p.attend, &ic_attention_args::q, 4);
    misaligned(operation, "args->attention->out", &p.attend, &ic_attention_args::out, 4);
    misaligned(operation, "args->attention->sink", &p.attend, &ic_attention_args::sink, 4);
    misaligned(operation, "args->attention->lse", &p.attend, &ic_attention_args::lse, 4);
  }
}

TEST_F(BadInputOperation, AttentionAlone) {
  SmallProblem &p = problem;
  workspace(kAttend, "workspace", &p.attend_workspace, &p.attend_workspace_size);
  for (const int32_t begin : {-1, 6})
    EXPECT_TRUE(refuses(p, kInvalid, {"row_begin is ", std::to_string(begin).c_str(), "0 to 5"}, [&] {
      return ic_attention_run(p.attention, &p.batch, begin, &p.given, &p.attend, p.attend_workspace,
                              p.attend_workspace_size, nullptr);
    }));
  EXPECT_TRUE(refuses(p, kInvalid, {"indices->num_rows is 5", "row 1", "the batch has 5"}, [&] {
    return ic_attention_run(p.attention, &p.batch, 1, &p.given, &p.attend, p.attend_workspace, p.attend_workspace_size,
                            nullptr);
  }));
  expect_invalid(kAttend, {"args->kv->block_table is 2", "the batch has 2"}, [&] { p.kv.block_table = 2; });
  // Slots need no batch, but then there is no block table either.
  EXPECT_TRUE(refuses(p, kInvalid, {"args->kv->block_table", "0 block tables"}, [&] {
    p.given.kind = IC_INDEX_SLOT;
    return ic_attention_run(p.attention, nullptr, 0, &p.given, &p.attend, p.attend_workspace, p.attend_workspace_size,
                            nullptr);
  }));
}

TEST_F(BadInputOperation, AttentionMass) {
  SmallProblem &p = problem;
  workspace(kMass, "workspace", &p.mass_workspace, &p.mass_workspace_size);
  for (const int32_t begin : {-1, 6})
    EXPECT_TRUE(refuses(p, kInvalid, {"row_begin is ", std::to_string(begin).c_str(), "0 to 5"}, [&] {
      return ic_attention_mass(p.attention, &p.batch, begin, &p.given, &p.mass, p.mass_workspace, p.mass_workspace_size,
                               nullptr);
    }));
  EXPECT_TRUE(refuses(p, kInvalid, {"indices->num_rows is 5", "row 1", "the batch has 5"}, [&] {
    return ic_attention_mass(p.attention, &p.batch, 1, &p.given, &p.mass, p.mass_workspace, p.mass_workspace_size,
                             nullptr);
  }));
  EXPECT_TRUE(refuses(p, kInvalid, {"args->kv->block_table", "0 block tables"}, [&] {
    p.given.kind = IC_INDEX_SLOT;
    return ic_attention_mass(p.attention, nullptr, 0, &p.given, &p.mass, p.mass_workspace, p.mass_workspace_size,
                             nullptr);
  }));
  expect_invalid(kMass, {"args->kv->block_table is 2", "the batch has 2"}, [&] { p.kv.block_table = 2; });
  stride(kMass, "args->q_row_stride", 2 * 32, [&] { return &p.mass.q_row_stride; });
  stride(kMass, "args->mass_row_stride", 8, [&] { return &p.mass.mass_row_stride; });
  misaligned(kMass, "args->q", &p.mass, &ic_mass_args::q, 4);
  misaligned(kMass, "args->sink", &p.mass, &ic_mass_args::sink, 4);
  misaligned(kMass, "args->mass", &p.mass, &ic_mass_args::mass, 4);
}

TEST_F(BadInputOperation, ViewsFromAnEngine) {
  SmallProblem &p = problem;
  struct User {
    Operation operation;
    std::string named;
  };
  for (const User &user : {User{kAttend, "indices"}, User{kMass, "indices"}, User{kOverlap, "a"}}) {
    const auto name = [&](const char *field) { return user.named + "->" + field; };
    expect_invalid(user.operation, {name("num_rows is -1").c_str(), "0 to"}, [&] { p.given.num_rows = -1; });
    for (const int32_t k : {0, -1, (1 << 24) + 1})
      expect_invalid(user.operation, {(name("k is ") + std::to_string(k)).c_str(), "1 to 16777216"},
                     [&] { p.given.k = k; });
    for (const int64_t row_stride : {int64_t{7}, int64_t{0}, int64_t{-1}, INT64_MAX})
      expect_invalid(user.operation, {(name("row_stride is ") + std::to_string(row_stride)).c_str(), "8 to"},
                     [&] { p.given.row_stride = row_stride; });
    for (const int32_t kind : {0, 3, -1})
      expect_invalid(user.operation, {(name("kind is ") + std::to_string(kind)).c_str(), "IC_INDEX_LOGICAL"},
                     [&] { p.given.kind = kind; });
    misaligned(user.operation, name("indices").c_str(), &p.given, &ic_index_view::indices, 4);
    misaligned(user.operation, name("lengths").c_str(), &p.given, &ic_index_view::lengths, 4);
  }
}

TEST_F(BadInputOperation, Select) {
  SmallProblem &p = problem;
  for (const int32_t rows : {-1, std::numeric_limits<int32_t>::min()})
    expect_invalid(kSelect, {"args->num_rows is ", std::to_string(rows).c_str(), "0 to"},
                   [&] { p.select.num_rows = rows; });
  for (const int32_t end : {-1, (1 << 24) + 1})
    expect_invalid(kSelect, {"args->max_end is ", std::to_string(end).c_str(), "0 to 16777216"},
                   [&] { p.select.max_end = end; });
  stride(kSelect, "args->score_stride", SmallProblem::kMaxKeyEnd, [&] { return &p.select.score_stride; });
  stride(kSelect, "args->index_stride", SmallProblem::kPadded, [&] { return &p.select.index_stride; });
  misaligned(kSelect, "args->scores", &p.select, &ic_select_args::scores, 4);
  misaligned(kSelect, "args->begin", &p.select, &ic_select_args::begin, 4);
  misaligned(kSelect, "args->end", &p.select, &ic_select_args::end, 4);
  misaligned(kSelect, "args->indices", &p.select, &ic_select_args::indices, 4);
  misaligned(kSelect, "args->lengths", &p.select, &ic_select_args::lengths, 4);
  misaligned(kSelect, "args->selected_scores", &p.select, &ic_select_args::selected_scores, 4);
  workspace(kSelect, "args->workspace", &p.select.workspace, &p.select.workspace_size);
  expect(kSelect, IC_ERROR_OUT_OF_RANGE, {"end[2] is 49", "max_end is 48"}, [&] { p.select_end[2] = 49; });
  expect(kSelect, IC_ERROR_OUT_OF_RANGE, {"begin[4] is -1", "at least 0"}, [&] { p.select_begin[4] = -1; });
}

TEST_F(BadInputOperation, Merge) {
  SmallProblem &p = problem;
  expect_invalid(kMerge, {"args->num_rows is -1", "0 to"}, [&] { p.merge.num_rows = -1; });
  for (const int32_t parts : {0, -1, 1025})
    expect_invalid(kMerge, {"args->num_parts is ", std::to_string(parts).c_str(), "1 to 1024"},
                   [&] { p.merge.num_parts = parts; });
  stride(kMerge, "args->in_stride", SmallProblem::kPadded, [&] { return &p.merge.in_stride; });
  stride(kMerge, "args->in_part_stride", 5 * SmallProblem::kPadded, [&] { return &p.merge.in_part_stride; });
  stride(kMerge, "args->index_stride", SmallProblem::kPadded, [&] { return &p.merge.index_stride; });
  misaligned(kMerge, "args->in_indices", &p.merge, &ic_merge_args::in_indices, 4);
  misaligned(kMerge, "args->in_scores", &p.merge, &ic_merge_args::in_scores, 4);
  misaligned(kMerge, "args->in_lengths", &p.merge, &ic_merge_args::in_lengths, 4);
  misaligned(kMerge, "args->indices", &p.merge, &ic_merge_args::indices, 4);
  misaligned(kMerge, "args->lengths", &p.merge, &ic_merge_args::lengths, 4);
  misaligned(kMerge, "args->selected_scores", &p.merge, &ic_merge_args::selected_scores, 4);
  workspace(kMerge, "args->workspace", &p.merge.workspace, &p.merge.workspace_size);
}

TEST_F(BadInputOperation, Preparation) {
  SmallProblem &p = problem;
  struct User {
    Operation operation;
    ic_prepare_args *args;
    int64_t dense;
  };
  for (const User &user :
       {User{kPrepareQueries, &p.prepare_queries, 4 * 32}, User{kPrepareKeys, &p.prepare_keys, 32}}) {
    ic_prepare_args *args = user.args;
    expect_invalid(user.operation, {"args->count is -1", "0 to"}, [&] { args->count = -1; });
    for (const int32_t dtype : {0, IC_DTYPE_E4M3, IC_DTYPE_FP4, -1})
      expect_invalid(user.operation, {"args->x_dtype is ", std::to_string(dtype).c_str(), "IC_DTYPE_F32"},
                     [&] { args->x_dtype = dtype; });
    for (const int32_t dim : {-2, 34, 64})
      expect_invalid(user.operation, {"args->rope_dim is ", std::to_string(dim).c_str(), "0 to 32"},
                     [&] { args->rope_dim = dim; });
    expect_invalid(user.operation, {"args->rope_dim is 15", "even"}, [&] { args->rope_dim = 15; });
    for (const int32_t positions : {0, -1})
      expect_invalid(user.operation, {"args->num_positions is ", std::to_string(positions).c_str(), "1 to"},
                     [&] { args->num_positions = positions; });
    expect_invalid(user.operation, {"IC_PREPARE_UE8M0", "fp32"}, [&] { args->flags |= IC_PREPARE_UE8M0; });
    stride(user.operation, "args->x_row_stride", user.dense, [&] { return &args->x_row_stride; });
    misaligned(user.operation, "args->x", args, &ic_prepare_args::x, 4);
    misaligned(user.operation, "args->positions", args, &ic_prepare_args::positions, 4);
    misaligned(user.operation, "args->cos_table", args, &ic_prepare_args::cos_table, 4);
    misaligned(user.operation, "args->sin_table", args, &ic_prepare_args::sin_table, 4);
    for (const int32_t position : {-1, 64, std::numeric_limits<int32_t>::max()})
      expect(user.operation, IC_ERROR_OUT_OF_RANGE, {"positions[1] is ", std::to_string(position).c_str(), "0 to 63"},
             [&] { p.positions[1] = position; });
  }
}

TEST_F(BadInputOperation, PreparationOfQueries) {
  SmallProblem &p = problem;
  ic_prepare_args &args = p.prepare_queries;
  stride(kPrepareQueries, "args->q_out_row_stride", 4 * 32, [&] { return &args.q_out_row_stride; });
  misaligned(kPrepareQueries, "args->q_out", &args, &ic_prepare_args::q_out, 4);
  expect_invalid(kPrepareQueries, {"args->q_scale_out"}, [&] { args.q_scale_out = p.merge_scores; });
  expect_invalid(kPrepareQueries, {"args->norm_weight"}, [&] { args.norm_weight = p.prepare_keys.norm_weight; });
  expect_invalid(kPrepareQueries, {"args->norm_bias"}, [&] { args.norm_bias = p.prepare_keys.norm_bias; });
  expect_invalid(kPrepareQueries, {"args->norm_eps is 1e-06", "0"}, [&] { args.norm_eps = 1e-6f; });
  expect_invalid(kPrepareQueries, {"args->pool"}, [&] { args.pool = &p.prepared; });
  expect_invalid(kPrepareQueries, {"args->slots"}, [&] { args.slots = p.prepared_slots; });
  expect_invalid(kPrepareQueries, {"args->page_tokens is 64", "0 to 0"}, [&] { args.page_tokens = 64; });
}

TEST_F(BadInputOperation, PreparationOfKeys) {
  SmallProblem &p = problem;
  ic_prepare_args &args = p.prepare_keys;
  expect_invalid(kPrepareKeys, {"args->q_out"}, [&] { args.q_out = p.prepare_queries.q_out; });
  expect_invalid(kPrepareKeys, {"args->q_scale_out"}, [&] { args.q_scale_out = p.merge_scores; });
  expect_invalid(kPrepareKeys, {"args->q_out_row_stride is 128", "0 to 0"}, [&] { args.q_out_row_stride = 128; });
  for (const float eps : {0.0f, -1e-6f, std::numeric_limits<float>::infinity(), std::nanf("")})
    expect_invalid(kPrepareKeys, {"args->norm_eps is ", "finite and positive"}, [&] { args.norm_eps = eps; });
  misaligned(kPrepareKeys, "args->norm_weight", &args, &ic_prepare_args::norm_weight, 4);
  misaligned(kPrepareKeys, "args->norm_bias", &args, &ic_prepare_args::norm_bias, 4);
  misaligned(kPrepareKeys, "args->slots", &args, &ic_prepare_args::slots, 8);
  expect_invalid(kPrepareKeys, {"args->page_tokens is 16", "contiguous"}, [&] { args.page_tokens = 16; });
  for (const int32_t tokens : {0, 2, 48, 256, -64})
    expect_invalid(kPrepareKeys, {"args->page_tokens is ", std::to_string(tokens).c_str(), "1, 16, 32, 64, 128"}, [&] {
      args.pool = &p.keys;
      args.page_tokens = tokens;
    });
  for (const int64_t slot : {int64_t{-2}, int64_t{8}, INT64_MAX})
    expect(kPrepareKeys, IC_ERROR_OUT_OF_RANGE, {"slots[0] is ", std::to_string(slot).c_str(), "0 to 7", "args->pool"},
           [&] { p.prepared_slots[0] = slot; });
}

TEST_F(BadInputOperation, Remap) {
  SmallProblem &p = problem;
  for (const int32_t layout : {0, 3, -1})
    expect_invalid(kRemap, {"args->layout is ", std::to_string(layout).c_str(), "IC_LAYOUT_PAGED"},
                   [&] { p.remap.layout = layout; });
  for (const int32_t table : {-1, 2, 8})
    expect_invalid(kRemap, {"args->block_table is ", std::to_string(table).c_str(), "the batch has 2"},
                   [&] { p.remap.block_table = table; });
  expect_invalid(kRemap, {"args->block_table", "contiguous", "0 to 0"}, [&] {
    p.remap.layout = IC_LAYOUT_CONTIGUOUS;
    p.remap.block_table = 1;
  });
  stride(kRemap, "args->row_stride", SmallProblem::kPadded, [&] { return &p.remap.row_stride; });
  misaligned(kRemap, "args->slots", &p.remap, &ic_remap_args::slots, 4);
  misaligned(kRemap, "args->lengths", &p.remap, &ic_remap_args::lengths, 4);
}

TEST_F(BadInputOperation, Compact) {
  SmallProblem &p = problem;
  for (const int32_t rows : {-1, 4, 6})
    expect_invalid(kCompact, {"args->num_rows is ", std::to_string(rows).c_str(), "5 rows"},
                   [&] { p.compact.num_rows = rows; });
  misaligned(kCompact, "args->rows", &p.compact, &ic_compact_args::rows, 4);
  workspace(kCompact, "args->workspace", &p.compact.workspace, &p.compact.workspace_size);
  for (const int32_t row : {-2, 5, std::numeric_limits<int32_t>::max()})
    expect(kCompact, IC_ERROR_OUT_OF_RANGE, {"rows[3] is ", std::to_string(row).c_str(), "-1 (empty)", "0 to 4"},
           [&] { p.compact_rows[3] = row; });
}

TEST_F(BadInputOperation, Overlap) {
  SmallProblem &p = problem;
  EXPECT_TRUE(refuses(p, kInvalid, {"a has 5 rows", "b has 4"}, [&] {
    ic_index_view fewer = p.given;
    fewer.num_rows = 4;
    return ic_index_overlap(p.context, &p.given, &fewer, &p.overlap, nullptr);
  }));
  for (const bool first : {true, false})
    EXPECT_TRUE(refuses(p, kInvalid, {first ? "a holds slots" : "b holds slots", "logical"}, [&] {
      ic_index_view slots = p.given;
      slots.kind = IC_INDEX_SLOT;
      return ic_index_overlap(p.context, first ? &slots : &p.given, first ? &p.given : &slots, &p.overlap, nullptr);
    }));
  misaligned(kOverlap, "out->intersection", &p.overlap, &ic_overlap_args::intersection, 4);
  misaligned(kOverlap, "out->recall", &p.overlap, &ic_overlap_args::recall, 4);
  misaligned(kOverlap, "out->jaccard", &p.overlap, &ic_overlap_args::jaccard, 4);
  misaligned(kOverlap, "out->mass", &p.overlap, &ic_overlap_args::mass, 4);
  misaligned(kOverlap, "out->mass_recall", &p.overlap, &ic_overlap_args::mass_recall, 4);
  stride(kOverlap, "out->mass_row_stride", 8, [&] { return &p.overlap.mass_row_stride; });
}

TEST_F(BadInputOperation, Export) {
  SmallProblem &p = problem;
  const std::string less = std::to_string(p.block_bytes - 1), all = std::to_string(p.block_bytes);
  for (const int32_t location : {0, 3, -1})
    EXPECT_TRUE(refuses(p, kInvalid, {"location is ", std::to_string(location).c_str(), "IC_MEMORY_HOST"}, [&] {
      return ic_cache_export(p.cache, 0, p.export_flags, location, p.exported, p.block_bytes, nullptr);
    }));
  EXPECT_TRUE(refuses(p, IC_ERROR_BUFFER_TOO_SMALL, {"buffer has ", less.c_str(), all.c_str()}, [&] {
    return ic_cache_export(p.cache, 0, p.export_flags, IC_MEMORY_HOST, p.exported, p.block_bytes - 1, nullptr);
  }));
  EXPECT_TRUE(refuses(p, IC_ERROR_MISALIGNED, {"buffer", "multiple of 8"}, [&] {
    return ic_cache_export(p.cache, 0, 0, IC_MEMORY_HOST, p.exported + 4, p.block_bytes - 4, nullptr);
  }));
  for (const int32_t clear : {-1, 2})
    EXPECT_TRUE(refuses(p, kInvalid, {"clear is ", std::to_string(clear).c_str(), "0 to 1"},
                        [&] { return ic_cache_faults(p.cache, clear, &p.faults, nullptr); }));
}

class BadInputWithoutScores : public BadInputOperation {
 protected:
  BadInputWithoutScores() : BadInputOperation({.cache_flags = 0}) {}
};

TEST_F(BadInputWithoutScores, ExportOfScoresThatAreNotKept) {
  SmallProblem &p = problem;
  EXPECT_TRUE(refuses(p, kInvalid, {"IC_EXPORT_SCORES", "without IC_CACHE_SCORES"}, [&] {
    return ic_cache_export(p.cache, 0, IC_EXPORT_SCORES, IC_MEMORY_HOST, p.exported, p.block_bytes, nullptr);
  }));
}

class BadInputE4m3 : public BadInputOperation {
 protected:
  BadInputE4m3() : BadInputOperation({.dtype = IC_DTYPE_E4M3}) {}
};

TEST_F(BadInputE4m3, Operations) {
  SmallProblem &p = problem;
  misaligned(kPrepareQueries, "args->q_scale_out", &p.prepare_queries, &ic_prepare_args::q_scale_out, 4);
  stride(kFull, "args->new_keys->key_stride_bytes", 32, [&] { return &p.new_keys.key_stride_bytes; });
  EXPECT_TRUE(accepts(p, [&] {
    p.prepare_queries.flags |= IC_PREPARE_UE8M0;
    return p.call_prepare_queries();
  }));
  for (const int64_t slot : {int64_t{-2}, int64_t{96}})
    expect(kFull, IC_ERROR_OUT_OF_RANGE, {"slots[0] is ", std::to_string(slot).c_str(), "0 to 95"},
           [&] { p.slots[0] = slot; });
}

class BadInputWithThreads : public BadInputOperation {
 protected:
  BadInputWithThreads() : BadInputOperation({.threads = 3}) {}
};

TEST_F(BadInputWithThreads, Workspaces) {
  SmallProblem &p = problem;
  workspace(kFull, "args->workspace", &p.full.workspace, &p.full.workspace_size);
  workspace(kScores, "args->workspace", &p.scores.workspace, &p.scores.workspace_size);
  workspace(kSelect, "args->workspace", &p.select.workspace, &p.select.workspace_size);
  workspace(kMerge, "args->workspace", &p.merge.workspace, &p.merge.workspace_size);
  workspace(kAttend, "workspace", &p.attend_workspace, &p.attend_workspace_size);
}

class BadInputWithEpoch : public BadInputOperation {
 protected:
  BadInputWithEpoch() : BadInputOperation({.epoch = true}) {}
};

TEST_F(BadInputWithEpoch, Workspaces) {
  SmallProblem &p = problem;
  workspace(kFull, "args->workspace", &p.full.workspace, &p.full.workspace_size);
  workspace(kShared, "args->workspace", &p.shared.workspace, &p.shared.workspace_size);
}

}  // namespace
}  // namespace ic::test
