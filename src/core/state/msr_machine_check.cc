// SPDX-License-Identifier: GPL-2.0-only
// Machine-check registers: SDM Vol. 3B, 16.3. The guest has banks in which nothing ever happens.
#include "msr.hpp"

namespace minivmx {

namespace {

constexpr u32 kFirstBank = 0x400; // IA32_MC0_CTL, then STATUS, ADDR, MISC; four a bank
constexpr u64 kHwcrMcStatusWrEn = bit64(18);

bool is_control(u32 index)
{
    return (index & 3) == 0;
}
bool is_status(u32 index)
{
    return (index & 3) == 1;
}

// AMD's HWCR lets software forge errors.
bool may_forge_errors(const vcpu_vmx &vmx)
{
    return vmx.cpuid.is_amd_compatible() && (vmx.msrs.hwcr & kHwcrMcStatusWrEn) != 0;
}

// SDM Vol. 3B, 16.3.2.1: all ones or all zeros. Old kernels leave out bit 10, or bit 0, for errata
// of theirs.
bool is_bank_control_value(u64 value)
{
    return value == 0 || (value | bit64(10) | bit64(0)) == ~u64{0};
}

} // namespace

bool read_machine_check_capability(vcpu_vmx &, u32, u64 &value)
{
    value = kMachineCheckBanks; // neither IA32_MCG_CTL nor corrected-error interrupts
    return true;
}

bool read_machine_check_status(vcpu_vmx &vmx, u32, u64 &value)
{
    value = vmx.msrs.machine_check.status;
    return true;
}

bool write_machine_check_status(vcpu_vmx &vmx, u32, u64 value)
{
    vmx.msrs.machine_check.status = value;
    return true;
}

bool read_machine_check_bank(vcpu_vmx &vmx, u32 index, u64 &value)
{
    value = vmx.msrs.machine_check.bank[index - kFirstBank];
    return true;
}

bool write_machine_check_bank(vcpu_vmx &vmx, u32 index, u64 value)
{
    if (is_control(index) && !is_bank_control_value(value))
        return false;
    // SDM Vol. 3B, 16.3.2.2: only zeros may be written to a status register.
    if (is_status(index) && value != 0 && !may_forge_errors(vmx))
        return false;
    vmx.msrs.machine_check.bank[index - kFirstBank] = value;
    return true;
}

} // namespace minivmx
