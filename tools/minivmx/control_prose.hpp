// SPDX-License-Identifier: GPL-2.0-only
//
// What a control is good for, and what to beware of, in a few sentences: more than the table's
// summary, for docs/controls.md, the matrix and whoever explains one bit.
#pragma once

#include <minivmx/control_types.hpp>

namespace minivmx::tool {

/// Plain text in whole sentences that go on from ControlBit::summary; nullptr for a slug that is
/// none of the table's.
const char *control_prose(const char *slug);
inline const char *control_prose(const ControlBit &row)
{
    return control_prose(row.slug);
}

} // namespace minivmx::tool
