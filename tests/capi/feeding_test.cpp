// SPDX-License-Identifier: Apache-2.0
// The same q, k, w fed in different ways through a paged cache: row by row, in odd chunks, as one ragged batch, and as
// a decode part and a prefill part of one forward. Scores, selections and their scores have the same bits.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "indexcache.h"
#include "tests/capi/toy_engine.h"

namespace ic::test {
namespace {

constexpr int32_t kHeads = 3;
constexpr int32_t kHeadDim = 32;
constexpr int32_t kK = 24;
constexpr int32_t kLengths[] = {150, 1, 91};  // keys of each sequence
constexpr int32_t kSeqs = 3;
constexpr int32_t kMaxLength = 150;
constexpr int32_t kMaxRows = 150 + 1 + 91;

struct Format {
  int32_t dtype;
  int32_t bytes;
  int32_t page_tokens;
  const char *name;
};

/// Indexer inputs of one sequence; row and key p stand at position p.
struct Sequence {
  std::vector<uint8_t> q, keys;
  std::vector<float> w, key_scales;
};

std::vector<Sequence> make_sequences(const Format &format) {
  std::mt19937 random(7);
  const auto fill = [&](size_t count) {
    std::vector<uint8_t> bytes(count * static_cast<size_t>(format.bytes));
    for (size_t i = 0; i < count; ++i) {
      // Multiples of a quarter make ties; the others make sums that depend on their order.
      const float coarse = static_cast<float>(static_cast<int>(random() % 9) - 4) * 0.25F;
      const float fine = random() % 4 == 0 ? static_cast<float>(random() % 1000) * 1e-3F : 0.0F;
      const auto bits = std::bit_cast<uint32_t>(coarse + fine);
      const auto e4m3 = static_cast<uint32_t>(random() % 2 << 7 | random() % 0x70);
      const uint32_t element = format.bytes == 4 ? bits : format.bytes == 2 ? bits >> 16 : e4m3;
      std::memcpy(bytes.data() + i * static_cast<size_t>(format.bytes), &element, static_cast<size_t>(format.bytes));
    }
    return bytes;
  };
  std::vector<Sequence> sequences;
  for (const int32_t length : kLengths) {
    const auto rows = static_cast<size_t>(length);
    Sequence sequence;
    sequence.q = fill(rows * kHeads * kHeadDim);
    sequence.keys = fill(rows * kHeadDim);
    for (size_t i = 0; i < rows * kHeads; ++i) {
      sequence.w.push_back(static_cast<float>(static_cast<int>(random() % 201) - 100) / 77.0F);
    }
    for (size_t i = 0; i < rows; ++i) sequence.key_scales.push_back(static_cast<float>(random() % 100 + 1) / 93.0F);
    sequences.push_back(std::move(sequence));
  }
  return sequences;
}

/// Consecutive rows of one sequence.
struct Piece {
  int32_t sequence, begin, count;
};

/// One forward: its rows are those of all pieces; it is run in parts of whole pieces, in the order given.
struct Step {
  std::vector<Piece> pieces;
  std::vector<size_t> part_ends;  // exclusive piece numbers; empty = one part
  bool last_part_first = false;
};

/// What a row came to, as bits.
struct RowResult {
  std::vector<uint32_t> scores, selected_scores;
  std::vector<int32_t> indices;
  bool operator==(const RowResult &) const = default;
};

/// Feeds steps through one cache and keeps what every row came to.
class Feeder {
 public:
  Feeder(const Format &format, const std::vector<Sequence> &sequences, int32_t threads, bool forwards_pages)
      : format_(format), sequences_(sequences) {
    create_handles(threads);
    blocks_ = (kMaxLength + format.page_tokens - 1) / format.page_tokens;
    pages_.resize(static_cast<size_t>(kSeqs * blocks_));
    std::iota(pages_.begin(), pages_.end(), 0);
    if (!forwards_pages) std::shuffle(pages_.begin(), pages_.end(), std::mt19937(3));
    page_bytes_ = format.page_tokens * (kHeadDim * format.bytes + (format.dtype == IC_DTYPE_E4M3 ? 4 : 0));
    pool_.resize(pages_.size() * static_cast<size_t>(page_bytes_), 0);
    table_ = {pages_.data(), blocks_, blocks_, format.page_tokens};
    size_t forward = 0;
    size_t scores = 0;
    EXPECT_IC_OK(ic_forward_workspace_size(cache_.get(), kMaxRows, kMaxLength, &forward));
    EXPECT_IC_OK(ic_indexer_scores_workspace_size(indexer_.get(), kMaxRows, kMaxLength, &scores));
    workspace_.get(std::max(forward, scores));
    for (const int32_t length : kLengths) results_.emplace_back(static_cast<size_t>(length));
  }

  void feed(const Step &step) {
    gather(step);
    ic_batch batch = IC_BATCH_INIT;
    batch.num_rows = static_cast<int32_t>(row_seq_.size());
    batch.num_seqs = kSeqs;
    batch.max_key_end = *std::max_element(key_end_.begin(), key_end_.end());
    batch.num_block_tables = 1;
    batch.block_tables = &table_;
    batch.row_seq = row_seq_.data();
    batch.key_end = key_end_.data();
    EXPECT_IC_OK(ic_cache_begin(cache_.get(), &batch));

    std::vector<std::pair<int32_t, int32_t>> parts;  // first row, rows
    int32_t row = 0;
    int32_t part_begin = 0;
    for (size_t piece = 0; piece < step.pieces.size(); ++piece) {
      row += step.pieces[piece].count;
      const bool ends = std::count(step.part_ends.begin(), step.part_ends.end(), piece + 1) != 0;
      if (ends || piece + 1 == step.pieces.size()) {
        parts.emplace_back(part_begin, row - part_begin);
        part_begin = row;
      }
    }
    if (step.last_part_first) std::reverse(parts.begin(), parts.end());
    for (const auto &[first, count] : parts) run_part(first, count);
    keep_results(batch);
  }

  const std::vector<std::vector<RowResult>> &results() const { return results_; }

 private:
  void create_handles(int32_t threads) {
    ic_context_desc context = IC_CONTEXT_DESC_INIT;
    context.backend = IC_BACKEND_CPU;
    context.num_threads = threads;
    ic_context *new_context = nullptr;
    EXPECT_IC_OK(ic_context_create(&context, &new_context));
    context_.reset(new_context);
    ic_schedule_desc schedule = IC_SCHEDULE_DESC_INIT;
    schedule.num_layers = 2;
    schedule.pattern = "FS";
    ic_schedule *new_schedule = nullptr;
    EXPECT_IC_OK(ic_schedule_create(&schedule, &new_schedule));
    schedule_.reset(new_schedule);
    ic_indexer_desc indexer = {sizeof(ic_indexer_desc), kHeads, kHeadDim, format_.dtype, 0};
    ic_indexer *new_indexer = nullptr;
    EXPECT_IC_OK(ic_indexer_create(context_.get(), &indexer, &new_indexer));
    indexer_.reset(new_indexer);
    ic_topk_desc topk = IC_TOPK_DESC_INIT;
    topk.k = kK;
    ic_topk *new_topk = nullptr;
    EXPECT_IC_OK(ic_topk_create(context_.get(), &topk, &new_topk));
    topk_.reset(new_topk);
    ic_cache_desc cache = IC_CACHE_DESC_INIT;
    cache.schedule = schedule_.get();
    cache.indexer = indexer_.get();
    cache.topk = topk_.get();
    cache.max_rows = kMaxRows;
    cache.flags = IC_CACHE_SCORES;
    ic_cache *new_cache = nullptr;
    EXPECT_IC_OK(ic_cache_create(context_.get(), &cache, &new_cache));
    cache_.reset(new_cache);
  }

  /// Puts the rows of a step, and their keys, one behind the other.
  void gather(const Step &step) {
    row_seq_.clear(), key_end_.clear(), slots_.clear(), q_.clear(), keys_.clear(), w_.clear(), key_scales_.clear();
    for (const Piece &piece : step.pieces) {
      const Sequence &from = sequences_[static_cast<size_t>(piece.sequence)];
      for (int32_t position = piece.begin; position < piece.begin + piece.count; ++position) {
        row_seq_.push_back(piece.sequence);
        key_end_.push_back(position + 1);
        const int32_t block = piece.sequence * blocks_ + position / format_.page_tokens;
        const int64_t page = pages_[static_cast<size_t>(block)];
        slots_.push_back(page * format_.page_tokens + position % format_.page_tokens);
        const auto append = [&](auto *to, const auto &source, int32_t width) {
          const auto begin = source.begin() + static_cast<std::ptrdiff_t>(position) * width;
          to->insert(to->end(), begin, begin + width);
        };
        append(&q_, from.q, kHeads * kHeadDim * format_.bytes);
        append(&keys_, from.keys, kHeadDim * format_.bytes);
        append(&w_, from.w, kHeads);
        append(&key_scales_, from.key_scales, 1);
      }
    }
  }

  void run_part(int32_t first, int32_t count) {
    const ic_queries queries = queries_at(first);
    const ic_pool pool = key_pool();
    ic_new_keys new_keys = IC_NEW_KEYS_INIT;
    new_keys.keys = keys_.data() + int64_t{first} * kHeadDim * format_.bytes;
    new_keys.scales = format_.dtype == IC_DTYPE_E4M3 ? key_scales_.data() + first : nullptr;
    new_keys.slots = slots_.data() + first;
    new_keys.count = count;
    ic_forward_args args = IC_FORWARD_ARGS_INIT;
    args.layer = 0;
    args.row_begin = first;
    args.row_count = count;
    args.queries = &queries;
    args.keys = &pool;
    args.new_keys = &new_keys;
    args.workspace = workspace_.get(0);
    args.workspace_size = workspace_.size();
    EXPECT_IC_OK(ic_forward(cache_.get(), &args, nullptr, nullptr));
  }

  void keep_results(const ic_batch &batch) {
    ic_forward_args shared = IC_FORWARD_ARGS_INIT;  // what the Shared layer is given counts
    shared.layer = 1;
    shared.row_count = IC_ALL_ROWS;
    ic_index_view view = IC_INDEX_VIEW_INIT;
    EXPECT_IC_OK(ic_forward(cache_.get(), &shared, &view, nullptr));
    ASSERT_EQ(view.num_rows, batch.num_rows);
    ASSERT_NE(view.scores, nullptr);

    std::vector<float> scores(static_cast<size_t>(batch.num_rows) * static_cast<size_t>(batch.max_key_end));
    const ic_queries queries = queries_at(0);
    const ic_pool pool = key_pool();
    ic_scores_args args = IC_SCORES_ARGS_INIT;
    args.row_count = IC_ALL_ROWS;
    args.queries = &queries;
    args.keys = &pool;
    args.scores = scores.data();
    args.workspace = workspace_.get(0);
    args.workspace_size = workspace_.size();
    EXPECT_IC_OK(ic_indexer_scores(indexer_.get(), &batch, &args, nullptr));

    for (int32_t row = 0; row < batch.num_rows; ++row) {
      const int32_t end = key_end_[static_cast<size_t>(row)];
      const auto sequence = static_cast<size_t>(row_seq_[static_cast<size_t>(row)]);
      RowResult &result = results_[sequence][static_cast<size_t>(end - 1)];
      ASSERT_TRUE(result.indices.empty()) << "row fed twice";
      const float *row_scores = scores.data() + int64_t{row} * batch.max_key_end;
      for (int32_t i = 0; i < end; ++i) result.scores.push_back(std::bit_cast<uint32_t>(row_scores[i]));
      ASSERT_EQ(view.lengths[row], std::min(end, kK));
      for (int32_t i = 0; i < view.lengths[row]; ++i) {
        const int32_t index = view.indices[row * view.row_stride + i];
        ASSERT_TRUE(index >= 0 && index < end);
        result.indices.push_back(index);
        result.selected_scores.push_back(std::bit_cast<uint32_t>(view.scores[row * view.row_stride + i]));
        EXPECT_EQ(result.selected_scores.back(), result.scores[static_cast<size_t>(index)]);
      }
    }
  }

  ic_queries queries_at(int32_t row) const {
    ic_queries queries = IC_QUERIES_INIT;
    queries.q = q_.data() + int64_t{row} * kHeads * kHeadDim * format_.bytes;
    queries.w = w_.data() + int64_t{row} * kHeads;
    return queries;
  }

  ic_pool key_pool() {
    ic_pool pool = IC_POOL_INIT;
    pool.data = pool_.data();
    pool.stride_bytes = page_bytes_;
    pool.capacity = kSeqs * blocks_;
    pool.layout = IC_LAYOUT_PAGED;
    return pool;
  }

  Format format_;
  const std::vector<Sequence> &sequences_;
  Context context_;
  ScheduleHandle schedule_;
  Indexer indexer_;
  TopK topk_;
  Cache cache_;
  int32_t blocks_ = 0;
  int64_t page_bytes_ = 0;
  std::vector<int32_t> pages_;
  std::vector<uint8_t> pool_;
  ic_block_table table_ = IC_BLOCK_TABLE_INIT;
  Workspace workspace_;
  std::vector<int32_t> row_seq_, key_end_;
  std::vector<int64_t> slots_;
  std::vector<uint8_t> q_, keys_;
  std::vector<float> w_, key_scales_;
  std::vector<std::vector<RowResult>> results_;  // per sequence and position
};

std::vector<Step> one_ragged_batch() { return {{{{2, 0, 91}, {0, 0, 150}, {1, 0, 1}}, {}}}; }

std::vector<Step> row_by_row() {
  std::vector<Step> steps;
  for (int32_t sequence = 0; sequence < kSeqs; ++sequence) {
    for (int32_t p = 0; p < kLengths[sequence]; ++p) steps.push_back({{{sequence, p, 1}}, {}});
  }
  return steps;
}

std::vector<Step> odd_chunks() {
  std::vector<Step> steps;
  const int32_t sizes[] = {1, 31, 33, 2, 64, 7, 65};
  for (int32_t sequence = 0; sequence < kSeqs; ++sequence) {
    size_t next = 0;
    for (int32_t p = 0; p < kLengths[sequence];) {
      const int32_t count = std::min(sizes[next++ % std::size(sizes)], kLengths[sequence] - p);
      steps.push_back({{{sequence, p, count}}, {}});
      p += count;
    }
  }
  return steps;
}

/// Sequence 0 and 2 decode one token each while the rest of a prompt is prefilled, as two parts of one forward.
std::vector<Step> decode_beside_prefill(bool prefill_first) {
  return {
      {{{0, 0, 148}, {2, 0, 30}}, {}},
      {{{0, 148, 1}, {1, 0, 1}, {2, 30, 60}}, {2}, prefill_first},
      {{{2, 90, 1}, {0, 149, 1}}, {}},
  };
}

class Feeding : public testing::TestWithParam<Format> {};

TEST_P(Feeding, EveryWayGivesTheSameBits) {
  const std::vector<Sequence> sequences = make_sequences(GetParam());
  const auto run = [&](const std::vector<Step> &steps, int32_t threads, bool forwards_pages) {
    Feeder feeder(GetParam(), sequences, threads, forwards_pages);
    for (const Step &step : steps) feeder.feed(step);
    return feeder.results();
  };
  const auto expected = run(one_ragged_batch(), 1, true);
  for (const auto &sequence : expected) {
    for (const RowResult &row : sequence) EXPECT_FALSE(row.indices.empty());
  }
  EXPECT_TRUE(run(one_ragged_batch(), 3, false) == expected);
  EXPECT_TRUE(run(row_by_row(), 1, false) == expected);
  EXPECT_TRUE(run(odd_chunks(), 2, false) == expected);
  EXPECT_TRUE(run(decode_beside_prefill(false), 2, false) == expected);
  EXPECT_TRUE(run(decode_beside_prefill(true), 1, false) == expected);
}

INSTANTIATE_TEST_SUITE_P(Formats, Feeding,
                         testing::Values(Format{IC_DTYPE_F32, 4, 16, "F32"}, Format{IC_DTYPE_BF16, 2, 1, "BF16"},
                                         Format{IC_DTYPE_E4M3, 1, 64, "E4M3"}),
                         [](const auto &format) { return format.param.name; });

}  // namespace
}  // namespace ic::test
