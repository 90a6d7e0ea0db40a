// SPDX-License-Identifier: Apache-2.0
// Struct versions, strides, workspaces and text buffers.
#include "capi/validate.h"

#include <algorithm>
#include <cstring>

namespace ic {

int64_t resolve_stride(int64_t stride, int64_t dense, const ArgumentName &at, int64_t highest) {
  if (stride == 0) return dense;
  if (stride < dense || stride > highest)
    fail(IC_ERROR_INVALID_ARGUMENT, "%s%s%s is %lld; allowed: 0 (dense), or %lld to %lld", at.owner, at.arrow, at.name,
         static_cast<long long>(stride), static_cast<long long>(dense), static_cast<long long>(highest));
  return stride;
}

void require_workspace(const void *workspace, size_t size, size_t needed, const char *name) {
  if (size < needed) fail(IC_ERROR_WORKSPACE_TOO_SMALL, "%s has %zu bytes; %zu are needed", name, size, needed);
  if (needed > 0) require_pointer(workspace, name);
  require_aligned(workspace, kWorkspaceAlignment, name);
}

void copy_struct(void *to, size_t size, size_t first_size, const void *from, const char *name) {
  require_array(from, alignof(size_t), name);
  size_t given;
  std::memcpy(&given, from, sizeof given);
  if (given < first_size || given > kMaxStructSize)
    fail(IC_ERROR_STRUCT_SIZE, "%s->struct_size is %zu; allowed: %zu to %zu (set it to sizeof)", name, given,
         first_size, kMaxStructSize);
  const auto *bytes = static_cast<const unsigned char *>(from);
  for (size_t i = size; i < given; ++i)
    if (bytes[i] != 0)
      fail(IC_ERROR_UNKNOWN_FIELD, "%s has %zu bytes and byte %zu is not zero; this library (%d.%d.%d) knows %zu bytes",
           name, given, i, IC_VERSION_MAJOR, IC_VERSION_MINOR, IC_VERSION_PATCH, size);
  std::memset(to, 0, size);
  std::memcpy(to, from, std::min(size, given));
  std::memcpy(to, &size, sizeof size);
}

void require_output(const void *to, const char *name) {
  require_array(to, alignof(size_t), name);
  size_t given;
  std::memcpy(&given, to, sizeof given);
  if (given < sizeof(size_t) || given > kMaxStructSize)
    fail(IC_ERROR_STRUCT_SIZE, "%s->struct_size is %zu; allowed: %zu to %zu (set it to sizeof)", name, given,
         sizeof(size_t), kMaxStructSize);
}

void write_output(void *to, const void *value, size_t size) {
  size_t given;
  std::memcpy(&given, to, sizeof given);
  auto *out = static_cast<unsigned char *>(to);
  const auto *in = static_cast<const unsigned char *>(value);
  const size_t copied = std::min(size, given);
  std::memcpy(out + sizeof given, in + sizeof given, copied - sizeof given);
  std::memset(out + copied, 0, given - copied);
}

void write_text(const char *text, size_t length, char *buffer, size_t *size) {
  require_array(size, alignof(size_t), "size");
  const size_t given = *size;
  if (buffer == nullptr && given != 0) fail(IC_ERROR_NULL_POINTER, "buffer is NULL and *size is %zu", given);
  *size = length + 1;
  if (buffer == nullptr || given < length + 1)
    fail(IC_ERROR_BUFFER_TOO_SMALL, "buffer has %zu bytes; %zu are needed", given, length + 1);
  std::memcpy(buffer, text, length);
  buffer[length] = '\0';
}

}  // namespace ic
