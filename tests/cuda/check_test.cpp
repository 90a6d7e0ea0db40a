// SPDX-License-Identifier: Apache-2.0
// CUDA errors to statuses and texts; needs no device.
#include "cuda/check.h"

#include <gtest/gtest.h>

#include <string>

#include "core/failure.h"

namespace ic::cuda {
namespace {

cudaError_t returns(cudaError_t error, int /*argument*/ = 0) { return error; }

TEST(Check, EveryKindOfErrorHasItsStatus) {
  EXPECT_EQ(status_of(cudaSuccess), IC_OK);
  EXPECT_EQ(status_of(cudaErrorMemoryAllocation), IC_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(status_of(cudaErrorInsufficientDriver), IC_ERROR_CUDA_NO_DRIVER);
  EXPECT_EQ(status_of(cudaErrorSystemDriverMismatch), IC_ERROR_CUDA_NO_DRIVER);
  EXPECT_EQ(status_of(cudaErrorNoDevice), IC_ERROR_CUDA_NO_DEVICE);
  EXPECT_EQ(status_of(cudaErrorInvalidDevice), IC_ERROR_CUDA_NO_DEVICE);
  EXPECT_EQ(status_of(cudaErrorNoKernelImageForDevice), IC_ERROR_CUDA_UNSUPPORTED_DEVICE);
  EXPECT_EQ(status_of(cudaErrorIllegalAddress), IC_ERROR_CUDA);
  EXPECT_EQ(status_of(cudaErrorStreamCaptureInvalidated), IC_ERROR_CUDA);
}

TEST(Check, MessageNamesTheCallAndTheError) {
  try {
    IC_CUDA_CHECK(returns(cudaErrorInvalidValue, 17));
    FAIL() << "the error passed";
  } catch (const Failure &failure) {
    const std::string text = failure.text();
    EXPECT_EQ(failure.status(), IC_ERROR_CUDA);
    EXPECT_EQ(text.rfind("returns: ", 0), 0u) << text;
    EXPECT_EQ(text.find("17"), std::string::npos) << text;
    EXPECT_NE(text.find("cudaErrorInvalidValue"), std::string::npos) << text;
  }
  EXPECT_NO_THROW(IC_CUDA_CHECK(returns(cudaSuccess)));
}

}  // namespace
}  // namespace ic::cuda
