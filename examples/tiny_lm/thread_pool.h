// SPDX-License-Identifier: Apache-2.0
// The program's own threads: they share the rows of the dense layers, and the library borrows them for its operations.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace tiny_lm {

/// One loop at a time, started by one thread, which works along.
class ThreadPool {
 public:
  /// 0 = as many as the machine has.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool &) = delete;
  ThreadPool &operator=(const ThreadPool &) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  /// Runs task(i) for every i in [0, count) and returns when all are done. The task must not throw.
  void parallel_for(int64_t count, const std::function<void(int64_t)> &task);

 private:
  void work();
  void run_tasks();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable done_;
  uint64_t loop_ = 0;  // counts loops, so that a worker sees that there is a new one
  int busy_ = 0;       // workers that have not finished this loop
  bool stop_ = false;
  const std::function<void(int64_t)> *task_ = nullptr;
  int64_t count_ = 0;
  std::atomic<int64_t> next_{0};
  std::vector<std::thread> workers_;
};

}  // namespace tiny_lm
