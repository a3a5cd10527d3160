// SPDX-License-Identifier: GPL-2.0-only
// Exceptions, NMIs and interrupts on their way into the guest. SDM Vol. 3C, 27.6 "Event Injection",
// and 28.2.4 "Information for VM Exits During Event Delivery".
#include <minivmx/capabilities.hpp>
#include <minivmx/control_shadow.hpp>
#include <minivmx/event_delivery.hpp>
#include <minivmx/lapic.hpp>
#include <minivmx/real_mode.hpp>
#include <minivmx/run.hpp>
#include <minivmx/vmcs_setup.hpp>

namespace minivmx {

namespace {

// SDM Vol. 3A, 6.15, "Interrupt 8": two contributory exceptions, or a page fault and then either
// kind, make a double fault.
enum class FaultClass : u8 { kBenign, kContributory, kPageFault };

FaultClass fault_class(u8 vector)
{
    switch (vector) {
    case PF_VECTOR:
        return FaultClass::kPageFault;
    case DE_VECTOR:
    case TS_VECTOR:
    case NP_VECTOR:
    case SS_VECTOR:
    case GP_VECTOR:
        return FaultClass::kContributory;
    default:
        return FaultClass::kBenign;
    }
}

bool makes_double_fault(u8 first, u8 second)
{
    const FaultClass a = fault_class(first), b = fault_class(second);
    return (a == FaultClass::kContributory && b == FaultClass::kContributory) ||
           (a == FaultClass::kPageFault && b != FaultClass::kBenign);
}

// Faults report the instruction that caused them; #BP and #OF are traps, #DB either, #DF and #MC
// aborts. SDM Vol. 3A, 6.5, and table 6-1.
bool is_fault(u8 vector)
{
    const u32 others = bit32(DB_VECTOR) | bit32(BP_VECTOR) | bit32(OF_VECTOR) | bit32(DF_VECTOR) |
                       bit32(MC_VECTOR);
    return !(others >> vector & 1);
}

void queue(vcpu_vmx &vmx, u8 vector, bool has_error_code, u32 error_code)
{
    ExceptionQueue &queued = vmx.exception;
    if (queued.pending && queued.vector == DF_VECTOR) {
        // An exception while a double fault is delivered: the CPU shuts down.
        queued = {};
        vmx.triple_fault = true;
        return;
    }
    if (queued.pending && makes_double_fault(queued.vector, vector)) {
        queued = {.pending = true,
                  .vector = DF_VECTOR,
                  .has_error_code = true,
                  .reinject = false,
                  .soft = false,
                  .error_code = 0,
                  .has_payload = false,
                  .payload = 0};
        return;
    }
    queued = {.pending = true,
              .vector = vector,
              .has_error_code = has_error_code,
              .reinject = false,
              .soft = false,
              .error_code = error_code,
              .has_payload = false,
              .payload = 0};
}

void block_nmis_in_software(vcpu_vmx &vmx, bool blocked)
{
    if (blocked && !vmx.nmi_blocked_soft)
        vmx.nmi_blocked_since_ns = host_time_ns();
    vmx.nmi_blocked_soft = blocked;
}

// Without virtual NMIs the end of the guest's handler can only be guessed: interrupts are open
// again, or another NMI has waited for longer than any handler takes.
void guess_end_of_nmi(vcpu_vmx &vmx)
{
    constexpr u64 kLongestHandlerNs = 1'000'000'000;
    if (!vmx.nmi_blocked_soft)
        return;
    if (interrupt_allowed(vmx) ||
        (vmx.nmi_pending && host_time_ns() - vmx.nmi_blocked_since_ns > kLongestHandlerNs))
        vmx.nmi_blocked_soft = false;
}

// A guest that executed HLT without exiting (hlt_in_guest) sits in activity state HLT, out of which
// only some events may be injected (SDM Vol. 3C, 27.3.1.5): it is active again with any.
void leave_halt(const vcpu_vmx &vmx)
{
    constexpr u32 kActive = 0, kHlt = 1;
    if (vmx.kvm->hlt_in_guest && vmcs_read(GUEST_ACTIVITY_STATE) == kHlt)
        vmcs_write(GUEST_ACTIVITY_STATE, kActive);
}

// What VM entry would do. Of exceptions deliver_event() keeps the queue; one that an interrupt's
// delivery raises takes its place.
void deliver_by_software(vcpu_vmx &vmx, u32 information)
{
    const u32 type = information & INTR_INFO_TYPE_MASK;
    const Delivered delivered =
        deliver_event(vmx, {.type = type,
                            .vector = static_cast<u8>(information & INTR_INFO_VECTOR_MASK),
                            .has_error_code = (information & INTR_INFO_HAS_ERROR_CODE) != 0,
                            .error_code = vmx.exception.error_code,
                            .instruction_length = vmx.event_instruction_length});
    if (delivered == Delivered::kNotMemory)
        vmx.undeliverable = information | INTR_INFO_VALID;
    else if (type == INTR_TYPE_NMI)
        vmx.nmi_injected = false;
    else if (type == INTR_TYPE_EXT_INTR || type == INTR_TYPE_SOFT_INTR)
        vmx.interrupt.pending = false;
}

void write_entry_event(vcpu_vmx &vmx, u32 information)
{
    count_injection(vmx.stats, information, 1);
    if (delivers_by_software(vmx)) [[unlikely]] {
        deliver_by_software(vmx, information);
        return;
    }
    vmcs_write(VM_ENTRY_INTR_INFO_FIELD, information | INTR_INFO_VALID);
    leave_halt(vmx);
}

void inject_exception(vcpu_vmx &vmx)
{
    ExceptionQueue &queued = vmx.exception;
    // A fault's return address is the faulting instruction's, with RF set: SDM Vol. 3B, 18.3.1.1. A
    // reinjected one has it set already.
    if (!queued.reinject && is_fault(queued.vector))
        write_rflags(vmx, read_rflags(vmx) | X86_EFLAGS_RF);

    if (queued.has_payload && queued.vector == DB_VECTOR)
        apply_debug_payload(vmx, queued.payload);
    else if (queued.has_payload && queued.vector == PF_VECTOR)
        vmx.area->cr2 = queued.payload;
    queued.has_payload = false;

    // Should the entry not take place, what was done above isn't done again, and KVM_SET_REGS
    // doesn't take it back.
    queued.reinject = true;

    u32 information = queued.vector;
    // In real-address mode exceptions push no error code: SDM Vol. 3C, 27.2.1.3.
    if (queued.has_error_code && is_protmode(vmx)) {
        vmcs_write(VM_ENTRY_EXCEPTION_ERROR_CODE, queued.error_code);
        information |= INTR_INFO_HAS_ERROR_CODE;
    }
    if (queued.soft) {
        vmcs_write(VM_ENTRY_INSTRUCTION_LEN, vmx.event_instruction_length);
        information |= INTR_TYPE_SOFT_EXCEPTION;
    } else {
        information |= INTR_TYPE_HARD_EXCEPTION;
    }
    write_entry_event(vmx, information);
}

void inject_interrupt(vcpu_vmx &vmx)
{
    u32 information = vmx.interrupt.vector;
    if (vmx.interrupt.soft) {
        vmcs_write(VM_ENTRY_INSTRUCTION_LEN, vmx.event_instruction_length);
        information |= INTR_TYPE_SOFT_INTR;
    } else {
        information |= INTR_TYPE_EXT_INTR;
    }
    write_entry_event(vmx, information);
}

void inject_nmi(vcpu_vmx &vmx)
{
    if (!hardware.params.vnmi)
        block_nmis_in_software(vmx, true);
    write_entry_event(vmx, INTR_TYPE_NMI | NMI_VECTOR);
}

void enable_irq_window(vcpu_vmx &vmx)
{
    exec_controls_setbit<CPU_BASED_INTR_WINDOW_EXITING>(vmx.vmcs01);
}

void enable_nmi_window(vcpu_vmx &vmx)
{
    // An NMI window opens although STI still blocks, and VM entry with both may be refused: wait
    // for the end of the shadow.
    if (!hardware.params.vnmi || read_interruptibility(vmx) & GUEST_INTR_STATE_STI)
        enable_irq_window(vmx);
    else
        exec_controls_setbit<CPU_BASED_NMI_WINDOW_EXITING>(vmx.vmcs01);
}

// At most one event enters at a time. What an exit interrupted comes first, then exceptions, which
// belong to the instruction before everything else: SDM Vol. 3A, 6.9.
bool inject_one(vcpu_vmx &vmx)
{
    if (vmx.exception.pending) {
        inject_exception(vmx);
        return true;
    }
    if (vmx.nmi_injected) {
        inject_nmi(vmx);
        return true;
    }
    if (vmx.interrupt.pending) {
        inject_interrupt(vmx);
        return true;
    }
    return false;
}

// A debugger that steps doesn't want to end up in a handler. No window is opened for what is held
// back either: with RFLAGS.IF set it would exit before each instruction. KVM_RUN looks again. The
// one instruction that a client lets happen comes before any event, too.
bool holds_interrupts(const vcpu_vmx &vmx)
{
    return (vmx.debug.control & KVM_GUESTDBG_BLOCKIRQ) != 0 ||
           vmx.pending_intercept.kind == InterceptWait::kNativeStep;
}

// SDM Vol. 3A, 6.9: external interrupts come last. Looks at the controllers only when something may
// have changed there; what can't go in yet comes with the interrupt window, or when TPR or ISR let
// it pass, each of which exits.
void inject_from_controllers(vcpu_vmx &vmx, bool entering)
{
    vmx.apic->attention = false;
    int next = holds_interrupts(vmx) ? kNoInterrupt : next_interrupt(vmx);
    if (next != kNoInterrupt && !entering && interrupt_allowed(vmx)) {
        const int vector = take_interrupt(vmx, next);
        if (vector >= 0) {
            vmx.interrupt = {.pending = true, .soft = false, .vector = static_cast<u8>(vector)};
            inject_interrupt(vmx);
        }
        next = next_interrupt_after(vmx, next);
    }
    if (next != kNoInterrupt)
        enable_irq_window(vmx);
    lapic_update_tpr_threshold(vmx);
    if (vmx.apic->vapic_gpa) [[unlikely]] {
        host_let_sleep(vmx.host);
        lapic_sync_to_vapic(vmx);
    }
}

void requeue(vcpu_vmx &vmx, u32 information, u32 instruction_length, u32 error_code)
{
    const u8 vector = static_cast<u8>(information & INTR_INFO_VECTOR_MASK);
    switch (information & INTR_INFO_TYPE_MASK) {
    case INTR_TYPE_NMI:
        vmx.nmi_injected = true;
        // Its delivery did not complete, so it blocks nothing: SDM Vol. 3C, 28.2.4, note on NMI.
        set_nmis_masked(vmx, false);
        break;
    case INTR_TYPE_SOFT_EXCEPTION:
    case INTR_TYPE_PRIV_SW_EXCEPTION:
    case INTR_TYPE_HARD_EXCEPTION:
        vmx.exception = {.pending = true,
                         .vector = vector,
                         .has_error_code = (information & INTR_INFO_HAS_ERROR_CODE) != 0,
                         .reinject = true,
                         .soft = (information & INTR_INFO_TYPE_MASK) == INTR_TYPE_SOFT_EXCEPTION,
                         .error_code = error_code,
                         .has_payload = false,
                         .payload = 0};
        vmx.event_instruction_length = instruction_length;
        break;
    case INTR_TYPE_SOFT_INTR:
    case INTR_TYPE_EXT_INTR:
        vmx.interrupt = {.pending = true,
                         .soft = (information & INTR_INFO_TYPE_MASK) == INTR_TYPE_SOFT_INTR,
                         .vector = vector};
        vmx.event_instruction_length = instruction_length;
        break;
    default:
        break;
    }
}

// With the local APIC here, user space's PIC waits for LINT0 and for its last interrupt.
bool accepts_user_interrupt(const vcpu_vmx &vmx)
{
    return !vmx.has_apic || (lapic_accepts_pic(*vmx.apic) && vmx.apic->external_vector < 0);
}

// The guest's IRET may fault or exit after it unblocked NMIs: SDM Vol. 3C, 28.2.3, "NMI unblocking
// due to IRET".
void recover_nmi_blocking(vcpu_vmx &vmx, bool vectoring)
{
    if (!hardware.params.vnmi || vectoring ||
        (vmx.exit_reason & kExitReasonBasicMask) != EXIT_REASON_EXCEPTION_NMI)
        return;
    const u32 information = exit_intr_info(vmx);
    if (information & INTR_INFO_VALID && information & INTR_INFO_UNBLOCK_NMI &&
        (information & INTR_INFO_VECTOR_MASK) != DF_VECTOR)
        set_nmis_masked(vmx, true);
}

} // namespace

void queue_exception(vcpu_vmx &vmx, u8 vector)
{
    queue(vmx, vector, false, 0);
}

void queue_exception(vcpu_vmx &vmx, u8 vector, u32 error_code)
{
    queue(vmx, vector, true, error_code);
}

void inject_gp(vcpu_vmx &vmx)
{
    queue_exception(vmx, GP_VECTOR, 0);
}

void inject_ud(vcpu_vmx &vmx)
{
    queue_exception(vmx, UD_VECTOR);
}

void inject_page_fault(vcpu_vmx &vmx, u64 address, u32 error_code)
{
    vmx.area->cr2 = address;
    queue_exception(vmx, PF_VECTOR, error_code);
}

void give_way_to_exception(vcpu_vmx &vmx)
{
    if (vmx.nmi_injected && vmx.nmi_pending < 2)
        vmx.nmi_pending++;
    vmx.nmi_injected = false;
    vmx.interrupt.pending = false;
}

bool nmis_masked(vcpu_vmx &vmx)
{
    if (!hardware.params.vnmi)
        return vmx.nmi_blocked_soft;
    return read_interruptibility(vmx) & GUEST_INTR_STATE_NMI;
}

void set_nmis_masked(vcpu_vmx &vmx, bool masked)
{
    if (!hardware.params.vnmi) {
        block_nmis_in_software(vmx, masked);
        return;
    }
    const u32 state = read_interruptibility(vmx);
    write_interruptibility(vmx,
                           masked ? state | GUEST_INTR_STATE_NMI : state & ~GUEST_INTR_STATE_NMI);
}

void recover_nmi_blocking_of_access(vcpu_vmx &vmx)
{
    constexpr u64 kNmiUnblocking = bit64(12);
    if (hardware.params.vnmi && (vmx.idt_vectoring_info & INTR_INFO_VALID) == 0 &&
        (exit_qualification(vmx) & kNmiUnblocking) != 0)
        set_nmis_masked(vmx, true);
}

// The CPU latches one NMI while another is served: SDM Vol. 3A, 6.7.1.
void take_nmis(vcpu_vmx &vmx)
{
    if (!__atomic_load_n(&vmx.area->nmi_pending, __ATOMIC_RELAXED))
        return;
    const u32 limit = nmis_masked(vmx) || vmx.nmi_injected ? 1 : 2;
    const u32 latched =
        vmx.nmi_pending + __atomic_exchange_n(&vmx.area->nmi_pending, 0, __ATOMIC_ACQUIRE);
    vmx.nmi_pending = static_cast<u8>(latched < limit ? latched : limit);
}

EventsAllowed events_allowed(vcpu_vmx &vmx)
{
    const u32 state = read_interruptibility(vmx);
    if (state & (GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS))
        return {};
    const bool nmis_blocked =
        hardware.params.vnmi ? (state & GUEST_INTR_STATE_NMI) != 0 : vmx.nmi_blocked_soft;
    return {.interrupt = (read_rflags(vmx) & X86_EFLAGS_IF) != 0, .nmi = !nmis_blocked};
}

bool interrupt_allowed(vcpu_vmx &vmx)
{
    return read_rflags(vmx) & X86_EFLAGS_IF && events_allowed(vmx).interrupt;
}

bool nmi_allowed(vcpu_vmx &vmx)
{
    return events_allowed(vmx).nmi;
}

bool irq_window_requested(const vcpu_vmx &vmx)
{
    return vmx.area->run->request_interrupt_window && vmx.kvm->irqchip != Irqchip::kKernel &&
           accepts_user_interrupt(vmx);
}

bool ready_for_interrupt_injection(vcpu_vmx &vmx)
{
    return accepts_user_interrupt(vmx) && !vmx.exception.pending && !vmx.nmi_injected &&
           !vmx.interrupt.pending && interrupt_allowed(vmx);
}

void inject_pending_events(vcpu_vmx &vmx)
{
    take_nmis(vmx);
    bool entering = inject_one(vmx);
    // Delivered by software, it may have raised another exception, until they end in a triple
    // fault.
    while (entering && vmx.exception.pending && delivers_by_software(vmx) && !cannot_go_on(vmx))
        (void)inject_one(vmx);
    const bool nmis = vmx.nmi_pending && !holds_interrupts(vmx);
    if (!entering && nmis && nmi_allowed(vmx)) {
        vmx.nmi_pending--;
        vmx.nmi_injected = true;
        inject_nmi(vmx);
        entering = true;
    }
    if (vmx.has_apic && vmx.apic->attention)
        inject_from_controllers(vmx, entering);
    if (nmis && vmx.nmi_pending)
        enable_nmi_window(vmx);
    if (irq_window_requested(vmx))
        enable_irq_window(vmx);
}

bool delivers_by_software(vcpu_vmx &vmx)
{
    return !hardware.params.unrestricted_guest && (vmx.vm86_active || must_emulate(vmx));
}

bool cannot_go_on(const vcpu_vmx &vmx)
{
    return vmx.triple_fault || vmx.undeliverable;
}

void complete_interrupted_events(vcpu_vmx &vmx)
{
    const u32 information = vmx.idt_vectoring_info;
    const bool vectoring = (information & INTR_INFO_VALID) != 0;

    events_delivered(vmx);
    recover_nmi_blocking(vmx, vectoring);
    if (vectoring)
        requeue(vmx, information, vmcs_read(VM_EXIT_INSTRUCTION_LEN),
                vmcs_read(IDT_VECTORING_ERROR_CODE));

    guess_end_of_nmi(vmx);
}

void cancel_injection(vcpu_vmx &vmx)
{
    const u32 information = vmcs_read(VM_ENTRY_INTR_INFO_FIELD);
    if (information & INTR_INFO_VALID)
        count_injection(vmx.stats, information, -1);
    // The queues still hold what was to be injected.
    vmcs_write(VM_ENTRY_INTR_INFO_FIELD, 0);
}

} // namespace minivmx
