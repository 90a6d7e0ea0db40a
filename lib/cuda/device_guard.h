// SPDX-License-Identifier: Apache-2.0
// Runs code on one device and leaves the calling thread as it was.
#pragma once

#include <cstdint>

struct CUctx_st;

namespace ic::cuda {

/// The primary context of a device, held for the life of a backend. The driver's functions are looked up at run time:
/// the library does not link libcuda.
class PrimaryContext {
 public:
  /// Fails with IC_ERROR_CUDA*. The device has been checked.
  explicit PrimaryContext(int32_t device);
  ~PrimaryContext();
  PrimaryContext(const PrimaryContext &) = delete;
  PrimaryContext &operator=(const PrimaryContext &) = delete;

 private:
  friend class DeviceGuard;
  using GetCurrent = int (*)(CUctx_st **);
  using SetCurrent = int (*)(CUctx_st *);
  using Retain = int (*)(CUctx_st **, int);
  using Release = int (*)(int);

  GetCurrent get_current_;
  SetCurrent set_current_;
  Release release_;
  CUctx_st *context_ = nullptr;
  int device_;
};

/// Makes a device's primary context current. At the end the thread has exactly the context that it had, none included:
/// cudaSetDevice() would instead create one on the caller's device.
class DeviceGuard {
 public:
  explicit DeviceGuard(const PrimaryContext &primary);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard &) = delete;
  DeviceGuard &operator=(const DeviceGuard &) = delete;

 private:
  const PrimaryContext &primary_;
  CUctx_st *previous_ = nullptr;
};

/// Lets this thread allocate while another one captures a stream in the global mode.
class CaptureModeGuard {
 public:
  CaptureModeGuard() noexcept;
  ~CaptureModeGuard();
  CaptureModeGuard(const CaptureModeGuard &) = delete;
  CaptureModeGuard &operator=(const CaptureModeGuard &) = delete;

 private:
  int mode_;
};

}  // namespace ic::cuda
