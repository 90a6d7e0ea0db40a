// SPDX-License-Identifier: Apache-2.0
// Structs of older and newer headers: every input struct with every wrong struct_size and with a tail that this library
// does not know; every output struct shorter and longer than this library's. The lists are compared with the header.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "capi/validate.h"
#include "tests/capi/small_problem.h"

namespace ic::test {
namespace {

constexpr size_t kLargest = 4096;

/// Exactly `size` bytes at an address that is a multiple of 8 (plus `shift`), so that a sanitizer sees both ends.
class Block {
 public:
  Block(const void *from, size_t from_size, size_t size, size_t shift = 0) : shift_(shift) {
    memory_.reserve(shift + size);
    memory_.resize(shift);
    const auto *bytes = static_cast<const uint8_t *>(from);
    memory_.insert(memory_.end(), bytes, bytes + std::min(from_size, size));
    memory_.resize(shift + size);
    set_struct_size(size);
  }
  uint8_t *data() { return memory_.data() + shift_; }
  void set_struct_size(size_t size) { std::memcpy(data(), &size, sizeof size); }

 private:
  std::vector<uint8_t> memory_;
  size_t shift_;
};

struct Input {
  const char *type;
  const char *named;
  size_t size;
  size_t first_size;  // of the first version
  std::function<const void *(SmallProblem &)> valid;
  std::function<ic_status(SmallProblem &, const void *)> call;
};

template <class T, class Call>
Input input(const char *type, const char *named, T Arguments::*field, Call call, size_t first_size = sizeof(T)) {
  return {type,
          named,
          sizeof(T),
          first_size,
          [field](SmallProblem &p) -> const void * { return &(p.*field); },
          [call](SmallProblem &p, const void *given) { return call(p, static_cast<const T *>(given)); }};
}

/// A create call that destroys what it made.
template <class Handle, class Create, class Destroy>
ic_status make(Create create, Destroy destroy) {
  Handle *handle = nullptr;
  const ic_status status = create(&handle);
  destroy(handle);
  return status;
}

std::vector<Input> inputs() {
  using A = Arguments;
  using P = SmallProblem;
  return {
      input("ic_context_desc", "desc", &A::context_desc,
            [](P &, auto *s) {
              return make<ic_context>([&](auto **out) { return ic_context_create(s, out); }, ic_context_destroy);
            }),
      input("ic_schedule_desc", "desc", &A::schedule_desc,
            [](P &, auto *s) {
              return make<ic_schedule>([&](auto **out) { return ic_schedule_create(s, out); }, ic_schedule_destroy);
            }),
      input("ic_indexer_desc", "desc", &A::indexer_desc,
            [](P &p, auto *s) {
              return make<ic_indexer>([&](auto **out) { return ic_indexer_create(p.context, s, out); },
                                      ic_indexer_destroy);
            }),
      input("ic_topk_desc", "desc", &A::topk_desc,
            [](P &p, auto *s) {
              return make<ic_topk>([&](auto **out) { return ic_topk_create(p.context, s, out); }, ic_topk_destroy);
            }),
      input("ic_attention_desc", "desc", &A::attention_desc,
            [](P &p, auto *s) {
              return make<ic_attention>([&](auto **out) { return ic_attention_create(p.context, s, out); },
                                        ic_attention_destroy);
            }),
      input("ic_cache_desc", "desc", &A::cache_desc,
            [](P &p, auto *s) {
              return make<ic_cache>([&](auto **out) { return ic_cache_create(p.context, s, out); }, ic_cache_destroy);
            }),
      input("ic_cache_desc", "desc", &A::cache_desc, [](P &p, auto *s) { return ic_cache_memory_size(s, &p.size); }),
      input("ic_search_desc", "desc", &A::search_desc,
            [](P &, auto *s) {
              return make<ic_search>([&](auto **out) { return ic_search_create(s, out); }, ic_search_destroy);
            }),
      input("ic_batch", "batch", &A::batch, [](P &p, auto *s) { return ic_cache_begin(p.cache, s); }),
      input("ic_batch", "batch", &A::batch,
            [](P &p, auto *s) { return ic_indexer_scores(p.indexer, s, &p.scores, nullptr); }),
      input("ic_batch", "batch", &A::batch,
            [](P &p, auto *s) {
              return ic_attention_run(p.attention, s, 0, &p.given, &p.attend, p.attend_workspace,
                                      p.attend_workspace_size, nullptr);
            }),
      input("ic_batch", "batch", &A::batch,
            [](P &p, auto *s) {
              return ic_attention_mass(p.attention, s, 0, &p.given, &p.mass, p.mass_workspace, p.mass_workspace_size,
                                       nullptr);
            }),
      input("ic_queries", "args->queries", &A::queries,
            [](P &p, auto *s) {
              p.full.queries = s;
              return p.call_full();
            }),
      input("ic_queries", "args->queries", &A::queries,
            [](P &p, auto *s) {
              p.scores.queries = s;
              return p.call_scores();
            }),
      input("ic_pool", "args->keys", &A::keys,
            [](P &p, auto *s) {
              p.full.keys = s;
              return p.call_full();
            }),
      input("ic_pool", "args->keys", &A::flat_keys,
            [](P &p, auto *s) {
              p.scores.keys = s;
              return p.call_scores();
            }),
      input("ic_pool", "args->attention->kv", &A::kv,
            [](P &p, auto *s) {
              p.attend.kv = s;
              return p.call_shared();
            }),
      input("ic_pool", "args->kv", &A::kv,
            [](P &p, auto *s) {
              p.mass.kv = s;
              return p.call_mass();
            }),
      input("ic_pool", "args->pool", &A::prepared,
            [](P &p, auto *s) {
              p.prepare_keys.pool = s;
              return p.call_prepare_keys();
            }),
      input("ic_new_keys", "args->new_keys", &A::new_keys,
            [](P &p, auto *s) {
              p.full.new_keys = s;
              return p.call_full();
            }),
      input("ic_attention_args", "args->attention", &A::attend,
            [](P &p, auto *s) {
              p.shared.attention = s;
              return p.call_shared();
            }),
      input("ic_attention_args", "args", &A::attend,
            [](P &p, auto *s) {
              return ic_attention_run(p.attention, &p.batch, 0, &p.given, s, p.attend_workspace,
                                      p.attend_workspace_size, nullptr);
            }),
      input("ic_mass_args", "args", &A::mass,
            [](P &p, auto *s) {
              return ic_attention_mass(p.attention, &p.batch, 0, &p.given, s, p.mass_workspace, p.mass_workspace_size,
                                       nullptr);
            }),
      input("ic_forward_args", "args", &A::full,
            [](P &p, auto *s) { return ic_forward(p.cache, s, &p.view, nullptr); }),
      input("ic_scores_args", "args", &A::scores,
            [](P &p, auto *s) { return ic_indexer_scores(p.indexer, &p.batch, s, nullptr); }),
      input("ic_select_args", "args", &A::select, [](P &p, auto *s) { return ic_topk_select(p.topk, s, nullptr); }),
      input("ic_merge_args", "args", &A::merge, [](P &p, auto *s) { return ic_topk_merge(p.topk, s, nullptr); }),
      input("ic_index_view", "indices", &A::given,
            [](P &p, auto *s) {
              return ic_attention_run(p.attention, &p.batch, 0, s, &p.attend, p.attend_workspace,
                                      p.attend_workspace_size, nullptr);
            }),
      input("ic_index_view", "indices", &A::given,
            [](P &p, auto *s) {
              return ic_attention_mass(p.attention, &p.batch, 0, s, &p.mass, p.mass_workspace, p.mass_workspace_size,
                                       nullptr);
            }),
      input("ic_index_view", "a", &A::given,
            [](P &p, auto *s) { return ic_index_overlap(p.context, s, &p.given, &p.overlap, nullptr); }),
      input("ic_index_view", "b", &A::given,
            [](P &p, auto *s) { return ic_index_overlap(p.context, &p.given, s, &p.overlap, nullptr); }),
      input("ic_prepare_args", "args", &A::prepare_queries,
            [](P &p, auto *s) { return ic_indexer_prepare_queries(p.indexer, s, nullptr); }),
      input("ic_prepare_args", "args", &A::prepare_keys,
            [](P &p, auto *s) { return ic_indexer_prepare_keys(p.indexer, s, nullptr); }),
      input("ic_remap_args", "args", &A::remap,
            [](P &p, auto *s) { return ic_cache_remap(p.cache, s, &p.view, nullptr); }),
      input("ic_compact_args", "args", &A::compact,
            [](P &p, auto *s) { return ic_cache_compact(p.cache, s, nullptr); }),
      input(
          "ic_overlap_args", "out", &A::overlap,
          [](P &p, auto *s) { return ic_index_overlap(p.context, &p.given, &p.given, s, nullptr); },
          offsetof(ic_overlap_args, mass)),
  };
}

struct Output {
  const char *type;
  size_t size;
  std::function<ic_status(SmallProblem &, void *)> call;
};

std::vector<Output> outputs() {
  using P = SmallProblem;
  const auto as_view = [](void *out) { return static_cast<ic_index_view *>(out); };
  return {
      {"ic_device_caps", sizeof(ic_device_caps),
       [](P &, void *out) { return ic_device_get_caps(IC_BACKEND_CPU, 0, static_cast<ic_device_caps *>(out)); }},
      {"ic_schedule_info", sizeof(ic_schedule_info),
       [](P &p, void *out) { return ic_schedule_get_info(p.schedule, static_cast<ic_schedule_info *>(out)); }},
      {"ic_layer_info", sizeof(ic_layer_info),
       [](P &p, void *out) { return ic_schedule_get_layer(p.schedule, 2, static_cast<ic_layer_info *>(out)); }},
      {"ic_indexer_info", sizeof(ic_indexer_info),
       [](P &p, void *out) { return ic_indexer_get_info(p.indexer, static_cast<ic_indexer_info *>(out)); }},
      {"ic_cache_info", sizeof(ic_cache_info),
       [](P &p, void *out) { return ic_cache_get_info(p.cache, static_cast<ic_cache_info *>(out)); }},
      {"ic_search_candidate", sizeof(ic_search_candidate),
       [](P &p, void *out) { return ic_search_next(p.search, static_cast<ic_search_candidate *>(out)); }},
      {"ic_search_info", sizeof(ic_search_info),
       [](P &p, void *out) { return ic_search_get_info(p.search, static_cast<ic_search_info *>(out)); }},
      {"ic_search_step", sizeof(ic_search_step),
       [](P &p, void *out) { return ic_search_get_step(p.search, 0, static_cast<ic_search_step *>(out)); }},
      {"ic_index_view", sizeof(ic_index_view),
       [=](P &p, void *out) { return ic_cache_get_view(p.cache, 0, as_view(out)); }},
      {"ic_index_view", sizeof(ic_index_view),
       [=](P &p, void *out) { return ic_forward(p.cache, &p.shared, as_view(out), nullptr); }},
      {"ic_index_view", sizeof(ic_index_view),
       [=](P &p, void *out) { return ic_cache_remap(p.cache, &p.remap, as_view(out), nullptr); }},
  };
}

class BadInputStruct : public BadInput {};

TEST_F(BadInputStruct, SizesThatNoHeaderHas) {
  for (const Input &one : inputs()) {
    SCOPED_TRACE(testing::Message() << one.type << " as " << one.named);
    const void *valid = one.valid(problem);
    const std::string named = std::string(one.named) + "->struct_size is ";
    for (const size_t size : {size_t{0}, size_t{1}, one.first_size - 8, one.first_size - 1, kLargest + 1, SIZE_MAX}) {
      Block block(valid, one.size, one.size);
      block.set_struct_size(size);
      const std::string number = named + std::to_string(size) + ";";
      const std::string allowed = std::to_string(one.first_size) + " to 4096";
      EXPECT_TRUE(refuses(problem, IC_ERROR_STRUCT_SIZE, {number.c_str(), allowed.c_str()},
                          [&] { return one.call(problem, block.data()); }));
    }
  }
}

TEST_F(BadInputStruct, NewerStructsWithAZeroTailAreAccepted) {
  for (const Input &one : inputs()) {
    SCOPED_TRACE(testing::Message() << one.type << " as " << one.named);
    for (const size_t size : {one.size + 1, one.size + 8, kLargest}) {
      problem.ready();
      Block block(one.valid(problem), one.size, size);
      EXPECT_TRUE(accepts(problem, [&] { return one.call(problem, block.data()); })) << size;
    }
  }
}

TEST_F(BadInputStruct, NewerStructsWithATailInUseAreRefused) {
  for (const Input &one : inputs()) {
    SCOPED_TRACE(testing::Message() << one.type << " as " << one.named);
    for (const size_t at : {one.size, one.size + 5, kLargest - 1}) {
      Block block(one.valid(problem), one.size, at + 1);
      block.data()[at] = 1;
      const std::string byte = "byte " + std::to_string(at);
      EXPECT_TRUE(refuses(problem, IC_ERROR_UNKNOWN_FIELD,
                          {one.named, byte.c_str(), std::to_string(one.size).c_str(), "0.1."},
                          [&] { return one.call(problem, block.data()); }));
    }
  }
}

TEST_F(BadInputStruct, MisalignedStructs) {
  for (const Input &one : inputs()) {
    SCOPED_TRACE(testing::Message() << one.type << " as " << one.named);
    Block block(one.valid(problem), one.size, one.size, 4);
    EXPECT_TRUE(refuses(problem, IC_ERROR_MISALIGNED, {one.named, "multiple of 8"},
                        [&] { return one.call(problem, block.data()); }));
  }
}

// On the function that reads all structs, and on the one struct that has grown.
TEST_F(BadInputStruct, OlderStructsAreExtendedByZeros) {
  struct Grown {
    size_t struct_size;
    int64_t first;
    int64_t added;
  };
  const Grown given{sizeof(Grown) - 8, 7, 8};
  Block block(&given, sizeof given, sizeof given - 8);
  const auto read = ic::read_struct(reinterpret_cast<const Grown *>(block.data()), "given", sizeof(Grown) - 8);
  EXPECT_EQ(read.struct_size, sizeof(Grown));
  EXPECT_EQ(read.first, 7);
  EXPECT_EQ(read.added, 0) << "a field that the caller's header does not have";
  try {
    block.set_struct_size(sizeof(Grown) - 9);
    ic::read_struct(reinterpret_cast<const Grown *>(block.data()), "given", sizeof(Grown) - 8);
    ADD_FAILURE() << "older than the first version";
  } catch (const ic::Failure &failure) {
    EXPECT_EQ(failure.status(), IC_ERROR_STRUCT_SIZE);
  }
}

TEST_F(BadInputStruct, AnOlderOverlapHasNoMass) {
  problem.ready();
  constexpr size_t kOlder = offsetof(ic_overlap_args, mass);
  Block block(&problem.overlap, sizeof(ic_overlap_args), kOlder);
  float *recall = problem.overlap.mass_recall;
  recall[0] = -3.0f;
  EXPECT_TRUE(accepts(problem, [&] {
    return ic_index_overlap(problem.context, &problem.given, &problem.given,
                            reinterpret_cast<const ic_overlap_args *>(block.data()), nullptr);
  }));
  EXPECT_EQ(problem.overlap.recall[0], 1.0f);
  EXPECT_EQ(recall[0], -3.0f);
}

TEST_F(BadInputStruct, OutputsAreWrittenUpToTheCallersSize) {
  for (const Output &one : outputs()) {
    SCOPED_TRACE(one.type);
    const auto fill = [&](Block *block) {
      problem.ready();
      problem.full.layer = 0;
      const ic_status status = one.call(problem, block->data());
      EXPECT_EQ(status, IC_OK) << last_error();
    };
    std::vector<uint8_t> poison(kLargest, 0xA5);
    Block whole(poison.data(), kLargest, one.size);
    fill(&whole);
    for (const size_t size :
         {size_t{8}, size_t{12}, one.size - 4, one.size - 1, one.size + 1, one.size + 8, kLargest}) {
      Block block(poison.data(), kLargest, size);
      fill(&block);
      size_t kept = 0;
      std::memcpy(&kept, block.data(), sizeof kept);
      EXPECT_EQ(kept, size);
      for (size_t i = 8; i < size; ++i) {
        // The generation in a view grows by one in every round; everything else repeats.
        if (std::string(one.type) == "ic_index_view" && i / 8 == offsetof(ic_index_view, generation) / 8) continue;
        if (std::string(one.type) == "ic_cache_info" && i / 8 == offsetof(ic_cache_info, generation) / 8) continue;
        const uint8_t wanted = i < one.size ? whole.data()[i] : 0;
        ASSERT_EQ(block.data()[i], wanted) << "byte " << i << " of " << size;
      }
    }
  }
}

TEST_F(BadInputStruct, OutputsOfWrongSizes) {
  for (const Output &one : outputs()) {
    SCOPED_TRACE(one.type);
    std::vector<uint8_t> poison(one.size, 0xA5);
    for (const size_t size : {size_t{0}, size_t{7}, kLargest + 1, SIZE_MAX}) {
      Block block(poison.data(), one.size, one.size);
      block.set_struct_size(size);
      const std::vector<uint8_t> before(block.data(), block.data() + one.size);
      EXPECT_TRUE(refuses(problem, IC_ERROR_STRUCT_SIZE, {"struct_size is ", std::to_string(size).c_str(), "8 to 4096"},
                          [&] { return one.call(problem, block.data()); }));
      EXPECT_EQ(std::vector<uint8_t>(block.data(), block.data() + one.size), before);
    }
    Block shifted(poison.data(), one.size, one.size, 4);
    EXPECT_TRUE(
        refuses(problem, IC_ERROR_MISALIGNED, {"multiple of 8"}, [&] { return one.call(problem, shifted.data()); }));
  }
}

TEST_F(BadInputStruct, EveryStructOfTheHeaderIsTried) {
  std::ifstream file(INDEXCACHE_TEST_DIR "/../bindings/api.json");
  const auto api = nlohmann::json::parse(file);
  std::set<std::string> read, written;
  for (const Input &one : inputs()) read.insert(one.type);
  for (const Output &one : outputs()) written.insert(one.type);
  int structs = 0;
  for (const auto &record : api.at("structs")) {
    if (record.at("frozen").get<bool>()) continue;
    ++structs;
    const std::string name = record.at("name"), kind = record.at("kind");
    const bool is_output = kind == "output" || kind == "inout";
    EXPECT_EQ(read.count(name), kind == "output" ? 0u : 1u) << name;
    EXPECT_EQ(written.count(name), is_output ? 1u : 0u) << name;
  }
  EXPECT_GE(structs, 25);
}

}  // namespace
}  // namespace ic::test
