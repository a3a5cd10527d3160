// SPDX-License-Identifier: GPL-2.0-only
#include "error.hpp"

#include <system_error>

namespace minivmx::tool {

std::string errno_text(int error)
{
    return std::generic_category().message(error);
}

} // namespace minivmx::tool
