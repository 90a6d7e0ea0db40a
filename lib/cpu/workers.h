// SPDX-License-Identifier: Apache-2.0
// Where CPU work runs: the library's own threads, or the host engine's parallel_for.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace ic::cpu {

/// One piece of work; called once for every index of a run.
using Task = void (*)(void *data, int64_t index);

/// Same type as ic_parallel_for_fn: must call task(data, i) once for every i in [0, count) and return after the last.
using ParallelForFn = void (*)(void *user, int64_t count, Task task, void *data);

class Workers {
 public:
  /// @param num_threads  how many tasks may run at once, the caller included; 0 = one per hardware thread; 1 = inline.
  /// @param fn           null: own threads, started here. Else the host's parallel_for; no thread is started.
  /// Throws std::bad_alloc or std::system_error when threads cannot be started.
  explicit Workers(int32_t num_threads, ParallelForFn fn = nullptr, void *user = nullptr);
  ~Workers();
  Workers(const Workers &) = delete;
  Workers &operator=(const Workers &) = delete;

  /// Upper bound of tasks of one run that execute at the same time, when its count is at most this: the number of
  /// workspace slices of an operation. Operations run `slices()` tasks that draw their work from one shared counter.
  int slices() const noexcept { return slices_; }

  /// Runs task(data, i) for every i in [0, count) and returns when all have ended. Tasks must not throw. No
  /// allocation. Callable from many threads and from inside a task: a run that finds the threads busy executes inline.
  /// Every task sees IEEE floating point (float_mode.h).
  void run(int64_t count, Task task, void *data) noexcept;

 private:
  struct Job {
    Task task;
    void *data;
    int64_t count;
    std::atomic<int64_t> next{0};
  };
  static void work(Job &job) noexcept;
  static void guarded_task(void *job, int64_t index) noexcept;
  void thread_loop() noexcept;
  void stop() noexcept;

  const ParallelForFn parallel_for_;
  void *const user_;
  int slices_;
  std::atomic<bool> busy_{false};  // one run at a time owns the threads
  std::mutex mutex_;               // guards all below
  std::condition_variable wake_;
  std::condition_variable done_;
  Job *job_ = nullptr;  // null = closed: a thread that wakes up late finds nothing and sleeps again
  uint64_t generation_ = 0;
  int running_ = 0;  // threads inside job_
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

/// Splits [0, count) among the tasks of one run: each index is handed out once.
class WorkCounter {
 public:
  explicit WorkCounter(int64_t count) noexcept : count_(count) {}
  /// The next index, or -1 when none is left.
  int64_t take() noexcept {
    const int64_t index = next_.fetch_add(1, std::memory_order_relaxed);
    return index < count_ ? index : -1;
  }

 private:
  std::atomic<int64_t> next_{0};
  const int64_t count_;
};

}  // namespace ic::cpu
