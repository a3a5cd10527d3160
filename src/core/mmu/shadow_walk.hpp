// SPDX-License-Identifier: GPL-2.0-only
// What the vCPU's side of shadow paging shares: shadow_root.cc, shadow_fault.cc.
#pragma once

#include <minivmx/guest_memory.hpp>

#include "shadow_page.hpp"

namespace minivmx {

// The role of a root in this mode; of a page below it only level, quadrant and rights differ, or it
// is direct.
ShadowRole shadow_role(const AddressState &state);

// Where the CPU begins to walk for the address; null: it has no table there, or not a current one.
// The mmu lock is held.
ShadowPage *root_for(const vcpu_vmx &vmx, const AddressState &state, u64 linear);

} // namespace minivmx
