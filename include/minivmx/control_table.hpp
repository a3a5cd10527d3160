// SPDX-License-Identifier: GPL-2.0-only
//
// The table of all control bits.
//
// "Required" and "optional" are what setup_vmcs_config asks of the CPU. They contain the lists of
// the document and those of kvm_intel 6.1, which lists more (interrupt-window exiting as required,
// several controls as optional because a nested guest or a client may want them later); rows that
// the document does not list say not_in_document(). What a vCPU really gets is narrowed at its
// creation, with the same outcome in both.
#pragma once

#include <minivmx/control_types.hpp>

namespace minivmx {

namespace control_table {

/// Writes "CR3-load exiting" as "cr3-load-exiting", with the prefix that tells the exit's and the
/// entry's controls of equal name apart.
constexpr void make_slug(ControlBit &row)
{
    const char *prefix = row.field == ControlField::kExit            ? "exit-"
                         : row.field == ControlField::kExitSecondary ? "exit2-"
                         : row.field == ControlField::kEntry         ? "entry-"
                                                                     : "";
    usize n = 0;
    while (prefix[n] != '\0') {
        row.slug[n] = prefix[n];
        n++;
    }
    for (const char *s = row.name; *s != '\0' && n + 1 < kSlugSize; s++) {
        const char lower = *s >= 'A' && *s <= 'Z' ? static_cast<char>(*s - 'A' + 'a') : *s;
        const bool plain = (lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9');
        const bool io_slash = *s == '/' && s[1] == 'O';
        if (lower == '#' || io_slash)
            continue; // "#VE" is "ve", "I/O" is "io"
        row.slug[n++] = plain ? lower : '-';
    }
    row.slug[n] = '\0';
}

/// A row under construction: control(...) names the bit, the calls after it say the rest.
struct Row : ControlBit {
    constexpr Row required() const { return with_use(ControlUse::kRequired); }
    constexpr Row optional() const { return with_use(ControlUse::kOptional); }
    constexpr Row not_in_document() const
    {
        Row row = *this;
        row.document = ControlUse::kUnused;
        return row;
    }
    constexpr Row only_if(ControlCondition when) const
    {
        Row row = *this;
        row.condition = when;
        return row;
    }
    constexpr Row cleared_without(Parameter which) const
    {
        return with_parameter(which, WhenOff::kClears);
    }
    constexpr Row set_without(Parameter which) const
    {
        return with_parameter(which, WhenOff::kSets);
    }
    constexpr Row not_in_enlightened_vmcs() const
    {
        Row row = *this;
        row.not_in_evmcs = true;
        return row;
    }
    constexpr Row exits(int reason, int other = -1) const
    {
        Row row = *this;
        row.exit_reason = static_cast<s8>(reason);
        row.other_exit_reason = static_cast<s8>(other);
        return row;
    }
    constexpr Row moved(const char *by) const
    {
        Row row = *this;
        row.moved_by = by;
        return row;
    }

  private:
    constexpr Row with_use(ControlUse wanted) const
    {
        Row row = *this;
        row.use = wanted;
        row.document = wanted;
        return row;
    }
    constexpr Row with_parameter(Parameter which, WhenOff effect) const
    {
        Row row = *this;
        row.parameter = which;
        row.when_off = effect;
        return row;
    }
};

constexpr Row control(ControlField field, u64 mask, const char *macro, const char *name,
                      const char *sdm, const char *summary)
{
    if (count_bits(mask) != 1)
        __builtin_trap(); // not a constant expression: a row of two bits does not compile
    Row row{};
    row.field = field;
    row.bit = static_cast<u8>(lowest_bit(mask));
    row.use = ControlUse::kUnused;
    row.condition = ControlCondition::kAlways;
    row.document = ControlUse::kUnused;
    row.parameter = Parameter::kNone;
    row.when_off = WhenOff::kNothing;
    row.not_in_evmcs = false;
    row.exit_reason = -1;
    row.other_exit_reason = -1;
    row.name = name;
    row.macro = macro;
    row.sdm = sdm;
    row.summary = summary;
    row.moved_by = nullptr;
    make_slug(row);
    return row;
}

} // namespace control_table

// clang-format off
#define PIN(constant, ...)       control_table::control(ControlField::kPin, constant, #constant, __VA_ARGS__)
#define PRIMARY(constant, ...)   control_table::control(ControlField::kPrimary, constant, #constant, __VA_ARGS__)
#define SECONDARY(constant, ...) control_table::control(ControlField::kSecondary, constant, #constant, __VA_ARGS__)
#define TERTIARY(constant, ...)  control_table::control(ControlField::kTertiary, constant, #constant, __VA_ARGS__)
#define EXIT(constant, ...)      control_table::control(ControlField::kExit, constant, #constant, __VA_ARGS__)
#define EXIT2(constant, ...)     control_table::control(ControlField::kExitSecondary, constant, #constant, __VA_ARGS__)
#define ENTRY(constant, ...)     control_table::control(ControlField::kEntry, constant, #constant, __VA_ARGS__)

inline constexpr ControlBit kControlTable[] = {
    // ---- Pin-based: asynchronous events ----
    PIN(PIN_BASED_EXT_INTR_MASK, "External-interrupt exiting", "25.6.1, 26.2",
        "a hardware interrupt leaves the guest, whatever the guest's RFLAGS.IF")
        .required().exits(1),
    PIN(PIN_BASED_NMI_EXITING, "NMI exiting", "25.6.1, 26.2",
        "a non-maskable interrupt leaves the guest")
        .required().exits(0),
    PIN(PIN_BASED_VIRTUAL_NMIS, "Virtual NMIs", "25.6.1, 26.3",
        "the CPU tracks NMI blocking of the guest apart from that of the host")
        .optional().cleared_without(Parameter::kVnmi),
    PIN(PIN_BASED_VMX_PREEMPTION_TIMER, "Activate VMX-preemption timer", "25.6.1, 26.5.1",
        "a countdown in the guest leaves it at zero")
        .optional().not_in_enlightened_vmcs().cleared_without(Parameter::kPreemptionTimer).exits(52),
    PIN(PIN_BASED_POSTED_INTR, "Process posted interrupts", "25.6.1, 30.6",
        "interrupts reach the running guest from memory, without leaving it")
        .optional().not_in_enlightened_vmcs().cleared_without(Parameter::kApicv).moved("APICv active for this vCPU"),

    // ---- Primary processor-based: instructions and windows ----
    PRIMARY(CPU_BASED_INTR_WINDOW_EXITING, "Interrupt-window exiting", "25.6.2, 26.2",
        "leaves the guest as soon as it can take an interrupt")
        .required().not_in_document().exits(7).moved("only while an interrupt waits"),
    PRIMARY(CPU_BASED_USE_TSC_OFFSETTING, "Use TSC offsetting", "25.6.2, 25.6.5",
        "the guest reads the TSC plus an offset")
        .required(),
    PRIMARY(CPU_BASED_HLT_EXITING, "HLT exiting", "25.6.2, 26.1.3",
        "HLT leaves the guest")
        .required().exits(12).moved("KVM_X86_DISABLE_EXITS_HLT"),
    PRIMARY(CPU_BASED_INVLPG_EXITING, "INVLPG exiting", "25.6.2, 26.1.3",
        "INVLPG and INVPCID leave the guest")
        .required().set_without(Parameter::kEpt).exits(14, 58),
    PRIMARY(CPU_BASED_MWAIT_EXITING, "MWAIT exiting", "25.6.2, 26.1.3",
        "MWAIT leaves the guest")
        .required().exits(36).moved("KVM_X86_DISABLE_EXITS_MWAIT"),
    PRIMARY(CPU_BASED_RDPMC_EXITING, "RDPMC exiting", "25.6.2, 26.1.3",
        "RDPMC leaves the guest")
        .required().exits(15),
    PRIMARY(CPU_BASED_RDTSC_EXITING, "RDTSC exiting", "25.6.2, 26.1.3",
        "RDTSC and RDTSCP leave the guest")
        .optional().not_in_document().exits(16, 51).moved("never set for a vCPU by default"),
    PRIMARY(CPU_BASED_CR3_LOAD_EXITING, "CR3-load exiting", "25.6.2, 26.1.3",
        "MOV to CR3 leaves the guest")
        .required().set_without(Parameter::kEpt).exits(28),
    PRIMARY(CPU_BASED_CR3_STORE_EXITING, "CR3-store exiting", "25.6.2, 26.1.3",
        "MOV from CR3 leaves the guest")
        .required().set_without(Parameter::kEpt).exits(28),
    PRIMARY(CPU_BASED_ACTIVATE_TERTIARY_CONTROLS, "Activate tertiary controls", "25.6.2",
        "the tertiary controls count")
        .optional().not_in_enlightened_vmcs().not_in_document(),
    PRIMARY(CPU_BASED_CR8_LOAD_EXITING, "CR8-load exiting", "25.6.2, 26.1.3",
        "MOV to CR8 leaves the guest")
        .required().only_if(ControlCondition::kHost64).exits(28).moved("TPR shadow in use"),
    PRIMARY(CPU_BASED_CR8_STORE_EXITING, "CR8-store exiting", "25.6.2, 26.1.3",
        "MOV from CR8 leaves the guest")
        .required().only_if(ControlCondition::kHost64).exits(28).moved("TPR shadow in use"),
    PRIMARY(CPU_BASED_TPR_SHADOW, "Use TPR shadow", "25.6.2, 30.3",
        "CR8 and the APIC's task priority are served from a page in memory")
        .optional().exits(43).moved("an APIC in the kernel"),
    PRIMARY(CPU_BASED_NMI_WINDOW_EXITING, "NMI-window exiting", "25.6.2, 26.2",
        "leaves the guest as soon as it can take an NMI; needs virtual NMIs")
        .optional().not_in_document().exits(8).moved("only while an NMI waits"),
    PRIMARY(CPU_BASED_MOV_DR_EXITING, "MOV-DR exiting", "25.6.2, 26.1.3",
        "reading or writing a debug register leaves the guest")
        .required().exits(29).moved("the guest's debug registers loaded"),
    PRIMARY(CPU_BASED_UNCOND_IO_EXITING, "Unconditional I/O exiting", "25.6.2, 26.1.3",
        "every I/O instruction leaves the guest")
        .required().exits(30),
    PRIMARY(CPU_BASED_USE_IO_BITMAPS, "Use I/O bitmaps", "25.6.2, 25.6.4",
        "two pages choose the ports whose access leaves the guest")
        .optional().not_in_document().exits(30).moved("never set for a vCPU by default"),
    PRIMARY(CPU_BASED_MONITOR_TRAP_FLAG, "Monitor trap flag", "25.6.2, 26.5.2",
        "leaves the guest after each instruction")
        .optional().not_in_document().exits(37).moved("never set for a vCPU by default"),
    PRIMARY(CPU_BASED_USE_MSR_BITMAPS, "Use MSR bitmaps", "25.6.2, 25.6.9",
        "a page chooses the MSRs whose access leaves the guest; without it all do")
        .optional().exits(31, 32),
    PRIMARY(CPU_BASED_MONITOR_EXITING, "MONITOR exiting", "25.6.2, 26.1.3",
        "MONITOR leaves the guest")
        .required().exits(39).moved("KVM_X86_DISABLE_EXITS_MWAIT"),
    PRIMARY(CPU_BASED_PAUSE_EXITING, "PAUSE exiting", "25.6.2, 26.1.3",
        "every PAUSE leaves the guest")
        .optional().not_in_document().exits(40).moved("never set for a vCPU by default"),
    PRIMARY(CPU_BASED_ACTIVATE_SECONDARY_CONTROLS, "Activate secondary controls", "25.6.2",
        "the secondary controls count")
        .optional(),

    // ---- Secondary processor-based ----
    SECONDARY(SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES, "Virtualize APIC accesses", "25.6.2, 30.4",
        "accesses to the APIC page are recognised and partly virtualized")
        .optional().not_in_enlightened_vmcs().cleared_without(Parameter::kFlexpriority).exits(44).moved("an APIC in the kernel"),
    SECONDARY(SECONDARY_EXEC_ENABLE_EPT, "Enable EPT", "25.6.2, 29.3",
        "guest-physical addresses go through a second set of page tables")
        .optional().cleared_without(Parameter::kEpt).exits(48, 49),
    SECONDARY(SECONDARY_EXEC_DESC, "Descriptor-table exiting", "25.6.2, 26.1.3",
        "LGDT, LIDT, LLDT, LTR and their stores leave the guest")
        .optional().exits(46, 47).moved("only while the guest's UMIP is emulated"),
    SECONDARY(SECONDARY_EXEC_ENABLE_RDTSCP, "Enable RDTSCP", "25.6.2, 26.3",
        "RDTSCP and RDPID work in the guest instead of raising #UD")
        .optional().moved("the guest's CPUID: RDTSCP or RDPID"),
    SECONDARY(SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE, "Virtualize x2APIC mode", "25.6.2, 30.5",
        "RDMSR and WRMSR of APIC registers are virtualized")
        .optional().moved("the guest's APIC in x2APIC mode"),
    SECONDARY(SECONDARY_EXEC_ENABLE_VPID, "Enable VPID", "25.6.2, 29.1",
        "translations are tagged by vCPU, so entries and exits need not flush them")
        .optional().cleared_without(Parameter::kVpid).moved("a VPID left for this vCPU"),
    SECONDARY(SECONDARY_EXEC_WBINVD_EXITING, "WBINVD exiting", "25.6.2, 26.1.3",
        "WBINVD and WBNOINVD leave the guest")
        .optional().exits(54),
    SECONDARY(SECONDARY_EXEC_UNRESTRICTED_GUEST, "Unrestricted guest", "25.6.2, 26.6",
        "the guest may run in real mode and without paging")
        .optional().cleared_without(Parameter::kUnrestrictedGuest),
    SECONDARY(SECONDARY_EXEC_APIC_REGISTER_VIRT, "APIC-register virtualization", "25.6.2, 30.4",
        "most reads of APIC registers are served without leaving the guest")
        .optional().not_in_enlightened_vmcs().cleared_without(Parameter::kApicv).exits(56).moved("APICv active for this vCPU"),
    SECONDARY(SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY, "Virtual-interrupt delivery", "25.6.2, 30.2",
        "the CPU evaluates and delivers the guest's interrupts")
        .optional().not_in_enlightened_vmcs().cleared_without(Parameter::kApicv).exits(45).moved("APICv active for this vCPU"),
    SECONDARY(SECONDARY_EXEC_PAUSE_LOOP_EXITING, "PAUSE-loop exiting", "25.6.2, 25.6.13",
        "a loop of PAUSEs that takes too long leaves the guest")
        .optional().not_in_enlightened_vmcs().cleared_without(Parameter::kPleGap).exits(40).moved("KVM_X86_DISABLE_EXITS_PAUSE"),
    SECONDARY(SECONDARY_EXEC_RDRAND_EXITING, "RDRAND exiting", "25.6.2, 26.1.3",
        "RDRAND leaves the guest")
        .optional().exits(57).moved("the guest's CPUID: RDRAND clears it"),
    SECONDARY(SECONDARY_EXEC_ENABLE_INVPCID, "Enable INVPCID", "25.6.2, 26.3",
        "INVPCID works in the guest instead of raising #UD")
        .optional().moved("the guest's CPUID: INVPCID"),
    SECONDARY(SECONDARY_EXEC_ENABLE_VMFUNC, "Enable VM functions", "25.6.2, 26.5.6",
        "VMFUNC works in the guest")
        .optional().not_in_enlightened_vmcs().exits(59),
    SECONDARY(SECONDARY_EXEC_SHADOW_VMCS, "VMCS shadowing", "25.6.2, 25.10",
        "VMREAD and VMWRITE in the guest may use a shadow VMCS")
        .optional().not_in_enlightened_vmcs().moved("never set for a vCPU by default"),
    SECONDARY(SECONDARY_EXEC_ENCLS_EXITING, "Enable ENCLS exiting", "25.6.2, 25.6.16",
        "a bitmap chooses the ENCLS leaves that leave the guest")
        .optional().only_if(ControlCondition::kSgx).exits(60),
    SECONDARY(SECONDARY_EXEC_RDSEED_EXITING, "RDSEED exiting", "25.6.2, 26.1.3",
        "RDSEED leaves the guest")
        .optional().exits(61).moved("the guest's CPUID: RDSEED clears it"),
    SECONDARY(SECONDARY_EXEC_ENABLE_PML, "Enable PML", "25.6.2, 29.3.6",
        "the CPU logs the guest-physical pages that become dirty")
        .optional().not_in_enlightened_vmcs().cleared_without(Parameter::kPml).exits(62).moved("dirty logging of the VM"),
    SECONDARY(SECONDARY_EXEC_EPT_VIOLATION_VE, "EPT-violation #VE", "25.6.2, 26.5.7",
        "chosen EPT violations become an exception in the guest"),
    SECONDARY(SECONDARY_EXEC_PT_CONCEAL_VMX, "Conceal VMX from PT", "25.6.2",
        "Intel PT's packets don't tell that this is a guest")
        .optional().moved("Intel PT is the host's alone"),
    SECONDARY(SECONDARY_EXEC_XSAVES, "Enable XSAVES/XRSTORS", "25.6.2, 26.3",
        "XSAVES and XRSTORS work in the guest instead of raising #UD")
        .optional().exits(63, 64).moved("the guest's CPUID: XSAVE and XSAVES"),
    SECONDARY(SECONDARY_EXEC_PASID_TRANSLATION, "PASID translation", "25.6.2, 26.5.8",
        "ENQCMD and ENQCMDS translate the guest's PASIDs")
        .exits(72, 73),
    SECONDARY(SECONDARY_EXEC_MODE_BASED_EPT_EXEC, "Mode-based execute control for EPT", "25.6.2, 29.3.3",
        "EPT has execute permissions for user and for supervisor addresses"),
    SECONDARY(SECONDARY_EXEC_SUB_PAGE_WRITE, "Sub-page write permissions for EPT", "25.6.2, 29.3.4",
        "EPT can allow writes to pieces of 128 bytes")
        .exits(66),
    SECONDARY(SECONDARY_EXEC_PT_USE_GPA, "Intel PT uses guest physical addresses", "25.6.2, 26.5.4",
        "Intel PT's output goes through EPT")
        .optional().moved("Intel PT is the host's alone"),
    SECONDARY(SECONDARY_EXEC_TSC_SCALING, "Use TSC scaling", "25.6.2, 25.6.5",
        "the guest reads the TSC times a ratio")
        .optional().not_in_enlightened_vmcs(),
    SECONDARY(SECONDARY_EXEC_ENABLE_USR_WAIT_PAUSE, "Enable user wait and pause", "25.6.2, 26.3",
        "TPAUSE, UMONITOR and UMWAIT work in the guest instead of raising #UD")
        .optional().exits(67, 68).moved("the guest's CPUID: WAITPKG"),
    SECONDARY(SECONDARY_EXEC_ENABLE_PCONFIG, "Enable PCONFIG", "25.6.2, 26.3",
        "PCONFIG works in the guest instead of raising #UD")
        .exits(65),
    SECONDARY(SECONDARY_EXEC_ENCLV_EXITING, "Enable ENCLV exiting", "25.6.2, 25.6.17",
        "a bitmap chooses the ENCLV leaves that leave the guest")
        .exits(70),
    SECONDARY(SECONDARY_EXEC_BUS_LOCK_DETECTION, "VMM bus-lock detection", "25.6.2, 26.2",
        "a bus lock taken by the guest leaves it")
        .optional().exits(74).moved("KVM_CAP_X86_BUS_LOCK_EXIT"),
    SECONDARY(SECONDARY_EXEC_NOTIFY_VM_EXITING, "Instruction timeout", "25.6.2, 25.6.24",
        "a guest that reaches no instruction boundary for too long is left")
        .optional().not_in_document().exits(75).moved("KVM_CAP_X86_NOTIFY_VMEXIT"),

    // ---- Tertiary processor-based ----
    TERTIARY(TERTIARY_EXEC_LOADIWKEY_EXITING, "LOADIWKEY exiting", "25.6.2, 26.1.3",
        "LOADIWKEY leaves the guest")
        .exits(69),
    TERTIARY(TERTIARY_EXEC_ENABLE_HLAT, "Enable HLAT", "25.6.2, 25.6.22",
        "the hypervisor chooses the page tables of a range of linear addresses"),
    TERTIARY(TERTIARY_EXEC_EPT_PAGING_WRITE, "EPT paging-write control", "25.6.2, 29.3.3",
        "EPT can allow only writes of accessed and dirty flags"),
    TERTIARY(TERTIARY_EXEC_GUEST_PAGING_VERIFICATION, "Guest-paging verification", "25.6.2, 29.3.3",
        "EPT can demand how a page was reached"),
    TERTIARY(TERTIARY_EXEC_IPI_VIRT, "IPI virtualization", "25.6.2, 30.1.6",
        "one vCPU interrupts another without leaving the guest")
        .optional().not_in_document().cleared_without(Parameter::kApicv).moved("APICv active for this vCPU"),
    TERTIARY(TERTIARY_EXEC_SEAM_GPA_WIDTH, "SEAM guest-physical address width", "25.6.2",
        "width of guest-physical addresses of a TDX guest"),
    TERTIARY(TERTIARY_EXEC_ENABLE_MSR_LIST, "Enable MSR-list instructions", "25.6.2, 26.3",
        "RDMSRLIST and WRMSRLIST work in the guest instead of raising #UD")
        .exits(78, 79),
    TERTIARY(TERTIARY_EXEC_VIRTUALIZE_SPEC_CTRL, "Virtualize IA32_SPEC_CTRL", "25.6.2, 26.3",
        "the guest sees and changes only some bits of IA32_SPEC_CTRL"),
    TERTIARY(TERTIARY_EXEC_APIC_TIMER_VIRT, "APIC-timer virtualization", "25.6.2",
        "the guest's TSC deadline is kept by the CPU"),
    TERTIARY(TERTIARY_EXEC_ENABLE_PBNDKB, "Enable PBNDKB", "25.6.2, 26.3",
        "PBNDKB works in the guest instead of raising #UD"),
    TERTIARY(TERTIARY_EXEC_PEBS_USE_GPA, "PEBS uses guest physical addresses", "25.6.2",
        "PEBS output goes through EPT"),

    // ---- VM-exit ----
    EXIT(VM_EXIT_SAVE_DEBUG_CONTROLS, "Save debug controls", "25.7.1, 28.3.1",
        "saves the guest's DR7 and IA32_DEBUGCTL")
        .required(),
    EXIT(VM_EXIT_HOST_ADDR_SPACE_SIZE, "Host address-space size", "25.7.1, 28.5.2",
        "the host goes on in 64-bit mode")
        .required().only_if(ControlCondition::kHost64),
    EXIT(VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL, "Load IA32_PERF_GLOBAL_CTRL", "25.7.1, 28.5.1",
        "loads the host's IA32_PERF_GLOBAL_CTRL")
        .optional().not_in_enlightened_vmcs().moved("only while the host's value differs from the guest's"),
    EXIT(VM_EXIT_ACK_INTR_ON_EXIT, "Acknowledge interrupt on exit", "25.7.1, 28.2.2",
        "an exit for an interrupt takes its vector from the interrupt controller")
        .required(),
    EXIT(VM_EXIT_SAVE_IA32_PAT, "Save IA32_PAT", "25.7.1, 28.3.1",
        "saves the guest's IA32_PAT")
        .optional().not_in_document().moved("never set: writes to IA32_PAT leave the guest"),
    EXIT(VM_EXIT_LOAD_IA32_PAT, "Load IA32_PAT", "25.7.1, 28.5.1",
        "loads the host's IA32_PAT")
        .optional(),
    EXIT(VM_EXIT_SAVE_IA32_EFER, "Save IA32_EFER", "25.7.1, 28.3.1",
        "saves the guest's IA32_EFER")
        .optional().not_in_document().moved("never set: writes to IA32_EFER leave the guest"),
    EXIT(VM_EXIT_LOAD_IA32_EFER, "Load IA32_EFER", "25.7.1, 28.5.1",
        "loads the host's IA32_EFER")
        .optional().moved("only while the host's value differs from the guest's"),
    EXIT(VM_EXIT_SAVE_VMX_PREEMPTION_TIMER, "Save VMX-preemption timer value", "25.7.1, 28.3.1",
        "keeps what is left of the countdown")
        .optional().not_in_enlightened_vmcs().not_in_document().moved("never set: the timer is computed before each entry"),
    EXIT(VM_EXIT_CLEAR_BNDCFGS, "Clear IA32_BNDCFGS", "25.7.1, 28.5.1",
        "clears IA32_BNDCFGS for the host")
        .optional(),
    EXIT(VM_EXIT_PT_CONCEAL_PIP, "Conceal VMX from PT", "25.7.1",
        "Intel PT makes no packet at the exit")
        .optional().moved("Intel PT is the host's alone"),
    EXIT(VM_EXIT_CLEAR_IA32_RTIT_CTL, "Clear IA32_RTIT_CTL", "25.7.1, 28.5.1",
        "clears IA32_RTIT_CTL for the host")
        .optional().moved("Intel PT is the host's alone"),
    EXIT(VM_EXIT_CLEAR_IA32_LBR_CTL, "Clear IA32_LBR_CTL", "25.7.1, 28.5.1",
        "clears IA32_LBR_CTL for the host"),
    EXIT(VM_EXIT_CLEAR_UINV, "Clear UINV", "25.7.1, 28.5.1",
        "clears the user-interrupt notification vector for the host"),
    EXIT(VM_EXIT_LOAD_CET_STATE, "Load CET state", "25.7.1, 28.5.1",
        "loads the host's shadow stack and CET MSRs"),
    EXIT(VM_EXIT_LOAD_IA32_PKRS, "Load PKRS", "25.7.1, 28.5.1",
        "loads the host's IA32_PKRS"),
    EXIT(VM_EXIT_SAVE_IA32_PERF_GLOBAL_CTRL, "Save IA32_PERF_GLOBAL_CTL", "25.7.1, 28.3.1",
        "saves the guest's IA32_PERF_GLOBAL_CTRL"),
    EXIT(VM_EXIT_ACTIVATE_SECONDARY_CONTROLS, "Activate secondary controls", "25.7.1",
        "the secondary VM-exit controls count"),

    // ---- Secondary VM-exit ----
    EXIT2(SECONDARY_VM_EXIT_SAVE_FRED, "Save FRED", "25.7.1",
        "saves the guest's FRED MSRs"),
    EXIT2(SECONDARY_VM_EXIT_LOAD_FRED, "Load FRED", "25.7.1",
        "loads the host's FRED MSRs"),
    EXIT2(SECONDARY_VM_EXIT_LOAD_IA32_SPEC_CTRL, "Load IA32_SPEC_CTRL", "25.7.1",
        "loads the host's IA32_SPEC_CTRL"),
    EXIT2(SECONDARY_VM_EXIT_BUSY_SHADOW_STACK, "Prematurely busy shadow stack", "25.7.1",
        "tells of an exit that left a shadow stack busy"),

    // ---- VM-entry ----
    ENTRY(VM_ENTRY_LOAD_DEBUG_CONTROLS, "Load debug controls", "25.8.1, 27.3.2.1",
        "loads the guest's DR7 and IA32_DEBUGCTL")
        .required(),
    ENTRY(VM_ENTRY_IA32E_MODE, "IA-32e mode guest", "25.8.1, 27.3.2.1",
        "the guest is in IA-32e mode")
        .required().only_if(ControlCondition::kHost64).not_in_document().moved("the guest's EFER.LMA"),
    ENTRY(VM_ENTRY_SMM, "Entry to SMM", "25.8.1",
        "the guest is in system-management mode; only from SMM"),
    ENTRY(VM_ENTRY_DEACT_DUAL_MONITOR, "Deactivate dual-monitor treatment", "25.8.1",
        "ends the dual-monitor treatment; only from SMM"),
    ENTRY(VM_ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL, "Load IA32_PERF_GLOBAL_CTRL", "25.8.1, 27.3.2.1",
        "loads the guest's IA32_PERF_GLOBAL_CTRL")
        .optional().not_in_enlightened_vmcs().moved("only while the host's value differs from the guest's"),
    ENTRY(VM_ENTRY_LOAD_IA32_PAT, "Load IA32_PAT", "25.8.1, 27.3.2.1",
        "loads the guest's IA32_PAT")
        .optional(),
    ENTRY(VM_ENTRY_LOAD_IA32_EFER, "Load IA32_EFER", "25.8.1, 27.3.2.1",
        "loads the guest's IA32_EFER")
        .optional().moved("only while the host's value differs from the guest's"),
    ENTRY(VM_ENTRY_LOAD_BNDCFGS, "Load IA32_BNDCFGS", "25.8.1, 27.3.2.1",
        "loads the guest's IA32_BNDCFGS")
        .optional(),
    ENTRY(VM_ENTRY_PT_CONCEAL_PIP, "Conceal VMX from PT", "25.8.1",
        "Intel PT makes no packet at the entry")
        .optional().moved("Intel PT is the host's alone"),
    ENTRY(VM_ENTRY_LOAD_IA32_RTIT_CTL, "Load IA32_RTIT_CTL", "25.8.1, 27.3.2.1",
        "loads the guest's IA32_RTIT_CTL")
        .optional().moved("Intel PT is the host's alone"),
    ENTRY(VM_ENTRY_LOAD_UINV, "Load UINV", "25.8.1, 27.3.2.1",
        "loads the guest's user-interrupt notification vector"),
    ENTRY(VM_ENTRY_LOAD_CET_STATE, "Load CET state", "25.8.1, 27.3.2.1",
        "loads the guest's shadow stack and CET MSRs"),
    ENTRY(VM_ENTRY_LOAD_IA32_LBR_CTL, "Load guest IA32_LBR_CTL", "25.8.1, 27.3.2.1",
        "loads the guest's IA32_LBR_CTL"),
    ENTRY(VM_ENTRY_LOAD_IA32_PKRS, "Load PKRS", "25.8.1, 27.3.2.1",
        "loads the guest's IA32_PKRS"),
    ENTRY(VM_ENTRY_LOAD_FRED, "Load FRED", "25.8.1",
        "loads the guest's FRED MSRs"),
    ENTRY(VM_ENTRY_LOAD_IA32_SPEC_CTRL, "Load IA32_SPEC_CTRL", "25.8.1",
        "loads the guest's IA32_SPEC_CTRL"),
    ENTRY(VM_ENTRY_ALLOW_SEAM_TELEMETRY, "Allow SEAM-guest telemetry", "25.8.1",
        "telemetry may observe a TDX guest"),
};

#undef PIN
#undef PRIMARY
#undef SECONDARY
#undef TERTIARY
#undef EXIT
#undef EXIT2
#undef ENTRY
// clang-format on

inline constexpr usize kControlCount = sizeof(kControlTable) / sizeof(kControlTable[0]);

namespace control_table {

/// Rows are in the order of their words and bits (so also unique), and slugs fit and are unique.
constexpr bool well_formed()
{
    for (usize i = 0; i < kControlCount; i++) {
        if (text_length(kControlTable[i].slug) + 1 >= kSlugSize)
            return false;
        for (usize j = 0; j < i; j++) {
            const ControlBit &a = kControlTable[j];
            const ControlBit &b = kControlTable[i];
            if (a.field > b.field || (a.field == b.field && a.bit >= b.bit) ||
                text_equal(a.slug, b.slug))
                return false;
        }
    }
    return true;
}
static_assert(well_formed());

} // namespace control_table

} // namespace minivmx
