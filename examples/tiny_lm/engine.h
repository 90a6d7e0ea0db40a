// SPDX-License-Identifier: Apache-2.0
// A small inference engine: one sequence, paged keys, the layers of the model through ic_forward.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "dense.h"
#include "device.h"
#include "library.h"
#include "model.h"
#include "thread_pool.h"

namespace tiny_lm {

/// Wall time since construction, waiting for the device included, and how often the indexer ran.
struct EngineStats {
  double indexer_seconds = 0;    ///< all that a Shared layer saves: projection, preparation, scores, selection
  double attention_seconds = 0;  ///< sparse attention over the selected keys
  int64_t indexer_calls = 0;     ///< Full calls of ic_forward
};

/// What a whole sequence leaves behind in every layer: enough to run it again from any layer on, under every pattern
/// that is the same in front of that layer.
struct Trace {
  std::string pattern;                              ///< under which it was made
  std::vector<Matrix> inputs;                       ///< per layer [tokens, hidden]: the residual stream in front of it
  std::vector<std::vector<uint64_t>> publications;  ///< per layer: a Full one's indices, exported; empty otherwise
};

/// One Full layer's indexer inputs as they go to the library, for those who want to see scores or to select themselves.
struct IndexerStep {
  int layer = 0;
  const Library *library = nullptr;
  const ic_batch *batch = nullptr;
  const ic_queries *queries = nullptr;
  const ic_pool *keys = nullptr;
};

/// One layer's attention as it went to the library, for those who want to repeat it over other indices.
struct AttentionStep {
  int layer = 0;
  const Library *library = nullptr;
  const ic_batch *batch = nullptr;
  const ic_attention_args *attention = nullptr;
};

struct EngineOptions {
  int max_tokens = 2048;  ///< longest sequence
  int num_slots = 1;      ///< layers whose indices stay readable until the next feed
  /// Full layers, too, attend inside ic_forward. Otherwise their attention is a call of its own, so that both can be
  /// timed; the results have the same bits.
  bool one_call_per_layer = false;
  /// Called instead of a Full layer's ic_forward; must publish indices for the layer (ic_cache_import).
  std::function<void(const IndexerStep &)> select;
  /// Called behind every Full layer's ic_forward.
  std::function<void(const IndexerStep &, const ic_index_view &)> inspect;
  /// Called behind every layer's attention.
  std::function<void(const AttentionStep &)> inspect_attention;
};

/// Not for several threads at once. Model, device and pool must outlive it.
class Engine {
 public:
  /// pattern: one letter F or S per layer. Throws Error; kExitPattern when the library refuses the schedule.
  Engine(const Model &model, const std::string &pattern, Device *device, ThreadPool *pool, EngineOptions options = {});

  /// Forgets the sequence.
  void restart() { num_tokens_ = 0; }

  /// Appends count bytes to the sequence and returns their logits, [count, vocab], valid until the next call. trace:
  /// receives what these bytes leave behind; they must be the first of their sequence.
  Eigen::Ref<const Matrix> feed(const uint8_t *bytes, int count, Trace *trace = nullptr);

  /// The logits of a traced sequence under this engine's pattern, of which only the layers from first_layer on are run:
  /// the same bits as feeding it. The patterns must agree in front of first_layer.
  Eigen::Ref<const Matrix> resume(const Trace &trace, int first_layer);

  /// The same, and what is behind first_layer replaces what the trace has there: it is this pattern's trace then.
  Eigen::Ref<const Matrix> retrace(Trace *trace, int first_layer);

  const Library &library() const { return library_; }
  const EngineStats &stats() const { return stats_; }
  const std::vector<int> &full_layers() const { return full_layers_; }

 private:
  /// What the library reads of one layer: its keys, in pages, and for Full layers the indexer's norm.
  struct LayerKeys {
    bool full = false;
    Device::Memory kv;     // latent KV of MLA: kv_rank + rope_dim floats per token
    Device::Memory index;  // index keys: index_dim floats per token
    Device::Memory norm;   // weight and bias, index_dim floats each
  };

  void create_keys();
  void begin(int count);
  void take_up(const Trace &trace, int first_layer);
  void run_layers(int first_layer, int count, Trace *trace);
  void export_indices(int layer, std::vector<uint64_t> *block);
  void run_layer(int layer, int count);
  void store_kv(const LayerKeys &keys, int count);
  void run_full_layer(int layer, int count, const ic_attention_args &attention);
  void prepare_indexer(int layer, const ic_pool &keys, int count);
  void for_row_blocks(int count, const std::function<void(const RowBlock &)> &body);
  ic_pool pool_of(const Device::Memory &memory) const;

  const Model &model_;
  const std::string pattern_;
  Device &device_;
  ThreadPool &pool_;
  EngineOptions options_;
  Library library_;
  EngineStats stats_;
  RopeTable rope_;
  Activations a_;
  Device::Memory ready_q_;  // [rows, index_heads * index_dim] indexer queries after preparation

  std::vector<LayerKeys> keys_;
  std::vector<int> full_layers_;
  int num_pages_ = 0;
  SharedArray<int32_t> pages_;  // logical block -> page, the same in every layer
  ic_block_table table_ = IC_BLOCK_TABLE_INIT;

  int num_tokens_ = 0;              // tokens in the sequence
  SharedArray<int32_t> positions_;  // of the rows that are being fed; so are the next two
  SharedArray<int32_t> key_end_;
  SharedArray<int64_t> slots_;
  ic_batch batch_ = IC_BATCH_INIT;
};

}  // namespace tiny_lm
