// SPDX-License-Identifier: GPL-2.0-only
//
// Which VMCS fields a CPU has. SDM Vol. 3D, Appendix B: most fields exist only where the control
// that uses them may be 1.
#pragma once

#include <minivmx/vmx_msr.hpp>

namespace minivmx::sim {

/// Whether VMREAD of this encoding works on a CPU with these capability MSRs.
bool field_exists(u32 encoding, const VmxMsrs &msrs);

/// Whether VMWRITE works too: not for exit-information fields, unless IA32_VMX_MISC[29] says so.
bool field_writable(u32 encoding, const VmxMsrs &msrs);

/// The value as a field of this width keeps it.
u64 truncate_to_field(u32 encoding, u64 value);

} // namespace minivmx::sim
