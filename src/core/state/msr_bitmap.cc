// SPDX-License-Identifier: GPL-2.0-only
// Which MSRs the guest reads and writes without an exit: SDM Vol. 3C, 25.6.9 "MSR-Bitmap Address".
#include <minivmx/capabilities.hpp>
#include <minivmx/hardware.hpp>
#include <minivmx/lapic.hpp>
#include <minivmx/state.hpp>
#include <minivmx/vcpu.hpp>

#include "msr.hpp"

namespace minivmx {

namespace {

// One page of four bitmaps of 1 KiB: reads of MSRs 0 to 1FFFH, reads of C0000000H to C0001FFFH,
// writes of the same. A bit that is set makes the access exit.
constexpr u32 kLowReads = 0, kHighReads = 1024, kLowWrites = 2048, kHighWrites = 3072;
constexpr u32 kHighFirst = 0xc0000000, kCovered = 0x2000;

constexpr u32 MSR_CORE_C3_RESIDENCY = 0x3fc, MSR_CORE_C6_RESIDENCY = 0x3fd,
              MSR_CORE_C7_RESIDENCY = 0x3fe, MSR_CORE_C1_RES = 0x660, MSR_X2APIC_TPR = 0x808;

void clear_bit(vcpu_vmx &vmx, u32 bitmap, u32 number)
{
    u8 &byte = static_cast<u8 *>(vmx.msr_bitmap)[bitmap + number / 8];
    byte = static_cast<u8>(byte & ~(1u << number % 8));
}

struct Passed {
    u32 msr;
    MsrExit which;
};

// In the VMCS's guest-state area, or switched by the host with the guest's other state. The TSC is
// read with the offset added; writing it has to move the offset.
constexpr Passed kAlwaysPassed[] = {
    {MSR_IA32_TSC, MsrExit::kRead},
    {MSR_FS_BASE, MsrExit::kReadWrite},
    {MSR_GS_BASE, MsrExit::kReadWrite},
    {MSR_KERNEL_GS_BASE, MsrExit::kReadWrite},
    {MSR_IA32_SYSENTER_CS, MsrExit::kReadWrite},
    {MSR_IA32_SYSENTER_ESP, MsrExit::kReadWrite},
    {MSR_IA32_SYSENTER_EIP, MsrExit::kReadWrite},
};

// A guest that controls the CPU's idle states (KVM_X86_DISABLE_EXITS_CSTATE) may see how long it
// was in them.
constexpr u32 kPassedWithCstates[] = {MSR_CORE_C1_RES, MSR_CORE_C3_RESIDENCY, MSR_CORE_C6_RESIDENCY,
                                      MSR_CORE_C7_RESIDENCY};

} // namespace

void stop_msr_exits(vcpu_vmx &vmx, u32 msr, MsrExit which)
{
    const bool high = msr >= kHighFirst;
    const u32 number = high ? msr - kHighFirst : msr;
    if (number >= kCovered)
        return; // others always exit
    if (static_cast<u8>(which) & static_cast<u8>(MsrExit::kRead) &&
        msr_allowed(*vmx.kvm, msr, KVM_MSR_FILTER_READ) &&
        !intercepts_msr(vmx, msr, MINIVMX_MSR_READ))
        clear_bit(vmx, high ? kHighReads : kLowReads, number);
    if (static_cast<u8>(which) & static_cast<u8>(MsrExit::kWrite) &&
        msr_allowed(*vmx.kvm, msr, KVM_MSR_FILTER_WRITE) &&
        !intercepts_msr(vmx, msr, MINIVMX_MSR_WRITE))
        clear_bit(vmx, high ? kHighWrites : kLowWrites, number);
}

namespace {

// The CPU serves the task priority of an x2APIC itself. SDM Vol. 3C, 30.5.
bool virtualizes_x2apic(const vcpu_vmx &vmx)
{
    return vmx.has_apic && apic_mode(*vmx.apic) == ApicMode::kX2apic &&
           cpu_has_vmx_virtualize_x2apic_mode(hardware.config);
}

void pass_msrs(vcpu_vmx &vmx)
{
    for (const Passed &passed : kAlwaysPassed)
        stop_msr_exits(vmx, passed.msr, passed.which);
    if (virtualizes_x2apic(vmx))
        stop_msr_exits(vmx, MSR_X2APIC_TPR, MsrExit::kReadWrite);
    if (vmx.area->save_spec_ctrl)
        stop_msr_exits(vmx, MSR_IA32_SPEC_CTRL, MsrExit::kReadWrite);
    if (vmx.msrs.pred_cmd_used)
        stop_msr_exits(vmx, MSR_IA32_PRED_CMD, MsrExit::kWrite);
    if (!vmx.kvm->cstate_in_guest)
        return;
    for (const u32 msr : kPassedWithCstates)
        stop_msr_exits(vmx, msr, MsrExit::kRead);
}

} // namespace

void init_msr_bitmap(vcpu_vmx &vmx)
{
    __builtin_memset(vmx.msr_bitmap, 0xff, kPageSize);
    pass_msrs(vmx);
}

void msr_filter_changed(vcpu_vmx &vmx)
{
    if (vmx.msr_bitmap)
        init_msr_bitmap(vmx);
}

} // namespace minivmx
