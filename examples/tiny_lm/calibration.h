// SPDX-License-Identifier: Apache-2.0
// Losses of many schedules over the same windows, for a search: what a candidate has in common with the accepted
// pattern is not run again.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "evaluate.h"

namespace tiny_lm {

struct CalibrationLoss {
  double loss = 0;                    ///< mean next-byte loss over all bytes of all windows, those of recall included
  std::optional<double> text_loss;    ///< the same over the windows of text, when there are any
  std::optional<double> recall_loss;  ///< mean over the bytes of the recall answers, when there are any
  int64_t tokens = 0;                 ///< that the means are taken over
};

/// Keeps one trace per window, of the accepted pattern alone: 16 layers x 2048 tokens x 192 floats of inputs and 0.5 MB
/// of indices per Full layer, at most 34 MB a window. Not for several threads at once.
class Calibration {
 public:
  /// Model, device and pool must outlive it.
  Calibration(const Model &model, const Corpus &corpus, Device *device, ThreadPool *pool);

  /// Loss of a pattern that agrees with the accepted one in front of first_layer, bit for bit that of running it whole.
  /// When `accepted` is another than last time, the traces are brought up to date first; empty: nothing is accepted,
  /// and the pattern is run whole. Throws Error: kExitPattern when the library refuses one of the patterns, kExitUsage
  /// when first_layer does not fit them.
  CalibrationLoss evaluate(const std::string &pattern, const std::string &accepted, int first_layer);

  const Model &model() const { return model_; }
  const Corpus &corpus() const { return corpus_; }
  Device *device() const { return &device_; }
  ThreadPool *pool() const { return &pool_; }

  /// Bytes of all traces.
  size_t trace_bytes() const;

 private:
  void accept(const std::string &pattern);

  const Model &model_;
  const Corpus corpus_;
  Device &device_;
  ThreadPool &pool_;
  std::vector<const Window *> windows_;  // text, then recall
  std::string accepted_;                 // of the traces; empty: there are none
  std::vector<Trace> traces_;            // per window
};

}  // namespace tiny_lm
