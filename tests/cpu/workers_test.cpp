// SPDX-License-Identifier: Apache-2.0
// Every index once, from any number of callers, with IEEE arithmetic.
#include "cpu/workers.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace ic::cpu {
namespace {

struct Counts {
  explicit Counts(int64_t count) : seen(new std::atomic<int>[static_cast<size_t>(count)]), size(count) {
    for (int64_t i = 0; i < count; ++i) seen[static_cast<size_t>(i)] = 0;
  }
  static void task(void *data, int64_t index) { ++static_cast<Counts *>(data)->seen[static_cast<size_t>(index)]; }
  bool all_are(int value) const {
    for (int64_t i = 0; i < size; ++i) {
      if (seen[static_cast<size_t>(i)] != value) return false;
    }
    return true;
  }
  std::unique_ptr<std::atomic<int>[]> seen;
  int64_t size;
};

TEST(Workers, RunEveryIndexOnce) {
  for (const int32_t threads : {1, 2, 3, 7}) {
    Workers workers(threads);
    EXPECT_EQ(workers.slices(), threads);
    for (const int64_t count : {0, 1, 2, 3, 8, 1000}) {
      Counts counts(count);
      for (int turn = 1; turn <= 20; ++turn) {
        workers.run(count, &Counts::task, &counts);
        ASSERT_TRUE(counts.all_are(turn));
      }
    }
  }
  EXPECT_GE(Workers(0).slices(), 1);
}

TEST(Workers, ServeManyCallersAtOnce) {
  Workers workers(4);
  std::vector<std::thread> callers;
  std::atomic<int> failures{0};
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&] {
      for (int turn = 0; turn < 200; ++turn) {
        Counts counts(17);
        workers.run(17, &Counts::task, &counts);
        if (!counts.all_are(1)) ++failures;
      }
    });
  }
  for (std::thread &caller : callers) caller.join();
  EXPECT_EQ(failures, 0);
}

TEST(Workers, RunInsideARunExecutesInline) {
  struct Outer {
    Workers workers{3};
    Counts counts{50};
    static void task(void *data, int64_t) {
      Outer &outer = *static_cast<Outer *>(data);
      outer.workers.run(50, &Counts::task, &outer.counts);
    }
  } outer;
  outer.workers.run(6, &Outer::task, &outer);
  EXPECT_TRUE(outer.counts.all_are(6));
}

TEST(Workers, UseTheHostsParallelFor) {
  struct Host {
    int64_t total = 0;
    static void parallel_for(void *user, int64_t count, Task task, void *data) {
      static_cast<Host *>(user)->total += count;
      std::vector<std::thread> threads;
      for (int64_t i = 0; i < count; ++i) threads.emplace_back([=] { task(data, i); });
      for (std::thread &thread : threads) thread.join();
    }
  } host;
  Workers workers(4, &Host::parallel_for, &host);
  EXPECT_EQ(workers.slices(), 4);
  Counts counts(4);
  workers.run(4, &Counts::task, &counts);
  EXPECT_TRUE(counts.all_are(1));
  EXPECT_EQ(host.total, 4);
}

#if defined(__x86_64__)
// Hosts flush subnormals, and threads inherit that; results must not depend on it.
TEST(Workers, TasksHaveIeeeArithmeticAndTheHostKeepsItsMode) {
  struct Half {
    std::atomic<int> flushed{0};
    static void task(void *data, int64_t) {
      volatile float tiny = 0x1p-126f;
      const float half = tiny * 0.5f;
      if (half == 0.0f) ++static_cast<Half *>(data)->flushed;
    }
    static void parallel_for(void *, int64_t count, Task task, void *data) {
      for (int64_t i = 0; i < count; ++i) task(data, i);
    }
  } half;
  const unsigned saved = _mm_getcsr();
  const unsigned flushing = saved | 0x8040u;
  _mm_setcsr(flushing);
  Workers own(3);
  Workers inlined(1);
  Workers host(3, &Half::parallel_for, nullptr);
  own.run(64, &Half::task, &half);
  inlined.run(3, &Half::task, &half);
  host.run(3, &Half::task, &half);
  const unsigned after = _mm_getcsr();
  _mm_setcsr(saved);
  EXPECT_EQ(half.flushed, 0);
  EXPECT_EQ(after & ~0x3fu, flushing & ~0x3fu);
}
#endif

}  // namespace
}  // namespace ic::cpu
