// SPDX-License-Identifier: Apache-2.0
// How a test program that is linked with this folder runs: IC_TEST_BACKEND = cpu, cuda or cuda-captured.
#pragma once

namespace ic::test {

enum class Mode { kCpu, kCuda, kCudaCaptured };
/// Ends the program when the variable is not set, or says something else.
Mode mode();

}  // namespace ic::test
