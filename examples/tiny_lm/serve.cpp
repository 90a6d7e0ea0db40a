// SPDX-License-Identifier: Apache-2.0
// Requests and answers of the engine.
#include "serve.h"

#include <chrono>
#include <cmath>
#include <istream>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>

#include "error.h"
#include "layer_overlap.h"
#include "layer_similarity.h"
#include "library.h"

namespace tiny_lm {
namespace {

using Json = nlohmann::ordered_json;

Json ready(const Calibration &calibration) {
  Json metrics = Json::array();
  if (!calibration.corpus().text.empty()) metrics.push_back("text_loss");
  if (!calibration.corpus().recall.empty()) metrics.push_back("recall_loss");
  return {{"type", "ready"},     {"protocol", 1},
          {"engine", "tiny_lm"}, {"num_layers", calibration.model().config.num_layers},
          {"metrics", metrics},  {"loss_unit", "nats/byte"}};
}

Json reject(const Json &id, const std::string &reason) { return {{"type", "reject"}, {"id", id}, {"reason", reason}}; }

Json error(const std::string &message) { return {{"type", "error"}, {"message", message}}; }

/// A field of a request; the message names the field, not the place in the text.
template <class T>
T field(const Json &request, const char *name) {
  const auto found = request.find(name);
  if (found == request.end()) throw Error(kExitUsage, std::string("the request has no \"") + name + "\"");
  if constexpr (std::is_same_v<T, std::string>) {
    if (!found->is_string()) throw Error(kExitUsage, std::string("\"") + name + "\" is " + found->dump() + ", no text");
  } else {
    if (!found->is_number_integer() || *found != found->template get<T>()) {
      throw Error(kExitUsage,
                  std::string("\"") + name + "\" is " + found->dump() + ", no number of a layer or request");
    }
  }
  return found->template get<T>();
}

Json evaluate(Calibration *calibration, const Json &request) {
  const auto id = field<int64_t>(request, "id");
  const auto pattern = field<std::string>(request, "pattern");
  const auto first_layer = request.contains("first_layer") ? field<int>(request, "first_layer") : 0;
  const auto accepted = request.contains("accepted") ? field<std::string>(request, "accepted") : "";
  if (!accepted.empty()) create_schedule(calibration->model().config, accepted);  // not the candidate's fault
  const auto start = std::chrono::steady_clock::now();
  CalibrationLoss found;
  try {
    found = calibration->evaluate(pattern, accepted, first_layer);
  } catch (const Error &refused) {
    if (refused.status() != kExitPattern) throw;
    return reject(id, refused.what());
  }
  if (!std::isfinite(found.loss)) return reject(id, "the loss is not finite");
  Json metrics = Json::object();
  if (found.text_loss) metrics["text_loss"] = *found.text_loss;
  if (found.recall_loss) metrics["recall_loss"] = *found.recall_loss;
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return {{"type", "loss"},         {"id", id},
          {"loss", found.loss},     {"metrics", metrics},
          {"tokens", found.tokens}, {"seconds", seconds.count()}};
}

Json overlap(Calibration *calibration, const Json &request) {
  const LayerOverlap found = layer_overlap(calibration->model(), field<std::string>(request, "pattern"),
                                           calibration->corpus(), calibration->device(), calibration->pool());
  return {{"type", "overlap"},      {"layers", found.layers},   {"k", found.k},      {"rows", found.rows},
          {"recall", found.recall}, {"jaccard", found.jaccard}, {"mass", found.mass}};
}

Json similarity(Calibration *calibration) {
  return {{"type", "similarity"},
          {"matrix",
           layer_similarity(calibration->model(), calibration->corpus(), calibration->device(), calibration->pool())}};
}

Json answer(Calibration *calibration, const std::string &line, bool *quit) {
  const Json request = Json::parse(line, nullptr, false);
  if (!request.is_object()) return error("a request is one JSON object on one line");
  try {
    const auto type = field<std::string>(request, "type");
    if (type == "evaluate") return evaluate(calibration, request);
    if (type == "overlap") return overlap(calibration, request);
    if (type == "similarity") return similarity(calibration);
    if (type == "quit") {
      *quit = true;
      return {};
    }
    return error("\"type\" is \"" + type + "\"; allowed: evaluate, overlap, similarity, quit");
  } catch (const std::exception &failure) {
    return error(failure.what());
  }
}

}  // namespace

void serve(Calibration *calibration, std::istream &in, std::ostream &out) {
  // Texts inside the messages may hold any bytes that somebody sent.
  const auto say = [&](const Json &json) {
    out << json.dump(-1, ' ', false, Json::error_handler_t::replace) << std::endl;
  };
  say(ready(*calibration));
  std::string line;
  for (bool quit = false; !quit && out && std::getline(in, line);) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const Json reply = answer(calibration, line, &quit);
    if (!quit) say(reply);
  }
}

}  // namespace tiny_lm
