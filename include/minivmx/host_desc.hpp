// SPDX-License-Identifier: GPL-2.0-only
//
// The host as negotiation sees it: one CPU's identity, its VMX MSRs, and the few properties of the
// kernel that matter. Plain data, so a decision can be taken for any machine from anywhere.
#pragma once

#include <minivmx/controls.hpp>
#include <minivmx/types.hpp>
#include <minivmx/vmx_msr.hpp>

namespace minivmx {

/// CPUID.1:EAX. SDM Vol. 2A, CPUID, "Version Information".
struct CpuSignature {
    u32 raw = 0;

    constexpr u32 stepping() const { return raw & 0xf; }
    /// With the extended family added where the architecture says so.
    constexpr u32 family() const
    {
        const u32 base = raw >> 8 & 0xf;
        return base == 0xf ? base + (raw >> 20 & 0xff) : base;
    }
    /// With the extended model for families 6 and up.
    constexpr u32 model() const
    {
        const u32 base = raw >> 4 & 0xf;
        return family() >= 6 ? base | (raw >> 12 & 0xf0) : base;
    }
    /// Without the reserved bits: 31:28 and 15:14.
    constexpr u32 without_reserved() const { return raw & 0x0fff3fff; }
};

struct HostDesc {
    u32 cpu = 0;          ///< number of the CPU that the MSRs are from
    char vendor[13] = ""; ///< CPUID.0: "GenuineIntel"
    char name[49] = "";   ///< CPUID.80000002H: the brand string
    CpuSignature signature;
    u32 max_phys_bits = 36;        ///< width of physical addresses
    bool is_64bit = true;          ///< the kernel runs in IA-32e mode
    bool has_vmx = false;          ///< CPUID.1:ECX[5]
    bool has_sgx = false;          ///< CPUID.12H:EAX[0], whether the kernel uses SGX or not
    bool has_nx = true;            ///< execute-disable, which shadow paging needs
    bool in_smx = false;           ///< the machine was launched measured (TXT): VMXON inside SMX
    bool kernel_uses_vmx = true;   ///< false: the kernel cleared its own VMX flag
    bool enlightened_vmcs = false; ///< a guest of Hyper-V that uses its enlightened VMCS
    u32 tsc_khz = 0;               ///< 0: unknown
    u32 page_size = 4096;
    VmxMsrs msr;

    constexpr HostTraits traits() const { return HostTraits{is_64bit, has_sgx}; }
};

/// Describes the CPU this runs on from CPUID and `reader`. Sets neither in_smx,
/// kernel_uses_vmx, enlightened_vmcs, tsc_khz nor cpu: these are the kernel's to know. Any context;
/// does not sleep; the caller must not be moved to another CPU meanwhile.
void describe_cpu(const MsrReader &reader, HostDesc &host);

/// Reads MSRs of the CPU this runs on through arch::rdmsr_safe().
MsrReader this_cpu_msr_reader();

} // namespace minivmx
