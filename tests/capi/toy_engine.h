// SPDX-License-Identifier: Apache-2.0
// A small engine around the C API: random queries and keys of several layers and sequences, shuffled pages, and an
// independent selection to compare with.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "indexcache.h"

namespace ic::test {

inline std::string last_error() {
  std::string text(ic_last_error(nullptr, 0), '\0');
  ic_last_error(text.data(), text.size() + 1);
  return text;
}

#define EXPECT_IC_OK(call) EXPECT_EQ(call, IC_OK) << ic::test::last_error()
#define ASSERT_IC_OK(call) ASSERT_EQ(call, IC_OK) << ic::test::last_error()

/// Handles that destroy themselves.
template <class T, void (*destroy)(T *)>
struct Destroy {
  void operator()(T *handle) const { destroy(handle); }
};
using Context = std::unique_ptr<ic_context, Destroy<ic_context, ic_context_destroy>>;
using ScheduleHandle = std::unique_ptr<ic_schedule, Destroy<ic_schedule, ic_schedule_destroy>>;
using Indexer = std::unique_ptr<ic_indexer, Destroy<ic_indexer, ic_indexer_destroy>>;
using TopK = std::unique_ptr<ic_topk, Destroy<ic_topk, ic_topk_destroy>>;
using Attention = std::unique_ptr<ic_attention, Destroy<ic_attention, ic_attention_destroy>>;
using Cache = std::unique_ptr<ic_cache, Destroy<ic_cache, ic_cache_destroy>>;

/// Memory aligned as a workspace must be.
class Workspace {
 public:
  void *get(size_t bytes) {
    if (bytes > size_) {
      memory_.reset(std::aligned_alloc(256, (bytes + 255) / 256 * 256));
      size_ = bytes;
    }
    return memory_.get();
  }
  size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(void *memory) const { std::free(memory); }
  };
  std::unique_ptr<void, Free> memory_;
  size_t size_ = 0;
};

struct ToyOptions {
  std::string pattern = "FSFS";
  int32_t num_mtp_layers = 0;
  int32_t k = 32;
  int32_t num_slots = 1;
  int32_t max_rows = 512;
  uint32_t cache_flags = 0;
  const uint32_t *epoch = nullptr;
  int32_t page_tokens = 16;
  std::vector<int32_t> seq_lengths = {200, 77, 150};  // keys of each sequence
};

/// H 4 x D 32 fp32 indexer; MLA of 2 heads, 32 + 16; every layer with data of its own.
class ToyEngine {
 public:
  static constexpr int32_t kHeads = 4;
  static constexpr int32_t kDim = 32;
  static constexpr int32_t kAttentionHeads = 2;
  static constexpr int32_t kLatent = 32;
  static constexpr int32_t kRope = 16;

  explicit ToyEngine(const ToyOptions &options, uint32_t seed = 1) : options_(options), random_(seed) {
    ic_context_desc context_desc = IC_CONTEXT_DESC_INIT;
    context_desc.backend = IC_BACKEND_CPU;
    context_desc.num_threads = 2;
    ic_context *context_handle = nullptr;
    EXPECT_IC_OK(ic_context_create(&context_desc, &context_handle));
    context.reset(context_handle);

    ic_schedule_desc schedule_desc = IC_SCHEDULE_DESC_INIT;
    schedule_desc.num_layers = static_cast<int32_t>(options.pattern.size());
    schedule_desc.num_mtp_layers = options.num_mtp_layers;
    schedule_desc.pattern = options.pattern.c_str();
    ic_schedule *schedule_handle = nullptr;
    EXPECT_IC_OK(ic_schedule_create(&schedule_desc, &schedule_handle));
    schedule.reset(schedule_handle);

    ic_indexer_desc indexer_desc = IC_INDEXER_DESC_INIT;
    indexer_desc.num_heads = kHeads;
    indexer_desc.head_dim = kDim;
    indexer_desc.dtype = IC_DTYPE_F32;
    ic_indexer *indexer_handle = nullptr;
    EXPECT_IC_OK(ic_indexer_create(context.get(), &indexer_desc, &indexer_handle));
    indexer.reset(indexer_handle);

    ic_topk_desc topk_desc = IC_TOPK_DESC_INIT;
    topk_desc.k = options.k;
    ic_topk *topk_handle = nullptr;
    EXPECT_IC_OK(ic_topk_create(context.get(), &topk_desc, &topk_handle));
    topk.reset(topk_handle);

    ic_attention_desc attention_desc = IC_ATTENTION_DESC_INIT;
    attention_desc.num_heads = kAttentionHeads;
    attention_desc.d_latent = kLatent;
    attention_desc.d_rope = kRope;
    attention_desc.kv_dtype = IC_DTYPE_F32;
    attention_desc.q_dtype = IC_DTYPE_F32;
    attention_desc.softmax_scale = 0.2f;
    ic_attention *attention_handle = nullptr;
    EXPECT_IC_OK(ic_attention_create(context.get(), &attention_desc, &attention_handle));
    attention.reset(attention_handle);
    cache = make_cache();

    num_layers_ = static_cast<int32_t>(options.pattern.size()) + options.num_mtp_layers;
    make_pages();
    for (int32_t layer = 0; layer < num_layers_; ++layer) layers_.push_back(make_layer());
  }

  Cache make_cache() const {
    ic_cache_desc desc = IC_CACHE_DESC_INIT;
    desc.schedule = schedule.get();
    desc.indexer = indexer.get();
    desc.topk = topk.get();
    desc.attention = attention.get();
    desc.max_rows = options_.max_rows;
    desc.num_slots = options_.num_slots;
    desc.flags = options_.cache_flags;
    desc.epoch = options_.epoch;
    ic_cache *handle = nullptr;
    EXPECT_IC_OK(ic_cache_create(context.get(), &desc, &handle));
    return Cache(handle);
  }

  /// Rows in any order: row r is position[r] of sequence seq[r].
  void set_rows(std::vector<int32_t> seq, const std::vector<int32_t> &position) {
    row_seq = std::move(seq);
    key_begin.assign(row_seq.size(), 0);
    key_end.clear();
    for (const int32_t at : position) key_end.push_back(at + 1);
    q_.clear();
    w_.clear();
    attention_q_.clear();
    for (int32_t layer = 0; layer < num_layers_; ++layer) {
      q_.push_back(numbers(row_seq.size() * kHeads * kDim));
      w_.push_back(numbers(row_seq.size() * kHeads));
      attention_q_.push_back(numbers(row_seq.size() * kAttentionHeads * (kLatent + kRope)));
    }
  }

  /// The last `count` positions of every sequence.
  void set_last_rows(int32_t count) {
    std::vector<int32_t> seq, position;
    for (size_t s = 0; s < options_.seq_lengths.size(); ++s)
      for (int32_t i = std::max(0, options_.seq_lengths[s] - count); i < options_.seq_lengths[s]; ++i) {
        seq.push_back(static_cast<int32_t>(s));
        position.push_back(i);
      }
    set_rows(std::move(seq), position);
  }

  int32_t rows() const { return static_cast<int32_t>(row_seq.size()); }

  ic_batch batch(uint32_t flags = 0) {
    table_ = {pages_.data(), blocks_, blocks_, options_.page_tokens};
    ic_batch value = IC_BATCH_INIT;
    value.num_rows = rows();
    value.num_seqs = static_cast<int32_t>(options_.seq_lengths.size());
    value.max_key_end = *std::max_element(options_.seq_lengths.begin(), options_.seq_lengths.end());
    value.num_block_tables = 1;
    value.row_seq = row_seq.data();
    value.key_begin = key_begin.data();
    value.key_end = key_end.data();
    value.block_tables = &table_;
    value.flags = flags;
    return value;
  }

  ic_status begin(uint32_t flags = 0) {
    const ic_batch value = batch(flags);
    return ic_cache_begin(cache.get(), &value);
  }

  struct Call {
    int32_t layer = 0;
    int32_t row_begin = 0;
    int32_t row_count = IC_ALL_ROWS;
    int32_t mode = 0;
    float *attention_out = nullptr;
    const ic_new_keys *new_keys = nullptr;
  };

  ic_status forward(const Call &call, ic_index_view *view = nullptr) { return forward(cache.get(), call, view); }

  ic_status forward(ic_cache *on, const Call &call, ic_index_view *view = nullptr) {
    const auto layer = static_cast<size_t>(call.layer);
    const auto first = static_cast<size_t>(call.row_begin);
    ic_queries queries = IC_QUERIES_INIT;
    queries.q = q_[layer].data() + first * kHeads * kDim;
    queries.w = w_[layer].data() + first * kHeads;
    const ic_pool keys = key_pool(call.layer);
    const ic_pool kv = kv_pool(call.layer);
    ic_attention_args attend = IC_ATTENTION_ARGS_INIT;
    attend.q = attention_q_[layer].data() + first * kAttentionHeads * (kLatent + kRope);
    attend.kv = &kv;
    attend.out = call.attention_out;
    ic_forward_args args = IC_FORWARD_ARGS_INIT;
    args.layer = call.layer;
    args.mode = call.mode;
    args.row_begin = call.row_begin;
    args.row_count = call.row_count;
    args.queries = &queries;
    args.keys = &keys;
    args.new_keys = call.new_keys;
    args.attention = call.attention_out == nullptr ? nullptr : &attend;
    size_t size = 0;
    EXPECT_IC_OK(ic_forward_workspace_size(on, rows(), 1 << 12, &size));
    args.workspace = workspace.get(size);
    args.workspace_size = workspace.size();
    return ic_forward(on, &args, view, nullptr);
  }

  ic_pool key_pool(int32_t layer) {
    ic_pool pool = IC_POOL_INIT;
    pool.layout = IC_LAYOUT_PAGED;
    pool.data = layers_[static_cast<size_t>(layer)].keys.data();
    pool.capacity = num_pages_;
    return pool;
  }

  ic_pool kv_pool(int32_t layer) {
    ic_pool pool = IC_POOL_INIT;
    pool.layout = IC_LAYOUT_PAGED;
    pool.data = layers_[static_cast<size_t>(layer)].kv.data();
    pool.capacity = num_pages_;
    return pool;
  }

  /// Slot of a key in the pools.
  int64_t slot(int32_t seq, int32_t position) const {
    const int32_t page = pages_[static_cast<size_t>(seq * blocks_ + position / options_.page_tokens)];
    return page < 0 ? -1 : int64_t{page} * options_.page_tokens + position % options_.page_tokens;
  }

  void remove_page(int32_t seq, int32_t block) { pages_[static_cast<size_t>(seq * blocks_ + block)] = -1; }

  /// The selection that a layer must make for a row: scored one key at a time, sorted whole.
  std::vector<int32_t> expected(int32_t layer, int32_t row) const {
    std::vector<std::pair<float, int32_t>> scored;
    const auto r = static_cast<size_t>(row);
    const auto l = static_cast<size_t>(layer);
    for (int32_t position = key_begin[r]; position < key_end[r]; ++position) {
      const int64_t at = slot(row_seq[r], position);
      if (at < 0) continue;
      float score = 0.0f;
      for (size_t h = 0; h < kHeads; ++h) {
        float dot = 0.0f;
        for (size_t d = 0; d < kDim; ++d)
          dot = std::fma(q_[l][(r * kHeads + h) * kDim + d], layers_[l].keys[static_cast<size_t>(at) * kDim + d], dot);
        score = std::fma(w_[l][r * kHeads + h], dot > 0.0f ? dot : 0.0f, score);
      }
      scored.emplace_back(score + 0.0f, position);
    }
    std::sort(scored.begin(), scored.end(), [](const auto &a, const auto &b) {
      return a.first != b.first ? a.first > b.first : a.second < b.second;
    });
    scored.resize(std::min(scored.size(), static_cast<size_t>(options_.k)));
    std::vector<int32_t> indices;
    for (const auto &entry : scored) indices.push_back(entry.second);
    std::sort(indices.begin(), indices.end());
    return indices;
  }

  /// Every row of a view holds what the layer must select, front-packed, -1 behind.
  void expect_selection(const ic_index_view &view, int32_t layer, int32_t row_begin = 0) const {
    for (int32_t row = 0; row < view.num_rows; ++row) {
      const std::vector<int32_t> wanted = expected(layer, row_begin + row);
      const int32_t *list = view.indices + row * view.row_stride;
      ASSERT_EQ(view.lengths[row], static_cast<int32_t>(wanted.size())) << "row " << row_begin + row;
      ASSERT_TRUE(std::equal(wanted.begin(), wanted.end(), list)) << "row " << row_begin + row;
      for (int64_t i = view.lengths[row]; i < IC_K_PADDED(options_.k); ++i) ASSERT_EQ(list[i], -1);
    }
  }

  std::vector<float> numbers(size_t count) {
    std::normal_distribution<float> normal;
    std::vector<float> values(count);
    for (float &value : values) value = normal(random_);
    return values;
  }

  Context context;
  ScheduleHandle schedule;
  Indexer indexer;
  TopK topk;
  Attention attention;
  Cache cache;
  Workspace workspace;
  std::vector<int32_t> row_seq, key_begin, key_end;

  const float *attention_q(int32_t layer) const { return attention_q_[static_cast<size_t>(layer)].data(); }
  std::vector<float> &keys(int32_t layer) { return layers_[static_cast<size_t>(layer)].keys; }
  std::vector<float> &queries(int32_t layer) { return q_[static_cast<size_t>(layer)]; }
  std::vector<float> &weights(int32_t layer) { return w_[static_cast<size_t>(layer)]; }
  std::vector<int32_t> &pages() { return pages_; }
  int32_t blocks() const { return blocks_; }

 private:
  struct Layer {
    std::vector<float> keys;  // [pages, page_tokens, D]
    std::vector<float> kv;    // [pages, page_tokens, latent + rope]
  };

  void make_pages() {
    const int32_t longest = *std::max_element(options_.seq_lengths.begin(), options_.seq_lengths.end());
    blocks_ = (longest + options_.page_tokens - 1) / options_.page_tokens;
    num_pages_ = blocks_ * static_cast<int32_t>(options_.seq_lengths.size()) + 3;
    std::vector<int32_t> order(static_cast<size_t>(num_pages_));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random_);
    pages_.assign(order.begin(), order.begin() + blocks_ * static_cast<int64_t>(options_.seq_lengths.size()));
  }

  Layer make_layer() {
    const auto tokens = static_cast<size_t>(num_pages_ * options_.page_tokens);
    return {numbers(tokens * kDim), numbers(tokens * (kLatent + kRope))};
  }

  ToyOptions options_;
  std::mt19937 random_;
  int32_t num_layers_ = 0;
  int32_t blocks_ = 0;
  int32_t num_pages_ = 0;
  std::vector<int32_t> pages_;
  ic_block_table table_ = IC_BLOCK_TABLE_INIT;
  std::vector<Layer> layers_;
  std::vector<std::vector<float>> q_, w_, attention_q_;
};

}  // namespace ic::test
