// SPDX-License-Identifier: Apache-2.0
// The division of work of sparse attention; the arithmetic is in isa/attend.inl.
#include "cpu/attend.h"

#include <algorithm>

#include "cpu/convert.h"
#include "cpu/isa/attend_kernels.h"
#include "cpu/key_list.h"
#include "cpu/workers.h"
#include "indexcache.h"

namespace ic::cpu {
namespace {

constexpr int64_t kTaskFlops = 1000000;  // some microseconds: more than waking a thread costs
constexpr int64_t kGatherHeads = 12;     // gathering a key costs about as much as this many heads do with it

size_t align256(size_t bytes) { return (bytes + 255) / 256 * 256; }

size_t key_list_bytes(int32_t num_indices) {
  return align256(static_cast<size_t>(std::max(num_indices, 0)) * sizeof(const uint8_t *));
}

size_t slice_bytes(int32_t num_heads, int32_t d_latent, int32_t d_rope, int32_t num_indices) {
  return key_list_bytes(num_indices) + align256(attend_scratch(num_heads, d_latent, d_rope).size * sizeof(float));
}

// The keys that a list names, without what is skipped.
class KeyList {
 public:
  explicit KeyList(const uint8_t **keys) : keys_(keys) {}
  void add(int32_t, const uint8_t *key) { keys_[count_++] = key; }
  void add_fault(uint32_t bits) { faults_ |= bits; }
  int32_t count() const { return count_; }
  uint32_t faults() const { return faults_; }
  const uint8_t *const *keys() const { return keys_; }

 private:
  const uint8_t **keys_;
  int32_t count_ = 0;
  uint32_t faults_ = 0;
};

// Work items are (row, group of heads). Groups share no arithmetic, so their number changes no bit.
struct Division {
  int32_t groups;       // of heads per row
  int32_t group_heads;  // in all but the last group
  int64_t tasks;        // that run at the same time
};

Division divide(const AttendParams &params, int slices) {
  const int64_t rows = params.rows.count;
  const int64_t row_flops = int64_t{params.num_heads} * params.num_indices * (2 * params.d_latent + params.d_rope) * 2;
  const int64_t tasks = std::clamp<int64_t>(rows * row_flops / kTaskFlops, 1, slices);
  Division best{1, params.num_heads, std::min(tasks, rows)};
  int64_t best_cost = (rows + tasks - 1) / tasks * (params.num_heads + kGatherHeads);
  for (int32_t groups = 2; groups <= tasks && rows < 4 * tasks && groups <= params.num_heads; ++groups) {
    const int32_t group_heads = (params.num_heads + groups - 1) / groups;
    const int64_t cost = (rows * groups + tasks - 1) / tasks * (group_heads + kGatherHeads);
    if (cost >= best_cost) continue;
    best_cost = cost;
    best = {(params.num_heads + group_heads - 1) / group_heads, group_heads, std::min(tasks, rows * groups)};
  }
  return best;
}

struct Run {
  const AttendParams &params;
  const AttendKernels &kernels;
  const Division division;
  const size_t slice_bytes;
  WorkCounter counter;
};

uint32_t attend_item(const Run &run, int64_t item, uint8_t *slice) {
  const AttendParams &params = run.params;
  const int32_t row = static_cast<int32_t>(item / run.division.groups);
  const int32_t head = static_cast<int32_t>(item % run.division.groups) * run.division.group_heads;
  KeyList list(reinterpret_cast<const uint8_t **>(slice));
  list_keys(params, row, list);
  const int64_t q_at = row * params.q_row_stride + int64_t{head} * (params.d_latent + params.d_rope);
  const int64_t out_at = row * params.out_row_stride + int64_t{head} * params.d_latent;
  AttendRow work = {};
  work.keys = list.keys();
  work.num_keys = list.count();
  work.num_heads = std::min(run.division.group_heads, params.num_heads - head);
  work.d_latent = params.d_latent;
  work.d_rope = params.d_rope;
  work.kv_dtype = params.kv_dtype;
  work.q_dtype = params.q_dtype;
  work.out_dtype = params.out_dtype;
  work.softmax_scale = params.softmax_scale;
  work.q = static_cast<const uint8_t *>(params.q) + q_at * dtype_bytes(params.q_dtype);
  work.sink = params.sink == nullptr ? nullptr : params.sink + head;
  work.out = static_cast<uint8_t *>(params.out) + out_at * dtype_bytes(params.out_dtype);
  work.lse = params.lse == nullptr ? nullptr : params.lse + row * params.lse_row_stride + head;
  run.kernels.row(work, reinterpret_cast<float *>(slice + key_list_bytes(params.num_indices)));
  return list.faults();
}

void attend_task(void *data, int64_t index) {
  Run &run = *static_cast<Run *>(data);
  uint8_t *slice = static_cast<uint8_t *>(run.params.workspace) + static_cast<size_t>(index) * run.slice_bytes;
  uint32_t faults = 0;
  for (int64_t item = run.counter.take(); item >= 0; item = run.counter.take()) faults |= attend_item(run, item, slice);
  if (faults != 0 && run.params.rows.fault != nullptr) {
    __atomic_fetch_or(run.params.rows.fault, faults, __ATOMIC_RELAXED);
  }
}

}  // namespace

const AttendKernels &attend_kernels(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) return kAttendKernelsAvx512;
  if (isa == Isa::kAvx2) return kAttendKernelsAvx2;
#endif
  static_cast<void>(isa);
  return kAttendKernelsPortable;
}

size_t attend_workspace_size(const Executor &executor, int32_t num_heads, int32_t d_latent, int32_t d_rope,
                             int32_t num_indices) {
  return static_cast<size_t>(executor.workers->slices()) * slice_bytes(num_heads, d_latent, d_rope, num_indices);
}

void attend(const Executor &executor, const AttendParams &params) {
  if (params.rows.count <= 0) return;
  const Division division = divide(params, executor.workers->slices());
  Run run{params, attend_kernels(executor.isa), division,
          slice_bytes(params.num_heads, params.d_latent, params.d_rope, params.num_indices),
          WorkCounter(int64_t{params.rows.count} * division.groups)};
  executor.workers->run(division.tasks, attend_task, &run);
}

}  // namespace ic::cpu
