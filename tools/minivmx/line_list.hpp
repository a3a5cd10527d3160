// SPDX-License-Identifier: GPL-2.0-only
//
// The core's lines, kept.
#pragma once

#include <minivmx/text.hpp>

#include <string>
#include <vector>

namespace minivmx::tool {

/// Appends each line to `lines`, which lives as long as the sink.
inline LineSink line_list_sink(std::vector<std::string> &lines)
{
    return {[](void *context, const char *line) {
                static_cast<std::vector<std::string> *>(context)->emplace_back(line);
            },
            &lines};
}

} // namespace minivmx::tool
