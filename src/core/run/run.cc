// SPDX-License-Identifier: GPL-2.0-only
// KVM_RUN: in and out of the guest until user space has to do something.
#include <minivmx/breakage.hpp>
#include <minivmx/control_shadow.hpp>
#include <minivmx/dirty_log.hpp>
#include <minivmx/emulate.hpp>
#include <minivmx/entry_audit.hpp>
#include <minivmx/lapic.hpp>
#include <minivmx/real_mode.hpp>
#include <minivmx/run.hpp>
#include <minivmx/shadow_paging.hpp>
#include <minivmx/state.hpp>
#include <minivmx/trace.hpp>
#include <minivmx/vmcs_setup.hpp>

namespace minivmx {

namespace {

// The host state that a task switch or the kernel may have changed since the last entry.
void refresh_host_state(vcpu_vmx &vmx)
{
    const vcpu_area &area = *vmx.area;
    vmcs_host_state &known = vmx.vmcs01.host_state;

    auto refresh = [](auto field, auto &shadow, auto value) {
        if (shadow != value) [[unlikely]] {
            vmcs_write(field, value);
            shadow = value;
        }
    };
    refresh(HOST_CR3, known.cr3, area.host_cr3);
    refresh(HOST_CR4, known.cr4, area.host_cr4);
    refresh(HOST_FS_SELECTOR, known.fs_sel, area.host_fs_sel);
    refresh(HOST_GS_SELECTOR, known.gs_sel, area.host_gs_sel);
    refresh(HOST_FS_BASE, known.fs_base, area.host_fs_base);
    refresh(HOST_GS_BASE, known.gs_base, area.host_gs_base);
}

void write_dirty_registers(vcpu_vmx &vmx)
{
    if (vmx.state_dirty & kStateRip)
        vmcs_write(GUEST_RIP, vmx.rip);
    if (vmx.state_dirty & kStateRsp)
        vmcs_write(GUEST_RSP, vmx.area->regs[kRsp]);
    vmx.state_dirty = 0;
}

// An NMI, a machine check or an external interrupt that the exit took belongs to the host, at once.
void hand_host_events_over(vcpu_vmx &vmx)
{
    static_assert(EXIT_REASON_EXCEPTION_NMI == 0 && EXIT_REASON_EXTERNAL_INTERRUPT == 1);
    const u32 basic = vmx.exit_reason & kExitReasonBasicMask;
    if (basic > EXIT_REASON_EXTERNAL_INTERRUPT && basic != EXIT_REASON_MCE_DURING_VMENTRY)
        [[likely]]
        return;
    if (basic == EXIT_REASON_EXTERNAL_INTERRUPT) {
        host_handle_interrupt(exit_intr_info(vmx) & INTR_INFO_VECTOR_MASK);
        return;
    }
    if (basic == EXIT_REASON_MCE_DURING_VMENTRY) {
        host_handle_machine_check();
        return;
    }
    const u32 information = exit_intr_info(vmx);
    if ((information & INTR_INFO_TYPE_MASK) == INTR_TYPE_NMI)
        host_handle_nmi();
    else if ((information & INTR_INFO_TYPE_MASK) == INTR_TYPE_HARD_EXCEPTION &&
             (information & INTR_INFO_VECTOR_MASK) == MC_VECTOR)
        host_handle_machine_check();
}

// One entry and the reason of the exit that ends it.
[[gnu::always_inline]] inline void enter_once(vcpu_vmx &vmx)
{
    write_dirty_registers(vmx);
    // In a shadow VM entry wants RFLAGS.TF to have its trap pending (SDM Vol. 3C, 27.3.1.5), but
    // this TF is the debugger's, and the trap still to come.
    if (single_steps(vmx)) [[unlikely]]
        set_interrupt_shadow_off(vmx);
    if (vmx.has_apic && pin_controls_get(vmx.vmcs01) & PIN_BASED_VMX_PREEMPTION_TIMER)
        lapic_program_preemption_timer(vmx);

    break_entry(vmx);
    trace_entry(vmx);
    vmx.entry_failed = host_vmenter(vmx.host) != 0;

    vmx.state_available = 0;
    if (vmx.entry_failed) [[unlikely]] {
        vmx.exit_reason = kNoExit;
        return;
    }
    vmx.exit_reason = vmcs_read(VM_EXIT_REASON);
    count_exit(vmx.stats, vmx.exit_reason & kExitReasonBasicMask);
    if (vmx.exit_reason & kExitReasonFailedEntry) [[unlikely]]
        return;
    vmx.area->launched = 1;
    mend_entry(vmx);
}

// What an exit tells beside its reason, and has to be known before interrupts are on.
void read_exit_information(vcpu_vmx &vmx)
{
    vmx.idt_vectoring_info = 0;
    if (!(vmx.exit_reason & kExitReasonFailedEntry)) [[likely]] {
        if (!vmx.answered)
            vmx.idt_vectoring_info = vmcs_read(IDT_VECTORING_INFO_FIELD);
        if (secondary_exec_controls_get(vmx.vmcs01) & SECONDARY_EXEC_ENABLE_PML)
            flush_pml_buffer(vmx);
    }
    if (!vmx.answered)
        trace_exit(vmx);
}

// Exits to devices and to the host, which are asked about nothing else first.
bool leaves_guest_for_sure(const vcpu_vmx &vmx)
{
    constexpr u64 kReasons = bit64(EXIT_REASON_EXTERNAL_INTERRUPT) | bit64(EXIT_REASON_HLT) |
                             bit64(EXIT_REASON_EPT_VIOLATION) | bit64(EXIT_REASON_EPT_MISCONFIG);
    const u32 reason = vmx.exit_reason;
    if (reason == EXIT_REASON_IO_INSTRUCTION)
        return !vmx.kvm->pio_bus;
    return reason < 64 && kReasons >> reason & 1;
}

// Whether the last exit has been answered already.
bool run_guest(vcpu_vmx &vmx)
{
    enter_once(vmx);
    if (leaves_guest_for_sure(vmx) || !may_answer_at_once(vmx))
        return false;
    for (u32 i = 0; i < kMostAnsweredAtOnce; i++) {
        const AtOnce answer = answer_at_once(vmx);
        if (answer != AtOnce::kGuestGoesOn)
            return answer == AtOnce::kAnswered;
        if (!may_enter_again(vmx))
            return true;
        enter_once(vmx);
    }
    return false;
}

// From interrupts off before the entry to interrupts off after the exit: no instruction here may
// fault or sleep. Exits that need nothing of the host are answered here, and the guest goes on at
// once.
void vmx_vcpu_run(vcpu_vmx &vmx)
{
    refresh_host_state(vmx);
    if (switches_xcr0(vmx))
        load_guest_xcr0(vmx);
    vmx.last_vmentry_cpu = vmx.vmcs01.cpu;
    vmx.answered = run_guest(vmx);
    if (switches_xcr0(vmx))
        load_host_xcr0(vmx);
    read_exit_information(vmx);
}

// As if VM entry had met it: an event whose delivery needs what isn't memory.
Outcome undeliverable_event(vcpu_vmx &vmx)
{
    const u64 data[] = {vmx.undeliverable, vmx.exit_reason, exit_qualification(vmx),
                        vmx.last_vmentry_cpu};
    vmx.undeliverable = 0;
    return internal_error(vmx, KVM_INTERNAL_ERROR_DELIVERY_EV, data);
}

// Whether handle_requests() has anything to do. Mostly nothing, which one branch tells sooner than
// four.
bool has_requests(const vcpu_vmx &vmx)
{
    return (__atomic_load_n(&vmx.area->requests, __ATOMIC_RELAXED) | u64{vmx.triple_fault} |
            vmx.undeliverable | u64{vmx.ioapic_eoi_pending}) != 0;
}

// [sleep]
[[gnu::noinline]] Outcome handle_requests(vcpu_vmx &vmx)
{
    u32 requests = __atomic_load_n(&vmx.area->requests, __ATOMIC_RELAXED);
    if (requests) [[unlikely]]
        requests = __atomic_exchange_n(&vmx.area->requests, 0, __ATOMIC_ACQUIRE);
    if (requests & VCPU_REQUEST_VM_DEAD)
        return Outcome::error(-EIO);
    if (requests & VCPU_REQUEST_TLB_FLUSH)
        mark_stale(vmx, StaleTranslations::kAll);
    if (requests & VCPU_REQUEST_EVENT && vmx.has_apic) {
        vmx.apic->attention = true;
        accept_init_and_sipi(vmx);
    }
    if (requests & VCPU_REQUEST_CLOCK)
        vmx.time.update_due = true;
    if (requests & VCPU_REQUEST_STOPPED)
        (void)tell_guest_it_stopped(vmx);
    if (requests & VCPU_REQUEST_MSR_FILTER)
        msr_filter_changed(vmx);
    if (requests & VCPU_REQUEST_DIRTY_LOGGING)
        update_dirty_logging(vmx);
    if (vmx.triple_fault) {
        vmx.triple_fault = false;
        vmx.area->run->exit_reason = KVM_EXIT_SHUTDOWN;
        return Outcome::to_user();
    }
    if (vmx.undeliverable) [[unlikely]]
        return undeliverable_event(vmx);
    if (vmx.ioapic_eoi_pending) [[unlikely]] {
        vmx.ioapic_eoi_pending = false;
        vmx.area->run->exit_reason = KVM_EXIT_IOAPIC_EOI;
        vmx.area->run->eoi.vector = vmx.ioapic_eoi_vector;
        return Outcome::to_user();
    }
    return Outcome::resume();
}

// [sleep]
[[gnu::noinline]] Outcome failed_entry(vcpu_vmx &vmx)
{
    kvm_run &run = *vmx.area->run;
    host_let_sleep(vmx.host);
    vmx.stats.failed_entries++;
    // SDM Vol. 3C, 27.8: a VM-entry failure is an exit with bit 31 of its reason set. SDM Vol.
    // 3C, 31.4: a failing VMLAUNCH or VMRESUME leaves its number in the VM-instruction error field,
    // where a VMREAD of a field that this CPU lacks would leave its own.
    const u32 reason = vmx.entry_failed ? vmcs_read(VM_INSTRUCTION_ERROR) : vmx.exit_reason;
    audit_failed_entry(vmx, reason);
    dump_vmcs(vmx);
    mend_entry(vmx);
    // The event to be injected is still there (SDM Vol. 3C, 27.8), and user space may take it back
    // before it tries again.
    cancel_injection(vmx);
    run.exit_reason = KVM_EXIT_FAIL_ENTRY;
    run.fail_entry.hardware_entry_failure_reason = reason;
    run.fail_entry.cpu = vmx.last_vmentry_cpu;
    return Outcome::to_user();
}

// Whether inject_pending_events() has anything to do.
bool has_pending_events(const vcpu_vmx &vmx)
{
    const u32 queued = u32{vmx.exception.pending} | u32{vmx.interrupt.pending} |
                       u32{vmx.nmi_injected} | vmx.nmi_pending |
                       __atomic_load_n(&vmx.area->nmi_pending, __ATOMIC_RELAXED);
    return queued || (vmx.has_apic && vmx.apic->attention) ||
           vmx.area->run->request_interrupt_window;
}

// What was injected has been delivered, unless the exit says otherwise.
void conclude_injection(vcpu_vmx &vmx)
{
    const u32 basic = vmx.exit_reason & kExitReasonBasicMask;
    if (vmx.idt_vectoring_info & INTR_INFO_VALID || basic == EXIT_REASON_EXCEPTION_NMI ||
        !hardware.params.vnmi) [[unlikely]]
        complete_interrupted_events(vmx);
    else
        events_delivered(vmx);
}

// What CPUs without "unrestricted guest" or EPT need before an entry. False: `outcome` says what
// comes instead of it. [sleep]
[[gnu::noinline]] bool prepare_without_support(vcpu_vmx &vmx, Outcome &outcome)
{
    if (!hardware.params.unrestricted_guest) {
        if (must_emulate(vmx)) [[unlikely]] {
            outcome = emulate_until_valid(vmx);
            return false;
        }
        // A trap comes before the events that software is going to deliver.
        if (vmx.vm86_active)
            outcome = deliver_pending_traps(vmx);
        if (!outcome.resumes()) [[unlikely]]
            return false;
    }
    return prepare_shadow_root(vmx, outcome);
}

// The same for what may be there to do on any CPU.
bool prepare_guest(vcpu_vmx &vmx, Outcome &outcome)
{
    if (vmx.time.update_due) [[unlikely]] {
        host_let_sleep(vmx.host);
        update_guest_clock(vmx);
    }
    if (!hardware.params.unrestricted_guest || !hardware.params.ept) [[unlikely]] {
        host_let_sleep(vmx.host);
        if (!prepare_without_support(vmx, outcome))
            return false;
    }
    if (has_pending_events(vmx))
        inject_pending_events(vmx);
    // A handler in real mode may need emulation again.
    return !vmx.vm86_active || (!cannot_go_on(vmx) && !must_emulate(vmx));
}

Outcome vcpu_enter_guest(vcpu_vmx &vmx)
{
    Outcome unprepared = Outcome::resume();
    if (!prepare_guest(vmx, unprepared)) [[unlikely]]
        return unprepared;
    if (!host_prepare_entry(vmx.host)) {
        cancel_injection(vmx);
        return Outcome::resume();
    }
    // Here, not earlier: only from now on no other thread can move this vCPU to a CPU with other
    // stale translations.
    if (vmx.stale_translations != StaleTranslations::kNone) {
        flush_guest_tlb(vmx);
        vmx.stats.tlb_flushes++;
    }
    vmx_vcpu_run(vmx);
    host_after_exit(vmx.host);
    if (vmx.area->switch_db_regs & KVM_DEBUGREG_WONT_EXIT)
        sync_dirty_debug_regs(vmx);
    hand_host_events_over(vmx);
    host_finish_exit(vmx.host);

    if (vmx.exit_reason & kExitReasonFailedEntry) [[unlikely]]
        return failed_entry(vmx);
    conclude_injection(vmx);
    if (vmx.has_apic && vmx.apic->vapic_gpa) [[unlikely]] {
        host_let_sleep(vmx.host);
        lapic_sync_from_vapic(vmx);
    }
    return vmx.answered ? Outcome::resume() : vmx_handle_exit(vmx);
}

// One turn: into the guest and back, or asleep until there is a reason to enter.
Outcome vcpu_step(vcpu_vmx &vmx)
{
    if (has_requests(vmx)) [[unlikely]] {
        host_let_sleep(vmx.host);
        const Outcome requested = handle_requests(vmx);
        if (!requested.resumes())
            return requested;
    }
    if (vmx.mp_state == KVM_MP_STATE_RUNNABLE) [[likely]]
        return vcpu_enter_guest(vmx);
    host_let_sleep(vmx.host);
    wait_until_runnable(vmx);
    return Outcome::resume();
}

Outcome vcpu_run(vcpu_vmx &vmx)
{
    kvm_run &run = *vmx.area->run;
    run.exit_reason = KVM_EXIT_UNKNOWN;
    forget_entry_audit(vmx);
    vmx.undeliverable = 0; // it is still in its queue, and user space may have mended the cause
    // User space may have changed what decides over interrupts.
    if (vmx.has_apic) {
        vmx.apic->attention = true;
        accept_init_and_sipi(vmx);
    }
    for (;;) {
        const Outcome outcome = vcpu_step(vmx);
        if (!outcome.resumes())
            return outcome;
        if (vmx.has_apic && vmx.apic->tpr_accessed) [[unlikely]]
            return report_tpr_access(vmx);
        if (irq_window_requested(vmx) && ready_for_interrupt_injection(vmx)) {
            run.exit_reason = KVM_EXIT_IRQ_WINDOW_OPEN;
            return Outcome::to_user();
        }
        const int interrupted = host_handle_pending_work(vmx.host);
        if (interrupted) {
            run.exit_reason = KVM_EXIT_INTR;
            return Outcome::error(interrupted);
        }
    }
}

// What KVM_RUN tells of the vCPU whichever way it ends: Documentation of KVM_RUN, fields of struct
// kvm_run.
void post_kvm_run_save(vcpu_vmx &vmx)
{
    kvm_run &run = *vmx.area->run;
    const bool interrupts_on = (read_rflags(vmx) & X86_EFLAGS_IF) != 0;
    run.if_flag = interrupts_on;
    run.cr8 = vmx.has_apic ? guest_cr8(vmx) : vmx.cr8;
    run.apic_base = vmx.apic_base;
    run.ready_for_interrupt_injection = vmx.kvm->irqchip == Irqchip::kKernel ||
                                        (interrupts_on && ready_for_interrupt_injection(vmx));
}

[[gnu::always_inline]] inline Outcome use_answer(vcpu_vmx &vmx)
{
    if (vmx.pending_msr != PendingMsr::kNone)
        complete_pending_msr(vmx);
    if (vmx.pending.kind != PendingIo::kNone)
        return complete_pending(vmx);
    if (vmx.pending_intercept.kind != InterceptWait::kNone) [[unlikely]] {
        host_let_sleep(vmx.host);
        return answer_intercept(vmx);
    }
    return Outcome::resume();
}

// What the last KVM_RUN left to user space goes on with its answer.
Outcome complete_last_exit(vcpu_vmx &vmx)
{
    if (!vmx.intercepts) [[likely]]
        return use_answer(vmx);
    host_let_sleep(vmx.host);
    const u64 rip = read_rip(vmx);
    return report_emulated_step(vmx, rip, use_answer(vmx));
}

// KVM_CAP_SYNC_REGS is in use. User space may change its mind at any moment, which is its affair.
bool wants_sync_regs(const kvm_run &run)
{
    return (__atomic_load_n(&run.kvm_valid_regs, __ATOMIC_RELAXED) |
            __atomic_load_n(&run.kvm_dirty_regs, __ATOMIC_RELAXED)) != 0;
}

Outcome run_once(vcpu_vmx &vmx)
{
    const kvm_run &run = *vmx.area->run;
    if (vmx.mp_state == KVM_MP_STATE_UNINITIALIZED) {
        host_let_sleep(vmx.host);
        return wait_for_init(vmx);
    }
    if (wants_sync_regs(run)) [[unlikely]] {
        host_let_sleep(vmx.host);
        if (const int error = take_synced_regs(vmx))
            return Outcome::error(error);
    }
    if (!vmx.has_apic && run.cr8 != vmx.cr8 && !set_cr8(vmx, run.cr8))
        return Outcome::error(-EINVAL);
    const Outcome completed = complete_last_exit(vmx);
    if (!completed.resumes())
        return completed;
    if (run.immediate_exit)
        return Outcome::error(-EINTR);
    return vcpu_run(vmx);
}

} // namespace

Outcome internal_error(vcpu_vmx &vmx, u32 suberror, Span<const u64> data)
{
    kvm_run &run = *vmx.area->run;
    run.exit_reason = KVM_EXIT_INTERNAL_ERROR;
    run.internal.suberror = suberror;
    run.internal.ndata = static_cast<u32>(data.size());
    for (usize i = 0; i < data.size(); i++)
        run.internal.data[i] = data[i];
    return Outcome::to_user();
}

} // namespace minivmx

using namespace minivmx;

extern "C" {

int core_vcpu_run(core_vcpu *vcpu)
{
    vcpu_vmx &vmx = to_vmx(vcpu);
    vmx.area->run->flags = 0;
    const int result = run_once(vmx).ioctl_result();
    vmx.stats.returns++;
    // -EIO: the VM can't run any more. When that is because the machine goes down, VMX is off, and
    // there is no VMCS to read.
    if (result != -EIO) {
        if (wants_sync_regs(*vmx.area->run)) [[unlikely]]
            give_synced_regs(vmx);
        post_kvm_run_save(vmx);
    }
    return result;
}

int core_interrupt(core_vcpu *vcpu, host_u32 vector)
{
    vcpu_vmx &vmx = to_vmx(vcpu);
    if (vector > 255)
        return -EINVAL;
    if (vmx.has_apic && vmx.kvm->irqchip != Irqchip::kSplit)
        return -ENXIO; // interrupts come from the controllers in the kernel then
    if (vmx.has_apic) {
        // What user space's PIC sends through LINT0.
        if (vmx.apic->external_vector >= 0)
            return -EEXIST;
        vmx.apic->external_vector = static_cast<s16>(vector);
        vmx.apic->attention = true;
        return 0;
    }
    vmx.interrupt = {.pending = true, .soft = false, .vector = static_cast<u8>(vector)};
    return 0;
}

int core_nmi(core_vcpu *vcpu)
{
    __atomic_fetch_add(&to_vmx(vcpu).area->nmi_pending, 1, __ATOMIC_RELEASE);
    return 0;
}

} // extern "C"
