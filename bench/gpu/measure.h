// SPDX-License-Identifier: Apache-2.0
// How everything here is timed: CUDA events around replays of a graph.
//
// The graph has one call per input set, and the sets together are larger than the L2, so that no call finds its inputs
// there; the time is that of the graph over the number of calls. Where the sets make a graph too short to be timed, the
// round is repeated. Behind 0.2 s of warm-up: the median of at least 15 replays (3 of a graph that takes long), and
// beside it the mean of replays one behind the other for 0.3 s, as a busy engine has them (counter mean_us).
// `sustained`: that mean is the time, as long prompts keep a card at its power limit.
#pragma once

#include <benchmark/benchmark.h>

#include <cstdint>
#include <functional>
#include <string>

#include "indexcache.h"

namespace bench {

enum class Figure {
  kMedian,
  kSustained,
  kEager,  ///< median as well, of calls enqueued one by one, for what cannot be captured again and again
};

/// Enqueues one call on input set `set`. capture is the number of the stream capture that is going on, else 0.
using Enqueue = std::function<void(int32_t set, uint64_t capture, ic_stream stream)>;

/// Sets that exceed the L2 together, when a call reads bytes_per_set.
int32_t sets_past_l2(int64_t bytes_per_set);

/// Runs one benchmark: the time of a call becomes the manual time of its single iteration.
void measure(benchmark::State &state, int32_t num_sets, Figure figure, const Enqueue &enqueue);

/// Registers `body` under a name. What it throws becomes the error of that row. (Google Benchmark 1.7 takes names as
/// const char *.)
void add(const std::string &name, benchmark::TimeUnit unit, const std::function<void(benchmark::State &)> &body);

}  // namespace bench
