// SPDX-License-Identifier: Apache-2.0
// SHA-256 (FIPS 180-4), for the schedule hash that travels with exported indices.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace ic {

std::array<uint8_t, 32> sha256(std::string_view bytes) noexcept;

/// First 8 bytes of the digest, read as a little-endian number on every host.
uint64_t sha256_first_8(std::string_view bytes) noexcept;

}  // namespace ic
