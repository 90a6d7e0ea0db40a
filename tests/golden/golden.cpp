// SPDX-License-Identifier: Apache-2.0
// What the golden tests share.
#include "golden.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "files.h"
#include "safetensors.h"

namespace golden {
namespace {

const tiny_lm::Safetensors &tensors() {
  static const tiny_lm::Safetensors file(GOLDEN_DIR "/golden.safetensors");
  return file;
}

}  // namespace

Losses losses(const std::string &name) {
  const auto json = nlohmann::json::parse(tiny_lm::read_file(GOLDEN_DIR "/golden.json")).at("public").at(name);
  return {json.at("pattern"), json.at("text_loss_nats_per_byte"), json.at("text_loss_rows"), json.at("recall_loss")};
}

std::vector<int32_t> positions() { return tensors().int32s("positions", {32}); }

std::vector<float> logits(const std::string &name) { return tensors().floats(name + ".logits", {32, 256}); }

std::vector<int32_t> index_sets(const std::string &name, int layer) {
  return tensors().int32s(name + ".topk.layer" + std::to_string(layer), {32, 64});
}

const tiny_lm::Model &model() {
  static const tiny_lm::Model loaded = tiny_lm::load_model(TINY_LM_MODEL);
  return loaded;
}

tiny_lm::ThreadPool *pool() {
  static tiny_lm::ThreadPool threads(2);
  return &threads;
}

tiny_lm::Corpus corpus() {
  return {tiny_lm::read_text_windows(TINY_LM_MODEL "/heldout.txt"),
          tiny_lm::read_recall_windows(TINY_LM_MODEL "/recall.bin")};
}

double relative(double value, double expected) { return std::abs(value / expected - 1); }

}  // namespace golden
