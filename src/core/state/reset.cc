// SPDX-License-Identifier: GPL-2.0-only
// A vCPU's registers as after RESET: SDM Vol. 3A, 10.1.1, table 10-1.
#include <minivmx/capabilities.hpp>
#include <minivmx/hardware.hpp>
#include <minivmx/run.hpp>
#include <minivmx/segment.hpp>
#include <minivmx/state.hpp>

namespace minivmx {

namespace {

// Read/write data and execute/read code, accessed, present; what real mode's segments look like.
constexpr u32 kDataRights = 0x93, kCodeRights = 0x9b, kTssRights = 0x8b, kLdtRights = 0x82;

struct ResetSegment {
    Segment which;
    u16 selector;
    u64 base;
    u32 access_rights;
};

constexpr ResetSegment kResetSegments[] = {
    {kEs, 0, 0, kDataRights}, {kCs, 0xf000, 0xffff0000, kCodeRights},
    {kSs, 0, 0, kDataRights}, {kDs, 0, 0, kDataRights},
    {kFs, 0, 0, kDataRights}, {kGs, 0, 0, kDataRights},
    {kTr, 0, 0, kTssRights},  {kLdtr, 0, 0, kLdtRights},
};
constexpr u32 kResetLimit = 0xffff;

void reset_segments()
{
    for (const ResetSegment &segment : kResetSegments) {
        vmcs_write(GUEST_ES_SELECTOR + segment.which, segment.selector);
        vmcs_write(GUEST_ES_BASE + segment.which, segment.base);
        vmcs_write(GUEST_ES_LIMIT + segment.which, kResetLimit);
        vmcs_write(GUEST_ES_AR_BYTES + segment.which, segment.access_rights);
    }
    vmcs_write(GUEST_GDTR_BASE, 0);
    vmcs_write(GUEST_GDTR_LIMIT, kResetLimit);
    vmcs_write(GUEST_IDTR_BASE, 0);
    vmcs_write(GUEST_IDTR_LIMIT, kResetLimit);
}

void reset_debug_registers(vcpu_vmx &vmx)
{
    constexpr u64 kDr6 = 0xffff0ff0, kDr7 = 0x400;
    for (host_u64 &db : vmx.area->db)
        db = 0;
    vmx.area->dr6 = kDr6;
    vmx.area->dr7 = kDr7;
    vmcs_write(GUEST_DR7, kDr7);
    update_dr7(vmx);
}

void reset_general_registers(vcpu_vmx &vmx)
{
    constexpr u64 kDefaultSignature = 0x600, kResetRip = 0xfff0;
    for (host_u64 &reg : vmx.area->regs)
        reg = 0;
    // EDX identifies the processor, as CPUID does; a fresh vCPU has no CPUID yet, and KVM says
    // family 6.
    const kvm_cpuid_entry2 *leaf_1 = vmx.cpuid.find(1, 0);
    write_gpr(vmx, kRdx, leaf_1 ? leaf_1->eax : kDefaultSignature);
    write_rsp(vmx, 0);
    write_rip(vmx, kResetRip);
    write_rflags(vmx, X86_EFLAGS_FIXED);
}

// What waits for the vCPU belongs to the time before.
void forget_guest_events(vcpu_vmx &vmx)
{
    vmx.exception = {};
    vmx.interrupt = {};
    vmx.nmi_pending = 0;
    vmx.nmi_injected = false;
    vmx.nmi_blocked_soft = false;
    __atomic_store_n(&vmx.area->nmi_pending, 0, __ATOMIC_RELAXED);
}

} // namespace

void reset_guest_state(vcpu_vmx &vmx, bool init)
{
    constexpr u32 kActive = 0;
    constexpr u64 kCacheBits = X86_CR0_NW | X86_CR0_CD;
    const u64 cache_bits = init ? guest_cr0(vmx) & kCacheBits : kCacheBits;
    // What stands here is on the CPU's side of virtual-8086 mode; CR0 goes back into it below.
    vmx.vm86_active = false;
    vmx.check_state = true;
    if (!init) {
        // Nothing of the fresh VMCS is the guest's.
        vmx.state_available = kStateCr0 | kStateCr3 | kStateCr4;
        vmx.last_vmentry_cpu = kNoCpu;
    }
    forget_guest_events(vmx);
    vmx.area->cr2 = 0;
    vmx.area->spec_ctrl = 0;
    reset_segments();
    reset_general_registers(vmx);
    reset_debug_registers(vmx);

    vmcs_write(GUEST_ACTIVITY_STATE, kActive);
    write_interruptibility(vmx, 0);
    vmcs_write(GUEST_PENDING_DBG_EXCEPTIONS, 0);
    (void)set_cr8(vmx, 0);
    write_paging_state(vmx, {.cr0 = X86_CR0_ET | cache_bits, .cr3 = 0, .cr4 = 0, .efer = 0});
}

} // namespace minivmx
