// SPDX-License-Identifier: Apache-2.0
// The C interface on the CUDA backend: what works gives the CPU's bits, what does not is refused when a handle is made.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "indexcache.h"
#include "tests/gpu/captured.h"
#include "tests/gpu/scores_problem.h"
#include "tests/gpu/small_engine.h"

namespace ic::test {
namespace {

class CudaApi : public testing::Test {
 protected:
  void SetUp() override {
    ic_context_desc desc = IC_CONTEXT_DESC_INIT;
    desc.backend = IC_BACKEND_CUDA;
    ASSERT_EQ(ic_context_create(&desc, &context_), IC_OK) << last_error();
  }
  void TearDown() override { ic_context_destroy(context_); }

  ic_indexer *make_indexer(ic_context *context, int32_t dtype, ic_status expected) {
    ic_indexer_desc desc = IC_INDEXER_DESC_INIT;
    desc.num_heads = 8;
    desc.head_dim = 64;
    desc.dtype = dtype;
    ic_indexer *indexer = nullptr;
    EXPECT_EQ(ic_indexer_create(context, &desc, &indexer), expected) << last_error();
    return indexer;
  }

  ic_context *context_ = nullptr;
};

TEST_F(CudaApi, ScoresThroughTheCInterface) {
  constexpr int32_t kRows = 3, kHeads = 8, kDim = 64, kKeys = 200;
  std::vector<float> q(kRows * kHeads * kDim), w(kRows * kHeads), keys(kKeys * kDim);
  std::mt19937 random(run_seed());
  std::normal_distribution<float> normal;
  for (std::vector<float> *values : {&q, &w, &keys}) {
    for (float &x : *values) x = normal(random);
  }
  const std::vector<int32_t> key_end{kKeys, 77, 0};
  const DeviceArray<float> device_q(q), device_w(w), device_keys(keys);
  const DeviceArray<int32_t> device_end(key_end);
  const DeviceArray<float> device_scores(std::vector<float>(kRows * kKeys, 1.0f));

  const auto score = [&](ic_context *context, const float *q_at, const float *w_at, const float *keys_at,
                         const int32_t *end_at, float *scores_at) {
    ic_indexer *indexer = make_indexer(context, IC_DTYPE_F32, IC_OK);
    ic_batch batch = IC_BATCH_INIT;
    batch.num_rows = kRows;
    batch.num_seqs = 1;
    batch.max_key_end = kKeys;
    batch.key_end = end_at;
    ic_queries queries = IC_QUERIES_INIT;
    queries.q = q_at;
    queries.w = w_at;
    ic_pool pool = IC_POOL_INIT;
    pool.data = const_cast<float *>(keys_at);
    pool.capacity = kKeys;
    pool.layout = IC_LAYOUT_CONTIGUOUS;
    ic_scores_args args = IC_SCORES_ARGS_INIT;
    args.row_count = IC_ALL_ROWS;
    args.queries = &queries;
    args.keys = &pool;
    args.scores = scores_at;
    args.flags = IC_SCORES_CLEAN;
    EXPECT_EQ(ic_indexer_scores_workspace_size(indexer, kRows, kKeys, &args.workspace_size), IC_OK) << last_error();
    std::vector<uint8_t> workspace(args.workspace_size + 256);
    args.workspace = workspace.data() + (256 - reinterpret_cast<uintptr_t>(workspace.data()) % 256) % 256;
    EXPECT_EQ(ic_indexer_scores(indexer, &batch, &args, nullptr), IC_OK) << last_error();
    ic_indexer_destroy(indexer);
  };

  score(context_, device_q.data(), device_w.data(), device_keys.data(), device_end.data(), device_scores.data());
  IC_REQUIRE_CUDA(cudaDeviceSynchronize());

  ic_context_desc cpu = IC_CONTEXT_DESC_INIT;
  cpu.backend = IC_BACKEND_CPU;
  ic_context *cpu_context = nullptr;
  ASSERT_EQ(ic_context_create(&cpu, &cpu_context), IC_OK) << last_error();
  std::vector<float> expected(kRows * kKeys, 2.0f);
  score(cpu_context, q.data(), w.data(), keys.data(), key_end.data(), expected.data());
  ic_context_destroy(cpu_context);

  const std::vector<float> scores = device_scores.read();
  EXPECT_EQ(std::memcmp(scores.data(), expected.data(), expected.size() * 4), 0);
}

TEST_F(CudaApi, HandlesOfEveryTypeAreMade) {
  for (const int32_t dtype : {IC_DTYPE_F32, IC_DTYPE_F16, IC_DTYPE_BF16, IC_DTYPE_E4M3}) {
    ic_indexer_destroy(make_indexer(context_, dtype, IC_OK));
  }
  EXPECT_EQ(make_indexer(context_, IC_DTYPE_FP4, IC_ERROR_UNSUPPORTED), nullptr);
  for (const int32_t k : {1, 2048, 4096}) {
    ic_topk_desc desc = IC_TOPK_DESC_INIT;
    desc.k = k;
    ic_topk *topk = nullptr;
    EXPECT_IC_OK(ic_topk_create(context_, &desc, &topk));
    ic_topk_destroy(topk);
  }
}

TEST_F(CudaApi, EveryOperationGivesTheCpusIndices) {
  SmallEngine cuda(IC_BACKEND_CUDA, IC_DTYPE_F32, 0, run_seed());
  SmallEngine cpu(IC_BACKEND_CPU, IC_DTYPE_F32, 0, run_seed());
  std::vector<uint8_t> cuda_block(cuda.block_size), cpu_block(cpu.block_size);
  cuda.run_everything(cuda_block.data(), 0, nullptr);
  cpu.run_everything(cpu_block.data(), 0, nullptr);
  EXPECT_EQ(cuda_block, cpu_block) << "the exported publication, pageable memory";
  constexpr size_t kEntries = SmallEngine::kRows * SmallEngine::kPadded;
  EXPECT_EQ(cuda.memory.get(cuda.selected, kEntries), cpu.memory.get(cpu.selected, kEntries));
  EXPECT_EQ(cuda.memory.get(cuda.remapped, kEntries), cpu.memory.get(cpu.remapped, kEntries));
  EXPECT_EQ(cuda.memory.get(cuda.common, SmallEngine::kRows), cpu.memory.get(cpu.common, SmallEngine::kRows));
  EXPECT_EQ(cuda.memory.get(cuda.ratios, 2 * SmallEngine::kRows), cpu.memory.get(cpu.ratios, 2 * SmallEngine::kRows));
  const std::vector<float> cuda_recall = cuda.memory.get(cuda.mass_recall, SmallEngine::kRows);
  const std::vector<float> cpu_recall = cpu.memory.get(cpu.mass_recall, SmallEngine::kRows);
  for (size_t row = 0; row < SmallEngine::kRows; ++row) EXPECT_NEAR(cuda_recall[row], cpu_recall[row], 1e-4f) << row;
  EXPECT_EQ(cuda.faults(), 0u);
}

TEST_F(CudaApi, BlocksGoBetweenBackends) {
  SmallEngine cuda(IC_BACKEND_CUDA, IC_DTYPE_F32, 0, run_seed());
  SmallEngine cpu(IC_BACKEND_CPU, IC_DTYPE_F32, 0, run_seed());
  std::vector<uint8_t> block(cpu.block_size), again(cpu.block_size);
  cpu.run_everything(block.data(), 0, nullptr);
  ASSERT_IC_OK(cuda.begin());
  EXPECT_TRUE(IC_STATUS_IS_STALE(cuda.forward(1, nullptr)));
  ASSERT_IC_OK(cuda.import_from(block.data(), nullptr));
  ic_index_view view = IC_INDEX_VIEW_INIT;
  ASSERT_IC_OK(cuda.forward(1, nullptr, &view));
  EXPECT_EQ(view.source_layer, 0);
  const DeviceArray<uint8_t> device(std::vector<uint8_t>(block.size()), 8);
  ASSERT_IC_OK(cuda.export_to(0, IC_MEMORY_DEVICE, device.data(), nullptr));
  EXPECT_EQ(device.read(), block);
  EXPECT_EQ(cuda.faults(), 0u);

  // A block that the host refuses, and one whose positions only the device can judge.
  const std::vector<uint8_t> good = block;
  int32_t first = 0;
  const size_t first_index = 64 + SmallEngine::kRows * 4;
  std::memcpy(&first, block.data() + first_index, 4);
  const int32_t second = first + 1000;
  std::memcpy(block.data() + first_index, &second, 4);
  EXPECT_EQ(cuda.import_from(block.data(), nullptr), IC_ERROR_PARSE) << last_error();
  block = good;
  const int32_t beyond = SmallEngine::kMaxKeyEnd;
  std::memcpy(block.data() + first_index + (SmallEngine::kK - 1) * 4, &beyond, 4);
  ASSERT_IC_OK(cuda.begin());
  ASSERT_IC_OK(cuda.import_from(block.data(), nullptr));
  ASSERT_IC_OK(cuda.forward(1, nullptr, &view));
  EXPECT_EQ(cuda.memory.get(view.lengths, SmallEngine::kRows)[0], 0) << "no list inside its row's range";
  EXPECT_GT(cuda.memory.get(view.lengths, SmallEngine::kRows)[1], 0);
  EXPECT_EQ(cuda.faults(), IC_FAULT_INDEX);
}

TEST_F(CudaApi, BlocksLieWhereTheyAreSaidTo) {
  SmallEngine engine(IC_BACKEND_CUDA, IC_DTYPE_F32, 0, run_seed());
  std::vector<uint8_t> pageable(engine.block_size);
  const DeviceArray<uint8_t> device(std::vector<uint8_t>(engine.block_size, 0xa5), 8);
  engine.run_everything(pageable.data(), 0, nullptr);
  const auto expect_refused = [](ic_status status, const char *word) {
    EXPECT_EQ(status, IC_ERROR_INVALID_ARGUMENT) << last_error();
    EXPECT_NE(last_error().find(word), std::string::npos) << last_error();
  };
  expect_refused(engine.export_to(0, IC_MEMORY_DEVICE, pageable.data(), nullptr), "IC_MEMORY_DEVICE");
  expect_refused(engine.export_to(0, IC_MEMORY_HOST, device.data(), nullptr), "device memory");
  expect_refused(engine.import_from(device.data(), nullptr), "device memory");
  EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);

  ASSERT_IC_OK(engine.begin(1));
  const std::vector<uint8_t> before = pageable;
  ic_status exported = IC_OK, imported = IC_OK;
  std::string text;
  CapturedGraph graph([&](cudaStream_t stream) {
    ASSERT_IC_OK(engine.forward(0, stream));
    exported = engine.export_to(0, IC_MEMORY_HOST, pageable.data(), stream);
    text = last_error();
    imported = engine.import_from(pageable.data(), stream);
    EXPECT_IC_OK(engine.forward(1, stream)) << "refused before the publication was touched";
  });
  EXPECT_EQ(exported, IC_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(imported, IC_ERROR_INVALID_ARGUMENT);
  EXPECT_NE(text.find("pinned"), std::string::npos) << text;
  EXPECT_EQ(pageable, before);
}

}  // namespace
}  // namespace ic::test
