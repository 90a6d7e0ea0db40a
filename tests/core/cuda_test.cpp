// SPDX-License-Identifier: Apache-2.0
// What a build answers when CUDA is asked for: each kind of "no" has its own status and says why. Holds in every build
// and on every machine; what to expect is found out without the library.
#include "core/cuda.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "core/failure.h"
#include "indexcache.h"

namespace ic {
namespace {

bool built_with_cuda() { return std::strcmp(cuda_build_version(), "null") != 0; }

bool machine_has_driver() {
  void *driver = dlopen("libcuda.so.1", RTLD_LAZY);
  if (driver == nullptr) return false;
  dlclose(driver);
  return true;
}

std::string last_error() {
  char text[768];
  ic_last_error(text, sizeof text);
  return text;
}

TEST(Cuda, BuildInfoIsJson) {
  const std::string version = cuda_build_version();
  const std::string archs = cuda_build_archs();
  ASSERT_GE(archs.size(), 2u);
  EXPECT_EQ(archs.front(), '[');
  EXPECT_EQ(archs.back(), ']');
  if (built_with_cuda()) {
    EXPECT_EQ(version.front(), '"');
    EXPECT_EQ(version.back(), '"');
    EXPECT_NE(version.find('.'), std::string::npos);
    EXPECT_NE(archs.find("\"80"), std::string::npos) << archs;
  } else {
    EXPECT_EQ(archs, "[]");
  }
}

TEST(Cuda, DeviceCountSaysWhyThereIsNone) {
  int32_t count = -1;
  const ic_status status = ic_device_count(IC_BACKEND_CUDA, &count);
  if (!built_with_cuda()) {
    EXPECT_EQ(status, IC_ERROR_CUDA_NOT_BUILT);
    EXPECT_NE(last_error().find("INDEXCACHE_CUDA"), std::string::npos) << last_error();
    EXPECT_EQ(count, 0);
  } else if (!machine_has_driver()) {
    EXPECT_EQ(status, IC_ERROR_CUDA_NO_DRIVER);
    EXPECT_NE(last_error().find("no NVIDIA driver"), std::string::npos) << last_error();
    EXPECT_EQ(count, 0);
  } else {
    EXPECT_TRUE(status == IC_OK || status == IC_ERROR_CUDA_NO_DRIVER || status == IC_ERROR_CUDA) << last_error();
    EXPECT_GE(count, 0);
  }
}

TEST(Cuda, ContextAndCapsOfNoDeviceFailInTheSameWay) {
  // Device 1023 is nowhere: with a driver the device is missing, without one the driver is.
  const ic_status expected = !built_with_cuda()      ? IC_ERROR_CUDA_NOT_BUILT
                             : !machine_has_driver() ? IC_ERROR_CUDA_NO_DRIVER
                                                     : IC_ERROR_CUDA_NO_DEVICE;
  ic_context_desc desc = IC_CONTEXT_DESC_INIT;
  desc.backend = IC_BACKEND_CUDA;
  desc.device = 1023;
  ic_context *context = nullptr;
  EXPECT_EQ(ic_context_create(&desc, &context), expected) << last_error();
  EXPECT_EQ(context, nullptr);

  ic_device_caps caps = IC_DEVICE_CAPS_INIT;
  EXPECT_EQ(ic_device_get_caps(IC_BACKEND_CUDA, 1023, &caps), expected) << last_error();
  EXPECT_EQ(caps.backend, 0) << "a failing call has written caps";
}

TEST(Cuda, CpuBackendWorksBesideIt) {
  int32_t count = 0;
  ASSERT_EQ(ic_device_count(IC_BACKEND_CPU, &count), IC_OK);
  EXPECT_EQ(count, 1);
  ic_context_desc desc = IC_CONTEXT_DESC_INIT;
  desc.backend = IC_BACKEND_CPU;
  desc.num_threads = 1;
  ic_context *context = nullptr;
  ASSERT_EQ(ic_context_create(&desc, &context), IC_OK) << last_error();
  ic_context_destroy(context);
}

}  // namespace
}  // namespace ic
