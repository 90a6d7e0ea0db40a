// SPDX-License-Identifier: Apache-2.0
// The part of a config.json that a schedule can ask for: the members of the top level and of text_config, two levels
// deep. What lies deeper is recognised and dropped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ic {

struct ConfigValue {
  enum class Kind { kNull, kBoolean, kInteger, kNumber, kString, kArray, kObject };
  Kind kind = Kind::kNull;
  bool boolean = false;
  int64_t integer = 0;             // kInteger: fits
  double number = 0;               // kInteger and kNumber
  std::string text;                // kString: its value; other scalars: as written
  size_t size = 0;                 // kArray, kObject: members
  std::vector<ConfigValue> items;  // kArray: members; arrays and objects among them are empty

  bool is(Kind k) const { return kind == k; }
  bool is_string(std::string_view value) const { return kind == Kind::kString && text == value; }
  bool operator==(const ConfigValue &other) const;
  /// For messages: as JSON, cut where it gets long.
  std::string shown() const;
};

const char *kind_name(ConfigValue::Kind kind);

/// Members in the order of the text; a name may occur twice.
using ConfigMembers = std::vector<std::pair<std::string, ConfigValue>>;

struct ConfigText {
  ConfigValue::Kind kind = ConfigValue::Kind::kNull;  // of the top level
  ConfigMembers outer;
  ConfigMembers text;  // of the last member text_config that is an object
};

/// Fails with IC_ERROR_PARSE and the byte position.
ConfigText parse_config_text(std::string_view text);

}  // namespace ic
