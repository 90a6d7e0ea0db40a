// SPDX-License-Identifier: Apache-2.0
// Host side of sparse attention: which kernel, which cut, how much workspace. Everything follows from host values, so a
// captured graph has one shape.
#include <algorithm>
#include <cstdint>

#include "indexcache.h"
#include "kernels/attention/launch.h"
#include "kernels/attention/smxx/plan.h"
#include "kernels/views/pool.cuh"

namespace ic::cuda {
namespace {

constexpr int32_t kMmaLatent = 512, kMmaRope = 64;
constexpr int32_t kWideTile = 64, kNarrowTile = 16;  // heads
constexpr int64_t kMaxSplitBytes = int64_t{256} << 20;

int64_t divide_up(int64_t value, int64_t by) { return (value + by - 1) / by; }

int32_t processors(const LaunchLimits &limits) {
  return limits.max_ctas > 0 ? std::min(limits.num_processors, limits.max_ctas) : limits.num_processors;
}

/// Splits of the longest list.
int32_t splits_of(int32_t num_indices) { return static_cast<int32_t>(divide_up(num_indices, kSplitEntries)); }

int64_t split_bytes(int64_t rows, int32_t num_heads, int32_t d_latent, int32_t num_indices) {
  const int64_t count = rows * splits_of(num_indices) * num_heads;
  return split_results_bytes(count) + count * d_latent * static_cast<int64_t>(sizeof(float));
}

/// Where a CTA of the tensor-core kernel keeps a row's sums between splits. A processor holds at most one CTA of 64
/// heads or two of 16.
int64_t walk_bytes(int64_t ctas, int32_t heads) {
  return ctas * heads * kMmaLatent * static_cast<int64_t>(sizeof(float));
}

/// Whether whole rows would leave more than 3/10 of the processors idle.
bool rows_are_few(int64_t rows, int32_t num_heads, int32_t processors) {
  const int64_t items = rows * divide_up(num_heads, kWideTile);
  return items * 10 < divide_up(items, processors) * processors * 7;
}

/// No more rows than these are few: three rounds of items leave less than a third idle, four less than a quarter.
int64_t most_few_rows(int32_t num_heads, int32_t processors) {
  return divide_up(processors * 21 / 10 + 1, divide_up(num_heads, kWideTile));
}

bool is_aligned(const void *pointer, int64_t stride_bytes, uintptr_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0 && stride_bytes % static_cast<int64_t>(bytes) == 0;
}

bool fits_tensor_cores(const AttendParams &p) {
  return p.q_dtype == IC_DTYPE_BF16 && p.kv_dtype != IC_DTYPE_F32 && p.d_latent == kMmaLatent && p.d_rope == kMmaRope &&
         is_aligned(p.kv.data, p.kv.stride_bytes, 16);
}

/// Shared memory that a CTA may have on the current device.
int32_t shared_limit() {
  int device = 0;
  int bytes = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) != cudaSuccess) {
    return 0;
  }
  return bytes;
}

/// Heads of a tile of the tensor-core kernel, 0 when none fits.
int32_t tile_heads(const AttendParams &p, bool split, int32_t processors, int32_t shared_bytes) {
  const int64_t narrow_items =
      int64_t{p.rows.count} * divide_up(p.num_heads, kNarrowTile) * (split ? splits_of(p.num_indices) : 1);
  const bool wide = p.num_heads > kNarrowTile && narrow_items > processors;
  if (wide && attend_mma_stages(kWideTile, p.kv_dtype, shared_bytes) > 0) return kWideTile;
  return attend_mma_stages(kNarrowTile, p.kv_dtype, shared_bytes) > 0 ? kNarrowTile : 0;
}

}  // namespace

cudaError_t load_attend() {
  cudaError_t error = load_attend_mma();
  if (error == cudaSuccess) error = load_attend_f32();
  if (error == cudaSuccess) error = load_join_splits();
  return error;
}

size_t attend_workspace_bytes(const AttendLimits &limits, const LaunchLimits &launch) {
  if (limits.max_rows <= 0 || splits_of(limits.num_indices) <= 1) return 0;
  const int32_t cores = processors(launch);
  const int64_t few = std::min<int64_t>(limits.max_rows, most_few_rows(limits.num_heads, cores));
  int64_t bytes = std::min(split_bytes(few, limits.num_heads, limits.d_latent, limits.num_indices), kMaxSplitBytes);
  if (limits.kv_dtype != IC_DTYPE_F32 && limits.d_latent == kMmaLatent && limits.d_rope == kMmaRope) {
    const int64_t items = limits.max_rows * divide_up(limits.num_heads, kNarrowTile);
    bytes = std::max(bytes, walk_bytes(std::min<int64_t>(items, cores), kWideTile));
  }
  return static_cast<size_t>(bytes);
}

cudaError_t launch_attend(const AttendParams &params, const LaunchLimits &limits, cudaStream_t stream) {
  if (params.rows.count == 0) return cudaSuccess;
  const int32_t cores = processors(limits);
  const int32_t splits = splits_of(params.num_indices);
  const bool split =
      splits > 1 && rows_are_few(params.rows.count, params.num_heads, cores) &&
      split_bytes(params.rows.count, params.num_heads, params.d_latent, params.num_indices) <= kMaxSplitBytes;
  const int64_t out_bytes = params.out_dtype == IC_DTYPE_F32 ? 4 : 2;
  const int32_t shared_bytes = fits_tensor_cores(params) ? shared_limit() : 0;
  const int32_t mma_heads = tile_heads(params, split, cores, shared_bytes);
  const int32_t heads = mma_heads > 0 ? mma_heads : kF32TileHeads;

  AttendPlan plan = {};
  plan.splits = split ? splits : 0;
  plan.head_tiles = static_cast<int32_t>(divide_up(params.num_heads, heads));
  plan.num_items = int64_t{params.rows.count} * plan.head_tiles * (split ? splits : 1);
  plan.page_shift = std::max(page_shift(params.kv), 0);
  plan.stages = mma_heads > 0 ? attend_mma_stages(heads, params.kv_dtype, shared_bytes) : 0;
  plan.q_aligned = is_aligned(params.q, params.q_row_stride * 2, 16) ? 1 : 0;
  plan.out_aligned =
      is_aligned(params.out, params.out_row_stride * out_bytes, static_cast<uintptr_t>(2 * out_bytes)) ? 1 : 0;

  cudaError_t error = cudaSuccess;
  if (mma_heads > 0) {
    // A walking CTA owns a part of the workspace: no more CTAs than it was sized for.
    const int64_t ctas = split ? plan.num_items : std::min<int64_t>(plan.num_items, cores);
    error = launch_attend_mma(params, plan, heads, limits.grid(ctas), stream);
  } else {
    error = launch_attend_f32(params, plan, limits.grid(plan.num_items), stream);
  }
  if (error != cudaSuccess || !split) return error;
  return launch_join_splits(params, plan, limits.grid(int64_t{params.rows.count} * params.num_heads), stream);
}

}  // namespace ic::cuda
