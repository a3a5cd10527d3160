// SPDX-License-Identifier: GPL-2.0-only
//
// Complete answers on standard output.
#pragma once

#include <nlohmann/json.hpp>

#include <string>

namespace minivmx::tool {

/// Indented, with a newline behind it; bytes that are no UTF-8 become U+FFFD. Throws Error when it
/// cannot be written.
void print_json(const nlohmann::ordered_json &json);

/// Throws Error when it cannot be written.
void print_text(const std::string &text);

} // namespace minivmx::tool
