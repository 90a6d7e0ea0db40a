// SPDX-License-Identifier: Apache-2.0
// Matrix instructions of sm_80 and newer: one instruction, one inline function.
//
// Fragments of a warp, with group = lane / 4 and quad = lane % 4:
//   A 16x16  a[0] (group, 2 quad), a[1] (group + 8, 2 quad), a[2] (group, 2 quad + 8), a[3] (group + 8, 2 quad + 8);
//            a register holds that column and the next
//   B 16x8   b[0] rows 2 quad and the next, b[1] rows 2 quad + 8 and the next, of column group
//   C 16x8   c[0], c[1] row group, columns 2 quad and the next; c[2], c[3] row group + 8
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace ic::cuda::ptx {

/// Two 8x8 matrices of 16-bit elements. Lane l < 16 gives the address of row l % 8 of matrix l / 8 (16 bytes, aligned);
/// lane l receives elements 2 (l % 4) and the next of row l / 4 of each matrix.
__device__ inline void ldmatrix_x2(uint32_t (&m)[2], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(m[0]), "=r"(m[1])
               : "r"(address)
               : "memory");
}

/// Four matrices; every lane l gives row l % 8 of matrix l / 8.
__device__ inline void ldmatrix_x4(uint32_t (&m)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(address)
               : "memory");
}

/// Four matrices, each transposed: lane l receives elements 2 (l % 4) and the next of column l / 4.
__device__ inline void ldmatrix_x4_trans(uint32_t (&m)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(address)
               : "memory");
}

/// C += A B, fp16 operands, fp32 accumulators.
__device__ inline void mma_f16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// C += A B, bf16 operands, fp32 accumulators.
__device__ inline void mma_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace ic::cuda::ptx
