// SPDX-License-Identifier: Apache-2.0
// From fields to a schedule: architecture first, then at most one override on top of it.
#include <utility>

#include "core/failure.h"
#include "core/schedule.h"
#include "core/schedule_config.h"
#include "core/schedule_pattern.h"

namespace ic {
namespace {

constexpr char kCaller[] = "desc";
constexpr char kConfig[] = "config.json";

const char *word(char letter) { return letter == 'F' ? "Full" : "Shared"; }

std::string text(int64_t number) { return std::to_string(number); }

/// Two ways to say the same thing. Disagreement is refused, or noted when precedence decides.
struct Field {
  std::string name;
  std::string letters;
};

class Resolver {
 public:
  explicit Resolver(const ScheduleRequest &request) : request_(request) {}

  Schedule resolve() {
    if (request_.config_json) {
      config_ = read_config(*request_.config_json, request_.allow_precedence);
    }
    resolve_counts();
    resolve_indexers();
    parts_.pattern = base_;
    resolve_override();
    warn();
    return Schedule(std::move(parts_));
  }

 private:
  int32_t merge_count(const char *name, int32_t said, std::optional<int32_t> config, int32_t low) {
    if (said < 0 || said > kMaxScheduleLayers) {
      fail(IC_ERROR_INVALID_ARGUMENT, "%s: %s is %d; allowed: %d to %d", kCaller, name, said, low, kMaxScheduleLayers);
    }
    if (said != 0 && config && *config != said) {
      if (!request_.allow_precedence) {
        fail(IC_ERROR_SCHEDULE_CONFLICT, "%s: %s is %d, but %s says %d", kCaller, name, said, kConfig, *config);
      }
      parts_.conflicts.push_back(std::string(name) + " is " + text(said) + ", " + kConfig + " says " + text(*config) +
                                 "; the caller's number counts");
    }
    return said != 0 ? said : config.value_or(0);
  }

  void resolve_counts() {
    std::optional<int32_t> layers, mtp;
    if (config_) {
      layers = config_->num_layers;
      mtp = config_->num_mtp_layers;
      parts_.family = config_->family;
      parts_.mtp_can_share = config_->mtp_can_share;
    }
    // The number of layers is what every other field is measured by: a wrong one is never overruled.
    if (layers && request_.num_layers != 0 && request_.num_layers != *layers) {
      fail(IC_ERROR_SCHEDULE_CONFLICT, "%s: num_layers is %d, but %s has num_hidden_layers %d", kCaller,
           request_.num_layers, kConfig, *layers);
    }
    parts_.num_layers = merge_count("num_layers", request_.num_layers, layers, 1);
    if (parts_.num_layers == 0) {
      fail(IC_ERROR_INVALID_ARGUMENT, "%s: num_layers is 0 and there is no config_json; allowed: 1 to %d", kCaller,
           kMaxScheduleLayers);
    }
    parts_.num_mtp_layers = merge_count("num_mtp_layers", request_.num_mtp_layers, mtp, 0);
    parts_.sparse.assign(static_cast<size_t>(total()), true);
    if (config_ && !config_->sparse.empty()) {
      parts_.sparse = config_->sparse;
      parts_.sparse.resize(static_cast<size_t>(total()), false);
    }
    for (int32_t i = 0; i < parts_.num_layers; ++i) {
      if (parts_.sparse[static_cast<size_t>(i)]) sparse_.push_back(GlobalLayer{i});
    }
    if (sparse_.empty()) {
      fail(IC_ERROR_SCHEDULE_INVALID, "%s: none of %d layers has an indexer; allowed: 1 and more", kConfig,
           parts_.num_layers);
    }
  }

  /// The explicit list as letters over the sparse layers of the stack: F where there are weights.
  std::optional<Field> listed_indexers() {
    if (!request_.indexer_layers) return std::nullopt;
    const std::span<const int32_t> list = *request_.indexer_layers;
    std::vector<bool> listed(static_cast<size_t>(total()), false);
    int32_t previous = -1;
    for (size_t i = 0; i < list.size(); ++i) {
      if (list[i] < 0 || list[i] >= total()) {
        fail(IC_ERROR_INVALID_ARGUMENT, "%s: indexer_layers[%zu] is %d; allowed: 0 to %d", kCaller, i, list[i],
             total() - 1);
      }
      if (list[i] <= previous) {
        fail(IC_ERROR_INVALID_ARGUMENT, "%s: indexer_layers[%zu] is %d after %d; allowed: ascending ids", kCaller, i,
             list[i], previous);
      }
      previous = list[i];
      const size_t layer = static_cast<size_t>(list[i]);
      if (!parts_.sparse[layer]) {
        fail(IC_ERROR_INVALID_ARGUMENT, "%s: indexer_layers[%zu] is %d, a layer without indexed attention", kCaller, i,
             list[i]);
      }
      listed[layer] = true;
    }
    Field field{"indexer_layers", {}};
    for (const GlobalLayer layer : sparse_) field.letters += listed[static_cast<size_t>(layer)] ? 'F' : 'S';
    return field;
  }

  std::optional<Field> typed_indexers() {
    if (!config_ || !config_->indexer_types) return std::nullopt;
    const std::string &types = *config_->indexer_types;
    const size_t stack = static_cast<size_t>(parts_.num_layers);
    if (types.size() != stack && types.size() != static_cast<size_t>(total())) {
      fail(IC_ERROR_INVALID_ARGUMENT, "%s: indexer_types has %zu entries; allowed: %zu, one per layer", kConfig,
           types.size(), stack);
    }
    for (size_t i = stack; i < types.size(); ++i) {
      if (types[i] == 'F') continue;
      fail(IC_ERROR_SCHEDULE_INVALID,
           "%s: indexer_types makes MTP layer %zu shared; it computes at draft step 0; "
           "allowed: full",
           kConfig, i);
    }
    return Field{"indexer_types", types.substr(0, stack)};
  }

  void resolve_indexers() {
    const std::optional<Field> list = listed_indexers();
    const std::optional<Field> types = typed_indexers();
    base_.assign(sparse_.size(), 'F');
    parts_.architecture = "every sparse layer has an indexer (nothing says that one is absent)";
    if (list) {
      base_ = list->letters;
      parts_.architecture = "indexer_layers (the caller's list)";
    }
    if (types) {
      // Weights that nobody found cannot be run, whatever the types say; weights that the types do not want can be
      // left alone, if the caller agrees.
      if (list) {
        for (size_t i = 0; i < sparse_.size(); ++i) {
          if (types->letters[i] == 'F' && list->letters[i] == 'S') {
            fail(IC_ERROR_SCHEDULE_CONFLICT, "layer %d: indexer_types says full, indexer_layers does not list it",
                 raw(sparse_[i]));
          }
        }
        compare(*types, *list, "indexer_types", "has it (full)", "does not have it (shared)");
      }
      base_ = types->letters;
      parts_.architecture = "indexer_types (config.json)";
    }
    if (base_.front() != 'F') {
      fail(IC_ERROR_SCHEDULE_INVALID,
           "layer %d, the first one, has no indexer by %s: it would be Shared with nothing to reuse", raw(sparse_[0]),
           parts_.architecture.c_str());
    }
    parts_.has_indexer.assign(static_cast<size_t>(total()), false);
    for (size_t i = 0; i < sparse_.size(); ++i) parts_.has_indexer[static_cast<size_t>(sparse_[i])] = base_[i] == 'F';
    for (int32_t i = parts_.num_layers; i < total(); ++i) {
      parts_.has_indexer[static_cast<size_t>(i)] = parts_.sparse[static_cast<size_t>(i)];
    }
  }

  /// Two fields of one input. The stronger one is first.
  void compare(const Field &strong, const Field &weak, const char *winner, const char *full, const char *shared) {
    const int32_t at = first_difference(strong.letters, weak.letters);
    if (at < 0) return;
    int32_t differing = 0;
    for (size_t i = 0; i < strong.letters.size(); ++i) differing += strong.letters[i] != weak.letters[i];
    const size_t position = static_cast<size_t>(at);
    const char *strong_word = strong.letters[position] == 'F' ? full : shared;
    const char *weak_word = weak.letters[position] == 'F' ? full : shared;
    const int32_t layer = raw(sparse_[position]);
    if (!request_.allow_precedence) {
      fail(IC_ERROR_SCHEDULE_CONFLICT,
           "layer %d: %s says %s, %s says %s (they disagree on %d of %zu layers); allowed: agreement, or the "
           "flag IC_SCHEDULE_PRECEDENCE",
           layer, strong.name.c_str(), strong_word, weak.name.c_str(), weak_word, differing, strong.letters.size());
    }
    parts_.conflicts.push_back(strong.name + " and " + weak.name + " disagree on " + text(differing) + " of " +
                               text(static_cast<int64_t>(strong.letters.size())) + " layers, first at layer " +
                               text(layer) + " (" + strong_word + " / " + weak_word + "); " + winner + " counts");
  }

  /// The letters that one source of an override asks for; nullopt: it asks for nothing.
  std::optional<Field> read_override(const OverrideFields &fields, const char *origin, bool freq_1_is_default) {
    const std::string prefix = std::string(origin) + ": ";
    std::optional<Field> pattern, period;
    if (fields.pattern) {
      pattern = Field{prefix + "pattern", letters_from_pattern(*fields.pattern, parts_.num_layers, sparse_, origin)};
    }
    if (fields.freq) {
      const int64_t offset = fields.offset.value_or(kDefaultOffset);
      std::string letters = letters_from_freq(*fields.freq, offset, sparse_, origin);
      // In a config freq 1 is the default that every save writes down, not a wish to run all indexers.
      if (!(freq_1_is_default && *fields.freq == 1)) {
        period = Field{prefix + "freq " + text(*fields.freq) + " offset " + text(offset), std::move(letters)};
      }
    } else if (fields.offset && *fields.offset < 1) {
      fail(IC_ERROR_INVALID_ARGUMENT, "%s: offset is %lld; allowed: 1 and more", origin,
           static_cast<long long>(*fields.offset));
    }
    if (pattern && period) compare(*pattern, *period, "the pattern", word('F'), word('S'));
    return pattern ? pattern : period;
  }

  void resolve_override() {
    if (request_.override.offset && !request_.override.freq) {
      fail(IC_ERROR_INVALID_ARGUMENT, "%s: offset is %lld without freq; allowed: with freq", kCaller,
           static_cast<long long>(*request_.override.offset));
    }
    const std::optional<Field> caller = read_override(request_.override, kCaller, false);
    std::optional<Field> config;
    if (config_) config = read_override(config_->override, kConfig, true);
    parts_.override = "none: every layer that has an indexer runs it";
    if (caller) {
      if (config && config->letters != caller->letters) {
        parts_.warnings.push_back(config->name + " is replaced by " + caller->name);
      }
      apply(*caller);
      return;
    }
    if (!config || !config_) return;
    if (config->letters == base_) {
      parts_.override = config->name + " (says the same as the architecture)";
      return;
    }
    if (config_->use_index_cache == false) {
      parts_.warnings.push_back(config->name + " is not applied: use_index_cache is false");
      return;
    }
    if (request_.allow_precedence && config_->indexer_types) {
      compare(Field{"config.json: indexer_types", base_}, *config, "indexer_types", word('F'), word('S'));
      return;
    }
    apply(*config);
  }

  void apply(const Field &override) {
    for (size_t i = 0; i < sparse_.size(); ++i) {
      if (override.letters[i] == 'F' && base_[i] == 'S') {
        fail(IC_ERROR_SCHEDULE_INVALID, "layer %d: %s says Full, but it has no indexer by %s; allowed: Shared",
             raw(sparse_[i]), override.name.c_str(), parts_.architecture.c_str());
      }
    }
    parts_.pattern = override.letters;
    parts_.override = override.name;
  }

  void warn() {
    if (parts_.mtp_can_share) {
      parts_.warnings.push_back(
          "index_share_for_mtp_iteration is a capability: later draft steps may share their own step 0, nobody has "
          "asked them to");
    }
    size_t unused = 0;
    for (size_t i = 0; i < base_.size(); ++i) unused += base_[i] == 'F' && parts_.pattern[i] == 'S';
    if (unused != 0) {
      parts_.warnings.push_back(text(static_cast<int64_t>(unused)) +
                                " layers have an indexer that this schedule does not run: an approximation unless the "
                                "model was trained for it; measure it on contexts far longer than k");
    }
  }

  int32_t total() const { return parts_.num_layers + parts_.num_mtp_layers; }

  const ScheduleRequest &request_;
  std::optional<ConfigFields> config_;
  SparseLayers sparse_;
  std::string base_;  // F where there is an indexer
  Schedule::Parts parts_;
};

}  // namespace

Schedule resolve_schedule(const ScheduleRequest &request) { return Resolver(request).resolve(); }

}  // namespace ic
