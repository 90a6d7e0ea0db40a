// SPDX-License-Identifier: Apache-2.0
// What a backend must be able to do. All arguments have been checked against the API's contracts; what arrays contain
// has not.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/params.h"

namespace ic {

/// Maxima that a workspace must serve.
struct ScoreLimits {
  int32_t max_rows;
  int32_t max_key_end;
  int32_t num_heads;
  int32_t head_dim;
  int32_t dtype;
  int32_t k;  // 0 for plain scores
};

struct AttendLimits {
  int32_t max_rows;
  int32_t num_heads;
  int32_t d_latent;
  int32_t d_rope;
  int32_t kv_dtype;
  int32_t num_indices;
};

/// Operations are enqueued on a stream (CUDA) or finished on return (CPU). They allocate nothing.
class Backend {
 public:
  Backend() = default;
  Backend(const Backend &) = delete;
  Backend &operator=(const Backend &) = delete;
  virtual ~Backend() = default;

  /// IC_BACKEND_*.
  virtual int32_t kind() const noexcept = 0;
  /// True when the host may read device memory: then the values in arrays are checked before any work.
  virtual bool host_visible() const noexcept = 0;
  /// Bit n = IC_DTYPE n.
  virtual uint32_t indexer_dtypes() const noexcept = 0;
  virtual uint32_t attention_dtypes() const noexcept = 0;
  /// Largest k of a selection; 0 = none can be made here.
  virtual int32_t max_k() const noexcept = 0;
  /// The id of an indexer's arithmetic, and the constant of its error bound.
  virtual uint64_t numerics_id(int32_t num_heads, int32_t head_dim, int32_t dtype) const noexcept = 0;
  virtual double error_bound(int32_t num_heads, int32_t head_dim, int32_t dtype) const noexcept = 0;

  /// Persistent device memory, 256-byte aligned; null when there is none left.
  virtual void *allocate(size_t bytes) noexcept = 0;
  virtual void release(void *memory, size_t bytes) noexcept = 0;
  /// Zeroes device memory before it returns (create functions only).
  virtual void clear(void *memory, size_t bytes) = 0;

  virtual size_t scores_workspace_size(const ScoreLimits &limits) const = 0;
  virtual size_t score_select_workspace_size(const ScoreLimits &limits) const = 0;
  virtual size_t select_workspace_size(int32_t max_rows, int32_t max_end, int32_t k) const = 0;
  virtual size_t merge_workspace_size(int32_t max_rows, int32_t max_parts, int32_t k) const = 0;
  virtual size_t attend_workspace_size(const AttendLimits &limits) const = 0;
  virtual size_t attention_mass_workspace_size(const AttendLimits &limits) const = 0;

  // Asked before an operation changes anything; each fails where the operation could not run.
  virtual void require_stream(Stream stream) const = 0;
  /// The memory of a block to be exported to or imported from. location: IC_MEMORY_*.
  virtual void require_block(const void *block, int32_t location, Stream stream) const = 0;

  virtual void scores(const ScoresParams &params, Stream stream) = 0;
  virtual void score_select(const ScoreSelectParams &params, Stream stream) = 0;
  virtual void select(const SelectParams &params, Stream stream) = 0;
  virtual void merge(const MergeParams &params, Stream stream) = 0;
  virtual void attend(const AttendParams &params, Stream stream) = 0;
  virtual void attention_mass(const AttentionMassParams &params, Stream stream) = 0;
  virtual void prepare_queries(const PrepareParams &params, Stream stream) = 0;
  virtual void prepare_keys(const PrepareParams &params, Stream stream) = 0;
  virtual void write_keys(const WriteKeysParams &params, Stream stream) = 0;

  virtual void stamp(const StampParams &params, Stream stream) = 0;
  virtual void check_stamps(const CheckStampsParams &params, Stream stream) = 0;
  virtual void gather_rows(const GatherRowsParams &params, Stream stream) = 0;
  virtual void remap(const RemapParams &params, Stream stream) = 0;
  virtual void overlap(const OverlapParams &params, Stream stream) = 0;
  virtual void export_rows(const ExportParams &params, Stream stream) = 0;
  virtual void import_rows(const ImportParams &params, Stream stream) = 0;
  /// Reads (and clears) a fault word after all work on the stream.
  virtual uint32_t read_faults(uint32_t *word, bool clear, Stream stream) = 0;
};

}  // namespace ic
