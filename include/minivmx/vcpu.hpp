// SPDX-License-Identifier: GPL-2.0-only
// A virtual CPU: what the core knows of it, and how the rest of the core reads and changes it.
// Everything here is touched only by the thread that holds the vCPU's mutex, with the vCPU loaded
// (its VMCS current on this CPU), unless a declaration says otherwise. May sleep, unless a
// declaration says otherwise.
#pragma once

#include <linux/errno.h>
#include <minivmx.h>

#include <minivmx/arch.hpp>
#include <minivmx/cpuid.hpp>
#include <minivmx/emulate.hpp>
#include <minivmx/ept.hpp>
#include <minivmx/exit.hpp>
#include <minivmx/guest_msrs.hpp>
#include <minivmx/host.h>
#include <minivmx/intercept.hpp>
#include <minivmx/known_move.hpp>
#include <minivmx/memslot.hpp>
#include <minivmx/real_mode.hpp>
#include <minivmx/shadow.hpp>
#include <minivmx/stats.hpp>
#include <minivmx/time.hpp>
#include <minivmx/types.hpp>
#include <minivmx/vm.hpp>
#include <minivmx/vmcs.hpp>
#include <minivmx/x86.hpp>

namespace minivmx {

// Indices of vcpu_area.regs, in the order of the instruction encoding.
enum Gpr : u8 {
    kRax,
    kRcx,
    kRdx,
    kRbx,
    kRsp,
    kRbp,
    kRsi,
    kRdi,
    kR8,
    kR9,
    kR10,
    kR11,
    kR12,
    kR13,
    kR14,
    kR15
};

// Indices of the segment fields of the VMCS, which lie in this order.
enum Segment : u8 { kEs, kCs, kSs, kDs, kFs, kGs, kLdtr, kTr };

// State that lives in the VMCS while the guest runs and is read from there at most once an exit.
enum CachedState : u32 {
    kStateRip = 1u << 0,
    kStateRsp = 1u << 1,
    kStateRflags = 1u << 2,
    kStateCr0 = 1u << 3,
    kStateCr3 = 1u << 4,
    kStateCr4 = 1u << 5,
    kStateQualification = 1u << 6,
    kStateIntrInfo = 1u << 7,
    kStateInstructionLength = 1u << 8,
    kStateInterruptibility = 1u << 9,
};

// An exception on its way into the guest.
struct ExceptionQueue {
    bool pending; // to be injected at the next entry
    u8 vector;
    bool has_error_code;
    bool reinject; // its delivery was interrupted by an exit: no side effects (CR2, DR6) again
    bool soft;     // INT3, INTO: needs the instruction's length
    u32 error_code;
    // KVM_SET_VCPU_EVENTS: what CR2 or DR6 gets at delivery.
    bool has_payload;
    u64 payload;
};

// A maskable interrupt on its way into the guest: from KVM_INTERRUPT, or one whose delivery an exit
// interrupted.
struct InterruptQueue {
    bool pending;
    bool soft; // INT n
    u8 vector;
};

// KVM_SET_GUEST_DEBUG: what user space wants to hear of.
struct GuestDebug {
    u32 control; // KVM_GUESTDBG_*; 0: nothing
    u64 db[4];   // its breakpoints
    u64 dr7;
};

// An RDMSR or WRMSR that user space answers: KVM_CAP_X86_USER_SPACE_MSR.
enum class PendingMsr : u8 { kNone, kRead, kWrite };

struct Lapic;

// Which translations of a vCPU may be stale on this CPU. With EPT the CPU caches two kinds: those
// of guest-physical addresses, and combined ones from linear to host-physical addresses. SDM Vol.
// 3C, 29.4.1.
enum class StaleTranslations : u8 {
    kNone,
    kLinear, // the guest's own tables, or the mode they are used in, have changed
    kAll,    // ours, too
};
struct EntryAudit;

struct vcpu_vmx : core_vcpu {
    kvm_vm *kvm;
    host_vcpu *host;
    vcpu_area *area;
    u32 vcpu_id;
    u16 vpid; // 0: none

    loaded_vmcs vmcs01;
    void *msr_bitmap; // one page, or null where the CPU has no MSR bitmaps

    // The last exit.
    u32 exit_reason;
    u32 last_vmentry_cpu;
    bool entry_failed; // VMLAUNCH or VMRESUME itself failed
    bool answered;     // it has been answered already: answer_at_once()
    u32 idt_vectoring_info;
    u32 state_available; // CachedState: cached values that are current
    u32 state_dirty;     // CachedState: cached values the VMCS lacks (only kStateRip and kStateRsp)
    u64 exit_qualification;
    u32 exit_intr_info;
    u32 instruction_length; // of the instruction that exited, or is emulated
    u32 interruptibility;
    Intercepts *intercepts; // null: the client has asked for none; looked at by each exit

    u64 rip, rflags;
    u64 cr0, cr3, cr4; // as the guest sees them; see guest_cr0() and its siblings
    u64 cr8;
    u64 efer;
    u64 apic_base;
    u64 pdptrs[4];
    u64 cr0_guest_owned_bits;
    u64 cr4_guest_owned_bits;
    u64 cr4_reserved_bits; // of this guest's CPUID
    bool has_apic;         // the local APIC is in the kernel; only then a TPR shadow makes sense
    bool apicv_active;     // see kvm_vcpu_apicv_active()
    bool xsaves_enabled;
    // Real mode without "unrestricted guest": the guest's CR0.PE is 0, the CPU's can't be.
    bool vm86_active;
    // The guest's state has changed since state_is_valid was found: see real_mode.hpp.
    bool check_state;
    bool state_is_valid;
    RealModeState rmode;

    Lapic *apic; // null: user space has it
    // KVM_MP_STATE_*: runs, sleeps in HLT, or waits for INIT or SIPI.
    u32 mp_state;
    // Of a vCPU that sleeps: what may wake it.
    bool wakes_for_interrupt, wakes_for_nmi;

    ExceptionQueue exception;
    InterruptQueue interrupt;
    u8 nmi_pending; // latched, not yet injected: 0..2
    bool nmi_injected;
    u32 event_instruction_length; // of a soft event being reinjected
    bool nmi_blocked_soft; // without virtual NMIs: a guest's NMI handler is (thought to be) running
    u64 nmi_blocked_since_ns;
    bool triple_fault;
    // The event (as VM-entry interruption information) that software could not deliver: a table or
    // the stack is not in memory. 0: none.
    u32 undeliverable;
    // An IOAPIC in user space has to hear of this end of an interrupt: KVM_EXIT_IOAPIC_EOI.
    bool ioapic_eoi_pending;
    u8 ioapic_eoi_vector;
    StaleTranslations stale_translations; // to be dropped before the next entry
    // Shadow paging, before the next entry: CR3, or a mode that decides over the tables, has
    // changed; the guest has flushed, so its tables are looked at again.
    bool shadow_root_stale, shadow_mode_stale, shadow_sync_due;
    ShadowVcpu shadow;

    VcpuStats stats;

    SlotsHazard slots_hazard; // the memory slots being read
    EptPageStock ept_pages;
    void *pml_buffer; // one page, or null without PML
    PendingInstruction pending;
    KnownMoves known_moves;
    EntryAudit *entry_audit; // of the last failed VM entry; null until one fails

    Cpuid cpuid;
    GuestMsrs msrs;
    VcpuTime time;
    GuestDebug debug;
    PendingMsr pending_msr;
    u64 pending_msr_rip;
    PendingIntercept pending_intercept;
    // Of the intercepts, for whoever looks at the vCPU without its mutex.
    u64 intercepted_controls; // MINIVMX_INTERCEPT_*
    bool intercepts_ports;
    // An ioctl reads or writes MSRs, not the guest: checks of what the guest's CPUID allows, and of
    // read-only bits, are off, as in KVM.
    bool msr_access_by_host;
};

inline vcpu_vmx &to_vmx(core_vcpu *vcpu)
{
    return *static_cast<vcpu_vmx *>(vcpu);
}

// ----- Registers ---------------------------------------------------------------------------------
//
// Most that is read has not been read since the exit.

[[gnu::always_inline]] inline u64 read_rip(vcpu_vmx &vmx)
{
    if (!(vmx.state_available & kStateRip)) [[likely]] {
        vmx.rip = vmcs_read(GUEST_RIP);
        vmx.state_available |= kStateRip;
    }
    return vmx.rip;
}
[[gnu::always_inline]] inline void write_rip(vcpu_vmx &vmx, u64 value)
{
    vmx.rip = value;
    vmx.state_available |= kStateRip;
    vmx.state_dirty |= kStateRip;
}
u64 read_rsp(vcpu_vmx &vmx);
void write_rsp(vcpu_vmx &vmx, u64 value);
// The CPU's VM and IOPL are ours in virtual-8086 mode that stands in for real mode.
u64 without_virtual_8086_flags(const vcpu_vmx &vmx, u64 flags);
[[gnu::always_inline]] inline u64 read_rflags(vcpu_vmx &vmx)
{
    if (!(vmx.state_available & kStateRflags)) [[likely]] {
        vmx.rflags = vmcs_read(GUEST_RFLAGS);
        if (vmx.vm86_active) [[unlikely]]
            vmx.rflags = without_virtual_8086_flags(vmx, vmx.rflags);
        vmx.state_available |= kStateRflags;
    }
    return vmx.rflags;
}
void write_rflags(vcpu_vmx &vmx, u64 value);
// Interruptibility state, in the VMCS's format: SDM Vol. 3C, 25.4.2, table 25-3.
[[gnu::always_inline]] inline u32 read_interruptibility(vcpu_vmx &vmx)
{
    if (!(vmx.state_available & kStateInterruptibility)) [[likely]] {
        vmx.interruptibility = vmcs_read(GUEST_INTERRUPTIBILITY_INFO);
        vmx.state_available |= kStateInterruptibility;
    }
    return vmx.interruptibility;
}
inline void write_interruptibility(vcpu_vmx &vmx, u32 value)
{
    vmx.interruptibility = value;
    vmx.state_available |= kStateInterruptibility;
    vmcs_write(GUEST_INTERRUPTIBILITY_INFO, value);
}
// RSP comes from its cache; the others from vcpu_area.
u64 read_gpr(vcpu_vmx &vmx, u8 index);
void write_gpr(vcpu_vmx &vmx, u8 index, u64 value);
// The pair EDX:EAX, in which RDMSR, RDTSC, XSETBV and their like have 64 bits, whatever the mode.
inline u64 read_edx_eax(const vcpu_vmx &vmx)
{
    return vmx.area->regs[kRdx] << 32 | static_cast<u32>(vmx.area->regs[kRax]);
}
inline void write_edx_eax(vcpu_vmx &vmx, u64 value)
{
    vmx.area->regs[kRax] = static_cast<u32>(value);
    vmx.area->regs[kRdx] = value >> 32;
}

u64 guest_cr0(vcpu_vmx &vmx);
u64 guest_cr3(vcpu_vmx &vmx);
u64 guest_cr4(vcpu_vmx &vmx);

u64 guest_cr8(const vcpu_vmx &vmx); // the TPR's class, wherever the APIC is

inline bool is_paging(vcpu_vmx &vmx)
{
    return guest_cr0(vmx) & X86_CR0_PG;
}
inline bool is_protmode(vcpu_vmx &vmx)
{
    return guest_cr0(vmx) & X86_CR0_PE;
}
inline bool is_long_mode(vcpu_vmx &vmx)
{
    return vmx.efer & EFER_LMA;
}
// Whether XCR0 and XSS matter to the guest. CR4.OSXSAVE is never its own, so the cached CR4 has it.
inline bool switches_xcr0(const vcpu_vmx &vmx)
{
    return (vmx.cr4 & X86_CR4_OSXSAVE) != 0;
}
bool is_64_bit_code(vcpu_vmx &vmx); // long mode and CS.L
u64 linear_rip(vcpu_vmx &vmx);      // CS's base plus RIP
u8 guest_cpl(vcpu_vmx &vmx);

// An instruction of this length was carried out in the guest's place: RIP goes behind it, as wide
// as the mode makes it, an STI or MOV SS shadow ends, RFLAGS.RF is cleared, and a single-step trap
// becomes pending if RFLAGS.TF is set.
void finish_instruction(vcpu_vmx &vmx, u32 length);
// The same for one that goes on elsewhere.
void finish_jump(vcpu_vmx &vmx, u64 rip);
// The same for the instruction that exited.
void skip_emulated_instruction(vcpu_vmx &vmx);
// Without what TF and RF ask for: for ICEBP, which traps by itself.
void step_over_instruction(vcpu_vmx &vmx);
// After one iteration of a repeated string instruction, which goes on where it is: its breakpoint
// must not hit again, and TF traps here, too.
void finish_iteration(vcpu_vmx &vmx);
// What STI and MOV SS block lasts for one instruction: SDM Vol. 3A, 6.8.
[[gnu::always_inline]] inline void set_interrupt_shadow_off(vcpu_vmx &vmx)
{
    const u32 state = read_interruptibility(vmx);
    const u32 shadow = state & (GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS);
    if (shadow) [[unlikely]]
        write_interruptibility(vmx, state & ~shadow);
}
// If RFLAGS.TF is set the guest gets a single-step trap before its next instruction; it doesn't.
void trap_single_step(vcpu_vmx &vmx);
void forget_single_step_trap();

// Before the next entry this CPU forgets at least these.
inline void mark_stale(vcpu_vmx &vmx, StaleTranslations which)
{
    if (vmx.stale_translations < which)
        vmx.stale_translations = which;
}

// The guest has asked its CPU to forget its translations: all of them, or many.
inline void forget_guest_translations(vcpu_vmx &vmx)
{
    mark_stale(vmx, StaleTranslations::kLinear);
    vmx.shadow_sync_due = true;
}
// Of what decides how its tables are read something has changed.
inline void paging_mode_changed(vcpu_vmx &vmx)
{
    mark_stale(vmx, StaleTranslations::kLinear);
    vmx.shadow_root_stale = vmx.shadow_mode_stale = true;
}

// ----- The last exit -----------------------------------------------------------------------------

[[gnu::always_inline]] inline u64 exit_qualification(vcpu_vmx &vmx)
{
    if (!(vmx.state_available & kStateQualification)) [[likely]] {
        vmx.exit_qualification = vmcs_read(EXIT_QUALIFICATION);
        vmx.state_available |= kStateQualification;
    }
    return vmx.exit_qualification;
}
u32 exit_intr_info(vcpu_vmx &vmx);
// The handler of an exit is going to be called for an instruction that is emulated.
inline void set_instruction_length(vcpu_vmx &vmx, u32 length)
{
    vmx.instruction_length = length;
    vmx.state_available |= kStateInstructionLength;
}
[[gnu::always_inline]] inline u32 exit_instruction_length(vcpu_vmx &vmx)
{
    if (!(vmx.state_available & kStateInstructionLength)) [[likely]]
        set_instruction_length(vmx, vmcs_read(VM_EXIT_INSTRUCTION_LEN));
    return vmx.instruction_length;
}

// ----- Events ------------------------------------------------------------------------------------

// Queues an exception; a second one while the first is being delivered becomes #DF or a triple
// fault as in SDM Vol. 3A, 6.15 (table 6-5).
void queue_exception(vcpu_vmx &vmx, u8 vector);
void queue_exception(vcpu_vmx &vmx, u8 vector, u32 error_code);
void inject_gp(vcpu_vmx &vmx);
void inject_ud(vcpu_vmx &vmx);
void inject_page_fault(vcpu_vmx &vmx, u64 address, u32 error_code);

// ----- Control registers and MSRs (src/core/state) -----------------------------------------------

// Each answers false for a value the architecture refuses: the caller injects #GP or answers
// -EINVAL.
[[nodiscard]] bool set_cr0(vcpu_vmx &vmx, u64 value);
[[nodiscard]] bool set_cr3(vcpu_vmx &vmx, u64 value);
[[nodiscard]] bool set_cr4(vcpu_vmx &vmx, u64 value);
[[nodiscard]] bool set_cr8(vcpu_vmx &vmx, u64 value);
[[nodiscard]] bool set_efer(vcpu_vmx &vmx, u64 value);
// From the guest's RDMSR and WRMSR; false: #GP.
[[nodiscard]] bool get_msr(vcpu_vmx &vmx, u32 index, u64 &value);
[[nodiscard]] bool set_msr(vcpu_vmx &vmx, u32 index, u64 value);

} // namespace minivmx
