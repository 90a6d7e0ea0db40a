// SPDX-License-Identifier: Apache-2.0
// Architecture against override: what is allowed, what is refused, what a flag lets precedence decide.
#include <array>

#include "tests/core/schedule_fixture.h"

namespace ic::test {
namespace {

using Layers = std::vector<int>;

/// A glm_moe_dsa config of some layers with further fields.
std::string config(int num_layers, const std::string &fields) {
  return "{\"model_type\": \"glm_moe_dsa\", \"num_hidden_layers\": " + std::to_string(num_layers) +
         (fields.empty() ? "" : ", " + fields) + "}";
}

constexpr char kTypesFFSS[] = R"("indexer_types": ["full", "full", "shared", "shared"])";

TEST(ScheduleResolve, WithoutProofEveryLayerHasAnIndexer) {
  ScheduleRequest request;
  request.num_layers = 5;
  const Schedule s = resolve_schedule(request);
  EXPECT_EQ(s.pattern(), "FFFFF");
  EXPECT_EQ(s.num_indexers(), 5);
}

TEST(ScheduleResolve, LayersThatAreNotListedAreShared) {
  const std::array<int32_t, 2> list = {0, 2};
  ScheduleRequest request;
  request.num_layers = 5;
  request.indexer_layers = list;
  const Schedule s = resolve_schedule(request);
  EXPECT_EQ(s.pattern(), "FSFSS");
  EXPECT_EQ(s.num_indexers(), 2);
  EXPECT_FALSE(s.has_indexer(GlobalLayer{1}));
  EXPECT_EQ(raw(*s.indexer_ordinal(GlobalLayer{2})), 1);
}

TEST(ScheduleResolve, AnOverrideMaySkipIndexersButNotInventThem) {
  const std::array<int32_t, 3> list = {0, 2, 3};
  ScheduleRequest request;
  request.num_layers = 5;
  request.indexer_layers = list;
  request.override.pattern = "FSSFS";
  const Schedule s = resolve_schedule(request);
  EXPECT_EQ(s.pattern(), "FSSFS");
  EXPECT_TRUE(s.has_indexer(GlobalLayer{2}));  // reuse is no proof of absence
  EXPECT_FALSE(s.key_slot(GlobalLayer{2}));
  request.override.pattern = "FSFFF";
  expect_refused(request, IC_ERROR_SCHEDULE_INVALID, {"layer 4", "Full", "no indexer", "indexer_layers"});
  request.override.pattern = "SSFFS";
  expect_refused(request, IC_ERROR_SCHEDULE_INVALID, {"layer 0", "Shared"});
}

TEST(ScheduleResolve, RefusesIndexerLists) {
  ScheduleRequest request;
  request.num_layers = 4;
  request.num_mtp_layers = 1;
  const std::array<int32_t, 2> outside = {0, 5}, negative = {-1, 0}, twice = {0, 0}, descending = {2, 1}, late = {1, 2};
  request.indexer_layers = outside;
  expect_refused(request, IC_ERROR_INVALID_ARGUMENT, {"indexer_layers[1] is 5", "0 to 4"});
  request.indexer_layers = negative;
  expect_refused(request, IC_ERROR_INVALID_ARGUMENT, {"indexer_layers[0] is -1"});
  request.indexer_layers = twice;
  expect_refused(request, IC_ERROR_INVALID_ARGUMENT, {"indexer_layers[1] is 0 after 0", "ascending"});
  request.indexer_layers = descending;
  expect_refused(request, IC_ERROR_INVALID_ARGUMENT, {"indexer_layers[1] is 1 after 2"});
  request.indexer_layers = late;
  expect_refused(request, IC_ERROR_SCHEDULE_INVALID, {"layer 0", "no indexer", "indexer_layers"});
  request.indexer_layers = std::span<const int32_t>();
  expect_refused(request, IC_ERROR_SCHEDULE_INVALID, {"layer 0", "no indexer"});
  const std::array<int32_t, 3> with_mtp = {0, 1, 4};
  request.indexer_layers = with_mtp;
  EXPECT_EQ(resolve_schedule(request).pattern(), "FFSS");
}

TEST(ScheduleResolve, RefusesCounts) {
  ScheduleRequest request;
  expect_refused(request, IC_ERROR_INVALID_ARGUMENT, {"num_layers is 0", "1 to 4096"});
  request.num_layers = -1;
  expect_refused(request, IC_ERROR_INVALID_ARGUMENT, {"num_layers is -1", "1 to 4096"});
  request.num_layers = 4097;
  expect_refused(request, IC_ERROR_INVALID_ARGUMENT, {"num_layers is 4097"});
  request.num_layers = 4096;
  EXPECT_EQ(resolve_schedule(request).num_full(), 4096);
  request.num_mtp_layers = -2;
  expect_refused(request, IC_ERROR_INVALID_ARGUMENT, {"num_mtp_layers is -2", "0 to 4096"});
}

TEST(ScheduleResolve, PatternAndPeriodOfOneInputMustAgree) {
  ScheduleRequest request;
  request.num_layers = 6;
  request.override.freq = 2;
  request.override.pattern = "FFSFSF";
  EXPECT_EQ(resolve_schedule(request).pattern(), "FFSFSF");
  request.override.pattern = "FFSFFS";
  expect_refused(request, IC_ERROR_SCHEDULE_CONFLICT,
                 {"layer 4", "pattern says Full", "freq 2 offset 2 says Shared", "2 of 6 layers"});
  request.allow_precedence = true;
  const Schedule s = resolve_schedule(request);
  EXPECT_EQ(s.pattern(), "FFSFFS");
  EXPECT_NE(s.explain().find("first at layer 4 (Full / Shared); the pattern counts"), std::string::npos);
}

TEST(ScheduleResolve, TheSameInAConfig) {
  const std::string text = config(6, R"("index_topk_freq": 2, "index_topk_pattern": "FFSFFS")");
  expect_config_refused(text, IC_ERROR_SCHEDULE_CONFLICT, {"layer 4", "config.json: pattern", "freq 2 offset 2"});
  ScheduleRequest request;
  request.config_json = text;
  request.allow_precedence = true;
  EXPECT_EQ(resolve_schedule(request).pattern(), "FFSFFS");
}

TEST(ScheduleResolve, TypesAndListMustAgree) {
  const std::string text = config(4, kTypesFFSS);
  const std::array<int32_t, 4> all = {0, 1, 2, 3};
  const std::array<int32_t, 1> fewer = {0};
  ScheduleRequest request;
  request.config_json = text;
  request.indexer_layers = all;  // a checkpoint that duplicates indexer tensors into every layer
  expect_refused(request, IC_ERROR_SCHEDULE_CONFLICT, {"layer 2", "indexer_types", "indexer_layers", "2 of 4"});
  request.indexer_layers = fewer;
  expect_refused(request, IC_ERROR_SCHEDULE_CONFLICT, {"layer 1", "indexer_types says full", "does not list it"});

  request.allow_precedence = true;  // weights may stay unused, missing ones cannot be run
  expect_refused(request, IC_ERROR_SCHEDULE_CONFLICT, {"layer 1"});
  request.indexer_layers = all;
  const Schedule s = resolve_schedule(request);
  EXPECT_EQ(s.pattern(), "FFSS");
  EXPECT_NE(s.explain().find("indexer_types counts"), std::string::npos) << s.explain();
}

TEST(ScheduleResolve, APeriodThatContradictsTheTypesIsRefused) {
  // Rule A on the types of rule B: as many Full layers, other ones.
  std::string types = "\"indexer_types\": [";
  for (int i = 0; i < 12; ++i)
    types += std::string(i == 0 ? "" : ", ") + (i < 3 || i == 6 || i == 10 ? "\"full\"" : "\"shared\"");
  const std::string text = config(12, types + "], \"index_topk_freq\": 4, \"index_skip_topk_offset\": 2");
  expect_config_refused(text, IC_ERROR_SCHEDULE_INVALID, {"layer 5", "freq 4 offset 2", "indexer_types"});
  ScheduleRequest request;
  request.config_json = text;
  request.allow_precedence = true;
  const Schedule s = resolve_schedule(request);
  EXPECT_EQ(full_layers(s), (Layers{0, 1, 2, 6, 10}));
  EXPECT_NE(s.explain().find("disagree on 5 of 12 layers, first at layer 2 (Full / Shared); indexer_types counts"),
            std::string::npos)
      << s.explain();
}

TEST(ScheduleResolve, EnginesInjectOverridesIntoTheConfig) {
  const std::string all_full = R"("indexer_types": ["full", "full", "full", "full", "full", "full"])";
  EXPECT_EQ(from_config(config(6, all_full + R"(, "index_topk_freq": 4)")).pattern(), "FFSSSF");
  EXPECT_EQ(from_config(config(6, all_full + R"(, "use_index_cache": true, "index_topk_pattern": "FSSFSS")")).pattern(),
            "FSSFSS");
  EXPECT_EQ(from_config(config(6, R"("index_topk_pattern": ["full", "shared", "shared", "full", "F", "S"])")).pattern(),
            "FSSFFS");
  EXPECT_EQ(from_config(config(4, std::string(kTypesFFSS) + R"(, "index_topk_pattern": "FSSS")")).pattern(), "FSSS");
  expect_config_refused(config(4, std::string(kTypesFFSS) + R"(, "index_topk_pattern": "FFSF")"),
                        IC_ERROR_SCHEDULE_INVALID, {"layer 3", "pattern says Full", "indexer_types"});
}

TEST(ScheduleResolve, TheMasterSwitchTurnsAConfigOverrideOff) {
  const Schedule s = from_config(config(6, R"("use_index_cache": false, "index_topk_freq": 4)"));
  EXPECT_EQ(s.pattern(), "FFFFFF");
  EXPECT_NE(s.explain().find("not applied: use_index_cache is false"), std::string::npos) << s.explain();
  // It switches an override, not the architecture.
  EXPECT_EQ(from_config(config(4, std::string(kTypesFFSS) + R"(, "use_index_cache": false)")).pattern(), "FFSS");
}

TEST(ScheduleResolve, FreqOneIsADefaultInAConfigAndARequestOfTheCaller) {
  EXPECT_EQ(from_config(config(4, std::string(kTypesFFSS) + R"(, "index_topk_freq": 1)")).pattern(), "FFSS");
  EXPECT_EQ(from_config(config(4, R"("index_topk_freq": 1, "index_topk_pattern": "FSSF")")).pattern(), "FSSF");
  const std::string quarter = config(6, R"("index_topk_freq": 4)");
  ScheduleRequest request;
  request.config_json = quarter;
  request.override.freq = 1;
  EXPECT_EQ(resolve_schedule(request).pattern(), "FFFFFF");
  const std::string typed = config(4, kTypesFFSS);
  request.config_json = typed;
  expect_refused(request, IC_ERROR_SCHEDULE_INVALID, {"layer 2", "freq 1", "no indexer"});
}

TEST(ScheduleResolve, TheCallerReplacesTheOverrideOfTheConfig) {
  const std::string text = config(6, R"("index_topk_freq": 4)");
  ScheduleRequest request;
  request.config_json = text;
  request.override.pattern = "FSFSFS";
  const Schedule s = resolve_schedule(request);
  EXPECT_EQ(s.pattern(), "FSFSFS");
  EXPECT_NE(s.explain().find("config.json: freq 4 offset 2 is replaced by desc: pattern"), std::string::npos)
      << s.explain();
}

TEST(ScheduleResolve, CountsOfCallerAndConfigMustAgree) {
  const std::string text = config(6, R"("num_nextn_predict_layers": 1)");
  ScheduleRequest request;
  request.config_json = text;
  request.num_layers = 6;
  request.num_mtp_layers = 1;
  EXPECT_EQ(resolve_schedule(request).num_all_layers(), 7);
  request.num_mtp_layers = 3;
  expect_refused(request, IC_ERROR_SCHEDULE_CONFLICT, {"num_mtp_layers is 3", "config.json says 1"});
  request.allow_precedence = true;
  EXPECT_EQ(resolve_schedule(request).num_mtp_layers(), 3);
  request.num_layers = 7;  // never overruled: all other fields are counted by it
  expect_refused(request, IC_ERROR_SCHEDULE_CONFLICT, {"num_layers is 7", "num_hidden_layers 6"});
}

TEST(ScheduleResolve, WarnsOfUnrunIndexersAndOfCapabilities) {
  const Schedule s = from_config(config(4, R"("index_topk_pattern": "FSSF", "index_share_for_mtp_iteration": true)"));
  const std::string text = s.explain();
  EXPECT_TRUE(s.mtp_can_share());
  EXPECT_NE(text.find("index_share_for_mtp_iteration is a capability"), std::string::npos) << text;
  EXPECT_NE(text.find("2 layers have an indexer that this schedule does not run"), std::string::npos) << text;
  const std::string trained = from_config(config(4, kTypesFFSS)).explain();
  EXPECT_EQ(trained.find("warnings"), std::string::npos) << trained;
}

}  // namespace
}  // namespace ic::test
