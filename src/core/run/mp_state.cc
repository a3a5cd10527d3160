// SPDX-License-Identifier: GPL-2.0-only
// Whether a vCPU runs, sleeps in HLT, or waits for another processor to start it: SDM Vol. 3A, 9.4,
// and KVM's names for it. Only vCPUs with their APIC in the kernel sleep here.
#include <minivmx/lapic.hpp>
#include <minivmx/run.hpp>
#include <minivmx/segment.hpp>
#include <minivmx/state.hpp>

namespace minivmx {

namespace {

bool is_halted(const vcpu_vmx &vmx)
{
    return vmx.mp_state == KVM_MP_STATE_HALTED || vmx.mp_state == KVM_MP_STATE_AP_RESET_HOLD;
}

// SDM Vol. 3A, 10.1.1, table 10-1, column INIT: as after RESET, but for the caches' bits of CR0,
// the FPU and most MSRs.
void reset_by_init(vcpu_vmx &vmx)
{
    lapic_reset(vmx, true);
    reset_guest_state(vmx, true);
    vmx.triple_fault = false;
    vmx.pending.kind = PendingIo::kNone;
    end_native_step(vmx);
    vmx.pending_intercept = {};
    forget_guest_translations(vmx);
}

// SDM Vol. 3A, 9.4.4.2: the vector is the number of the page where real mode starts.
void start_at(vcpu_vmx &vmx, u8 vector)
{
    kvm_segment cs;
    read_segment(vmx, kCs, cs);
    cs.selector = static_cast<u16>(vector << 8);
    cs.base = u64{vector} << 12;
    write_segment(vmx, kCs, cs);
    write_rip(vmx, 0);
}

bool may_wake(vcpu_vmx &vmx)
{
    if (__atomic_load_n(&vmx.apic->events, __ATOMIC_ACQUIRE))
        return true;
    if (!is_halted(vmx))
        return vmx.mp_state == KVM_MP_STATE_RUNNABLE;
    if (vmx.triple_fault || vmx.exception.pending || vmx.nmi_injected || vmx.interrupt.pending)
        return true;
    if (vmx.wakes_for_nmi &&
        (vmx.nmi_pending || __atomic_load_n(&vmx.area->nmi_pending, __ATOMIC_RELAXED)))
        return true;
    return vmx.wakes_for_interrupt && next_interrupt(vmx) != kNoInterrupt;
}

// What wakes it can't change while it sleeps, and whether it sleeps is looked at where the VMCS
// can't be read.
void note_what_wakes(vcpu_vmx &vmx)
{
    const EventsAllowed allowed = is_halted(vmx) ? events_allowed(vmx) : EventsAllowed{};
    vmx.wakes_for_interrupt = allowed.interrupt;
    vmx.wakes_for_nmi = allowed.nmi;
}

// Whether the vCPU may wake; no: a signal has come.
bool sleep(vcpu_vmx &vmx)
{
    lapic_timer_to_host(*vmx.apic);
    vmx.stats.halts++;
    const bool runnable = host_vcpu_block(vmx.host);
    lapic_timer_to_guest(*vmx.apic);
    return runnable;
}

} // namespace

void accept_init_and_sipi(vcpu_vmx &vmx)
{
    Lapic &apic = *vmx.apic;
    if (!__atomic_load_n(&apic.events, __ATOMIC_RELAXED))
        return;
    host_let_sleep(vmx.host);
    const u32 events = __atomic_exchange_n(&apic.events, 0, __ATOMIC_ACQUIRE);
    if (events & kApicEventInit) {
        reset_by_init(vmx);
        // SDM Vol. 3A, 9.4.2: the bootstrap processor goes on at the reset vector.
        const bool bootstrap = (vmx.apic_base & kApicBaseBootstrap) != 0;
        vmx.mp_state = bootstrap ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_INIT_RECEIVED;
    }
    // One that comes while the processor doesn't wait for it is lost.
    if (events & kApicEventSipi && vmx.mp_state == KVM_MP_STATE_INIT_RECEIVED) {
        start_at(vmx, __atomic_load_n(&apic.sipi_vector, __ATOMIC_RELAXED));
        vmx.mp_state = KVM_MP_STATE_RUNNABLE;
    }
}

void wait_until_runnable(vcpu_vmx &vmx)
{
    note_what_wakes(vmx);
    if (!may_wake(vmx) && !sleep(vmx))
        return;
    accept_init_and_sipi(vmx);
    if (is_halted(vmx))
        vmx.mp_state = KVM_MP_STATE_RUNNABLE;
    vmx.apic->attention = true;
}

Outcome wait_for_init(vcpu_vmx &vmx)
{
    if (vmx.area->run->immediate_exit)
        return Outcome::error(-EINTR);
    note_what_wakes(vmx);
    if (!may_wake(vmx))
        (void)sleep(vmx);
    accept_init_and_sipi(vmx);
    const int interrupted = host_handle_pending_work(vmx.host);
    if (interrupted == -EINTR)
        vmx.area->run->exit_reason = KVM_EXIT_INTR;
    // Even when it may run now: user space shall come back with it, as with KVM.
    return Outcome::error(interrupted ? interrupted : -EAGAIN);
}

Outcome handle_halt(vcpu_vmx &vmx)
{
    skip_emulated_instruction(vmx);
    if (vmx.has_apic) {
        // A debug exception ends HLT (SDM Vol. 2A, HLT), and one is pending with TF.
        if (!(read_rflags(vmx) & X86_EFLAGS_TF))
            vmx.mp_state = KVM_MP_STATE_HALTED;
        return Outcome::resume();
    }
    vmx.area->run->exit_reason = KVM_EXIT_HLT;
    return Outcome::to_user();
}

} // namespace minivmx

using namespace minivmx;

extern "C" {

bool core_vcpu_runnable(core_vcpu *vcpu)
{
    vcpu_vmx &vmx = to_vmx(vcpu);
    return may_wake(vmx) ||
           __atomic_load_n(&vmx.area->requests, __ATOMIC_RELAXED) & VCPU_REQUEST_VM_DEAD;
}

int core_get_mp_state(core_vcpu *vcpu, host_u32 *state)
{
    vcpu_vmx &vmx = to_vmx(vcpu);
    if (vmx.apic)
        accept_init_and_sipi(vmx);
    *state = vmx.mp_state;
    return 0;
}

int core_set_mp_state(core_vcpu *vcpu, host_u32 state)
{
    vcpu_vmx &vmx = to_vmx(vcpu);
    switch (state) {
    case KVM_MP_STATE_RUNNABLE:
        break;
    case KVM_MP_STATE_UNINITIALIZED:
    case KVM_MP_STATE_INIT_RECEIVED:
    case KVM_MP_STATE_HALTED:
    case KVM_MP_STATE_SIPI_RECEIVED:
    case KVM_MP_STATE_AP_RESET_HOLD:
        if (!vmx.has_apic)
            return -EINVAL;
        break;
    default:
        return -EINVAL;
    }
    vmx.mp_state = state;
    if (state == KVM_MP_STATE_SIPI_RECEIVED) {
        vmx.mp_state = KVM_MP_STATE_INIT_RECEIVED;
        __atomic_fetch_or(&vmx.apic->events, u32{kApicEventSipi}, __ATOMIC_RELEASE);
    }
    return 0;
}

} // extern "C"
