// SPDX-License-Identifier: Apache-2.0
// The CUDA backend of one device: checked arguments in, launches on the caller's stream out.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <mutex>

#include "core/backend.h"
#include "core/cuda.h"
#include "cuda/device_guard.h"
#include "kernels/launch.h"

namespace ic::cuda {

class CudaBackend final : public Backend {
 public:
  /// The device has been checked (require_device). Loads every kernel.
  explicit CudaBackend(const CudaOptions &options);
  ~CudaBackend() override;

  int32_t kind() const noexcept override { return IC_BACKEND_CUDA; }
  bool host_visible() const noexcept override { return false; }
  uint32_t indexer_dtypes() const noexcept override;
  uint32_t attention_dtypes() const noexcept override;
  int32_t max_k() const noexcept override;
  uint64_t numerics_id(int32_t num_heads, int32_t head_dim, int32_t dtype) const noexcept override;
  double error_bound(int32_t num_heads, int32_t head_dim, int32_t dtype) const noexcept override;

  void *allocate(size_t bytes) noexcept override;
  void release(void *memory, size_t bytes) noexcept override;
  void clear(void *memory, size_t bytes) override;

  size_t scores_workspace_size(const ScoreLimits &limits) const override;
  size_t score_select_workspace_size(const ScoreLimits &limits) const override;
  size_t select_workspace_size(int32_t max_rows, int32_t max_end, int32_t k) const override;
  size_t merge_workspace_size(int32_t max_rows, int32_t max_parts, int32_t k) const override;
  size_t attend_workspace_size(const AttendLimits &limits) const override;
  size_t attention_mass_workspace_size(const AttendLimits &limits) const override;

  void require_stream(Stream stream) const override;
  void require_block(const void *block, int32_t location, Stream stream) const override;

  void scores(const ScoresParams &params, Stream stream) override;
  void score_select(const ScoreSelectParams &params, Stream stream) override;
  void select(const SelectParams &params, Stream stream) override;
  void merge(const MergeParams &params, Stream stream) override;
  void attend(const AttendParams &params, Stream stream) override;
  void attention_mass(const AttentionMassParams &params, Stream stream) override;
  void prepare_queries(const PrepareParams &params, Stream stream) override;
  void prepare_keys(const PrepareParams &params, Stream stream) override;
  void write_keys(const WriteKeysParams &params, Stream stream) override;

  void stamp(const StampParams &params, Stream stream) override;
  void check_stamps(const CheckStampsParams &params, Stream stream) override;
  void gather_rows(const GatherRowsParams &params, Stream stream) override;
  void remap(const RemapParams &params, Stream stream) override;
  void overlap(const OverlapParams &params, Stream stream) override;
  void export_rows(const ExportParams &params, Stream stream) override;
  void import_rows(const ImportParams &params, Stream stream) override;
  uint32_t read_faults(uint32_t *word, bool clear, Stream stream) override;

 private:
  /// launch(fault word) for an operation that reports to `fault`; with IC_CONTEXT_CHECK_VALUES waits and fails for what
  /// it reported.
  template <class Launch>
  void run(const char *operation, uint32_t *fault, Stream stream, Launch &&launch);

  void prepare(const char *operation, const PrepareParams &params, Stream stream);
  cudaError_t check_rows(const RowsView &rows, Stream stream) const;
  cudaError_t check_lengths(const int32_t *lengths, int64_t count, int32_t longest, uint32_t *fault,
                            Stream stream) const;

  PrimaryContext primary_;
  int32_t device_;
  Allocator allocator_;
  LaunchLimits limits_;
  cudaStream_t create_stream_ = nullptr;  // non-blocking: what create functions run waits for nobody
  std::mutex checking_;                   // held by the operation that uses the word
  uint32_t *check_word_ = nullptr;        // device memory; null = values are not checked
};

}  // namespace ic::cuda
