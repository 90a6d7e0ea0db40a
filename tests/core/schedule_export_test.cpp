// SPDX-License-Identifier: Apache-2.0
// What engines are given, against golden texts, and read back through the reader of config.json.
#include "core/schedule_export.h"

#include <nlohmann/json.hpp>

#include "tests/core/schedule_fixture.h"

namespace ic::test {
namespace {

Schedule overridden(const std::string &config, std::string_view pattern) {
  const std::string text = read_vector("config/" + config);
  ScheduleRequest request;
  request.config_json = text;
  if (!pattern.empty()) request.override.pattern = pattern;
  return resolve_schedule(request);
}

void expect_unsupported(const Schedule &schedule, int32_t engine, ic_status status, const char *word) {
  try {
    ADD_FAILURE() << "not refused: " << export_schedule(schedule, engine);
  } catch (const Failure &failure) {
    EXPECT_EQ(failure.status(), status) << failure.text();
    EXPECT_NE(std::string_view(failure.text()).find(word), std::string_view::npos) << failure.text();
  }
}

constexpr char kEighthOfGlm52[] = "FFFSSSSSSSFSSSSSSSFSSSSSSSFSSSSSSSFSSSSSSSFSSSSSSSFSSSSSSSFSSSSSSSFSSSSSSSFSSS";
constexpr char kQuarterOfFlash[] = "FFSSSFSSSFSSSFSSSFSSS";

TEST(ScheduleExport, GoldenTexts) {
  const Schedule glm52 = overridden("glm-5.2.json", "");
  const Schedule sparser = overridden("glm-5.2.json", kEighthOfGlm52);
  const Schedule glm5 = overridden("glm-5.json", kGlm5Quarter);
  const Schedule v32 = overridden("deepseek-v3.2.json", std::string_view(kGlm5Half, 61));
  const Schedule flash = overridden("deepseek-v4-flash.json", kQuarterOfFlash);
  const Schedule hy4 = overridden("hy4-preview.json", "");
  const struct {
    const char *file;
    const Schedule &schedule;
    int32_t engine;
  } cases[] = {
      {"glm-5.2.vllm.json", glm52, IC_ENGINE_VLLM},
      {"glm-5.2.sglang.json", glm52, IC_ENGINE_SGLANG},
      {"glm-5.2.tensorrt-llm.json", glm52, IC_ENGINE_TENSORRT_LLM},
      {"glm-5.2.transformers.json", glm52, IC_ENGINE_TRANSFORMERS},
      {"glm-5.2-eighth.vllm.json", sparser, IC_ENGINE_VLLM},
      {"glm-5-quarter.vllm.json", glm5, IC_ENGINE_VLLM},
      {"glm-5-quarter.sglang.json", glm5, IC_ENGINE_SGLANG},
      {"glm-5-quarter.tensorrt-llm.json", glm5, IC_ENGINE_TENSORRT_LLM},
      {"glm-5-quarter.transformers.json", glm5, IC_ENGINE_TRANSFORMERS},
      {"deepseek-v3.2-docs.vllm.json", v32, IC_ENGINE_VLLM},
      {"deepseek-v4-flash-quarter.vllm.json", flash, IC_ENGINE_VLLM},
      {"deepseek-v4-flash-quarter.sglang.json", flash, IC_ENGINE_SGLANG},
      {"hy4.vllm.json", hy4, IC_ENGINE_VLLM},
      {"hy4.sglang.json", hy4, IC_ENGINE_SGLANG},
      {"hy4.transformers.json", hy4, IC_ENGINE_TRANSFORMERS},
  };
  for (const auto &c : cases) {
    EXPECT_EQ(export_schedule(c.schedule, c.engine) + "\n", read_vector(std::string("schedule/") + c.file)) << c.file;
  }
}

/// Merged into the config that it was made for, a text says the same schedule again, without any flag.
TEST(ScheduleExport, MergedConfigsResolveToTheSameSchedule) {
  const std::pair<const char *, std::string_view> cases[] = {
      {"glm-5.2.json", ""},         {"glm-5.2.json", kEighthOfGlm52},
      {"glm-5.json", kGlm5Quarter}, {"deepseek-v3.2.json", std::string_view(kGlm5Half, 61)},
      {"hy4-preview.json", ""},     {"deepseek-v4-flash.json", kQuarterOfFlash},
      {"glm-5.1.json", kGlm5Half},  {"tiny-glm-dsa.json", "FSFSFSSFSFFFFSSS"},
  };
  int exported = 0;
  for (const auto &[config, pattern] : cases) {
    const Schedule schedule = overridden(config, pattern);
    for (const int32_t engine : {IC_ENGINE_VLLM, IC_ENGINE_SGLANG, IC_ENGINE_TENSORRT_LLM, IC_ENGINE_TRANSFORMERS}) {
      std::string text;
      try {
        text = export_schedule(schedule, engine);
      } catch (const Failure &failure) {
        EXPECT_EQ(failure.status(), IC_ERROR_UNSUPPORTED);
        continue;
      }
      nlohmann::json merged = nlohmann::json::parse(read_vector(std::string("config/") + config));
      merged.merge_patch(nlohmann::json::parse(text));
      const Schedule again = from_config(merged.dump());
      EXPECT_EQ(again.pattern(), schedule.pattern()) << config << " engine " << engine;
      EXPECT_EQ(again.hash(), schedule.hash());
      ++exported;
    }
  }
  EXPECT_EQ(exported, 28);
}

TEST(ScheduleExport, EnginesThatCannotExpressItSaySo) {
  const Schedule v32 = overridden("deepseek-v3.2.json", std::string_view(kGlm5Half, 61));
  expect_unsupported(v32, IC_ENGINE_TRANSFORMERS, IC_ERROR_UNSUPPORTED,
                     "transformers ignores index sharing for deepseek_v32");
  const Schedule flash = overridden("deepseek-v4-flash.json", kQuarterOfFlash);
  expect_unsupported(flash, IC_ENGINE_TENSORRT_LLM, IC_ERROR_UNSUPPORTED, "TensorRT-LLM");
  expect_unsupported(flash, IC_ENGINE_TRANSFORMERS, IC_ERROR_UNSUPPORTED, "15 Shared layers");
  const Schedule hy4 = overridden("hy4-preview.json", "");
  expect_unsupported(hy4, IC_ENGINE_TENSORRT_LLM, IC_ERROR_UNSUPPORTED, "hy_v4");
  // With nothing to share there is nothing to say.
  EXPECT_EQ(export_schedule(overridden("deepseek-v3.2.json", ""), IC_ENGINE_TRANSFORMERS), "{}");
  EXPECT_EQ(export_schedule(overridden("deepseek-v4-pro.json", ""), IC_ENGINE_TENSORRT_LLM), "{}");
}

TEST(ScheduleExport, WithoutAConfigAsForTheModelsThatCountEveryLayer) {
  const Schedule s = from_pattern("FSSF");
  EXPECT_EQ(export_schedule(s, IC_ENGINE_VLLM),
            R"({"use_index_cache": true, "index_topk_freq": 1, "index_topk_pattern": "FSSF"})");
  EXPECT_EQ(export_schedule(s, IC_ENGINE_TENSORRT_LLM), R"({"index_topk_freq": 1, "index_topk_pattern": "FSSF"})");
}

TEST(ScheduleExport, NestedConfigs) {
  const Schedule s = from_config(
      R"({"text_config": {"model_type": "glm_moe_dsa", "num_hidden_layers": 2, "index_topk_pattern": "FS"}})");
  EXPECT_EQ(export_schedule(s, IC_ENGINE_VLLM),
            R"({"text_config": {"use_index_cache": true, "index_topk_freq": 1, "index_topk_pattern": "FS"}})");
  expect_unsupported(s, IC_ENGINE_SGLANG, IC_ERROR_UNSUPPORTED, "text_config");
}

TEST(ScheduleExport, RefusesEngines) {
  const Schedule s = from_pattern("FS");
  for (const int32_t engine : {0, -1, 5}) {
    expect_unsupported(s, engine, IC_ERROR_INVALID_ARGUMENT, "allowed: 1 to 4");
  }
}

}  // namespace
}  // namespace ic::test
