// SPDX-License-Identifier: Apache-2.0
// A fixed set of threads that help the caller of run(); the caller never waits for a thread that has not started.
#include "cpu/workers.h"

#include <signal.h>

#include <algorithm>

#include "cpu/float_mode.h"

namespace ic::cpu {
namespace {

int resolve_threads(int32_t num_threads) {
  if (num_threads > 0) return num_threads;
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// The host's signal handlers must not run on the library's threads; a new thread inherits the mask of its creator.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &saved_);
  }
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &saved_, nullptr); }
  BlockedSignals(const BlockedSignals &) = delete;
  BlockedSignals &operator=(const BlockedSignals &) = delete;

 private:
  sigset_t saved_;
};

}  // namespace

Workers::Workers(int32_t num_threads, ParallelForFn fn, void *user)
    : parallel_for_(fn), user_(user), slices_(resolve_threads(num_threads)) {
  if (parallel_for_ != nullptr || slices_ == 1) return;
  const BlockedSignals blocked;
  try {
    threads_.reserve(static_cast<size_t>(slices_ - 1));
    for (int i = 1; i < slices_; ++i) threads_.emplace_back([this] { thread_loop(); });
  } catch (...) {
    stop();
    throw;
  }
}

Workers::~Workers() { stop(); }

void Workers::stop() noexcept {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread &thread : threads_) thread.join();
  threads_.clear();
}

void Workers::work(Job &job) noexcept {
  const FloatMode float_mode;
  for (;;) {
    const int64_t index = job.next.fetch_add(1, std::memory_order_relaxed);
    if (index >= job.count) return;
    job.task(job.data, index);
  }
}

void Workers::guarded_task(void *data, int64_t index) noexcept {
  const FloatMode float_mode;
  const Job *job = static_cast<const Job *>(data);
  job->task(job->data, index);
}

void Workers::run(int64_t count, Task task, void *data) noexcept {
  if (count <= 0) return;
  Job job{task, data, count};
  if (count > 1 && parallel_for_ != nullptr) {
    parallel_for_(user_, count, &Workers::guarded_task, &job);
    return;
  }
  if (count == 1 || threads_.empty() || busy_.exchange(true, std::memory_order_acquire)) {
    work(job);
    return;
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    job_ = &job;
    ++generation_;
  }
  if (count - 1 < static_cast<int64_t>(threads_.size())) {
    for (int64_t i = 1; i < count; ++i) wake_.notify_one();
  } else {
    wake_.notify_all();
  }
  work(job);
  {
    std::unique_lock<std::mutex> lock(mutex_);
    job_ = nullptr;
    done_.wait(lock, [this] { return running_ == 0; });
  }
  busy_.store(false, std::memory_order_release);
}

void Workers::thread_loop() noexcept {
  uint64_t seen = 0;
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return stop_ || (job_ != nullptr && generation_ != seen); });
    if (stop_) return;
    seen = generation_;
    Job *job = job_;
    ++running_;
    lock.unlock();
    work(*job);
    lock.lock();
    if (--running_ == 0) done_.notify_one();
  }
}

}  // namespace ic::cpu
