// SPDX-License-Identifier: GPL-2.0-only
// Gone in minutes: stands in for shadow_fault.cc and shadow_root.cc while the tables under them are being written.
#include <minivmx/run.hpp>
#include <minivmx/shadow_paging.hpp>
namespace minivmx {
bool prepare_shadow_root(vcpu_vmx &vmx, Outcome &outcome)
{
    if (hardware.params.ept)
        return true;
    outcome = internal_error(vmx, KVM_INTERNAL_ERROR_EMULATION, {});
    return false;
}
Outcome handle_shadow_fault(vcpu_vmx &vmx, u64, u32) { return internal_error(vmx, KVM_INTERNAL_ERROR_EMULATION, {}); }
Outcome handle_invlpg(vcpu_vmx &vmx) { return internal_error(vmx, KVM_INTERNAL_ERROR_EMULATION, {}); }
void invalidate_guest_address(vcpu_vmx &vmx, u64) { forget_guest_translations(vmx); }
}
