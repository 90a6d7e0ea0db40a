// SPDX-License-Identifier: Apache-2.0
// Pipeline cuts: what crosses each one, also over stages that only reuse, and the numbering inside a stage.
#include "core/schedule_stages.h"

#include "tests/core/schedule_fixture.h"

namespace ic::test {
namespace {

int or_none(std::optional<GlobalLayer> layer) { return layer ? raw(*layer) : -1; }

TEST(ScheduleStages, Glm52OverTwoStagesCarriesLayer38) {
  const Schedule s = from_config(read_vector("config/glm-5.2.json"));
  const std::vector<int32_t> first = {0, 39};
  const StageMap map(s, first);
  ASSERT_EQ(map.stages().size(), 2u);
  EXPECT_EQ(or_none(map.stages()[0].carry_in), -1);
  EXPECT_EQ(or_none(map.stages()[0].carry_out), 38);
  EXPECT_EQ(or_none(map.stages()[1].carry_in), 38);
  EXPECT_EQ(or_none(map.stages()[1].carry_out), -1);
  EXPECT_FALSE(map.stages()[1].passes_on);
  EXPECT_EQ(raw(map.stages()[1].end), 79);  // the MTP layer is in the last stage
  EXPECT_EQ(map.stages()[0].num_key_slots, 12);
  EXPECT_EQ(map.stages()[1].num_key_slots, 10);  // 9 of the stack and the MTP layer's
  EXPECT_EQ(map.stages()[1].first_key_slot, 12);
}

TEST(ScheduleStages, StagesThatOnlyReusePassIndicesOn) {
  const Schedule s = from_pattern("FFSSSSSSSSFS");
  const std::vector<int32_t> first = {0, 3, 6, 9, 10};
  const StageMap map(s, first);
  const int in[] = {-1, 1, 1, 1, -1}, out[] = {1, 1, 1, -1, -1};
  const bool passes[] = {false, true, true, false, false};
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(or_none(map.stages()[i].carry_in), in[i]) << i;
    EXPECT_EQ(or_none(map.stages()[i].carry_out), out[i]) << i;
    EXPECT_EQ(map.stages()[i].passes_on, passes[i]) << i;
  }
}

TEST(ScheduleStages, AStageWithoutSparseLayersStillPassesOn) {
  ScheduleRequest request;
  const std::string text = R"({"model_type": "deepseek_v4", "num_hidden_layers": 8,
                               "compress_ratios": [0, 4, 128, 128, 128, 4, 128, 4]})";
  request.config_json = text;
  request.override.pattern = "FSF";
  const Schedule s = resolve_schedule(request);
  const std::vector<int32_t> first = {0, 2, 5, 6};
  const StageMap map(s, first);
  EXPECT_EQ(or_none(map.stages()[1].carry_in), 1);  // layers 2 to 4 have no indexed attention at all
  EXPECT_EQ(or_none(map.stages()[1].carry_out), 1);
  EXPECT_TRUE(map.stages()[1].passes_on);
  EXPECT_EQ(or_none(map.stages()[2].carry_out), -1);
  EXPECT_EQ(map.stages()[1].num_key_slots, 0);
}

/// Against a simulation: each stage knows only its own layers and what the cut in front handed over.
TEST(ScheduleStages, CarriedIndicesAreExactlyWhatConsumersNeed) {
  for (unsigned bits = 0; bits < 256; ++bits) {
    std::string pattern = "F";
    for (unsigned i = 0; i < 8; ++i) pattern += (bits >> i & 1) != 0 ? 'F' : 'S';
    const Schedule s = from_pattern(pattern);
    for (unsigned cuts = 0; cuts < 256; ++cuts) {
      std::vector<int32_t> first = {0};
      for (int i = 1; i < 9; ++i) {
        if ((cuts >> (i - 1) & 1) != 0) first.push_back(i);
      }
      const StageMap map(s, first);
      int handed_over = -1;
      for (const Stage &stage : map.stages()) {
        int held = handed_over;
        bool used = false;
        for (int32_t i = raw(stage.begin); i < raw(stage.end); ++i) {
          const GlobalLayer layer{i};
          if (s.mode(layer) == LayerMode::kFull) {
            held = i;
          } else {
            ASSERT_EQ(held, raw(*s.source(layer))) << pattern << " cuts " << cuts << " layer " << i;
            used |= held == handed_over;
          }
        }
        ASSERT_TRUE(handed_over < 0 || used || or_none(stage.carry_out) == handed_over) << "carried for nothing";
        handed_over = or_none(stage.carry_out);
        ASSERT_TRUE(handed_over < 0 || handed_over == held) << pattern << " cuts " << cuts;
      }
    }
  }
}

TEST(ScheduleStages, LayersAndKeySlotsInsideAStage) {
  const Schedule s = from_pattern("FSFFSSFS");
  const std::vector<int32_t> first = {0, 3, 5};
  const StageMap map(s, first);
  EXPECT_EQ(map.stage_of(GlobalLayer{2}), 0);
  EXPECT_EQ(map.stage_of(GlobalLayer{3}), 1);
  EXPECT_EQ(map.stage_of(GlobalLayer{7}), 2);
  EXPECT_EQ(map.to_stage(GlobalLayer{4}), StageLayer{1});
  EXPECT_EQ(*map.stage_key_slot(GlobalLayer{2}), KeySlot{1});
  EXPECT_EQ(*map.stage_key_slot(GlobalLayer{3}), KeySlot{0});
  EXPECT_EQ(*map.stage_key_slot(GlobalLayer{6}), KeySlot{0});
  EXPECT_FALSE(map.stage_key_slot(GlobalLayer{4}));
  int32_t slots = 0;
  for (int32_t i = 0; i < 8; ++i) {
    const GlobalLayer layer{i};
    EXPECT_EQ(map.to_global(map.stage_of(layer), map.to_stage(layer)), layer);
  }
  for (const Stage &stage : map.stages()) {
    EXPECT_EQ(stage.first_key_slot, slots);
    slots += stage.num_key_slots;
  }
  EXPECT_EQ(slots, s.num_key_slots());
}

TEST(ScheduleStages, RefusesCuts) {
  const Schedule s = from_pattern("FSFS");
  const auto refused = [&](std::vector<int32_t> first, const char *word) {
    try {
      const StageMap map(s, first);
      ADD_FAILURE() << "not refused";
    } catch (const Failure &failure) {
      EXPECT_EQ(failure.status(), IC_ERROR_INVALID_ARGUMENT);
      EXPECT_NE(std::string_view(failure.text()).find(word), std::string_view::npos) << failure.text();
    }
  };
  refused({}, "allowed: 0");
  refused({1, 2}, "first_layers[0] is 1");
  refused({0, 2, 2}, "first_layers[2] is 2");
  refused({0, 3, 1}, "first_layers[2] is 1");
  refused({0, 4}, "first_layers[1] is 4");
}

}  // namespace
}  // namespace ic::test
