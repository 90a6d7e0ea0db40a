// SPDX-License-Identifier: Apache-2.0
// Device checks as they come out on machines without a driver, and with one for devices that do not exist.
#include "cuda/device.h"

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <string>

#include "core/failure.h"
#include "indexcache.h"

namespace ic::cuda {
namespace {

bool has_driver() {
  int version = 0;
  (void)cudaDriverGetVersion(&version);
  return version != 0;
}

ic_status status_of_device(int32_t device, std::string *text) {
  try {
    require_device(device);
    return IC_OK;
  } catch (const Failure &failure) {
    *text = failure.text();
    return failure.status();
  }
}

TEST(Device, NumbersThatNoMachineHas) {
  for (const int32_t device : {-1, 1023, INT32_MAX}) {
    std::string text;
    const ic_status status = status_of_device(device, &text);
    EXPECT_EQ(status, has_driver() ? IC_ERROR_CUDA_NO_DEVICE : IC_ERROR_CUDA_NO_DRIVER) << text;
    if (has_driver()) {
      EXPECT_NE(text.find(std::to_string(device)), std::string::npos) << text;
    }
  }
}

}  // namespace
}  // namespace ic::cuda
