// SPDX-License-Identifier: GPL-2.0-only
#include "json_output.hpp"

#include "error.hpp"

#include <cstdio>

namespace minivmx::tool {

void print_json(const nlohmann::ordered_json &json)
{
    constexpr int kIndent = 2;
    const std::string text =
        json.dump(kIndent, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
    if (std::puts(text.c_str()) == EOF || std::fflush(stdout) == EOF)
        fail("cannot write to standard output");
}

} // namespace minivmx::tool
