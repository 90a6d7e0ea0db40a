// SPDX-License-Identifier: Apache-2.0
// JSON events into members; the event interface for the reason that schedule_json.cpp gives.
#include "core/search_line.h"

#include <charconv>
#include <nlohmann/json.hpp>

#include "core/failure.h"

namespace ic {
namespace {

using Json = nlohmann::json;

class LineReader final : public nlohmann::json_sax<Json> {
 public:
  explicit LineReader(int64_t number) : number_(number) {}

  std::vector<LineMember> take() { return std::move(members_); }

  bool null() override { return scalar("null"); }
  bool boolean(bool value) override { return scalar(value ? "true" : "false"); }
  bool number_integer(int64_t value) override {
    scalar(std::to_string(value));
    if (in_list_) return true;
    members_.back().is_integer = members_.back().is_number = true;
    members_.back().integer = value;
    members_.back().number = static_cast<double>(value);
    return true;
  }
  bool number_unsigned(uint64_t value) override {
    if (value <= INT64_MAX) return number_integer(static_cast<int64_t>(value));
    scalar(std::to_string(value));
    return number(static_cast<double>(value));
  }
  bool number_float(double value, const std::string &) override {
    scalar(number_text(value));
    return number(value);
  }
  bool string(std::string &value) override { return scalar("\"" + value + "\""); }
  bool binary(Json::binary_t &) override { refuse("is no JSON object of scalars and lists"); }

  bool key(std::string &name) override {
    LineMember member;
    member.name = name;
    members_.push_back(std::move(member));
    return true;
  }
  bool start_object(size_t) override {
    if (in_object_) refuse("is no JSON object of scalars and lists");
    in_object_ = true;
    return true;
  }
  bool end_object() override { return true; }
  bool start_array(size_t) override {
    if (!in_object_ || in_list_) refuse("is no JSON object of scalars and lists");
    in_list_ = true;
    members_.back().value = "[";
    return true;
  }
  bool end_array() override {
    in_list_ = false;
    members_.back().value += "]";
    return true;
  }
  bool parse_error(size_t position, const std::string &, const nlohmann::detail::exception &error) override {
    fail(IC_ERROR_PARSE, "journal line %lld: not JSON at byte %zu of it: %.300s", static_cast<long long>(number_),
         position, error.what());
  }

 private:
  [[noreturn]] void refuse(const char *what) const {
    fail(IC_ERROR_PARSE, "journal line %lld %s", static_cast<long long>(number_), what);
  }

  bool scalar(const std::string &text) {
    if (!in_object_) refuse("is no JSON object of scalars and lists");
    std::string &value = members_.back().value;
    if (in_list_ && value.size() > 1) value += ", ";
    value += text;
    return true;
  }

  bool number(double value) {
    if (in_list_) return true;
    members_.back().is_number = true;
    members_.back().number = value;
    return true;
  }

  int64_t number_;
  bool in_object_ = false;
  bool in_list_ = false;
  std::vector<LineMember> members_;
};

}  // namespace

std::vector<LineMember> parse_line(std::string_view line, int64_t number) {
  LineReader reader(number);
  Json::sax_parse(line, &reader);
  return reader.take();
}

std::string number_text(double value) {
  char text[32];
  const std::to_chars_result end = std::to_chars(text, text + sizeof text, value);
  return std::string(text, end.ptr);
}

}  // namespace ic
