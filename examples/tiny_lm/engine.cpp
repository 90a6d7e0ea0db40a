// SPDX-License-Identifier: Apache-2.0
// How an engine uses the library: one ic_cache_begin per forward, one ic_forward per layer.
#include "engine.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace tiny_lm {
namespace {

constexpr int kPageTokens = 64;
constexpr int pages_for(int tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }
constexpr int kBlockRows = 128;  // rows of one task: their activations stay in a core's cache

/// Adds the time from its construction to its end to a total.
class Timer {
 public:
  explicit Timer(double *total) : total_(total), start_(std::chrono::steady_clock::now()) {}
  ~Timer() { *total_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }
  Timer(const Timer &) = delete;
  Timer &operator=(const Timer &) = delete;

 private:
  double *total_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace

Engine::Engine(const Model &model, const std::string &pattern, Device *device, ThreadPool *pool, EngineOptions options)
    : model_(model),
      pattern_(pattern),
      device_(*device),
      pool_(*pool),
      options_(std::move(options)),
      library_(model.config, pattern, options_.max_tokens, options_.num_slots, device),
      rope_(device, options_.max_tokens, model.config.rope_dim, model.config.rope_theta),
      a_(device, model.config, options_.max_tokens),
      ready_q_(device->memory(sizeof(float) * static_cast<size_t>(a_.index_q.size()), Reach::kLibrary)),
      num_pages_(pages_for(options_.max_tokens)),
      pages_(device, static_cast<size_t>(num_pages_)),
      positions_(device, static_cast<size_t>(options_.max_tokens)),
      key_end_(device, static_cast<size_t>(options_.max_tokens)),
      slots_(device, static_cast<size_t>(options_.max_tokens)) {
  create_keys();
}

void Engine::create_keys() {
  const ModelConfig &c = model_.config;
  // An allocator hands pages out in any order; here the last one first.
  for (int block = 0; block < num_pages_; ++block) pages_[static_cast<size_t>(block)] = num_pages_ - 1 - block;
  table_.pages = pages_.data();
  table_.num_blocks = num_pages_;
  table_.page_tokens = kPageTokens;

  const auto vectors = [&](int width) {
    const auto floats = static_cast<size_t>(num_pages_) * kPageTokens * static_cast<size_t>(width);
    return device_.memory(floats * sizeof(float), Reach::kLibrary);
  };
  keys_.resize(static_cast<size_t>(c.num_layers));
  for (int layer = 0; layer < c.num_layers; ++layer) {
    LayerKeys &keys = keys_[static_cast<size_t>(layer)];
    keys.full = library_.is_full(layer);
    keys.kv = vectors(c.kv_rank + c.rope_dim);
    // The schedule never changes here, so a Shared layer needs no index keys. An engine that changes schedules while a
    // sequence lives must write them in every layer: ic_forward_args.new_keys does so in every mode.
    if (keys.full) {
      keys.index = vectors(c.index_dim);
      const LayerWeights &w = model_.layers[static_cast<size_t>(layer)];
      const auto norm_bytes = sizeof(float) * static_cast<size_t>(c.index_dim);
      keys.norm = device_.memory(2 * norm_bytes, Reach::kLibrary);
      device_.copy(keys.norm.get(), w.index_k_norm.data(), norm_bytes);
      device_.copy(static_cast<float *>(keys.norm.get()) + c.index_dim, w.index_k_bias.data(), norm_bytes);
      full_layers_.push_back(layer);
    }
  }
}

ic_pool Engine::pool_of(const Device::Memory &memory) const {
  ic_pool pool = IC_POOL_INIT;
  pool.data = memory.get();
  pool.capacity = num_pages_;
  pool.layout = IC_LAYOUT_PAGED;
  pool.block_table = 0;
  return pool;
}

void Engine::for_row_blocks(int count, const std::function<void(const RowBlock &)> &body) {
  const int share = (count + pool_.num_threads() - 1) / pool_.num_threads();
  const int rows = std::clamp(share, 1, kBlockRows);
  pool_.parallel_for((count + rows - 1) / rows, [&](int64_t block) {
    const int first = static_cast<int>(block) * rows;
    body({first, std::min(rows, count - first), num_tokens_});
  });
}

Eigen::Ref<const Matrix> Engine::feed(const uint8_t *bytes, int count, Trace *trace) {
  if (count < 0 || count > options_.max_tokens - num_tokens_) {
    throw Error(kExitFailure, "a sequence of " + std::to_string(num_tokens_) + " tokens cannot grow by " +
                                  std::to_string(count) + "; it may hold " + std::to_string(options_.max_tokens));
  }
  if (trace != nullptr) {
    if (num_tokens_ != 0) throw Error(kExitFailure, "a trace begins with the first token of a sequence");
    const auto layers = static_cast<size_t>(model_.config.num_layers);
    *trace = {pattern_, std::vector<Matrix>(layers), std::vector<std::vector<uint64_t>>(layers)};
  }
  begin(count);
  for_row_blocks(count, [&](const RowBlock &rows) { embed(model_, bytes, rows, &a_); });
  run_layers(0, count, trace);
  return a_.logits.topRows(count);
}

Eigen::Ref<const Matrix> Engine::resume(const Trace &trace, int first_layer) {
  take_up(trace, first_layer);
  const auto count = static_cast<int>(trace.inputs.front().rows());
  run_layers(first_layer, count, nullptr);
  return a_.logits.topRows(count);
}

Eigen::Ref<const Matrix> Engine::retrace(Trace *trace, int first_layer) {
  take_up(*trace, first_layer);
  const auto count = static_cast<int>(trace->inputs.front().rows());
  run_layers(first_layer, count, trace);
  trace->pattern = pattern_;
  return a_.logits.topRows(count);
}

// The same hand-over as at a pipeline cut: activations, and the indices that the first layer behind it shares.
void Engine::take_up(const Trace &trace, int first_layer) {
  const int layers = model_.config.num_layers;
  if (first_layer < 0 || first_layer >= layers) {
    throw Error(kExitUsage,
                "first layer is " + std::to_string(first_layer) + "; allowed: 0 to " + std::to_string(layers - 1));
  }
  const auto first = static_cast<size_t>(first_layer);
  if (trace.pattern.compare(0, first, pattern_, 0, first) != 0) {
    throw Error(kExitUsage, "first layer is " + std::to_string(first_layer) + ", but " + pattern_ + " and " +
                                trace.pattern + " differ in front of it");
  }
  restart();
  begin(static_cast<int>(trace.inputs[first].rows()));
  a_.hidden.topRows(trace.inputs[first].rows()) = trace.inputs[first];

  int32_t source = -1;
  if (first_layer > 0) check(ic_schedule_get_cut(library_.schedule.get(), first_layer, &source));
  if (source == -1) return;  // a Full layer
  const std::vector<uint64_t> &block = trace.publications[static_cast<size_t>(source)];
  // Another schedule made it, but one that is the same up to here.
  check(ic_cache_import(library_.cache.get(), source, IC_IMPORT_ANY_SCHEDULE, block.data(),
                        block.size() * sizeof(uint64_t), nullptr, device_.stream()));
}

void Engine::run_layers(int first_layer, int count, Trace *trace) {
  for (int layer = first_layer; layer < model_.config.num_layers; ++layer) {
    const auto l = static_cast<size_t>(layer);
    if (trace != nullptr) trace->inputs[l] = a_.hidden.topRows(count);
    run_layer(layer, count);
    if (trace != nullptr) export_indices(layer, &trace->publications[l]);
  }
  for_row_blocks(count, [&](const RowBlock &rows) { project_logits(model_, rows, &a_); });
  num_tokens_ += count;
}

void Engine::export_indices(int layer, std::vector<uint64_t> *block) {
  block->clear();
  if (!keys_[static_cast<size_t>(layer)].full) return;
  size_t bytes = 0;
  check(ic_cache_export_size(library_.cache.get(), batch_.num_rows, 0, &bytes));
  block->resize((bytes + sizeof(uint64_t) - 1) / sizeof(uint64_t));
  check(ic_cache_export(library_.cache.get(), layer, 0, IC_MEMORY_HOST, block->data(), block->size() * sizeof(uint64_t),
                        device_.stream()));
  device_.wait();
}

// What all layers of this forward share: who the rows are and which keys they may see.
void Engine::begin(int count) {
  for (int r = 0; r < count; ++r) {
    const auto row = static_cast<size_t>(r);
    const int position = num_tokens_ + r;
    const int64_t page = pages_[static_cast<size_t>(position / kPageTokens)];
    positions_[row] = position;
    key_end_[row] = position + 1;  // causal: a token sees itself and everything before it
    slots_[row] = page * kPageTokens + position % kPageTokens;
  }
  batch_.num_rows = count;
  batch_.num_seqs = 1;
  batch_.key_end = key_end_.data();
  batch_.max_key_end = num_tokens_ + count;
  batch_.block_tables = &table_;
  batch_.num_block_tables = 1;
  check(ic_cache_begin(library_.cache.get(), &batch_));
}

void Engine::run_layer(int layer, int count) {
  const ModelConfig &c = model_.config;
  const LayerWeights &w = model_.layers[static_cast<size_t>(layer)];
  LayerKeys &keys = keys_[static_cast<size_t>(layer)];

  for_row_blocks(count, [&](const RowBlock &rows) { project_attention_inputs(c, w, rope_, rows, &a_); });
  store_kv(keys, count);

  const ic_pool kv = pool_of(keys.kv);
  ic_attention_args attention = IC_ATTENTION_ARGS_INIT;
  attention.q = a_.query.data();
  attention.kv = &kv;
  attention.out = a_.latent_out.data();

  if (keys.full) {
    run_full_layer(layer, count, attention);
  } else {
    const Timer timer(&stats_.attention_seconds);  // finding the source's indices takes no time
    ic_forward_args args = IC_FORWARD_ARGS_INIT;
    args.layer = layer;
    args.row_count = IC_ALL_ROWS;
    args.attention = &attention;
    args.workspace = library_.workspace.get();
    args.workspace_size = library_.workspace_size;
    check(ic_forward(library_.cache.get(), &args, nullptr, device_.stream()));
    device_.wait();
  }
  if (options_.inspect_attention) options_.inspect_attention({layer, &library_, &batch_, &attention});

  for_row_blocks(count, [&](const RowBlock &rows) { finish_layer(c, w, rows, &a_); });
}

// New latent KV into its pages. Tokens of one page lie one behind the other on both sides.
void Engine::store_kv(const LayerKeys &keys, int count) {
  const auto width = static_cast<int64_t>(a_.kv.cols());
  for (int row = 0; row < count;) {
    const int left_in_page = kPageTokens - (num_tokens_ + row) % kPageTokens;
    const int run = std::min(left_in_page, count - row);
    device_.copy(static_cast<float *>(keys.kv.get()) + slots_[static_cast<size_t>(row)] * width, a_.kv.row(row).data(),
                 static_cast<size_t>(run * width) * sizeof(float));
    row += run;
  }
}

void Engine::run_full_layer(int layer, int count, const ic_attention_args &attention) {
  const ModelConfig &c = model_.config;
  const ic_pool keys = pool_of(keys_[static_cast<size_t>(layer)].index);

  ic_queries queries = IC_QUERIES_INIT;
  queries.q = ready_q_.get();
  queries.w = a_.index_k_w.data() + c.index_dim;  // the head weights stand behind the keys in each row
  queries.w_row_stride = a_.index_k_w.cols();

  ic_forward_args args = IC_FORWARD_ARGS_INIT;
  args.layer = layer;
  args.row_count = IC_ALL_ROWS;
  args.queries = &queries;
  args.keys = &keys;
  args.attention = options_.one_call_per_layer ? &attention : nullptr;
  args.workspace = library_.workspace.get();
  args.workspace_size = library_.workspace_size;

  const IndexerStep step{layer, &library_, &batch_, &queries, &keys};
  ic_index_view view = IC_INDEX_VIEW_INIT;
  {
    const Timer timer(&stats_.indexer_seconds);
    prepare_indexer(layer, keys, count);
    if (options_.select) {
      options_.select(step);
      check(ic_cache_get_view(library_.cache.get(), layer, &view));
    } else {
      check(ic_forward(library_.cache.get(), &args, &view, device_.stream()));
    }
    device_.wait();
    ++stats_.indexer_calls;
  }
  if (options_.inspect) options_.inspect(step, view);
  if (options_.one_call_per_layer && !options_.select) return;

  const Timer timer(&stats_.attention_seconds);
  check(ic_attention_run(library_.attention.get(), &batch_, 0, &view, &attention, library_.workspace.get(),
                         library_.workspace_size, device_.stream()));
  device_.wait();
}

// From activations to indexer queries, and to keys in their pages.
void Engine::prepare_indexer(int layer, const ic_pool &keys, int count) {
  const LayerWeights &w = model_.layers[static_cast<size_t>(layer)];
  for_row_blocks(count, [&](const RowBlock &rows) { project_indexer_inputs(w, rows, &a_); });

  ic_prepare_args common = IC_PREPARE_ARGS_INIT;
  common.count = count;
  common.x_dtype = IC_DTYPE_F32;
  common.flags = IC_PREPARE_ROPE_INTERLEAVED;
  common.positions = positions_.data();
  common.cos_table = rope_.cos.data();
  common.sin_table = rope_.sin.data();
  common.num_positions = static_cast<int32_t>(rope_.cos.rows());
  common.rope_dim = model_.config.rope_dim;

  ic_prepare_args q = common;
  q.x = a_.index_q.data();
  q.q_out = ready_q_.get();
  check(ic_indexer_prepare_queries(library_.indexer.get(), &q, device_.stream()));

  ic_prepare_args k = common;
  k.x = a_.index_k_w.data();
  k.x_row_stride = a_.index_k_w.cols();
  k.norm_weight = static_cast<const float *>(keys_[static_cast<size_t>(layer)].norm.get());
  k.norm_bias = k.norm_weight + model_.config.index_dim;
  k.norm_eps = kInnerNormEps;
  k.pool = &keys;
  k.slots = slots_.data();
  k.page_tokens = kPageTokens;
  check(ic_indexer_prepare_keys(library_.indexer.get(), &k, device_.stream()));
}

}  // namespace tiny_lm
