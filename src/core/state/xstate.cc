// SPDX-License-Identifier: GPL-2.0-only
// XCR0 and IA32_XSS: which state components XSAVE and its kin manage for the guest. SDM Vol. 1,
// chapter 13.
#include <minivmx/hardware.hpp>
#include <minivmx/state.hpp>
#include <minivmx/vcpu.hpp>

namespace minivmx {

namespace {

constexpr u64 kFp = bit64(0), kSse = bit64(1), kYmm = bit64(2), kBndRegs = bit64(3),
              kBndCsr = bit64(4), kAvx512 = bit64(5) | bit64(6) | bit64(7);

// SDM Vol. 2D, XSETBV, and Vol. 1, 13.3: what goes together.
bool is_valid_xcr0(const vcpu_vmx &vmx, u64 value)
{
    if (!(value & kFp) || value & ~(vmx.cpuid.supported_xcr0 | kFp))
        return false;
    if (value & kYmm && !(value & kSse))
        return false;
    if (((value & kBndRegs) != 0) != ((value & kBndCsr) != 0))
        return false;
    return !(value & kAvx512) || ((value & kAvx512) == kAvx512 && value & kYmm);
}

bool set_xcr(vcpu_vmx &vmx, u32 index, u64 value)
{
    if (index != 0 || !is_valid_xcr0(vmx, value))
        return false;
    vmx.msrs.xcr0 = value;
    update_cpuid_runtime(vmx); // leaf 0DH tells the size
    return true;
}

} // namespace

Outcome handle_xsetbv(vcpu_vmx &vmx)
{
    // CR4.OSXSAVE clear would have been #UD before the exit: SDM Vol. 3C, 26.1.1.
    const u64 value = read_edx_eax(vmx);
    if (guest_cpl(vmx) == 0 && set_xcr(vmx, static_cast<u32>(read_gpr(vmx, kRcx)), value))
        skip_emulated_instruction(vmx);
    else
        inject_gp(vmx);
    return Outcome::resume();
}

void load_guest_xcr0(vcpu_vmx &vmx)
{
    if (!switches_xcr0(vmx))
        return;
    if (vmx.msrs.xcr0 != hardware.info.xcr0)
        arch::xsetbv(0, vmx.msrs.xcr0);
    if (vmx.xsaves_enabled && vmx.msrs.xss != hardware.info.xss)
        (void)arch::wrmsr_safe(MSR_IA32_XSS, vmx.msrs.xss);
}

void load_host_xcr0(vcpu_vmx &vmx)
{
    if (!switches_xcr0(vmx))
        return;
    if (vmx.msrs.xcr0 != hardware.info.xcr0)
        arch::xsetbv(0, hardware.info.xcr0);
    if (vmx.xsaves_enabled && vmx.msrs.xss != hardware.info.xss)
        (void)arch::wrmsr_safe(MSR_IA32_XSS, hardware.info.xss);
}

} // namespace minivmx

using namespace minivmx;

extern "C" {

host_u64 core_supported_xcr0(void)
{
    return supported_xcr0();
}

host_u64 core_guest_xcr0(const core_vcpu *vcpu)
{
    return static_cast<const vcpu_vmx &>(*vcpu).cpuid.supported_xcr0;
}

int core_get_xcrs(core_vcpu *vcpu, kvm_xcrs *xcrs)
{
    *xcrs = {};
    if (!supports(CpuidFeature::kXsave))
        return 0;
    xcrs->nr_xcrs = 1;
    xcrs->xcrs[0].value = to_vmx(vcpu).msrs.xcr0;
    return 0;
}

int core_set_xcrs(core_vcpu *vcpu, const kvm_xcrs *xcrs)
{
    if (!supports(CpuidFeature::kXsave) || xcrs->nr_xcrs > KVM_MAX_XCRS || xcrs->flags)
        return -EINVAL;
    // There is only XCR0; what is said of others is passed over, as in KVM.
    for (u32 i = 0; i < xcrs->nr_xcrs; i++)
        if (xcrs->xcrs[i].xcr == 0)
            return set_xcr(to_vmx(vcpu), 0, xcrs->xcrs[i].value) ? 0 : -EINVAL;
    return 0;
}

} // extern "C"
