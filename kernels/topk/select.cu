// SPDX-License-Identifier: Apache-2.0
// Which kernel selects: host code only.
#include <cuda_runtime.h>

#include "kernels/policy/sm90.h"
#include "kernels/topk/launch.h"

namespace ic::cuda {

cudaError_t load_select_sm90() {
  const cudaError_t error = windows::load_select();
  return error == cudaSuccess ? lists::load_select() : error;
}

bool select_sm90_fits(const SelectRowsParams &params, const LaunchLimits &limits, sm90::SelectVariant variant) {
  return windows::select_fits(params, limits, variant) || lists::select_fits(params, limits, variant);
}

cudaError_t launch_select_sm90(const SelectRowsParams &params, const LaunchLimits &limits, sm90::SelectVariant variant,
                               cudaStream_t stream) {
  if (windows::select_fits(params, limits, variant)) {
    return windows::launch_select(params, limits, variant, stream);
  }
  return lists::launch_select(params, limits, variant, stream);
}

cudaError_t load_select(const LaunchLimits &limits) {
  const cudaError_t error = load_select_portable();
  return error == cudaSuccess && limits.sm90a ? load_select_sm90() : error;
}

cudaError_t launch_select(const SelectRowsParams &params, const LaunchLimits &limits, cudaStream_t stream) {
  if (params.rows.count <= 0) return cudaSuccess;
  const sm90::SelectVariant variant =
      sm90::select_variant(params.rows.count, params.rows.max_key_end, params.out.k, limits);
  if (select_sm90_fits(params, limits, variant)) return launch_select_sm90(params, limits, variant, stream);
  return launch_select_portable(params, limits, stream);
}

}  // namespace ic::cuda
