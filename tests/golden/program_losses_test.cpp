// SPDX-License-Identifier: Apache-2.0
// The program's JSON: golden losses from a folder without golden values, and losses of texts that nobody computed
// before.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "golden.h"
#include "program.h"

namespace {

nlohmann::json parse_only_object(const golden::Run &run) {
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(run.err, "");                 // no terminal, so no progress
  return nlohmann::json::parse(run.out);  // refuses anything behind the object
}

TEST(ProgramLosses, AreComputedWhereNoGoldenValuesAre) {
  const golden::Sandbox sandbox;
  const golden::Losses expected = golden::losses("searched_1_2");
  const auto json = parse_only_object(sandbox.run("--json --pattern " + expected.pattern));
  EXPECT_EQ(json.at("pattern"), expected.pattern);
  EXPECT_EQ(json.at("full_layers"), 8);
  EXPECT_EQ(json.at("full_layer_ids"), nlohmann::json({0, 2, 4, 7, 9, 10, 11, 12}));
  EXPECT_LE(golden::relative(json.at("text_loss_nats_per_byte"), expected.text), 2e-5);
  EXPECT_EQ(json.at("text_loss_rows").size(), 10U);
  EXPECT_LE(golden::relative(json.at("recall_loss"), expected.recall), 5e-4);
  EXPECT_EQ(json.at("indexer_calls"), 8 * 18);
  EXPECT_GT(json.at("tokens_per_second"), 0);
  EXPECT_EQ(json.at("backend"), golden::device_option());

  // Neither the folder nor the program knows where golden values lie.
  for (const auto &file : std::filesystem::recursive_directory_iterator(sandbox.path(""))) {
    EXPECT_EQ(file.path().filename().string().find("golden"), std::string::npos);
  }
  EXPECT_EQ(tiny_lm::read_file(golden::program()).find("golden"), std::string::npos);
}

TEST(ProgramLosses, FollowTheText) {
  const golden::Sandbox sandbox;
  const std::string pattern = "FFSSFSFSSFSSFFSS";  // a schedule without golden values
  const std::string text = tiny_lm::read_file(sandbox.model() + "/heldout.txt");
  const std::string row2 = text.substr(2 * 2048, 2049);
  const std::string row5 = text.substr(5 * 2048, 2049);
  // Each window needs the first byte of the next one as its last target, so rows are put together at their own borders.
  sandbox.write("two.txt", row2.substr(0, 2048) + row5 + "left over");
  const auto two = parse_only_object(sandbox.run("--json --text two.txt --pattern " + pattern));
  EXPECT_TRUE(two.at("recall_loss").is_null());
  ASSERT_EQ(two.at("text_loss_rows").size(), 2U);

  const auto one = parse_only_object(sandbox.run("--json --text two.txt --rows 1 --pattern " + pattern));
  ASSERT_EQ(one.at("text_loss_rows").size(), 1U);
  EXPECT_EQ(one.at("text_loss_rows")[0], two.at("text_loss_rows")[0]);

  sandbox.write("five.txt", row5);
  const auto five = parse_only_object(sandbox.run("--json --threads 1 --text five.txt --pattern " + pattern));
  EXPECT_EQ(five.at("text_loss_rows")[0], two.at("text_loss_rows")[1]);
  EXPECT_EQ(five.at("text_loss_nats_per_byte"), two.at("text_loss_rows")[1]);

  std::string changed = row5;
  changed[100] = '%';
  sandbox.write("changed.txt", changed);
  const auto other = parse_only_object(sandbox.run("--json --text changed.txt --pattern " + pattern));
  EXPECT_NE(other.at("text_loss_rows")[0], five.at("text_loss_rows")[0]);
}

}  // namespace
