// SPDX-License-Identifier: Apache-2.0
// Results for people and for programs.
#include "report.h"

#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>

namespace tiny_lm {

nlohmann::ordered_json to_json(const Evaluation &result, const Setting &setting) {
  nlohmann::ordered_json json;
  json["pattern"] = result.pattern;
  json["full_layers"] = result.full_layers.size();
  json["full_layer_ids"] = result.full_layers;
  json["text_loss_nats_per_byte"] = result.text_loss;
  json["text_loss_rows"] = result.text_rows;
  json["recall_loss"] = nullptr;
  if (result.recall_loss) json["recall_loss"] = *result.recall_loss;
  json["indexer_calls"] = result.stats.indexer_calls;
  json["tokens"] = result.tokens;
  json["tokens_per_second"] = static_cast<double>(result.tokens) / result.seconds;
  json["seconds"] = {{"indexer", result.stats.indexer_seconds},
                     {"attention", result.stats.attention_seconds},
                     {"rest", result.seconds - result.stats.indexer_seconds - result.stats.attention_seconds},
                     {"all", result.seconds}};
  json["backend"] = setting.backend;
  json["device"] = setting.device;
  json["device_why"] = setting.device_why;
  json["threads"] = setting.threads;
  return json;
}

void print_header(const Setting &setting, const Corpus &corpus) {
  std::printf("%s: %zu windows of text, %zu of recall, %d bytes each; dense layers on %d thread%s\n",
              setting.model.c_str(), corpus.text.size(), corpus.recall.size(), kWindow, setting.threads,
              setting.threads == 1 ? "" : "s");
  std::printf("indexer, top-k, cache and attention on %s (%s): %s\n\n", setting.backend.c_str(), setting.device.c_str(),
              setting.device_why.c_str());
  std::printf("%-13s %-17s %2s  %9s %9s %8s  %8s  %-33s %8s\n", "", "", "", "text loss", "vs. all", "recall", "indexer",
              "   seconds and share", "tokens");
  std::printf("%-13s %-17s %2s  %9s %9s %8s  %8s  %10s %10s %10s  %8s\n", "schedule", "pattern", "F", "nats/byte",
              "Full", "loss", "calls", "indexer", "attention", "rest", "/s");
}

void print_row(const char *name, const Evaluation &result, const Evaluation *all_full) {
  const double rest = result.seconds - result.stats.indexer_seconds - result.stats.attention_seconds;
  const auto part = [&](double seconds) {
    char text[32];
    std::snprintf(text, sizeof text, "%.2f %3.0f%%", seconds, 100 * seconds / result.seconds);
    return std::string(text);
  };
  char difference[32] = "-";
  if (all_full != nullptr)
    std::snprintf(difference, sizeof difference, "%+.5f", result.text_loss - all_full->text_loss);
  char recall[32] = "-";
  if (result.recall_loss) std::snprintf(recall, sizeof recall, "%.5f", *result.recall_loss);
  std::printf("%-13s %-17s %2zu  %9.5f %9s %8s  %8lld  %10s %10s %10s  %8.0f\n", name, result.pattern.c_str(),
              result.full_layers.size(), result.text_loss, difference, recall,
              static_cast<long long>(result.stats.indexer_calls), part(result.stats.indexer_seconds).c_str(),
              part(result.stats.attention_seconds).c_str(), part(rest).c_str(),
              static_cast<double>(result.tokens) / result.seconds);
  std::fflush(stdout);
}

void show_progress(const std::string &name, int done, int all) {
  if (isatty(STDERR_FILENO) == 0) return;
  std::fprintf(stderr, "\r%s: window %d of %d ", name.c_str(), done, all);
  std::fflush(stderr);
}

void clear_progress() {
  if (isatty(STDERR_FILENO) != 0) std::fprintf(stderr, "\r%60s\r", "");
}

}  // namespace tiny_lm
