// SPDX-License-Identifier: GPL-2.0-only
// What VM entry insists on without "unrestricted guest", and a guest may be without: SDM Vol.
// 3C, 27.3.1.2 "Checks on Guest Segment Registers". Only what a guest can reach by itself is looked
// at; what a client makes up beyond that, VM entry refuses and the audit explains.
#include <minivmx/hardware.hpp>
#include <minivmx/real_mode.hpp>
#include <minivmx/segment.hpp>

namespace minivmx {

namespace {

constexpr u16 kRplMask = 3, kLocalTable = 4;
constexpr u32 kAccessed = 1, kReadable = 2, kConforming = 4, kCode = 8;

struct Checked {
    SegmentRegister reg;

    u32 type() const { return reg.rights & AR_TYPE_MASK; }
    u32 dpl() const { return (reg.rights & AR_DPL_MASK) >> AR_DPL_SHIFT; }
    u32 rpl() const { return reg.selector & kRplMask; }
    bool usable() const { return !(reg.rights & AR_UNUSABLE); }
    bool is_memory() const { return reg.rights & AR_S && reg.rights & AR_PRESENT; }
    bool is_system() const { return !(reg.rights & AR_S) && reg.rights & AR_PRESENT; }
};

Checked segment_of(const vcpu_vmx &vmx, Segment which)
{
    return {read_segment_register(vmx, which)};
}

bool virtual_8086_segment_valid(const vcpu_vmx &vmx, Segment which)
{
    constexpr u32 kRights = 0xf3, kAnyDpl = AR_DPL_MASK, kLimit = 0xffff;
    const SegmentRegister segment = read_segment_register(vmx, which);
    // In real mode the DPL is hidden, and that CS has another type than data.
    u32 rights = segment.rights;
    if (vmx.vm86_active) {
        rights |= kAnyDpl;
        if (which == kCs)
            rights = (rights & ~AR_TYPE_MASK) | (kRights & AR_TYPE_MASK);
    }
    return segment.base == u64{segment.selector} << 4 && segment.limit == kLimit &&
           rights == kRights;
}

bool code_valid(const Checked &cs, const Checked &ss)
{
    if (!cs.usable() || !cs.is_memory() || !(cs.type() & kCode) || !(cs.type() & kAccessed))
        return false;
    return cs.type() & kConforming ? cs.dpl() <= ss.dpl() : cs.dpl() == ss.dpl();
}

bool stack_valid(const Checked &ss, const Checked &cs)
{
    if (ss.rpl() != cs.rpl() || ss.dpl() != ss.rpl())
        return false;
    const u32 kind = ss.type() & (kCode | kReadable | kAccessed); // up or down, writable, accessed
    return !ss.usable() || (ss.is_memory() && kind == (kReadable | kAccessed));
}

bool data_valid(const Checked &ds)
{
    if (!ds.usable())
        return true;
    if (!ds.is_memory() || !(ds.type() & kAccessed))
        return false;
    if (ds.type() & kCode && !(ds.type() & kReadable))
        return false;
    const bool conforming = (ds.type() & kCode) != 0 && (ds.type() & kConforming) != 0;
    return conforming || ds.dpl() >= ds.rpl();
}

bool task_valid(const Checked &tr)
{
    constexpr u32 kBusy16 = 3;
    return tr.usable() && !(tr.reg.selector & kLocalTable) && tr.is_system() &&
           (tr.type() == kBusy16 || tr.type() == AR_TYPE_BUSY_TSS);
}

bool local_table_valid(const Checked &ldtr)
{
    return !ldtr.usable() ||
           (!(ldtr.reg.selector & kLocalTable) && ldtr.is_system() && ldtr.type() == AR_TYPE_LDT);
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
