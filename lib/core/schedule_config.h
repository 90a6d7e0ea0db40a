// SPDX-License-Identifier: Apache-2.0
// Reads what a Hugging Face config.json says about index sharing.
#pragma once

#include <string_view>

#include "core/schedule_request.h"

namespace ic {

/// Fails with IC_ERROR_PARSE for text that is not JSON or a field of the wrong type, with IC_ERROR_MODEL_UNSUPPORTED
/// for a model whose sparse attention is another or unknown. `precedence` lets a field inside text_config beat the same
/// field outside.
ConfigFields read_config(std::string_view text, bool precedence);

}  // namespace ic
