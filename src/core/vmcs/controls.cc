// SPDX-License-Identifier: GPL-2.0-only
// The control words of one vCPU, from the negotiated configuration: the document's
// vmx_exec_control() and its siblings.
#include <minivmx/capabilities.hpp>
#include <minivmx/intercept_controls.hpp>
#include <minivmx/vcpu_controls.hpp>

namespace minivmx {

u32 vmx_pin_based_exec_ctrl(const Hardware &hw, const VcpuControlInputs &in, const RuleSink *sink)
{
    ControlWord word(ControlField::kPin, sink);
    word.set(Rule::kNegotiated, hw.config.pin_based_exec_ctrl);

    word.apply_parameter(Parameter::kApicv, hw.params.enable_apicv);
    if (!in.apicv_active)
        word.clear(Rule::kApicvInactive, PIN_BASED_POSTED_INTR);
    word.apply_parameter(Parameter::kVnmi, hw.params.vnmi);
    word.apply_parameter(Parameter::kPreemptionTimer, hw.params.preemption_timer);
    return word.value32();
}

namespace {

// Last, so that it adds exits to those that the hypervisor needs, and takes none away.
void apply_intercepts(ControlWord &word, const VcpuControlInputs &in)
{
    if (word.field() == ControlField::kPrimary && in.intercepts_ports)
        word.set(Rule::kIntercepted, CPU_BASED_USE_IO_BITMAPS);
    if (!in.intercepts)
        return;
    word.set(Rule::kIntercepted,
             intercept_bits(in.intercepts, word.field(), InterceptEffect::kSets));
    word.clear(Rule::kIntercepted,
               intercept_bits(in.intercepts, word.field(), InterceptEffect::kClears));
}

} // namespace

u32 vmx_exec_control(const Hardware &hw, const VcpuControlInputs &in, const RuleSink *sink)
{
    ControlWord word(ControlField::kPrimary, sink);
    word.set(Rule::kNegotiated, hw.config.cpu_based_exec_ctrl);

    word.clear(Rule::kUnusedByVcpu, CPU_BASED_RDTSC_EXITING | CPU_BASED_USE_IO_BITMAPS |
                                        CPU_BASED_MONITOR_TRAP_FLAG | CPU_BASED_PAUSE_EXITING);
    word.clear(Rule::kOnlyWhilePending,
               CPU_BASED_INTR_WINDOW_EXITING | CPU_BASED_NMI_WINDOW_EXITING);
    if (in.debugreg_wont_exit)
        word.clear(Rule::kDebugRegistersLoaded, CPU_BASED_MOV_DR_EXITING);

    // CR8 is the TPR: either the hardware keeps it in the shadow, or each access exits.
    if (!in.need_tpr_shadow)
        word.clear(Rule::kNoApicInKernel, CPU_BASED_TPR_SHADOW);
    const u32 cr8_exiting = CPU_BASED_CR8_LOAD_EXITING | CPU_BASED_CR8_STORE_EXITING;
    if (hw.host.is_64bit && word.has(CPU_BASED_TPR_SHADOW))
        word.clear(Rule::kTprShadowOn, cr8_exiting);
    else if (hw.host.is_64bit)
        word.set(Rule::kTprShadowOff, cr8_exiting);

    // Negotiation clears CR3 and INVLPG exiting where the CPU has EPT; without it, the hypervisor
    // must see each change.
    word.apply_parameter(Parameter::kEpt, hw.params.ept);

    if (in.mwait_in_guest)
        word.clear(Rule::kExitDisabled, CPU_BASED_MWAIT_EXITING | CPU_BASED_MONITOR_EXITING);
    if (in.hlt_in_guest)
        word.clear(Rule::kExitDisabled, CPU_BASED_HLT_EXITING);
    apply_intercepts(word, in);
    return word.value32();
}

u32 vmx_secondary_exec_control(const Hardware &hw, const VcpuControlInputs &in,
                               const RuleSink *sink)
{
    ControlWord word(ControlField::kSecondary, sink);
    word.set(Rule::kNegotiated, hw.config.cpu_based_2nd_exec_ctrl);

    word.clear(Rule::kProcessorTraceHostOnly,
               SECONDARY_EXEC_PT_USE_GPA | SECONDARY_EXEC_PT_CONCEAL_VMX);
    word.apply_parameter(Parameter::kFlexpriority, hw.params.flexpriority);
    if (!in.virtualize_apic_accesses)
        word.clear(Rule::kNoApicInKernel, SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES);
    else if (!in.xapic_mode)
        word.clear(Rule::kXapicInactive, SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES);
    word.apply_parameter(Parameter::kVpid, hw.params.vpid);
    if (!in.has_vpid)
        word.clear(Rule::kNoVpid, SECONDARY_EXEC_ENABLE_VPID);
    word.apply_parameter(Parameter::kEpt, hw.params.ept);
    word.apply_parameter(Parameter::kUnrestrictedGuest,
                         hw.params.ept && hw.params.unrestricted_guest);
    word.apply_parameter(Parameter::kPleGap, hw.params.ple_gap != 0);
    if (in.pause_in_guest)
        word.clear(Rule::kExitDisabled, SECONDARY_EXEC_PAUSE_LOOP_EXITING);
    word.apply_parameter(Parameter::kApicv, hw.params.enable_apicv);
    if (!in.apicv_active)
        word.clear(Rule::kApicvInactive,
                   SECONDARY_EXEC_APIC_REGISTER_VIRT | SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY);
    if (!in.x2apic_mode)
        word.clear(Rule::kX2apicInactive, SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE);
    if (!in.emulates_umip)
        word.clear(Rule::kUmipNotEmulated, SECONDARY_EXEC_DESC);
    word.clear(Rule::kUnusedByVcpu, SECONDARY_EXEC_SHADOW_VMCS);
    word.apply_parameter(Parameter::kPml, hw.params.pml);
    if (!in.dirty_logging)
        word.clear(Rule::kDirtyLoggingOff, SECONDARY_EXEC_ENABLE_PML);
    word.clear(Rule::kCapabilityNotEnabled,
               SECONDARY_EXEC_BUS_LOCK_DETECTION | SECONDARY_EXEC_NOTIFY_VM_EXITING);

    // A control that lets the guest use an instruction is on only if its CPUID has it; one that
    // makes it exit, only if not. RDPID hangs on RDTSCP's control: with either in its CPUID the
    // guest has both.
    struct {
        Rule why;
        bool clears;
        u32 control;
    } const by_cpuid[] = {
        {Rule::kGuestCpuidLacks, !in.xsaves, SECONDARY_EXEC_XSAVES},
        {Rule::kGuestCpuidLacks, !in.rdtscp && !in.rdpid, SECONDARY_EXEC_ENABLE_RDTSCP},
        {Rule::kGuestCpuidLacks, !in.invpcid, SECONDARY_EXEC_ENABLE_INVPCID},
        {Rule::kGuestCpuidLacks, !in.waitpkg, SECONDARY_EXEC_ENABLE_USR_WAIT_PAUSE},
        {Rule::kGuestCpuidHas, in.rdrand, SECONDARY_EXEC_RDRAND_EXITING},
        {Rule::kGuestCpuidHas, in.rdseed, SECONDARY_EXEC_RDSEED_EXITING},
    };
    for (const auto &row : by_cpuid)
        if (row.clears)
            word.clear(row.why, row.control);
    apply_intercepts(word, in);
    return word.value32();
}

u64 vmx_tertiary_exec_control(const Hardware &hw, const VcpuControlInputs &in, const RuleSink *sink)
{
    ControlWord word(ControlField::kTertiary, sink);
    word.set(Rule::kNegotiated, hw.config.cpu_based_3rd_exec_ctrl);
    word.apply_parameter(Parameter::kApicv, hw.params.enable_apicv);
    if (!in.apicv_active)
        word.clear(Rule::kApicvInactive, TERTIARY_EXEC_IPI_VIRT);
    return word.value();
}

u32 vmx_vmexit_ctrl(const Hardware &hw, const RuleSink *sink)
{
    ControlWord word(ControlField::kExit, sink);
    word.set(Rule::kNegotiated, hw.config.vmexit_ctrl);
    word.clear(Rule::kUnusedByVcpu,
               VM_EXIT_SAVE_IA32_PAT | VM_EXIT_SAVE_IA32_EFER | VM_EXIT_SAVE_VMX_PREEMPTION_TIMER);
    word.clear(Rule::kProcessorTraceHostOnly, VM_EXIT_PT_CONCEAL_PIP | VM_EXIT_CLEAR_IA32_RTIT_CTL);
    word.clear(Rule::kToggledAtRunTime,
               VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL | VM_EXIT_LOAD_IA32_EFER);
    return word.value32();
}

u32 vmx_vmentry_ctrl(const Hardware &hw, const RuleSink *sink)
{
    ControlWord word(ControlField::kEntry, sink);
    word.set(Rule::kNegotiated, hw.config.vmentry_ctrl);
    word.clear(Rule::kProcessorTraceHostOnly,
               VM_ENTRY_PT_CONCEAL_PIP | VM_ENTRY_LOAD_IA32_RTIT_CTL);
    word.clear(Rule::kToggledAtRunTime,
               VM_ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL | VM_ENTRY_LOAD_IA32_EFER | VM_ENTRY_IA32E_MODE);
    return word.value32();
}

u64 vcpu_control_word(const Hardware &hw, ControlField field, const VcpuControlInputs &in,
                      const RuleSink *sink)
{
    switch (field) {
    case ControlField::kPin:
        return vmx_pin_based_exec_ctrl(hw, in, sink);
    case ControlField::kPrimary:
        return vmx_exec_control(hw, in, sink);
    case ControlField::kSecondary:
        return cpu_has_secondary_exec_ctrls(hw.config) ? vmx_secondary_exec_control(hw, in, sink)
                                                       : 0;
    case ControlField::kTertiary:
        return cpu_has_tertiary_exec_ctrls(hw.config) ? vmx_tertiary_exec_control(hw, in, sink) : 0;
    case ControlField::kExit:
        return vmx_vmexit_ctrl(hw, sink);
    case ControlField::kExitSecondary:
        break; // never activated
    case ControlField::kEntry:
        return vmx_vmentry_ctrl(hw, sink);
    }
    return 0;
}

} // namespace minivmx
