// SPDX-License-Identifier: Apache-2.0
// The command line.
#include "options.h"

#include <charconv>

#include "error.h"

namespace tiny_lm {
namespace {

int parse_count(const std::string &option, const std::string &text, int largest) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 1 || value > largest) {
    throw Error(kExitUsage, option + " is \"" + text + "\"; allowed: 1 to " + std::to_string(largest));
  }
  return value;
}

/// "0-2,5": numbers and ranges, ascending; "none": no rows.
std::vector<int> parse_rows(const std::string &option, const std::string &text) {
  constexpr int kMost = 1 << 20;
  const Error wrong(kExitUsage, option + " is \"" + text +
                                    "\"; allowed: none, or ascending row numbers and ranges from 0 to " +
                                    std::to_string(kMost - 1) + " such as 0-2,5");
  std::vector<int> rows;
  if (text == "none") return rows;
  const char *at = text.data();
  const char *const end = at + text.size();
  const auto number = [&] {
    int value = -1;
    const auto [behind, error] = std::from_chars(at, end, value);
    if (error != std::errc{} || value < 0 || value >= kMost) throw wrong;
    at = behind;
    return value;
  };
  for (;;) {
    const int first = number();
    int last = first;
    if (at != end && *at == '-') {
      ++at;
      last = number();
    }
    if (last < first || (!rows.empty() && first <= rows.back())) throw wrong;
    for (int row = first; row <= last; ++row) rows.push_back(row);
    if (at == end) return rows;
    if (*at++ != ',') throw wrong;
  }
}

}  // namespace

DeviceChoice parse_device(const std::string &option, const std::string &text) {
  if (text == "auto") return DeviceChoice::kAuto;
  if (text == "cpu") return DeviceChoice::kCpu;
  if (text == "cuda") return DeviceChoice::kCuda;
  throw Error(kExitUsage, option + " is \"" + text + "\"; allowed: auto, cpu, cuda");
}

const char *const kHelp = R"(usage: tiny_lm [--pattern FSFS...] [--text FILE] [--rows N] [--json] [options]

Runs a small language model with DeepSeek Sparse Attention over text, under one or several schedules of Full and
Shared indexer layers, through libindexcache. Without --pattern: the five schedules of --list, compared.

  --pattern P     one schedule: one letter per layer, F (runs the indexer) or S (reuses the last F layer's indices)
  --text FILE     any file instead of the model's own text and recall rows. It is read in whole windows: window i is
                  the bytes 2048*i to 2048*i+2047, the target of each byte is the next one. What is left at the end is
                  not used, a file of fewer than 2049 bytes is refused
  --rows N        only the first N windows of text
  --text-rows L   only these windows of text, numbers and ranges from 0: 0-2,5; or none
  --recall-rows L only these rows of recall.bin, or none
  --serve         an engine for the pattern search: answers JSON requests, one a line, on standard input and output
  --json          exactly one JSON object on standard output; everything else goes to standard error
  --threads N     threads, 1 to 1024; default: as many as the machine has
  --device D      where indexer, top-k, index cache and attention run: cuda, cpu, or auto (default: the first GPU that
                  can, else the CPU). The dense layers always run on the CPU. --backend is the same
  --model DIR     folder with config.json, model.safetensors, heldout.txt and recall.bin
  --list          names and patterns of the five schedules
  --help          this text

Losses are in nats per byte. "indexer" is the time that a Shared layer saves (projections of q, k and w, preparation,
scores, selection), "attention" the sparse attention over the selected keys, "rest" everything else.

exit status: 0 success, 1 failure, 2 wrong usage, 3 a file cannot be read or is not what it should be, 4 a pattern
that the model cannot run, 5 a text with fewer windows than asked for, 6 a device that is not there
)";

Options parse_options(const std::vector<std::string> &arguments) {
  Options options;
  options.model = TINY_LM_MODEL;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const size_t equals = arguments[i].rfind("--", 0) == 0 ? arguments[i].find('=') : std::string::npos;
    const std::string name = arguments[i].substr(0, equals);
    const auto flag = [&](bool *target) {
      if (equals != std::string::npos) throw Error(kExitUsage, name + " takes no value");
      *target = true;
    };
    const auto value = [&]() -> std::string {
      if (equals != std::string::npos) return arguments[i].substr(equals + 1);
      if (i + 1 == arguments.size()) throw Error(kExitUsage, name + " needs a value");
      return arguments[++i];
    };
    if (name == "--help" || name == "-h") {
      flag(&options.help);
    } else if (name == "--list") {
      flag(&options.list);
    } else if (name == "--json") {
      flag(&options.json);
    } else if (name == "--pattern") {
      options.pattern = value();
    } else if (name == "--text") {
      options.text = value();
    } else if (name == "--rows") {
      options.rows = parse_count(name, value(), 1 << 20);
    } else if (name == "--text-rows") {
      options.text_rows = parse_rows(name, value());
    } else if (name == "--recall-rows") {
      options.recall_rows = parse_rows(name, value());
    } else if (name == "--serve") {
      flag(&options.serve);
    } else if (name == "--threads") {
      options.threads = parse_count(name, value(), 1024);
    } else if (name == "--device" || name == "--backend") {
      options.device = parse_device(name, value());
    } else if (name == "--model") {
      options.model = value();
    } else {
      throw Error(kExitUsage, "\"" + arguments[i] + "\" is not an option; --help lists them");
    }
  }
  if (options.rows && options.text_rows) throw Error(kExitUsage, "--rows and --text-rows exclude each other");
  if (options.text && options.recall_rows) {
    throw Error(kExitUsage, "--recall-rows goes with the model's own text, not with --text");
  }
  if (options.serve && (options.pattern || options.json || options.list)) {
    throw Error(kExitUsage, "--serve takes patterns from its requests: no --pattern, --json or --list");
  }
  return options;
}

}  // namespace tiny_lm
