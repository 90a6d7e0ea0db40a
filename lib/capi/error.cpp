// SPDX-License-Identifier: Apache-2.0
// ic_status_string and ic_last_error.
#include "capi/error.h"

#include <algorithm>
#include <cstring>

#include "indexcache.h"

namespace ic {
namespace {

// Plain bytes: no constructor runs when a thread first fails, and none is destroyed at its end.
thread_local char last_error[768];

}  // namespace

void set_last_error(const char *text) noexcept {
  const size_t length = std::min(std::strlen(text), sizeof last_error - 1);
  std::memcpy(last_error, text, length);
  last_error[length] = '\0';
}

}  // namespace ic

extern "C" size_t ic_last_error(char *buffer, size_t size) {
  const size_t length = std::strlen(ic::last_error);
  if (buffer != nullptr && size > 0) {
    const size_t copied = std::min(length, size - 1);
    std::memcpy(buffer, ic::last_error, copied);
    buffer[copied] = '\0';
  }
  return length;
}

extern "C" const char *ic_status_string(ic_status status) {
  switch (status) {
    case IC_OK:
      return "IC_OK: success";
    case IC_ERROR_INVALID_ARGUMENT:
      return "IC_ERROR_INVALID_ARGUMENT: a value is outside what is allowed";
    case IC_ERROR_NULL_POINTER:
      return "IC_ERROR_NULL_POINTER: a pointer that must be given is NULL";
    case IC_ERROR_STRUCT_SIZE:
      return "IC_ERROR_STRUCT_SIZE: struct_size is none that any version of the header gives";
    case IC_ERROR_UNKNOWN_FIELD:
      return "IC_ERROR_UNKNOWN_FIELD: a field that this library does not know is not zero";
    case IC_ERROR_UNKNOWN_FLAG:
      return "IC_ERROR_UNKNOWN_FLAG: a flag bit that this library does not know is set";
    case IC_ERROR_MISALIGNED:
      return "IC_ERROR_MISALIGNED: a pointer or a byte stride is not aligned";
    case IC_ERROR_WORKSPACE_TOO_SMALL:
      return "IC_ERROR_WORKSPACE_TOO_SMALL: the memory given is smaller than its size query says";
    case IC_ERROR_HANDLE_MISMATCH:
      return "IC_ERROR_HANDLE_MISMATCH: handles that do not fit together";
    case IC_ERROR_OUT_OF_RANGE:
      return "IC_ERROR_OUT_OF_RANGE: a value inside an array is out of range";
    case IC_ERROR_UNSUPPORTED:
      return "IC_ERROR_UNSUPPORTED: this version or backend does not implement the request";
    case IC_ERROR_BUFFER_TOO_SMALL:
      return "IC_ERROR_BUFFER_TOO_SMALL: the output buffer is too small";
    case IC_ERROR_PARSE:
      return "IC_ERROR_PARSE: a text or an exported block cannot be read";
    case IC_ERROR_SCHEDULE_CONFLICT:
      return "IC_ERROR_SCHEDULE_CONFLICT: two schedule fields disagree";
    case IC_ERROR_SCHEDULE_INVALID:
      return "IC_ERROR_SCHEDULE_INVALID: a schedule that cannot run";
    case IC_ERROR_MODEL_UNSUPPORTED:
      return "IC_ERROR_MODEL_UNSUPPORTED: the model's sparse attention is of another kind";
    case IC_ERROR_STALE:
      return "IC_ERROR_STALE: the source layer published in an earlier generation";
    case IC_ERROR_STALE_UNPUBLISHED:
      return "IC_ERROR_STALE_UNPUBLISHED: the source layer has never published";
    case IC_ERROR_STALE_INCOMPLETE:
      return "IC_ERROR_STALE_INCOMPLETE: the source layer has not covered every row";
    case IC_ERROR_STALE_OVERWRITTEN:
      return "IC_ERROR_STALE_OVERWRITTEN: a later layer has overwritten the source's slot";
    case IC_ERROR_STALE_CAPTURE:
      return "IC_ERROR_STALE_CAPTURE: the source was published in another stream capture";
    case IC_ERROR_STALE_ROWS:
      return "IC_ERROR_STALE_ROWS: the source was published for another number of rows";
    case IC_ERROR_NO_BATCH:
      return "IC_ERROR_NO_BATCH: no generation is open";
    case IC_ERROR_PART_OVERLAP:
      return "IC_ERROR_PART_OVERLAP: a row has already been covered";
    case IC_ERROR_SCHEDULE_HASH:
      return "IC_ERROR_SCHEDULE_HASH: the block was made under another schedule";
    case IC_ERROR_NUMERICS:
      return "IC_ERROR_NUMERICS: the block was made by another arithmetic";
    case IC_ERROR_ALREADY_TOLD:
      return "IC_ERROR_ALREADY_TOLD: the candidate has another answer already";
    case IC_ERROR_JOURNAL:
      return "IC_ERROR_JOURNAL: the journal was written under another desc";
    case IC_ERROR_CUDA_NOT_BUILT:
      return "IC_ERROR_CUDA_NOT_BUILT: the library was built without CUDA";
    case IC_ERROR_CUDA_NO_DRIVER:
      return "IC_ERROR_CUDA_NO_DRIVER: no NVIDIA driver, or one that is too old";
    case IC_ERROR_CUDA_NO_DEVICE:
      return "IC_ERROR_CUDA_NO_DEVICE: no such CUDA device";
    case IC_ERROR_CUDA_UNSUPPORTED_DEVICE:
      return "IC_ERROR_CUDA_UNSUPPORTED_DEVICE: this build has no code for the device";
    case IC_ERROR_CUDA:
      return "IC_ERROR_CUDA: a CUDA call failed";
    case IC_ERROR_OUT_OF_MEMORY:
      return "IC_ERROR_OUT_OF_MEMORY: memory could not be allocated";
    case IC_ERROR_INTERNAL:
      return "IC_ERROR_INTERNAL: a defect of the library";
    default:
      return "unknown status: not a number that this version of libindexcache returns";
  }
}
