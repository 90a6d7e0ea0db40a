// SPDX-License-Identifier: Apache-2.0
// The message of the last failed call on this thread.
#pragma once

namespace ic {

/// Replaces the message; copies at most 767 characters into thread-local storage, allocates nothing.
void set_last_error(const char *text) noexcept;

}  // namespace ic
