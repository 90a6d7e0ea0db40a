// SPDX-License-Identifier: Apache-2.0
// The command line: every exit status with its message, and what goes to which stream.
#include "program.h"

#include <gtest/gtest.h>

namespace {

const std::string kAllFull(16, 'F');

class Program : public testing::Test {
 protected:
  /// Standard output stays empty, the message names what is wrong.
  void expect_error(int status, const std::string &arguments, const std::string &message) {
    const golden::Run run = sandbox_.run(arguments);
    EXPECT_EQ(run.status, status) << arguments << "\n" << run.err;
    EXPECT_EQ(run.out, "") << arguments;
    EXPECT_NE(run.err.find(message), std::string::npos) << arguments << "\n" << run.err;
  }

  golden::Sandbox sandbox_;
};

TEST_F(Program, HelpAndList) {
  const golden::Run help = sandbox_.run("--help");
  EXPECT_EQ(help.status, 0);
  EXPECT_NE(help.out.find("exit status"), std::string::npos);
  EXPECT_EQ(help.err, "");
  const golden::Run list = sandbox_.run("--list");
  EXPECT_EQ(list.status, 0);
  EXPECT_NE(list.out.find("searched_1_2  FSFSFSSFSFFFFSSS"), std::string::npos);
}

TEST_F(Program, Usage) {
  expect_error(2, "--fast", "\"--fast\" is not an option");
  expect_error(2, "model", "\"model\" is not an option");
  expect_error(2, "--pattern", "--pattern needs a value");
  expect_error(2, "--json=1", "--json takes no value");
  for (const char *rows : {"0", "-1", "two", "1x", "''", "99999999999"}) {
    expect_error(2, std::string("--rows ") + rows, "--rows is");
  }
  expect_error(2, "--threads 1025", "allowed: 1 to 1024");
  expect_error(2, "--device tpu", "--device is \"tpu\"; allowed: auto, cpu, cuda");
  expect_error(2, "--backend tpu", "allowed: auto, cpu, cuda");
}

// GPUs are hidden, so this is what a machine without one sees, and what a build without CUDA says everywhere.
TEST_F(Program, NoGpu) {
  const std::string hidden = "CUDA_VISIBLE_DEVICES=";
  const golden::Run asked = sandbox_.run("--device cuda", hidden);
  EXPECT_EQ(asked.status, 6) << asked.err;
  EXPECT_EQ(asked.out, "");
  EXPECT_NE(asked.err.find("device cuda: "), std::string::npos) << asked.err;

  const golden::Run automatic = sandbox_.run("--device auto --rows 1 --pattern " + kAllFull, hidden);
  EXPECT_EQ(automatic.status, 0) << automatic.err;
  EXPECT_NE(automatic.out.find("attention on cpu ("), std::string::npos) << automatic.out;
  EXPECT_NE(automatic.out.find("no GPU: "), std::string::npos) << automatic.out;
}

TEST_F(Program, WrongPattern) {
  expect_error(4, "--pattern FFFSX" + std::string(11, 'F'), "X");
  expect_error(4, "--pattern FFFF", "16");
  expect_error(4, "--pattern " + kAllFull + "F", "17");
  expect_error(4, "--pattern S" + std::string(15, 'F'), "0");
  expect_error(4, "--pattern ''", "pattern");
}

TEST_F(Program, WrongFiles) {
  const std::string run = "--pattern " + kAllFull + " ";
  expect_error(3, run + "--text nothing.txt", "nothing.txt: No such file or directory");
  expect_error(3, run + "--text .", "directory");
  expect_error(3, run + "--model elsewhere", "elsewhere/config.json: No such file");

  const std::string weights = sandbox_.path("model/model.safetensors");
  std::filesystem::resize_file(weights, 10'000'000);
  expect_error(3, run, "model.safetensors");
  std::filesystem::resize_file(weights, 1000);
  expect_error(3, run, "cut short");
  std::filesystem::resize_file(weights, 7);
  expect_error(3, run, "too short");
  std::filesystem::remove(weights);
  expect_error(3, run, "model.safetensors: No such file");

  sandbox_.write("model/config.json", "{\"model_type\": \"llama\"}");
  expect_error(3, run, "llama");
  sandbox_.write("model/config.json", "{\"model_type\"");
  expect_error(3, run, "config.json");
}

TEST_F(Program, WrongRecallFile) {
  sandbox_.write("model/recall.bin", std::string(2050, 'x'));
  expect_error(3, "--rows 1 --pattern " + kAllFull, "recall.bin: has 2050 bytes");
}

TEST_F(Program, WrongLength) {
  const std::string run = "--pattern " + kAllFull + " ";
  sandbox_.write("short.txt", std::string(2048, 'x'));
  sandbox_.write("empty.txt", "");
  sandbox_.write("two.txt", std::string(4097, 'x'));
  expect_error(5, run + "--text short.txt", "has 2048 bytes; one window takes 2049");
  expect_error(5, run + "--text empty.txt", "has 0 bytes");
  expect_error(5, run + "--text two.txt --rows 3", "has 2 windows");
  expect_error(5, run + "--rows 11", "has 10 windows");
}

}  // namespace
