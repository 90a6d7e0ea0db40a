// SPDX-License-Identifier: Apache-2.0
// What each engine reads (state of September 2026), and therefore what is written:
//   vLLM           --hf-overrides. index_topk_pattern beats freq and offset; indexer_types is not read, except for
//   hy_v4,
//                  where it beats all. DeepSeek-V4: the pattern counts C4 layers and needs use_index_cache.
//   SGLang         --json-model-override-args. index_topk_pattern beats freq and offset; offsets differ between its
//                  models, so a period is never written.
//   TensorRT-LLM   merged into the checkpoint's config.json. index_topk_pattern beats freq and offset; unknown models
//                  and DeepSeek-V4 do not share.
//   transformers   merged into config.json. indexer_types beats all, for glm_moe_dsa and hy_v4; the other model classes
//                  have no sharing. The pattern is written too, for engines that read the merged file.
// Beside a pattern, index_topk_freq is set to its default 1: then no two fields of the merged config disagree.
#include "core/schedule_export.h"

#include "core/failure.h"

namespace ic {
namespace {

using Kind = ModelFamily::Kind;

std::string pattern_fields(const Schedule &schedule) {
  return "\"index_topk_freq\": 1, \"index_topk_pattern\": \"" + std::string(schedule.pattern()) + "\"";
}

std::string types_field(const Schedule &schedule) {
  std::string out = "\"indexer_types\": [";
  const char *separator = "";
  for (const char letter : schedule.pattern()) {
    out += separator;
    out += letter == 'F' ? "\"full\"" : "\"shared\"";
    separator = ", ";
  }
  return out + "]";
}

const char *model_name(const Schedule &schedule) {
  return schedule.family().model_type.empty() ? "a model without config_json" : schedule.family().model_type.c_str();
}

/// An engine that never shares runs every indexer: that is right for an all-Full schedule only.
std::string without_sharing(const Schedule &schedule, const char *engine) {
  if (schedule.num_shared() == 0) return {};
  fail(IC_ERROR_UNSUPPORTED, "%s ignores index sharing for %s; this schedule has %d Shared layers", engine,
       model_name(schedule), schedule.num_shared());
}

std::string vllm(const Schedule &schedule) {
  if (schedule.family().kind == Kind::kHyV4) return types_field(schedule);
  return "\"use_index_cache\": true, " + pattern_fields(schedule);
}

std::string sglang(const Schedule &schedule) {
  if (schedule.family().nested) {
    fail(IC_ERROR_UNSUPPORTED, "SGLang's overrides do not reach into text_config, where %s keeps its fields",
         model_name(schedule));
  }
  if (schedule.family().kind == Kind::kHyV4) return pattern_fields(schedule) + ", " + types_field(schedule);
  return pattern_fields(schedule);
}

std::string tensorrt_llm(const Schedule &schedule) {
  const Kind kind = schedule.family().kind;
  if (kind == Kind::kDeepseekV4 || kind == Kind::kHyV4) return without_sharing(schedule, "TensorRT-LLM");
  return pattern_fields(schedule);
}

std::string transformers(const Schedule &schedule) {
  const Kind kind = schedule.family().kind;
  if (kind == Kind::kDeepseekV4 || kind == Kind::kDeepseekV32) return without_sharing(schedule, "transformers");
  return pattern_fields(schedule) + ", " + types_field(schedule);
}

}  // namespace

std::string export_schedule(const Schedule &schedule, int32_t engine) {
  std::string fields;
  switch (engine) {
    case IC_ENGINE_VLLM:
      fields = vllm(schedule);
      break;
    case IC_ENGINE_SGLANG:
      fields = sglang(schedule);
      break;
    case IC_ENGINE_TENSORRT_LLM:
      fields = tensorrt_llm(schedule);
      break;
    case IC_ENGINE_TRANSFORMERS:
      fields = transformers(schedule);
      break;
    default:
      fail(IC_ERROR_INVALID_ARGUMENT, "engine is %d; allowed: %d to %d", engine, IC_ENGINE_VLLM,
           IC_ENGINE_TRANSFORMERS);
  }
  if (schedule.family().nested && !fields.empty()) return "{\"text_config\": {" + fields + "}}";
  return "{" + fields + "}";
}

}  // namespace ic
