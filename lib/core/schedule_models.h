// SPDX-License-Identifier: Apache-2.0
// Which model types are understood, and which are known to do something else under the same field names.
#pragma once

#include <string_view>

#include "core/schedule_request.h"

namespace ic {

struct KnownModel {
  std::string_view name;  // model_type, or an entry of architectures where a checkpoint has no model_type
  ModelFamily::Kind kind;
};

/// A model that selects keys, but not as one exact top-k per token and layer.
struct ForeignModel {
  std::string_view name;
  const char *mechanism;
};

const KnownModel *find_known_model(std::string_view name) noexcept;
const ForeignModel *find_foreign_model(std::string_view name) noexcept;

/// Fields whose presence means another mechanism, whatever the model_type says.
struct ForeignField {
  const char *name;
  const char *mechanism;
};
extern const ForeignField kForeignFields[];
extern const int kNumForeignFields;

}  // namespace ic
