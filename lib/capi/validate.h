// SPDX-License-Identifier: Apache-2.0
// Checks of arguments that every exported function shares. Each fails with a message that names the argument, its value
// and what is allowed.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/failure.h"
#include "indexcache.h"

namespace ic {

inline constexpr size_t kMaxStructSize = 4096;
inline constexpr size_t kWorkspaceAlignment = 256;

/// The name of an argument, or of a field of one, as messages write it; put together only when there is a message.
struct ArgumentName {
  ArgumentName(const char *name_in) : name(name_in) {}  // NOLINT(google-explicit-constructor): a name is a name
  ArgumentName(const char *owner_in, const char *name_in, const char *arrow_in = "->")
      : owner(owner_in), arrow(arrow_in), name(name_in) {}
  const char *owner = "";
  const char *arrow = "";
  const char *name;
};

inline void require_pointer(const void *pointer, const ArgumentName &at) {
  if (pointer == nullptr) fail(IC_ERROR_NULL_POINTER, "%s%s%s is NULL", at.owner, at.arrow, at.name);
}

inline void require_aligned(const void *pointer, size_t alignment, const ArgumentName &at) {
  if ((reinterpret_cast<uintptr_t>(pointer) & (alignment - 1)) != 0)  // alignments are powers of two
    fail(IC_ERROR_MISALIGNED, "%s%s%s is %p; it must be a multiple of %zu", at.owner, at.arrow, at.name, pointer,
         alignment);
}

/// Given and aligned.
inline void require_array(const void *pointer, size_t alignment, const ArgumentName &at) {
  require_pointer(pointer, at);
  require_aligned(pointer, alignment, at);
}

inline void require_range(int64_t value, int64_t lowest, int64_t highest, const ArgumentName &at) {
  if (value < lowest || value > highest)
    fail(IC_ERROR_INVALID_ARGUMENT, "%s%s%s is %lld; allowed: %lld to %lld", at.owner, at.arrow, at.name,
         static_cast<long long>(value), static_cast<long long>(lowest), static_cast<long long>(highest));
}

inline void require_flags(uint32_t flags, uint32_t known, const char *name) {
  if ((flags & ~known) != 0) fail(IC_ERROR_UNKNOWN_FLAG, "%s is 0x%x; known bits: 0x%x", name, flags, known);
}

inline void require_zero(int64_t value, const char *name) {
  if (value != 0)
    fail(IC_ERROR_UNKNOWN_FIELD, "%s is %lld; it is reserved and must be 0", name, static_cast<long long>(value));
}

/// A stride in elements or bytes: 0 becomes `dense`, anything else must be at least that. The upper limit keeps
/// products with a number of rows inside 63 bits.
int64_t resolve_stride(int64_t stride, int64_t dense, const ArgumentName &at, int64_t highest = INT32_MAX);

void require_workspace(const void *workspace, size_t size, size_t needed, const char *name);

/// Copies a caller's struct: checks its size and that the part unknown to this library is zero.
void copy_struct(void *to, size_t size, size_t first_size, const void *from, const char *name);

/// The caller's struct as this library knows it; fields behind the caller's struct_size are zero. first_size is the
/// size of the struct's first released version.
template <class T>
T read_struct(const T *from, const char *name, size_t first_size = sizeof(T)) {
  T value;
  copy_struct(&value, sizeof(T), first_size, from, name);
  return value;
}

/// Checks an output struct before work starts.
void require_output(const void *to, const char *name);

/// Fills an output struct up to the caller's struct_size, which is kept.
void write_output(void *to, const void *value, size_t size);

template <class T>
void write_struct(T *to, const T &value) {
  write_output(to, &value, sizeof(T));
}

/// Copies a text into a caller's buffer by the rule of text functions (ic_schedule_pattern).
void write_text(const char *text, size_t length, char *buffer, size_t *size);

}  // namespace ic
