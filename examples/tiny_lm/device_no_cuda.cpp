// SPDX-License-Identifier: Apache-2.0
// In place of device_cuda.cpp in a build without CUDA.
#include "device.h"

namespace tiny_lm {

std::unique_ptr<Device> make_cuda_device(Owner<ic_context>, std::string) {
  throw Error(kExitBackend, "this program was built without CUDA");
}

}  // namespace tiny_lm
