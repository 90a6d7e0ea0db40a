// SPDX-License-Identifier: Apache-2.0
// Writes a schedule in the words of an engine.
#pragma once

#include <cstdint>
#include <string>

#include "core/schedule.h"

namespace ic {

/// One line of JSON. engine: IC_ENGINE_*; another number fails with IC_ERROR_INVALID_ARGUMENT, a schedule that the
/// engine would ignore or misread with IC_ERROR_UNSUPPORTED.
std::string export_schedule(const Schedule &schedule, int32_t engine);

}  // namespace ic
