// SPDX-License-Identifier: Apache-2.0
// Host entries of selection and merge.
#pragma once

#include <cuda_runtime_api.h>

#include "core/params.h"
#include "kernels/launch.h"
#include "kernels/policy/sm90.h"

namespace ic::cuda {

/// Selection from a score matrix whose rows are given as a batch gives them; column = position. The public operation
/// and the one inside score_select are both made from it.
struct SelectRowsParams {
  RowsView rows;          // fault is not set here; a row with an illegal value is empty
  const float *scores;    // [rows.count, score_stride]
  int64_t score_stride;   // elements
  int32_t nan_is_absent;  // 1: a column that holds a NaN is no key (score_select); 0: it counts as -inf
  int32_t reserved;
  SelectionOut out;
  void *workspace;
  size_t workspace_size;
};

/// The kernel for the chip and the shape.
cudaError_t load_select(const LaunchLimits &limits);
size_t select_workspace_bytes(int32_t max_rows, int32_t max_end, int32_t k, const LaunchLimits &limits);
cudaError_t launch_select(const SelectRowsParams &params, const LaunchLimits &limits, cudaStream_t stream);

/// Any chip and shape. The workspace is its own.
cudaError_t load_select_portable();
cudaError_t launch_select_portable(const SelectRowsParams &params, const LaunchLimits &limits, cudaStream_t stream);

/// Hopper, where its code is loaded; without workspace. cudaErrorNotSupported where a variant does not fit: k above
/// 2048, order by score, scores not on 16 bytes, rows longer than a variant's (9K to 270K columns), fewer blocks
/// allowed than a cluster has.
cudaError_t load_select_sm90();
bool select_sm90_fits(const SelectRowsParams &params, const LaunchLimits &limits, sm90::SelectVariant variant);
cudaError_t launch_select_sm90(const SelectRowsParams &params, const LaunchLimits &limits, sm90::SelectVariant variant,
                               cudaStream_t stream);

/// What it is made from: each serves its own variants.
namespace windows {
cudaError_t load_select();
bool select_fits(const SelectRowsParams &params, const LaunchLimits &limits, sm90::SelectVariant variant);
cudaError_t launch_select(const SelectRowsParams &params, const LaunchLimits &limits, sm90::SelectVariant variant,
                          cudaStream_t stream);
}  // namespace windows
namespace lists {
cudaError_t load_select();
bool select_fits(const SelectRowsParams &params, const LaunchLimits &limits, sm90::SelectVariant variant);
cudaError_t launch_select(const SelectRowsParams &params, const LaunchLimits &limits, sm90::SelectVariant variant,
                          cudaStream_t stream);
}  // namespace lists

cudaError_t load_merge();
size_t merge_workspace_bytes(int32_t max_rows, int32_t max_parts, int32_t k, const LaunchLimits &limits);
cudaError_t launch_merge(const MergeParams &params, const LaunchLimits &limits, cudaStream_t stream);

}  // namespace ic::cuda
