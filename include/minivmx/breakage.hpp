// SPDX-License-Identifier: GPL-2.0-only
// Breaking VM entries on purpose, one field at a time: only the test build of the module does
// (kunit/breakage). In every other build these are nothing.
#pragma once

#include <minivmx/types.hpp>

namespace minivmx {

struct vcpu_vmx;

#ifdef MINIVMX_BREAKAGE
// The last thing before an entry that the client wants to fail, with the VMCS as it will be
// entered. [irqoff]
void break_entry(vcpu_vmx &vmx);
// Every field is what it was. After the entry, whatever came of it. [any but NMI]
void mend_entry(vcpu_vmx &vmx);
// Memory that a broken field may point at: false if the address isn't there.
bool read_breakage_page(u64 address, void *bytes, usize size);
#else
inline void break_entry(vcpu_vmx &) {}
inline void mend_entry(vcpu_vmx &) {}
inline bool read_breakage_page(u64, void *, usize)
{
    return false;
}
#endif

} // namespace minivmx
