// SPDX-License-Identifier: Apache-2.0
// The engine of the pattern search: requests and answers, one JSON object a line.
#include "serve.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "golden.h"
#include "program.h"

namespace {

using nlohmann::json;

const std::string kAllFull(16, 'F');

/// All answers to some lines; the first is the announcement.
std::vector<json> answers(const std::string &lines, bool recall = false) {
  const tiny_lm::Corpus all = golden::corpus();
  tiny_lm::Corpus corpus{{all.text[1]}, {}};
  if (recall) corpus.recall = {all.recall[0]};
  tiny_lm::Calibration calibration(golden::model(), corpus, golden::device(), golden::pool());
  std::istringstream in(lines);
  std::ostringstream out;
  serve(&calibration, in, out);
  std::istringstream text(out.str());
  std::vector<json> result;
  for (std::string line; std::getline(text, line);) result.push_back(json::parse(line));
  return result;
}

std::string request(int id, const std::string &pattern, int first_layer, const std::string &accepted) {
  return json({{"type", "evaluate"},
               {"id", id},
               {"pattern", pattern},
               {"first_layer", first_layer},
               {"accepted", accepted}})
             .dump() +
         "\n";
}

TEST(Serve, AnnouncesItself) {
  const json text_alone = {{"type", "ready"},          {"protocol", 1},
                           {"engine", "tiny_lm"},      {"num_layers", 16},
                           {"metrics", {"text_loss"}}, {"loss_unit", "nats/byte"}};
  EXPECT_EQ(answers(""), std::vector<json>{text_alone}) << "and ends where its input ends";
  EXPECT_EQ(answers("", true)[0]["metrics"], json({"text_loss", "recall_loss"}));
}

TEST(Serve, AnswersWithTheLossOrARejection) {
  const std::string searched = "FSFSFSSFSFFFFSSS";
  const std::vector<json> got =
      answers(request(7, searched, 1, kAllFull) + "\n  \n" + request(8, "SSFSFSSFSFFFFSSS", 0, kAllFull) +
              request(9, "FSFX" + std::string(12, 'F'), 1, kAllFull) + request(-1, "FSF", 1, kAllFull) +
              request(10, searched, 16, searched));
  ASSERT_EQ(got.size(), 6U);
  EXPECT_EQ(got[1]["type"], "loss");
  EXPECT_EQ(got[1]["id"], 7);
  EXPECT_LE(golden::relative(got[1]["loss"], golden::losses("searched_1_2").text_rows[1]), 2e-5);
  EXPECT_EQ(got[1]["metrics"], json({{"text_loss", got[1]["loss"]}}));
  EXPECT_EQ(got[1]["tokens"], 2048);
  EXPECT_GT(got[1]["seconds"], 0);
  EXPECT_EQ(got[1].size(), 6U);
  for (size_t i = 2; i < 5; ++i) {
    EXPECT_EQ(got[i]["type"], "reject");
    EXPECT_EQ(got[i].size(), 3U);
  }
  EXPECT_EQ(got[2]["id"], 8);
  EXPECT_NE(got[2]["reason"].get<std::string>().find("layer 0 Shared"), std::string::npos);
  EXPECT_NE(got[3]["reason"].get<std::string>().find("'X'"), std::string::npos);
  EXPECT_EQ(got[4]["id"], -1);
  EXPECT_NE(got[4]["reason"].get<std::string>().find("3 letters"), std::string::npos);
  EXPECT_EQ(got[5]["loss"], got[1]["loss"]) << "the same bits by another way";
}

/// One line that is answered by an error, behind which the engine still works.
void expect_error(const std::string &line, const std::string &message) {
  const std::vector<json> got = answers(line + "\n" + request(1, "SFFF", 0, kAllFull));
  ASSERT_EQ(got.size(), 3U) << line;
  EXPECT_EQ(got[1]["type"], "error") << line;
  EXPECT_NE(got[1]["message"].get<std::string>().find(message), std::string::npos) << line << "\n" << got[1];
  EXPECT_EQ(got[1].size(), 2U);
  EXPECT_EQ(got[2]["type"], "reject");
}

TEST(Serve, AnswersNonsenseWithAnError) {
  for (const char *line : {"{\"type\":", "hello", "[1, 2]", "7", "{} {}", "\"quit\"", "null", "\xff\xfe"}) {
    expect_error(line, "one JSON object on one line");
  }
  expect_error("{}", "the request has no \"type\"");
  expect_error(R"({"type": 3})", "\"type\" is 3, no text");
  expect_error(R"({"type": "loss"})", "allowed: evaluate, overlap, similarity, quit");
  expect_error("{\"type\": \"\\u0000\"}", "allowed: evaluate");
  expect_error(R"({"type": "evaluate"})", "no \"id\"");
  expect_error(R"({"type": "evaluate", "id": 1})", "no \"pattern\"");
  expect_error(R"({"type": "evaluate", "id": "1", "pattern": "F"})", "\"id\" is \"1\"");
  expect_error(R"({"type": "evaluate", "id": 1, "pattern": "F", "first_layer": 1.5})", "\"first_layer\" is 1.5");
  expect_error(R"({"type": "evaluate", "id": 1, "pattern": "F", "first_layer": 5000000000})", "5000000000");
  expect_error(R"({"type": "evaluate", "id": 1, "pattern": "F", "accepted": null})", "\"accepted\" is null, no text");
  expect_error(request(1, kAllFull, 1, ""), "first_layer is 1, but no pattern is accepted");
  expect_error(request(1, kAllFull, 0, "FFFF"), "4 letters");
  expect_error(request(1, kAllFull, -1, kAllFull), "first_layer is -1; allowed: 0 to 16");
  expect_error(request(1, kAllFull, 17, kAllFull), "first_layer is 17; allowed: 0 to 16");
  expect_error(request(1, "FFSFFFFFFFFFFFFF", 3, kAllFull), "differ in front of it");
  expect_error(R"({"type": "overlap"})", "no \"pattern\"");
  expect_error(R"({"type": "overlap", "pattern": "FF"})", "2 letters");
}

TEST(Serve, QuitEndsItWithoutAnAnswer) {
  EXPECT_EQ(answers("{\"type\": \"quit\"}\n" + request(1, "SFFF", 0, kAllFull)).size(), 1U);
  EXPECT_EQ(answers("{\"type\": \"quit\"}").size(), 1U) << "without a newline";
}

TEST(Serve, ComparesLayers) {
  const std::vector<json> got = answers("{\"type\": \"overlap\", \"pattern\": \"FSFSSSSSSSSSSSSF\"}\n");
  ASSERT_EQ(got.size(), 2U);
  EXPECT_EQ(got[1]["type"], "overlap");
  EXPECT_EQ(got[1]["layers"], json({0, 2, 15}));
  EXPECT_EQ(got[1]["k"], 64);
  EXPECT_EQ(got[1]["rows"], 2048 - 64);
  for (const char *table : {"recall", "jaccard", "mass"}) {
    ASSERT_EQ(got[1][table].size(), 3U) << table;
    for (const json &row : got[1][table]) EXPECT_EQ(row.size(), 3U);
  }
}

TEST(ServeProgram, SpeaksOnStandardOutputAlone) {
  const golden::Sandbox sandbox;
  const golden::Run run = sandbox.run("--serve --text-rows 0-1,9 --recall-rows 2,4-5");  // its input is empty
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(json::parse(run.out)["type"], "ready");
  EXPECT_NE(run.err.find("3 rows of text, 3 of recall"), std::string::npos) << run.err;
}

TEST(ServeProgram, RefusesRowsThatAreNotThere) {
  const golden::Sandbox sandbox;
  const auto refused = [&](int status, const std::string &arguments, const std::string &message) {
    const golden::Run run = sandbox.run(arguments);
    EXPECT_EQ(run.status, status) << arguments << "\n" << run.err;
    EXPECT_EQ(run.out, "") << arguments;
    EXPECT_NE(run.err.find(message), std::string::npos) << arguments << "\n" << run.err;
  };
  for (const char *rows : {"''", "a", "-1", "0-", "2-1", "0,0", "3,1", "0-2,2", "1,", "1:2", "1048576"}) {
    refused(2, std::string("--serve --text-rows ") + rows, "--text-rows is");
    refused(2, std::string("--serve --recall-rows ") + rows, "allowed: none, or ascending row numbers");
  }
  refused(5, "--serve --text-rows 0-10", "--text-rows names row 10; model/heldout.txt has rows 0 to 9");
  refused(5, "--serve --recall-rows 8", "model/recall.bin has rows 0 to 7");
  refused(2, "--serve --text-rows none --recall-rows none", "no rows are left");
  refused(2, "--rows 1 --text-rows 0", "exclude each other");
  refused(2, "--text model/heldout.txt --recall-rows 0", "not with --text");
  refused(2, "--serve --pattern " + kAllFull, "--serve takes patterns from its requests");
  refused(2, "--text-rows none", "goes with --serve");
}

}  // namespace
