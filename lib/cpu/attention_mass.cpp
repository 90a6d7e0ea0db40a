// SPDX-License-Identifier: Apache-2.0
// The division of work of attention masses, a row per item; the arithmetic is in isa/attention_mass.inl.
#include "cpu/attention_mass.h"

#include <algorithm>

#include "cpu/attend.h"
#include "cpu/isa/attend_kernels.h"
#include "cpu/key_list.h"
#include "cpu/workers.h"
#include "cpu/workspace.h"

namespace ic::cpu {
namespace {

constexpr int64_t kTaskFlops = 1000000;  // as in attend.cpp

/// What one running task works in.
struct Slice {
  const uint8_t **keys;  // [num_indices]
  int32_t *entries;      // [num_indices]
  float *scratch;
};

Slice take_slice(Workspace &workspace, int32_t num_heads, int32_t d, int32_t num_indices) {
  const size_t count = static_cast<size_t>(std::max(num_indices, 0));
  Slice slice;
  slice.keys = workspace.take<const uint8_t *>(count);
  slice.entries = workspace.take<int32_t>(count);
  slice.scratch = workspace.take<float>(attend_scratch(num_heads, 0, d).size);
  return slice;
}

/// The keys that a list names, and which entry names each.
class EntryList {
 public:
  explicit EntryList(const Slice &slice) : slice_(slice) {}
  void add(int32_t entry, const uint8_t *key) {
    slice_.keys[count_] = key;
    slice_.entries[count_++] = entry;
  }
  void add_fault(uint32_t bits) { faults_ |= bits; }
  int32_t count() const { return count_; }
  uint32_t faults() const { return faults_; }

 private:
  const Slice &slice_;
  int32_t count_ = 0;
  uint32_t faults_ = 0;
};

struct Run {
  const AttentionMassParams &params;
  const AttendKernels &kernels;
  size_t slice_bytes;
  WorkCounter counter;
};

uint32_t mass_of_row(const Run &run, int32_t row, const Slice &slice) {
  const AttendParams &p = run.params.attend;
  float *mass = run.params.mass + row * run.params.mass_row_stride;
  std::fill_n(mass, p.num_indices, 0.0f);
  EntryList list(slice);
  list_keys(p, row, list);
  AttendRow work = {};
  work.keys = slice.keys;
  work.num_keys = list.count();
  work.num_heads = p.num_heads;
  work.d_rope = p.d_latent + p.d_rope;
  work.kv_dtype = p.kv_dtype;
  work.q_dtype = p.q_dtype;
  work.softmax_scale = p.softmax_scale;
  work.q = static_cast<const uint8_t *>(p.q) + row * p.q_row_stride * dtype_bytes(p.q_dtype);
  work.sink = p.sink;
  run.kernels.mass(work, slice.entries, mass, slice.scratch);
  return list.faults();
}

void mass_task(void *data, int64_t index) {
  Run &run = *static_cast<Run *>(data);
  const AttendParams &p = run.params.attend;
  Workspace workspace(static_cast<uint8_t *>(p.workspace) + static_cast<size_t>(index) * run.slice_bytes);
  const Slice slice = take_slice(workspace, p.num_heads, p.d_latent + p.d_rope, p.num_indices);
  uint32_t faults = 0;
  for (int64_t row = run.counter.take(); row >= 0; row = run.counter.take())
    faults |= mass_of_row(run, static_cast<int32_t>(row), slice);
  if (faults != 0 && p.rows.fault != nullptr) __atomic_fetch_or(p.rows.fault, faults, __ATOMIC_RELAXED);
}

size_t slice_bytes(int32_t num_heads, int32_t d, int32_t num_indices) {
  Workspace measure;
  take_slice(measure, num_heads, d, num_indices);
  return measure.used();
}

}  // namespace

size_t attention_mass_workspace_size(const Executor &executor, int32_t num_heads, int32_t d_latent, int32_t d_rope,
                                     int32_t num_indices) {
  return static_cast<size_t>(executor.workers->slices()) * slice_bytes(num_heads, d_latent + d_rope, num_indices);
}

void attention_mass(const Executor &executor, const AttentionMassParams &params) {
  const AttendParams &p = params.attend;
  if (p.rows.count <= 0) return;
  const int32_t d = p.d_latent + p.d_rope;
  const int64_t row_flops = int64_t{p.num_heads} * p.num_indices * d * 4;
  const int64_t most = std::min<int64_t>(executor.workers->slices(), p.rows.count);
  const int64_t tasks = std::clamp<int64_t>(p.rows.count * row_flops / kTaskFlops, 1, most);
  Run run{params, attend_kernels(executor.isa), slice_bytes(p.num_heads, d, p.num_indices), WorkCounter(p.rows.count)};
  executor.workers->run(tasks, mass_task, &run);
}

}  // namespace ic::cpu
