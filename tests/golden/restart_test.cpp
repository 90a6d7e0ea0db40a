// SPDX-License-Identifier: Apache-2.0
// A run that begins at a traced layer has the bits of a whole run, for every layer and however the patterns go on.
#include <gtest/gtest.h>

#include <cstring>

#include "calibration.h"
#include "golden.h"
#include "schedules.h"

namespace {

constexpr int kTokens = 320;  // five times k: layers select different keys
const std::string kAllFull(16, 'F');

tiny_lm::Engine engine(const std::string &pattern) {
  return tiny_lm::Engine(golden::model(), pattern, golden::device(), golden::pool());
}

const uint8_t *text() {
  static const tiny_lm::Window window = golden::corpus().text[3];
  return window.data();
}

tiny_lm::Matrix whole_run(const std::string &pattern) { return engine(pattern).feed(text(), kTokens); }

/// The pattern up to first_layer, other letters behind it: first_layer itself is flipped.
std::string changed_from(const std::string &pattern, int first_layer, uint32_t letters) {
  std::string changed = pattern;
  for (size_t layer = static_cast<size_t>(first_layer); layer < changed.size(); ++layer) {
    changed[layer] = (letters >> layer & 1) != 0 ? 'F' : 'S';
  }
  if (first_layer > 0) {
    const auto first = static_cast<size_t>(first_layer);
    changed[first] = pattern[first] == 'F' ? 'S' : 'F';
  }
  changed[0] = 'F';
  return changed;
}

class Restart : public testing::TestWithParam<const char *> {};

TEST_P(Restart, AtEveryLayerHasTheBitsOfAWholeRun) {
  const std::string accepted = GetParam();
  tiny_lm::Trace trace;
  const tiny_lm::Matrix traced = engine(accepted).feed(text(), kTokens, &trace);
  EXPECT_TRUE(traced == whole_run(accepted)) << "keeping a trace changes nothing";
  for (int first = 0; first < 16; ++first) {
    const std::string candidate = changed_from(accepted, first, 0x9E3779B9U * static_cast<uint32_t>(first + 1));
    const tiny_lm::Matrix expected = whole_run(candidate);
    tiny_lm::Engine resuming = engine(candidate);
    const tiny_lm::Matrix found = resuming.resume(trace, first);
    EXPECT_TRUE(found == expected) << accepted << " -> " << candidate << " from layer " << first;
    // Only the Full layers behind the restart have run.
    const auto full = std::count(candidate.begin() + first, candidate.end(), 'F');
    EXPECT_EQ(resuming.stats().indexer_calls, full);
    if (candidate != accepted) {
      EXPECT_FALSE(found == traced) << candidate;
    }
  }
}

// A chain of accepted flips, each from the trace of the one before: what a search does.
TEST_P(Restart, RetracingGivesTheTraceOfTheNewPattern) {
  const std::string last = GetParam();
  tiny_lm::Trace trace;
  engine(kAllFull).feed(text(), kTokens, &trace);
  std::string pattern = kAllFull;
  for (int layer = 15; layer > 0; layer -= 2) {  // from the back, so that each step has a source in front of it to keep
    const auto l = static_cast<size_t>(layer);
    pattern.replace(l - 1, std::string::npos, last.substr(l - 1));
    pattern[0] = 'F';
    const tiny_lm::Matrix found = engine(pattern).retrace(&trace, std::max(0, layer - 1));
    EXPECT_TRUE(found == whole_run(pattern)) << pattern;
  }
  tiny_lm::Trace expected;
  engine(pattern).feed(text(), kTokens, &expected);
  EXPECT_EQ(trace.pattern, pattern);
  for (size_t layer = 0; layer < 16; ++layer) {
    EXPECT_TRUE(trace.inputs[layer] == expected.inputs[layer]) << layer;
    const auto &found = trace.publications[layer];
    const auto &block = expected.publications[layer];
    ASSERT_EQ(found.size(), block.size()) << layer;
    if (block.empty()) continue;
    const size_t header = sizeof(ic_export_header) / sizeof(uint64_t);  // names the schedule that it was made under
    EXPECT_TRUE(std::equal(found.begin() + header, found.end(), block.begin() + header)) << layer;
  }
}

INSTANTIATE_TEST_SUITE_P(Accepted, Restart,
                         testing::Values("FFFFFFFFFFFFFFFF", "FSFSFSSFSFFFFSSS", "FFSSSFSSSFSSSFSS",
                                         "FSSSSSSSSSSSSSSS"));

template <class Function>
std::string message(Function function) {
  try {
    function();
  } catch (const tiny_lm::Error &error) {
    return error.what();
  }
  return "";
}

TEST(RestartRefuses, WhatIsNotTheSameSequenceOrPattern) {
  tiny_lm::Trace trace;
  tiny_lm::Engine all_full = engine(kAllFull);
  all_full.feed(text(), 70, &trace);
  EXPECT_NE(message([&] { all_full.feed(text(), 70, &trace); }).find("first token of a sequence"), std::string::npos);
  EXPECT_NE(message([&] { all_full.resume(trace, -1); }).find("is -1; allowed: 0 to 15"), std::string::npos);
  EXPECT_NE(message([&] { all_full.resume(trace, 16); }).find("is 16; allowed: 0 to 15"), std::string::npos);
  tiny_lm::Engine other = engine("FSFSFSSFSFFFFSSS");
  EXPECT_NE(message([&] { other.resume(trace, 2); }).find("differ in front of it"), std::string::npos);
  EXPECT_NE(message([&] { other.retrace(&trace, 15); }).find("differ in front of it"), std::string::npos);
  EXPECT_EQ(message([&] { other.resume(trace, 1); }), "");
}

tiny_lm::Corpus few_rows() {
  const tiny_lm::Corpus all = golden::corpus();
  return {{all.text[0], all.text[2]}, {all.recall[0]}};
}

// The five schedules against the transformers library, on the rows that a search is calibrated on.
TEST(Calibration, LossesOfKnownSchedules) {
  tiny_lm::Calibration calibration(golden::model(), few_rows(), golden::device(), golden::pool());
  for (const tiny_lm::NamedSchedule &schedule : tiny_lm::kSchedules) {
    const golden::Losses expected = golden::losses(schedule.name);
    const auto first = std::mismatch(kAllFull.begin(), kAllFull.end(), schedule.pattern).first - kAllFull.begin();
    const tiny_lm::CalibrationLoss found = calibration.evaluate(schedule.pattern, kAllFull, static_cast<int>(first));
    EXPECT_LE(golden::relative(*found.text_loss, (expected.text_rows[0] + expected.text_rows[2]) / 2), 2e-5)
        << schedule.name;
    EXPECT_EQ(found.tokens, 3 * tiny_lm::kWindow);

    // The mean over all bytes, and the answers apart, as the ordinary evaluation finds them.
    tiny_lm::Engine whole = engine(schedule.pattern);
    const std::vector<double> recall = window_losses(&whole, few_rows().recall[0]);
    EXPECT_EQ(*found.recall_loss, tiny_lm::recall_answer_loss(recall)) << schedule.name;
    double sum = 0;
    for (const double loss : recall) sum += loss;
    EXPECT_LE(golden::relative(found.loss, (2 * *found.text_loss + sum / tiny_lm::kWindow) / 3), 1e-14);
  }
}

TEST(Calibration, TheWayToAPatternPlaysNoPart) {
  tiny_lm::Corpus one = few_rows();
  one.text.resize(1);
  one.recall.clear();
  tiny_lm::Calibration calibration(golden::model(), one, golden::device(), golden::pool());
  const std::string candidate = "FFFSFFSFFFSFFFSF";
  const double whole = calibration.evaluate(candidate, candidate, 16).loss;
  EXPECT_EQ(calibration.evaluate(candidate, "", 0).loss, whole);
  EXPECT_EQ(calibration.evaluate(candidate, kAllFull, 0).loss, whole);
  EXPECT_EQ(calibration.evaluate(candidate, kAllFull, 3).loss, whole);
  EXPECT_EQ(calibration.evaluate(candidate, "FFFSFFFFFFFFFFSF", 5).loss, whole);
  EXPECT_EQ(calibration.evaluate(candidate, "FFFSFFSFFFSFFFSS", 15).loss, whole);
  EXPECT_EQ(calibration.evaluate(candidate, "FSFSFFSFFFSFFFSS", 1).loss, whole);
  EXPECT_FALSE(calibration.evaluate(candidate, kAllFull, 0).recall_loss.has_value());

  // What goes wrong in between leaves nothing behind.
  EXPECT_THROW(calibration.evaluate(candidate, "FFF", 0), tiny_lm::Error);
  EXPECT_THROW(calibration.evaluate("FFF", kAllFull, 0), tiny_lm::Error);
  EXPECT_THROW(calibration.evaluate(candidate, kAllFull, 4), tiny_lm::Error);
  EXPECT_THROW(calibration.evaluate(candidate, kAllFull, 17), tiny_lm::Error);
  EXPECT_EQ(calibration.evaluate(candidate, kAllFull, 3).loss, whole);

  // One trace per row: the inputs of 16 layers, and the indices of the Full ones.
  const size_t inputs = size_t{16} * 2048 * 192 * sizeof(float);
  const size_t indices = sizeof(ic_export_header) + size_t{2048} * (1 + 64) * sizeof(int32_t);
  EXPECT_EQ(calibration.trace_bytes(), inputs + 16 * indices);
}

}  // namespace
