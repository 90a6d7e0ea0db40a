// SPDX-License-Identifier: Apache-2.0
// One kernel per kind of fault. tests/gpu/run.sh has each tool of compute-sanitizer find its own here before it
// believes what the tool says about the library.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstring>

namespace {

constexpr int kThreads = 96;

/// memcheck: the last thread writes behind the array, whose size is no multiple of what the driver rounds to.
__global__ void out_of_bounds(int *array) { array[threadIdx.x + 1] = 1; }

/// initcheck: nobody has written what is read.
__global__ void uninitialised(int *array, int *sum) { sum[threadIdx.x] = array[threadIdx.x] + 1; }

/// synccheck: half of a warp waits at a barrier that the other half does not reach.
__global__ void divergent_barrier(int *array) {
  if (threadIdx.x % 32 < 16) __syncthreads();
  array[threadIdx.x] = static_cast<int>(threadIdx.x);
}

/// racecheck: a neighbour's word of shared memory is read with nothing between its write and this read.
__global__ void shared_race(int *array) {
  __shared__ int words[kThreads];
  words[threadIdx.x] = array[threadIdx.x];
  array[threadIdx.x] = words[(threadIdx.x + 32) % kThreads];
}

}  // namespace

int main(int argc, char **argv) {
  const char *fault = argc == 2 ? argv[1] : "";
  int *array = nullptr;
  int *other = nullptr;
  if (cudaMalloc(&array, kThreads * sizeof(int)) != cudaSuccess ||
      cudaMalloc(&other, kThreads * sizeof(int)) != cudaSuccess) {
    std::fprintf(stderr, "planted: no device memory\n");
    return 1;
  }
  const auto clear = [&] { return cudaMemset(array, 0, kThreads * sizeof(int)); };
  if (std::strcmp(fault, "memcheck") == 0) {
    (void)clear();
    out_of_bounds<<<1, kThreads>>>(array);
  } else if (std::strcmp(fault, "initcheck") == 0) {
    uninitialised<<<1, kThreads>>>(array, other);
  } else if (std::strcmp(fault, "synccheck") == 0) {
    (void)clear();
    divergent_barrier<<<1, kThreads>>>(array);
  } else if (std::strcmp(fault, "racecheck") == 0) {
    (void)clear();
    shared_race<<<1, kThreads>>>(array);
  } else {
    std::fprintf(stderr, "planted: memcheck, initcheck, synccheck or racecheck is wanted\n");
    return 2;
  }
  // What the tool says counts, not how the kernel ends.
  std::printf("%s: %s\n", fault, cudaGetErrorString(cudaDeviceSynchronize()));
  return 0;
}
