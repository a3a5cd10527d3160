// SPDX-License-Identifier: GPL-2.0-only
// Memory types: SDM Vol. 3A, 12.11 "Memory Type Range Registers (MTRRs)" and 12.12 "Page Attribute
// Table (PAT)". EPT's memory type decides what the guest really gets; the registers are kept so
// that it reads back what it wrote.
#include <minivmx/hardware.hpp>

#include "msr.hpp"

namespace minivmx {

namespace {

// Uncacheable, write combining, write through, write protected, write back: SDM Vol. 3A, table
// 12-2.
bool is_memory_type(u64 type)
{
    return type < 7 && (0x73u >> type & 1) != 0;
}

// The PAT also knows UC-, 7: SDM Vol. 3A, table 12-10.
bool is_pat_type(u64 type)
{
    return is_memory_type(type) || type == 7;
}

template <bool (*valid)(u64)>
bool all_bytes(u64 value)
{
    for (unsigned shift = 0; shift < 64; shift += 8)
        if (!valid(value >> shift & 0xff))
            return false;
    return true;
}

constexpr u32 kFirstVariable = 0x200;
constexpr u32 kFix64K = 0x250, kFix16K = 0x258, kFix4K = 0x268;

// IA32_MTRR_FIX64K_00000, FIX16K_80000 and _A0000, FIX4K_C0000 to _F8000.
u64 &fixed_mtrr(GuestMtrrs &mtrr, u32 index)
{
    switch (index) {
    case kFix64K:
        return mtrr.fixed[0];
    case kFix16K:
    case kFix16K + 1:
        return mtrr.fixed[1 + (index - kFix16K)];
    default:
        return mtrr.fixed[3 + (index - kFix4K)];
    }
}

} // namespace

bool read_mtrr_capability(vcpu_vmx &, u32, u64 &value)
{
    constexpr u64 kFixed = bit64(8), kWriteCombining = bit64(10);
    value = kVariableMtrrs | kFixed | kWriteCombining;
    return true;
}

bool read_mtrr_default(vcpu_vmx &vmx, u32, u64 &value)
{
    value = vmx.msrs.mtrr.default_type;
    return true;
}

bool write_mtrr_default(vcpu_vmx &vmx, u32, u64 value)
{
    constexpr u64 kDefined = 0xcff; // type, fixed-range enable, enable: SDM Vol. 3A, 12.11.2.1
    if (value & ~kDefined || !is_memory_type(value & 0xff))
        return false;
    vmx.msrs.mtrr.default_type = value;
    return true;
}

bool read_variable_mtrr(vcpu_vmx &vmx, u32 index, u64 &value)
{
    const u32 pair = (index - kFirstVariable) / 2;
    const u64 stored = index & 1 ? vmx.msrs.mtrr.mask[pair] : vmx.msrs.mtrr.base[pair];
    value = stored & ~illegal_gpa_bits(vmx);
    return true;
}

bool write_variable_mtrr(vcpu_vmx &vmx, u32 index, u64 value)
{
    // SDM Vol. 3A, 12.11.2.3: a base has a type and bits 11:8 reserved, a mask has V and bits 10:0
    // reserved; neither has bits beyond MAXPHYADDR.
    const u32 pair = (index - kFirstVariable) / 2;
    const bool is_mask = index & 1;
    const u64 reserved = illegal_gpa_bits(vmx) | (is_mask ? 0x7ff : 0xf00);
    if (value & reserved || (!is_mask && !is_memory_type(value & 0xff)))
        return false;
    (is_mask ? vmx.msrs.mtrr.mask : vmx.msrs.mtrr.base)[pair] = value;
    return true;
}

bool read_fixed_mtrr(vcpu_vmx &vmx, u32 index, u64 &value)
{
    value = fixed_mtrr(vmx.msrs.mtrr, index);
    return true;
}

bool write_fixed_mtrr(vcpu_vmx &vmx, u32 index, u64 value)
{
    if (!all_bytes<is_memory_type>(value))
        return false;
    fixed_mtrr(vmx.msrs.mtrr, index) = value;
    return true;
}

bool write_pat(vcpu_vmx &vmx, u32, u64 value)
{
    if (!all_bytes<is_pat_type>(value))
        return false;
    vmx.msrs.pat = value;
    // Without EPT the entries are ours, with types of our choosing (shadow_leaf()): a guest's PAT
    // would give them others, for the owner's memory and for devices. Theirs is as after reset.
    if (!hardware.params.ept)
        return true;
    if (hardware.config.vmentry_ctrl & VM_ENTRY_LOAD_IA32_PAT)
        vmcs_write(GUEST_IA32_PAT, value);
    return true;
}

} // namespace minivmx
