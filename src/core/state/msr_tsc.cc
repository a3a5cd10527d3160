// SPDX-License-Identifier: GPL-2.0-only
// The time-stamp counter: SDM Vol. 3B, 18.17, and for its virtualization Vol. 3C, 26.3.
#include "msr.hpp"

#include <minivmx/capabilities.hpp>
#include <minivmx/hardware.hpp>
#include <minivmx/host_guard.hpp>
#include <minivmx/lapic.hpp>
#include <minivmx/state.hpp>

namespace minivmx {

namespace {

// SDM Vol. 3C, 26.3: the multiplier is a fixed-point number with 48 bits of fraction.
constexpr unsigned kMultiplierShift = 48;
constexpr u64 kMultiplierOne = bit64(kMultiplierShift);
constexpr u64 kNsPerMillisecond = 1000000;

u64 scaled_tsc(const VcpuTime &time, u64 host_tsc)
{
    if (time.multiplier == kMultiplierOne)
        return host_tsc;
    return multiply_shift(host_tsc, time.multiplier, kMultiplierShift);
}

// guest_khz / host_khz. The quotient is made in two halves, since numerators of more than 64 bits
// can't be divided here.
u64 multiplier_for(u32 guest_khz, u32 host_khz)
{
    constexpr unsigned kHalf = kMultiplierShift / 2;
    const u64 high = u64{guest_khz % host_khz} << kHalf;
    const u64 low = high % host_khz << kHalf;
    return u64{guest_khz / host_khz} << kMultiplierShift | (high / host_khz) << kHalf |
           low / host_khz;
}

// Frequencies this close count as equal, as in KVM with its default tsc_tolerance_ppm: no two
// measurements of one CPU agree better.
bool about_equal(u32 a, u32 b)
{
    constexpr u64 kTolerancePpm = 250;
    const u64 difference = a > b ? a - b : b - a;
    return difference * 1000000 <= b * kTolerancePpm;
}

u64 ns_to_ticks(u64 ns, u32 khz)
{
    return ns / kNsPerMillisecond * khz + ns % kNsPerMillisecond * khz / kNsPerMillisecond;
}

void write_tsc_multiplier(vcpu_vmx &vmx)
{
    if (cpu_has_vmx_tsc_scaling(hardware.config))
        vmcs_write(TSC_MULTIPLIER, vmx.time.multiplier);
}

// Whether a write of `value` now means "the same as the last vCPU that was written": the VMM sets
// one vCPU after the other, and time goes on in between. Up to a second, as in KVM. A VMM that
// plugs in a vCPU writes 0.
bool continues_last_write(const VmTime &last, const VcpuTime &time, u64 value, u64 now_ns)
{
    if (last.write_khz != time.khz || !time.khz)
        return false;
    const u64 second = u64{time.khz} * 1000;
    const u64 expected = last.write_value + ns_to_ticks(now_ns - last.write_ns, time.khz);
    return value == 0 || (value < expected + second && value + second > expected);
}

} // namespace

u64 multiply_shift(u64 a, u64 b, unsigned shift)
{
    return static_cast<u64>(static_cast<unsigned __int128>(a) * b >> shift);
}

void write_tsc_offset(vcpu_vmx &vmx, u64 offset)
{
    write_tsc_multiplier(vmx);
    __atomic_store_n(&vmx.msrs.tsc_offset, offset, __ATOMIC_RELAXED);
    vmcs_write(TSC_OFFSET, offset);
    if (vmx.has_apic)
        lapic_tsc_changed(*vmx.apic);
    clock_changed(*vmx.kvm);
}

u64 guest_tsc_at(const vcpu_vmx &vmx, u64 host_tsc)
{
    return scaled_tsc(vmx.time, host_tsc) + vmx.msrs.tsc_offset;
}

u64 guest_tsc(const vcpu_vmx &vmx)
{
    return guest_tsc_at(vmx, arch::rdtsc());
}

Outcome handle_rdtsc(vcpu_vmx &vmx, bool with_processor_id)
{
    write_edx_eax(vmx, guest_tsc(vmx));
    if (with_processor_id)
        write_gpr(vmx, kRcx, static_cast<u32>(vmx.area->uret[URET_TSC_AUX]));
    skip_emulated_instruction(vmx);
    return Outcome::resume();
}

u64 guest_to_host_ticks(const vcpu_vmx &vmx, u64 ticks)
{
    const u32 guest = vmx.time.khz, host = hardware.info.tsc_khz;
    if (vmx.time.multiplier == kMultiplierOne || !guest)
        return ticks;
    return ticks / guest * host + ticks % guest * host / guest;
}

void start_guest_tsc(vcpu_vmx &vmx)
{
    const u32 khz = vmx.kvm->time.default_khz;
    vmx.time.multiplier = kMultiplierOne;
    vmx.time.khz = hardware.info.tsc_khz;
    if (khz)
        (void)set_tsc_khz(vmx, khz);
    synchronize_tsc(vmx, 0);
}

void synchronize_tsc(vcpu_vmx &vmx, u64 value)
{
    VmTime &time = vmx.kvm->time;
    host_clock now;
    host_clock_read(&now);
    u64 offset = value - scaled_tsc(vmx.time, arch::rdtsc());
    {
        const HostLockGuard guard(time.lock);
        if (continues_last_write(time, vmx.time, value, now.ns))
            offset = time.write_offset;
        else
            time.write_offset = offset;
        time.write_ns = now.ns;
        time.write_value = value;
        time.write_khz = vmx.time.khz;
    }
    write_tsc_offset(vmx, offset);
}

bool set_tsc_khz(vcpu_vmx &vmx, u32 khz)
{
    const u32 host = hardware.info.tsc_khz;
    const u32 wanted = khz ? khz : host;
    u64 multiplier = kMultiplierOne;
    if (host && !about_equal(wanted, host)) {
        // KVM lets the counter jump forward from time to time where the CPU can't scale; a counter
        // that isn't even is no counter.
        if (!cpu_has_vmx_tsc_scaling(hardware.config) || wanted >= max_tsc_khz())
            return false;
        multiplier = multiplier_for(wanted, host);
        if (!multiplier)
            return false;
    }
    vmx.time.khz = wanted;
    if (multiplier == vmx.time.multiplier)
        return true;
    // The counter goes on from where it is.
    const u64 now = arch::rdtsc(), value = guest_tsc_at(vmx, now);
    vmx.time.multiplier = multiplier;
    write_tsc_offset(vmx, value - scaled_tsc(vmx.time, now));
    return true;
}

u32 running_tsc_khz(const vcpu_vmx &vmx)
{
    return vmx.time.multiplier == kMultiplierOne ? hardware.info.tsc_khz : vmx.time.khz;
}

u64 max_tsc_khz()
{
    // What the 16 bits in front of the multiplier's fraction allow.
    const u64 limit = u64{hardware.info.tsc_khz} << 16;
    return limit < 0x7fffffff ? limit : 0x7fffffff;
}

void time_vcpu_put(vcpu_vmx &vmx)
{
    vmx.time.last_host_tsc = arch::rdtsc();
}

void time_vcpu_load(vcpu_vmx &vmx, bool moved)
{
    // The host's TSC was set back by a sleep of the machine, or this CPU's is behind the last
    // one's: the guest's never goes back.
    const u64 now = arch::rdtsc();
    const bool backwards = now < vmx.time.last_host_tsc;
    if (backwards) {
        const u64 by = scaled_tsc(vmx.time, vmx.time.last_host_tsc - now);
        vmx.msrs.tsc_offset += by;
        vmcs_write(TSC_OFFSET, vmx.msrs.tsc_offset);
        if (vmx.has_apic)
            lapic_host_tsc_went_back(*vmx.apic, vmx.time.last_host_tsc - now);
        vmx.time.last_host_tsc = now;
        __atomic_store_n(&vmx.kvm->time.valid, false, __ATOMIC_RELAXED);
    }
    // A request, since the page may have been written for this entry already.
    if ((moved || backwards) && vmx.time.system_time_msr)
        __atomic_fetch_or(&vmx.area->requests, u32{VCPU_REQUEST_CLOCK}, __ATOMIC_RELAXED);
}

bool read_tsc(vcpu_vmx &vmx, u32, u64 &value)
{
    value = guest_tsc(vmx);
    return true;
}

// SDM Vol. 3B, 18.17.3: a write to either MSR moves the other by as much.
bool write_tsc(vcpu_vmx &vmx, u32, u64 value)
{
    if (vmx.msr_access_by_host) {
        synchronize_tsc(vmx, value);
        return true;
    }
    const u64 by = value - guest_tsc(vmx);
    write_tsc_offset(vmx, vmx.msrs.tsc_offset + by);
    vmx.msrs.tsc_adjust += by;
    return true;
}

bool write_tsc_adjust(vcpu_vmx &vmx, u32, u64 value)
{
    if (!vmx.cpuid.has(CpuidFeature::kTscAdjust))
        return true; // KVM ignores it then
    // The VMM restores the TSC itself, too.
    if (!vmx.msr_access_by_host)
        write_tsc_offset(vmx, vmx.msrs.tsc_offset + value - vmx.msrs.tsc_adjust);
    vmx.msrs.tsc_adjust = value;
    return true;
}

} // namespace minivmx

using namespace minivmx;

extern "C" {

int core_set_tsc_khz(core_vcpu *vcpu, host_u32 khz)
{
    return set_tsc_khz(to_vmx(vcpu), khz) ? 0 : -EINVAL;
}

host_u32 core_get_tsc_khz(core_vcpu *vcpu)
{
    return to_vmx(vcpu).time.khz;
}

int core_vm_set_tsc_khz(core_vm *vm, host_u32 khz)
{
    kvm_vm &kvm = to_kvm(vm);
    const u32 host = hardware.info.tsc_khz, wanted = khz ? khz : host;
    const bool scales = cpu_has_vmx_tsc_scaling(hardware.config);
    if ((scales ? wanted >= max_tsc_khz() : !about_equal(wanted, host)))
        return -EINVAL;
    kvm.time.default_khz = wanted;
    return 0;
}

host_u32 core_vm_get_tsc_khz(const core_vm *vm)
{
    const u32 khz = static_cast<const kvm_vm &>(*vm).time.default_khz;
    return khz ? khz : hardware.info.tsc_khz;
}

} // extern "C"
