// SPDX-License-Identifier: Apache-2.0
// Matrix instructions of a warpgroup (sm_90a): one instruction, one inline function. They run asynchronously: fence,
// issue, commit, wait; between issue and wait nobody touches the accumulators.
//
// Operands lie in shared memory, K-major rows of 128 bytes with the swizzle of 128 bytes (16-byte piece c of row r at
// piece c ^ r % 8), from 1024-byte boundaries. Accumulators of a lane, with row = 16 warp + lane / 4: d[4 n] and
// d[4 n + 1] are columns 8 n + 2 (lane % 4) and the next of that row, d[4 n + 2] and d[4 n + 3] those of row + 8.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

namespace ic::cuda::ptx {

/// Names an operand in shared memory; + n for 16 n bytes further, + 2 for the next 32 elements of one byte. Only the
/// lower half changes, so that sums are of 32 bits.
struct WgmmaOperand {
  uint32_t low;
  uint32_t high;

  __device__ WgmmaOperand operator+(uint32_t n) const { return {low + n, high}; }
  __device__ uint64_t descriptor() const { return uint64_t{high} << 32 | low; }
};

/// group_step: groups of 8 rows from one of the operand's groups to its next.
__device__ inline WgmmaOperand wgmma_operand(uint32_t shared_address, uint32_t group_step = 1) {
  constexpr uint32_t kSwizzle128 = 1u << 30;
  return {1u << 16 | (shared_address >> 4 & 0x3fff), kSwizzle128 | group_step * (1024 >> 4)};
}

/// Orders earlier accesses of registers and operands before the instructions that follow.
__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

/// Closes the group of instructions since the last call.
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

/// Returns when at most kPending of the newest groups are still under way.
template <int kPending>
__device__ inline void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

/// Keeps the compiler from moving uses of accumulators across this point. No instruction.
template <int kCount>
__device__ inline void pin_registers(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

/// Makes generic writes to shared memory seen by the asynchronous proxy (matrix instructions, bulk copies).
__device__ inline void fence_async_proxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/// Moves registers between warpgroups; every warp of the warpgroup executes it.
template <int kRegisters>
__device__ inline void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

/// Waits for `threads` threads at barrier `id` (1 to 15).
__device__ inline void named_barrier(uint32_t id, uint32_t threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/// D[64, 32] = A[64, 32] B[32, 32]^T, or D += with `add`.
__device__ inline void wgmma_e4m3(float (&d)[16], WgmmaOperand a, WgmmaOperand b, bool add) {
  asm volatile(
      "{\n.reg .pred p;\n"
      "setp.ne.b32 p, %18, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n32k32.f32.e4m3.e4m3 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
      "}, %16, %17, p, 1, 1;\n}\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]),
        "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15])
      : "l"(a.descriptor()), "l"(b.descriptor()), "r"(static_cast<int32_t>(add)));
}

/// D[64, 64] = A[64, 32] B[64, 32]^T, or D += with `add`.
__device__ inline void wgmma_e4m3(float (&d)[32], WgmmaOperand a, WgmmaOperand b, bool add) {
  asm volatile(
      "{\n.reg .pred p;\n"
      "setp.ne.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k32.f32.e4m3.e4m3 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
      "}, %32, %33, p, 1, 1;\n}\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]),
        "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]),
        "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),
        "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
      : "l"(a.descriptor()), "l"(b.descriptor()), "r"(static_cast<int32_t>(add)));
}

/// D[64, 128] = A[64, 32] B[128, 32]^T, or D += with `add`.
__device__ inline void wgmma_e4m3(float (&d)[64], WgmmaOperand a, WgmmaOperand b, bool add) {
  asm volatile(
      "{\n.reg .pred p;\n"
      "setp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k32.f32.e4m3.e4m3 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
      "}, %64, %65, p, 1, 1;\n}\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]),
        "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]),
        "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),
        "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]),
        "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]),
        "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]),
        "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), "+f"(d[56]),
        "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
      : "l"(a.descriptor()), "l"(b.descriptor()), "r"(static_cast<int32_t>(add)));
}

}  // namespace ic::cuda::ptx

#endif
