// SPDX-License-Identifier: Apache-2.0
// What a schedule is made from: the caller's words and a model's config.json, every field kept apart until they are
// compared. Architecture says which layers have an indexer, an override says which of them run it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ic {

inline constexpr int32_t kMaxScheduleLayers = 4096;
/// Where a period starts when nobody says: the rule of the paper's patches.
inline constexpr int64_t kDefaultOffset = 2;

/// One source of an override, as given. Nothing set: no override.
struct OverrideFields {
  std::optional<std::string> pattern;  // letters F and S, checked for nothing yet
  std::optional<int64_t> freq;
  std::optional<int64_t> offset;
};

/// Facts of a model family that decide how its fields are read and written.
struct ModelFamily {
  enum class Kind : int32_t { kUnnamed, kDeepseekV32, kGlmMoeDsa, kHyV4, kDeepseekV4 };
  Kind kind = Kind::kUnnamed;
  std::string model_type;  // empty: no config.json was given
  bool nested = false;     // its fields were found under text_config
};

/// The fields of a config.json that concern the schedule. JSON null is an absent field.
struct ConfigFields {
  ModelFamily family;
  int32_t num_layers = 0;
  int32_t num_mtp_layers = 0;
  std::vector<bool> sparse;                  // [num_layers + num_mtp_layers]; empty: every layer has sparse attention
  std::optional<std::string> indexer_types;  // one letter per layer: F full, S shared
  OverrideFields override;
  std::optional<bool> use_index_cache;
  bool mtp_can_share = false;  // index_share_for_mtp_iteration: a capability, never a request
};

/// The caller's words. Zero and nullopt mean: not said.
struct ScheduleRequest {
  int32_t num_layers = 0;
  int32_t num_mtp_layers = 0;
  std::optional<std::span<const int32_t>> indexer_layers;  // global ids, ascending: layers whose indexer has weights
  OverrideFields override;
  std::optional<std::string_view> config_json;
  bool allow_precedence = false;  // indexer_types > pattern > freq/offset decides where fields disagree
};

}  // namespace ic
