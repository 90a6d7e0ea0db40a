// SPDX-License-Identifier: Apache-2.0
// Losses.
#include "evaluate.h"

#include <chrono>
#include <cmath>
#include <numeric>

#include "error.h"
#include "files.h"

namespace tiny_lm {
namespace {

// recall.bin: each row asks for this many facts, in its last third, in the form ?kkkk=vvvv;
constexpr int kQueries = 8;
constexpr int kAnswerOffset = 5;  // the first answer byte is the target this far behind the question mark
constexpr int kAnswerBytes = 4;

int query_begin(int query) { return static_cast<int>((0.70 + 0.28 * query / kQueries) * kWindow); }

Window window_at(const std::string &bytes, size_t begin) {
  return Window(bytes.begin() + static_cast<std::ptrdiff_t>(begin),
                bytes.begin() + static_cast<std::ptrdiff_t>(begin + kWindow + 1));
}

double mean(const std::vector<double> &values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

}  // namespace

std::vector<Window> read_text_windows(const std::string &path) {
  const std::string bytes = read_file(path);
  if (bytes.size() < kWindow + 1) {
    throw Error(kExitLength, path + ": has " + std::to_string(bytes.size()) + " bytes; one window takes " +
                                 std::to_string(kWindow + 1));
  }
  std::vector<Window> windows;
  for (size_t begin = 0; begin + kWindow + 1 <= bytes.size(); begin += kWindow) {
    windows.push_back(window_at(bytes, begin));
  }
  return windows;
}

std::vector<Window> read_recall_windows(const std::string &path) {
  const std::string bytes = read_file(path);
  if (bytes.empty() || bytes.size() % (kWindow + 1) != 0) {
    throw Error(kExitFile, path + ": has " + std::to_string(bytes.size()) + " bytes, not whole rows of " +
                               std::to_string(kWindow + 1));
  }
  std::vector<Window> windows;
  for (size_t begin = 0; begin < bytes.size(); begin += kWindow + 1) windows.push_back(window_at(bytes, begin));
  return windows;
}

std::vector<double> position_losses(const Eigen::Ref<const Matrix> &logits, const uint8_t *targets) {
  std::vector<double> losses;
  for (Eigen::Index r = 0; r < logits.rows(); ++r) {
    const float largest = logits.row(r).maxCoeff();
    const float sum = (logits.row(r).array() - largest).exp().sum();
    const float target = logits(r, targets[r]);
    losses.push_back(std::log(static_cast<double>(sum)) + largest - target);
  }
  return losses;
}

std::vector<double> window_losses(Engine *engine, const Window &window, const std::function<int(int)> &chunk) {
  std::vector<double> losses;
  engine->restart();
  for (int begin = 0; begin < kWindow;) {
    const int count = chunk(kWindow - begin);
    const auto part = position_losses(engine->feed(window.data() + begin, count), window.data() + begin + 1);
    losses.insert(losses.end(), part.begin(), part.end());
    begin += count;
  }
  return losses;
}

double recall_answer_loss(const std::vector<double> &losses) {
  double sum = 0;
  for (int query = 0; query < kQueries; ++query) {
    const double *answer = losses.data() + query_begin(query) + kAnswerOffset;
    sum = std::accumulate(answer, answer + kAnswerBytes, sum);
  }
  return sum / (kQueries * kAnswerBytes);
}

Evaluation evaluate(Engine *engine, const std::string &pattern, const Corpus &corpus,
                    const std::function<void(int, int)> &progress) {
  Evaluation result;
  result.pattern = pattern;
  result.full_layers = engine->full_layers();
  const auto start = std::chrono::steady_clock::now();
  const EngineStats before = engine->stats();
  const int all = static_cast<int>(corpus.text.size() + corpus.recall.size());
  int done = 0;
  const auto run = [&](const Window &window) {
    std::vector<double> losses = window_losses(engine, window);
    if (progress) progress(++done, all);
    return losses;
  };
  for (const Window &window : corpus.text) result.text_rows.push_back(mean(run(window)));
  result.text_loss = mean(result.text_rows);
  if (!corpus.recall.empty()) {
    double sum = 0;
    for (const Window &window : corpus.recall) sum += recall_answer_loss(run(window));
    result.recall_loss = sum / static_cast<double>(corpus.recall.size());
  }
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  result.tokens = int64_t{all} * kWindow;
  result.stats.indexer_seconds = engine->stats().indexer_seconds - before.indexer_seconds;
  result.stats.attention_seconds = engine->stats().attention_seconds - before.attention_seconds;
  result.stats.indexer_calls = engine->stats().indexer_calls - before.indexer_calls;
  return result;
}

}  // namespace tiny_lm
