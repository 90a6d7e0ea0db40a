// SPDX-License-Identifier: Apache-2.0
// JSON events into ConfigText. The only file that includes a JSON parser: its event interface is used because its
// document class allocates in its destructor, which would end the process where memory is short.
#include "core/schedule_json.h"

#include <nlohmann/json.hpp>

#include "core/failure.h"

namespace ic {
namespace {

using Json = nlohmann::json;
using Kind = ConfigValue::Kind;

class Reader final : public nlohmann::json_sax<Json> {
 public:
  explicit Reader(ConfigText *out) : out_(out) {}

  bool null() override { return scalar(made(Kind::kNull, "null")); }
  bool boolean(bool value) override {
    ConfigValue made_value = made(Kind::kBoolean, value ? "true" : "false");
    made_value.boolean = value;
    return scalar(std::move(made_value));
  }
  bool number_integer(int64_t value) override {
    ConfigValue made_value = made(Kind::kInteger, std::to_string(value));
    made_value.integer = value;
    made_value.number = static_cast<double>(value);
    return scalar(std::move(made_value));
  }
  bool number_unsigned(uint64_t value) override {
    if (value <= INT64_MAX) return number_integer(static_cast<int64_t>(value));
    return number_float(static_cast<double>(value), std::to_string(value));
  }
  bool number_float(double value, const std::string &text) override {
    ConfigValue made_value = made(Kind::kNumber, text);
    made_value.number = value;
    return scalar(std::move(made_value));
  }
  bool string(std::string &value) override { return scalar(made(Kind::kString, value)); }
  bool binary(Json::binary_t &) override { return false; }  // JSON text has none

  bool key(std::string &name) override {
    // Members of the top level are read at depth 1, those of text_config at depth 2.
    if (depth_ == 1) out_->outer.emplace_back(name, ConfigValue{});
    if (depth_ == 2 && in_text_) out_->text.emplace_back(name, ConfigValue{});
    return true;
  }
  bool start_object(size_t) override {
    if (depth_ == 0) {
      out_->kind = Kind::kObject;
    } else {
      open(Kind::kObject);
    }
    if (depth_ == 1 && out_->kind == Kind::kObject && out_->outer.back().first == "text_config") {
      in_text_ = true;
      out_->text.clear();
    }
    ++depth_;
    return true;
  }
  bool end_object() override {
    --depth_;
    if (depth_ == 1) in_text_ = false;
    return true;
  }
  bool start_array(size_t) override {
    if (depth_ == 0) {
      out_->kind = Kind::kArray;
    } else {
      open(Kind::kArray);
    }
    ++depth_;
    return true;
  }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool parse_error(size_t position, const std::string &, const nlohmann::detail::exception &error) override {
    fail(IC_ERROR_PARSE, "config.json: not JSON at byte %zu: %.400s", position, error.what());
  }

 private:
  static ConfigValue made(Kind kind, std::string text) {
    ConfigValue value;
    value.kind = kind;
    value.text = std::move(text);
    return value;
  }

  /// The member that is being read at this depth, or null where nobody will ask.
  ConfigValue *member() {
    if (out_->kind != Kind::kObject) return nullptr;
    const int member_depth = in_text_ ? 2 : 1;
    ConfigMembers &members = in_text_ ? out_->text : out_->outer;
    if (depth_ < member_depth || depth_ > member_depth + 1 || members.empty()) return nullptr;
    return &members.back().second;
  }

  void put(ConfigValue value) {
    ConfigValue *target = member();
    if (target == nullptr) return;
    if (depth_ == (in_text_ ? 2 : 1)) {
      *target = std::move(value);
      return;
    }
    ++target->size;
    if (target->is(Kind::kArray)) target->items.push_back(std::move(value));
  }

  bool scalar(ConfigValue value) {
    if (depth_ == 0) out_->kind = value.kind;
    put(std::move(value));
    return true;
  }

  void open(Kind kind) { put(made(kind, {})); }

  ConfigText *out_;
  int depth_ = 0;
  bool in_text_ = false;
};

}  // namespace

bool ConfigValue::operator==(const ConfigValue &other) const {
  return kind == other.kind && text == other.text && size == other.size && items == other.items;
}

std::string ConfigValue::shown() const {
  constexpr size_t kLongest = 40;
  std::string out;
  switch (kind) {
    case Kind::kObject:
      return "an object";
    case Kind::kArray:
      out = "[";
      for (size_t i = 0; i < items.size() && out.size() <= kLongest; ++i)
        out += (i == 0 ? "" : ", ") + items[i].shown();
      out += "]";
      break;
    case Kind::kString:
      out = "\"" + text + "\"";
      break;
    default:
      out = text;
  }
  if (out.size() > kLongest) out = out.substr(0, kLongest - 3) + "...";
  return out;
}

const char *kind_name(Kind kind) {
  switch (kind) {
    case Kind::kNull:
      return "null";
    case Kind::kBoolean:
      return "a boolean";
    case Kind::kInteger:
    case Kind::kNumber:
      return "a number";
    case Kind::kString:
      return "a string";
    case Kind::kArray:
      return "a list";
    case Kind::kObject:
      return "an object";
  }
  return "";
}

ConfigText parse_config_text(std::string_view text) {
  ConfigText out;
  Reader reader(&out);
  Json::sax_parse(text, &reader);
  return out;
}

}  // namespace ic
