// SPDX-License-Identifier: Apache-2.0
// Losses of many schedules over the same windows.
#include "calibration.h"

#include <algorithm>
#include <numeric>

#include "error.h"

namespace tiny_lm {
namespace {

double sum(const std::vector<double> &values) { return std::accumulate(values.begin(), values.end(), 0.0); }

}  // namespace

Calibration::Calibration(const Model &model, const Corpus &corpus, Device *device, ThreadPool *pool)
    : model_(model), corpus_(corpus), device_(*device), pool_(*pool) {
  for (const Window &window : corpus_.text) windows_.push_back(&window);
  for (const Window &window : corpus_.recall) windows_.push_back(&window);
  if (windows_.empty()) throw Error(kExitUsage, "there are no rows to take a loss over");
  traces_.resize(windows_.size());
}

CalibrationLoss Calibration::evaluate(const std::string &pattern, const std::string &accepted, int first_layer) {
  const int layers = model_.config.num_layers;
  if (first_layer < 0 || first_layer > layers) {
    throw Error(kExitUsage,
                "first_layer is " + std::to_string(first_layer) + "; allowed: 0 to " + std::to_string(layers));
  }
  Engine engine(model_, pattern, &device_, &pool_);
  const bool whole = accepted.empty();
  if (whole && first_layer > 0) {
    throw Error(kExitUsage, "first_layer is " + std::to_string(first_layer) + ", but no pattern is accepted yet");
  }
  if (!whole) accept(accepted);
  const int first = std::min(first_layer, layers - 1);  // first_layer == layers: the accepted pattern itself

  CalibrationLoss result;
  const auto text = corpus_.text.size();
  double text_sum = 0;
  double recall_row_sum = 0;
  double answer_sum = 0;
  for (size_t i = 0; i < windows_.size(); ++i) {
    engine.restart();
    const Eigen::Ref<const Matrix> logits =
        whole ? engine.feed(windows_[i]->data(), kWindow) : engine.resume(traces_[i], first);
    const std::vector<double> losses = position_losses(logits, windows_[i]->data() + 1);
    if (i < text) {
      text_sum += sum(losses);
    } else {
      recall_row_sum += sum(losses);
      answer_sum += recall_answer_loss(losses);
    }
  }
  const auto recall = windows_.size() - text;
  result.tokens = static_cast<int64_t>(windows_.size()) * kWindow;
  result.loss = (text_sum + recall_row_sum) / static_cast<double>(result.tokens);
  if (text > 0) result.text_loss = text_sum / static_cast<double>(text * kWindow);
  if (recall > 0) result.recall_loss = answer_sum / static_cast<double>(recall);
  return result;
}

// Accepting one more flip runs only the layers behind it.
void Calibration::accept(const std::string &pattern) {
  if (pattern == accepted_) return;
  Engine engine(model_, pattern, &device_, &pool_);
  if (accepted_.empty()) {
    for (size_t i = 0; i < windows_.size(); ++i) {
      engine.restart();
      engine.feed(windows_[i]->data(), kWindow, &traces_[i]);
    }
  } else {
    const auto differ = std::mismatch(pattern.begin(), pattern.end(), accepted_.begin()).first - pattern.begin();
    accepted_.clear();  // until all traces are of one pattern again
    for (Trace &trace : traces_) engine.retrace(&trace, static_cast<int>(differ));
  }
  accepted_ = pattern;
}

size_t Calibration::trace_bytes() const {
  size_t bytes = 0;
  for (const Trace &trace : traces_) {
    for (const Matrix &input : trace.inputs) bytes += static_cast<size_t>(input.size()) * sizeof(float);
    for (const auto &block : trace.publications) bytes += block.size() * sizeof(uint64_t);
  }
  return bytes;
}

}  // namespace tiny_lm
