// SPDX-License-Identifier: GPL-2.0-only
#include "output.hpp"

#include "error.hpp"

#include <cstdio>

namespace minivmx::tool {

void print_json(const nlohmann::ordered_json &json)
{
    constexpr int kIndent = 2;
    print_text(json.dump(kIndent, ' ', false, nlohmann::ordered_json::error_handler_t::replace) +
               "\n");
}

void print_text(const std::string &text)
{
    if (std::fputs(text.c_str(), stdout) == EOF || std::fflush(stdout) == EOF)
        fail("cannot write to standard output");
}

} // namespace minivmx::tool
