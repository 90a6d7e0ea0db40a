// SPDX-License-Identifier: Apache-2.0
// The n-th allocation fails, for every n: each call says IC_ERROR_OUT_OF_MEMORY and leaves nothing behind. Operations
// allocate nothing at all.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <new>
#include <sstream>
#include <string>
#include <vector>

#include "tests/allocation/counting.h"
#include "tests/capi/small_problem.h"

namespace ic::test {
namespace {

/// Lets the n-th allocation of a scenario fail, for n = 1, 2, ... until it needs no more than n - 1. Returns how many
/// it needs. The scenario releases what it made. `otherwise`: how the scenario ends when no allocation fails.
int64_t fail_each(const char *what, const std::function<ic_status()> &scenario, ic_status otherwise = IC_OK) {
  scenario();  // what the language and the C library keep for ever has been allocated now
  for (int64_t n = 1;; ++n) {
    forget_last_error();
    const int64_t before = live_allocations();
    ic_status status;
    int64_t count;
    {
      const Allocations allocations(n);
      status = scenario();
      count = allocations.count();
    }
    const int64_t after = live_allocations();
    EXPECT_EQ(after, before) << what << ": allocation " << n << " failed and " << after - before << " are left";
    if (count < n) {
      EXPECT_EQ(status, otherwise) << what << ": " << last_error();
      return count;
    }
    EXPECT_EQ(status, IC_ERROR_OUT_OF_MEMORY) << what << ", allocation " << n << ": " << last_error();
    EXPECT_NE(last_error().find("could not be allocated"), std::string::npos) << last_error();
    if (testing::Test::HasFailure() || n > 20000) return -1;
  }
}

std::string read_vector(const std::string &name) {
  std::ifstream file(INDEXCACHE_TEST_DIR "/vectors/" + name);
  EXPECT_TRUE(file.good()) << name;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(Allocation, CountingCounts) {
  const int64_t before = live_allocations();
  int64_t count = 0;
  {
    const Allocations allocations;
    void *volatile by_new = ::operator new(8);  // volatile: a compiler may leave out pairs that nobody looks at
    void *volatile by_malloc = std::malloc(3);
    count = allocations.count();
    ::operator delete(by_new);
    std::free(by_malloc);
  }
  EXPECT_EQ(count, 2) << "operator new and malloc";
  EXPECT_EQ(live_allocations(), before);
  void *failed = &count;
  bool thrown = false;
  {
    const Allocations allocations(1);
    failed = std::aligned_alloc(256, 256);
  }
  try {
    const Allocations allocations(1);
    void *volatile by_new = ::operator new(8);
    ::operator delete(by_new);
  } catch (const std::bad_alloc &) {
    thrown = true;
  }
  EXPECT_EQ(failed, nullptr);
  EXPECT_TRUE(thrown);
}

TEST(Allocation, Contexts) {
  SmallProblem p;
  for (const int32_t threads : {1, 4}) {
    p.context_desc.num_threads = threads;
    EXPECT_GT(fail_each("context", [&] { return p.call_context_create(); }), 1);
  }
  p.context_desc.parallel_for = [](void *, int64_t count, ic_task_fn task, void *data) {
    for (int64_t i = 0; i < count; ++i) task(data, i);
  };
  EXPECT_GT(fail_each("context with parallel_for", [&] { return p.call_context_create(); }), 1);
}

TEST(Allocation, Handles) {
  SmallProblem p;
  EXPECT_EQ(fail_each("indexer", [&] { return p.call_indexer_create(); }), 1);
  EXPECT_EQ(fail_each("topk", [&] { return p.call_topk_create(); }), 1);
  EXPECT_EQ(fail_each("attention", [&] { return p.call_attention_create(); }), 1);
  EXPECT_GT(fail_each("cache", [&] { return p.call_cache_create(); }), 3);
  p.cache_desc.num_slots = 5;
  p.cache_desc.epoch = p.epoch;
  EXPECT_GT(fail_each("cache with five slots", [&] { return p.call_cache_create(); }), 7);
}

TEST(Allocation, Schedules) {
  SmallProblem p;
  EXPECT_GT(fail_each("pattern", [&] { return p.call_schedule_create(); }), 1);
  p.schedule_desc.pattern = nullptr;
  p.schedule_desc.indexer_layers = nullptr;
  p.schedule_desc.num_indexer_layers = 0;
  p.schedule_desc.num_layers = 78;
  p.schedule_desc.freq = 4;
  EXPECT_GT(fail_each("freq", [&] { return p.call_schedule_create(); }), 1);
  p.reset_inputs();
  p.schedule_desc.freq = 2;  // disagrees with the pattern
  fail_each("conflict", [&] { return p.call_schedule_create(); }, IC_ERROR_SCHEDULE_CONFLICT);
  p.schedule_desc.flags = IC_SCHEDULE_PRECEDENCE;
  p.schedule_desc.offset = 1;
  p.schedule_desc.pattern = "FSSSF";
  EXPECT_GT(fail_each("conflict that precedence decides", [&] { return p.call_schedule_create(); }), 1);
}

TEST(Allocation, SchedulesOfModels) {
  for (const char *name : {"glm-5.2.json", "deepseek-v3.2.json", "deepseek-v4-pro.json"}) {
    const std::string text = read_vector(std::string("config/") + name);
    ic_schedule_desc desc = IC_SCHEDULE_DESC_INIT;
    desc.config_json = text.c_str();
    EXPECT_GT(fail_each(name,
                        [&] {
                          ic_schedule *schedule = nullptr;
                          const ic_status status = ic_schedule_create(&desc, &schedule);
                          ic_schedule_destroy(schedule);
                          return status;
                        }),
              10);
  }
  ic_schedule_desc broken = IC_SCHEDULE_DESC_INIT;
  broken.config_json = "{\"num_hidden_layers\": [1, {\"a\": \"a text that is too long for a small string\"}";
  fail_each(
      "broken JSON",
      [&] {
        ic_schedule *schedule = nullptr;
        return ic_schedule_create(&broken, &schedule);
      },
      IC_ERROR_PARSE);
}

TEST(Allocation, Searches) {
  SmallProblem p;
  EXPECT_GT(fail_each("by similarity, resumed", [&] { return p.call_search_create(); }), 5);
  const std::string broken = p.search_journal + "{\"tell\": \"a text that is too long for a small string\"}\n";
  p.search_desc.journal = broken.data();
  p.search_desc.journal_size = broken.size();
  fail_each("broken journal", [&] { return p.call_search_create(); }, IC_ERROR_PARSE);
  p.reset_inputs();
  p.search_desc.strategy = IC_STRATEGY_RANDOM;
  p.search_desc.similarity = nullptr;
  p.search_desc.num_similarity = 0;
  p.search_desc.journal_size = 0;
  for (const int32_t samples : {1, 100}) {
    p.search_desc.num_samples = samples;
    EXPECT_GT(fail_each("random", [&] { return p.call_search_create(); }), 5);
  }
}

/// A call on a search whose n-th allocation fails has changed nothing, and does its work when it is called again.
TEST(Allocation, CallsOnASearch) {
  ic_search_desc desc = IC_SEARCH_DESC_INIT;
  desc.num_layers = 20;
  desc.strategy = IC_STRATEGY_GREEDY;
  ic_search *search = nullptr;
  ASSERT_EQ(ic_search_create(&desc, &search), IC_OK);
  std::vector<char> journal(1 << 14);
  const auto snapshot = [&] {
    ic_search_info info = IC_SEARCH_INFO_INIT;
    EXPECT_EQ(ic_search_get_info(search, &info), IC_OK);
    size_t size = journal.size();
    EXPECT_EQ(ic_search_journal(search, 0, journal.data(), &size), IC_OK) << last_error();
    std::string bytes(reinterpret_cast<const char *>(&info), sizeof info);
    return bytes + journal.data();
  };
  int64_t failed = 0;
  const auto insist = [&](const char *what, const std::function<ic_status()> &call) {
    for (int64_t n = 1;; ++n) {
      const std::string before = snapshot();
      ic_status status;
      {
        const Allocations allocations(n);
        status = call();
      }
      if (status == IC_OK) return;
      ++failed;
      ASSERT_EQ(status, IC_ERROR_OUT_OF_MEMORY) << what << ": " << last_error();
      ASSERT_EQ(snapshot(), before) << what << ", allocation " << n;
      ASSERT_LT(n, 100) << what;
    }
  };
  char pattern[32];
  int64_t evaluated = 0;
  for (;; ++evaluated) {
    ic_search_candidate candidate = IC_SEARCH_CANDIDATE_INIT;
    insist("next", [&] { return ic_search_next(search, &candidate); });
    if (candidate.id < 0 || HasFatalFailure()) break;
    insist("pattern", [&] {
      size_t size = sizeof pattern;
      return ic_search_candidate_pattern(search, candidate.id, pattern, &size);
    });
    if (evaluated % 5 == 4)
      insist("reject", [&] { return ic_search_reject(search, candidate.id); });
    else
      insist("tell", [&] { return ic_search_tell(search, candidate.id, 1.0 / static_cast<double>(evaluated + 3)); });
  }
  EXPECT_EQ(evaluated, 1 + 19 * 20 / 2);
  EXPECT_GT(failed, evaluated);
  ic_search_info info = IC_SEARCH_INFO_INIT;
  ASSERT_EQ(ic_search_get_info(search, &info), IC_OK);
  EXPECT_EQ(info.state, IC_SEARCH_DONE);
  ic_search_destroy(search);
}

TEST(Allocation, TextsOfSchedules) {
  SmallProblem p;
  std::vector<char> buffer(1 << 16);
  const auto text = [&](const char *what, auto call) {
    fail_each(what, [&] {
      size_t size = buffer.size();
      return call(&size);
    });
  };
  text("pattern", [&](size_t *size) { return ic_schedule_pattern(p.schedule, buffer.data(), size); });
  text("explain", [&](size_t *size) { return ic_schedule_explain(p.schedule, buffer.data(), size); });
  for (const int32_t engine : {IC_ENGINE_VLLM, IC_ENGINE_SGLANG, IC_ENGINE_TENSORRT_LLM, IC_ENGINE_TRANSFORMERS}) {
    size_t size = buffer.size();
    const ic_status otherwise = ic_schedule_export(p.schedule, engine, buffer.data(), &size);
    fail_each(
        "export",
        [&] {
          size = buffer.size();
          return ic_schedule_export(p.schedule, engine, buffer.data(), &size);
        },
        otherwise);
  }
  fail_each(
      "a buffer that is too small",
      [&] {
        size_t size = 3;
        return ic_schedule_explain(p.schedule, buffer.data(), &size);
      },
      IC_ERROR_BUFFER_TOO_SMALL);
}

// From nothing to a forward and back, with the handles destroyed in the order in which they were made.
TEST(Allocation, AWholeLife) {
  SmallProblem p({.threads = 2});
  const auto life = [&]() -> ic_status {
    ic_context *context = nullptr;
    ic_schedule *schedule = nullptr;
    ic_indexer *indexer = nullptr;
    ic_topk *topk = nullptr;
    ic_attention *attention = nullptr;
    ic_cache *cache = nullptr;
    ic_status status = ic_context_create(&p.context_desc, &context);
    if (status == IC_OK) status = ic_schedule_create(&p.schedule_desc, &schedule);
    if (status == IC_OK) status = ic_indexer_create(context, &p.indexer_desc, &indexer);
    if (status == IC_OK) status = ic_topk_create(context, &p.topk_desc, &topk);
    if (status == IC_OK) status = ic_attention_create(context, &p.attention_desc, &attention);
    ic_cache_desc desc = p.cache_desc;
    desc.schedule = schedule;
    desc.indexer = indexer;
    desc.topk = topk;
    desc.attention = attention;
    if (status == IC_OK) status = ic_cache_create(context, &desc, &cache);
    ic_context_destroy(context);
    ic_schedule_destroy(schedule);
    ic_indexer_destroy(indexer);
    ic_topk_destroy(topk);
    ic_attention_destroy(attention);
    if (status == IC_OK) status = ic_cache_begin(cache, &p.batch);
    if (status == IC_OK) status = ic_forward(cache, &p.full, nullptr, nullptr);
    ic_cache_destroy(cache);
    return status;
  };
  EXPECT_GT(fail_each("a whole life", life), 10);
}

/// An allocator that fails at its n-th call and checks what comes back.
struct Allocator {
  int calls = 0, fail_at = 0, live = 0, wrong = 0;
  void *memory[8] = {};
  size_t sizes[8] = {};

  static void *alloc(void *user, size_t size) {
    auto &self = *static_cast<Allocator *>(user);
    if (++self.calls == self.fail_at || self.live == 8) return nullptr;
    void *made = std::aligned_alloc(256, (size + 255) / 256 * 256);
    if (made == nullptr) return nullptr;
    self.sizes[self.live] = size;
    return self.memory[self.live++] = made;
  }
  static void free(void *user, void *pointer, size_t size) {
    auto &self = *static_cast<Allocator *>(user);
    for (int i = 0; i < self.live; ++i) {
      if (self.memory[i] != pointer) continue;
      if (self.sizes[i] != size) ++self.wrong;
      std::free(pointer);
      --self.live;
      self.memory[i] = self.memory[self.live];
      self.sizes[i] = self.sizes[self.live];
      return;
    }
    ++self.wrong;
  }
};

TEST(Allocation, TheCallersAllocator) {
  SmallProblem p;
  const int64_t before = live_allocations();
  for (int fail_at = 1; fail_at <= 3; ++fail_at) {
    Allocator allocator;
    p.context_desc.alloc = Allocator::alloc;
    p.context_desc.free = Allocator::free;
    p.context_desc.alloc_user = &allocator;
    ic_context *context = nullptr;
    ic_indexer *indexer = nullptr;
    ic_topk *topk = nullptr;
    ASSERT_EQ(ic_context_create(&p.context_desc, &context), IC_OK);
    ASSERT_EQ(ic_indexer_create(context, &p.indexer_desc, &indexer), IC_OK);
    ASSERT_EQ(ic_topk_create(context, &p.topk_desc, &topk), IC_OK);
    p.cache_desc.indexer = indexer;
    p.cache_desc.topk = topk;
    p.cache_desc.attention = nullptr;
    size_t bytes = 0;
    ASSERT_EQ(ic_cache_memory_size(&p.cache_desc, &bytes), IC_OK);
    EXPECT_EQ(allocator.calls, 0) << "only caches need persistent memory";
    ic_cache *caches[2] = {nullptr, nullptr};
    allocator.fail_at = fail_at;
    for (int i = 0; i < 2; ++i) {
      const ic_status status = ic_cache_create(context, &p.cache_desc, &caches[i]);
      EXPECT_EQ(status, i + 1 == fail_at ? IC_ERROR_OUT_OF_MEMORY : IC_OK);
      if (status == IC_OK) continue;
      EXPECT_EQ(caches[i], nullptr);
      EXPECT_NE(last_error().find(std::to_string(bytes) + " bytes"), std::string::npos) << last_error();
    }
    EXPECT_EQ(allocator.live, fail_at == 3 ? 2 : 1);
    ic_context_destroy(context);
    ic_indexer_destroy(indexer);
    ic_topk_destroy(topk);
    for (ic_cache *cache : caches) ic_cache_destroy(cache);
    EXPECT_EQ(allocator.live, 0);
    EXPECT_EQ(allocator.wrong, 0) << "each pointer goes back once, with its size";
    p.reset_inputs();
  }
  // With the caller's allocator, every other allocation failing: what it gave goes back to it.
  Allocator allocator;
  p.context_desc.alloc = Allocator::alloc;
  p.context_desc.free = Allocator::free;
  p.context_desc.alloc_user = &allocator;
  fail_each("cache in the caller's memory", [&]() -> ic_status {
    ic_context *context = nullptr;
    ic_indexer *indexer = nullptr;
    ic_topk *topk = nullptr;
    ic_cache *cache = nullptr;
    ic_status status = ic_context_create(&p.context_desc, &context);
    if (status == IC_OK) status = ic_indexer_create(context, &p.indexer_desc, &indexer);
    if (status == IC_OK) status = ic_topk_create(context, &p.topk_desc, &topk);
    ic_cache_desc desc = p.cache_desc;
    desc.indexer = indexer;
    desc.topk = topk;
    desc.attention = nullptr;
    if (status == IC_OK) status = ic_cache_create(context, &desc, &cache);
    ic_cache_destroy(cache);
    ic_topk_destroy(topk);
    ic_indexer_destroy(indexer);
    ic_context_destroy(context);
    return status;
  });
  EXPECT_EQ(allocator.live, 0);
  EXPECT_EQ(allocator.wrong, 0);
  EXPECT_EQ(live_allocations(), before);
}

/// A call that must not allocate; its status is `wanted`.
void expect_none(const char *what, const std::function<ic_status()> &call, ic_status wanted = IC_OK) {
  ic_status status;
  int64_t count;
  {
    const Allocations allocations(1);
    status = call();
    count = allocations.count();
  }
  EXPECT_EQ(status, wanted) << what << ": " << last_error();
  EXPECT_EQ(count, 0) << what << " allocates";
}

class NoAllocation : public testing::TestWithParam<Variant> {};

TEST_P(NoAllocation, InOperationsAndQueries) {
  SmallProblem p(GetParam());
  const bool scores = (GetParam().cache_flags & IC_CACHE_SCORES) != 0;
  for (int round = 0; round < 2; ++round) {
    expect_none("begin", [&] { return p.call_begin(); });
    p.full.layer = 0;
    p.full.row_count = 2;
    expect_none("first part", [&] { return p.call_full(); });
    expect_none("overlapping part", [&] { return p.call_full(); }, IC_ERROR_PART_OVERLAP);
    expect_none("shared between the parts", [&] { return p.call_shared(); }, IC_ERROR_STALE_INCOMPLETE);
    p.full.row_begin = 2;
    p.full.row_count = IC_ALL_ROWS;
    expect_none("second part", [&] { return p.call_full(); });
    p.full.row_begin = 0;
    p.full.layer = 2;
    p.full.keys = &p.flat_keys;
    p.full.new_keys = nullptr;
    expect_none("full over flat keys", [&] { return p.call_full(); });
    expect_none("shared", [&] { return p.call_shared(); });
    p.shared.attention = nullptr;
    expect_none("shared alone", [&] { return p.call_shared(); });
    expect_none("scores", [&] { return p.call_scores(); });
    expect_none("select", [&] { return p.call_select(); });
    expect_none("merge", [&] { return p.call_merge(); });
    expect_none("attention", [&] { return p.call_attend(); });
    expect_none("attention mass", [&] { return p.call_mass(); });
    expect_none("prepare queries", [&] { return p.call_prepare_queries(); });
    expect_none("prepare keys", [&] { return p.call_prepare_keys(); });
    expect_none("overlap", [&] { return p.call_overlap(); });
    for (int again = 0; again < 2; ++again) expect_none("remap", [&] { return p.call_remap(); });
    expect_none("export", [&] { return p.call_export(); });
    expect_none("view", [&] { return ic_cache_get_view(p.cache, 0, &p.view); });
    p.batch.flags = IC_BATCH_KEEP;
    expect_none("begin that keeps", [&] { return p.call_begin(); });
    expect_none("compact", [&] { return p.call_compact(); });
    expect_none("import", [&] { return p.call_import(); });
    expect_none("info", [&] { return ic_cache_get_info(p.cache, &p.cache_info); });
    expect_none("faults", [&] { return ic_cache_faults(p.cache, 1, &p.faults, nullptr); });
    expect_none("indexer info", [&] { return ic_indexer_get_info(p.indexer, &p.indexer_info); });
    expect_none("schedule info", [&] { return ic_schedule_get_info(p.schedule, &p.schedule_info); });
    expect_none("layer", [&] { return ic_schedule_get_layer(p.schedule, 2, &p.layer_info); });
    expect_none("cut", [&] { return ic_schedule_get_cut(p.schedule, 1, &p.number); });
    expect_none("cache slot", [&] { return ic_schedule_get_cache_slot(p.schedule, 2, 2, &p.number); });
    expect_none("forward workspace", [&] { return ic_forward_workspace_size(p.cache, 8, 1 << 24, &p.size); });
    expect_none("scores workspace", [&] { return ic_indexer_scores_workspace_size(p.indexer, 99, 1 << 24, &p.size); });
    expect_none("select workspace", [&] { return ic_topk_select_workspace_size(p.topk, 99, 1 << 24, &p.size); });
    expect_none("merge workspace", [&] { return ic_topk_merge_workspace_size(p.topk, 99, 1024, &p.size); });
    expect_none("attention workspace", [&] { return ic_attention_workspace_size(p.attention, 99, 4096, &p.size); });
    expect_none("mass workspace", [&] { return ic_attention_mass_workspace_size(p.attention, 99, 4096, &p.size); });
    expect_none("compact workspace", [&] { return ic_cache_compact_workspace_size(p.cache, 8, &p.size); });
    expect_none("export size", [&] { return ic_cache_export_size(p.cache, 8, scores ? 1 : 0, &p.size); });
    expect_none("memory size", [&] { return ic_cache_memory_size(&p.cache_desc, &p.size); });
    expect_none("reset", [&] { return ic_cache_reset(p.cache); });
    expect_none("without a batch", [&] { return p.call_shared(); }, IC_ERROR_NO_BATCH);
    expect_none("last error", [&] { return ic_last_error(p.text, sizeof p.text) > 0 ? IC_OK : IC_ERROR_INTERNAL; });
    p.ready();
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, NoAllocation,
                         testing::Values(Variant{}, Variant{.threads = 3}, Variant{.dtype = IC_DTYPE_E4M3},
                                         Variant{.cache_flags = 0}, Variant{.threads = 2, .epoch = true}));

// What an engine does for hours: nothing is left behind in any memory.
TEST(NoAllocationAtSize, AThousandForwards) {
  SmallProblem p({.dtype = IC_DTYPE_E4M3});
  const auto device = [] { return device_memory_calls == nullptr ? 0 : device_memory_calls(); };
  const auto left = [] { return free_device_memory == nullptr ? 0 : free_device_memory(); };
  ASSERT_EQ(p.call_begin(), IC_OK) << last_error();
  ASSERT_EQ(p.call_full(), IC_OK) << last_error();  // what a driver keeps after the first time
  const int64_t device_before = device();
  const size_t left_before = left();
  ic_status status = IC_OK;
  int64_t count;
  {
    const Allocations allocations;
    for (int i = 0; i < 1000 && status == IC_OK; ++i) {
      status = p.call_begin();
      p.full.layer = 0;
      p.full.keys = &p.keys;
      if (status == IC_OK) status = p.call_full();
      if (status == IC_OK) status = p.call_shared();
      if (status == IC_OK) status = p.call_remap();
    }
    count = allocations.count();
  }
  EXPECT_EQ(status, IC_OK) << last_error();
  EXPECT_EQ(count, 0);
  EXPECT_EQ(device(), device_before);
  EXPECT_EQ(left(), left_before);
}

// Sizes at which rows are cut into ranges of keys and many candidates are sorted.
TEST(NoAllocationAtSize, SelectAndMerge) {
  constexpr int32_t kRows = 2, kColumns = 60000, kK = 2048, kParts = 12;
  SmallProblem p({.threads = 3});
  ic_topk_desc desc = IC_TOPK_DESC_INIT;
  desc.k = kK;
  ic_topk *topk = nullptr;
  ASSERT_EQ(ic_topk_create(p.context, &desc, &topk), IC_OK);
  Arrays arrays;
  auto *scores = arrays.input<float>(kRows * kColumns);
  for (int32_t i = 0; i < kRows * kColumns; ++i) scores[i] = static_cast<float>(i * 7919 % 104729);
  auto *end = arrays.input<int32_t>(kRows);
  end[0] = kColumns;
  end[1] = kColumns - 5;
  p.select.scores = scores;
  p.select.begin = nullptr;
  p.select.end = end;
  p.select.num_rows = kRows;
  p.select.max_end = kColumns;
  p.select.score_stride = 0;
  p.select.indices = arrays.output<int32_t>(kRows * kK);
  p.select.lengths = arrays.output<int32_t>(kRows);
  p.select.selected_scores = arrays.output<float>(kRows * kK);
  ASSERT_EQ(ic_topk_select_workspace_size(topk, kRows, kColumns, &p.select.workspace_size), IC_OK);
  p.select.workspace = arrays.input<uint8_t>(p.select.workspace_size);
  expect_none("select", [&] { return ic_topk_select(topk, &p.select, nullptr); });
  EXPECT_EQ(p.select.lengths[1], kK);

  auto *indices = arrays.input<int32_t>(kParts * kRows * kK);
  auto *in_scores = arrays.input<float>(kParts * kRows * kK);
  auto *lengths = arrays.input<int32_t>(kParts * kRows);
  for (int32_t i = 0; i < kParts * kRows * kK; ++i) {
    indices[i] = i;
    in_scores[i] = static_cast<float>(i % 1000);
  }
  for (int32_t i = 0; i < kParts * kRows; ++i) lengths[i] = kK;
  p.merge.in_indices = indices;
  p.merge.in_scores = in_scores;
  p.merge.in_lengths = lengths;
  p.merge.num_parts = kParts;
  p.merge.num_rows = kRows;
  p.merge.indices = p.select.indices;
  p.merge.lengths = p.select.lengths;
  p.merge.selected_scores = p.select.selected_scores;
  ASSERT_EQ(ic_topk_merge_workspace_size(topk, kRows, kParts, &p.merge.workspace_size), IC_OK);
  p.merge.workspace = arrays.input<uint8_t>(p.merge.workspace_size);
  expect_none("merge", [&] { return ic_topk_merge(topk, &p.merge, nullptr); });
  EXPECT_EQ(p.merge.lengths[0], kK);
  ic_topk_destroy(topk);
}

// Sizes at which a forward of one row is cut into ranges of keys, and scores into windows.
TEST(NoAllocationAtSize, Forward) {
  constexpr int32_t kKeys = 40000;
  SmallProblem p({.threads = 3});
  Arrays arrays;
  auto *keys = arrays.input<float>(size_t{kKeys} * SmallProblem::kHeadDim);
  for (size_t i = 0; i < size_t{kKeys} * SmallProblem::kHeadDim; ++i) keys[i] = static_cast<float>(i % 977) - 400.0f;
  p.flat_keys.data = keys;
  p.flat_keys.capacity = kKeys;
  p.key_end[0] = kKeys;
  p.batch.num_rows = 1;
  p.batch.max_key_end = kKeys;
  p.batch.num_block_tables = 0;
  p.full.keys = &p.flat_keys;
  p.full.new_keys = nullptr;
  p.full.attention = nullptr;
  ASSERT_EQ(ic_forward_workspace_size(p.cache, 1, kKeys, &p.full.workspace_size), IC_OK);
  p.full.workspace = arrays.input<uint8_t>(p.full.workspace_size);
  p.scores.scores = arrays.output<float>(kKeys);
  ASSERT_EQ(ic_indexer_scores_workspace_size(p.indexer, 1, kKeys, &p.scores.workspace_size), IC_OK);
  p.scores.workspace = arrays.input<uint8_t>(p.scores.workspace_size);
  expect_none("begin", [&] { return p.call_begin(); });
  expect_none("forward", [&] { return p.call_full(); });
  expect_none("scores", [&] { return p.call_scores(); });
  EXPECT_EQ(p.view.lengths[0], SmallProblem::kK);
}

}  // namespace
}  // namespace ic::test
