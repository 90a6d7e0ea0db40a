// SPDX-License-Identifier: Apache-2.0
// One Full layer without attention: what ic_forward and ic_indexer_scores need, in as many input sets as wanted.
#pragma once

#include <cstdint>
#include <vector>

#include "device.h"
#include "indexcache.h"
#include "library.h"

namespace bench {

inline constexpr int32_t kTopK = 2048;
inline constexpr int32_t kIndexDim = 128;

/// fp8 queries and keys of `requests` sequences of `context` keys each; rows are the last of each sequence, causal.
struct LayerShape {
  int32_t num_heads;
  int32_t requests;
  int32_t rows_per_request;
  int32_t context;
  int32_t page_tokens;  // 0 = contiguous, for one request

  int32_t rows() const { return requests * rows_per_request; }
  /// What one call must read of keys and queries.
  int64_t read_bytes() const {
    return int64_t{requests} * context * (kIndexDim + 4) + int64_t{rows()} * num_heads * kIndexDim;
  }
};

class FullLayer {
 public:
  /// max_part: most rows of one call.
  FullLayer(const LayerShape &shape, int32_t num_sets, int32_t max_part);

  /// Opens a generation for rows [begin, begin + count) and runs the Full layer for them.
  ic_index_view forward(int32_t set, int32_t begin, int32_t count, uint64_t capture, ic_stream stream);
  ic_index_view forward(int32_t set, uint64_t capture, ic_stream stream) {
    return forward(set, 0, shape_.rows(), capture, stream);
  }

  /// Scores of the same rows into out [count, context].
  void scores(int32_t set, int32_t begin, int32_t count, float *out, uint32_t flags, ic_stream stream);

  /// Throws unless what forward() selects for some rows of a set is exact against scores().
  void verify();

  ic_cache *cache() const { return cache_.get(); }
  const ic_batch &batch_of(int32_t set, int32_t begin, int32_t count);

 private:
  ic_queries queries_of(int32_t set, int32_t begin) const;
  ic_pool keys_of(int32_t set) const;

  LayerShape shape_;
  int32_t max_part_;
  int64_t blocks_ = 0;  // of a sequence
  DeviceArray<uint8_t> q_;
  DeviceArray<float> w_;
  DeviceArray<uint8_t> keys_;
  DeviceArray<float> key_scales_;
  DeviceArray<int32_t> pages_;  // [sets, requests, blocks]
  DeviceArray<int32_t> row_seq_;
  DeviceArray<int32_t> key_end_;
  Owner<ic_indexer> indexer_;
  Owner<ic_topk> topk_;
  Owner<ic_cache> cache_;
  size_t workspace_size_ = 0;
  DeviceArray<uint8_t> workspace_;
  ic_batch batch_ = IC_BATCH_INIT;
  ic_block_table table_ = IC_BLOCK_TABLE_INIT;
};

}  // namespace bench
