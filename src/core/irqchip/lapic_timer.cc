// SPDX-License-Identifier: GPL-2.0-only
// The local APIC's timer: SDM Vol. 3A, 11.5.4. Its bus clock ticks once a nanosecond, as KVM's.
//
// It runs on a timer of the host. While the vCPU's thread runs, the VMX-preemption timer (SDM Vol.
// 3C, 26.5.1) may take its place, where the CPU has a good one: it costs no interrupt of the host.
// A vCPU that sleeps needs the host's timer again.
#include "lapic_detail.hpp"

#include <minivmx/control_shadow.hpp>
#include <minivmx/hardware.hpp>
#include <minivmx/state.hpp>

namespace minivmx {

namespace {

constexpr u64 kNsPerMs = 1'000'000;
// A periodic timer of a guest must not keep the host busy: KVM's limit.
constexpr u64 kMinPeriodNs = 200'000;

// a * b / c for what fits into 64 bits, without a wider product.
u64 multiply_divide(u64 a, u64 b, u64 c)
{
    return a / c * b + a % c * b / c;
}

u64 tsc_to_ns(u64 ticks)
{
    constexpr u64 kNever = bit64(62); // a century, and no sum with the time of day overflows
    const u64 khz = hardware.host.tsc_khz ? hardware.host.tsc_khz : 1;
    return ticks / khz >= kNever / kNsPerMs ? kNever : multiply_divide(ticks, kNsPerMs, khz);
}

u64 ns_to_tsc(u64 ns)
{
    return multiply_divide(ns, hardware.host.tsc_khz, kNsPerMs);
}

// What the host's TSC will show when the guest's shows `deadline`, or 0 when that has come.
u64 host_tsc_until(const vcpu_vmx &vmx, u64 deadline)
{
    const u64 now = guest_tsc(vmx);
    return deadline > now ? guest_to_host_ticks(vmx, deadline - now) : 0;
}

void timer_event(Lapic &apic, bool kick)
{
    lapic_local_event(apic, kApicLvtTimer, kick);
}

// The next time a periodic timer reaches 0; times that were missed are lost, as their interrupts
// would be.
void advance_target(Lapic &apic, u64 now)
{
    u64 target = apic.target_ns + apic.period_ns;
    if (target <= now)
        target += (now - target) / apic.period_ns * apic.period_ns + apic.period_ns;
    __atomic_store_n(&apic.target_ns, target, __ATOMIC_RELAXED);
}

// The count reached 0. Whoever calls this is the only one who does at this time: the host's timer,
// or the vCPU's thread when that is off.
void timer_expired(Lapic &apic, bool kick)
{
    if (apic.timer_mode == ApicTimerMode::kTscDeadline)
        __atomic_store_n(&apic.tsc_deadline, 0, __ATOMIC_RELAXED);
    else if (apic.timer_mode == ApicTimerMode::kPeriodic)
        advance_target(apic, host_time_ns());
    else
        __atomic_store_n(&apic.expired, true, __ATOMIC_RELAXED);
    timer_event(apic, kick);
}

// [irqoff] In the host's timer interrupt.
void host_timer_fired(void *argument)
{
    Lapic &apic = *static_cast<Lapic *>(argument);
    timer_expired(apic, true);
    if (apic.timer_mode == ApicTimerMode::kPeriodic)
        host_timer_start(apic.timer, apic.target_ns);
}

bool use_preemption_timer(const vcpu_vmx &vmx)
{
    // MWAIT in the guest stops the CPU, and the timer with it.
    return pin_controls_get(vmx.vmcs01) & PIN_BASED_VMX_PREEMPTION_TIMER &&
           !vmx.kvm->mwait_in_guest && hardware.host.tsc_khz != 0;
}

// Starts the VMX-preemption timer for that many ticks of the host's TSC. False: it can't count so
// far, or isn't there.
bool start_preemption_timer(Lapic &apic, u64 ticks)
{
    if (!use_preemption_timer(*apic.vcpu) || ticks >> hardware.preemption_timer_shift >= ~0u)
        return false;
    apic.hv_deadline = arch::rdtsc() + ticks;
    return true;
}

void arm(Lapic &apic, bool may_use_preemption_timer)
{
    apic.hv_deadline = 0;
    if (apic.timer_mode == ApicTimerMode::kTscDeadline) {
        const u64 ticks = host_tsc_until(*apic.vcpu, apic.tsc_deadline);
        if (ticks == 0) {
            timer_expired(apic, false);
            return;
        }
        if (may_use_preemption_timer && start_preemption_timer(apic, ticks))
            return;
        apic.target_ns = host_time_ns() + tsc_to_ns(ticks);
    } else if (may_use_preemption_timer) {
        const u64 now = host_time_ns();
        const u64 left = apic.target_ns > now ? apic.target_ns - now : 0;
        if (start_preemption_timer(apic, ns_to_tsc(left)))
            return;
    }
    host_timer_start(apic.timer, apic.target_ns);
}

// Whether its interrupt is still to come. The time alone doesn't tell: the host's timer may be
// late.
bool is_counting(const Lapic &apic)
{
    return apic.timer_mode == ApicTimerMode::kTscDeadline ? apic.tsc_deadline != 0
                                                          : apic.period_ns != 0 && !apic.expired;
}

u64 period_of(const Lapic &apic, u64 count)
{
    const u64 period = count * apic.divide;
    return apic.timer_mode == ApicTimerMode::kPeriodic && period && period < kMinPeriodNs
               ? kMinPeriodNs
               : period;
}

ApicTimerMode timer_mode_of(u32 lvt)
{
    switch (lvt & kLvtTimerMode) {
    case kLvtTscDeadline:
        return ApicTimerMode::kTscDeadline;
    case kLvtPeriodic:
        return ApicTimerMode::kPeriodic;
    default:
        return ApicTimerMode::kOneShot;
    }
}

// SDM Vol. 3A, 11.5.4, figure 11-10: bits 3, 1 and 0.
u32 divide_of(u32 value)
{
    const u32 code = (value & 3) | (value >> 1 & 4);
    return 1u << ((code + 1) & 7);
}

} // namespace

int lapic_timer_create(Lapic &apic)
{
    apic.timer = host_timer_create(host_timer_fired, &apic);
    return apic.timer ? 0 : -ENOMEM;
}

void lapic_timer_stop(Lapic &apic)
{
    host_timer_cancel(apic.timer);
    apic.hv_deadline = 0;
    apic.period_ns = 0;
    apic.expired = false;
}

void lapic_timer_start(Lapic &apic)
{
    if (apic.timer_mode != ApicTimerMode::kTscDeadline) {
        apic.period_ns = period_of(apic, apic_register(apic, kApicInitialCount));
        apic.target_ns = host_time_ns() + apic.period_ns;
        apic.expired = false;
    }
    if (is_counting(apic))
        arm(apic, true);
}

void lapic_timer_restore(Lapic &apic, u32 current_count)
{
    lapic_timer_stop(apic);
    apic.timer_mode = timer_mode_of(apic_register(apic, kApicLvtTimer));
    apic.divide = divide_of(apic_register(apic, kApicDivide));
    if (apic.timer_mode == ApicTimerMode::kTscDeadline) {
        lapic_timer_start(apic); // with the MSR's value, whichever of the two comes first
        return;
    }
    __atomic_store_n(&apic.tsc_deadline, 0, __ATOMIC_RELAXED);
    const u32 initial = apic_register(apic, kApicInitialCount);
    const u64 period = period_of(apic, initial);
    if (!period)
        return;
    u64 left = u64{current_count} * apic.divide;
    // A one-shot timer that has expired stays so; one that never counted down starts now.
    if (apic.timer_mode == ApicTimerMode::kOneShot && !left)
        return;
    if (!left || left > period)
        left = period;
    apic.period_ns = period;
    apic.target_ns = host_time_ns() + left;
    arm(apic, true);
}

void lapic_timer_lvt_changed(Lapic &apic)
{
    const ApicTimerMode mode = timer_mode_of(apic_register(apic, kApicLvtTimer));
    if (mode == apic.timer_mode)
        return;
    const bool deadline =
        mode == ApicTimerMode::kTscDeadline || apic.timer_mode == ApicTimerMode::kTscDeadline;
    host_timer_cancel(apic.timer);
    apic.hv_deadline = 0;
    apic.timer_mode = mode;
    if (deadline) {
        // SDM Vol. 3A, 11.5.4.1: into or out of TSC-deadline mode disarms the timer.
        apic.period_ns = 0;
        apic.tsc_deadline = 0;
        set_apic_register(apic, kApicInitialCount, 0);
        return;
    }
    // One-shot or periodic: the count goes on, unless it has reached 0. A period has a lower limit.
    if (is_counting(apic)) {
        apic.period_ns = period_of(apic, apic_register(apic, kApicInitialCount));
        arm(apic, true);
    } else {
        apic.period_ns = 0;
    }
    apic.expired = false;
}

void lapic_timer_divide_changed(Lapic &apic)
{
    const u32 divide = divide_of(apic_register(apic, kApicDivide));
    if (divide == apic.divide)
        return;
    if (apic.timer_mode != ApicTimerMode::kTscDeadline)
        host_timer_cancel(apic.timer);
    const bool counts = apic.timer_mode != ApicTimerMode::kTscDeadline && is_counting(apic);
    const u32 left = lapic_current_count(apic);
    apic.divide = divide;
    if (!counts)
        return;
    // The count stays; it goes down at the new pace.
    apic.period_ns = period_of(apic, apic_register(apic, kApicInitialCount));
    apic.target_ns = host_time_ns() + u64{left} * divide;
    arm(apic, true);
}

u32 lapic_current_count(const Lapic &apic)
{
    if (apic.timer_mode == ApicTimerMode::kTscDeadline || !apic.period_ns)
        return 0;
    const u64 target = __atomic_load_n(&apic.target_ns, __ATOMIC_RELAXED), now = host_time_ns();
    // A client that saves the count must not take an interrupt that is late, or will come in less
    // than a count, for one that has come.
    if (target > now) {
        const u64 left = (target - now) / apic.divide;
        return left ? static_cast<u32>(left) : 1;
    }
    if (apic.timer_mode == ApicTimerMode::kOneShot)
        return __atomic_load_n(&apic.expired, __ATOMIC_RELAXED) ? 0 : 1;
    const u64 since = (now - target) % apic.period_ns; // its interrupt is on its way
    return static_cast<u32>((apic.period_ns - since) / apic.divide);
}

u64 lapic_tsc_deadline(const vcpu_vmx &vmx)
{
    const Lapic *apic = vmx.apic;
    if (!apic || apic->timer_mode != ApicTimerMode::kTscDeadline)
        return 0;
    return __atomic_load_n(&apic->tsc_deadline, __ATOMIC_RELAXED);
}

void lapic_write_tsc_deadline(vcpu_vmx &vmx, u64 value)
{
    Lapic *apic = vmx.apic;
    if (!apic || apic_mode(*apic) == ApicMode::kDisabled ||
        apic->timer_mode != ApicTimerMode::kTscDeadline)
        return;
    host_timer_cancel(apic->timer);
    apic->hv_deadline = 0;
    apic->tsc_deadline = value;
    if (value)
        arm(*apic, true);
}

void lapic_tsc_changed(Lapic &apic)
{
    if (apic.timer_mode != ApicTimerMode::kTscDeadline)
        return;
    host_timer_cancel(apic.timer);
    if (is_counting(apic))
        arm(apic, true);
}

void lapic_host_tsc_went_back(Lapic &apic, u64 ticks)
{
    if (apic.hv_deadline)
        apic.hv_deadline = apic.hv_deadline > ticks ? apic.hv_deadline - ticks : 1;
}

void lapic_program_preemption_timer(vcpu_vmx &vmx)
{
    const u64 deadline = vmx.apic->hv_deadline;
    u32 value = ~0u; // as far away as it goes
    if (deadline) {
        const u64 now = arch::rdtsc();
        const u64 ticks = deadline > now ? deadline - now : 0;
        value = static_cast<u32>(ticks >> hardware.preemption_timer_shift);
    } else if (vmx.apic->hv_value == value) {
        return;
    }
    vmcs_write(VMX_PREEMPTION_TIMER_VALUE, value);
    vmx.apic->hv_value = value;
}

void lapic_preemption_timer_expired(vcpu_vmx &vmx)
{
    Lapic &apic = *vmx.apic;
    if (!apic.hv_deadline)
        return; // the longest countdown there is
    apic.hv_deadline = 0;
    timer_expired(apic, false);
    if (apic.timer_mode == ApicTimerMode::kPeriodic)
        arm(apic, true);
}

void lapic_poll_preemption_timer(vcpu_vmx &vmx)
{
    const u64 deadline = vmx.apic->hv_deadline;
    if (deadline && arch::rdtsc() >= deadline)
        lapic_preemption_timer_expired(vmx);
}

void lapic_timer_to_host(Lapic &apic)
{
    if (apic.hv_deadline)
        arm(apic, false);
}

void lapic_timer_to_guest(Lapic &apic)
{
    if (apic.hv_deadline || !use_preemption_timer(*apic.vcpu) || !is_counting(apic))
        return;
    host_timer_cancel(apic.timer);
    if (is_counting(apic)) // it may have fired meanwhile
        arm(apic, true);
}

} // namespace minivmx
