// SPDX-License-Identifier: Apache-2.0
// config.json as published: what each model resolves to, which models are refused by name, and malformed text.
#include "core/schedule_config.h"

#include "tests/core/schedule_fixture.h"

namespace ic::test {
namespace {

using Layers = std::vector<int>;

Schedule published(const std::string &name) { return from_config(read_vector("config/" + name)); }

Layers every(int first, int step, int end) {
  Layers layers;
  for (int layer = first; layer < end; layer += step) layers.push_back(layer);
  return layers;
}

Layers joined(Layers a, const Layers &b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(ScheduleConfig, ModelsWithoutSharing) {
  for (const auto &[name, layers] : {std::pair{"glm-5.json", 78}, {"glm-5.1.json", 78}, {"deepseek-v3.2.json", 61}}) {
    const Schedule s = published(name);
    EXPECT_EQ(s.num_layers(), layers) << name;
    EXPECT_EQ(s.num_full(), layers) << name;
    EXPECT_EQ(s.num_mtp_layers(), 1) << name;
    EXPECT_FALSE(s.mtp_can_share()) << name;
  }
}

TEST(ScheduleConfig, NullIsAnAbsentField) {
  const std::string text = R"({"model_type": "glm_moe_dsa", "num_hidden_layers": 3, "index_topk_freq": null,
    "index_topk_pattern": null, "index_skip_topk_offset": null, "indexer_types": null, "use_index_cache": null,
    "index_share_for_mtp_iteration": null, "num_nextn_predict_layers": null, "text_config": null,
    "layer_types": null, "index_kpool": null, "compress_ratios": null})";
  const Schedule s = from_config(text);
  EXPECT_EQ(s.pattern(), "FFF");
  EXPECT_EQ(s.num_mtp_layers(), 0);
}

TEST(ScheduleConfig, Glm52SharesByTraining) {
  const Schedule s = published("glm-5.2.json");
  EXPECT_EQ(full_layers(s), joined({0, 1}, every(2, 4, 78)));
  EXPECT_EQ(s.num_full(), 21);
  EXPECT_EQ(s.num_shared(), 57);
  EXPECT_EQ(s.num_indexers(), 22);  // and the MTP layer's
  EXPECT_FALSE(s.has_indexer(GlobalLayer{3}));
  EXPECT_TRUE(s.mtp_can_share());
  EXPECT_EQ(s.pattern(), from_period(78, 4, 3).pattern());
  EXPECT_EQ(raw(*s.source(GlobalLayer{39})), 38);  // the first layer of the second of two stages
  const std::string text = s.explain();
  EXPECT_NE(text.find("architecture: indexer_types (config.json)"), std::string::npos) << text;
  EXPECT_NE(text.find("freq 4 offset 3 (says the same as the architecture)"), std::string::npos) << text;
  EXPECT_NE(text.find("layer 74 Full, read by Shared layers 75 76 77\n"), std::string::npos) << text;
  EXPECT_NE(text.find("layer 78 (MTP) Full, computes at draft step 0"), std::string::npos) << text;
}

TEST(ScheduleConfig, Hy4SharesByTheOtherRule) {
  const Schedule s = published("hy4-preview.json");
  EXPECT_EQ(full_layers(s), joined({0}, every(1, 4, 78)));
  EXPECT_EQ(s.num_full(), 21);
  EXPECT_EQ(s.pattern(), from_period(78, 4, 2).pattern());
}

TEST(ScheduleConfig, DeepSeekV4HasIndexersInC4LayersOnly) {
  const Schedule flash = published("deepseek-v4-flash.json");
  EXPECT_EQ(flash.num_layers(), 43);
  EXPECT_EQ(full_layers(flash), every(2, 2, 43));
  EXPECT_EQ(flash.pattern().size(), 21u);
  EXPECT_EQ(flash.mode(GlobalLayer{3}), LayerMode::kNone);
  EXPECT_EQ(raw(*flash.pattern_position(GlobalLayer{4})), 1);
  EXPECT_EQ(raw(*flash.indexer_ordinal(GlobalLayer{42})), 20);
  EXPECT_EQ(flash.layer_at(PatternPosition{20}), GlobalLayer{42});
  EXPECT_EQ(flash.mode(GlobalLayer{43}), LayerMode::kNone);  // its MTP layer is a sliding window
  EXPECT_TRUE(flash.is_mtp(GlobalLayer{43}));
  const Schedule pro = published("deepseek-v4-pro.json");
  EXPECT_EQ(pro.num_layers(), 61);
  EXPECT_EQ(full_layers(pro), every(2, 2, 61));
  EXPECT_EQ(pro.num_indexers(), 30);
}

TEST(ScheduleConfig, DeepSeekV4PatternsCountC4Layers) {
  const std::string text = read_vector("config/deepseek-v4-flash.json");
  ScheduleRequest request;
  request.config_json = text;
  request.override.freq = 2;
  const Schedule half = resolve_schedule(request);
  EXPECT_EQ(half.num_full(), 11);  // as vLLM documents
  EXPECT_EQ(full_layers(half), joined({2}, every(4, 4, 43)));
  EXPECT_EQ(raw(*half.source(GlobalLayer{6})), 4);
  EXPECT_EQ(raw(*half.carry(GlobalLayer{5})), 4);
  EXPECT_FALSE(half.carry(GlobalLayer{7}));  // layer 7 has no sparse attention, layer 8 is Full

  request.override.freq.reset();
  request.override.pattern = std::string("FSSSFSSSFSSSFSSSFSSSF");
  const Schedule ranks = resolve_schedule(request);
  EXPECT_EQ(full_layers(ranks), every(2, 8, 43));
  std::string letters(43, 'F');  // the same over all layers
  for (int i = 2; i < 43; i += 2) letters[static_cast<size_t>(i)] = (i - 2) % 8 == 0 ? 'F' : 'S';
  request.override.pattern = letters;
  EXPECT_EQ(resolve_schedule(request).pattern(), ranks.pattern());
  EXPECT_EQ(resolve_schedule(request).hash(), ranks.hash());

  letters[3] = 'S';
  request.override.pattern = letters;
  expect_refused(request, IC_ERROR_SCHEDULE_INVALID, {"S at layer 3", "no indexed attention"});
  request.override.pattern = "FS";
  expect_refused(request, IC_ERROR_INVALID_ARGUMENT, {"2 letters", "21", "43"});
  request.override.pattern = "S" + std::string(20, 'F');
  expect_refused(request, IC_ERROR_SCHEDULE_INVALID, {"layer 2", "Shared"});
  request.override.pattern.reset();
  const std::vector<int32_t> list = {2, 3};
  request.indexer_layers = list;
  expect_refused(request, IC_ERROR_INVALID_ARGUMENT, {"indexer_layers[1] is 3", "without indexed attention"});
}

TEST(ScheduleConfig, DeepSeekV4LayerTypes) {
  const std::string head = R"({"model_type": "deepseek_v4", "num_hidden_layers": 4, )";
  const std::string types = R"("layer_types": ["sliding_attention", "compressed_sparse_attention",
                               "heavily_compressed_attention", "compressed_sparse_attention"])";
  EXPECT_EQ(full_layers(from_config(head + types + "}")), (Layers{1, 3}));
  EXPECT_EQ(full_layers(from_config(head + types + R"(, "compress_ratios": [0, 4, 128, 4, 0]})")), (Layers{1, 3}));
  expect_config_refused(head + types + R"(, "compress_ratios": [0, 4, 4, 4]})", IC_ERROR_SCHEDULE_CONFLICT,
                        {"layer 2", "4", "heavily_compressed_attention"});
  expect_config_refused(head + R"("compress_ratios": [0, 0, 2, 2]})", IC_ERROR_MODEL_UNSUPPORTED,
                        {"compress_ratios", "2 at layer 2", "0, 1, 4, 128"});
  expect_config_refused(head + R"("compress_ratios": [0, 0, 4]})", IC_ERROR_INVALID_ARGUMENT,
                        {"compress_ratios has 3 entries", "4"});
  expect_config_refused(head + R"("compress_ratios": [0, 0, 128, 0]})", IC_ERROR_SCHEDULE_INVALID,
                        {"none of 4 layers"});
  expect_config_refused(head + R"("layer_types": ["sliding_attention", "linear_attention", "x", "x"]})",
                        IC_ERROR_MODEL_UNSUPPORTED, {"linear_attention", "layer 1"});
  expect_config_refused(head + R"("index_topk": 512})", IC_ERROR_INVALID_ARGUMENT, {"compress_ratios", "layer_types"});
  expect_config_refused(head + R"("compress_ratios": [4, 4, 4, 4], "indexer_types": ["full"]})",
                        IC_ERROR_MODEL_UNSUPPORTED, {"indexer_types"});
}

TEST(ScheduleConfig, TheTinyModelRunsEveryIndexer) {
  const Schedule s = published("tiny-glm-dsa.json");
  EXPECT_EQ(s.pattern(), std::string(16, 'F'));
  EXPECT_EQ(s.num_mtp_layers(), 0);
}

TEST(ScheduleConfig, TextConfig) {
  const std::string inner = R"("model_type": "glm_moe_dsa", "num_hidden_layers": 4, "index_topk_pattern": "FSSF")";
  const Schedule s = from_config(R"({"model_type": "some_vl_wrapper", "text_config": {)" + inner + "}}");
  EXPECT_EQ(s.pattern(), "FSSF");
  EXPECT_TRUE(s.family().nested);
  // A wrapper whose inner part has no name of its own.
  EXPECT_EQ(from_config(R"({"model_type": "glm_moe_dsa", "text_config": {"num_hidden_layers": 2}})").pattern(), "FF");
  // Engines inject beside text_config.
  EXPECT_EQ(
      from_config(R"({"index_topk_freq": 2, "text_config": {"model_type": "glm_moe_dsa", "num_hidden_layers": 4}})")
          .pattern(),
      "FFSF");
  expect_config_refused(R"({"index_topk_pattern": "FFFF", "text_config": {)" + inner + "}}", IC_ERROR_SCHEDULE_CONFLICT,
                        {"index_topk_pattern", "FFFF", "FSSF"});
  expect_config_refused(R"({"text_config": 3})", IC_ERROR_PARSE, {"text_config is 3"});
}

TEST(ScheduleConfig, OtherSparseAttentionIsRefusedByName) {
  const struct {
    const char *file, *name, *why;
  } models[] = {
      {"deepseek-v4.1-flash.json", "deepseek_v41", "candidate pool"},
      {"glm-5.3-flash.json", "glm5_next", "pooled keys"},
      {"minimax-m3.json", "minimax_m3_vl", "blocks"},
      {"qwen3.8-flash-next.json", "qwen3_8_flash_next", "QSA"},
      {"longcat-flash-lite-sparse.json", "LongcatCausalLM", "sink"},
      {"openpangu-2.0.json", "openpangu_v2", "sliding-window"},
      {"dots3-note.json", "dots3_note", "sliding-window"},
  };
  for (const auto &model : models) {
    expect_config_refused(read_vector(std::string("config/") + model.file), IC_ERROR_MODEL_UNSUPPORTED,
                          {model.name, model.why});
  }
  expect_config_refused(R"({"text_config": {"model_type": "minimax_m3_text"}})", IC_ERROR_MODEL_UNSUPPORTED,
                        {"minimax_m3_text"});
  expect_config_refused(R"({"model_type": "deepseek_v3", "num_hidden_layers": 61})", IC_ERROR_MODEL_UNSUPPORTED,
                        {"deepseek_v3", "no lightning indexer"});
}

TEST(ScheduleConfig, ForeignFieldsAreRefusedUnderAKnownName) {
  const std::string head = R"({"model_type": "glm_moe_dsa", "num_hidden_layers": 4, )";
  for (const char *field : {R"("index_kpool": 4)", R"("candidate_topk_blocks": 2048)", R"("kv_source_layer_ids": [2])",
                            R"("index_source_layer_ids": [2, 8])", R"("candidate_source_layer_id": 0)",
                            R"("sparse_attention_config": {"sparse_block_size": 128})", R"("indexer_budget": 2048)",
                            R"("indexer_compress_ratio": 4)", R"("sparse_index_refresh_interval": 4)"}) {
    const std::string_view name = std::string_view(field).substr(1, std::string_view(field).find(':') - 2);
    expect_config_refused(head + field + "}", IC_ERROR_MODEL_UNSUPPORTED, {name, "allowed: absent"});
  }
  EXPECT_EQ(from_config(head + R"("index_kpool": 1, "kv_source_layer_ids": [], "candidate_source_layer_id": -1,
                                 "candidate_topk_blocks": 0, "sparse_attention_config": {}})")
                .pattern(),
            "FFFF");
  expect_config_refused(head + R"("compress_ratios": [4, 4, 4, 4]})", IC_ERROR_MODEL_UNSUPPORTED,
                        {"compress_ratios", "deepseek_v4"});
  expect_config_refused(head + R"("layer_types": ["deepseek_sparse_attention", "linear_attention"]})",
                        IC_ERROR_MODEL_UNSUPPORTED, {"linear_attention", "layer 1"});
}

TEST(ScheduleConfig, UnknownModelsAreRefusedByName) {
  expect_config_refused(R"({"model_type": "llama", "num_hidden_layers": 4})", IC_ERROR_MODEL_UNSUPPORTED,
                        {"llama", "unknown", "glm_moe_dsa"});
  expect_config_refused(R"({"num_hidden_layers": 4})", IC_ERROR_MODEL_UNSUPPORTED, {"(absent)"});
  EXPECT_EQ(from_config(R"({"architectures": ["DeepseekV32ForCausalLM"], "num_hidden_layers": 2})").pattern(), "FF");
}

TEST(ScheduleConfig, TextThatIsNotAConfig) {
  expect_config_refused("", IC_ERROR_PARSE, {"not JSON"});
  expect_config_refused("{\"model_type\": ", IC_ERROR_PARSE, {"byte"});
  expect_config_refused("{\"a\": 1,}", IC_ERROR_PARSE, {"byte 9"});
  expect_config_refused(R"([{"model_type": "glm_moe_dsa"}, {"text_config": {"a": [1]}}])", IC_ERROR_PARSE, {"a list"});
  expect_config_refused("3", IC_ERROR_PARSE, {"the top level is a number"});
  expect_config_refused("[1, 2]", IC_ERROR_PARSE, {"a list", "an object"});
  expect_config_refused(std::string(100000, '['), IC_ERROR_PARSE, {"not JSON"});
}

TEST(ScheduleConfig, AFieldThatIsThereTwiceMustAgreeWithItself) {
  const std::string head = R"({"model_type": "glm_moe_dsa", "num_hidden_layers": 4, "index_topk_freq": 2, )";
  EXPECT_EQ(from_config(head + R"("index_topk_freq": 2})").pattern(), "FFSF");
  expect_config_refused(head + R"("index_topk_freq": 4})", IC_ERROR_SCHEDULE_CONFLICT,
                        {"index_topk_freq is there twice", "2", "4"});
}

TEST(ScheduleConfig, DeepValuesAreIgnored) {
  const Schedule s = from_config(R"({"quantization_config": {"num_hidden_layers": 9, "ignore": [["a"], {"b": [1]}]},
    "rope_parameters": [[1, [2]], {"model_type": "llama"}], "model_type": "glm_moe_dsa",
    "text_config": {"vision": {"num_hidden_layers": 8, "x": [[]]}, "num_hidden_layers": 2,
                    "y": {"indexer_types": 3}}})");
  EXPECT_EQ(s.pattern(), "FF");
}

TEST(ScheduleConfig, FieldsOfTheWrongTypeOrValue) {
  const std::string head = R"({"model_type": "glm_moe_dsa", "num_hidden_layers": 4, )";
  const struct {
    const char *field;
    ic_status status;
    const char *word;
  } cases[] = {
      {R"("index_topk_freq": "4"})", IC_ERROR_PARSE, "index_topk_freq is \"4\""},
      {R"("index_topk_freq": 4.0})", IC_ERROR_PARSE, "index_topk_freq is 4.0"},
      {R"("index_topk_freq": true})", IC_ERROR_PARSE, "index_topk_freq is true"},
      {R"("index_topk_freq": 18446744073709551615})", IC_ERROR_PARSE, "index_topk_freq is 18446744073709551615"},
      {R"("index_topk_freq": 0})", IC_ERROR_INVALID_ARGUMENT, "freq is 0"},
      {R"("index_topk_freq": -4})", IC_ERROR_INVALID_ARGUMENT, "freq is -4"},
      {R"("index_topk_freq": 4, "index_skip_topk_offset": 0})", IC_ERROR_INVALID_ARGUMENT, "offset is 0"},
      {R"("index_skip_topk_offset": -1})", IC_ERROR_INVALID_ARGUMENT, "offset is -1"},
      {R"("index_topk_pattern": 4})", IC_ERROR_PARSE, "index_topk_pattern is 4"},
      {R"("index_topk_pattern": [0, 1, 2, 3]})", IC_ERROR_PARSE, "a list of layer numbers is not a pattern"},
      {R"("index_topk_pattern": ["full", "none", "full", "full"]})", IC_ERROR_PARSE, "\"none\" at layer 1"},
      {R"("index_topk_pattern": "FSQF"})", IC_ERROR_PARSE, "'Q' at layer 2"},
      {R"("index_topk_pattern": "SFFF"})", IC_ERROR_SCHEDULE_INVALID, "layer 0"},
      {R"("index_topk_pattern": "FSF"})", IC_ERROR_INVALID_ARGUMENT, "3 letters"},
      {R"("indexer_types": "FFSS"})", IC_ERROR_PARSE, "indexer_types is \"FFSS\""},
      {R"("indexer_types": ["full", "full", "full"]})", IC_ERROR_INVALID_ARGUMENT, "indexer_types has 3 entries"},
      {R"("indexer_types": ["full", "full", "half", "full"]})", IC_ERROR_PARSE, "\"half\" at layer 2"},
      {R"("indexer_types": ["shared", "full", "full", "full"]})", IC_ERROR_SCHEDULE_INVALID, "layer 0"},
      {R"("num_nextn_predict_layers": 1, "indexer_types": ["full", "full", "full", "full", "shared"]})",
       IC_ERROR_SCHEDULE_INVALID, "MTP layer 4"},
      {R"("use_index_cache": 1})", IC_ERROR_PARSE, "use_index_cache is 1"},
      {R"("index_share_for_mtp_iteration": "yes"})", IC_ERROR_PARSE, "index_share_for_mtp_iteration"},
      {R"("num_nextn_predict_layers": -1})", IC_ERROR_INVALID_ARGUMENT, "num_nextn_predict_layers is -1"},
  };
  for (const auto &c : cases) expect_config_refused(head + c.field, c.status, {c.word});
  EXPECT_EQ(from_config(head + R"("num_nextn_predict_layers": 1,
                                 "indexer_types": ["full", "shared", "full", "shared", "full"]})")
                .pattern(),
            "FSFS");
  for (const char *layers : {"0", "-1", "4097", "99999999999"}) {
    expect_config_refused(std::string(R"({"model_type": "glm_moe_dsa", "num_hidden_layers": )") + layers + "}",
                          IC_ERROR_INVALID_ARGUMENT, {"num_hidden_layers is", layers, "1 to 4096"});
  }
  expect_config_refused(R"({"model_type": "glm_moe_dsa"})", IC_ERROR_INVALID_ARGUMENT, {"num_hidden_layers is absent"});
}

}  // namespace
}  // namespace ic::test
