// SPDX-License-Identifier: Apache-2.0
// The small problem: sizes, contents and arguments.
#include "tests/capi/small_problem.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>

namespace ic::test {
namespace {

constexpr int32_t kIndexerLayers[4] = {0, 1, 2, 4};
constexpr int kPoison = 0xA5;

/// A fixed sequence of numbers.
class Noise {
 public:
  explicit Noise(uint32_t seed) : state_(seed * 2654435761u + 1) {}
  uint32_t bits() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 17;
    state_ ^= state_ << 5;
    return state_;
  }
  float number() { return static_cast<float>(bits() >> 8) / (1 << 23) - 1.0f; }  // [-1, 1)

 private:
  uint32_t state_;
};

void fill(float *to, size_t count, uint32_t seed) {
  Noise noise(seed);
  for (size_t i = 0; i < count; ++i) to[i] = noise.number();
}

/// fp32 or e4m3 elements, none of them NaN.
void fill(uint8_t *to, size_t count, size_t element, uint32_t seed) {
  if (element == 4) return fill(reinterpret_cast<float *>(to), count, seed);
  Noise noise(seed);
  for (size_t i = 0; i < count; ++i) to[i] = static_cast<uint8_t>(noise.bits() & 0xBF);
}

template <class T>
void append(std::vector<uint8_t> *bytes, const T *from, size_t count) {
  const auto *first = reinterpret_cast<const uint8_t *>(from);
  bytes->insert(bytes->end(), first, first + count * sizeof(T));
}

template <class Handle, class Create, class Destroy>
ic_status create_and_destroy(Create create, Destroy destroy) {
  auto *handle = reinterpret_cast<Handle *>(uintptr_t{0xA5A0});
  const ic_status status = create(&handle);
  if (status == IC_OK)
    destroy(handle);
  else
    EXPECT_EQ(handle, nullptr) << "a failing create function sets *out to NULL";
  return status;
}

void expect_ok(ic_status status, const char *what) {
  if (status != IC_OK) ADD_FAILURE() << what << ": " << ic_status_string(status) << "; " << last_error();
}

}  // namespace

std::string last_error() {
  char text[1024];
  ic_last_error(text, sizeof text);
  return text;
}

bool host_sees_values() {
  const char *backend = std::getenv("IC_TEST_BACKEND");
  return backend == nullptr || std::strncmp(backend, "cuda", 4) != 0;
}

void forget_last_error() {
  int32_t count = 0;
  ic_device_count(-12345, &count);
}

testing::AssertionResult check_refusal(ic_status wanted, ic_status got, const std::string &message,
                                       std::initializer_list<const char *> words, bool changed) {
  if (got != wanted)
    return testing::AssertionFailure() << "wanted " << ic_status_string(wanted) << ", got " << ic_status_string(got)
                                       << "; " << message;
  if (wanted == IC_OK) return testing::AssertionSuccess();
  if (message.find("-12345") != std::string::npos) return testing::AssertionFailure() << "it left no message";
  for (const char *word : words)
    if (message.find(word) == std::string::npos)
      return testing::AssertionFailure() << "the message lacks \"" << word << "\": " << message;
  if (changed) return testing::AssertionFailure() << "something has been changed, although: " << message;
  return testing::AssertionSuccess();
}

Arrays::~Arrays() {
  for (const Piece &piece : pieces_) std::free(piece.data);
}

void *Arrays::take(size_t bytes, bool output) {
  void *data = nullptr;
  if (posix_memalign(&data, 256, std::max<size_t>(bytes, 1)) != 0) throw std::bad_alloc();
  std::memset(data, kPoison, bytes);
  pieces_.push_back({data, bytes, output});
  return data;
}

void Arrays::poison_outputs() {
  for (const Piece &piece : pieces_)
    if (piece.output) std::memset(piece.data, kPoison, piece.bytes);
}

void Arrays::append_outputs(std::vector<uint8_t> *bytes) const {
  for (const Piece &piece : pieces_)
    if (piece.output) append(bytes, static_cast<const uint8_t *>(piece.data), piece.bytes);
}

SmallProblem::SmallProblem(const Variant &variant_in) : Arguments{}, Results{}, variant(variant_in) {
  std::memcpy(indexer_layers, kIndexerLayers, sizeof indexer_layers);
  fill_search_arrays();
  epoch = arrays_.input<uint32_t>(1);
  *epoch = 1;
  export_flags = (variant.cache_flags & IC_CACHE_SCORES) != 0 ? IC_EXPORT_SCORES : 0;
  make_handles();
  make_arrays();
  ready();
  // A block to import is what layer 0 exports now.
  expect_ok(call_export(), "export");
  std::memcpy(block, exported, block_bytes);
  ready();
}

SmallProblem::~SmallProblem() {
  ic_search_destroy(search);
  ic_cache_destroy(cache);
  ic_attention_destroy(attention);
  ic_topk_destroy(topk);
  ic_indexer_destroy(indexer);
  ic_schedule_destroy(schedule);
  ic_context_destroy(context);
}

void SmallProblem::make_handles() {
  fill_arguments();  // the descs; handles are still NULL
  expect_ok(ic_context_create(&context_desc, &context), "context");
  expect_ok(ic_schedule_create(&schedule_desc, &schedule), "schedule");
  expect_ok(ic_indexer_create(context, &indexer_desc, &indexer), "indexer");
  expect_ok(ic_topk_create(context, &topk_desc, &topk), "topk");
  if (variant.attention) expect_ok(ic_attention_create(context, &attention_desc, &attention), "attention");
  fill_arguments();
  expect_ok(ic_cache_create(context, &cache_desc, &cache), "cache");

  ic_search *by_similarity = nullptr;
  expect_ok(ic_search_create(&search_desc, &by_similarity), "search by similarity");
  expect_ok(ic_search_tell(by_similarity, 0, 1.25), "tell");
  search_journal.resize(1000);
  size_t bytes = search_journal.size();
  expect_ok(ic_search_journal(by_similarity, 0, search_journal.data(), &bytes), "journal");
  search_journal.resize(bytes - 1);
  ic_search_destroy(by_similarity);
}

void SmallProblem::start_search() {
  ic_search_destroy(search);
  ic_search_desc desc = IC_SEARCH_DESC_INIT;
  desc.num_layers = 4;
  desc.strategy = IC_STRATEGY_GREEDY;
  expect_ok(ic_search_create(&desc, &search), "search");
  for (int64_t id = 0; id < 4; ++id)
    expect_ok(ic_search_tell(search, id, id == 0 ? 1 : 3 - static_cast<double>(id)), "tell");
  candidate = IC_SEARCH_CANDIDATE_INIT;
  expect_ok(ic_search_next(search, &candidate), "next");
  candidate = IC_SEARCH_CANDIDATE_INIT;
}

void SmallProblem::make_arrays() {
  const size_t vector = kHeadDim * element();
  const size_t scale = variant.dtype == IC_DTYPE_E4M3 ? 4 : 0;
  row_seq = arrays_.input<int32_t>(kRows);
  key_begin = arrays_.input<int32_t>(kRows);
  key_end = arrays_.input<int32_t>(kRows);
  pages = arrays_.input<int32_t>(kSeqs * kBlocks);
  kv_pages = arrays_.input<int32_t>(kSeqs);
  key_offsets = arrays_.input<int64_t>(kSeqs);
  q_ = arrays_.input<uint8_t>(kRows * kHeads * vector);
  w_ = arrays_.input<float>(kRows * kHeads);
  q_scale_ = arrays_.input<float>(kRows * kHeads);
  slots = arrays_.input<int64_t>(3);
  new_key_data_ = arrays_.input<uint8_t>(3 * vector);
  new_scales_ = arrays_.input<float>(3);
  key_pool_ = arrays_.output<uint8_t>(kPages * kPageTokens * (vector + scale));
  flat_pool_ = arrays_.output<uint8_t>(kFlatKeys * vector);
  flat_scales_ = arrays_.output<float>(kFlatKeys);
  prepared_pool_ = arrays_.output<uint8_t>(8 * vector);
  prepared_scales_ = arrays_.output<float>(8);
  kv_pool_ = arrays_.output<float>(kKvPages * kKvPageTokens * (kLatent + kRope));
  attend_q_ = arrays_.input<float>(kRows * kAttentionHeads * (kLatent + kRope));
  sink_ = arrays_.input<float>(kAttentionHeads);
  attend_out_ = arrays_.output<float>(kRows * kAttentionHeads * kLatent);
  lse_ = arrays_.output<float>(kRows * kAttentionHeads);
  mass_out_ = arrays_.output<float>(kRows * kK);
  score_output_ = arrays_.output<float>(kRows * kMaxKeyEnd);
  score_input_ = arrays_.input<float>(kRows * kMaxKeyEnd);
  select_begin = arrays_.input<int32_t>(kRows);
  select_end = arrays_.input<int32_t>(kRows);
  select_indices_ = arrays_.output<int32_t>(kRows * kPadded);
  select_lengths_ = arrays_.output<int32_t>(kRows);
  select_scores_out_ = arrays_.output<float>(kRows * kPadded);
  given_indices = arrays_.input<int32_t>(kRows * kPadded);
  given_lengths = arrays_.input<int32_t>(kRows);
  given_scores = arrays_.input<float>(kRows * kPadded);
  merge_indices = arrays_.input<int32_t>(kParts * kRows * kPadded);
  merge_scores = arrays_.input<float>(kParts * kRows * kPadded);
  merge_lengths = arrays_.input<int32_t>(kParts * kRows);
  merge_indices_out_ = arrays_.output<int32_t>(kRows * kPadded);
  merge_lengths_out_ = arrays_.output<int32_t>(kRows);
  merge_scores_out_ = arrays_.output<float>(kRows * kPadded);
  x_ = arrays_.input<float>(kPrepared * kHeads * kHeadDim);
  positions = arrays_.input<int32_t>(kPrepared);
  prepared_slots = arrays_.input<int64_t>(kPrepared);
  cos_ = arrays_.input<float>(kPositions * 8);
  sin_ = arrays_.input<float>(kPositions * 8);
  norm_weight_ = arrays_.input<float>(kHeadDim);
  norm_bias_ = arrays_.input<float>(kHeadDim);
  q_out_ = arrays_.output<uint8_t>(kPrepared * kHeads * vector);
  q_scale_out_ = arrays_.output<float>(kPrepared * kHeads);
  remap_slots_ = arrays_.output<int32_t>(kRows * kPadded);
  remap_lengths_ = arrays_.output<int32_t>(kRows);
  compact_rows = arrays_.input<int32_t>(kRows);
  intersection_ = arrays_.output<int32_t>(kRows);
  recall_ = arrays_.output<float>(kRows);
  jaccard_ = arrays_.output<float>(kRows);
  given_mass_ = arrays_.input<float>(kRows * kK);
  mass_recall_ = arrays_.output<float>(kRows);
  expect_ok(ic_cache_export_size(cache, kRows, export_flags, &block_bytes), "export size");
  block = arrays_.input<uint8_t>(block_bytes);
  exported = arrays_.output<uint8_t>(block_bytes);

  expect_ok(ic_forward_workspace_size(cache, kRows, kMaxKeyEnd, &full_bytes_), "forward workspace");
  expect_ok(ic_indexer_scores_workspace_size(indexer, kRows, kMaxKeyEnd, &scores_bytes_), "scores workspace");
  expect_ok(ic_topk_select_workspace_size(topk, kRows, kMaxKeyEnd, &select_bytes_), "select workspace");
  expect_ok(ic_topk_merge_workspace_size(topk, kRows, kParts, &merge_bytes_), "merge workspace");
  expect_ok(ic_cache_compact_workspace_size(cache, kRows, &compact_bytes_), "compact workspace");
  attend_bytes_ = mass_bytes_ = 0;
  if (attention != nullptr) {
    expect_ok(ic_attention_workspace_size(attention, kRows, kK, &attend_bytes_), "attention workspace");
    expect_ok(ic_attention_mass_workspace_size(attention, kRows, kK, &mass_bytes_), "attention mass workspace");
  }
  full_workspace_ = arrays_.input<uint8_t>(full_bytes_);
  scores_workspace_ = arrays_.input<uint8_t>(scores_bytes_);
  select_workspace_ = arrays_.input<uint8_t>(select_bytes_);
  merge_workspace_ = arrays_.input<uint8_t>(merge_bytes_);
  compact_workspace_ = arrays_.input<uint8_t>(compact_bytes_);
  whole_attend_workspace_ = arrays_.input<uint8_t>(attend_bytes_);
  whole_mass_workspace_ = arrays_.input<uint8_t>(mass_bytes_);
}

void SmallProblem::fill_arrays() {
  const size_t vectors = kHeadDim;
  const auto set = [](auto *to, std::initializer_list<int> values) { std::copy(values.begin(), values.end(), to); };
  set(row_seq, {0, 0, 0, 1, 1});
  set(key_begin, {0, 0, 2, 0, 0});
  set(key_end, {38, 39, 40, 19, 20});
  set(pages, {4, 1, 3, 0, 5, -1});
  set(kv_pages, {1, 0});
  set(key_offsets, {0, 48});
  set(slots, {3 * kPageTokens + 7, -1, 5 * kPageTokens + 3});  // position 39 of sequence 0, 19 of sequence 1
  set(select_begin, {0, 3, 7, 0, 48});
  set(select_end, {48, 40, 9, 0, 48});
  set(positions, {0, 17, 63});
  set(prepared_slots, {6, -1, 0});
  set(compact_rows, {4, 3, -1, 0, 0});
  fill(q_, kRows * kHeads * vectors, element(), 1);
  fill(w_, kRows * kHeads, 2);
  fill(q_scale_, kRows * kHeads, 3);
  fill(new_key_data_, 3 * vectors, element(), 4);
  fill(new_scales_, 3, 5);
  fill(attend_q_, kRows * kAttentionHeads * (kLatent + kRope), 6);
  fill(sink_, kAttentionHeads, 7);
  fill(score_input_, kRows * kMaxKeyEnd, 8);
  fill(x_, kPrepared * kHeads * kHeadDim, 9);
  fill(cos_, kPositions * 8, 10);
  fill(sin_, kPositions * 8, 11);
  fill(norm_weight_, kHeadDim, 12);
  fill(norm_bias_, kHeadDim, 13);
  for (int32_t i = 0; i < kRows * kK; ++i) given_mass_[i] = static_cast<float>(i % 7) / 16.0f;
  const auto lists = [](int32_t *indices, int32_t *lengths, float *with, int32_t rows, uint32_t seed) {
    Noise noise(seed);
    std::fill(indices, indices + rows * kPadded, -1);
    for (int32_t row = 0; row < rows; ++row) {
      lengths[row] = static_cast<int32_t>(noise.bits() % (kK + 1));
      for (int32_t i = 0; i < lengths[row]; ++i)
        indices[row * kPadded + i] = 2 * i + static_cast<int32_t>(noise.bits() % 2);
    }
    fill(with, static_cast<size_t>(rows * kPadded), seed + 1);
  };
  lists(given_indices, given_lengths, given_scores, kRows, 14);
  lists(merge_indices, merge_lengths, merge_scores, kParts * kRows, 16);
  for (int32_t i = kRows * kPadded; i < kParts * kRows * kPadded; ++i)  // parts hold disjoint keys
    if (merge_indices[i] >= 0) merge_indices[i] += 1000;
  *epoch = 1;
  fill_search_arrays();
}

void SmallProblem::fill_search_arrays() {
  keep_full[0] = 4;
  keep_full[1] = 0;
  for (int i = 0; i < 36; ++i) similarity[i] = i % 6 < i / 6 ? 1.0 / (1 + i / 6 - i % 6) : std::nan("");
}

void SmallProblem::fill_arguments() {
  Arguments &to = *this;
  to = Arguments{};
  context_desc = IC_CONTEXT_DESC_INIT;
  context_desc.backend = IC_BACKEND_CPU;
  context_desc.num_threads = variant.threads;
  schedule_desc = IC_SCHEDULE_DESC_INIT;
  schedule_desc.num_layers = kLayers - 1;
  schedule_desc.num_mtp_layers = 1;
  schedule_desc.pattern = variant.pattern;
  schedule_desc.indexer_layers = indexer_layers;
  schedule_desc.num_indexer_layers = 4;
  indexer_desc = IC_INDEXER_DESC_INIT;
  indexer_desc.num_heads = kHeads;
  indexer_desc.head_dim = kHeadDim;
  indexer_desc.dtype = variant.dtype;
  topk_desc = IC_TOPK_DESC_INIT;
  topk_desc.k = kK;
  attention_desc = IC_ATTENTION_DESC_INIT;
  attention_desc.num_heads = kAttentionHeads;
  attention_desc.d_latent = kLatent;
  attention_desc.d_rope = kRope;
  attention_desc.kv_dtype = IC_DTYPE_F32;
  attention_desc.q_dtype = IC_DTYPE_F32;
  attention_desc.softmax_scale = 0.25f;
  cache_desc = IC_CACHE_DESC_INIT;
  cache_desc.schedule = schedule;
  cache_desc.indexer = indexer;
  cache_desc.topk = topk;
  cache_desc.attention = attention;
  cache_desc.max_rows = kMaxRows;
  cache_desc.num_slots = variant.num_slots;
  cache_desc.epoch = variant.epoch ? epoch : nullptr;
  cache_desc.flags = variant.cache_flags;
  search_desc = IC_SEARCH_DESC_INIT;
  search_desc.num_layers = 6;
  search_desc.strategy = IC_STRATEGY_SIMILARITY_DP;
  search_desc.start = "FFFFFF";
  search_desc.keep_full = keep_full;
  search_desc.num_keep_full = 2;
  search_desc.num_full = 3;
  search_desc.max_full = 5;
  search_desc.similarity = similarity;
  search_desc.num_similarity = 36;
  search_desc.journal = search_journal.data();
  search_desc.journal_size = search_journal.size();
}

void SmallProblem::reset_inputs() {
  fill_arguments();
  fill_arrays();
  const bool e4m3 = variant.dtype == IC_DTYPE_E4M3;
  for (ic_block_table &table : tables) table = {pages, 0, kBlocks, kPageTokens};
  tables[1] = {kv_pages, 0, 1, kKvPageTokens};
  batch = IC_BATCH_INIT;
  batch.num_rows = kRows;
  batch.num_seqs = kSeqs;
  batch.max_key_end = kMaxKeyEnd;
  batch.num_block_tables = 2;
  batch.row_seq = row_seq;
  batch.key_begin = key_begin;
  batch.key_end = key_end;
  batch.block_tables = tables;
  batch.key_offsets = key_offsets;
  const auto pool = [](void *data, float *scales, int64_t capacity, int32_t layout, int32_t table) {
    ic_pool made = IC_POOL_INIT;
    made.data = data;
    made.scales = scales;
    made.capacity = capacity;
    made.layout = layout;
    made.block_table = table;
    return made;
  };
  keys = pool(key_pool_, nullptr, kPages, IC_LAYOUT_PAGED, 0);
  flat_keys = pool(flat_pool_, e4m3 ? flat_scales_ : nullptr, kFlatKeys, IC_LAYOUT_CONTIGUOUS, 0);
  kv = pool(kv_pool_, nullptr, kKvPages, IC_LAYOUT_PAGED, 1);
  prepared = pool(prepared_pool_, e4m3 ? prepared_scales_ : nullptr, 8, IC_LAYOUT_CONTIGUOUS, 0);
  queries = IC_QUERIES_INIT;
  queries.q = q_;
  queries.w = w_;
  queries.q_scale = q_scale_;
  new_keys = IC_NEW_KEYS_INIT;
  new_keys.keys = new_key_data_;
  new_keys.scales = e4m3 ? new_scales_ : nullptr;
  new_keys.slots = slots;
  new_keys.count = 3;
  attend = IC_ATTENTION_ARGS_INIT;
  attend.q = attend_q_;
  attend.kv = &kv;
  attend.sink = sink_;
  attend.out = attend_out_;
  attend.lse = lse_;
  mass = IC_MASS_ARGS_INIT;
  mass.q = attend_q_;
  mass.kv = &kv;
  mass.sink = sink_;
  mass.mass = mass_out_;
  full = IC_FORWARD_ARGS_INIT;
  full.layer = 2;
  full.row_count = IC_ALL_ROWS;
  full.workspace = full_workspace_;
  full.workspace_size = full_bytes_;
  full.attention = attention == nullptr ? nullptr : &attend;
  attend_workspace = whole_attend_workspace_;
  attend_workspace_size = attend_bytes_;
  mass_workspace = whole_mass_workspace_;
  mass_workspace_size = mass_bytes_;
  shared = full;
  shared.layer = 1;
  full.queries = &queries;
  full.keys = &keys;
  full.new_keys = &new_keys;
  full.hint = given_indices;
  scores = IC_SCORES_ARGS_INIT;
  scores.row_count = IC_ALL_ROWS;
  scores.queries = &queries;
  scores.keys = &flat_keys;
  scores.scores = score_output_;
  scores.workspace = scores_workspace_;
  scores.workspace_size = scores_bytes_;
  select = IC_SELECT_ARGS_INIT;
  select.scores = score_input_;
  select.begin = select_begin;
  select.end = select_end;
  select.num_rows = kRows;
  select.max_end = kMaxKeyEnd;
  select.indices = select_indices_;
  select.lengths = select_lengths_;
  select.selected_scores = select_scores_out_;
  select.workspace = select_workspace_;
  select.workspace_size = select_bytes_;
  merge = IC_MERGE_ARGS_INIT;
  merge.in_indices = merge_indices;
  merge.in_scores = merge_scores;
  merge.in_lengths = merge_lengths;
  merge.num_parts = kParts;
  merge.num_rows = kRows;
  merge.indices = merge_indices_out_;
  merge.lengths = merge_lengths_out_;
  merge.selected_scores = merge_scores_out_;
  merge.workspace = merge_workspace_;
  merge.workspace_size = merge_bytes_;
  given = IC_INDEX_VIEW_INIT;
  given.indices = given_indices;
  given.lengths = given_lengths;
  given.scores = given_scores;
  given.row_stride = kPadded;
  given.num_rows = kRows;
  given.k = kK;
  given.kind = IC_INDEX_LOGICAL;
  given.source_layer = -1;
  prepare_queries = IC_PREPARE_ARGS_INIT;
  prepare_queries.x = x_;
  prepare_queries.count = kPrepared;
  prepare_queries.x_dtype = IC_DTYPE_F32;
  prepare_queries.flags = IC_PREPARE_HADAMARD | IC_PREPARE_ROPE_LAST;
  prepare_queries.positions = positions;
  prepare_queries.cos_table = cos_;
  prepare_queries.sin_table = sin_;
  prepare_queries.num_positions = kPositions;
  prepare_queries.rope_dim = 16;
  prepare_keys = prepare_queries;
  prepare_queries.q_out = q_out_;
  prepare_queries.q_scale_out = e4m3 ? q_scale_out_ : nullptr;
  prepare_keys.norm_weight = norm_weight_;
  prepare_keys.norm_bias = norm_bias_;
  prepare_keys.norm_eps = 1e-6f;
  prepare_keys.pool = &prepared;
  prepare_keys.slots = prepared_slots;
  remap = IC_REMAP_ARGS_INIT;
  remap.layout = IC_LAYOUT_PAGED;
  remap.slots = remap_slots_;
  remap.lengths = remap_lengths_;
  compact = IC_COMPACT_ARGS_INIT;
  compact.rows = compact_rows;
  compact.num_rows = kRows;
  compact.workspace = compact_workspace_;
  compact.workspace_size = compact_bytes_;
  overlap = IC_OVERLAP_ARGS_INIT;
  overlap.intersection = intersection_;
  overlap.recall = recall_;
  overlap.jaccard = jaccard_;
  overlap.mass = given_mass_;
  overlap.mass_recall = mass_recall_;
}

void SmallProblem::ready() {
  reset_inputs();
  arrays_.poison_outputs();
  const size_t vectors = kHeadDim;
  fill(key_pool_, kPages * kPageTokens * vectors, element(), 20);
  if (variant.dtype == IC_DTYPE_E4M3) {  // pages of 16 vectors and then 16 scales
    const size_t page = kPageTokens * (vectors + 4);
    for (size_t i = 0; i < kPages; ++i) {
      fill(key_pool_ + i * page, kPageTokens * vectors, 1, static_cast<uint32_t>(20 + i));
      fill(reinterpret_cast<float *>(key_pool_ + i * page + kPageTokens * vectors), kPageTokens,
           static_cast<uint32_t>(40 + i));
    }
  }
  fill(flat_pool_, kFlatKeys * vectors, element(), 21);
  fill(flat_scales_, kFlatKeys, 22);
  fill(kv_pool_, kKvPages * kKvPageTokens * (kLatent + kRope), 23);
  static_cast<Results &>(*this) = Results{};
  view = IC_INDEX_VIEW_INIT;
  caps = IC_DEVICE_CAPS_INIT;
  schedule_info = IC_SCHEDULE_INFO_INIT;
  layer_info = IC_LAYER_INFO_INIT;
  indexer_info = IC_INDEXER_INFO_INIT;
  cache_info = IC_CACHE_INFO_INIT;
  search_info = IC_SEARCH_INFO_INIT;
  search_step = IC_SEARCH_STEP_INIT;
  start_search();
  size = sizeof text;
  faults = 0;
  expect_ok(ic_cache_faults(cache, 1, &faults, nullptr), "faults");
  expect_ok(ic_cache_reset(cache), "reset");
  expect_ok(call_begin(), "begin");
  full.layer = 0;
  full.new_keys = nullptr;
  full.attention = nullptr;
  expect_ok(ic_forward(cache, &full, nullptr, nullptr), "forward of layer 0");
  reset_inputs();
}

std::vector<uint8_t> SmallProblem::snapshot() {
  std::vector<uint8_t> bytes;
  arrays_.append_outputs(&bytes);
  append(&bytes, static_cast<const Results *>(this), 1);
  ic_cache_info info = IC_CACHE_INFO_INIT;
  expect_ok(ic_cache_get_info(cache, &info), "info");
  append(&bytes, &info, 1);
  uint32_t bits = 0;
  expect_ok(ic_cache_faults(cache, 0, &bits, nullptr), "faults");
  append(&bytes, &bits, 1);
  for (int32_t layer = 0; layer < kLayers; ++layer) {
    ic_index_view published = IC_INDEX_VIEW_INIT;
    const ic_status status = ic_cache_get_view(cache, layer, &published);
    append(&bytes, &status, 1);
    if (status != IC_OK) {
      const std::string reason = last_error();  // names the coverage of an incomplete publication
      append(&bytes, reason.data(), reason.size());
      continue;
    }
    append(&bytes, &published, 1);
    const auto entries = static_cast<size_t>(published.num_rows * published.row_stride);
    append(&bytes, published.indices, entries);
    append(&bytes, published.lengths, static_cast<size_t>(published.num_rows));
    if (published.scores != nullptr) append(&bytes, published.scores, entries);
  }
  ic_search_info found = IC_SEARCH_INFO_INIT;
  expect_ok(ic_search_get_info(search, &found), "search info");
  append(&bytes, &found, 1);
  std::string journal(1000, '\0');
  size_t length = journal.size();
  expect_ok(ic_search_journal(search, 0, journal.data(), &length), "journal");
  append(&bytes, journal.data(), length);
  return bytes;
}

std::vector<uint8_t> SmallProblem::run_all() {
  ready();
  const auto run = [](ic_status status, const char *what) {
    expect_ok(status, what);
    return status == IC_OK;
  };
  size_t memory = 0;
  if (!(run(call_full(), "full") && run(call_shared(), "shared") && run(call_scores(), "scores") &&
        run(call_select(), "select") && run(call_merge(), "merge") && run(call_overlap(), "overlap") &&
        (attention == nullptr || (run(call_attend(), "attention") && run(call_mass(), "attention mass"))) &&
        run(call_prepare_queries(), "prepare queries") && run(call_prepare_keys(), "prepare keys") &&
        run(call_remap(), "remap") && run(call_compact(), "compact") && run(call_export(), "export") &&
        run(call_begin(), "begin") && run(call_import(), "import") &&
        run(ic_cache_memory_size(&cache_desc, &memory), "memory size") && run(call_cache_create(), "cache") &&
        run(call_search_create(), "search by similarity") && run(ic_search_next(search, &candidate), "next") &&
        run(ic_search_tell(search, 4, 2.5), "tell") && run(ic_search_get_step(search, 0, &search_step), "step")))
    return {};
  std::vector<uint8_t> bytes;
  arrays_.append_outputs(&bytes);
  append(&bytes, &memory, 1);
  append(&bytes, &candidate, 1);
  append(&bytes, &search_step, 1);
  for (const int32_t layer : {0, 2}) {
    ic_index_view published = IC_INDEX_VIEW_INIT;
    if (ic_cache_get_view(cache, layer, &published) != IC_OK) continue;
    append(&bytes, published.indices, static_cast<size_t>(published.num_rows * published.row_stride));
    append(&bytes, published.lengths, static_cast<size_t>(published.num_rows));
  }
  ready();
  return bytes;
}

ic_status SmallProblem::call_context_create() {
  return create_and_destroy<ic_context>([&](auto **out) { return ic_context_create(&context_desc, out); },
                                        ic_context_destroy);
}

ic_status SmallProblem::call_schedule_create() {
  return create_and_destroy<ic_schedule>([&](auto **out) { return ic_schedule_create(&schedule_desc, out); },
                                         ic_schedule_destroy);
}

ic_status SmallProblem::call_indexer_create() {
  return create_and_destroy<ic_indexer>([&](auto **out) { return ic_indexer_create(context, &indexer_desc, out); },
                                        ic_indexer_destroy);
}

ic_status SmallProblem::call_topk_create() {
  return create_and_destroy<ic_topk>([&](auto **out) { return ic_topk_create(context, &topk_desc, out); },
                                     ic_topk_destroy);
}

ic_status SmallProblem::call_attention_create() {
  return create_and_destroy<ic_attention>(
      [&](auto **out) { return ic_attention_create(context, &attention_desc, out); }, ic_attention_destroy);
}

ic_status SmallProblem::call_cache_create() {
  return create_and_destroy<ic_cache>([&](auto **out) { return ic_cache_create(context, &cache_desc, out); },
                                      ic_cache_destroy);
}

ic_status SmallProblem::call_search_create() {
  return create_and_destroy<ic_search>([&](auto **out) { return ic_search_create(&search_desc, out); },
                                       ic_search_destroy);
}

void BadInput::SetUp() {
  expected_ = problem.run_all();
  ASSERT_FALSE(expected_.empty());
}

void BadInput::TearDown() {
  EXPECT_TRUE(problem.run_all() == expected_) << "valid calls no longer give the same results";
}

}  // namespace ic::test
