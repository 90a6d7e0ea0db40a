// SPDX-License-Identifier: Apache-2.0
// A Full layer in prefill and decode: ic_forward (scores and exact top-k), and the scores alone.
#include <algorithm>
#include <string>

#include "full_layer.h"
#include "measure.h"

namespace bench {
namespace {

constexpr int32_t kPartRows = 8192;

std::string name_of(int32_t context) { return std::to_string(context / 1024) + "K"; }

/// The last 8192 rows of a context.
void add_prefill(int32_t context, int32_t heads, int32_t page_tokens) {
  const LayerShape shape{heads, 1, kPartRows, context, page_tokens};
  const std::string place = "/context:" + name_of(context) + "/heads:" + std::to_string(heads) +
                            (page_tokens > 0 ? "/pool:pages_" + std::to_string(page_tokens) : "/pool:contiguous");
  const double flops = 2.0 * heads * kIndexDim * kPartRows * (context - (kPartRows - 1) / 2.0);
  const auto report = [flops](benchmark::State &state) {
    state.counters["FLOP/s"] = benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
  };
  add("full_prefill" + place, benchmark::kMillisecond, [=](benchmark::State &state) {
    FullLayer layer(shape, 1, kPartRows);
    layer.verify();
    measure(state, 1, Figure::kSustained,
            [&](int32_t set, uint64_t capture, ic_stream stream) { layer.forward(set, capture, stream); });
    report(state);
  });
  add("scores_prefill" + place, benchmark::kMillisecond, [=](benchmark::State &state) {
    FullLayer layer(shape, 1, kPartRows);
    const DeviceArray<float> out(int64_t{kPartRows} * context);
    measure(state, 1, Figure::kSustained,
            [&](int32_t set, uint64_t, ic_stream stream) { layer.scores(set, 0, kPartRows, out.data(), 0, stream); });
    report(state);
  });
}

/// A prompt from its first to its last row, in parts of 8192 rows.
void add_prompt(int32_t context, int32_t heads) {
  const LayerShape shape{heads, 1, context, context, 64};
  add("full_prompt/context:" + name_of(context) + "/heads:" + std::to_string(heads), benchmark::kMillisecond,
      [=](benchmark::State &state) {
        FullLayer layer(shape, 1, kPartRows);
        layer.verify();
        measure(state, 1, Figure::kSustained, [&](int32_t set, uint64_t capture, ic_stream stream) {
          for (int32_t begin = 0; begin < context; begin += kPartRows)
            layer.forward(set, begin, std::min(kPartRows, context - begin), capture, stream);
        });
        const double pairs = 0.5 * context * (context + 1.0);
        state.counters["FLOP/s"] =
            benchmark::Counter(2.0 * heads * kIndexDim * pairs, benchmark::Counter::kIsIterationInvariantRate);
      });
}

/// One query per request.
void add_decode(int32_t requests, int32_t context, int32_t heads) {
  const LayerShape shape{heads, requests, 1, context, 64};
  const std::string place =
      "/requests:" + std::to_string(requests) + "/context:" + name_of(context) + "/heads:" + std::to_string(heads);
  const auto report = [shape](benchmark::State &state) {
    state.counters["B/s"] =
        benchmark::Counter(static_cast<double>(shape.read_bytes()), benchmark::Counter::kIsIterationInvariantRate);
  };
  add("full_decode" + place, benchmark::kMicrosecond, [=](benchmark::State &state) {
    const int32_t sets = sets_past_l2(shape.read_bytes());
    FullLayer layer(shape, sets, requests);
    layer.verify();
    measure(state, sets, Figure::kMedian,
            [&](int32_t set, uint64_t capture, ic_stream stream) { layer.forward(set, capture, stream); });
    report(state);
  });
  add("scores_decode" + place, benchmark::kMicrosecond, [=](benchmark::State &state) {
    const int32_t sets = sets_past_l2(shape.read_bytes());
    FullLayer layer(shape, sets, requests);
    const DeviceArray<float> out(int64_t{requests} * context);
    measure(state, sets, Figure::kMedian,
            [&](int32_t set, uint64_t, ic_stream stream) { layer.scores(set, 0, requests, out.data(), 0, stream); });
    report(state);
  });
}

const bool kRegistered = [] {
  constexpr int32_t k32K = 32768;
  constexpr int32_t k128K = 131072;
  constexpr int32_t k200K = 204800;
  for (const int32_t heads : {64, 32})
    for (const int32_t context : {k32K, k128K, k200K})
      for (const int32_t page_tokens : {0, 64}) add_prefill(context, heads, page_tokens);
  for (const int32_t context : {10240, 61440, 122880, k200K}) add_prompt(context, 32);
  const int32_t decodes[][2] = {{1, k32K}, {1, k128K}, {1, k200K}, {8, k128K}, {32, k32K}, {64, k128K}, {128, k32K}};
  for (const auto &[requests, context] : decodes) add_decode(requests, context, 64);
  for (const int32_t context : {10240, 61440, 122880, k200K}) add_decode(1, context, 32);
  return true;
}();

}  // namespace
}  // namespace bench
