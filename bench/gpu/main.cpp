// SPDX-License-Identifier: Apache-2.0
// Google Benchmark's main, which also notes where this ran.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <string>

#include "indexcache.h"

int main(int argc, char **argv) {
  ic_device_caps caps = IC_DEVICE_CAPS_INIT;
  if (ic_device_get_caps(IC_BACKEND_CUDA, 0, &caps) != IC_OK) {
    char message[512] = "";
    ic_last_error(message, sizeof message);
    std::fprintf(stderr, "gpu_bench: %s\n", message);
    return 1;
  }
  benchmark::AddCustomContext("card", caps.name);
  benchmark::AddCustomContext("compute_capability", std::to_string(caps.compute_capability));
  benchmark::AddCustomContext("cuda", std::to_string(caps.runtime_version));
  benchmark::AddCustomContext("library", ic_build_info());
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
