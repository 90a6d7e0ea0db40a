# SPDX-License-Identifier: Apache-2.0
# cmake -DSOURCE_DIR=… -DOUTPUT=… -P build_id.cmake: writes build_id.cpp, which names the commit; touched only on change.
execute_process(COMMAND git -C "${SOURCE_DIR}" describe --always --dirty --exclude=* --abbrev=12
                OUTPUT_VARIABLE id OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE status)
execute_process(COMMAND git -C "${SOURCE_DIR}" rev-parse --show-prefix
                OUTPUT_VARIABLE prefix OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT status EQUAL 0 OR NOT prefix STREQUAL "") # not a checkout of this project, perhaps a package inside of another
  set(id unknown)
endif()
file(CONFIGURE OUTPUT "${OUTPUT}" @ONLY CONTENT [[
#include "core/build_id.h"
const char *ic::build_git_id() noexcept { return "@id@"; }
]])
