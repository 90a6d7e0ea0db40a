// SPDX-License-Identifier: Apache-2.0
// What the golden tests share.
#include "golden.h"

#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "files.h"
#include "options.h"
#include "safetensors.h"

namespace golden {
namespace {

std::string environment(const char *name, const char *otherwise) {
  const char *value = std::getenv(name);
  return value != nullptr ? value : otherwise;
}

std::string source_dir() { return environment("INDEXCACHE_SOURCE_DIR", SOURCE_DIR); }
std::string golden_file(const std::string &name) { return source_dir() + "/tests/golden/" + name; }

const tiny_lm::Safetensors &tensors() {
  static const tiny_lm::Safetensors file(golden_file("golden.safetensors"));
  return file;
}

}  // namespace

Losses losses(const std::string &name) {
  const auto json = nlohmann::json::parse(tiny_lm::read_file(golden_file("golden.json"))).at("public").at(name);
  return {json.at("pattern"), json.at("text_loss_nats_per_byte"), json.at("text_loss_rows"), json.at("recall_loss")};
}

std::vector<int32_t> positions() { return tensors().int32s("positions", {32}); }

std::vector<float> logits(const std::string &name) { return tensors().floats(name + ".logits", {32, 256}); }

std::vector<int32_t> index_sets(const std::string &name, int layer) {
  return tensors().int32s(name + ".topk.layer" + std::to_string(layer), {32, 64});
}

const tiny_lm::Model &model() {
  static const tiny_lm::Model loaded = tiny_lm::load_model(model_folder());
  return loaded;
}

tiny_lm::ThreadPool *pool() {
  static tiny_lm::ThreadPool threads(2);
  return &threads;
}

tiny_lm::Device *device() {
  static const std::unique_ptr<tiny_lm::Device> opened =
      tiny_lm::open_device(tiny_lm::parse_device("INDEXCACHE_GOLDEN_DEVICE", device_option()), model().config, pool());
  return opened.get();
}

tiny_lm::Corpus corpus() {
  return {tiny_lm::read_text_windows(model_folder() + "/heldout.txt"),
          tiny_lm::read_recall_windows(model_folder() + "/recall.bin")};
}

std::string device_option() { return environment("INDEXCACHE_GOLDEN_DEVICE", "cpu"); }
std::string model_folder() { return source_dir() + "/examples/tiny_lm/model"; }
std::string program() { return environment("TINY_LM_PROGRAM", TINY_LM_PROGRAM); }

double relative(double value, double expected) { return std::abs(value / expected - 1); }

}  // namespace golden
