// SPDX-License-Identifier: Apache-2.0
// The CPU backend's operations, each handed to its own file.
#include "cpu/cpu_backend.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "core/dtype.h"
#include "core/failure.h"
#include "core/numerics.h"
#include "cpu/attend.h"
#include "cpu/attention_mass.h"
#include "cpu/executor.h"
#include "cpu/index_sets.h"
#include "cpu/prepare.h"
#include "cpu/score_select.h"
#include "cpu/scores.h"
#include "cpu/select.h"
#include "cpu/workers.h"

namespace ic {
namespace {

constexpr int32_t kMaxK = 4096;
constexpr uint32_t kIndexerDtypes = 1u << IC_DTYPE_F32 | 1u << IC_DTYPE_F16 | 1u << IC_DTYPE_BF16 | 1u << IC_DTYPE_E4M3;
constexpr uint32_t kAttentionDtypes = 1u << IC_DTYPE_F32 | 1u << IC_DTYPE_BF16 | 1u << IC_DTYPE_E4M3;

class CpuBackend final : public Backend {
 public:
  CpuBackend(const CpuOptions &options, cpu::Isa isa)
      : workers_(options.num_threads, options.parallel_for, options.parallel_user),
        executor_{isa, &workers_},
        allocator_(options.allocator) {}

  int32_t kind() const noexcept override { return IC_BACKEND_CPU; }
  bool host_visible() const noexcept override { return true; }
  uint32_t indexer_dtypes() const noexcept override { return kIndexerDtypes; }
  uint32_t attention_dtypes() const noexcept override { return kAttentionDtypes; }
  int32_t max_k() const noexcept override { return kMaxK; }
  uint64_t numerics_id(int32_t, int32_t, int32_t dtype) const noexcept override { return fma_chain_id(dtype); }
  double error_bound(int32_t num_heads, int32_t head_dim, int32_t) const noexcept override {
    return fma_chain_error_bound(num_heads, head_dim);
  }

  void *allocate(size_t bytes) noexcept override {
    if (allocator_.alloc != nullptr) return allocator_.alloc(allocator_.user, bytes);
    return std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  }
  void release(void *memory, size_t bytes) noexcept override {
    if (memory == nullptr) return;
    if (allocator_.alloc != nullptr)
      allocator_.free(allocator_.user, memory, bytes);
    else
      std::free(memory);
  }
  void clear(void *memory, size_t bytes) override { std::memset(memory, 0, bytes); }

  size_t scores_workspace_size(const ScoreLimits &limits) const override {
    return cpu::scores_workspace_size(executor_, limits.num_heads, limits.head_dim);
  }
  size_t score_select_workspace_size(const ScoreLimits &limits) const override {
    return cpu::score_select_workspace_size(executor_, limits.max_rows, limits.max_key_end, limits.num_heads,
                                            limits.head_dim, limits.k);
  }
  size_t select_workspace_size(int32_t max_rows, int32_t max_end, int32_t k) const override {
    return cpu::select_workspace_size(executor_, max_rows, max_end, k);
  }
  size_t merge_workspace_size(int32_t max_rows, int32_t max_parts, int32_t k) const override {
    return cpu::merge_workspace_size(executor_, max_rows, max_parts, k);
  }
  size_t attend_workspace_size(const AttendLimits &limits) const override {
    return cpu::attend_workspace_size(executor_, limits.num_heads, limits.d_latent, limits.d_rope, limits.num_indices);
  }
  size_t attention_mass_workspace_size(const AttendLimits &limits) const override {
    return cpu::attention_mass_workspace_size(executor_, limits.num_heads, limits.d_latent, limits.d_rope,
                                              limits.num_indices);
  }

  void require_stream(Stream stream) const override {
    if (stream != nullptr)
      fail(IC_ERROR_INVALID_ARGUMENT, "stream is %p; the CPU backend takes NULL", static_cast<void *>(stream));
  }
  void require_block(const void *, int32_t, Stream) const override {}

  void scores(const ScoresParams &params, Stream) override { cpu::scores(executor_, params); }
  void score_select(const ScoreSelectParams &params, Stream) override { cpu::score_select(executor_, params); }
  void select(const SelectParams &params, Stream) override { cpu::select(executor_, params); }
  void merge(const MergeParams &params, Stream) override { cpu::merge(executor_, params); }
  void attend(const AttendParams &params, Stream) override { cpu::attend(executor_, params); }
  void attention_mass(const AttentionMassParams &params, Stream) override { cpu::attention_mass(executor_, params); }
  void prepare_queries(const PrepareParams &params, Stream) override { cpu::prepare_queries(executor_, params); }
  void prepare_keys(const PrepareParams &params, Stream) override { cpu::prepare_keys(executor_, params); }
  void write_keys(const WriteKeysParams &params, Stream) override { cpu::write_keys(executor_, params); }

  void stamp(const StampParams &params, Stream) override { cpu::stamp(params); }
  void check_stamps(const CheckStampsParams &params, Stream) override { cpu::check_stamps(params); }
  void gather_rows(const GatherRowsParams &params, Stream) override { cpu::gather_rows(executor_, params); }
  void remap(const RemapParams &params, Stream) override { cpu::remap(executor_, params); }
  void overlap(const OverlapParams &params, Stream) override { cpu::overlap(executor_, params); }
  void export_rows(const ExportParams &params, Stream) override { cpu::export_rows(executor_, params); }
  void import_rows(const ImportParams &params, Stream) override { cpu::import_rows(executor_, params); }
  uint32_t read_faults(uint32_t *word, bool clear, Stream) override {
    const std::atomic_ref<uint32_t> faults(*word);
    return clear ? faults.exchange(0) : faults.load();
  }

 private:
  cpu::Workers workers_;
  const cpu::Executor executor_;
  const Allocator allocator_;
};

cpu::Isa choose_isa(int32_t wanted) {
  if (wanted == IC_CPU_ISA_AUTO) return cpu::best_isa();
  const auto isa = static_cast<cpu::Isa>(wanted);
  if (!cpu::isa_available(isa))
    fail(IC_ERROR_UNSUPPORTED, "cpu_isa is %d (%s), which this machine does not run; best here: %s", wanted,
         cpu::isa_name(isa), cpu::isa_name(cpu::best_isa()));
  return isa;
}

/// Name of the processor as the operating system gives it, or the architecture's.
void processor_name(char (&name)[64]) noexcept {
#if defined(__x86_64__)
  std::snprintf(name, sizeof name, "x86-64");
#elif defined(__aarch64__)
  std::snprintf(name, sizeof name, "aarch64");
#endif
  std::FILE *file = std::fopen("/proc/cpuinfo", "r");
  if (file == nullptr) return;
  char line[256];
  while (std::fgets(line, sizeof line, file) != nullptr) {
    const char *value = std::strncmp(line, "model name", 10) == 0 ? std::strchr(line, ':') : nullptr;
    if (value == nullptr) continue;
    value += std::strspn(value, ": \t");
    const size_t length = std::min(std::strcspn(value, "\n"), sizeof name - 1);
    std::memcpy(name, value, length);
    name[length] = '\0';
    break;
  }
  std::fclose(file);
}

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(const CpuOptions &options) {
  return std::make_unique<CpuBackend>(options, choose_isa(options.isa));
}

ic_device_caps cpu_device_caps() {
  ic_device_caps caps{};
  caps.backend = IC_BACKEND_CPU;
  caps.num_processors = static_cast<int32_t>(std::max(1u, std::thread::hardware_concurrency()));
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long page_bytes = sysconf(_SC_PAGESIZE);
  if (pages > 0 && page_bytes > 0) caps.memory_bytes = static_cast<uint64_t>(pages) * static_cast<uint64_t>(page_bytes);
  caps.indexer_dtypes = kIndexerDtypes;
  caps.attention_dtypes = kAttentionDtypes;
  caps.cpu_isa = static_cast<int32_t>(cpu::best_isa());
  caps.max_k = kMaxK;
  processor_name(caps.name);
  return caps;
}

}  // namespace ic
