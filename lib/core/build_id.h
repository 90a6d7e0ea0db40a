// SPDX-License-Identifier: Apache-2.0
// Which commit this build is of.
#pragma once

namespace ic {

/// Abbreviated commit, with "-dirty" when files differed; "unknown" outside of a git checkout. Written by the build.
const char *build_git_id() noexcept;

}  // namespace ic
