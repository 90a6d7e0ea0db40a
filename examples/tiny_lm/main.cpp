// SPDX-License-Identifier: Apache-2.0
// tiny_lm: a real, small DSA language model through libindexcache, under any schedule of Full and Shared layers.
#include <cstdio>
#include <exception>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "device.h"
#include "engine.h"
#include "error.h"
#include "evaluate.h"
#include "library.h"
#include "options.h"
#include "report.h"
#include "schedules.h"

namespace tiny_lm {
namespace {

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
  if (!options.text) corpus.recall = read_recall_windows(options.model + "/recall.bin");
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
