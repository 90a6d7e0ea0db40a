// SPDX-License-Identifier: Apache-2.0
// The handle of a search.
#pragma once

#include <string_view>
#include <utility>

#include "core/ref.h"
#include "core/search.h"

struct ic_search final : ic::RefCounted {
  ic_search(ic::SearchPlan plan, std::string_view journal) : search(std::move(plan), journal) {}
  ic::Search search;
};
