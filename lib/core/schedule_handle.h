// SPDX-License-Identifier: Apache-2.0
// The handle of a resolved schedule.
#pragma once

#include <utility>

#include "core/ref.h"
#include "core/schedule.h"

struct ic_schedule final : ic::RefCounted {
  explicit ic_schedule(ic::Schedule resolved) : schedule(std::move(resolved)) {}
  const ic::Schedule schedule;
};
