// SPDX-License-Identifier: Apache-2.0
// Queries of a resolved schedule: sources, consumers, numberings, slots, MTP layers, hash, explanation.
#include "core/schedule.h"

#include "tests/core/schedule_fixture.h"

namespace ic::test {
namespace {

GlobalLayer at(int layer) { return GlobalLayer{layer}; }

/// What every schedule must satisfy, whatever its pattern.
void check_consistency(const Schedule &s) {
  int source = -1, fulls = 0, indexers = 0, position = 0, consumers = 0;
  for (int i = 0; i < s.num_all_layers(); ++i) {
    const GlobalLayer layer = at(i);
    if (s.mode(layer) == LayerMode::kNone) {
      EXPECT_FALSE(s.source(layer) || s.key_slot(layer) || s.pattern_position(layer) || s.indexer_ordinal(layer));
      EXPECT_FALSE(s.group(layer) || s.cache_slot(layer, 2));
      EXPECT_TRUE(s.consumers(layer).empty());
      continue;
    }
    const bool full = s.mode(layer) == LayerMode::kFull;
    if (full) source = i;
    ASSERT_GE(source, 0) << i;
    EXPECT_EQ(raw(*s.source(layer)), source) << i;
    EXPECT_EQ(s.key_slot(layer).has_value(), full);
    if (full) {
      EXPECT_EQ(raw(*s.key_slot(layer)), fulls++);
      EXPECT_EQ(s.layer_at(*s.key_slot(layer)), layer);
      EXPECT_TRUE(s.has_indexer(layer)) << i;
      for (const GlobalLayer consumer : s.consumers(layer)) {
        EXPECT_EQ(s.source(consumer), layer);
        EXPECT_GT(consumer, layer);
        ++consumers;
      }
    }
    EXPECT_EQ(*s.group(layer), fulls - 1);
    if (const auto ordinal = s.indexer_ordinal(layer)) {
      EXPECT_EQ(raw(*ordinal), indexers++);
      EXPECT_EQ(s.layer_at(*ordinal), layer);
    }
    EXPECT_EQ(s.pattern_position(layer).has_value(), !s.is_mtp(layer));
    if (const auto place = s.pattern_position(layer)) {
      EXPECT_EQ(raw(*place), position++);
      EXPECT_EQ(s.layer_at(*place), layer);
      EXPECT_EQ(s.pattern()[static_cast<size_t>(*place)], full ? 'F' : 'S');
    }
  }
  EXPECT_EQ(fulls, s.num_key_slots());
  EXPECT_EQ(indexers, s.num_indexers());
  EXPECT_EQ(consumers, s.num_shared());
  EXPECT_EQ(static_cast<size_t>(position), s.pattern().size());
}

TEST(Schedule, SourcesConsumersAndSlots) {
  const Schedule s = from_pattern("FSSFFSSS");
  EXPECT_EQ(raw(*s.source(at(2))), 0);
  EXPECT_EQ(raw(*s.source(at(3))), 3);
  EXPECT_EQ(raw(*s.source(at(7))), 4);
  EXPECT_EQ(s.consumers(at(0)).size(), 2u);
  EXPECT_TRUE(s.consumers(at(3)).empty());
  EXPECT_EQ(s.consumers(at(4)).back(), at(7));
  EXPECT_TRUE(s.consumers(at(5)).empty());
  EXPECT_EQ(raw(*s.key_slot(at(4))), 2);
  EXPECT_FALSE(s.key_slot(at(5)));
  EXPECT_EQ(s.num_key_slots(), 3);
  EXPECT_EQ(s.num_indexers(), 8);  // nothing says that a Shared layer has no weights
  EXPECT_TRUE(s.has_indexer(at(5)));
  check_consistency(s);
}

TEST(Schedule, EverySmallPatternIsConsistent) {
  for (unsigned bits = 0; bits < 512; ++bits) {
    std::string pattern = "F";
    for (unsigned i = 0; i < 9; ++i) pattern += (bits >> i & 1) != 0 ? 'F' : 'S';
    check_consistency(from_pattern(pattern));
  }
  for (const char *pattern : {k30bHalf, k30bQuarter, k30bEighth, kGlm5Half, kGlm5Quarter}) {
    check_consistency(from_pattern(pattern));
  }
}

TEST(Schedule, MtpLayersComputeAndShareOnlyWithThemselves) {
  ScheduleRequest request;
  request.num_layers = 4;
  request.num_mtp_layers = 2;
  request.override.pattern = "FFSS";
  const Schedule s = resolve_schedule(request);
  check_consistency(s);
  EXPECT_EQ(s.num_full(), 2);
  EXPECT_EQ(s.num_key_slots(), 4);
  EXPECT_EQ(s.pattern(), "FFSS");
  for (const int layer : {4, 5}) {
    EXPECT_TRUE(s.is_mtp(at(layer)));
    EXPECT_EQ(s.mode(at(layer)), LayerMode::kFull);
    EXPECT_EQ(s.source(at(layer)), at(layer));
    EXPECT_TRUE(s.consumers(at(layer)).empty());
    EXPECT_FALSE(s.pattern_position(at(layer)));
  }
  EXPECT_EQ(raw(*s.key_slot(at(4))), 2);
  EXPECT_FALSE(s.carry(at(4)));
  EXPECT_FALSE(s.mtp_can_share());
}

TEST(Schedule, MtpDoesNotChangePatternOrHash) {
  ScheduleRequest request;
  request.num_layers = 4;
  request.override.pattern = "FFSS";
  const Schedule without = resolve_schedule(request);
  request.num_mtp_layers = 3;
  const Schedule with = resolve_schedule(request);
  EXPECT_EQ(with.pattern(), without.pattern());
  EXPECT_EQ(with.hash(), without.hash());
}

TEST(Schedule, CacheSlotsGoRoundAndKeepEveryPublicationUntilItsLastConsumer) {
  const Schedule s = from_pattern("FSSFFSFSSFS");
  for (int num_slots = 1; num_slots <= 6; ++num_slots) {
    std::vector<int> owner(static_cast<size_t>(num_slots), -1);
    for (int i = 0; i < s.num_layers(); ++i) {
      const int slot = *s.cache_slot(at(i), num_slots);
      ASSERT_TRUE(slot >= 0 && slot < num_slots);
      if (s.mode(at(i)) == LayerMode::kFull) {
        owner[static_cast<size_t>(slot)] = i;
        EXPECT_EQ(slot, raw(*s.key_slot(at(i))) % num_slots);
      } else {
        EXPECT_EQ(owner[static_cast<size_t>(slot)], raw(*s.source(at(i)))) << num_slots << " slots, layer " << i;
      }
    }
  }
}

TEST(Schedule, CarryNamesTheSourceThatMustCrossACut) {
  const Schedule s = from_pattern("FSSFFSSS");
  const int expected[] = {-1, 0, 0, -1, -1, 4, 4, 4, -1};
  for (int cut = 0; cut <= 8; ++cut) {
    const auto carry = s.carry(at(cut));
    EXPECT_EQ(carry ? raw(*carry) : -1, expected[cut]) << cut;
  }
}

TEST(Schedule, HashIsThatOfTheFsString) {
  // python3: int.from_bytes(hashlib.sha256(b"FSSF").digest()[:8], "little")
  EXPECT_EQ(from_pattern("FSSF").hash(), 0x539e35ff87498230u);
  EXPECT_EQ(from_pattern(kGlm5Quarter).hash(), 0x1ff538bff6a394b4u);
  EXPECT_NE(from_pattern("FSSF").hash(), from_pattern("FSFF").hash());
}

TEST(Schedule, ExplainNamesSourcesAndReaders) {
  const std::string text = from_pattern("FSFFSS").explain();
  EXPECT_NE(text.find("6; 3 Full, 3 Shared"), std::string::npos) << text;
  EXPECT_NE(text.find("pattern: FSFFSS\n"), std::string::npos) << text;
  EXPECT_NE(text.find("layer 0 Full, read by Shared layer 1\n"), std::string::npos) << text;
  EXPECT_NE(text.find("layer 2 Full, read by nobody else\n"), std::string::npos) << text;
  EXPECT_NE(text.find("layer 3 Full, read by Shared layers 4 5\n"), std::string::npos) << text;
  EXPECT_NE(text.find("indexers that do not run: 1 4 5\n"), std::string::npos) << text;
  EXPECT_EQ(text.find("disagreements"), std::string::npos) << text;
}

}  // namespace
}  // namespace ic::test
