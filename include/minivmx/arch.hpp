// SPDX-License-Identifier: GPL-2.0-only
// The instructions the core needs of the CPU. The kernel build inlines them with exception-table
// entries; the userspace build calls the simulated machine (test-user/sim), which implements the
// same names.
#pragma once

#include <minivmx/host.h>
#include <minivmx/types.hpp>

namespace minivmx::arch {

// How a VMX instruction ended. SDM Vol. 3C, 31.2 "Conventions": VMfailInvalid sets CF, VMfailValid
// sets ZF. kFaulted: the instruction itself raised #UD or #GP, as it does outside VMX operation.
enum class Vmx : u8 { kOk, kFailInvalid, kFailValid, kFaulted };

struct CpuidResult {
    u32 eax, ebx, ecx, edx;
};

struct InveptDescriptor {
    u64 eptp;
    u64 reserved;
};
struct InvvpidDescriptor {
    u64 vpid;
    u64 linear_address;
};

} // namespace minivmx::arch

#ifdef MINIVMX_KERNEL
#include <minivmx/arch_kernel.hpp>
#else
namespace minivmx::arch {

// VMREAD and VMWRITE of the current VMCS; 64-bit registers, the field's width is the caller's
// business (vmcs_field.hpp).
Vmx vmread(u32 field, u64 &value);
Vmx vmwrite(u32 field, u64 value);
bool vmread_succeeds(u32 field, u64 &value); // value is 0 if it doesn't
bool vmwrite_succeeds(u32 field, u64 value);
Vmx vmclear(u64 vmcs_phys);
Vmx vmptrld(u64 vmcs_phys);
Vmx vmxon(u64 region_phys);
Vmx vmxoff();
Vmx invept(u64 type, const InveptDescriptor &descriptor);
Vmx invvpid(u64 type, const InvvpidDescriptor &descriptor);

// False when the access raised #GP; value is then 0.
bool rdmsr_safe(u32 msr, u64 &value);
bool wrmsr_safe(u32 msr, u64 value);
u64 rdtsc();
CpuidResult cpuid(u32 leaf, u32 subleaf);
void xsetbv(u32 index, u64 value);
// False: none is ready, and value is 0. Only on CPUs that have them.
bool rdrand(u64 &value);
bool rdseed(u64 &value);

// Whether somebody listens to a tracepoint.
template <const host_trace_key &key>
inline bool static_key_enabled()
{
    return key.enabled > 0;
}

} // namespace minivmx::arch
#endif
