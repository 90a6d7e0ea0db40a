// SPDX-License-Identifier: Apache-2.0
// A small problem on the CPU that is complete and valid: handles of every kind, one batch, and the arguments of every
// operation. A test spoils one thing and shows that the library refuses it and has changed nothing.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "indexcache.h"

namespace ic::test {

/// The message of the last failed call on this thread.
std::string last_error();

/// False when the tests run on a backend that does not look into arrays before it enqueues work (IC_TEST_BACKEND, see
/// tests/gpu/shim): an illegal value there is taken, treated as absent, and sets a fault bit.
bool host_sees_values();

/// Arrays of exactly the size asked for, 256-byte aligned, so that a sanitizer sees the first byte beyond.
class Arrays {
 public:
  Arrays() = default;
  ~Arrays();
  Arrays(const Arrays &) = delete;
  Arrays &operator=(const Arrays &) = delete;

  /// Never written by the library.
  template <class T>
  T *input(size_t count) {
    return static_cast<T *>(take(count * sizeof(T), false));
  }
  /// What the library may write: part of every snapshot.
  template <class T>
  T *output(size_t count) {
    return static_cast<T *>(take(count * sizeof(T), true));
  }
  /// Fills all outputs with a pattern that no result has.
  void poison_outputs();
  void append_outputs(std::vector<uint8_t> *bytes) const;

 private:
  struct Piece {
    void *data;
    size_t bytes;
    bool output;
  };
  void *take(size_t bytes, bool output);
  std::vector<Piece> pieces_;
};

/// How a SmallProblem differs from the usual one.
struct Variant {
  int32_t dtype = IC_DTYPE_F32;  // or IC_DTYPE_E4M3
  int32_t threads = 1;
  int32_t num_slots = 2;
  uint32_t cache_flags = IC_CACHE_SCORES;
  bool attention = true;
  bool epoch = false;
  const char *pattern = "FSFSF";
};

/// Every struct that a caller fills, valid; reset_inputs() makes it so again.
struct Arguments {
  ic_context_desc context_desc;
  ic_schedule_desc schedule_desc;
  ic_indexer_desc indexer_desc;
  ic_topk_desc topk_desc;
  ic_attention_desc attention_desc;
  ic_cache_desc cache_desc;
  ic_block_table tables[8];  // 0: index keys, 1: KV; the others repeat 0
  ic_batch batch;
  ic_pool keys;       // paged, block table 0
  ic_pool flat_keys;  // contiguous, through key_offsets
  ic_pool kv;         // paged, block table 1
  ic_pool prepared;   // contiguous, of prepare_keys
  ic_queries queries;
  ic_new_keys new_keys;
  ic_attention_args attend;
  ic_mass_args mass;
  ic_forward_args full;    // layer 2, new keys and attention
  ic_forward_args shared;  // layer 1, attention
  ic_scores_args scores;
  ic_select_args select;
  ic_merge_args merge;
  ic_index_view given;  // indices that are not from a cache
  ic_prepare_args prepare_queries;
  ic_prepare_args prepare_keys;
  ic_remap_args remap;
  ic_compact_args compact;
  ic_overlap_args overlap;
  ic_search_desc search_desc;  // by similarity, with everything that it can have
};

/// Every struct and value that the library fills.
struct Results {
  ic_index_view view;
  ic_device_caps caps;
  ic_schedule_info schedule_info;
  ic_layer_info layer_info;
  ic_indexer_info indexer_info;
  ic_cache_info cache_info;
  ic_export_header header;
  ic_search_candidate candidate;
  ic_search_info search_info;
  ic_search_step search_step;
  size_t size;
  int32_t number;
  uint32_t faults;
  char text[64];
};

class SmallProblem : public Arguments, public Results {
 public:
  static constexpr int32_t kRows = 5, kSeqs = 2, kHeads = 4, kHeadDim = 32, kK = 8, kPadded = 128;
  static constexpr int32_t kMaxRows = 8, kMaxKeyEnd = 48, kPageTokens = 16, kPages = 6, kBlocks = 3;
  static constexpr int32_t kFlatKeys = 96, kAttentionHeads = 2, kLatent = 16, kRope = 16;
  static constexpr int32_t kKvPages = 2, kKvPageTokens = 64, kParts = 2, kPrepared = 3, kPositions = 64;
  static constexpr int32_t kLayers = 6;  // F S F S F and an MTP layer; layer 3 has no indexer; slots 0 . 1 . 0 1

  explicit SmallProblem(const Variant &variant = {});
  ~SmallProblem();

  /// All arguments and input arrays valid again; handles, outputs and the cache's state stay.
  void reset_inputs();
  /// reset_inputs(), outputs poisoned, a new generation in which layer 0 has published every row.
  void ready();
  /// Everything that the library could have changed, the cache's state and publications included.
  std::vector<uint8_t> snapshot();
  /// Runs every operation on valid arguments in a new generation; the bytes of all results. Empty after a failure.
  std::vector<uint8_t> run_all();

  /// One call per operation, with the arguments above; the handles may be replaced by a test.
  ic_status call_begin() { return ic_cache_begin(cache, &batch); }
  ic_status call_full() { return ic_forward(cache, &full, &view, nullptr); }
  ic_status call_shared() { return ic_forward(cache, &shared, &view, nullptr); }
  ic_status call_scores() { return ic_indexer_scores(indexer, &batch, &scores, nullptr); }
  ic_status call_select() { return ic_topk_select(topk, &select, nullptr); }
  ic_status call_merge() { return ic_topk_merge(topk, &merge, nullptr); }
  ic_status call_attend() {
    return ic_attention_run(attention, &batch, 0, &given, &attend, attend_workspace, attend_workspace_size, nullptr);
  }
  ic_status call_mass() {
    return ic_attention_mass(attention, &batch, 0, &given, &mass, mass_workspace, mass_workspace_size, nullptr);
  }
  ic_status call_prepare_queries() { return ic_indexer_prepare_queries(indexer, &prepare_queries, nullptr); }
  ic_status call_prepare_keys() { return ic_indexer_prepare_keys(indexer, &prepare_keys, nullptr); }
  ic_status call_remap() { return ic_cache_remap(cache, &remap, &view, nullptr); }
  ic_status call_compact() { return ic_cache_compact(cache, &compact, nullptr); }
  ic_status call_export() {
    return ic_cache_export(cache, 0, export_flags, IC_MEMORY_HOST, exported, block_bytes, nullptr);
  }
  ic_status call_import() { return ic_cache_import(cache, -1, 0, block, block_bytes, &header, nullptr); }
  ic_status call_overlap() { return ic_index_overlap(context, &given, &given, &overlap, nullptr); }
  /// Creates with the problem's own desc and destroys again; on failure the handle must come out NULL.
  ic_status call_context_create();
  ic_status call_schedule_create();
  ic_status call_indexer_create();
  ic_status call_topk_create();
  ic_status call_attention_create();
  ic_status call_cache_create();
  ic_status call_search_create();

  const Variant variant;
  ic_context *context = nullptr;
  ic_schedule *schedule = nullptr;
  ic_indexer *indexer = nullptr;
  ic_topk *topk = nullptr;
  ic_attention *attention = nullptr;
  ic_cache *cache = nullptr;
  ic_search *search = nullptr;  // greedy, 4 layers: the baseline and one step are told, candidate 4 is handed out

  // Input arrays that tests spoil.
  int32_t indexer_layers[4];
  int32_t keep_full[2];
  double similarity[36];
  std::string search_journal;  // of search_desc
  int32_t *row_seq, *key_begin, *key_end, *pages, *kv_pages;
  int64_t *key_offsets, *slots, *prepared_slots;
  int32_t *select_begin, *select_end, *positions, *compact_rows;
  int32_t *given_indices, *given_lengths, *merge_indices, *merge_lengths;
  float *given_scores, *merge_scores;
  uint32_t *epoch;
  uint8_t *block;  // an exported block of layer 0
  size_t block_bytes;
  uint32_t export_flags;
  uint8_t *exported;
  void *attend_workspace, *mass_workspace;
  size_t attend_workspace_size, mass_workspace_size;

 private:
  void make_handles();
  void make_arrays();
  void fill_arrays();
  void fill_search_arrays();
  void fill_arguments();
  void start_search();
  size_t element() const { return variant.dtype == IC_DTYPE_F32 ? 4 : 1; }

  Arrays arrays_;
  uint8_t *q_, *new_key_data_, *key_pool_, *flat_pool_, *prepared_pool_;
  float *w_, *q_scale_, *new_scales_, *flat_scales_, *prepared_scales_, *kv_pool_, *attend_q_, *sink_, *x_, *cos_,
      *sin_;
  float *norm_weight_, *norm_bias_, *score_input_, *attend_out_, *lse_, *score_output_, *select_scores_out_;
  float *merge_scores_out_, *q_scale_out_, *recall_, *jaccard_;
  float *mass_out_, *given_mass_, *mass_recall_;
  uint8_t *q_out_;
  int32_t *select_indices_, *select_lengths_, *merge_indices_out_, *merge_lengths_out_, *remap_slots_, *remap_lengths_;
  int32_t *intersection_;
  void *full_workspace_, *scores_workspace_, *select_workspace_, *merge_workspace_, *compact_workspace_;
  void *whole_attend_workspace_, *whole_mass_workspace_;
  size_t attend_bytes_, mass_bytes_, full_bytes_, scores_bytes_, select_bytes_, merge_bytes_, compact_bytes_;
};

/// The call must fail with this status and a message that has all these words, and must change nothing. Then the
/// inputs are made valid again. Of a value that only the device sees (IC_ERROR_OUT_OF_RANGE without
/// host_sees_values()) no more is asked than that the call is taken; then the problem is made ready().
template <class Call>
testing::AssertionResult refuses(SmallProblem &problem, ic_status status, std::initializer_list<const char *> words,
                                 Call call);

/// The call must succeed.
template <class Call>
testing::AssertionResult accepts(SmallProblem &problem, Call call);

/// A fixture whose every test ends with the proof that valid calls give the same results as before.
class BadInput : public testing::Test {
 protected:
  explicit BadInput(const Variant &variant = {}) : problem(variant) {}
  void SetUp() override;
  void TearDown() override;

  SmallProblem problem;

 private:
  std::vector<uint8_t> expected_;
};

// ---- details
// ----------------------------------------------------------------------------------------------------------

/// Replaces the thread's message by one that no test expects.
void forget_last_error();
testing::AssertionResult check_refusal(ic_status wanted, ic_status got, const std::string &message,
                                       std::initializer_list<const char *> words, bool changed);

template <class Call>
testing::AssertionResult refuses(SmallProblem &problem, ic_status status, std::initializer_list<const char *> words,
                                 Call call) {
  const std::vector<uint8_t> before = problem.snapshot();
  forget_last_error();
  const ic_status got = call();
  const std::string message = last_error();
  if (status == IC_ERROR_OUT_OF_RANGE && !host_sees_values()) {
    problem.ready();
    return check_refusal(IC_OK, got, message, {}, false);
  }
  const bool changed = problem.snapshot() != before;
  problem.reset_inputs();
  return check_refusal(status, got, message, words, changed);
}

template <class Call>
testing::AssertionResult accepts(SmallProblem &problem, Call call) {
  const ic_status got = call();
  problem.reset_inputs();
  if (got == IC_OK) return testing::AssertionSuccess();
  return testing::AssertionFailure() << ic_status_string(got) << "; " << last_error();
}

}  // namespace ic::test
