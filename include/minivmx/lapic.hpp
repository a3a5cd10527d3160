// SPDX-License-Identifier: GPL-2.0-only
// A vCPU's local APIC: SDM Vol. 3A, chapter 11.
//
// The vCPU's own thread owns it. Everybody else (other vCPUs, timers, devices) only sets bits:
// vectors in `posted`, INIT and SIPI in `events`, errors in `errors`, trigger modes in TMR, each
// atomically, and then kicks the vCPU, whose thread takes them in before it enters the guest. What
// others read (mode, ID, LDR, DFR, SVR, LVT0) they read atomically, too. No lock is involved.
#pragma once

#include <minivmx/irqchip.hpp>
#include <minivmx/outcome.hpp>
#include <minivmx/types.hpp>

struct host_timer;
struct kvm_lapic_state;

namespace minivmx {

struct kvm_vm;
struct vcpu_vmx;

// Offsets in the register page; the x2APIC MSR of a register is 800H + offset / 16. SDM Vol. 3A,
// 11.4.1, table 11-1, and 11.12.1.2, table 11-6.
enum ApicRegister : u32 {
    kApicId = 0x20,
    kApicVersion = 0x30,
    kApicTpr = 0x80,
    kApicApr = 0x90,
    kApicPpr = 0xa0,
    kApicEoi = 0xb0,
    kApicLdr = 0xd0,
    kApicDfr = 0xe0,
    kApicSvr = 0xf0,
    kApicIsr = 0x100, // these three: eight registers of 32 vectors each
    kApicTmr = 0x180,
    kApicIrr = 0x200,
    kApicEsr = 0x280,
    kApicIcr = 0x300,
    kApicIcrHigh = 0x310,
    kApicLvtTimer = 0x320,
    kApicLvtThermal = 0x330,
    kApicLvtPerformance = 0x340,
    kApicLvtLint0 = 0x350,
    kApicLvtLint1 = 0x360,
    kApicLvtError = 0x370,
    kApicInitialCount = 0x380,
    kApicCurrentCount = 0x390,
    kApicDivide = 0x3e0,
    kApicSelfIpi = 0x3f0,
};

enum class ApicMode : u8 { kDisabled, kXapic, kX2apic };
enum class ApicTimerMode : u8 { kOneShot, kPeriodic, kTscDeadline };

// Signals besides vectors and NMIs; bits of Lapic::events.
enum ApicEvent : u32 { kApicEventInit = 1, kApicEventSipi = 2 };

inline constexpr u32 kPostedWords = 256 / 64;

struct Lapic {
    vcpu_vmx *vcpu;
    // The register page, which is the VMCS's virtual-APIC page as well: the guest may change TPR
    // there without an exit.
    u8 *page;

    // Set by anybody.
    u64 posted[kPostedWords]; // vectors on their way into IRR
    u32 events;               // enum ApicEvent
    u32 errors;               // of the next ESR
    u8 sipi_vector;
    u8 mode;         // ApicMode, of IA32_APIC_BASE
    u32 arbitration; // how often it was chosen among several of lowest priority

    // The vCPU's thread's.
    bool attention; // interrupts, TPR or ISR may have changed since they were last looked at
    // Which registers of IRR and ISR may hold a bit, a bit each: most are empty. Others read them
    // to guess a priority.
    u8 irr_words, isr_words;
    s16 external_vector; // from KVM_INTERRUPT, where the PIC is user space's; -1: none
    u32 tpr_threshold;   // as the VMCS holds it

    // The timer's; the vCPU's thread stops it before it changes them.
    host_timer *timer;
    ApicTimerMode timer_mode;
    u32 divide;       // timer counts once every so many nanoseconds
    u64 period_ns;    // 0: not counting
    u64 target_ns;    // when the count reaches 0
    bool expired;     // one-shot: it has reached 0, and its interrupt was delivered
    u64 tsc_deadline; // IA32_TSC_DEADLINE
    u32 hv_value;     // VMX_PREEMPTION_TIMER_VALUE as the VMCS holds it
    u64 hv_deadline;  // host TSC at which the VMX-preemption timer shall expire; 0: not in use

    // User space wants to know of TPR accesses (KVM_TPR_ACCESS_REPORTING).
    bool report_tpr, tpr_accessed, tpr_written;
    u64 tpr_rip;   // where the access was
    u64 vapic_gpa; // KVM_SET_VAPIC_ADDR; 0: none
};

// Registers, as any thread may read them.
inline u32 apic_register(const Lapic &apic, u32 offset)
{
    return __atomic_load_n(reinterpret_cast<const u32 *>(apic.page + offset), __ATOMIC_RELAXED);
}
inline ApicMode apic_mode(const Lapic &apic)
{
    return static_cast<ApicMode>(__atomic_load_n(&apic.mode, __ATOMIC_RELAXED));
}

// ----- Life (src/core/irqchip/lapic.cc) ----------------------------------------------------------

// -ENOMEM. Before the vCPU's VMCS is written. [sleep]
int lapic_create(vcpu_vmx &vmx);
void lapic_destroy(vcpu_vmx &vmx);
// SDM Vol. 3A, 11.4.7.1; init: only what INIT resets (11.4.7.3).
void lapic_reset(vcpu_vmx &vmx, bool init);
// The vCPU's IA32_APIC_BASE has changed from `before`: mode, ID and controls follow. With the VMCS
// loaded.
void lapic_base_changed(vcpu_vmx &vmx, u64 before);

// ----- Registers (src/core/irqchip/lapic_registers.cc) -------------------------------------------

// RDMSR and WRMSR of 800H to 8FFH; false: #GP, also outside x2APIC mode. SDM Vol. 3A, 11.12.1.2.
[[nodiscard]] bool lapic_read_msr(vcpu_vmx &vmx, u32 index, u64 &value);
[[nodiscard]] bool lapic_write_msr(vcpu_vmx &vmx, u32 index, u64 value);
// Whether such a write is over soon: it concerns a few processors at most, and no device. [irqoff]
bool lapic_writes_msr_at_once(const vcpu_vmx &vmx, u32 index, u64 value);
// TPR by its class, as CR8: SDM Vol. 3A, 11.8.6.
u64 lapic_cr8(const Lapic &apic);
void lapic_set_cr8(Lapic &apic, u64 value);
void lapic_eoi(vcpu_vmx &vmx);

// ----- Priorities (src/core/irqchip/lapic_priority.cc) -------------------------------------------

// The highest vector in IRR, posted ones included, or -1.
int lapic_highest_request(Lapic &apic);
int lapic_highest_in_service(const Lapic &apic);
// SDM Vol. 3A, 11.8.3.1. Also writes the register.
u8 lapic_update_ppr(Lapic &apic);
// Whether the PIC's interrupt may come through LINT0.
bool lapic_accepts_pic(const Lapic &apic);
// A vector becomes a request: for the vCPU's thread, which needn't post it.
void lapic_request(Lapic &apic, u8 vector);
// The controllers' next interrupt, PIC first: the local APIC's vector, or one of these.
inline constexpr int kNoInterrupt = -1, kInterruptOfPic = 256;
int next_interrupt(vcpu_vmx &vmx);
// Acknowledges the next interrupt: IRR to ISR. Its vector, or -1: the PIC has changed its mind.
int take_interrupt(vcpu_vmx &vmx, int next);
// What is next when that one has been taken.
int next_interrupt_after(vcpu_vmx &vmx, int taken);
// TPR or ISR has changed: of interest only if an interrupt waits, or to who mirrors them.
void lapic_priority_fell(Lapic &apic);
// The TPR below which the guest has to exit, since an interrupt waits for that: SDM Vol.
// 3C, 30.1.2.
void lapic_update_tpr_threshold(vcpu_vmx &vmx);

// ----- Delivery (src/core/irqchip/lapic_delivery.cc) ---------------------------------------------

// A vector arrives; false: it is none. One that waits already takes it in: the APIC has accepted
// both (SDM Vol. 3A, 11.8.4). Who isn't the vCPU's thread kicks it, and nobody else doesn't. [any
// but NMI]
bool lapic_post(Lapic &apic, u8 vector, bool level, bool kick);
// An event of the APIC's own: what the entry of the local vector table says. [any but NMI]
void lapic_local_event(Lapic &apic, ApicRegister lvt, bool kick);

// ----- Timer (src/core/irqchip/lapic_timer.cc) ---------------------------------------------------

// IA32_TSC_DEADLINE: 0 and ignored unless the timer is in that mode. SDM Vol. 3A, 11.5.4.1.
u64 lapic_tsc_deadline(const vcpu_vmx &vmx);
void lapic_write_tsc_deadline(vcpu_vmx &vmx, u64 value);
// The guest's TSC was moved: a deadline comes sooner or later.
void lapic_tsc_changed(Lapic &apic);
// The host's was set back, or this CPU's is behind. [atomic]
void lapic_host_tsc_went_back(Lapic &apic, u64 ticks);
int lapic_timer_create(Lapic &apic);
void lapic_timer_stop(Lapic &apic);
void lapic_timer_start(Lapic &apic);
void lapic_timer_lvt_changed(Lapic &apic);
void lapic_timer_divide_changed(Lapic &apic);
u32 lapic_current_count(const Lapic &apic);
// The timer starts with that much left: KVM_SET_LAPIC.
void lapic_timer_restore(Lapic &apic, u32 current_count);
// The VMX-preemption timer in place of the host's: before an entry, and after it expired.
void lapic_program_preemption_timer(vcpu_vmx &vmx);
void lapic_preemption_timer_expired(vcpu_vmx &vmx);
// The same, if its time has come, for a vCPU that isn't entered.
void lapic_poll_preemption_timer(vcpu_vmx &vmx);
// The vCPU is about to sleep, where only the host's timer counts; it is awake again.
void lapic_timer_to_host(Lapic &apic);
void lapic_timer_to_guest(Lapic &apic);

// ----- User space's part in TPR accesses (src/core/irqchip/lapic_ioctl.cc) -----------------------

// KVM_EXIT_TPR_ACCESS, when tpr_accessed is set.
Outcome report_tpr_access(vcpu_vmx &vmx);
// After an exit and before an entry, when vapic_gpa is set. [sleep]
void lapic_sync_from_vapic(vcpu_vmx &vmx);
void lapic_sync_to_vapic(vcpu_vmx &vmx);

} // namespace minivmx
