// SPDX-License-Identifier: GPL-2.0-only
//
// Text that goes into HTML or SVG.
#pragma once

#include <string>
#include <string_view>

namespace minivmx::tool {

/// With the characters that mean something in markup as entities; fit for attributes, too.
std::string escaped(std::string_view text);

} // namespace minivmx::tool
