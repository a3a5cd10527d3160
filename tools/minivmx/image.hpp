// SPDX-License-Identifier: GPL-2.0-only
//
// A guest program's file.
#pragma once

#include "start_state.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace minivmx::tool {

/// The bytes of `path`. Throws a usage Error naming the file when it cannot be read, is empty, or
/// is larger than `most` bytes.
std::vector<std::uint8_t> read_image(const std::string &path, std::uint64_t most);

/// The mode that the image's note names (guest_abi.h); empty without a note. Throws a usage Error
/// naming `path` when there is a note with a mode that does not exist.
std::optional<Mode> image_mode(const std::string &path, const std::vector<std::uint8_t> &image);

} // namespace minivmx::tool
