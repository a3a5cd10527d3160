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

constexpr u64 kMcgControlPresent = bit64(8);    // MCG_CTL_P of IA32_MCG_CAP
constexpr u64 kMcgSoftwareRecovery = bit64(24); // MCG_SER_P

u32 bank_count(const vcpu_vmx &vmx)
{
    return vmx.msrs.machine_check.capability & 0xff;
}

bool bank_exists(const vcpu_vmx &vmx, u32 index)
{
    return (index - kFirstBank) / 4 < bank_count(vmx);
}

bool has_control(const vcpu_vmx &vmx)
{
    return (vmx.msrs.machine_check.capability & kMcgControlPresent) != 0;
}

} // namespace

bool read_machine_check_capability(vcpu_vmx &vmx, u32, u64 &value)
{
    value = vmx.msrs.machine_check.capability;
    return true;
}

// SDM Vol. 3B, 16.3.1.3: there only if IA32_MCG_CAP says so; all ones or all zeros.
bool read_machine_check_control(vcpu_vmx &vmx, u32, u64 &value)
{
    value = vmx.msrs.machine_check.control;
    return has_control(vmx) || vmx.msr_access_by_host;
}

bool write_machine_check_control(vcpu_vmx &vmx, u32, u64 value)
{
    if (!has_control(vmx) && (value || !vmx.msr_access_by_host))
        return false;
    if (value != 0 && value != ~u64{0})
        return false;
    vmx.msrs.machine_check.control = value;
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
    if (!bank_exists(vmx, index))
        return false;
    value = vmx.msrs.machine_check.bank[index - kFirstBank];
    return true;
}

bool write_machine_check_bank(vcpu_vmx &vmx, u32 index, u64 value)
{
    if (!bank_exists(vmx, index))
        return false;
    if (is_control(index) && !is_bank_control_value(value))
        return false;
    // SDM Vol. 3B, 16.3.2.2: only zeros may be written to a status register.
    if (is_status(index) && value != 0 && !vmx.msr_access_by_host && !may_forge_errors(vmx))
        return false;
    vmx.msrs.machine_check.bank[index - kFirstBank] = value;
    return true;
}

} // namespace minivmx

using namespace minivmx;

namespace {

// SDM Vol. 3B, 16.3.2.2, figure 16-6.
constexpr u64 kValid = bit64(63), kOverflow = bit64(62), kUncorrected = bit64(61);
constexpr u64 kInProgress = bit64(2); // MCIP of IA32_MCG_STATUS

void record_error(u64 *bank, const kvm_x86_mce &error, u64 status)
{
    bank[1] = status | (bank[1] & kValid ? kOverflow : 0);
    bank[2] = error.addr;
    bank[3] = error.misc;
}

// Turned off by the guest: the error is not even logged.
bool is_disabled(const vcpu_vmx &vmx, const u64 *bank)
{
    return (has_control(vmx) && vmx.msrs.machine_check.control != ~u64{0}) || bank[0] != ~u64{0};
}

} // namespace

extern "C" {

host_u64 core_mce_capability(void)
{
    return kMcgControlPresent | kMcgSoftwareRecovery;
}

int core_setup_mce(core_vcpu *vcpu, host_u64 capability)
{
    constexpr u64 kCounts = 0xff00ff; // of banks, and of extended registers
    GuestMachineCheck &machine_check = to_vmx(vcpu).msrs.machine_check;
    const u32 banks = capability & 0xff;
    if (!banks || banks > kMachineCheckBanks || capability & ~(core_mce_capability() | kCounts))
        return -EINVAL;
    machine_check.capability = capability;
    if (capability & kMcgControlPresent)
        machine_check.control = ~u64{0};
    for (u32 bank = 0; bank < banks; bank++)
        machine_check.bank[4 * bank] = ~u64{0};
    return 0;
}

int core_set_mce(core_vcpu *vcpu, const kvm_x86_mce *mce)
{
    vcpu_vmx &vmx = to_vmx(vcpu);
    GuestMachineCheck &machine_check = vmx.msrs.machine_check;
    if (mce->bank >= bank_count(vmx) || !(mce->status & kValid))
        return -EINVAL;
    u64 *bank = &machine_check.bank[4 * mce->bank];
    if (!(mce->status & kUncorrected)) {
        // SDM Vol. 3B, 16.3.2.2.1: a corrected error doesn't displace an uncorrected one.
        if (bank[1] & kValid && bank[1] & kUncorrected)
            bank[1] |= kOverflow;
        else
            record_error(bank, *mce, mce->status);
        return 0;
    }
    if (is_disabled(vmx, bank))
        return 0;
    // SDM Vol. 3B, 16.3.1.2: a machine check during another one, or without CR4.MCE, shuts down.
    if (machine_check.status & kInProgress || !(guest_cr4(vmx) & X86_CR4_MCE)) {
        vmx.triple_fault = true;
        return 0;
    }
    record_error(bank, *mce, mce->status);
    machine_check.status = mce->mcg_status;
    queue_exception(vmx, MC_VECTOR);
    return 0;
}

} // extern "C"
