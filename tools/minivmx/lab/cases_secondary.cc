// SPDX-License-Identifier: GPL-2.0-only
//
// The lab's cases for the secondary processor-based controls. What each control does: SDM Vol. 3C,
// 25.6.2; which instructions exit or fault: 26.1.3 and 26.3.
#include "cases.hpp"
#include "code.hpp"
#include "layout.hpp"
#include "run.hpp"

#include <minivmx/x86.hpp>

#include <utility>

namespace minivmx::tool {

LAB_CODE(kNone, "");
LAB_CODE(kApicVersion, "mov ebx, 0xfee00030");
LAB_CODE(kApicEoiAddress, "mov ebx, 0xfee000b0");
LAB_CODE(kReadRegister, "mov eax, [rbx]");
LAB_CODE(kWriteRegister, "mov dword ptr [rbx], 0");
LAB_CODE(kNoMemory, "mov ebx, 0xd0000000");
LAB_CODE(kStoreGdtr, "sgdt [rsi]");
LAB_CODE(kReadTscAndCpu, "rdtscp");
LAB_CODE(kX2apicTpr, "mov ecx, 0x808");
LAB_CODE(kReadMsrOfApic, "rdmsr");
LAB_CODE(kFillTlb, "out 0xf1, al; mov r11, 0x40000000; invlpg [r11]; mov rax, [r11]");
LAB_CODE(kRemapPage, "mov qword ptr ds:[0x4000], 0x4000e3; cpuid; mov rax, [r11]");
LAB_CODE(kWriteBackCaches, "wbinvd");
LAB_CODE_OF_WIDTH(kRealMode, 16, "mov eax, cr0; out 0xf4, al");
LAB_CODE(kPauseLoop, "mov ecx, 2000; 7: pause; dec ecx; jnz 7b");
LAB_CODE(kRandom, "rdrand rax");
LAB_CODE(kSeed, "rdseed rax");
LAB_CODE(kAllContexts, "mov ebx, 2");
LAB_CODE(kInvalidateAll, "invpcid rbx, [rsi]");
LAB_CODE(kFunctionZero, "xor eax, eax; xor ecx, ecx");
LAB_CODE(kVmFunction, "vmfunc");
LAB_CODE(kVmcsField, "mov ebx, 0x6800");
LAB_CODE(kReadVmcs, "vmread rax, rbx");
LAB_CODE(kEnclave, "encls");
LAB_CODE(kCleanPages, "out 0xf1, al; mov ebx, 0x1000000; mov ecx, 600");
LAB_CODE(kDirtyPages, "7: mov byte ptr [rbx], 1; add rbx, 4096; dec ecx; jnz 7b");
LAB_CODE(kSseState, "mov eax, 3; xor edx, edx");
LAB_CODE(kSaveState, "xsaves [rdi]");
LAB_CODE(kSpin, "mov ecx, 5000; 7: dec ecx; jnz 7b");
LAB_CODE(kNoDeadline, "xor eax, eax; xor edx, edx; xor ecx, ecx");
LAB_CODE(kTimedPause, "tpause ecx");
LAB_CODE(kConfigure, "pconfig");

namespace {

constexpr int kUd = UD_VECTOR;

/// An instruction that exists for a guest whose CPUID has it.
LabCase by_cpuid(const char *slug, std::vector<CpuidFeature> features, const char *without,
                 LabCode before, LabCode code, const char *lesson)
{
    return {
        .slug = slug,
        .off = {.how = without,
                .setup = {.hide = features},
                .before = before,
                .code = code,
                .expected = faults(kUd),
                .bit = false},
        .on = {.how = kAnyVcpu,
               .setup = {.need = {features.front()}},
               .before = before,
               .code = code,
               .expected = stays_in(),
               .bit = true},
        .lesson = lesson,
    };
}

/// An instruction that no control can make fault: it exits for a guest whose CPUID lacks it.
LabCase by_missing_cpuid(const char *slug, CpuidFeature feature, const char *without, LabCode code,
                         ExitReason reason, const char *lesson)
{
    return {
        .slug = slug,
        .off = {.how = kAnyVcpu,
                .setup = {.need = {feature}},
                .before = kNone,
                .code = code,
                .expected = stays_in(),
                .bit = false},
        .on = {.how = without,
               .setup = {.hide = {feature}},
               .before = kNone,
               .code = code,
               .expected = leaves_and_faults(reason, kUd),
               .bit = true},
        .lesson = lesson,
    };
}

// ---- The guest's memory --------------------------------------------------------------------

constexpr LabOutcome leaves_by_ept()
{
    return {.exits = {EXIT_REASON_EPT_VIOLATION, EXIT_REASON_EPT_MISCONFIG, -1}};
}

/// By #PF where the tables are the hypervisor's shadows of the guest's.
constexpr LabOutcome leaves_for_no_memory()
{
    LabOutcome outcome = leaves_by_ept();
    outcome.exits[2] = EXIT_REASON_EXCEPTION_NMI;
    return outcome;
}

LabCase ept()
{
    return {
        .slug = "enable-ept",
        .off = {.how = "ept=0",
                .before = kNoMemory,
                .code = kReadRegister,
                .expected = leaves(EXIT_REASON_EXCEPTION_NMI),
                .bit = false,
                .parameter = Parameter::kEpt,
                .parameter_on = false},
        .on = {.how = kAnyVcpu,
               .before = kNoMemory,
               .code = kReadRegister,
               .expected = leaves_by_ept(),
               .bit = true,
               .parameter = Parameter::kEpt},
        .lesson = "The guest reads where it has no memory: its own page tables allow that, the "
                  "second set does not. Without that set the CPU walks tables that minivmx makes "
                  "of the guest's, and the exit is a page fault.",
    };
}

const char *check_vpid(const LabRun &off, const LabRun &)
{
    return off.measured() && off.value != kLabSecondPage
               ? "a translation outlived an exit without VPID: SDM Vol. 3C, 29.4.3.1"
               : nullptr;
}

const char *remark_translation(const LabRun &run)
{
    return run.value == kLabSecondPage ? "the exit dropped the old translation"
                                       : "the old translation outlived the exit";
}

LabCase vpid()
{
    LabCase row = {
        .slug = "enable-vpid",
        .off = {.how = "vpid=0",
                .setup = {.event = LabEvent::kRestoreMapping},
                .before = kFillTlb,
                .code = kRemapPage,
                .expected = stays_in(),
                .bit = false,
                .parameter = Parameter::kVpid,
                .parameter_on = false,
                .with_ept = true},
        .on = {.how = kAnyVcpu,
               .setup = {.event = LabEvent::kRestoreMapping},
               .before = kFillTlb,
               .code = kRemapPage,
               .expected = stays_in(),
               .bit = true,
               .parameter = Parameter::kVpid,
               .with_ept = true},
        .lesson = "The guest maps a page elsewhere, forgets INVLPG, leaves by CPUID and reads. "
                  "Without VPID each exit drops all translations; with it a CPU may keep them, "
                  "which is the gain.",
        .check = check_vpid,
        .remark = remark_translation,
    };
    row.off.expected.also = row.on.expected.also = {EXIT_REASON_CPUID, -1, -1};
    return row;
}

LabCase unrestricted_guest()
{
    LabCase row = {
        .slug = "unrestricted-guest",
        .off = {.how = "unrestricted_guest=0",
                .setup = {.real_mode = true},
                .before = kNone,
                .code = kRealMode,
                .expected = leaves(EXIT_REASON_EXCEPTION_NMI),
                .bit = false,
                .parameter = Parameter::kUnrestrictedGuest,
                .parameter_on = false},
        .on = {.how = kAnyVcpu,
               .setup = {.real_mode = true},
               .before = kNone,
               .code = kRealMode,
               .expected = leaves(EXIT_REASON_IO_INSTRUCTION),
               .bit = true,
               .parameter = Parameter::kUnrestrictedGuest},
        .lesson = "VMX wants paging and protection on. With this control a guest may start in real "
                  "mode, as a PC does. Without it virtual-8086 mode stands in, where MOV from CR0 "
                  "is a fault, and the hypervisor carries it out.",
    };
    row.off.expected.also = {EXIT_REASON_IO_INSTRUCTION, -1, -1};
    return row;
}

LabCase invpcid()
{
    LabCase row =
        by_cpuid("enable-invpcid", {CpuidFeature::kInvpcid}, "CPUID without INVPCID", kAllContexts,
                 kInvalidateAll, "A guest that may move to an older CPU must not find it.");
    row.on.with_ept = true; // it exits together with INVLPG: SDM Vol. 3C, 26.1.3
    return row;
}

LabCase pml()
{
    LabCase row = {
        .slug = "enable-pml",
        .off = {.how = "memory that is not logged",
                .before = kCleanPages,
                .code = kDirtyPages,
                .expected = stays_in(),
                .bit = false},
        .on = {.how = "KVM_MEM_LOG_DIRTY_PAGES",
               .setup = {.log_dirty_pages = true, .event = LabEvent::kCollectDirtyPages},
               .before = kCleanPages,
               .code = kDirtyPages,
               .expected = leaves(EXIT_REASON_PML_FULL),
               .bit = true,
               .parameter = Parameter::kPml},
        .lesson = "600 pages become dirty. The CPU writes their addresses to a page of 512 "
                  "entries and exits when that is full: one exit where write protection would "
                  "take 600.",
    };
    // An interrupt of the host empties the log early.
    row.on.expected.least = 1;
    return row;
}

// ---- The guest's APIC ----------------------------------------------------------------------

LabCase apic_accesses()
{
    return {
        .slug = "virtualize-apic-accesses",
        .off = {.how = kNoApic,
                .before = kApicVersion,
                .code = kReadRegister,
                .expected = leaves_for_no_memory(),
                .bit = false},
        .on = {.how = kApic,
               .setup = {.irqchip = true},
               .before = kApicVersion,
               .code = kReadRegister,
               .expected = leaves(EXIT_REASON_APIC_ACCESS),
               .bit = true,
               .parameter = Parameter::kFlexpriority},
        .lesson = "The APIC's page is memory to the guest. The CPU knows the page, says which "
                  "register it was, and serves the task priority itself.",
    };
}

LabCase x2apic()
{
    return {
        .slug = "virtualize-x2apic-mode",
        .off = {.how = "an APIC in xAPIC mode",
                .setup = {.irqchip = true},
                .before = kX2apicTpr,
                .code = kReadMsrOfApic,
                .expected = leaves_and_faults(EXIT_REASON_MSR_READ, GP_VECTOR),
                .bit = false},
        .on = {.how = "an APIC in x2APIC mode",
               .setup = {.irqchip = true, .x2apic = true, .need = {CpuidFeature::kX2apic}},
               .before = kX2apicTpr,
               .code = kReadMsrOfApic,
               .expected = stays_in(),
               .bit = true},
        .lesson = "In x2APIC mode the registers are MSRs. The CPU serves the task priority, MSR "
                  "808H, itself.",
    };
}

constexpr const char *kNoApicv = "no vCPU uses APIC virtualization yet";

LabCase apic_registers()
{
    return only_off("apic-register-virtualization",
                    {.how = kApic,
                     .setup = {.irqchip = true},
                     .before = kApicVersion,
                     .code = kReadRegister,
                     .expected = leaves(EXIT_REASON_APIC_ACCESS),
                     .bit = false,
                     .parameter = Parameter::kFlexpriority},
                    kNoApicv, "Without it only the task priority is read without an exit.");
}

LabCase interrupt_delivery()
{
    return only_off("virtual-interrupt-delivery",
                    {.how = kApic,
                     .setup = {.irqchip = true},
                     .before = kApicEoiAddress,
                     .code = kWriteRegister,
                     .expected = leaves(EXIT_REASON_APIC_ACCESS),
                     .bit = false,
                     .parameter = Parameter::kFlexpriority},
                    kNoApicv, "Without it the end of each interrupt, a write to EOI, exits.");
}

// ---- Instructions --------------------------------------------------------------------------

LabCase wbinvd()
{
    return only_on("wbinvd-exiting",
                   {.how = kAnyVcpu,
                    .before = kNone,
                    .code = kWriteBackCaches,
                    .expected = leaves(EXIT_REASON_WBINVD),
                    .bit = true},
                   "always on: a guest could write back the caches of the whole host again and "
                   "again",
                   "No device of a guest bypasses the caches here, so it is skipped.");
}

LabCase pause_loop()
{
    LabCase row = {
        .slug = "pause-loop-exiting",
        .off = {.how = "KVM_X86_DISABLE_EXITS_PAUSE",
                .setup = {.disable_exits = KVM_X86_DISABLE_EXITS_PAUSE},
                .before = kNone,
                .code = kPauseLoop,
                .expected = stays_in(),
                .bit = false},
        .on = {.how = kAnyVcpu,
               .before = kNone,
               .code = kPauseLoop,
               .expected = leaves(EXIT_REASON_PAUSE_INSTRUCTION),
               .bit = true,
               .parameter = Parameter::kPleGap},
        .lesson = "2000 PAUSEs close together: a vCPU waits for a lock, perhaps of one that has "
                  "no CPU. After ple_window ticks the host may run another.",
    };
    row.on.expected.least = 1;
    return row;
}

LabCase vm_functions()
{
    return only_on("enable-vm-functions",
                   {.how = kAnyVcpu,
                    .before = kFunctionZero,
                    .code = kVmFunction,
                    .expected = leaves_and_faults(EXIT_REASON_VMFUNC, kUd),
                    .bit = true},
                   "always on, with no function enabled, as in kvm_intel; a guest sees no "
                   "difference",
                   "With functions, a guest could switch between sets of EPT tables without "
                   "leaving. None is enabled, so VMFUNC exits and the guest gets #UD.");
}

LabCase vmcs_shadowing()
{
    return only_off("vmcs-shadowing",
                    {.how = kAnyVcpu,
                     .before = kVmcsField,
                     .code = kReadVmcs,
                     .expected = leaves_and_faults(EXIT_REASON_VMREAD, kUd),
                     .bit = false},
                    "needs a guest that is a hypervisor itself, and minivmx offers no nested VMX",
                    "VMREAD always exits. The control would serve a guest hypervisor from a "
                    "shadow of its VMCS.");
}

LabCase encls()
{
    return only_on("enable-encls-exiting",
                   {.how = kAnyVcpu,
                    .before = kFunctionZero,
                    .code = kEnclave,
                    .expected = leaves_and_faults(EXIT_REASON_ENCLS, kUd),
                    .bit = true},
                   "always on where the CPU has SGX, which guests are not given",
                   "Every leaf of ENCLS exits, and the guest gets the #UD of a CPU without SGX.");
}

const char *check_tsc_scaling(const LabRun &off, const LabRun &on)
{
    if (!off.measured() || !on.measured())
        return nullptr;
    // At half the rate the same loop takes half as many ticks; it may vary by a tenth.
    return on.ticks * 20 >= off.ticks * 9 && on.ticks * 20 <= off.ticks * 11
               ? nullptr
               : "the guest's TSC does not run at half the rate";
}

LabCase tsc_scaling()
{
    return {
        .slug = "use-tsc-scaling",
        .off = {.how = kAnyVcpu,
                .instead = "a ratio of 1",
                .before = kNone,
                .code = kSpin,
                .expected = stays_in(),
                .bit = true},
        .on = {.how = "KVM_SET_TSC_KHZ",
               .instead = "half the host's rate",
               .setup = {.half_tsc_rate = true},
               .before = kNone,
               .code = kSpin,
               .expected = stays_in(),
               .bit = true},
        .lesson = "A guest that was started on a CPU with another TSC rate keeps it. 10000 "
                  "instructions take half as many ticks here.",
        .check = check_tsc_scaling,
    };
}

LabCase pconfig()
{
    return only_off("enable-pconfig",
                    {.how = kAnyVcpu,
                     .before = kFunctionZero,
                     .code = kConfigure,
                     .expected = faults(kUd),
                     .bit = false},
                    "guests are not given memory encryption keys",
                    "The instruction does not exist for the guest.");
}

} // namespace

std::vector<LabCase> secondary_lab_cases()
{
    constexpr const char *kPtIsTheHosts = "Intel PT is the host's alone, so it is never on";
    return {
        apic_accesses(),
        ept(),
        by_intercept("descriptor-table-exiting", MINIVMX_INTERCEPT_DESCRIPTOR_TABLE,
                     "MINIVMX_INTERCEPT_DESCRIPTOR_TABLE", kNone, kStoreGdtr, EXIT_REASON_GDTR_IDTR,
                     "Malware that looks for a hypervisor, and rootkits that hook tables, show "
                     "themselves here."),
        by_cpuid("enable-rdtscp", {CpuidFeature::kRdtscp, CpuidFeature::kRdpid},
                 "CPUID without RDTSCP and RDPID", kNone, kReadTscAndCpu,
                 "A guest that may move to an older CPU must not find the instruction."),
        x2apic(),
        vpid(),
        wbinvd(),
        unrestricted_guest(),
        apic_registers(),
        interrupt_delivery(),
        pause_loop(),
        by_missing_cpuid("rdrand-exiting", CpuidFeature::kRdrand, "CPUID without RDRAND", kRandom,
                         EXIT_REASON_RDRAND,
                         "No control makes RDRAND fault by itself, so the hypervisor injects #UD."),
        invpcid(),
        vm_functions(),
        vmcs_shadowing(),
        encls(),
        by_missing_cpuid("rdseed-exiting", CpuidFeature::kRdseed, "CPUID without RDSEED", kSeed,
                         EXIT_REASON_RDSEED,
                         "No control makes RDSEED fault by itself, so the hypervisor injects #UD."),
        pml(),
        nothing_to_show("ept-violation-ve",
                        "never on: the page that tells the guest of a #VE would be part of an "
                        "interface that no guest knows"),
        nothing_to_show("conceal-vmx-from-pt", kPtIsTheHosts),
        by_cpuid("enable-xsaves-xrstors", {CpuidFeature::kXsaves}, "CPUID without XSAVES",
                 kSseState, kSaveState,
                 "The instruction also saves supervisor state, so it is for guests that know "
                 "IA32_XSS."),
        nothing_to_show("pasid-translation", "never on: no guest is given ENQCMD"),
        nothing_to_show("mode-based-execute-control-for-ept",
                        "never on: a guest's pages are executable for its kernel and its users "
                        "alike"),
        nothing_to_show("sub-page-write-permissions-for-ept",
                        "never on: memory is protected in whole pages"),
        nothing_to_show("intel-pt-uses-guest-physical-addresses", kPtIsTheHosts),
        tsc_scaling(),
        by_cpuid("enable-user-wait-and-pause", {CpuidFeature::kWaitpkg}, "CPUID without WAITPKG",
                 kNoDeadline, kTimedPause,
                 "TPAUSE with a deadline that has passed ends at once. Real ones end by "
                 "IA32_UMWAIT_CONTROL, which is the guest's."),
        pconfig(),
        nothing_to_show("enable-enclv-exiting", "never on: guests are not given SGX"),
        nothing_to_show("vmm-bus-lock-detection", "never on: KVM_CAP_X86_BUS_LOCK_EXIT is not "
                                                  "offered"),
        nothing_to_show("instruction-timeout", "never on: KVM_CAP_X86_NOTIFY_VMEXIT is not "
                                               "offered"),
    };
}

} // namespace minivmx::tool
