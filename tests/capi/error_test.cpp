// SPDX-License-Identifier: Apache-2.0
// Status texts, the message of the last failed call, and the boundary that no exception crosses.
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>

#include "capi/guard.h"
#include "indexcache.h"

namespace ic {
namespace {

std::string last_error() {
  char text[1024];
  ic_last_error(text, sizeof text);
  return text;
}

/// A call that fails with "device is <number>; …".
ic_status fail_with(int32_t number) {
  ic_device_caps caps = IC_DEVICE_CAPS_INIT;
  return ic_device_get_caps(IC_BACKEND_CPU, number, &caps);
}

TEST(Status, EveryStatusOfTheHeaderHasItsNameInItsText) {
  std::ifstream file(INDEXCACHE_TEST_DIR "/../bindings/api.json");
  const auto api = nlohmann::json::parse(file);
  std::set<int32_t> known;
  for (const auto &constant : api.at("constants")) {
    if (!constant.contains("kind") || constant.at("kind") != "status") continue;
    const std::string name = constant.at("name"), text = ic_status_string(constant.at("value").get<int32_t>());
    EXPECT_EQ(text.rfind(name + ": ", 0), 0u) << text;
    EXPECT_GT(text.size(), name.size() + 8) << text;
    known.insert(constant.at("value").get<int32_t>());
  }
  EXPECT_GE(known.size(), 30u);
  for (int32_t status = -1000; status <= 100000; ++status) {
    const char *text = ic_status_string(status);
    ASSERT_NE(text, nullptr);
    ASSERT_EQ(text, ic_status_string(status)) << "static";
    const bool unknown = std::strncmp(text, "unknown status", 14) == 0;
    ASSERT_EQ(unknown, known.count(status) == 0) << status << ": " << text;
  }
  for (const int32_t status : {INT32_MIN, INT32_MAX}) EXPECT_NE(ic_status_string(status), nullptr);
}

TEST(Status, StaleIsARange) {
  for (const ic_status status : {IC_ERROR_STALE, IC_ERROR_STALE_UNPUBLISHED, IC_ERROR_STALE_INCOMPLETE,
                                 IC_ERROR_STALE_OVERWRITTEN, IC_ERROR_STALE_CAPTURE, IC_ERROR_STALE_ROWS})
    EXPECT_TRUE(IC_STATUS_IS_STALE(status));
  for (const ic_status status : {IC_OK, IC_ERROR_MODEL_UNSUPPORTED, IC_ERROR_NO_BATCH})
    EXPECT_FALSE(IC_STATUS_IS_STALE(status));
}

TEST(LastError, IsCopiedAsFarAsItFits) {
  ASSERT_EQ(fail_with(77), IC_ERROR_INVALID_ARGUMENT);
  const std::string whole = last_error();
  EXPECT_EQ(whole, "device is 77; allowed: 0 to 0");
  EXPECT_EQ(ic_last_error(nullptr, 0), whole.size());
  EXPECT_EQ(ic_last_error(nullptr, 100), whole.size());
  for (size_t size = 0; size <= whole.size() + 2; ++size) {
    std::string buffer(size + 1, '#');
    EXPECT_EQ(ic_last_error(buffer.data(), size), whole.size());
    EXPECT_STREQ(buffer.c_str(), size == 0 ? "#" : whole.substr(0, size - 1).c_str());
    EXPECT_EQ(buffer[size], '#') << "beyond the buffer";
  }
}

TEST(LastError, StaysUntilTheNextFailure) {
  ASSERT_EQ(fail_with(5), IC_ERROR_INVALID_ARGUMENT);
  const std::string message = last_error();
  int32_t count = 0;
  ASSERT_EQ(ic_device_count(IC_BACKEND_CPU, &count), IC_OK);
  EXPECT_EQ(last_error(), message) << "a successful call does not clear it";
  ASSERT_EQ(fail_with(6), IC_ERROR_INVALID_ARGUMENT);
  EXPECT_NE(last_error(), message);
}

TEST(LastError, BelongsToItsThread) {
  ASSERT_EQ(fail_with(1), IC_ERROR_INVALID_ARGUMENT);
  const std::string mine = last_error();
  std::string fresh = "?", other;
  std::thread([&] {
    fresh = last_error();
    fail_with(2);
    other = last_error();
  }).join();
  EXPECT_EQ(fresh, "") << "nothing has failed there";
  EXPECT_NE(other.find("2"), std::string::npos);
  EXPECT_EQ(last_error(), mine);

  const auto repeat = [](int32_t number, int *wrong) {
    const std::string wanted = "device is " + std::to_string(number) + ";";
    for (int i = 0; i < 20000; ++i) {
      fail_with(number);
      if (last_error().rfind(wanted, 0) != 0) ++*wrong;
    }
  };
  int wrong[2] = {0, 0};
  std::thread first(repeat, 11, &wrong[0]), second(repeat, 22222, &wrong[1]);
  first.join();
  second.join();
  EXPECT_EQ(wrong[0], 0);
  EXPECT_EQ(wrong[1], 0);
}

TEST(LastError, LongMessagesAreCut) {
  const std::string pattern(5000, 'x');
  ic_schedule_desc desc = IC_SCHEDULE_DESC_INIT;
  desc.num_layers = 5;
  desc.pattern = pattern.c_str();
  ic_schedule *schedule = nullptr;
  EXPECT_NE(ic_schedule_create(&desc, &schedule), IC_OK);
  EXPECT_EQ(schedule, nullptr);
  EXPECT_LT(last_error().size(), 768u);

  EXPECT_EQ(guarded([&] { fail(IC_ERROR_PARSE, "%s", pattern.c_str()); }), IC_ERROR_PARSE);
  EXPECT_EQ(last_error(), pattern.substr(0, last_error().size()));
  EXPECT_GT(last_error().size(), 700u);
}

struct Foreign {
  int value;
};

TEST(Guard, NoExceptionLeaves) {
  EXPECT_EQ(guarded([] {}), IC_OK);
  EXPECT_EQ(guarded([] { throw 1; }), IC_ERROR_INTERNAL);
  EXPECT_EQ(last_error(), "an exception of unknown type");
  EXPECT_EQ(guarded([] { throw Foreign{2}; }), IC_ERROR_INTERNAL);
  EXPECT_EQ(guarded([] { throw "text"; }), IC_ERROR_INTERNAL);
  EXPECT_EQ(guarded([] { throw std::logic_error("defect"); }), IC_ERROR_INTERNAL);
  EXPECT_EQ(last_error(), "defect");
  EXPECT_EQ(guarded([] { throw std::bad_alloc(); }), IC_ERROR_OUT_OF_MEMORY);
  EXPECT_NE(last_error().find("memory"), std::string::npos);
  EXPECT_EQ(guarded([] { throw std::bad_array_new_length(); }), IC_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(guarded([] { throw std::length_error("vector too long"); }), IC_ERROR_INTERNAL);
  EXPECT_EQ(guarded([] { throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again)); }),
            IC_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(guarded([] { fail(IC_ERROR_STALE, "layer %d", 3); }), IC_ERROR_STALE);
  EXPECT_EQ(last_error(), "layer 3");
}

}  // namespace
}  // namespace ic
