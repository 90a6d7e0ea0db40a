// SPDX-License-Identifier: Apache-2.0
// A whole step of an engine through the C interface: keys written, scored and selected, attention in a Full and in a
// Shared layer, and a remap; as single calls and as one captured graph, replayed with other contents, by many threads,
// and under a device epoch.
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <memory>
#include <random>
#include <thread>

#include "core/dtype.h"
#include "cpu/convert.h"
#include "indexcache.h"
#include "tests/gpu/backends.h"
#include "tests/gpu/captured.h"
#include "tests/gpu/device_array.h"

namespace ic::test {
namespace {

constexpr int32_t kRows = 6, kSeqs = 3, kTokens = 2304, kPage = 64, kBlocks = kTokens / kPage, kPages = kSeqs * kBlocks;
constexpr int32_t kHeads = 32, kDim = 128, kK = 512;
constexpr int32_t kAttentionHeads = 16, kLatent = 512, kRope = 64, kKv = kLatent + kRope;

std::string last_error() {
  char text[1024];
  ic_last_error(text, sizeof text);
  return text;
}
/// Not a gtest assertion: also used by threads and inside of captures.
void require_ok(ic_status status, const char *call) {
  if (status != IC_OK) throw std::runtime_error(std::string(call) + ": " + last_error());
}
#define IC_REQUIRE_OK(call) require_ok((call), #call)

enum Array : size_t {
  // inputs
  kRowSeq,
  kKeyEnd,
  kIndexPages,
  kKvPages,
  kQ,
  kW,
  kKvPool,
  kAttendQ,
  kNewKeys,
  kNewScales,
  kSlots,
  // read and written
  kKeyPool,
  // outputs
  kOut0,
  kLse0,
  kOut1,
  kLse1,
  kRemapSlots,
  kRemapLengths,
  kWorkspace,
  kArrays
};

/// What a step reads, on the host.
struct Contents {
  std::vector<std::vector<uint8_t>> arrays{kArrays};

  Contents(int32_t dtype, uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    const auto put = [&](Array array, const auto &values) {
      arrays[array].resize(values.size() * sizeof values[0]);
      std::memcpy(arrays[array].data(), values.data(), arrays[array].size());
    };
    const auto elements = [&](Array array, size_t count, int32_t of_dtype) {
      std::vector<float> values(count);
      // A window of a random stream: drawing each would take longer than the step.
      std::vector<float> stream(4099);
      for (float &x : stream) x = normal(random);
      for (size_t i = 0, at = random(); i < count; ++i, ++at) {
        if (i % 1021 == 0) at = random();
        values[i] = stream[at % stream.size()];
      }
      arrays[array].resize(count * static_cast<size_t>(ic::dtype_bytes(of_dtype)));
      cpu::convert_from_f32(of_dtype, values.data(), arrays[array].data(), static_cast<int64_t>(count));
    };
    const auto pages = [&](Array array) {
      std::vector<int32_t> order(kPages);
      for (int32_t i = 0; i < kPages; ++i) order[static_cast<size_t>(i)] = i;
      std::shuffle(order.begin(), order.end(), random);
      put(array, order);
      return order;
    };
    std::vector<int32_t> seq(kRows), end(kRows);
    std::vector<int64_t> slots(kRows);
    const std::vector<int32_t> index_pages = pages(kIndexPages);
    pages(kKvPages);
    for (size_t r = 0; r < kRows; ++r) {
      seq[r] = static_cast<int32_t>(r % kSeqs);
      // Rows of one sequence have ends of different parity: they never write the same slot.
      const auto odd = static_cast<int32_t>(r / kSeqs == 0);
      end[r] = odd + 2 * static_cast<int32_t>(random() % (r == 4 ? 20 : kTokens / 2));
      const int32_t position = std::max(end[r] - 1, 0);
      slots[r] = r == 5 ? -1
                        : int64_t{index_pages[static_cast<size_t>(seq[r] * kBlocks + position / kPage)]} * kPage +
                              position % kPage;
    }
    put(kRowSeq, seq);
    put(kKeyEnd, end);
    put(kSlots, slots);
    elements(kQ, size_t{kRows} * kHeads * kDim, dtype);
    elements(kW, size_t{kRows} * kHeads, IC_DTYPE_F32);
    elements(kNewKeys, size_t{kRows} * kDim, dtype);
    put(kNewScales, std::vector<float>(kRows, 0.75f));
    elements(kAttendQ, size_t{kRows} * kAttentionHeads * kKv, IC_DTYPE_BF16);
    elements(kKvPool, size_t{kPages} * kPage * kKv, IC_DTYPE_BF16);
    if (dtype == IC_DTYPE_E4M3) {
      elements(kKeyPool, size_t{kPages} * kPage * (kDim + 4), dtype);
      const float scale = 0.5f;
      for (size_t page = 0; page < kPages; ++page)
        for (size_t token = 0; token < kPage; ++token)
          std::memcpy(arrays[kKeyPool].data() + page * kPage * (kDim + 4) + kPage * kDim + token * 4, &scale, 4);
    } else {
      elements(kKeyPool, size_t{kPages} * kPage * kDim, dtype);
    }
    for (const Array array : {kOut0, kOut1}) arrays[array].resize(size_t{kRows} * kAttentionHeads * kLatent * 4);
    for (const Array array : {kLse0, kLse1}) arrays[array].resize(size_t{kRows} * kAttentionHeads * 4);
    arrays[kRemapSlots].resize(size_t{kRows} * IC_K_PADDED(kK) * 4);
    arrays[kRemapLengths].resize(size_t{kRows} * 4);
  }
};

/// The handles of one model on one backend; shared by any number of threads.
class Model {
 public:
  Model(int32_t backend, int32_t dtype_in) : dtype(dtype_in) {
    ic_context_desc context_desc = IC_CONTEXT_DESC_INIT;
    context_desc.backend = backend;
    IC_REQUIRE_OK(ic_context_create(&context_desc, &context));
    ic_schedule_desc schedule_desc = IC_SCHEDULE_DESC_INIT;
    schedule_desc.num_layers = 2;
    schedule_desc.pattern = "FS";
    IC_REQUIRE_OK(ic_schedule_create(&schedule_desc, &schedule));
    ic_indexer_desc indexer_desc = IC_INDEXER_DESC_INIT;
    indexer_desc.num_heads = kHeads;
    indexer_desc.head_dim = kDim;
    indexer_desc.dtype = dtype_in;
    IC_REQUIRE_OK(ic_indexer_create(context, &indexer_desc, &indexer));
    ic_topk_desc topk_desc = IC_TOPK_DESC_INIT;
    topk_desc.k = kK;
    IC_REQUIRE_OK(ic_topk_create(context, &topk_desc, &topk));
    ic_attention_desc attention_desc = IC_ATTENTION_DESC_INIT;
    attention_desc.num_heads = kAttentionHeads;
    attention_desc.d_latent = kLatent;
    attention_desc.d_rope = kRope;
    attention_desc.kv_dtype = IC_DTYPE_BF16;
    attention_desc.q_dtype = IC_DTYPE_BF16;
    attention_desc.out_dtype = IC_DTYPE_F32;
    attention_desc.softmax_scale = 0.04f;
    IC_REQUIRE_OK(ic_attention_create(context, &attention_desc, &attention));
  }
  ~Model() {
    ic_attention_destroy(attention);
    ic_topk_destroy(topk);
    ic_indexer_destroy(indexer);
    ic_schedule_destroy(schedule);
    ic_context_destroy(context);
  }
  Model(const Model &) = delete;
  Model &operator=(const Model &) = delete;

  const int32_t dtype;
  ic_context *context = nullptr;
  ic_schedule *schedule = nullptr;
  ic_indexer *indexer = nullptr;
  ic_topk *topk = nullptr;
  ic_attention *attention = nullptr;
};

/// What a step wrote. Selections of both layers, from the cache.
struct StepResult {
  std::vector<std::vector<uint8_t>> arrays;
  bool operator==(const StepResult &) const = default;
};

/// One engine: a cache and the memory of a step, on the host or on the device.
class Engine {
 public:
  Engine(const Model &model, const Contents &contents, bool on_device, const uint32_t *epoch = nullptr)
      : model_(model), on_device_(on_device) {
    ic_cache_desc desc = IC_CACHE_DESC_INIT;
    desc.schedule = model.schedule;
    desc.indexer = model.indexer;
    desc.topk = model.topk;
    desc.attention = model.attention;
    desc.max_rows = kRows;
    desc.epoch = epoch;
    desc.flags = IC_CACHE_SCORES;
    IC_REQUIRE_OK(ic_cache_create(model.context, &desc, &cache));
    size_t workspace = 0;
    IC_REQUIRE_OK(ic_forward_workspace_size(cache, kRows, kTokens, &workspace));
    for (size_t array = 0; array < kArrays; ++array) {
      const size_t bytes = array == kWorkspace ? workspace : contents.arrays[array].size();
      if (on_device) {
        device_.push_back(array == kWorkspace ? DeviceArray<uint8_t>::workspace(bytes) : DeviceArray<uint8_t>(bytes));
      } else {
        host_.emplace_back(bytes + 256);
      }
    }
    set(contents);
  }
  ~Engine() { ic_cache_destroy(cache); }
  Engine(const Engine &) = delete;
  Engine &operator=(const Engine &) = delete;

  /// New inputs at the same addresses.
  void set(const Contents &contents) {
    for (size_t array = 0; array <= kKeyPool; ++array) {
      if (on_device_) {
        device_[array].assign(contents.arrays[array]);
      } else {
        std::memcpy(at<uint8_t>(array), contents.arrays[array].data(), contents.arrays[array].size());
      }
    }
  }
  /// Outputs and workspace.
  void poison(int byte) {
    for (size_t array = kOut0; on_device_ && array < kArrays; ++array) device_[array].fill(byte);
  }

  void begin(uint64_t capture_id) {
    const ic_block_table tables[2] = {{at<int32_t>(kIndexPages), kBlocks, kBlocks, kPage},
                                      {at<int32_t>(kKvPages), kBlocks, kBlocks, kPage}};
    ic_batch batch = IC_BATCH_INIT;
    batch.num_rows = kRows;
    batch.num_seqs = kSeqs;
    batch.max_key_end = kTokens;
    batch.num_block_tables = 2;
    batch.row_seq = at<int32_t>(kRowSeq);
    batch.key_end = at<int32_t>(kKeyEnd);
    batch.block_tables = tables;
    batch.capture_id = capture_id;
    IC_REQUIRE_OK(ic_cache_begin(cache, &batch));
  }
  void full(ic_stream stream) { layer(0, kOut0, kLse0, stream); }
  void shared(ic_stream stream) { layer(1, kOut1, kLse1, stream); }
  void remap(ic_stream stream) {
    ic_remap_args args = IC_REMAP_ARGS_INIT;
    args.layout = IC_LAYOUT_PAGED;
    args.block_table = 1;
    args.slots = at<int32_t>(kRemapSlots);
    args.lengths = at<int32_t>(kRemapLengths);
    IC_REQUIRE_OK(ic_cache_remap(cache, &args, nullptr, stream));
  }
  void step(ic_stream stream, uint64_t capture_id = 0) {
    begin(capture_id);
    full(stream);
    shared(stream);
    remap(stream);
  }

  /// All outputs, the selection with its scores, and the keys.
  StepResult read() {
    if (on_device_) IC_REQUIRE_CUDA(cudaDeviceSynchronize());
    StepResult result;
    for (size_t array = kKeyPool; array < kWorkspace; ++array) {
      if (on_device_) {
        result.arrays.push_back(device_[array].read());
      } else {
        result.arrays.emplace_back(at<uint8_t>(array), at<uint8_t>(array) + host_[array].size() - 256);
      }
    }
    const auto copy = [&](const auto *from, size_t count) {
      std::vector<uint8_t> bytes(count * sizeof *from);
      if (on_device_) {
        IC_REQUIRE_CUDA(cudaMemcpy(bytes.data(), from, bytes.size(), cudaMemcpyDeviceToHost));
      } else {
        std::memcpy(bytes.data(), from, bytes.size());
      }
      result.arrays.push_back(bytes);
    };
    copy(view_.indices, size_t{kRows} * IC_K_PADDED(kK));
    copy(view_.scores, size_t{kRows} * IC_K_PADDED(kK));
    copy(view_.lengths, size_t{kRows});
    return result;
  }
  uint32_t faults(ic_stream stream) {
    uint32_t bits = 0;
    IC_REQUIRE_OK(ic_cache_faults(cache, 1, &bits, stream));
    return bits;
  }

  ic_cache *cache = nullptr;

 private:
  template <class T>
  T *at(size_t array) {
    if (on_device_) return reinterpret_cast<T *>(device_[array].data());
    const auto address = reinterpret_cast<uintptr_t>(host_[array].data());
    return reinterpret_cast<T *>((address + 255) / 256 * 256);
  }

  void layer(int32_t id, Array out, Array lse, ic_stream stream) {
    const auto pool = [](void *data, int32_t table) {
      ic_pool made = IC_POOL_INIT;
      made.data = data;
      made.capacity = kPages;
      made.layout = IC_LAYOUT_PAGED;
      made.block_table = table;
      return made;
    };
    const ic_pool keys = pool(at<uint8_t>(kKeyPool), 0), kv = pool(at<uint8_t>(kKvPool), 1);
    ic_queries queries = IC_QUERIES_INIT;
    queries.q = at<uint8_t>(kQ);
    queries.w = at<float>(kW);
    ic_new_keys new_keys = IC_NEW_KEYS_INIT;
    new_keys.keys = at<uint8_t>(kNewKeys);
    new_keys.scales = model_.dtype == IC_DTYPE_E4M3 ? at<float>(kNewScales) : nullptr;
    new_keys.slots = at<int64_t>(kSlots);
    new_keys.count = kRows;
    ic_attention_args attention = IC_ATTENTION_ARGS_INIT;
    attention.q = at<uint8_t>(kAttendQ);
    attention.kv = &kv;
    attention.out = at<float>(out);
    attention.lse = at<float>(lse);
    ic_forward_args args = IC_FORWARD_ARGS_INIT;
    args.layer = id;
    args.row_count = IC_ALL_ROWS;
    args.attention = &attention;
    if (id == 0) {
      args.queries = &queries;
      args.keys = &keys;
      args.new_keys = &new_keys;
    }
    args.workspace = at<uint8_t>(kWorkspace);
    args.workspace_size = on_device_ ? device_[kWorkspace].size() : host_[kWorkspace].size() - 256;
    IC_REQUIRE_OK(ic_forward(cache, &args, &view_, stream));
  }

  const Model &model_;
  const bool on_device_;
  std::vector<DeviceArray<uint8_t>> device_;
  std::vector<std::vector<uint8_t>> host_;
  ic_index_view view_ = IC_INDEX_VIEW_INIT;
};

/// A step on the CPU: selections and keys have the same bits (fp32), attention is as near as tensor cores are.
void expect_near_cpu(const StepResult &cuda, const Contents &contents) {
  const Model model(IC_BACKEND_CPU, IC_DTYPE_F32);
  Engine engine(model, contents, false);
  engine.step(nullptr);
  const StepResult cpu = engine.read();
  ASSERT_EQ(cuda.arrays.size(), cpu.arrays.size());
  for (size_t array = 0; array < cpu.arrays.size(); ++array) {
    SCOPED_TRACE("array " + std::to_string(array + kKeyPool));
    ASSERT_EQ(cuda.arrays[array].size(), cpu.arrays[array].size());
    if (array + kKeyPool < kOut0 || array + kKeyPool > kLse1) {
      EXPECT_TRUE(cuda.arrays[array] == cpu.arrays[array]);
      continue;
    }
    for (size_t i = 0; i < cpu.arrays[array].size(); i += 4) {
      float a = 0, b = 0;
      std::memcpy(&a, &cuda.arrays[array][i], 4);
      std::memcpy(&b, &cpu.arrays[array][i], 4);
      if (a == b) continue;  // both -inf, too
      ASSERT_NEAR(a, b, 0.03f + 0.01f * std::abs(b)) << "value " << i / 4;
    }
  }
}

class Step : public testing::TestWithParam<int32_t> {};

TEST_P(Step, PlainStepIsTheCpusStep) {
  const Model model(IC_BACKEND_CUDA, GetParam());
  const Contents contents(GetParam(), run_seed());
  Engine engine(model, contents, true);
  const TestStream stream;
  engine.poison(0xff);
  engine.step(stream.get());
  EXPECT_EQ(engine.faults(stream.get()), 0u);
  if (GetParam() == IC_DTYPE_F32) expect_near_cpu(engine.read(), contents);
}

TEST_P(Step, TwentyFiveReplaysHaveTheSameBits) {
  const Model model(IC_BACKEND_CUDA, GetParam());
  const Contents contents(GetParam(), run_seed());
  Engine engine(model, contents, true), captured(model, contents, true);
  const TestStream stream;
  engine.poison(0x00);
  engine.step(stream.get());
  const StepResult plain = engine.read();
  CapturedGraph graph([&](cudaStream_t capturing) { captured.step(capturing, 1); });
  for (int replay = 0; replay < 25; ++replay) {
    captured.poison(replay * 10 + 3);
    graph.replay();
    ASSERT_TRUE(captured.read() == plain) << "replay " << replay;
  }
  EXPECT_EQ(captured.faults(nullptr), 0u);
}

// Lengths, tables, slots and every number change under the same addresses: the graph must follow.
TEST_P(Step, ReplayedWithOtherContents) {
  const Model model(IC_BACKEND_CUDA, GetParam());
  Engine captured(model, Contents(GetParam(), run_seed()), true);
  CapturedGraph graph([&](cudaStream_t capturing) { captured.step(capturing, 1); });
  for (uint32_t other = 1; other <= 3; ++other) {
    const Contents contents(GetParam(), run_seed() + other);
    captured.set(contents);
    captured.poison(0xff);
    graph.replay();
    const StepResult replayed = captured.read();
    Engine fresh(model, contents, true);
    const TestStream stream;
    fresh.poison(0x3c);
    fresh.step(stream.get());
    EXPECT_TRUE(fresh.read() == replayed) << "contents " << other;
    if (GetParam() == IC_DTYPE_F32) expect_near_cpu(replayed, contents);
  }
  EXPECT_EQ(captured.faults(nullptr), 0u);
}

INSTANTIATE_TEST_SUITE_P(Types, Step, testing::Values(IC_DTYPE_F32, IC_DTYPE_BF16, IC_DTYPE_F16, IC_DTYPE_E4M3),
                         [](const auto &type) { return std::string(ic::dtype_name(type.param)); });

TEST(StepThreads, EightThreadsWithCachesOfTheirOwn) {
  constexpr uint32_t kThreads = 8;
  const Model model(IC_BACKEND_CUDA, IC_DTYPE_BF16);
  std::vector<std::unique_ptr<Contents>> contents;
  std::vector<std::unique_ptr<Engine>> engines;
  std::vector<StepResult> expected;
  for (uint32_t i = 0; i < kThreads; ++i) {
    contents.push_back(std::make_unique<Contents>(IC_DTYPE_BF16, run_seed() + i));
    engines.push_back(std::make_unique<Engine>(model, *contents.back(), true));
    engines.back()->step(nullptr);
    expected.push_back(engines.back()->read());
  }
  std::atomic<int> wrong{0}, failed{0};
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      try {
        const TestStream stream;
        for (int round = 0; round < 20; ++round) {
          for (int again = 0; again < 3; ++again) engines[i]->step(stream.get());
          stream.wait();
          if (round % 5 == 4 && !(engines[i]->read() == expected[i])) ++wrong;
        }
      } catch (const std::exception &error) {
        if (failed++ == 0) std::fprintf(stderr, "%s\n", error.what());
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(wrong, 0);
}

// A graph per layer, so that one of them can be forgotten.
TEST(StepEpoch, ReplaysThatForgetTheFullLayerAreSeen) {
  const Model model(IC_BACKEND_CUDA, IC_DTYPE_F32);
  const Contents contents(IC_DTYPE_F32, run_seed());
  DeviceArray<uint32_t> epoch(std::vector<uint32_t>{7});
  Engine engine(model, contents, true, epoch.data());
  // One generation for all three captures, so that the Shared layer's call finds its source.
  engine.begin(1);
  CapturedGraph full([&](cudaStream_t capturing) { engine.full(capturing); });
  CapturedGraph shared([&](cudaStream_t capturing) { engine.shared(capturing); });
  CapturedGraph remap([&](cudaStream_t capturing) { engine.remap(capturing); });
  const auto shared_part = [&](const StepResult &result) {
    return std::vector<std::vector<uint8_t>>(result.arrays.begin() + (kOut1 - kKeyPool),
                                             result.arrays.begin() + (kWorkspace - kKeyPool));
  };

  full.replay();
  shared.replay();
  remap.replay();
  const StepResult right = engine.read();
  EXPECT_EQ(engine.faults(nullptr), 0u);

  epoch.assign({8});  // the next step, in which the Full layer is forgotten
  engine.poison(0x11);
  shared.replay();
  remap.replay();
  StepResult stale = engine.read();
  EXPECT_EQ(engine.faults(nullptr), IC_FAULT_EPOCH);
  const auto floats = [&](Array array) {
    const std::vector<uint8_t> &bytes = stale.arrays[array - kKeyPool];
    std::vector<float> values(bytes.size() / 4);
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  };
  for (const float x : floats(kOut1)) ASSERT_EQ(x, 0.0f);
  for (const float x : floats(kLse1)) ASSERT_EQ(x, -std::numeric_limits<float>::infinity());
  EXPECT_EQ(stale.arrays[kRemapLengths - kKeyPool], std::vector<uint8_t>(kRows * 4, 0));
  for (const uint8_t byte : stale.arrays[kRemapSlots - kKeyPool]) ASSERT_EQ(byte, 0xff) << "-1";

  full.replay();  // it catches up
  engine.poison(0x22);
  full.replay();
  shared.replay();
  remap.replay();
  EXPECT_TRUE(shared_part(engine.read()) == shared_part(right));
  EXPECT_EQ(engine.faults(nullptr), 0u);

  // A caller that forgets to change the word has no guard, but what was published is still there.
  engine.poison(0x33);
  shared.replay();
  remap.replay();
  EXPECT_TRUE(shared_part(engine.read()) == shared_part(right));
  EXPECT_EQ(engine.faults(nullptr), 0u);
}

}  // namespace
}  // namespace ic::test
