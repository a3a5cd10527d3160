// SPDX-License-Identifier: GPL-2.0-only
//
// What core_hardware_setup() found: written once at module load, before any VM can exist, and only
// read from then on, so no lock guards it.
#pragma once

#include <minivmx/capabilities.hpp>
#include <minivmx/vmcs_config.hpp>

namespace minivmx {

extern Hardware hardware;

/// The module's parameter of that name as it is now: root may change it while the module is loaded.
bool dump_invalid_vmcs();

} // namespace minivmx
