// SPDX-License-Identifier: Apache-2.0
// What is measured: next-byte loss over text, and over the answers of the recall task.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine.h"

namespace tiny_lm {

/// Bytes that the model sees at once; every window is a sequence of its own.
inline constexpr int kWindow = 2048;

/// kWindow input bytes and one more: the target of byte i is byte i + 1.
using Window = std::vector<uint8_t>;

/// The whole windows of a text; what is left at its end is not used. Throws Error: kExitFile when it cannot be read,
/// kExitLength when it has fewer than kWindow + 1 bytes.
std::vector<Window> read_text_windows(const std::string &path);

/// The rows of recall.bin. Throws Error (kExitFile).
std::vector<Window> read_recall_windows(const std::string &path);

/// The model's own text and recall rows, or a text alone.
struct Corpus {
  std::vector<Window> text;
  std::vector<Window> recall;
};

struct Evaluation {
  std::string pattern;
  std::vector<int> full_layers;
  std::vector<double> text_rows;  ///< mean loss of each window, nats per byte
  double text_loss = 0;           ///< mean over the windows
  std::optional<double> recall_loss;
  int64_t tokens = 0;
  double seconds = 0;  ///< wall time of everything but loading
  EngineStats stats;
};

/// Loss of every row of logits, in nats; targets[i] is the byte that row i should have foretold.
std::vector<double> position_losses(const Eigen::Ref<const Matrix> &logits, const uint8_t *targets);

/// Loss of every position of a window, in nats. `chunk` says how many tokens are fed at once, given how many are left.
std::vector<double> window_losses(
    Engine *engine, const Window &window, const std::function<int(int left)> &chunk = [](int left) { return left; });

/// Mean loss over the bytes of the recall answers in a window.
double recall_answer_loss(const std::vector<double> &losses);

/// progress(done, all) is called behind every window.
Evaluation evaluate(Engine *engine, const std::string &pattern, const Corpus &corpus,
                    const std::function<void(int done, int all)> &progress = {});

}  // namespace tiny_lm
