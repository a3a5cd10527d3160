// SPDX-License-Identifier: GPL-2.0-only
// What VM entry insists on without "unrestricted guest", and a guest may be without: SDM Vol.
// 3C, 27.3.1.2 "Checks on Guest Segment Registers". Only what a guest can reach by itself is looked
// at; what a client makes up beyond that, VM entry refuses and the audit explains.
#include "../segmentation/descriptor.hpp"

#include <minivmx/hardware.hpp>
#include <minivmx/real_mode.hpp>
#include <minivmx/segment.hpp>

namespace minivmx {

namespace {

struct Checked {
    u16 selector;
    AccessRights rights;

    u32 rpl() const { return selector & kSelectorRpl; }
    bool in_local_table() const { return (selector & kSelectorLocal) != 0; }
    bool is_memory() const { return rights.is_memory() && rights.present(); }
    bool is_system() const { return !rights.is_memory() && rights.present(); }
};

Checked segment_of(const vcpu_vmx &vmx, Segment which)
{
    return {segment_selector(vmx, which), {segment_rights(vmx, which)}};
}

bool virtual_8086_segment_valid(const vcpu_vmx &vmx, Segment which)
{
    SegmentRegister segment = read_segment_register(vmx, which);
    if (vmx.vm86_active)
        segment = as_virtual_8086(which, segment);
    return segment.base == real_mode_base(segment.selector) && segment.limit == kVirtual8086Limit &&
           segment.rights == kVirtual8086Rights;
}

bool code_valid(const Checked &cs, const Checked &ss)
{
    return cs.rights.usable() && cs.is_memory() && code_type_valid(cs.rights) &&
           code_dpl_valid(cs.rights, ss.rights);
}

bool stack_valid(const Checked &ss, const Checked &cs)
{
    if (ss.rpl() != cs.rpl() || ss.rights.dpl() != ss.rpl())
        return false;
    return !ss.rights.usable() || (ss.is_memory() && stack_type_valid(ss.rights));
}

bool data_valid(const Checked &ds)
{
    return !ds.rights.usable() || (ds.is_memory() && ds.rights.accessed() && ds.rights.readable() &&
                                   data_dpl_valid(ds.rights, ds.rpl()));
}

bool task_valid(const Checked &tr)
{
    // LTR takes no 16-bit TSS in IA-32e mode, and entering that mode changes the type.
    constexpr bool kIa32e = false;
    return tr.rights.usable() && !tr.in_local_table() && tr.is_system() &&
           task_type_valid(tr.rights, kIa32e);
}

bool local_table_valid(const Checked &ldtr)
{
    return !ldtr.rights.usable() ||
           (!ldtr.in_local_table() && ldtr.is_system() && ldtr.rights.type() == AR_TYPE_LDT);
}

// Code, stack and data of protected mode.
bool protected_mode_valid(const vcpu_vmx &vmx)
{
    const Checked cs = segment_of(vmx, kCs), ss = segment_of(vmx, kSs);
    if (!code_valid(cs, ss) || !stack_valid(ss, cs))
        return false;
    constexpr Segment kData[] = {kDs, kEs, kFs, kGs};
    for (const Segment which : kData)
        if (!data_valid(segment_of(vmx, which)))
            return false;
    return true;
}

bool system_segments_valid(const vcpu_vmx &vmx)
{
    return task_valid(segment_of(vmx, kTr)) && local_table_valid(segment_of(vmx, kLdtr));
}

// Where virtual-8086 mode looks for the handlers of INT n, whatever the IDTR says: SDM Vol.
// 3B, 21.3.
bool interrupt_table_at_0()
{
    constexpr u32 kLastByte = 256 * 4 - 1;
    return vmcs_read(GUEST_IDTR_BASE) == 0 && vmcs_read(GUEST_IDTR_LIMIT) >= kLastByte;
}

bool virtual_8086_valid(const vcpu_vmx &vmx)
{
    for (u32 i = kEs; i <= kGs; i++)
        if (!virtual_8086_segment_valid(vmx, static_cast<Segment>(i)))
            return false;
    return true;
}

} // namespace

bool guest_state_valid(vcpu_vmx &vmx)
{
    // A client that has named no place for the task state has all of real mode emulated.
    if (vmx.vm86_active && !use_task_state(vmx))
        return false;
    // TR is ours then; LDTR, which real mode doesn't use, is still the guest's.
    if (vmx.vm86_active)
        return virtual_8086_valid(vmx) && interrupt_table_at_0() &&
               local_table_valid(segment_of(vmx, kLdtr));
    const bool memory_segments_valid =
        read_rflags(vmx) & X86_EFLAGS_VM ? virtual_8086_valid(vmx) : protected_mode_valid(vmx);
    return memory_segments_valid && system_segments_valid(vmx);
}

bool must_emulate(vcpu_vmx &vmx)
{
    if (vmx.check_state) {
        const bool valid = guest_state_valid(vmx);
        vmx.state_is_valid = valid || !hardware.params.emulate_invalid_guest_state;
        // The client may still name a place.
        vmx.check_state = vmx.vm86_active && vmx.kvm->tss_addr == 0;
    }
    return !vmx.state_is_valid;
}

} // namespace minivmx
