// SPDX-License-Identifier: Apache-2.0
// The schedule through the C API: queries, text functions, and bad input.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "indexcache.h"

namespace {

struct Destroy {
  void operator()(ic_schedule *schedule) const { ic_schedule_destroy(schedule); }
};
using Handle = std::unique_ptr<ic_schedule, Destroy>;

std::string last_error() {
  char text[800];
  ic_last_error(text, sizeof text);
  return text;
}

Handle create(const ic_schedule_desc &desc) {
  ic_schedule *schedule = nullptr;
  EXPECT_EQ(ic_schedule_create(&desc, &schedule), IC_OK) << last_error();
  return Handle(schedule);
}

Handle from_pattern(const char *pattern) {
  ic_schedule_desc desc = IC_SCHEDULE_DESC_INIT;
  desc.num_layers = static_cast<int32_t>(std::strlen(pattern));
  desc.pattern = pattern;
  return create(desc);
}

std::string read_vector(const std::string &name) {
  std::ifstream file(INDEXCACHE_TEST_DIR "/vectors/" + name);
  EXPECT_TRUE(file.good()) << name;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

Handle from_config(const std::string &name) {
  const std::string text = read_vector("config/" + name);
  ic_schedule_desc desc = IC_SCHEDULE_DESC_INIT;
  desc.config_json = text.c_str();
  return create(desc);  // the text is not needed any longer
}

ic_layer_info layer_info(const Handle &schedule, int32_t layer) {
  ic_layer_info info = IC_LAYER_INFO_INIT;
  EXPECT_EQ(ic_schedule_get_layer(schedule.get(), layer, &info), IC_OK) << last_error();
  return info;
}

ic_schedule_info schedule_info(const Handle &schedule) {
  ic_schedule_info info = IC_SCHEDULE_INFO_INIT;
  EXPECT_EQ(ic_schedule_get_info(schedule.get(), &info), IC_OK) << last_error();
  return info;
}

/// Creation fails with a status and a word of its message, and leaves NULL.
void expect_refused(const ic_schedule_desc &desc, ic_status status, const char *word) {
  ic_schedule *schedule = reinterpret_cast<ic_schedule *>(alignof(std::max_align_t));
  EXPECT_EQ(ic_schedule_create(&desc, &schedule), status) << last_error();
  EXPECT_EQ(schedule, nullptr);
  EXPECT_NE(last_error().find(word), std::string::npos) << last_error();
}

TEST(CapiSchedule, Glm52) {
  const Handle schedule = from_config("glm-5.2.json");
  const ic_schedule_info info = schedule_info(schedule);
  EXPECT_EQ(info.num_layers, 78);
  EXPECT_EQ(info.num_mtp_layers, 1);
  EXPECT_EQ(info.num_full, 21);
  EXPECT_EQ(info.num_shared, 57);
  EXPECT_EQ(info.num_none, 0);
  EXPECT_EQ(info.num_indexers, 22);
  EXPECT_EQ(info.num_key_slots, 22);
  EXPECT_EQ(info.mtp_can_share, 1);
  const ic_layer_info full = layer_info(schedule, 38);
  EXPECT_EQ(full.mode, IC_LAYER_FULL);
  EXPECT_EQ(full.source_layer, 38);
  EXPECT_EQ(full.indexer_ordinal, 11);
  EXPECT_EQ(full.key_slot, 11);
  EXPECT_EQ(full.num_consumers, 3);
  EXPECT_EQ(full.last_consumer, 41);
  EXPECT_EQ(full.is_mtp, 0);
  const ic_layer_info shared = layer_info(schedule, 39);
  EXPECT_EQ(shared.mode, IC_LAYER_SHARED);
  EXPECT_EQ(shared.source_layer, 38);
  EXPECT_EQ(shared.indexer_ordinal, -1);
  EXPECT_EQ(shared.key_slot, -1);
  EXPECT_EQ(shared.num_consumers, 0);
  EXPECT_EQ(shared.last_consumer, -1);
  const ic_layer_info mtp = layer_info(schedule, 78);
  EXPECT_EQ(mtp.mode, IC_LAYER_FULL);
  EXPECT_EQ(mtp.source_layer, 78);
  EXPECT_EQ(mtp.is_mtp, 1);
  EXPECT_EQ(mtp.key_slot, 21);
  int32_t source = 0;
  EXPECT_EQ(ic_schedule_get_cut(schedule.get(), 39, &source), IC_OK);
  EXPECT_EQ(source, 38);
  EXPECT_EQ(ic_schedule_get_cut(schedule.get(), 42, &source), IC_OK);
  EXPECT_EQ(source, -1);
  EXPECT_EQ(ic_schedule_get_cut(schedule.get(), 78, &source), IC_OK);
  EXPECT_EQ(source, -1);
}

TEST(CapiSchedule, LayersWithoutIndexedAttention) {
  const Handle schedule = from_config("deepseek-v4-flash.json");
  const ic_schedule_info info = schedule_info(schedule);
  EXPECT_EQ(info.num_full, 21);
  EXPECT_EQ(info.num_none, 22);
  const ic_layer_info none = layer_info(schedule, 3);
  EXPECT_EQ(none.layer, 3);
  EXPECT_EQ(none.mode, IC_LAYER_NONE);
  EXPECT_EQ(none.source_layer, -1);
  EXPECT_EQ(none.indexer_ordinal, -1);
  EXPECT_EQ(none.key_slot, -1);
  EXPECT_EQ(none.last_consumer, -1);
}

TEST(CapiSchedule, CacheSlots) {
  const Handle schedule = from_pattern("FSFFSF");
  const int32_t full[] = {0, 2, 3, 5};
  for (int32_t num_slots = 1; num_slots <= 5; ++num_slots) {
    for (int32_t i = 0; i < 4; ++i) {
      int32_t slot = -1;
      EXPECT_EQ(ic_schedule_get_cache_slot(schedule.get(), full[i], num_slots, &slot), IC_OK);
      EXPECT_EQ(slot, i % num_slots);
    }
  }
  int32_t slot = 77;
  EXPECT_EQ(ic_schedule_get_cache_slot(schedule.get(), 1, 2, &slot), IC_ERROR_INVALID_ARGUMENT);
  EXPECT_NE(last_error().find("layer is 1"), std::string::npos) << last_error();
  EXPECT_EQ(ic_schedule_get_cache_slot(schedule.get(), 0, 0, &slot), IC_ERROR_INVALID_ARGUMENT);
  EXPECT_NE(last_error().find("num_slots is 0"), std::string::npos) << last_error();
  EXPECT_EQ(slot, 77);
}

TEST(CapiSchedule, TextFunctions) {
  const Handle schedule = from_pattern("FSSF");
  size_t size = 0;
  EXPECT_EQ(ic_schedule_pattern(schedule.get(), nullptr, &size), IC_ERROR_BUFFER_TOO_SMALL);
  ASSERT_EQ(size, 5u);
  char buffer[6] = {'x', 'x', 'x', 'x', 'x', 'x'};
  size = 4;
  EXPECT_EQ(ic_schedule_pattern(schedule.get(), buffer, &size), IC_ERROR_BUFFER_TOO_SMALL);
  EXPECT_EQ(size, 5u);
  EXPECT_EQ(buffer[0], 'x');
  EXPECT_EQ(ic_schedule_pattern(schedule.get(), buffer, &size), IC_OK);
  EXPECT_STREQ(buffer, "FSSF");
  EXPECT_EQ(buffer[5], 'x');

  size = 0;
  EXPECT_EQ(ic_schedule_explain(schedule.get(), nullptr, &size), IC_ERROR_BUFFER_TOO_SMALL);
  std::vector<char> text(size);
  EXPECT_EQ(ic_schedule_explain(schedule.get(), text.data(), &size), IC_OK);
  EXPECT_NE(std::string(text.data()).find("layer 0 Full, read by Shared layers 1 2\n"), std::string::npos);
  size = text.size();
  EXPECT_EQ(ic_schedule_export(schedule.get(), IC_ENGINE_SGLANG, text.data(), &size), IC_OK);
  EXPECT_STREQ(text.data(), R"({"index_topk_freq": 1, "index_topk_pattern": "FSSF"})");
  EXPECT_EQ(ic_schedule_export(schedule.get(), 9, text.data(), &size), IC_ERROR_INVALID_ARGUMENT);
}

TEST(CapiSchedule, EveryPointerNull) {
  const Handle schedule = from_pattern("FS");
  ic_schedule_desc desc = IC_SCHEDULE_DESC_INIT;
  desc.num_layers = 2;
  ic_schedule *created = nullptr;
  EXPECT_EQ(ic_schedule_create(nullptr, &created), IC_ERROR_NULL_POINTER);
  EXPECT_EQ(ic_schedule_create(&desc, nullptr), IC_ERROR_NULL_POINTER);
  ic_schedule_destroy(nullptr);
  ic_schedule_info info = IC_SCHEDULE_INFO_INIT;
  EXPECT_EQ(ic_schedule_get_info(nullptr, &info), IC_ERROR_NULL_POINTER);
  EXPECT_EQ(ic_schedule_get_info(schedule.get(), nullptr), IC_ERROR_NULL_POINTER);
  ic_layer_info layer = IC_LAYER_INFO_INIT;
  EXPECT_EQ(ic_schedule_get_layer(nullptr, 0, &layer), IC_ERROR_NULL_POINTER);
  EXPECT_EQ(ic_schedule_get_layer(schedule.get(), 0, nullptr), IC_ERROR_NULL_POINTER);
  int32_t value = 0;
  EXPECT_EQ(ic_schedule_get_cut(nullptr, 1, &value), IC_ERROR_NULL_POINTER);
  EXPECT_EQ(ic_schedule_get_cut(schedule.get(), 1, nullptr), IC_ERROR_NULL_POINTER);
  EXPECT_EQ(ic_schedule_get_cache_slot(nullptr, 0, 1, &value), IC_ERROR_NULL_POINTER);
  EXPECT_EQ(ic_schedule_get_cache_slot(schedule.get(), 0, 1, nullptr), IC_ERROR_NULL_POINTER);
  char buffer[8];
  size_t size = sizeof buffer;
  EXPECT_EQ(ic_schedule_pattern(nullptr, buffer, &size), IC_ERROR_NULL_POINTER);
  EXPECT_EQ(ic_schedule_pattern(schedule.get(), nullptr, &size), IC_ERROR_NULL_POINTER);
  EXPECT_EQ(ic_schedule_pattern(schedule.get(), buffer, nullptr), IC_ERROR_NULL_POINTER);
  EXPECT_EQ(ic_schedule_explain(nullptr, buffer, &size), IC_ERROR_NULL_POINTER);
  EXPECT_EQ(ic_schedule_explain(schedule.get(), nullptr, &size), IC_ERROR_NULL_POINTER);
  EXPECT_EQ(ic_schedule_explain(schedule.get(), buffer, nullptr), IC_ERROR_NULL_POINTER);
  EXPECT_EQ(ic_schedule_export(nullptr, IC_ENGINE_VLLM, buffer, &size), IC_ERROR_NULL_POINTER);
  EXPECT_EQ(ic_schedule_export(schedule.get(), IC_ENGINE_VLLM, nullptr, &size), IC_ERROR_NULL_POINTER);
  EXPECT_EQ(ic_schedule_export(schedule.get(), IC_ENGINE_VLLM, buffer, nullptr), IC_ERROR_NULL_POINTER);
  EXPECT_EQ(size, sizeof buffer);
  desc.num_indexer_layers = 1;
  expect_refused(desc, IC_ERROR_NULL_POINTER, "desc->indexer_layers");
}

TEST(CapiSchedule, LayersAndCutsOutOfRange) {
  ic_schedule_desc desc = IC_SCHEDULE_DESC_INIT;
  desc.num_layers = 3;
  desc.num_mtp_layers = 1;
  const Handle schedule = create(desc);
  ic_layer_info info = IC_LAYER_INFO_INIT;
  info.layer = 55;
  for (const int32_t layer : {-1, 4, INT32_MAX, INT32_MIN}) {
    EXPECT_EQ(ic_schedule_get_layer(schedule.get(), layer, &info), IC_ERROR_INVALID_ARGUMENT);
    EXPECT_NE(last_error().find("layer is " + std::to_string(layer)), std::string::npos) << last_error();
  }
  EXPECT_EQ(info.layer, 55);
  int32_t source = 66;
  for (const int32_t first : {0, -1, 4}) {
    EXPECT_EQ(ic_schedule_get_cut(schedule.get(), first, &source), IC_ERROR_INVALID_ARGUMENT);
    EXPECT_NE(last_error().find("1 to 3"), std::string::npos) << last_error();
  }
  EXPECT_EQ(source, 66);
}

TEST(CapiSchedule, DescsThatAreRefused) {
  ic_schedule_desc desc = IC_SCHEDULE_DESC_INIT;
  expect_refused(desc, IC_ERROR_INVALID_ARGUMENT, "num_layers is 0");
  desc.num_layers = 4;
  desc.flags = 0x80u;
  expect_refused(desc, IC_ERROR_UNKNOWN_FLAG, "0x80");
  desc.flags = 0;
  desc.num_indexer_layers = -1;
  expect_refused(desc, IC_ERROR_INVALID_ARGUMENT, "num_indexer_layers is -1");
  desc.num_indexer_layers = 0;
  desc.freq = -2;
  expect_refused(desc, IC_ERROR_INVALID_ARGUMENT, "freq is -2");
  desc.freq = 2;
  desc.offset = -1;
  expect_refused(desc, IC_ERROR_INVALID_ARGUMENT, "offset is -1");
  desc.offset = 0;
  desc.pattern = "FFSS";
  expect_refused(desc, IC_ERROR_SCHEDULE_CONFLICT, "layer 3");
  expect_refused(desc, IC_ERROR_SCHEDULE_CONFLICT, "IC_SCHEDULE_PRECEDENCE");
  desc.flags = IC_SCHEDULE_PRECEDENCE;
  EXPECT_EQ(layer_info(create(desc), 3).mode, IC_LAYER_SHARED);
  desc.freq = 0;
  desc.pattern = "SFFF";
  expect_refused(desc, IC_ERROR_SCHEDULE_INVALID, "layer 0");
  desc.pattern = "FFFx";
  expect_refused(desc, IC_ERROR_PARSE, "'x' at layer 3");
  desc.pattern = nullptr;
  const int32_t first_only[] = {0};
  desc.indexer_layers = first_only;
  desc.num_indexer_layers = 1;
  EXPECT_EQ(schedule_info(create(desc)).num_full, 1);
  desc.num_indexer_layers = 0;  // an empty list is a list
  expect_refused(desc, IC_ERROR_SCHEDULE_INVALID, "layer 0");
  desc.indexer_layers = nullptr;
  desc.config_json = "{";
  expect_refused(desc, IC_ERROR_PARSE, "config.json");
  desc.config_json = R"({"model_type": "minimax_m3", "num_hidden_layers": 4})";
  expect_refused(desc, IC_ERROR_MODEL_UNSUPPORTED, "minimax_m3");
  desc.config_json = R"({"model_type": "glm_moe_dsa", "num_hidden_layers": 5})";
  expect_refused(desc, IC_ERROR_SCHEDULE_CONFLICT, "num_hidden_layers 5");
}

TEST(CapiSchedule, StructsFromOtherVersions) {
  ic_schedule_desc desc = IC_SCHEDULE_DESC_INIT;
  desc.num_layers = 4;
  desc.struct_size = 8;
  expect_refused(desc, IC_ERROR_STRUCT_SIZE, "struct_size is 8");
  desc.struct_size = 1u << 20;
  expect_refused(desc, IC_ERROR_STRUCT_SIZE, "struct_size is 1048576");

  struct Newer {
    ic_schedule_desc desc;
    uint64_t field;
  } newer = {desc, 0};
  newer.desc.struct_size = sizeof newer;
  EXPECT_EQ(schedule_info(create(newer.desc)).num_layers, 4);
  newer.field = 1;
  expect_refused(newer.desc, IC_ERROR_UNKNOWN_FIELD, "not zero");

  const Handle schedule = from_pattern("FS");
  ic_schedule_info info = IC_SCHEDULE_INFO_INIT;
  info.struct_size = 12;  // a header that knew num_layers only
  info.num_mtp_layers = 99;
  EXPECT_EQ(ic_schedule_get_info(schedule.get(), &info), IC_OK);
  EXPECT_EQ(info.num_layers, 2);
  EXPECT_EQ(info.num_mtp_layers, 99);
  EXPECT_EQ(info.struct_size, 12u);
  info.struct_size = 0;
  EXPECT_EQ(ic_schedule_get_info(schedule.get(), &info), IC_ERROR_STRUCT_SIZE);
}

TEST(CapiSchedule, HashIsPartOfTheContract) {
  // python3: int.from_bytes(hashlib.sha256(b"FSSF").digest()[:8], "little")
  EXPECT_EQ(schedule_info(from_pattern("FSSF")).hash, 0x539e35ff87498230u);
}

}  // namespace
