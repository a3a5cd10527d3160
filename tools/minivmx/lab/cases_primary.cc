// SPDX-License-Identifier: GPL-2.0-only
//
// The lab's cases for the primary processor-based controls. What each control does: SDM Vol. 3C,
// 25.6.2; which instructions exit: 26.1.3.
#include "cases.hpp"
#include "code.hpp"
#include "run.hpp"

#include <minivmx/x86.hpp>

namespace minivmx::tool {

LAB_CODE(kNoCode, "");
LAB_CODE(kArrive, "out 0xf1, al");
LAB_CODE(kOpenWindow, "sti; nop; cli");
LAB_CODE(kReadTsc, "rdtsc");
LAB_CODE(kReadAllOfTsc, "rdtsc; shl rdx, 32; or rax, rdx");
LAB_CODE(kEnableApic, "mov ebx, 0xfee000f0; mov dword ptr [rbx], 0x1ff; out 0xf1, al");
LAB_CODE(kHalt, "sti; hlt; cli");
LAB_CODE(kInvalidatePage, "invlpg [rsi]");
LAB_CODE(kNoHints, "xor eax, eax; xor ecx, ecx; xor edx, edx");
LAB_CODE(kMwait, "mwait");
LAB_CODE(kMonitorData, "mov rax, rsi; xor ecx, ecx; xor edx, edx");
LAB_CODE(kMonitor, "monitor");
LAB_CODE(kReadCounter, "rdpmc");
LAB_CODE(kKeepCr3, "mov rbx, cr3");
LAB_CODE(kLoadCr3, "mov cr3, rbx");
LAB_CODE(kStoreCr3, "mov rax, cr3");
LAB_CODE(kZeroRbx, "xor ebx, ebx");
LAB_CODE(kLoadCr8, "mov cr8, rbx");
LAB_CODE(kStoreCr8, "mov rax, cr8");
LAB_CODE(kBothCr8, "mov cr8, rbx; mov rax, cr8");
LAB_CODE(kAnyExit, "cpuid");
LAB_CODE(kAnyExitAndDr7, "cpuid; mov rax, dr7");
LAB_CODE(kReadDr7, "mov rax, dr7");
LAB_CODE(kWritePort, "out 0xf2, al");
LAB_CODE(kFourNops, "nop; nop; nop; nop");
LAB_CODE(kFsBase, "mov ecx, 0xc0000100");
LAB_CODE(kReadMsr, "rdmsr");
LAB_CODE(kPause, "pause");

namespace {

/// On as usual, off for a VM with KVM_CAP_X86_DISABLE_EXITS.
LabCase by_disabled_exit(const char *slug, std::uint64_t exits, const char *name, LabCode before,
                         LabCode code, ExitReason reason, const char *lesson)
{
    return {
        .slug = slug,
        .off = {.how = name,
                .setup = {.disable_exits = exits},
                .before = before,
                .code = code,
                .expected = stays_in(),
                .bit = false},
        .on = {.how = kAnyVcpu,
               .before = before,
               .code = code,
               .expected = leaves(reason),
               .bit = true},
        .lesson = lesson,
    };
}

/// CR8 is served from a page of memory while the CPU knows the guest's APIC.
LabCase cr8(const char *slug, LabCode code, const char *lesson)
{
    return {
        .slug = slug,
        .off = {.how = kApic,
                .setup = {.irqchip = true},
                .before = kZeroRbx,
                .code = code,
                .expected = stays_in(),
                .bit = false},
        .on = {.how = kNoApic,
               .before = kZeroRbx,
               .code = code,
               .expected = leaves(EXIT_REASON_CR_ACCESS),
               .bit = true},
        .lesson = lesson,
    };
}

// ---- What exits can't tell -----------------------------------------------------------------

constexpr std::uint64_t kTscAhead = std::uint64_t{1} << 45;

const char *check_tsc_offset(const LabRun &, const LabRun &on)
{
    // The guest's TSC was read between two readings of the host's. Setting it took a while, by
    // which the guest's is less far ahead.
    const std::uint64_t early = on.host_tsc_before + kTscAhead - on.tsc_setting_took;
    const std::uint64_t late = on.host_tsc_after + kTscAhead;
    return on.value >= early && on.value <= late
               ? nullptr
               : "the guest's TSC is not the host's plus its offset";
}

// ---- Cases ---------------------------------------------------------------------------------

LabCase interrupt_window()
{
    return {
        .slug = "interrupt-window-exiting",
        .off = {.how = "no interrupt waits",
                .before = kArrive,
                .code = kOpenWindow,
                .expected = stays_in()},
        .on = {.how = "the VMM wants to deliver one (request_interrupt_window)",
               .setup = {.event = LabEvent::kRequestWindow},
               .before = kArrive,
               .code = kOpenWindow,
               .expected = leaves(EXIT_REASON_INTERRUPT_WINDOW)},
        .lesson = "A guest with interrupts off can't be given one. With this control the CPU tells "
                  "as soon as it can.",
    };
}

LabCase tsc_offset()
{
    return {
        .slug = "use-tsc-offsetting",
        .off = {.why_not = "always on: without it a guest would see the host's TSC, and could not "
                           "be moved to another"},
        .on = {.how = "the guest's TSC set 2^45 ticks ahead of the host's",
               .setup = {.tsc_ahead = kTscAhead},
               .before = kNoCode,
               .code = kReadAllOfTsc,
               .expected = stays_in(),
               .bit = true},
        .lesson = "RDTSC gives the sum of TSC and offset without leaving the guest.",
        .check = check_tsc_offset,
    };
}

LabCase halt()
{
    LabCase row = by_disabled_exit(
        "hlt-exiting", KVM_X86_DISABLE_EXITS_HLT, "KVM_X86_DISABLE_EXITS_HLT", kEnableApic, kHalt,
        EXIT_REASON_HLT,
        "The host can use the CPU while the guest sleeps. A guest that has the CPU for itself "
        "sleeps, and wakes, without the hypervisor. An interrupt waits each time, with exits of "
        "its own, and the sleep counts.");
    for (LabSide *side : {&row.off, &row.on}) {
        side->setup.irqchip = true;
        side->setup.event = LabEvent::kQueueInterrupt;
        // Until the guest can take the interrupt, and at its end.
        side->expected.also = {EXIT_REASON_INTERRUPT_WINDOW, EXIT_REASON_APIC_ACCESS,
                               EXIT_REASON_EPT_MISCONFIG};
    }
    return row;
}

LabCase nmi_window()
{
    LabCase row = {
        .slug = "nmi-window-exiting",
        .off = {.how = "one NMI",
                .setup = {.event = LabEvent::kQueueNmi},
                .before = kNoCode,
                .code = kArrive,
                .expected = stays_in()},
        .on = {.how = "a second NMI while the first is handled",
               .setup = {.event = LabEvent::kQueueTwoNmis},
               .before = kNoCode,
               .code = kArrive,
               .expected = leaves(EXIT_REASON_NMI_WINDOW),
               .parameter = Parameter::kVnmi},
        .lesson = "NMIs stay blocked until the handler's IRET. With this control the CPU tells of "
                  "the IRET, and the next NMI can go in. The OUT, by which the guest calls for "
                  "them, is the other exit.",
    };
    row.off.expected.also = row.on.expected.also = {EXIT_REASON_IO_INSTRUCTION, -1, -1};
    return row;
}

LabCase debug_registers()
{
    LabCase row = {
        .slug = "mov-dr-exiting",
        .off = {.how = "the second access after an exit",
                .before = kAnyExitAndDr7,
                .code = kReadDr7,
                .expected = stays_in()},
        .on = {.how = "the first access after an exit",
               .before = kAnyExit,
               .code = kReadDr7,
               .expected = leaves(EXIT_REASON_DR_ACCESS)},
        .lesson = "Few guests use debug registers, so they are not loaded at each entry. The first "
                  "access exits, loads them and turns the control off until the next exit.",
    };
    row.off.expected.stray = 4; // an interrupt of the host may come between both
    return row;
}

LabCase io_bitmaps()
{
    return {
        .slug = "use-io-bitmaps",
        .off = {.how = kAnyVcpu,
                .before = kNoCode,
                .code = kWritePort,
                .expected = leaves(EXIT_REASON_IO_INSTRUCTION),
                .bit = false},
        .on = {.how = "MINIVMX_SET_INTERCEPTS with the port 0xf2",
               .setup = {.intercept_port = kLabExamplePort},
               .before = kNoCode,
               .code = kWritePort,
               .expected = client_sees(EXIT_REASON_IO_INSTRUCTION),
               .bit = true},
        .lesson = "Every port belongs to the VMM here, so every access exits, by \"unconditional "
                  "I/O exiting\"; a bitmap could only let some through to the hardware.",
    };
}

LabCase msr_bitmap()
{
    return {
        .slug = "use-msr-bitmaps",
        .off = {.how = kAnyVcpu,
                .instead = "the bit of IA32_FS_BASE clear",
                .before = kFsBase,
                .code = kReadMsr,
                .expected = stays_in(),
                .bit = true},
        .on = {.how = "MINIVMX_SET_INTERCEPTS with IA32_FS_BASE",
               .instead = "the bit of IA32_FS_BASE set",
               .setup = {.intercept_msr = 0xc0000100},
               .before = kFsBase,
               .code = kReadMsr,
               .expected = client_sees(EXIT_REASON_MSR_READ),
               .bit = true},
        .lesson = "A bit for each MSR decides. The control itself is always on: without it every "
                  "access would exit, also those to MSRs that the CPU keeps apart for the guest.",
    };
}

LabCase unconditional_io()
{
    return only_on("unconditional-io-exiting",
                   {.how = kAnyVcpu,
                    .before = kNoCode,
                    .code = kWritePort,
                    .expected = leaves(EXIT_REASON_IO_INSTRUCTION),
                    .bit = true},
                   "always on: without it the guest would reach the host's ports",
                   "The guest's devices are the VMM's, so each access is its business.");
}

LabCase rdpmc()
{
    return only_on("rdpmc-exiting",
                   {.how = kAnyVcpu,
                    .before = kNoHints,
                    .code = kReadCounter,
                    .expected = leaves_and_faults(EXIT_REASON_RDPMC, GP_VECTOR),
                    .bit = true},
                   "always on: without it the guest would read the host's counters",
                   "This guest has no performance counters: it gets #GP instead.");
}

LabCase tpr_shadow()
{
    LabCase row = cr8("use-tpr-shadow", kBothCr8,
                      "The task priority lies in a page that the CPU reads and writes for the "
                      "guest. Without it each access to CR8 exits, on both ways.");
    std::swap(row.off, row.on); // this control serves CR8, those two make it exit
    row.off.bit = false;
    row.on.bit = true;
    return row;
}

} // namespace

std::vector<LabCase> primary_lab_cases()
{
    return {
        interrupt_window(),
        tsc_offset(),
        halt(),
        off_with_ept(
            by_intercept("invlpg-exiting", MINIVMX_INTERCEPT_INVLPG, "MINIVMX_INTERCEPT_INVLPG",
                         kNoCode, kInvalidatePage, EXIT_REASON_INVLPG,
                         "Needed where the hypervisor shadows page tables; with EPT the guest "
                         "manages its own translations.")),
        by_disabled_exit("mwait-exiting", KVM_X86_DISABLE_EXITS_MWAIT,
                         "KVM_X86_DISABLE_EXITS_MWAIT", kNoHints, kMwait,
                         EXIT_REASON_MWAIT_INSTRUCTION,
                         "With nothing monitored MWAIT does nothing, here or there; what it costs "
                         "to find out differs."),
        rdpmc(),
        by_intercept("rdtsc-exiting", MINIVMX_INTERCEPT_RDTSC, "MINIVMX_INTERCEPT_RDTSC", kNoCode,
                     kReadTsc, EXIT_REASON_RDTSC,
                     "An exit lets a VMM record and replay time; the offset makes it needless "
                     "for all else."),
        off_with_ept(by_intercept(
            "cr3-load-exiting", MINIVMX_INTERCEPT_CR3_LOAD, "MINIVMX_INTERCEPT_CR3_LOAD", kKeepCr3,
            kLoadCr3, EXIT_REASON_CR_ACCESS,
            "Each switch of a process loads CR3. Without EPT a hypervisor must see them; "
            "with it only an observer wants to.")),
        off_with_ept(by_intercept(
            "cr3-store-exiting", MINIVMX_INTERCEPT_CR3_STORE, "MINIVMX_INTERCEPT_CR3_STORE",
            kNoCode, kStoreCr3, EXIT_REASON_CR_ACCESS,
            "Without EPT, CR3 holds the hypervisor's page tables, and the guest must be "
            "told its own.")),
        nothing_to_show(
            "activate-tertiary-controls",
            "it only makes the tertiary word count, none of whose controls a vCPU has yet"),
        cr8("cr8-load-exiting", kLoadCr8,
            "Without an APIC in the kernel the VMM must learn the guest's task priority."),
        cr8("cr8-store-exiting", kStoreCr8,
            "Without an APIC in the kernel CR8 is not what the CPU has there."),
        tpr_shadow(),
        nmi_window(),
        debug_registers(),
        unconditional_io(),
        io_bitmaps(),
        by_intercept("monitor-trap-flag", MINIVMX_INTERCEPT_SINGLE_STEP,
                     "MINIVMX_INTERCEPT_SINGLE_STEP", kNoCode, kFourNops,
                     EXIT_REASON_MONITOR_TRAP_FLAG,
                     "An exit after each instruction: single steps that the guest can't see, as it "
                     "could the trap flag's."),
        msr_bitmap(),
        by_disabled_exit("monitor-exiting", KVM_X86_DISABLE_EXITS_MWAIT,
                         "KVM_X86_DISABLE_EXITS_MWAIT", kMonitorData, kMonitor,
                         EXIT_REASON_MONITOR_INSTRUCTION,
                         "MONITOR without MWAIT is of no use, so both are on or off together."),
        by_intercept("pause-exiting", MINIVMX_INTERCEPT_PAUSE, "MINIVMX_INTERCEPT_PAUSE", kNoCode,
                     kPause, EXIT_REASON_PAUSE_INSTRUCTION,
                     "Every PAUSE exits; \"PAUSE-loop exiting\" waits until a loop of them "
                     "takes too long."),
        nothing_to_show(
            "activate-secondary-controls",
            "it only makes the secondary word count, as every case of that word shows; turned "
            "off, it would take EPT away and all the others with it, as on a CPU without them"),
    };
}

} // namespace minivmx::tool
