// SPDX-License-Identifier: GPL-2.0-only
// KVM_RUN: the loop around the guest, events on their way in, and the handlers of its exits. One
// thread, which holds the vCPU's mutex and has it loaded; everything may sleep unless it says
// otherwise.
#pragma once

#include <minivmx/outcome.hpp>
#include <minivmx/vcpu.hpp>

namespace minivmx {

// ----- Events (src/core/run/events.cc) -----------------------------------------------------------

// Puts what waits for the guest into the VMCS's entry fields, or opens the window that tells when
// it can go in.
void inject_pending_events(vcpu_vmx &vmx);
// What the last exit interrupted in the middle of its delivery goes back into the queues. Reads the
// VMCS only if something was. [irqs on or off]
void complete_interrupted_events(vcpu_vmx &vmx);
// Nothing was interrupted: what was injected has been delivered.
inline void events_delivered(vcpu_vmx &vmx)
{
    vmx.exception.pending = false;
    vmx.interrupt.pending = false;
    vmx.nmi_injected = false;
}
// What was being delivered when another exception, which is to be queued next, was raised: an
// exception and that one may make a double fault, which is queue_exception()'s to see. An NMI is
// delivered later; an interrupt's delivery ends here, since it was taken from its controller, and
// INT n will be executed again.
void give_way_to_exception(vcpu_vmx &vmx);
// The entry that inject_pending_events() prepared doesn't take place.
void cancel_injection(vcpu_vmx &vmx);
// Whether an external interrupt could be delivered at the next instruction boundary.
bool interrupt_allowed(vcpu_vmx &vmx);
bool nmi_allowed(vcpu_vmx &vmx);
// Both.
struct EventsAllowed {
    bool interrupt, nmi;
};
EventsAllowed events_allowed(vcpu_vmx &vmx);
// NMIs are blocked since one is being handled.
bool nmis_masked(vcpu_vmx &vmx);
void set_nmis_masked(vcpu_vmx &vmx, bool masked);
// The exit's access was the IRET's own, which had unblocked NMIs already: SDM Vol. 3C, 28.2.3. For
// exits whose qualification tells of it.
void recover_nmi_blocking_of_access(vcpu_vmx &vmx);
// NMIs that other threads sent are the vCPU's now.
void take_nmis(vcpu_vmx &vmx);
// KVM's ready_for_interrupt_injection.
bool ready_for_interrupt_injection(vcpu_vmx &vmx);
// Whether user space wants KVM_EXIT_IRQ_WINDOW_OPEN as soon as that is so.
bool irq_window_requested(const vcpu_vmx &vmx);

// ----- Sleeping and starting (src/core/run/mp_state.cc) ------------------------------------------

// INIT and SIPI that have arrived. A vCPU with an APIC in the kernel.
void accept_init_and_sipi(vcpu_vmx &vmx);
// Sleeps while mp_state says so; returns when the vCPU is runnable or a signal waits. [sleep]
void wait_until_runnable(vcpu_vmx &vmx);
// KVM_RUN of a vCPU that nobody has started yet. [sleep]
Outcome wait_for_init(vcpu_vmx &vmx);
Outcome handle_halt(vcpu_vmx &vmx);

// ----- Exits -------------------------------------------------------------------------------------

// Exits that are answered with interrupts off and the guest's state in the CPU, between two entries
// (src/core/run/fast_exits.cc). [irqoff]
enum class AtOnce : u8 {
    kNotAnswered, // nothing was done, the exit goes the ordinary way
    kAnswered,    // but there is something else to be done before the next entry
    kGuestGoesOn,
};
// For as long as KVM_RUN doesn't leave these functions.
bool may_answer_at_once(const vcpu_vmx &vmx);
AtOnce answer_at_once(vcpu_vmx &vmx);
// After an answer: injects what it brought. False: somebody else wants something of the vCPU.
bool may_enter_again(vcpu_vmx &vmx);
// How often in a row: an interrupt that waits for the host ends a run of the guest in any case, but
// not under emulators that take the guest's RFLAGS.IF for the host's.
inline constexpr u32 kMostAnsweredAtOnce = 128;

// Dispatches the last exit to its handler (src/core/run/exit_dispatch.cc).
Outcome vmx_handle_exit(vcpu_vmx &vmx);
// The same without asking the client about intercepts.
Outcome dispatch_exit(vcpu_vmx &vmx);

// The rest of src/core/run; each handles one exit reason or family.
Outcome handle_exception_nmi(vcpu_vmx &vmx);
Outcome handle_pause(vcpu_vmx &vmx);
Outcome handle_rdpmc(vcpu_vmx &vmx);
// #DB with what DR6 shall tell; without the VMCS, which has no place for that.
void inject_debug_exception(vcpu_vmx &vmx, u64 payload);
void apply_debug_payload(vcpu_vmx &vmx, u64 payload);
Outcome handle_dr(vcpu_vmx &vmx);
// MOV DR itself.
Outcome access_debug_register(vcpu_vmx &vmx, const DrAccessInfo &access);
// [irqoff or not]
Outcome handle_vmcall(vcpu_vmx &vmx);
Outcome handle_interrupt_window(vcpu_vmx &vmx);
Outcome handle_tpr_below_threshold(vcpu_vmx &vmx);
Outcome handle_preemption_timer(vcpu_vmx &vmx);
Outcome handle_as_nop(vcpu_vmx &vmx);
// After an exit with the guest's debug registers in place: they are the vCPU's again, and MOV DR
// exits again.
void sync_dirty_debug_regs(vcpu_vmx &vmx);
// dr7 changed: whether its breakpoints must be loaded at each entry.
void update_dr7(vcpu_vmx &vmx);

// KVM_EXIT_INTERNAL_ERROR with KVM's layout of the data words.
Outcome internal_error(vcpu_vmx &vmx, u32 suberror, Span<const u64> data);

// ----- KVM_SET_GUEST_DEBUG (src/core/run/guest_debug.cc)
// ------------------------------------------

// KVM_EXIT_DEBUG for this exception, where the vCPU is.
Outcome debug_exit(vcpu_vmx &vmx, u8 vector, u64 dr6);
inline bool single_steps(const vcpu_vmx &vmx)
{
    return (vmx.debug.control & KVM_GUESTDBG_SINGLESTEP) != 0;
}
inline bool user_space_has_breakpoints(const vcpu_vmx &vmx)
{
    return (vmx.debug.control & KVM_GUESTDBG_USE_HW_BP) != 0;
}

} // namespace minivmx
