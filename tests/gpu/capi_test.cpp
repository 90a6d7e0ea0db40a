// SPDX-License-Identifier: Apache-2.0
// The C interface on the CUDA backend: what works gives the CPU's bits, what does not is refused when a handle is made.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "indexcache.h"
#include "tests/gpu/scores_problem.h"

namespace ic::test {
namespace {

std::string last_error() {
  char text[768];
  ic_last_error(text, sizeof text);
  return text;
}

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

TEST_F(CudaApi, HandlesOfMissingOperationsAreRefused) {
  for (const int32_t dtype : {IC_DTYPE_F16, IC_DTYPE_BF16, IC_DTYPE_E4M3}) {
    EXPECT_EQ(make_indexer(context_, dtype, IC_ERROR_UNSUPPORTED), nullptr);
  }
  ic_topk_desc topk_desc = IC_TOPK_DESC_INIT;
  topk_desc.k = 16;
  ic_topk *topk = nullptr;
  EXPECT_EQ(ic_topk_create(context_, &topk_desc, &topk), IC_ERROR_UNSUPPORTED) << last_error();
  EXPECT_EQ(topk, nullptr);
  ic_attention_desc attention_desc = IC_ATTENTION_DESC_INIT;
  attention_desc.num_heads = 4;
  attention_desc.d_latent = 48;
  attention_desc.d_rope = 16;
  attention_desc.kv_dtype = IC_DTYPE_F32;
  attention_desc.q_dtype = IC_DTYPE_F32;
  attention_desc.softmax_scale = 1.0f;
  ic_attention *attention = nullptr;
  EXPECT_EQ(ic_attention_create(context_, &attention_desc, &attention), IC_ERROR_UNSUPPORTED) << last_error();
  EXPECT_EQ(attention, nullptr);
}

}  // namespace
}  // namespace ic::test
