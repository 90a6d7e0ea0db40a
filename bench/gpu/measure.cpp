// SPDX-License-Identifier: Apache-2.0
// Graphs, events, medians.
#include "measure.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "device.h"

namespace bench {
namespace {

constexpr double kWarmUpSeconds = 0.2;
constexpr double kSustainedSeconds = 0.3;
constexpr double kSampleSeconds = 1.0;  // for all samples together; slow rows get fewer
constexpr int kMostSamples = 31;
constexpr int kUsualSamples = 15;
constexpr int kFewestSamples = 3;
constexpr int kFewestCalls = 8;            // of a graph, unless a call is long
constexpr double kLongCallSeconds = 2e-3;  // then one round of the sets will do

class Stream {
 public:
  Stream() { BENCH_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  Stream(const Stream &) = delete;
  Stream &operator=(const Stream &) = delete;
  ~Stream() { (void)cudaStreamDestroy(stream_); }
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

class Event {
 public:
  Event() { BENCH_CUDA(cudaEventCreate(&event_)); }
  Event(const Event &) = delete;
  Event &operator=(const Event &) = delete;
  ~Event() { (void)cudaEventDestroy(event_); }
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

/// An executable graph of `calls` calls that walk through the sets.
class Graph {
 public:
  Graph(const Stream &stream, int32_t calls, int32_t num_sets, const Enqueue &enqueue) {
    static uint64_t captures = 0;
    ++captures;
    cudaGraph_t graph = nullptr;
    BENCH_CUDA(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal));
    try {
      for (int32_t call = 0; call < calls; ++call) enqueue(call % num_sets, captures, stream.get());
    } catch (...) {
      (void)cudaStreamEndCapture(stream.get(), &graph);
      if (graph != nullptr) (void)cudaGraphDestroy(graph);
      throw;
    }
    BENCH_CUDA(cudaStreamEndCapture(stream.get(), &graph));
    const cudaError_t error = cudaGraphInstantiate(&executable_, graph, 0);
    (void)cudaGraphDestroy(graph);
    BENCH_CUDA(error);
    BENCH_CUDA(cudaGraphUpload(executable_, stream.get()));
  }
  Graph(const Graph &) = delete;
  Graph &operator=(const Graph &) = delete;
  ~Graph() { (void)cudaGraphExecDestroy(executable_); }
  void replay(const Stream &stream) const { BENCH_CUDA(cudaGraphLaunch(executable_, stream.get())); }

 private:
  cudaGraphExec_t executable_ = nullptr;
};

/// Seconds of what `body` enqueues.
template <class Body>
double seconds_of(const Stream &stream, const Body &body) {
  static const Event begin;
  static const Event end;
  BENCH_CUDA(cudaEventRecord(begin.get(), stream.get()));
  body();
  BENCH_CUDA(cudaEventRecord(end.get(), stream.get()));
  BENCH_CUDA(cudaEventSynchronize(end.get()));
  float milliseconds = 0;
  BENCH_CUDA(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()));
  return static_cast<double>(milliseconds) * 1e-3;
}

/// Seconds of a replay, the mean of replays one behind the other for kSustainedSeconds; one takes about
/// `replay_seconds`.
double sustained_seconds(const Stream &stream, const Graph &graph, double replay_seconds, int *replays) {
  *replays = static_cast<int>(std::max(1.0, std::ceil(kSustainedSeconds / replay_seconds)));
  const double seconds = seconds_of(stream, [&] {
    for (int i = 0; i < *replays; ++i) graph.replay(stream);
  });
  return seconds / *replays;
}

}  // namespace

int32_t sets_past_l2(int64_t bytes_per_set) {
  int l2_bytes = 0;
  BENCH_CUDA(cudaDeviceGetAttribute(&l2_bytes, cudaDevAttrL2CacheSize, 0));
  const int64_t wanted = 3 * int64_t{l2_bytes};
  return static_cast<int32_t>(std::clamp<int64_t>((wanted + bytes_per_set - 1) / bytes_per_set, 1, 64));
}

namespace {

void measure_eager(benchmark::State &state, int32_t num_sets, const Enqueue &enqueue) {
  const Stream stream;
  constexpr int32_t kCalls = 64;
  std::vector<double> times;
  for (int sample = 0; sample < kUsualSamples + 1; ++sample) {
    const double seconds = seconds_of(stream, [&] {
      for (int32_t call = 0; call < kCalls; ++call) enqueue(call % num_sets, 0, stream.get());
    });
    if (sample > 0) times.push_back(seconds / kCalls);
  }
  std::sort(times.begin(), times.end());
  state.counters["best_us"] = 1e6 * times.front();
  state.counters["samples"] = kUsualSamples;
  state.counters["sets"] = num_sets;
  state.counters["calls"] = kCalls;
  for (auto _ : state) state.SetIterationTime(times[times.size() / 2]);
}

}  // namespace

void measure(benchmark::State &state, int32_t num_sets, Figure figure, const Enqueue &enqueue) {
  if (figure == Figure::kEager) {
    measure_eager(state, num_sets, enqueue);
    return;
  }
  const Stream stream;
  const double first = seconds_of(stream, [&] { enqueue(0, 0, stream.get()); });  // outside of a capture, as well
  const int32_t rounds = first < kLongCallSeconds ? (kFewestCalls + num_sets - 1) / num_sets : 1;
  const int32_t calls = rounds * num_sets;
  const Graph graph(stream, calls, num_sets, enqueue);

  double warm = 0;
  double last = 0;
  while (warm < kWarmUpSeconds) {
    // Several replays per wait, so that the card is busy.
    const int replays = last > 0 ? static_cast<int>(std::clamp(0.05 / last, 1.0, 256.0)) : 1;
    const double seconds = seconds_of(stream, [&] {
      for (int i = 0; i < replays; ++i) graph.replay(stream);
    });
    warm += seconds;
    last = seconds / replays;
  }

  double per_call = 0;
  int samples = 0;
  if (figure == Figure::kSustained) {
    per_call = sustained_seconds(stream, graph, last, &samples) / calls;
  } else {
    const auto affordable = static_cast<int>(kSampleSeconds / last);
    samples = std::clamp(affordable, kFewestSamples, kMostSamples);
    if (last * kUsualSamples < 2 * kSampleSeconds) samples = std::max(samples, kUsualSamples);
    std::vector<double> times;
    for (int i = 0; i < samples; ++i) times.push_back(seconds_of(stream, [&] { graph.replay(stream); }) / calls);
    std::sort(times.begin(), times.end());
    per_call = times[times.size() / 2];
    state.counters["best_us"] = 1e6 * times.front();
    int replays = 0;
    state.counters["mean_us"] = 1e6 * sustained_seconds(stream, graph, last, &replays) / calls;
  }
  state.counters["samples"] = samples;
  state.counters["sets"] = num_sets;
  state.counters["calls"] = calls;
  for (auto _ : state) state.SetIterationTime(per_call);
}

void add(const std::string &name, benchmark::TimeUnit unit, const std::function<void(benchmark::State &)> &body) {
  benchmark::RegisterBenchmark(name.c_str(),
                               [body](benchmark::State &state) {
                                 try {
                                   body(state);
                                 } catch (const std::exception &error) {
                                   state.SkipWithError(error.what());
                                 }
                               })
      ->UseManualTime()
      ->Iterations(1)
      ->Unit(unit);
}

}  // namespace bench
