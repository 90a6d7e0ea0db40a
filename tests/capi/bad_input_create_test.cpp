// SPDX-License-Identifier: Apache-2.0
// Descriptions that cannot be created: each field outside of what is allowed, unknown flags, reserved fields, and what
// is known but not implemented.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "tests/capi/small_problem.h"

namespace ic::test {
namespace {

constexpr ic_status kInvalid = IC_ERROR_INVALID_ARGUMENT;

class BadInputCreate : public BadInput {
 protected:
  /// One field of one desc set to a value that the create call must refuse.
  template <class Desc, class T>
  void expect(ic_status (SmallProblem::*create)(), Desc Arguments::*desc, T Desc::*field, T value, ic_status status,
              std::initializer_list<const char *> words) {
    EXPECT_TRUE(refuses(problem, status, words, [&] {
      problem.*desc.*field = value;
      return (problem.*create)();
    })) << value;
  }
  template <class Desc, class T>
  void expect_fine(ic_status (SmallProblem::*create)(), Desc Arguments::*desc, T Desc::*field, T value) {
    EXPECT_TRUE(accepts(problem, [&] {
      problem.*desc.*field = value;
      return (problem.*create)();
    })) << value;
  }

  void context(int32_t ic_context_desc::*field, int32_t value, ic_status status,
               std::initializer_list<const char *> words) {
    expect(&SmallProblem::call_context_create, &Arguments::context_desc, field, value, status, words);
  }
  void indexer(int32_t ic_indexer_desc::*field, int32_t value, ic_status status,
               std::initializer_list<const char *> words) {
    expect(&SmallProblem::call_indexer_create, &Arguments::indexer_desc, field, value, status, words);
  }
  void topk(int32_t ic_topk_desc::*field, int32_t value, ic_status status, std::initializer_list<const char *> words) {
    expect(&SmallProblem::call_topk_create, &Arguments::topk_desc, field, value, status, words);
  }
  void attention(int32_t ic_attention_desc::*field, int32_t value, ic_status status,
                 std::initializer_list<const char *> words) {
    expect(&SmallProblem::call_attention_create, &Arguments::attention_desc, field, value, status, words);
  }
  void cache(int32_t ic_cache_desc::*field, int32_t value, ic_status status,
             std::initializer_list<const char *> words) {
    expect(&SmallProblem::call_cache_create, &Arguments::cache_desc, field, value, status, words);
    EXPECT_TRUE(refuses(problem, status, words, [&] {
      problem.cache_desc.*field = value;
      return ic_cache_memory_size(&problem.cache_desc, &problem.size);
    })) << value;
  }
};

TEST_F(BadInputCreate, UnknownFlagsAndReservedFields) {
  for (const uint32_t flag : {0x1u, 0x80000000u}) {
    const char *hex = flag == 1 ? "0x1;" : "0x80000000;";
    const ic_status status = IC_ERROR_UNKNOWN_FLAG;
    expect(&SmallProblem::call_indexer_create, &Arguments::indexer_desc, &ic_indexer_desc::flags, flag, status,
           {"desc->flags", hex});
    expect(&SmallProblem::call_topk_create, &Arguments::topk_desc, &ic_topk_desc::flags, flag, status,
           {"desc->flags", hex});
    expect(&SmallProblem::call_attention_create, &Arguments::attention_desc, &ic_attention_desc::flags, flag, status,
           {"desc->flags", hex});
  }
  expect(&SmallProblem::call_context_create, &Arguments::context_desc, &ic_context_desc::flags, 0x2u,
         IC_ERROR_UNKNOWN_FLAG, {"desc->flags", "0x2;", "0x1"});
  expect(&SmallProblem::call_schedule_create, &Arguments::schedule_desc, &ic_schedule_desc::flags, 0x2u,
         IC_ERROR_UNKNOWN_FLAG, {"desc->flags", "0x2;", "0x1"});
  expect(&SmallProblem::call_cache_create, &Arguments::cache_desc, &ic_cache_desc::flags, 0x3u, IC_ERROR_UNKNOWN_FLAG,
         {"desc->flags", "0x3;", "0x1"});
  context(&ic_context_desc::reserved, 1, IC_ERROR_UNKNOWN_FIELD, {"desc->reserved", "1"});
  topk(&ic_topk_desc::reserved, -1, IC_ERROR_UNKNOWN_FIELD, {"desc->reserved", "-1"});
  cache(&ic_cache_desc::reserved, 7, IC_ERROR_UNKNOWN_FIELD, {"desc->reserved", "7"});
}

TEST_F(BadInputCreate, Context) {
  for (const int32_t backend : {0, 3, -1})
    context(&ic_context_desc::backend, backend, kInvalid,
            {"backend", std::to_string(backend).c_str(), "IC_BACKEND_CPU"});
  for (const int32_t device : {-1, 1}) context(&ic_context_desc::device, device, kInvalid, {"desc->device", "0 to 0"});
  for (const int32_t threads : {-1, 1025})
    context(&ic_context_desc::num_threads, threads, kInvalid,
            {"desc->num_threads", std::to_string(threads).c_str(), "0 to 1024"});
  for (const int32_t isa : {-1, 4}) context(&ic_context_desc::cpu_isa, isa, kInvalid, {"desc->cpu_isa", "0 to 3"});
  context(&ic_context_desc::max_ctas, 1, kInvalid, {"desc->max_ctas", "0 to 0"});
  for (const int32_t level : {-1, 6})
    context(&ic_context_desc::log_level, level, kInvalid, {"desc->log_level", std::to_string(level).c_str(), "0 to 5"});
  EXPECT_TRUE(refuses(problem, kInvalid, {"desc->num_threads", "parallel_for", "0", "1 to 1024"}, [&] {
    problem.context_desc.parallel_for = [](void *, int64_t, ic_task_fn, void *) {};
    problem.context_desc.num_threads = 0;
    return problem.call_context_create();
  }));
}

TEST_F(BadInputCreate, InstructionLevelsThatThisMachineLacks) {
  ic_device_caps best = IC_DEVICE_CAPS_INIT;
  ASSERT_EQ(ic_device_get_caps(IC_BACKEND_CPU, 0, &best), IC_OK);
  for (int32_t isa = IC_CPU_ISA_PORTABLE; isa <= IC_CPU_ISA_AVX512; ++isa) {
    if (isa <= best.cpu_isa)
      expect_fine(&SmallProblem::call_context_create, &Arguments::context_desc, &ic_context_desc::cpu_isa, isa);
    else
      context(&ic_context_desc::cpu_isa, isa, IC_ERROR_UNSUPPORTED, {"cpu_isa", std::to_string(isa).c_str()});
  }
}

TEST_F(BadInputCreate, DevicesThatAreNotThere) {
  int32_t *count = &problem.number;
  for (const int32_t backend : {0, 3, -1})
    EXPECT_TRUE(refuses(problem, kInvalid, {"backend is ", std::to_string(backend).c_str(), "IC_BACKEND_CPU"},
                        [&] { return ic_device_count(backend, count); }));
  EXPECT_TRUE(refuses(problem, kInvalid, {"device is 1", "0 to 0"},
                      [&] { return ic_device_get_caps(IC_BACKEND_CPU, 1, &problem.caps); }));
  EXPECT_TRUE(refuses(problem, kInvalid, {"backend is 9"}, [&] { return ic_device_get_caps(9, 0, &problem.caps); }));
  EXPECT_TRUE(refuses(problem, kInvalid, {"device is -1", "0 to 1023"},
                      [&] { return ic_device_get_caps(IC_BACKEND_CUDA, -1, &problem.caps); }));
}

TEST_F(BadInputCreate, Indexer) {
  for (const int32_t heads : {0, -1, 129})
    indexer(&ic_indexer_desc::num_heads, heads, kInvalid,
            {"desc->num_heads", std::to_string(heads).c_str(), "1 to 128"});
  for (const int32_t dim : {0, 16, 48, 96, 256, -32})
    indexer(&ic_indexer_desc::head_dim, dim, kInvalid, {"desc->head_dim", std::to_string(dim).c_str(), "32, 64, 128"});
  for (const int32_t dtype :
       {0, -1, 6, 33, 64, std::numeric_limits<int32_t>::max(), std::numeric_limits<int32_t>::min()})
    indexer(&ic_indexer_desc::dtype, dtype, kInvalid, {"desc->dtype", std::to_string(dtype).c_str(), "IC_DTYPE_F32"});
  indexer(&ic_indexer_desc::dtype, IC_DTYPE_FP4, IC_ERROR_UNSUPPORTED, {"desc->dtype", "IC_DTYPE_FP4"});
  for (const int32_t heads : {1, 128})
    expect_fine(&SmallProblem::call_indexer_create, &Arguments::indexer_desc, &ic_indexer_desc::num_heads, heads);
  for (const int32_t dtype : {IC_DTYPE_F32, IC_DTYPE_F16, IC_DTYPE_BF16, IC_DTYPE_E4M3})
    expect_fine(&SmallProblem::call_indexer_create, &Arguments::indexer_desc, &ic_indexer_desc::dtype, dtype);
}

TEST_F(BadInputCreate, Topk) {
  for (const int32_t k : {0, -1, 4097, std::numeric_limits<int32_t>::max(), std::numeric_limits<int32_t>::min()})
    topk(&ic_topk_desc::k, k, kInvalid, {"desc->k", std::to_string(k).c_str(), "1 to 4096"});
  for (const int32_t order : {-1, 3})
    topk(&ic_topk_desc::order, order, kInvalid, {"desc->order", std::to_string(order).c_str(), "0 to 2"});
  topk(&ic_topk_desc::force_first, 4, IC_ERROR_UNSUPPORTED, {"force_first is 4", "not implemented"});
  topk(&ic_topk_desc::force_last, 64, IC_ERROR_UNSUPPORTED, {"force_last 64", "not implemented"});
  for (const int32_t k : {1, 4096})
    expect_fine(&SmallProblem::call_topk_create, &Arguments::topk_desc, &ic_topk_desc::k, k);
}

TEST_F(BadInputCreate, Attention) {
  for (const int32_t heads : {0, -1, 1025})
    attention(&ic_attention_desc::num_heads, heads, kInvalid,
              {"desc->num_heads", std::to_string(heads).c_str(), "1 to 1024"});
  for (const int32_t dims : {0, -16, 8, 24, 1040})
    attention(&ic_attention_desc::d_latent, dims, kInvalid,
              {"desc->d_latent", std::to_string(dims).c_str(), "16", "1024"});
  for (const int32_t dims : {-16, 8, 272})
    attention(&ic_attention_desc::d_rope, dims, kInvalid, {"desc->d_rope", std::to_string(dims).c_str(), "0 to 256"});
  for (const int32_t dtype : {0, -1, IC_DTYPE_F16, IC_DTYPE_FP4, 77})
    attention(&ic_attention_desc::kv_dtype, dtype, kInvalid, {"desc->kv_dtype", std::to_string(dtype).c_str(), "F32"});
  for (const int32_t dtype : {0, IC_DTYPE_F16, IC_DTYPE_E4M3, 77})
    attention(&ic_attention_desc::q_dtype, dtype, kInvalid, {"desc->q_dtype", std::to_string(dtype).c_str(), "F32"});
  for (const int32_t dtype : {-1, IC_DTYPE_F16, IC_DTYPE_E4M3, 77})
    attention(&ic_attention_desc::out_dtype, dtype, kInvalid,
              {"desc->out_dtype", std::to_string(dtype).c_str(), "F32"});
  attention(&ic_attention_desc::kv_dtype, IC_DTYPE_E4M3, kInvalid, {"kv_dtype", "d_latent 16", "656", "512 and 64"});
  const float inf = std::numeric_limits<float>::infinity();
  for (const float scale : {0.0f, -0.5f, inf, -inf, std::numeric_limits<float>::quiet_NaN()})
    expect(&SmallProblem::call_attention_create, &Arguments::attention_desc, &ic_attention_desc::softmax_scale, scale,
           kInvalid, {"desc->softmax_scale", "finite and positive"});
  expect_fine(&SmallProblem::call_attention_create, &Arguments::attention_desc, &ic_attention_desc::d_rope, 0);
}

TEST_F(BadInputCreate, Cache) {
  for (const int32_t rows : {0, -1, (1 << 20) + 1})
    cache(&ic_cache_desc::max_rows, rows, kInvalid, {"desc->max_rows", std::to_string(rows).c_str(), "1 to 1048576"});
  for (const int32_t slots : {-1, 4097})
    cache(&ic_cache_desc::num_slots, slots, kInvalid, {"desc->num_slots", std::to_string(slots).c_str(), "0 to 4096"});
  EXPECT_TRUE(refuses(problem, IC_ERROR_MISALIGNED, {"desc->epoch", "multiple of 4"}, [&] {
    problem.cache_desc.epoch = reinterpret_cast<const uint32_t *>(reinterpret_cast<uintptr_t>(problem.epoch) + 2);
    return problem.call_cache_create();
  }));
}

TEST_F(BadInputCreate, MemoryOfACache) {
  size_t needed = 0;
  ASSERT_EQ(ic_cache_memory_size(&problem.cache_desc, &needed), IC_OK);
  Arrays arrays;
  auto *memory = arrays.input<uint8_t>(needed + 256);
  const auto with = [&](void *at, size_t bytes) {
    return [this, at, bytes] {
      problem.cache_desc.memory = at;
      problem.cache_desc.memory_size = bytes;
      return problem.call_cache_create();
    };
  };
  const std::string all = std::to_string(needed), short_by_one = std::to_string(needed - 1);
  EXPECT_TRUE(refuses(problem, IC_ERROR_WORKSPACE_TOO_SMALL, {"desc->memory", short_by_one.c_str(), all.c_str()},
                      with(memory, needed - 1)));
  EXPECT_TRUE(refuses(problem, IC_ERROR_MISALIGNED, {"desc->memory", "multiple of 256"}, with(memory + 128, needed)));
  EXPECT_TRUE(refuses(problem, IC_ERROR_NULL_POINTER, {"desc->memory is NULL", all.c_str()}, with(nullptr, needed)));
  for (size_t i = 0; i < needed + 256; ++i) ASSERT_EQ(memory[i], 0xA5) << "byte " << i << " has been written";
  auto *exact = arrays.input<uint8_t>(needed);
  EXPECT_TRUE(accepts(problem, with(exact, needed)));
}

TEST_F(BadInputCreate, AllocatorsThatFail) {
  const auto with_allocator = [&](ic_alloc_fn alloc, ic_status wanted, std::initializer_list<const char *> words) {
    static int frees;
    frees = 0;
    problem.context_desc.alloc = alloc;
    problem.context_desc.free = [](void *, void *, size_t) { ++frees; };
    ic_context *other = nullptr;
    ASSERT_EQ(ic_context_create(&problem.context_desc, &other), IC_OK);
    ic_indexer *other_indexer = nullptr;
    ic_topk *other_topk = nullptr;
    ASSERT_EQ(ic_indexer_create(other, &problem.indexer_desc, &other_indexer), IC_OK);
    ASSERT_EQ(ic_topk_create(other, &problem.topk_desc, &other_topk), IC_OK);
    EXPECT_TRUE(refuses(problem, wanted, words, [&] {
      problem.cache_desc.indexer = other_indexer;
      problem.cache_desc.topk = other_topk;
      problem.cache_desc.attention = nullptr;
      ic_cache *cache = nullptr;
      const ic_status status = ic_cache_create(other, &problem.cache_desc, &cache);
      EXPECT_EQ(cache, nullptr);
      return status;
    }));
    EXPECT_EQ(frees, wanted == IC_ERROR_OUT_OF_MEMORY ? 0 : 1) << "what alloc returned goes back, NULL does not";
    ic_topk_destroy(other_topk);
    ic_indexer_destroy(other_indexer);
    ic_context_destroy(other);
  };
  with_allocator([](void *, size_t) -> void * { return nullptr; }, IC_ERROR_OUT_OF_MEMORY, {"bytes of device memory"});
  with_allocator(
      [](void *, size_t) -> void * {
        alignas(256) static uint8_t memory[1024];
        return memory + 64;
      },
      IC_ERROR_MISALIGNED, {"desc->alloc", "multiple of 256"});
}

TEST_F(BadInputCreate, WorkspaceQueries) {
  const auto invalid = [&](std::initializer_list<const char *> words, auto call) {
    EXPECT_TRUE(refuses(problem, kInvalid, words, call));
  };
  size_t *size = &problem.size;
  const int32_t too_far = (1 << 24) + 1;
  invalid({"max_rows is -1", "0 to"}, [&] { return ic_indexer_scores_workspace_size(problem.indexer, -1, 8, size); });
  invalid({"max_key_end is -1", "16777216"},
          [&] { return ic_indexer_scores_workspace_size(problem.indexer, 8, -1, size); });
  invalid({"max_key_end is 16777217", "16777216"},
          [&] { return ic_indexer_scores_workspace_size(problem.indexer, 8, too_far, size); });
  invalid({"max_rows is -1"}, [&] { return ic_topk_select_workspace_size(problem.topk, -1, 8, size); });
  invalid({"max_end is 16777217"}, [&] { return ic_topk_select_workspace_size(problem.topk, 8, too_far, size); });
  invalid({"max_rows is -1"}, [&] { return ic_topk_merge_workspace_size(problem.topk, -1, 8, size); });
  invalid({"max_parts is 0", "1 to 1024"}, [&] { return ic_topk_merge_workspace_size(problem.topk, 8, 0, size); });
  invalid({"max_parts is 1025"}, [&] { return ic_topk_merge_workspace_size(problem.topk, 8, 1025, size); });
  invalid({"max_rows is -1"}, [&] { return ic_attention_workspace_size(problem.attention, -1, 8, size); });
  invalid({"max_k is 0", "1 to"}, [&] { return ic_attention_workspace_size(problem.attention, 8, 0, size); });
  invalid({"max_rows is -1"}, [&] { return ic_attention_mass_workspace_size(problem.attention, -1, 8, size); });
  invalid({"max_k is 0", "1 to"}, [&] { return ic_attention_mass_workspace_size(problem.attention, 8, 0, size); });
  invalid({"max_rows is 9", "0 to 8"}, [&] { return ic_forward_workspace_size(problem.cache, 9, 8, size); });
  invalid({"max_rows is -1"}, [&] { return ic_forward_workspace_size(problem.cache, -1, 8, size); });
  invalid({"max_key_end is 16777217"}, [&] { return ic_forward_workspace_size(problem.cache, 8, too_far, size); });
  invalid({"max_rows is 9", "0 to 8"}, [&] { return ic_cache_compact_workspace_size(problem.cache, 9, size); });
  invalid({"num_rows is 9", "0 to 8"}, [&] { return ic_cache_export_size(problem.cache, 9, 0, size); });
  invalid({"num_rows is -1"}, [&] { return ic_cache_export_size(problem.cache, -1, 0, size); });
  EXPECT_TRUE(refuses(problem, IC_ERROR_UNKNOWN_FLAG, {"flags is 0x2", "0x1"},
                      [&] { return ic_cache_export_size(problem.cache, 1, 2, size); }));
}

// What a CUDA context takes as a request is no news to the CPU, which always checks values.
TEST_F(BadInputCreate, CheckValuesIsAcceptedOnTheCpu) {
  ic_context_desc desc = problem.context_desc;
  desc.flags = IC_CONTEXT_CHECK_VALUES;
  ic_context *context = nullptr;
  ASSERT_EQ(ic_context_create(&desc, &context), IC_OK) << last_error();
  ic_context_destroy(context);
}

// A workspace that was measured for maxima serves everything below them.
TEST_F(BadInputCreate, WorkspaceSizesGrowWithTheirMaxima) {
  for (const int32_t threads : {1, 3, 8}) {
    const SmallProblem other({.threads = threads});
    size_t last = 0;
    for (const int32_t keys : {0, 1, 100, 5000, 100000, 1 << 24}) {
      size_t rows_last = 0, whole = 0;
      for (const int32_t rows : {0, 1, 2, 3, 5, 8}) {
        size_t bytes[4];
        ASSERT_EQ(ic_forward_workspace_size(other.cache, rows, keys, &bytes[0]), IC_OK);
        ASSERT_EQ(ic_indexer_scores_workspace_size(other.indexer, rows, keys, &bytes[1]), IC_OK);
        ASSERT_EQ(ic_topk_select_workspace_size(other.topk, rows, keys, &bytes[2]), IC_OK);
        ASSERT_EQ(ic_topk_merge_workspace_size(other.topk, rows, 1 + rows, &bytes[3]), IC_OK);
        const size_t sum = bytes[0] + bytes[1] + bytes[2] + bytes[3];
        EXPECT_GE(sum, rows_last) << rows << " rows, " << keys << " keys, " << threads << " threads";
        rows_last = sum;
        whole = sum;
      }
      EXPECT_GE(whole, last) << keys << " keys, " << threads << " threads";
      last = whole;
    }
  }
}

}  // namespace
}  // namespace ic::test
