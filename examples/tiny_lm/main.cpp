// SPDX-License-Identifier: Apache-2.0
// tiny_lm: a real, small DSA language model through libindexcache, under any schedule of Full and Shared layers.
#include <cstdio>
#include <exception>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "calibration.h"
#include "device.h"
#include "engine.h"
#include "error.h"
#include "evaluate.h"
#include "library.h"
#include "options.h"
#include "report.h"
#include "schedules.h"
#include "serve.h"

namespace tiny_lm {
namespace {

std::vector<Window> chosen(const std::vector<Window> &windows, const std::vector<int> &rows, const char *option,
                           const std::string &path) {
  std::vector<Window> result;
  for (const int row : rows) {
    if (static_cast<size_t>(row) >= windows.size()) {
      throw Error(kExitLength, std::string(option) + " names row " + std::to_string(row) + "; " + path +
                                   " has rows 0 to " + std::to_string(windows.size() - 1));
    }
    result.push_back(windows[static_cast<size_t>(row)]);
  }
  return result;
}

Corpus read_corpus(const Options &options) {
  Corpus corpus;
  const std::string path = options.text.value_or(options.model + "/heldout.txt");
  corpus.text = read_text_windows(path);
  if (options.rows) {
    const auto rows = static_cast<size_t>(*options.rows);
    if (rows > corpus.text.size()) {
      throw Error(kExitLength, "--rows is " + std::to_string(rows) + "; " + path + " has " +
                                   std::to_string(corpus.text.size()) + " windows");
    }
    corpus.text.resize(rows);
  }
  if (options.text_rows) corpus.text = chosen(corpus.text, *options.text_rows, "--text-rows", path);
  if (!options.text) {
    const std::string recall = options.model + "/recall.bin";
    corpus.recall = read_recall_windows(recall);
    if (options.recall_rows) corpus.recall = chosen(corpus.recall, *options.recall_rows, "--recall-rows", recall);
  }
  if (corpus.text.empty() && !options.serve) throw Error(kExitUsage, "--text-rows none goes with --serve");
  if (corpus.text.empty() && corpus.recall.empty()) throw Error(kExitUsage, "no rows are left to run");
  return corpus;
}

Evaluation run(const Model &model, const Corpus &corpus, const char *name, const std::string &pattern, Device *device,
               ThreadPool *pool) {
  Engine engine(model, pattern, device, pool);
  Evaluation result = evaluate(&engine, pattern, corpus, [&](int done, int all) { show_progress(name, done, all); });
  clear_progress();
  return result;
}

int run_program(const std::vector<std::string> &arguments) {
  const Options options = parse_options(arguments);
  if (options.help) return std::fputs(kHelp, stdout) < 0 ? kExitFailure : kExitOk;
  if (options.list) {
    for (const NamedSchedule &schedule : kSchedules) std::printf("%-13s %s\n", schedule.name, schedule.pattern);
    return kExitOk;
  }
  std::vector<NamedSchedule> schedules(std::begin(kSchedules), std::end(kSchedules));
  if (options.pattern) schedules = {{"", options.pattern->c_str()}};

  const Model model = load_model(options.model);
  if (options.serve) {
    const Corpus corpus = read_corpus(options);
    ThreadPool pool(options.threads);
    const std::unique_ptr<Device> device = open_device(options.device, model.config, &pool);
    std::fprintf(stderr, "tiny_lm: %zu rows of text, %zu of recall, on %s (%s)\n", corpus.text.size(),
                 corpus.recall.size(), device->backend(), device->name().c_str());
    Calibration calibration(model, corpus, device.get(), &pool);
    serve(&calibration, std::cin, std::cout);
    return kExitOk;
  }
  for (const NamedSchedule &schedule : schedules) create_schedule(model.config, schedule.pattern);
  const Corpus corpus = read_corpus(options);
  ThreadPool pool(options.threads);
  const std::unique_ptr<Device> device = open_device(options.device, model.config, &pool);
  const Setting setting{std::filesystem::path(options.model).lexically_normal().string(), pool.num_threads(),
                        device->backend(), device->name(), device->why()};

  std::vector<Evaluation> results;
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  if (!options.json) print_header(setting, corpus);
  for (const NamedSchedule &schedule : schedules) {
    results.push_back(run(model, corpus, schedule.name, schedule.pattern, device.get(), &pool));
    if (options.json) {
      all.push_back(to_json(results.back(), setting));
      if (!options.pattern) all.back()["name"] = schedule.name;
    } else {
      print_row(schedule.name, results.back(), options.pattern ? nullptr : &results.front());
    }
  }
  if (options.json) {
    const nlohmann::ordered_json object = options.pattern ? all.front() : nlohmann::ordered_json{{"schedules", all}};
    std::printf("%s\n", object.dump().c_str());
  }
  return kExitOk;
}

}  // namespace
}  // namespace tiny_lm

int main(int argc, char **argv) {
  try {
    return tiny_lm::run_program({argv + 1, argv + argc});
  } catch (const tiny_lm::Error &error) {
    std::fprintf(stderr, "tiny_lm: %s\n", error.what());
    return error.status();
  } catch (const std::exception &error) {
    std::fprintf(stderr, "tiny_lm: %s\n", error.what());
    return tiny_lm::kExitFailure;
  }
}
