// SPDX-License-Identifier: GPL-2.0-only
// Which handler an exit goes to. The switch reads like a table and, built with retpolines, costs a
// few compares instead of an indirect call.
#include <minivmx/control_shadow.hpp>
#include <minivmx/dirty_log.hpp>
#include <minivmx/emulate.hpp>
#include <minivmx/hardware.hpp>
#include <minivmx/lapic.hpp>
#include <minivmx/private_pages.hpp>
#include <minivmx/run.hpp>
#include <minivmx/shadow_paging.hpp>
#include <minivmx/state.hpp>
#include <minivmx/task_switch.hpp>
#include <minivmx/trace.hpp>

namespace minivmx {

namespace {

Outcome handle_external_interrupt(vcpu_vmx &)
{
    return Outcome::resume(); // the host took it right after the exit
}

Outcome handle_nmi_window(vcpu_vmx &vmx)
{
    exec_controls_clearbit<CPU_BASED_NMI_WINDOW_EXITING>(vmx.vmcs01);
    return Outcome::resume();
}

Outcome handle_triple_fault(vcpu_vmx &vmx)
{
    vmx.area->run->exit_reason = KVM_EXIT_SHUTDOWN;
    return Outcome::to_user();
}

Outcome handle_memory(vcpu_vmx &vmx)
{
    const u64 gpa = vmcs_read(GUEST_PHYSICAL_ADDRESS);
    const EptViolationInfo access = EptViolationInfo::decode(exit_qualification(vmx));
    trace_ept_violation(vmx, gpa, access);
    recover_nmi_blocking_of_access(vmx);
    return handle_ept_violation(vmx, gpa, access);
}

Outcome handle_mmio(vcpu_vmx &vmx)
{
    return handle_ept_misconfig(vmx, vmcs_read(GUEST_PHYSICAL_ADDRESS));
}

Outcome unexpected_exit(vcpu_vmx &vmx);
Outcome delivery_error(vcpu_vmx &vmx);

// An access to the APIC's page that the CPU doesn't virtualize: SDM Vol. 3C, 30.4, and 28.2.1,
// table 28-6. Its commonest one, an EOI, needs no decoding: the value doesn't matter.
Outcome handle_apic_access(vcpu_vmx &vmx)
{
    constexpr u64 kLinearWrite = 1;
    const u64 qualification = exit_qualification(vmx);
    const u64 offset = qualification & 0xfff;
    if (!vmx.has_apic)
        return unexpected_exit(vmx);
    if ((qualification >> 12 & 15) == kLinearWrite && offset == kApicEoi &&
        vmx.apic_base >> 12 == kApicAccessGfn && !(vmx.idt_vectoring_info & INTR_INFO_VALID)) {
        lapic_eoi(vmx);
        skip_emulated_instruction(vmx);
        return Outcome::resume();
    }
    if (vmx.idt_vectoring_info & INTR_INFO_VALID)
        return delivery_error(vmx); // a stack or a table in the APIC's page
    // Wherever the guest has put its APIC, the page that the CPU watches is this one.
    return emulate_mmio(vmx, (kApicAccessGfn << 12) + offset);
}

// SGDT and its kin exit while UMIP is emulated, which forbids them outside of CPL 0, and for
// clients that want to see them: SDM Vol. 3C, 26.1.3.
Outcome handle_gdtr_idtr(vcpu_vmx &vmx)
{
    return emulate_exited(vmx, Operation::kSgdt, Operation::kLidt);
}

Outcome handle_ldtr_tr(vcpu_vmx &vmx)
{
    return emulate_exited(vmx, Operation::kSldt, Operation::kLtr);
}

// It exits with INVLPG: SDM Vol. 3C, 26.1.3.
Outcome handle_invpcid(vcpu_vmx &vmx)
{
    return emulate_exited(vmx, Operation::kInvpcid, Operation::kInvpcid);
}

Outcome handle_invalid_instruction(vcpu_vmx &vmx)
{
    inject_ud(vmx);
    return Outcome::resume();
}

Outcome unexpected_exit(vcpu_vmx &vmx)
{
    const u64 data[] = {vmx.exit_reason, vmx.last_vmentry_cpu};
    if (host_log_allowed()) {
        Line line;
        line.put("vCPU ", vmx.vcpu_id, ": unexpected exit reason ", hex(vmx.exit_reason));
        host_log(HOST_LOG_WARNING, line.c_str());
    }
    return internal_error(vmx, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, data);
}

// An exit in the middle of delivering an event can be answered only where the handler makes the
// cause go away; elsewhere the same exit would come back for ever.
bool may_interrupt_delivery(u32 basic)
{
    return basic == EXIT_REASON_EXCEPTION_NMI || basic == EXIT_REASON_EPT_VIOLATION ||
           basic == EXIT_REASON_PML_FULL || basic == EXIT_REASON_APIC_ACCESS ||
           basic == EXIT_REASON_TASK_SWITCH || basic == EXIT_REASON_NOTIFY;
}

Outcome delivery_error(vcpu_vmx &vmx)
{
    u64 data[] = {vmx.idt_vectoring_info, vmx.exit_reason, exit_qualification(vmx),
                  vmx.last_vmentry_cpu, 0};
    usize count = 4;
    if ((vmx.exit_reason & kExitReasonBasicMask) == EXIT_REASON_EPT_MISCONFIG) {
        data[3] = vmcs_read(GUEST_PHYSICAL_ADDRESS);
        data[4] = vmx.last_vmentry_cpu;
        count = 5;
    }
    return internal_error(vmx, KVM_INTERNAL_ERROR_DELIVERY_EV, {data, count});
}

} // namespace

// The local APIC's timer, or the longest countdown, which the next entry starts again.
Outcome handle_preemption_timer(vcpu_vmx &vmx)
{
    if (vmx.has_apic)
        lapic_preemption_timer_expired(vmx);
    return Outcome::resume();
}

Outcome handle_interrupt_window(vcpu_vmx &vmx)
{
    exec_controls_clearbit<CPU_BASED_INTR_WINDOW_EXITING>(vmx.vmcs01);
    if (vmx.has_apic)
        vmx.apic->attention = true;
    return Outcome::resume();
}

// The guest has lowered its TPR below an interrupt that waits.
Outcome handle_tpr_below_threshold(vcpu_vmx &vmx)
{
    if (vmx.has_apic)
        vmx.apic->attention = true;
    return Outcome::resume();
}

// Instructions the hypervisor has nothing to do for: their effect on a virtual machine's caches and
// hints is none.
Outcome handle_as_nop(vcpu_vmx &vmx)
{
    skip_emulated_instruction(vmx);
    return Outcome::resume();
}

// No hypercall is offered. KVM's answer to an unknown one is -KVM_ENOSYS in RAX, and #UD is its
// answer outside CPL 0 only by way of -KVM_EPERM.
Outcome handle_vmcall(vcpu_vmx &vmx)
{
    constexpr s64 kNoSuchCall = -1000, kNotPermitted = -1;
    const s64 answer = guest_cpl(vmx) == 0 ? kNoSuchCall : kNotPermitted;
    write_gpr(vmx, kRax, is_64_bit_code(vmx) ? static_cast<u64>(answer) : static_cast<u32>(answer));
    skip_emulated_instruction(vmx);
    return Outcome::resume();
}

// A spinning vCPU may wait for one that waits for this CPU: SDM Vol. 3C, 26.1.3.
Outcome handle_pause(vcpu_vmx &vmx)
{
    skip_emulated_instruction(vmx);
    host_yield();
    return Outcome::resume();
}

// A guest without a performance-monitoring unit: every counter is absent. SDM Vol. 2B, RDPMC.
Outcome handle_rdpmc(vcpu_vmx &vmx)
{
    inject_gp(vmx);
    return Outcome::resume();
}

namespace {

// [sleep]
[[gnu::noinline]] Outcome handle_any_exit(vcpu_vmx &vmx)
{
    host_let_sleep(vmx.host);
    if (vmx.intercepts) [[unlikely]]
        return handle_intercepted_exit(vmx);
    return dispatch_exit(vmx);
}

[[gnu::noinline]] Outcome handle_misconfiguration(vcpu_vmx &vmx)
{
    Outcome moved = Outcome::resume();
    if (repeat_known_move(vmx, vmcs_read(GUEST_PHYSICAL_ADDRESS), moved))
        return moved;
    return handle_any_exit(vmx);
}

} // namespace

Outcome vmx_handle_exit(vcpu_vmx &vmx)
{
    // The exits that mostly lead to user space, and need no sleep on their way, are asked about
    // first.
    if (!vmx.intercepts && !(vmx.idt_vectoring_info & INTR_INFO_VALID)) [[likely]] {
        if (vmx.exit_reason == EXIT_REASON_IO_INSTRUCTION)
            return handle_io(vmx);
        if (vmx.exit_reason == EXIT_REASON_HLT)
            return handle_halt(vmx);
        if (vmx.exit_reason == EXIT_REASON_EPT_MISCONFIG)
            return handle_misconfiguration(vmx);
    }
    return handle_any_exit(vmx);
}

Outcome dispatch_exit(vcpu_vmx &vmx)
{
    const u32 basic = vmx.exit_reason & kExitReasonBasicMask;
    if (vmx.idt_vectoring_info & INTR_INFO_VALID && !may_interrupt_delivery(basic)) [[unlikely]]
        return delivery_error(vmx);

    switch (basic) {
    // clang-format off
    case EXIT_REASON_EXCEPTION_NMI:       return handle_exception_nmi(vmx);
    case EXIT_REASON_EXTERNAL_INTERRUPT:  return handle_external_interrupt(vmx);
    case EXIT_REASON_TRIPLE_FAULT:        return handle_triple_fault(vmx);
    case EXIT_REASON_INTERRUPT_WINDOW:    return handle_interrupt_window(vmx);
    case EXIT_REASON_NMI_WINDOW:          return handle_nmi_window(vmx);
    case EXIT_REASON_TASK_SWITCH:         return handle_task_switch(vmx);
    case EXIT_REASON_CPUID:               return handle_cpuid(vmx);
    case EXIT_REASON_HLT:                 return handle_halt(vmx);
    case EXIT_REASON_INVLPG:              return handle_invlpg(vmx);
    case EXIT_REASON_RDPMC:               return handle_rdpmc(vmx);
    case EXIT_REASON_VMCALL:              return handle_vmcall(vmx);
    case EXIT_REASON_CR_ACCESS:           return handle_cr_access(vmx);
    case EXIT_REASON_DR_ACCESS:           return handle_dr(vmx);
    case EXIT_REASON_IO_INSTRUCTION:      return handle_io(vmx);
    case EXIT_REASON_MSR_READ:            return handle_rdmsr(vmx);
    case EXIT_REASON_MSR_WRITE:           return handle_wrmsr(vmx);
    case EXIT_REASON_PAUSE_INSTRUCTION:   return handle_pause(vmx);
    case EXIT_REASON_TPR_BELOW_THRESHOLD: return handle_tpr_below_threshold(vmx);
    case EXIT_REASON_APIC_ACCESS:         return handle_apic_access(vmx);
    case EXIT_REASON_EPT_VIOLATION:       return handle_memory(vmx);
    case EXIT_REASON_EPT_MISCONFIG:       return handle_mmio(vmx);
    case EXIT_REASON_PML_FULL:            return handle_pml_full(vmx);
    case EXIT_REASON_PREEMPTION_TIMER:    return handle_preemption_timer(vmx);
    case EXIT_REASON_GDTR_IDTR:           return handle_gdtr_idtr(vmx);
    case EXIT_REASON_LDTR_TR:             return handle_ldtr_tr(vmx);
    case EXIT_REASON_XSETBV:              return handle_xsetbv(vmx);
    case EXIT_REASON_INVPCID:             return handle_invpcid(vmx);
    case EXIT_REASON_INVD:
    case EXIT_REASON_WBINVD:
    case EXIT_REASON_MWAIT_INSTRUCTION:
    case EXIT_REASON_MONITOR_INSTRUCTION: return handle_as_nop(vmx);
    case EXIT_REASON_VMCLEAR:
    case EXIT_REASON_VMLAUNCH:
    case EXIT_REASON_VMPTRLD:
    case EXIT_REASON_VMPTRST:
    case EXIT_REASON_VMREAD:
    case EXIT_REASON_VMRESUME:
    case EXIT_REASON_VMWRITE:
    case EXIT_REASON_VMOFF:
    case EXIT_REASON_VMON:
    case EXIT_REASON_INVEPT:
    case EXIT_REASON_INVVPID:
    case EXIT_REASON_VMFUNC:
    case EXIT_REASON_ENCLS:
    case EXIT_REASON_RDRAND:
    case EXIT_REASON_RDSEED:              return handle_invalid_instruction(vmx);
    // clang-format on
    default:
        return unexpected_exit(vmx);
    }
}

} // namespace minivmx
