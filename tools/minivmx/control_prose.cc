// SPDX-License-Identifier: GPL-2.0-only
#include "control_prose.hpp"

#include <algorithm>
#include <iterator>
#include <string_view>

namespace minivmx::tool {
namespace {

struct Prose {
    std::string_view slug;
    const char *text;
};

// In the order of the table of control bits. What a control does is the SDM's (each row of the
// table cites the section); how it is used is this hypervisor's.
constexpr Prose kProse[] = {
    // ---- Pin-based ----
    {"external-interrupt-exiting",
     "Without it an interrupt that arrives in the guest goes through the guest's IDT, and the host "
     "loses its devices and its timer. With it the guest's RFLAGS.IF no longer masks the host's "
     "interrupts."},
    {"nmi-exiting",
     "Without it the guest's own handler gets the host's NMIs: its watchdog, its profiler and its "
     "crash signals. The exit reports an exception of type NMI, and the host runs its handler "
     "then."},
    {"virtual-nmis",
     "With it, blocking of NMIs by an NMI that is being handled is the guest's own and is kept in "
     "its interruptibility state; an NMI can be injected as soon as the NMI window opens. "
     "Without it the hypervisor can only guess when the guest's handler ends. Needs NMI exiting."},
    {"activate-vmx-preemption-timer",
     "It counts down from a VMCS field at the rate of the TSC divided by a power of two "
     "(IA32_VMX_MISC[4:0]), while the processor is in the guest. A hypervisor keeps the guest's "
     "next timer event in it and needs no interrupt of the host for that."},
    {"process-posted-interrupts",
     "Another processor, or an IOMMU, sets a bit in a descriptor in memory and sends a "
     "notification vector; a CPU in the guest then takes the bits over into the virtual APIC "
     "without an exit. Needs virtual-interrupt delivery and acknowledging interrupts on exit."},

    // ---- Primary processor-based ----
    {"interrupt-window-exiting",
     "An interrupt cannot be injected while RFLAGS.IF is 0 or after STI or MOV SS. The hypervisor "
     "sets the bit, enters the guest, gets this exit at the first instruction boundary where an "
     "interrupt is welcome, and clears the bit."},
    {"use-tsc-offsetting",
     "RDTSC, RDTSCP and RDMSR of IA32_TIME_STAMP_COUNTER in the guest give the host's TSC plus "
     "the field TSC_OFFSET, so a guest's clock may begin at zero or go on after a move to another "
     "host. It has no effect on an instruction that exits."},
    {"hlt-exiting",
     "The hypervisor puts the vCPU's thread to sleep until something arrives for the guest, and "
     "the host's CPU is free for others. Without it the CPU halts inside the guest: nothing to "
     "wake a thread for, so the least latency, and a CPU that the host cannot use."},
    {"invlpg-exiting",
     "A hypervisor that shadows the guest's page tables must hear when the guest drops a "
     "translation. With EPT the guest's own page tables are used as they are, and the exit would "
     "cost time for nothing."},
    {"mwait-exiting",
     "MWAIT in the guest could put the host's CPU into a deep sleep for as long as the guest "
     "likes. The guest's CPUID does not offer it; a guest that uses it all the same gets a NOP, "
     "as with KVM."},
    {"rdpmc-exiting",
     "The performance counters are the host's; a guest could read them and learn what the host "
     "does."},
    {"rdtsc-exiting",
     "It lets a hypervisor show the guest any time it likes, at the cost of an exit for each "
     "glance at the clock. Offsetting and scaling of the TSC need no exits, so it stays off unless "
     "a client of this hypervisor asks to see RDTSC."},
    {"cr3-load-exiting",
     "Needed where the hypervisor shadows the page tables: a new CR3 is a new set of tables to "
     "shadow. Values in the CR3-target list do not exit. With EPT the guest's CR3 is real, and the "
     "first thing that negotiation does with EPT in hand is to turn this off."},
    {"cr3-store-exiting",
     "Where page tables are shadowed, CR3 holds the root of the shadow, and the guest must not "
     "see that. With EPT it holds the guest's own value."},
    {"activate-tertiary-controls",
     "With 0 the processor takes the 64-bit tertiary word as if it were all zero."},
    {"cr8-load-exiting",
     "CR8 is the task-priority register of the local APIC. Either the TPR shadow keeps the "
     "guest's value, or each write must exit: otherwise the guest would mask the host's "
     "interrupts."},
    {"cr8-store-exiting",
     "The counterpart for reads: without the TPR shadow, the value in the CPU is the host's."},
    {"use-tpr-shadow",
     "MOV to and from CR8 read and write offset 80H of the virtual-APIC page. A write exits only "
     "where the new priority falls below TPR_THRESHOLD, that is, where an interrupt that waits "
     "may now be taken. All of APIC virtualization builds on this page."},
    {"nmi-window-exiting",
     "As interrupt-window exiting, for an NMI that waits because the guest is still handling one. "
     "A VM entry with this bit and without virtual NMIs fails."},
    {"mov-dr-exiting",
     "As long as the guest's debug registers are not in the CPU, its first access loads them; then "
     "the bit is cleared until the vCPU leaves this CPU, and accesses cost nothing."},
    {"unconditional-io-exiting",
     "Devices are emulated, so IN, OUT, INS and OUTS of every port exit. The bit is ignored while "
     "I/O bitmaps are in use."},
    {"use-io-bitmaps",
     "A bit for each of 65,536 ports, in two pages of 4 KiB. A clear bit lets the guest touch the "
     "host's port directly. An access that wraps around the end of the ports always exits."},
    {"monitor-trap-flag",
     "A single step that the guest cannot see: RFLAGS.TF stays its own, and no debug exception is "
     "involved. The exit comes after the instruction, or after the delivery of an event. An MTF "
     "exit may also be injected without this bit."},
    {"use-msr-bitmaps",
     "Four bitmaps of 1 KiB in one page: reads and writes of MSRs 0 to 1FFFH and C0000000H to "
     "C0001FFFH. Accesses to other MSRs exit always. This hypervisor lets the guest have the few "
     "MSRs that the VMCS switches for it, such as IA32_FS_BASE."},
    {"monitor-exiting",
     "It goes with MWAIT exiting: the address range that MONITOR arms is of no use where MWAIT "
     "does not wait."},
    {"pause-exiting",
     "PAUSE is what spin loops are made of, so this makes each turn of a loop expensive; "
     "PAUSE-loop exiting exists to catch only the loops that take too long, and is ignored "
     "where this bit is set."},
    {"activate-secondary-controls",
     "With 0 the processor takes the secondary word as if it were all zero: no EPT, no VPID, no "
     "unrestricted guest."},

    // ---- Secondary processor-based ----
    {"virtualize-apic-accesses",
     "The guest's APIC page is mapped to the page APIC_ACCESS_ADDR. Accesses of the task priority "
     "are served from the virtual-APIC page where the TPR shadow is on; all others exit, with the "
     "offset and the kind of access in the qualification, so that fewer instructions must be "
     "decoded."},
    {"enable-ept",
     "The guest's physical addresses are translated once more, by tables that only the hypervisor "
     "sees. Page faults and CR3 are the guest's affair then. An access to what the tables lack or "
     "forbid is an EPT violation; an entry that makes no sense is an EPT misconfiguration, which "
     "is used here to recognise device memory fast."},
    {"descriptor-table-exiting",
     "With it a hypervisor can show the guest UMIP where the CPU has none: SGDT and its kin exit "
     "and are refused at CPL 3. LGDT, LIDT, LLDT and LTR exit, too, and are emulated."},
    {"enable-rdtscp",
     "The control hides two instructions from a guest whose CPUID has neither. RDPID, which came "
     "years later, shares it."},
    {"virtualize-x2apic-mode",
     "The APIC's registers as MSRs 800H to 8FFH: with the TPR shadow MSR 808H is served from the "
     "virtual-APIC page, with APIC-register virtualization most other reads are. Cannot be on "
     "together with virtualized APIC accesses."},
    {"enable-vpid",
     "Each vCPU's translations carry its number, so that those of the host and of other vCPUs "
     "survive an entry and an exit. Without it each transition flushes the TLB. The number 0 is "
     "the host's; an entry with VPID on and a number of 0 fails."},
    {"wbinvd-exiting",
     "Writing back all caches takes milliseconds and disturbs every other user of the machine. "
     "Only a guest with a device that does not snoop caches needs it; no guest here has one, so "
     "the instruction becomes a NOP."},
    {"unrestricted-guest",
     "CR0.PE and CR0.PG may be 0 in the guest. CPUs without it cannot enter real mode; a "
     "hypervisor must then run real-mode code in virtual-8086 mode or emulate it. Needs EPT."},
    {"apic-register-virtualization",
     "Reads of nearly all APIC registers come from the virtual-APIC page; writes go there, and "
     "exit afterwards, with the offset as qualification, where they must have an effect."},
    {"virtual-interrupt-delivery",
     "The processor keeps the guest's requested and in-service vectors, evaluates priorities, and "
     "delivers without an exit; writes of EOI, TPR and self-IPIs need none either. The EOI of a "
     "vector in the EOI-exit bitmap exits, for the IOAPIC's level-triggered interrupts. Needs "
     "external-interrupt exiting."},
    {"pause-loop-exiting",
     "PAUSEs at CPL 0 that follow each other within PLE_GAP TSC ticks count as one loop; a loop "
     "that lasts longer than PLE_WINDOW ticks exits. The vCPU that spins may be waiting for a lock "
     "whose holder is not running: the exit lets it run."},
    {"rdrand-exiting",
     "Makes RDRAND disappear for a guest whose CPUID does not list it: the exit is answered with "
     "#UD. Also how a test or a replay gets random numbers of its choice."},
    {"enable-invpcid",
     "Where it is on, INVPCID works without exits unless INVLPG exiting is on, too. Off, a guest "
     "whose CPUID has no INVPCID gets the #UD that it may rely on."},
    {"enable-vm-functions",
     "VMFUNC leaf 0 lets a guest switch among up to 512 EPT roots that its hypervisor has put in a "
     "list, without an exit. Bits of VM_FUNCTION_CONTROLS choose the leaves; a leaf that is not "
     "enabled exits. This hypervisor enables none."},
    {"vmcs-shadowing",
     "For hypervisors inside guests: VMREAD and VMWRITE of fields that two bitmaps clear work on a "
     "shadow VMCS without an exit. This hypervisor offers no VMX to its guests."},
    {"enable-encls-exiting",
     "ENCLS is SGX's supervisor instruction (ECREATE, EADD, EINIT ...). With SGX on the CPU and "
     "none offered to the guest, all leaves exit and are answered as on a CPU without SGX."},
    {"rdseed-exiting",
     "As RDRAND exiting, for RDSEED: it makes the instruction disappear for a guest whose CPUID "
     "does not list it."},
    {"enable-pml",
     "Each time the CPU sets the dirty flag of an EPT entry, it writes the page's address into a "
     "log of 512 entries; the exit comes when that is full. Whoever moves a running guest to "
     "another host reads the log in place of write-protecting all its memory. Needs EPT with "
     "accessed and dirty flags."},
    {"ept-violation-ve",
     "A violation of a page whose EPT entry has bit 63 clear becomes exception 20 in the guest, "
     "with details in an information area, so that an agent inside can decide without an exit."},
    {"conceal-vmx-from-pt",
     "Paging-information packets of a trace that runs in the guest show VMX non-root operation; "
     "this hides it. It matters where the guest itself uses Intel PT, which it cannot here."},
    {"enable-xsaves-xrstors",
     "XSAVES and XRSTORS exit only for components whose bit is set in XSS_EXIT_BITMAP. Off, a "
     "guest whose CPUID has no XSAVES gets #UD."},
    {"pasid-translation",
     "ENQCMD takes its PASID from IA32_PASID, ENQCMDS from memory: a number that is the guest's "
     "own. The CPU looks it up in two directories of the hypervisor and sends the device the "
     "host's number; an entry that is not there exits."},
    {"mode-based-execute-control-for-ept",
     "Bit 2 of an EPT entry then allows execution at supervisor-mode addresses only, and bit 10 at "
     "user-mode ones. Code that only the guest's kernel may run, or only its users, can be told "
     "apart."},
    {"sub-page-write-permissions-for-ept",
     "A write to a page that EPT forbids looks into a table with 32 permissions a page. An entry "
     "of that table that is missing or wrong exits."},
    {"intel-pt-uses-guest-physical-addresses",
     "The addresses of Intel PT's output are the guest's and are translated by EPT, so that a "
     "guest may trace itself into memory of its own. Needs EPT and switching of IA32_RTIT_CTL at "
     "entry and exit."},
    {"use-tsc-scaling",
     "The TSC is multiplied by TSC_MULTIPLIER / 2^48 before the offset is added, so that a guest "
     "keeps its TSC's frequency on a host with another one."},
    {"enable-user-wait-and-pause",
     "UMWAIT and TPAUSE then exit only where RDTSC exiting is on; how long they may wait is "
     "limited by IA32_UMWAIT_CONTROL, which is the guest's own."},
    {"enable-pconfig",
     "PCONFIG programs keys of total memory encryption. Where it is on, a bitmap chooses the "
     "leaves that exit."},
    {"enable-enclv-exiting",
     "ENCLV is SGX's instruction for hypervisors that overcommit enclave memory; this lets a "
     "hypervisor see a nested one use it."},
    {"vmm-bus-lock-detection",
     "An atomic access that crosses cache lines, or goes to uncached memory, locks the bus for "
     "all CPUs. The exit comes after the instruction, so it counts and may slow down who does "
     "this too often; the client turns it on for its VM."},
    {"instruction-timeout",
     "Some events, such as a #DB that is delivered in the middle of another's delivery, can keep "
     "a CPU from reaching any instruction boundary, and so from taking interrupts. After "
     "NOTIFY_WINDOW and a margin of the CPU's own, the guest is left; the client sets the window "
     "for its VM."},

    // ---- Tertiary processor-based ----
    {"loadiwkey-exiting",
     "LOADIWKEY loads the internal wrapping key of Key Locker, of which a logical processor has "
     "one; a guest that loads its own destroys the host's."},
    {"enable-hlat",
     "A range at the top of the linear addresses is translated by tables that the hypervisor "
     "roots, so that a guest's kernel cannot be tricked into remapping its own code."},
    {"ept-paging-write-control",
     "Bit 58 of an EPT entry lets the CPU set accessed and dirty flags in a page that holds page "
     "tables, while the guest's own writes to it still exit. It goes with HLAT."},
    {"guest-paging-verification",
     "Bit 57 of an EPT entry demands that every paging structure on the way to the page lies in "
     "a page with paging-write access (bit 58): other tables that map the same memory are found "
     "out. It goes with HLAT."},
    {"ipi-virtualization",
     "A write of the interrupt-command register posts the interrupt into the descriptor of the "
     "vCPU that a table names for the destination, and notifies its CPU, without an exit of the "
     "sender. Needs the TPR shadow."},
    {"seam-guest-physical-address-width",
     "It chooses which bit of a guest-physical address tells shared from private memory. Only the "
     "TDX module, in SEAM, can use it."},
    {"enable-msr-list-instructions",
     "RDMSRLIST and WRMSRLIST access up to 64 MSRs at once. With MSR bitmaps in use, they exit at "
     "the first MSR whose bit is set; without them, always."},
    {"virtualize-ia32-spec-ctrl",
     "The hypervisor sets bits of IA32_SPEC_CTRL that stay set whatever the guest writes, and the "
     "guest reads back what it wrote: mitigations that a guest cannot turn off, without an exit."},
    {"apic-timer-virtualization",
     "The guest writes IA32_TSC_DEADLINE without an exit, and the CPU itself makes the timer's "
     "interrupt pending in the virtual APIC."},
    {"enable-pbndkb",
     "PBNDKB binds data to this platform by a key of total memory encryption; without the control "
     "a guest gets #UD."},
    {"pebs-uses-guest-physical-addresses",
     "Lets a guest sample itself with precise events: records go to its own memory, and a page "
     "that EPT lacks costs an exit in place of a lost record."},

    // ---- VM-exit ----
    {"exit-save-debug-controls",
     "One of the controls that the first CPUs with VMX want to be 1. An exit puts DR7 to 400H and "
     "IA32_DEBUGCTL to 0 in any case, so without it the guest's values would be lost."},
    {"exit-host-address-space-size",
     "It becomes CS.L, EFER.LME and EFER.LMA of the host. A 64-bit host must set it: an entry "
     "from IA-32e mode without it fails."},
    {"exit-load-ia32-perf-global-ctrl",
     "Its pair is the VM-entry control of the same name. Used while host and guest want different "
     "counters to run, so that the switch is exact to the instruction."},
    {"exit-acknowledge-interrupt-on-exit",
     "The exit's information has the vector, as if the CPU had delivered the interrupt; the "
     "hypervisor then calls the host's handler for it. Without it the interrupt stays pending and "
     "the host takes it when it next enables interrupts."},
    {"exit-save-ia32-pat",
     "Would be needed if the guest could write IA32_PAT without an exit. Here its writes exit, the "
     "hypervisor knows the value, and saving it each time would be wasted."},
    {"exit-load-ia32-pat",
     "IA32_PAT decides what page-table bits mean for caching. With the control, the host's "
     "value is back before its first instruction."},
    {"exit-save-ia32-efer",
     "Here the guest's writes of IA32_EFER exit, so there is nothing to save but EFER.LMA, which "
     "the IA-32e mode guest control tells."},
    {"exit-load-ia32-efer",
     "Where host and guest have different values in EFER, the pair of controls switches them at "
     "once. Without it the MSR-load lists must do so, which is slower, or the CPU's own adjustment "
     "of LME and LMA has to be enough."},
    {"exit-save-vmx-preemption-timer-value",
     "Without it the field keeps what the hypervisor wrote, and each entry starts the same "
     "countdown again. Here the value is computed from the guest's deadline before each entry. "
     "Needs the timer itself."},
    {"exit-clear-ia32-bndcfgs",
     "Bounds checking (MPX) of a guest must not go on in the host. Its pair is loading at "
     "entry."},
    {"exit-conceal-vmx-from-pt",
     "Its counterparts conceal the entry and the mode. A trace of host and guest in one buffer, "
     "which is all that is possible here, wants these packets."},
    {"exit-clear-ia32-rtit-ctl",
     "Stops the guest's trace before the host runs. Needed where a guest may use Intel PT by "
     "itself."},
    {"exit-clear-ia32-lbr-ctl",
     "Stops architectural last-branch records before the host runs, so that its branches do not "
     "push out those of the guest."},
    {"exit-clear-uinv",
     "With user interrupts, UINV is the vector that is taken as a notification for user code; the "
     "guest's must not be taken for the host's."},
    {"exit-load-cet-state",
     "Loads SSP, IA32_S_CET and IA32_INTERRUPT_SSP_TABLE_ADDR of the host from the VMCS. This "
     "hypervisor does not offer CET to guests."},
    {"exit-load-pkrs",
     "Protection keys for supervisor pages have their rights in IA32_PKRS; with the control the "
     "host's are back before its first access."},
    {"exit-save-ia32-perf-global-ctl",
     "For hypervisors that let the guest write IA32_PERF_GLOBAL_CTRL itself. The SDM spells the "
     "control's name without the R."},
    {"exit-activate-secondary-controls",
     "With 0 the processor takes the 64-bit word of secondary VM-exit controls as if it were all "
     "zero, and this hypervisor leaves it so."},

    // ---- Secondary VM-exit ----
    {"exit2-save-fred",
     "FRED replaces delivery through the IDT; its MSRs hold entry points and stacks. Saved, they "
     "are the guest's to write without an exit."},
    {"exit2-load-fred",
     "The host's entry points must be in place before anything can be delivered to it. A host "
     "that runs with FRED needs the control."},
    {"exit2-load-ia32-spec-ctrl",
     "Mitigations that IA32_SPEC_CTRL turns on hold from the host's first instruction; otherwise a "
     "WRMSR must come first, with nothing exploitable before it."},
    {"exit2-prematurely-busy-shadow-stack",
     "An exit in the middle of an event's delivery may leave a supervisor shadow stack marked as "
     "busy. With the control the exit says so, and the hypervisor can hand the fact to the next "
     "entry in place of leaving the guest with a stack that it cannot use."},

    // ---- VM-entry ----
    {"entry-load-debug-controls",
     "One of the controls that the first CPUs with VMX want to be 1. It makes DR7 and "
     "IA32_DEBUGCTL of the VMCS the guest's."},
    {"entry-ia-32e-mode-guest",
     "It becomes EFER.LMA. It must agree with the guest's EFER, CR0.PG, CR4.PAE and segments, or "
     "the entry fails; so it moves whenever the guest enters or leaves IA-32e mode."},
    {"entry-entry-to-smm",
     "For an SMM-transfer monitor, the hypervisor of system-management mode under the dual-monitor "
     "treatment. Outside SMM an entry with it fails."},
    {"entry-deactivate-dual-monitor-treatment",
     "Also for an SMM-transfer monitor: the entry that ends its work. Outside SMM an entry with it "
     "fails."},
    {"entry-load-ia32-perf-global-ctrl",
     "Its pair is the VM-exit control of the same name; this hypervisor uses both or neither."},
    {"entry-load-ia32-pat",
     "With EPT the guest's IA32_PAT takes part in the memory type of its accesses. The value's "
     "bytes must each be 0, 1, 4, 5, 6 or 7, or the entry fails."},
    {"entry-load-ia32-efer",
     "Its pair is the VM-exit control of the same name. With it EFER.LMA of the field must equal "
     "the IA-32e mode guest control, and with paging on EFER.LME, too."},
    {"entry-load-ia32-bndcfgs",
     "Bounds checking (MPX) with the guest's configuration. Its pair is clearing at exit."},
    {"entry-conceal-vmx-from-pt",
     "Its counterparts conceal the exit and the mode. A trace of host and guest in one buffer, "
     "which is all that is possible here, wants these packets."},
    {"entry-load-ia32-rtit-ctl",
     "Starts the guest's own trace with its first instruction. Its pair is clearing at exit."},
    {"entry-load-uinv",
     "The guest's notification vector of user interrupts; its pair is clearing at exit. This "
     "hypervisor does not offer user interrupts."},
    {"entry-load-cet-state",
     "Loads SSP, IA32_S_CET and IA32_INTERRUPT_SSP_TABLE_ADDR of the guest. This hypervisor does "
     "not offer CET to guests."},
    {"entry-load-guest-ia32-lbr-ctl",
     "Starts the guest's architectural last-branch records with its first instruction; its pair "
     "is clearing at exit."},
    {"entry-load-pkrs",
     "The guest's rights for supervisor protection keys. This hypervisor does not offer them."},
    {"entry-load-fred",
     "Loads the guest's FRED MSRs; with it a guest may run with CR4.FRED. This hypervisor does not "
     "offer FRED."},
    {"entry-load-ia32-spec-ctrl",
     "Loads IA32_SPEC_CTRL from the VMCS at the entry, so that no WRMSR has to do so shortly "
     "before it."},
    {"entry-allow-seam-guest-telemetry",
     "Lets telemetry tools go on while a guest of the TDX module runs. Only the TDX module, in "
     "SEAM, can use it."},
};

} // namespace

const char *control_prose(const char *slug)
{
    const auto found = std::find_if(std::begin(kProse), std::end(kProse),
                                    [slug](const Prose &row) { return row.slug == slug; });
    return found != std::end(kProse) ? found->text : nullptr;
}

} // namespace minivmx::tool
