/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The one interface between the C++ core and whatever hosts it.
 *
 * Two hosts exist: src/host (the Linux kernel, C) and test-user/sim (a simulated machine in a user
 * process). Everything the core asks of its host is a host_*() function, everything the host asks
 * of the core is a core_*() function, and struct vcpu_area is the only memory both sides write.
 *
 * Conventions: functions that can fail return 0 or a negative errno. Sizes are bytes. "gpa" is a
 * guest-physical address, "gfn" a guest frame number (gpa >> 12), "hva" an address in the user
 * process that owns the VM, "pfn" a host frame number. Each declaration names the context it may be
 * called in:
 * - [sleep] process context, may sleep
 * - [atomic] preemption off, may not sleep
 * - [irqoff] interrupts off
 * - [any] any context, NMI included
 */
#ifndef MINIVMX_HOST_H
#define MINIVMX_HOST_H

#ifdef __cplusplus
#include <cstddef>
#include <cstdint>
typedef uint8_t host_u8;
typedef uint16_t host_u16;
typedef uint32_t host_u32;
typedef uint64_t host_u64;
#else
#include <linux/types.h>
typedef u8 host_u8;
typedef u16 host_u16;
typedef u32 host_u32;
typedef u64 host_u64;
#endif

struct kvm_run;
struct kvm_regs;
struct kvm_sregs;
struct kvm_cpuid_entry2;
struct kvm_enable_cap;
struct kvm_lapic_state;
struct kvm_userspace_memory_region;
struct kvm_irqchip;
struct kvm_sregs2;
struct kvm_xcrs;
struct kvm_debugregs;
struct kvm_vcpu_events;
struct kvm_guest_debug;
struct kvm_translation;
struct kvm_x86_mce;
struct kvm_clock_data;
struct kvm_msr_filter;
struct kvm_msr_entry;
struct kvm_irq_level;
struct kvm_irq_routing_entry;
struct kvm_msi;
struct kvm_pit_state2;
struct kvm_ioeventfd;
struct kvm_coalesced_mmio_zone;
struct kvm_clear_dirty_log;
struct minivmx_controls;
struct minivmx_intercepts;
struct minivmx_port_range;
struct minivmx_msr_range;
struct minivmx_control_step;
struct minivmx_entry_audit;
struct minivmx_audit_finding;

/* The host's objects; opaque to the core. */
struct host_vm;
struct host_vcpu;
/* The core's objects; opaque to the host. */
#ifdef __cplusplus
struct core_vm {};
struct core_vcpu {};
extern "C" {
#else
struct core_vm;
struct core_vcpu;
#endif

/* ---- What both sides see of a vCPU ----------------------------------------------------------- */

/* Requests other threads make of a vCPU; bits of vcpu_area.requests, set and consumed atomically.
 */
enum vcpu_request {
    VCPU_REQUEST_TLB_FLUSH = 1u << 0, /* drop every guest-physical translation of this vCPU */
    VCPU_REQUEST_VM_DEAD = 1u << 1,   /* the VM can't run any more: KVM_RUN answers -EIO */
    VCPU_REQUEST_EVENT = 1u << 2,     /* interrupts, NMIs, INIT or SIPI arrived: host_vcpu_kick() */
    VCPU_REQUEST_CLOCK = 1u << 3,     /* the kvmclock page has to be written anew */
    VCPU_REQUEST_MSR_FILTER = 1u << 4,    /* the VM's MSR filter has changed */
    VCPU_REQUEST_DIRTY_LOGGING = 1u << 5, /* dirty logging begins or ends: PML on or off */
    VCPU_REQUEST_STOPPED = 1u << 6,       /* the host goes to sleep: the guest shall hear of it */
};

/* Guest MSRs that only matter in user mode of the host, so they stay loaded until the host returns
 * there. */
enum vcpu_uret_msr {
    URET_STAR,
    URET_LSTAR,
    URET_CSTAR,
    URET_SYSCALL_MASK,
    URET_TSC_AUX,
    URET_EFER, /* only where VM entry can't load EFER; see uret_mask */
    URET_COUNT,
};

/*
 * One per vCPU, owned by the host, alive as long as the core's vCPU. Only the thread that holds the
 * vCPU's mutex touches it, but for requests, nmi_pending and mode. src/host/vmenter.S knows the
 * offsets of regs, host_rsp, launched and spec_ctrl through generated constants.
 */
struct vcpu_area {
    host_u64 regs[16];  /* RAX RCX RDX RBX RSP RBP RSI RDI R8..R15, in the order of the encoding;
                         * RSP's slot is the core's cache of the VMCS field, not loaded by vmenter */
    host_u64 cr2;       /* the guest's, while it doesn't run */
    host_u64 host_rsp;  /* what VMCS HOST_RSP holds; vmenter writes the field when RSP differs */
    host_u64 spec_ctrl; /* the guest's IA32_SPEC_CTRL */
    host_u32 launched;  /* VMRESUME (1) or VMLAUNCH (0); kept by the core */
    host_u32 save_spec_ctrl; /* the guest writes SPEC_CTRL without exits: read it after each */

    /* Filled by host_prepare_entry() for the core, which writes the VMCS host state where it
     * changed. */
    host_u64 host_cr3;
    host_u64 host_cr4;
    host_u64 host_fs_base;
    host_u64 host_gs_base;
    host_u16 host_fs_sel;
    host_u16 host_gs_sel;

    /* Guest state that the host switches for the core. */
    host_u64 kernel_gs_base; /* valid while the guest's state isn't loaded; else see
                                host_*_kernel_gs_base() */
    host_u64 uret[URET_COUNT];
    host_u64 uret_mask[URET_COUNT]; /* bits of uret[] that count; 0: this MSR isn't switched */
    host_u32 uret_dirty;            /* uret[] changed since the host loaded it */
    host_u32 switch_db_regs; /* KVM_DEBUGREG_*: load db[], dr6 before entry, save them after exit */
    host_u64 db[4];          /* the guest's */
    host_u64 loaded_db[4];   /* what it runs with: the same, or a debugger's */
    host_u64 dr6;
    host_u64 dr7; /* the guest's; in the VMCS while it runs */

    /* Mapped by user space, which may write it at any time: read each field once. */
    struct kvm_run *run;
    void *pio_data;       /* the page behind kvm_run at KVM_PIO_PAGE_OFFSET */
    host_u32 requests;    /* enum vcpu_request */
    host_u32 nmi_pending; /* 0..2, as the architecture can hold one and latch one */
    host_u32 mode;        /* enum vcpu_mode */
    host_u32 flush_l1d;   /* the last exit ran host code that may have loaded secrets */
};

enum vcpu_mode { VCPU_OUTSIDE_GUEST, VCPU_IN_GUEST };

/* KVM's names for vcpu_area.switch_db_regs. */
enum { KVM_DEBUGREG_BP_ENABLED = 1, KVM_DEBUGREG_WONT_EXIT = 2 };

/* ---- Core -> host: messages ------------------------------------------------------------------ */

enum host_log_level { HOST_LOG_ERROR, HOST_LOG_WARNING, HOST_LOG_INFO };

/* One line, without prefix or newline. [any but NMI] */
void host_log(enum host_log_level level, const char *line);
/* Whether a message that a guest or client can provoke may be printed now (rate limit). [any but
 * NMI] */
bool host_log_allowed(void);

/* ---- Core -> host: memory -------------------------------------------------------------------- */

/* Zeroed memory, charged to the caller's cgroup; NULL when there is none. [sleep] */
void *host_zalloc(size_t size);
void host_free(void *memory);
/* One zeroed, 4 KiB-aligned page, charged to the caller's cgroup; NULL when there is none. [sleep]
 */
void *host_page_alloc(void);
/* The same for who fills it at once: its contents are anybody's. [sleep] */
void *host_page_alloc_unset(void);
/* The same below 4 GiB, where CR3 of a guest outside long mode can name it. [sleep] */
void *host_page_alloc_low(void);
void host_page_free(void *page); /* of either [any but NMI] */
/* Between a page of host_page_alloc() and its physical address. [any] */
host_u64 host_page_phys(const void *page);
void *host_phys_page(host_u64 phys);
/* A page of host_page_alloc() remembers whose it is, until it is freed; NULL at first. [any] */
void host_page_set_owner(void *page, void *owner);
void *host_phys_owner(host_u64 phys);

/* Copies guest memory by hva, faulting pages in; -EFAULT unless all of it was copied. 4 or 8 bytes,
 * aligned to their size, are read in one access. current->mm is the VM's. [sleep] */
int host_copy_from_user(void *to, host_u64 hva, size_t size);
int host_copy_to_user(host_u64 hva, const void *from, size_t size);
/* Reads guest memory as it is, without faulting it in: at most a page, not across a page's end. 4
 * or 8 bytes, aligned to their size, are read in one access. -EFAULT: it isn't resident, so the
 * caller lets go of its locks and touches it with host_copy_from_user(). current->mm is the VM's:
 * true of its vCPUs' threads and its ioctls, not of mmu notifiers. [atomic] */
int host_read_user_atomic(void *to, host_u64 hva, size_t size);
/* 8 bytes of guest memory, aligned to 8, and what the bits of the mask should be. */
struct host_user_word {
    host_u64 hva, value, mask;
};
/* Whether all of them are so at this moment; false, too, where one isn't resident. current->mm is
 * the VM's. [atomic] */
bool host_user_words_are(const struct host_user_word *words, host_u32 count);
/* If the size (1, 2, 4, 8) bytes at hva, aligned to their size, equal *expected, replaces them with
 * desired, atomically; else sets *expected to what is there. Faults the page in. 0: replaced;
 * -EAGAIN: it differed; -EFAULT: not writable. [sleep] */
int host_cmpxchg_user(host_u64 hva, host_u64 *expected, host_u64 desired, host_u32 size);
/* Whether [hva, hva + size) can be user memory at all (access_ok). [any] */
bool host_user_range_ok(host_u64 hva, host_u64 size);

/* A host page behind a guest frame, found by host_fault_in(). */
struct host_frame {
    host_u64 pfn;
    host_u64 mmu_seq;    /* hand it to host_mmu_retry() */
    host_u32 writable;   /* may be mapped writable */
    host_u32 order;      /* log2 of the naturally aligned pages around pfn that user space maps as
                            one (0, 9, 18) */
    host_u32 device;     /* not memory but a device's registers: must not be cached */
    host_u32 at_hand;    /* it was there before anyone asked for it */
    host_u32 referenced; /* the host's: page is kept by a reference */
    void *page;          /* the host's: what host_frame_put() needs */
};

/*
 * Makes the page at hva present in user space's tables. want_write: the guest writes. The frame is
 * good for as long as host_mmu_retry() says. -EFAULT: nothing (suitable) is mapped there; -EACCES:
 * physical addresses are, which can't be written; -EINTR: a fatal signal; -EHWPOISON. [sleep]
 */
int host_fault_in(struct host_vm *vm, host_u64 hva, bool want_write, struct host_frame *frame);
/*
 * The same for a page that user space's tables have at this moment, writable if it is wanted for
 * that; false: look for it with host_fault_in(). Under the mmu lock, which the frame doesn't
 * outlast: no host_mmu_retry() is needed. current->mm is the VM's. [atomic]
 */
bool host_frame_at_hand(struct host_vm *vm, host_u64 hva, bool want_write,
                        struct host_frame *frame);
/* Ends the use of a frame that was found; dirty: the guest may write, or has written, through the
 * mapping made from it. Then under the mmu lock, under which that was made. [atomic] */
void host_frame_put(struct host_frame *frame, bool dirty);

/*
 * Memory that user space's tables have at this moment, count pages from hva on: for each its
 * physical address and HOST_NEAR_*, or 0: nothing that could be mapped without host_fault_in().
 * Writable is only what the host counts as written, so none of it is put back. Under the mmu lock,
 * which the frames don't outlast. current->mm is the VM's. [atomic]
 */
#define HOST_NEAR_PRESENT  1u
#define HOST_NEAR_WRITABLE 2u
void host_frames_at_hand(struct host_vm *vm, host_u64 hva, host_u32 count, host_u64 *frames);

/* The VM's mmu lock: guards EPT tables and the slots' pointer against mmu notifiers. A spinlock. */
void host_mmu_lock(struct host_vm *vm);
void host_mmu_unlock(struct host_vm *vm);
/* Under the mmu lock: whether user space's mapping of hva changed since frame was found, so it
 * can't be used. */
bool host_mmu_retry(struct host_vm *vm, const struct host_frame *frame, host_u64 hva);

/* Sets request bits on every vCPU of the VM and waits until none of them is still in the guest
 * without having seen them. May be called under the mmu lock. [interrupts on] */
void host_request_all(struct host_vm *vm, host_u32 requests);
/* Gives way while a short wait goes on (slots still being read by a vCPU). [sleep] */
void host_relax(void);

/* ---- Core -> host: time, locks, sleeping vCPUs ----------------------------------------------- */

/* CLOCK_MONOTONIC in nanoseconds. [any but NMI] */
host_u64 host_time_ns(void);
/* The clock that kvmclock is made from: it counts at an even rate from the boot on, also while the
 * machine sleeps. */
struct host_clock {
    host_u64 ns;
    host_u64 tsc;         /* of that moment */
    host_u64 realtime_ns; /* since 1970 */
    bool counts_tsc;      /* it is the TSC, scaled, and all CPUs have the same one */
};
void host_clock_read(struct host_clock *clock); /* [any but NMI] */

/* A timer that calls fire(arg) once, with interrupts off, in hard interrupt context, when
 * host_time_ns() has reached the deadline it was started with. */
struct host_timer;
struct host_timer *host_timer_create(void (*fire)(void *arg), void *arg); /* NULL: no memory [sleep]
                                                                           */
void host_timer_destroy(struct host_timer *timer); /* stops it and waits for fire() [sleep] */
/* Starting it again replaces the deadline. fire() may start it. [any but NMI] */
void host_timer_start(struct host_timer *timer, host_u64 deadline_ns);
/* Stops it and waits until fire() isn't running. Not under a lock that fire() takes. [sleep or
 * atomic] */
void host_timer_cancel(struct host_timer *timer);

/* A spinlock that switches interrupts off while it is held, so that it may be taken in any context
 * but an NMI. */
struct host_lock;
struct host_lock *host_lock_create(void); /* NULL: no memory [sleep] */
void host_lock_destroy(struct host_lock *lock);
host_u64 host_lock_take(struct host_lock *lock);
void host_lock_release(struct host_lock *lock, host_u64 flags);

/* What is read between these two stays valid until the reader leaves; who replaced it waits with
 * host_rcu_wait() before it frees. Sections nest; each is left with what entering it returned.
 * Readers: [any but NMI]; the wait: [sleep] */
int host_rcu_read_lock(void);
void host_rcu_read_unlock(int section);
void host_rcu_wait(void);

/* Makes the vCPU look at what is pending: ends host_vcpu_block(), or interrupts it in the guest;
 * one that is about to enter sees it before. Does not wait. [any but NMI] */
void host_vcpu_kick(struct host_vcpu *vcpu);
/* Sleeps until core_vcpu_runnable() says yes, or a signal comes, and returns what it said last. The
 * vCPU is put and loaded again meanwhile. [sleep] */
bool host_vcpu_block(struct host_vcpu *vcpu);

/* ---- Core -> host: interrupts and events of user space --------------------------------------- */

/* A reference to what an eventfd's descriptor names. */
struct host_eventfd;
/* Adds 1 to its counter and wakes who waits. [any but NMI] */
void host_eventfd_signal(struct host_eventfd *eventfd);
void host_eventfd_put(struct host_eventfd *eventfd); /* [sleep] */
/* The guest ended an interrupt of this GSI: a level-triggered one of KVM_IRQFD_FLAG_RESAMPLE goes
 * down, and its owner hears of it. The core holds no lock. [any but NMI] */
void host_irq_acked(struct host_vm *vm, host_u32 gsi);

/* Gives other threads the CPU: a guest spins. [sleep] */
void host_yield(void);

/* ---- Core -> host: CPUs ---------------------------------------------------------------------- */

/* The CPU this runs on; stable while preemption is off. [any] */
host_u32 host_cpu(void);
/* How many CPU numbers there may be. [any] */
host_u32 host_cpu_limit(void);
/* How many CPUs are online. [any] */
host_u32 host_online_cpus(void);
/* Runs fn(arg) on cpu with interrupts off and waits; does nothing when that CPU is offline.
 * [interrupts on] */
void host_call_on_cpu(host_u32 cpu, void (*fn)(void *arg), void *arg);

/* Per-CPU host values for the VMCS, of the CPU this runs on. */
struct host_cpu_state {
    host_u64 tr_base;
    host_u64 gdt_base;
    host_u64 idt_base;
    host_u64 sysenter_esp;
    host_u64 sysenter_eip;
    host_u32 sysenter_cs;
    host_u16 cs_sel, ss_sel, tr_sel;
    host_u64 cr0;
    host_u64 efer;
    host_u64 pat;
    host_u64 exit_rip; /* where vmenter.S goes on after a VM exit */
};
void host_get_cpu_state(struct host_cpu_state *state); /* [atomic] */

/* ---- Core -> host: entering the guest -------------------------------------------------------- */

/* core_vcpu_run() begins with preemption off, since most returns to user space need no sleep on
 * their way. The core calls this before whatever may sleep; it may be called again, and is nothing
 * outside of KVM_RUN. [atomic] -> [sleep] */
void host_let_sleep(struct host_vcpu *vcpu);
/*
 * Makes the CPU ready to enter this vCPU's guest: preemption and interrupts go off, the guest's
 * MSRs, FPU and debug registers are in place, host_cr3 and its siblings of vcpu_area are current,
 * mode is VCPU_IN_GUEST. Returns false, with everything as before, when there is something to do
 * first (a request, a signal, the scheduler). [atomic] -> [irqoff]
 */
bool host_prepare_entry(struct host_vcpu *vcpu);
/* The world switch: loads the guest's registers, enters, saves them. Contains the mitigations that
 * must sit at entry and exit. 0 after a VM exit, 1 when VMLAUNCH/VMRESUME failed (RFLAGS.CF or ZF).
 * [irqoff] */
host_u32 host_vmenter(struct host_vcpu *vcpu);
/* Whether the scheduler, a signal or other work waits for the thread, which would be met before an
 * entry, but nobody interrupts the CPU it runs on itself for. [irqoff] */
bool host_has_pending_work(void);
/* Right after an exit: mode, debug registers and DEBUGCTL are the host's again. [irqoff] */
void host_after_exit(struct host_vcpu *vcpu);
/* Hands the host an NMI, an external interrupt or a machine check that a VM exit took in its place.
 * [irqoff] */
void host_handle_nmi(void);
void host_handle_interrupt(host_u32 vector);
void host_handle_machine_check(void);
/* Interrupts on again, and preemption as it was. [irqoff] -> [atomic] */
void host_finish_exit(struct host_vcpu *vcpu);
/* Does the work that kept host_prepare_entry() from going on (reschedule, task work); -EINTR for a
 * signal. [sleep] */
int host_handle_pending_work(struct host_vcpu *vcpu);
/* The guest's IA32_KERNEL_GS_BASE wherever it is at the moment. [sleep], the vCPU loaded */
host_u64 host_read_kernel_gs_base(struct host_vcpu *vcpu);
void host_write_kernel_gs_base(struct host_vcpu *vcpu, host_u64 value);
/* The guest's vector registers, 0 to 15, as CPU instructions see them; only during KVM_RUN. data is
 * 16 or 32 bytes. Writing an XMM register leaves the rest of the wider one, writing a YMM register
 * clears it; YMM ones only where the guest could enable AVX. [sleep] */
void host_read_xmm(host_u32 index, void *data);
void host_write_xmm(host_u32 index, const void *data);
void host_read_ymm(host_u32 index, void *data);
void host_write_ymm(host_u32 index, const void *data);
/* MMX registers, 0 to 7. False: an x87 exception waits, which any MMX instruction would raise. */
bool host_read_mmx(host_u32 index, host_u64 *value);
bool host_write_mmx(host_u32 index, host_u64 value);
/* The x87 FPU's control and status words, FNINIT and FNCLEX. An exception that waits (bit 7 of the
 * status word) is the caller's to look for before it loads a control word. */
host_u16 host_read_x87_control(void);
host_u16 host_read_x87_status(void);
void host_write_x87_control(host_u16 control);
void host_init_x87(void);
void host_clear_x87_exceptions(void);
/* FXSAVE and FXRSTOR of the guest's registers: the 416 bytes that the CPU writes itself. wide: with
 * REX.W. A bit of MXCSR that the CPU doesn't have must not be set. */
#define HOST_FX_IMAGE_SIZE 416
void host_save_fx(void *image, bool wide);
void host_restore_fx(const void *image, bool wide);
/* Prevents branch predictions of one guest from steering the next (IBPB), if the host's mitigations
 * ask for it. [atomic] */
void host_branch_predictor_barrier(void);
/* Keeps this thread on its CPU, without sleep, until the matching enable; they nest. [any but NMI]
 */
void host_preempt_disable(void);
void host_preempt_enable(void);
/* Interrupts off on this CPU; restore with what save returned. [any] */
host_u64 host_irq_save(void);
void host_irq_restore(host_u64 flags);

/* ---- Core -> host: tracepoints. [any but NMI], with the vCPU loaded -----------------------------
 */

/* A tracepoint's static key (struct static_key of the kernel): above 0 while somebody listens. */
struct host_trace_key {
    int enabled;
};
extern struct host_trace_key host_tracing_entry, host_tracing_exit, host_tracing_inject,
    host_tracing_ept_violation, host_tracing_control_change;

struct host_exit_facts {
    host_u32 reason; /* as the VMCS has it */
    /* VM-instruction error, where VMLAUNCH or VMRESUME itself failed and nothing else counts. */
    host_u32 instruction_error;
    host_u64 rip;
    host_u64 qualification;
    host_u32 intr_info;          /* VM-exit interruption information */
    host_u32 idt_vectoring_info; /* what was being delivered */
    const char *facts;           /* the rest, for people */
};
void host_trace_entry(const struct host_vcpu *vcpu, host_u64 rip);
void host_trace_exit(const struct host_vcpu *vcpu, const struct host_exit_facts *exit);
/* In the format of VM-entry interruption information. */
void host_trace_inject(const struct host_vcpu *vcpu, host_u32 information, host_u32 error_code,
                       const char *event);
void host_trace_ept_violation(const struct host_vcpu *vcpu, host_u64 gpa, host_u64 linear_address,
                              host_u64 qualification, const char *access);
void host_trace_control_change(const struct host_vcpu *vcpu, const char *word, host_u64 before,
                               host_u64 after, const char *changes);

/* ---- Host -> core: module -------------------------------------------------------------------- */

/* The module's parameters; hardware_setup() turns off what the hardware lacks, so the values read
 * back are true. */
struct core_params {
    bool vnmi;
    bool preemption_timer;
    bool ept;
    bool eptad;
    bool vpid;
    bool unrestricted_guest;
    bool flexpriority;
    bool pml;
    bool enable_apicv;
    bool emulate_invalid_guest_state;
    bool dump_invalid_vmcs;
    bool error_on_inconsistent_vmcs_config;
    host_u32 ple_gap;
    host_u32 ple_window;
    host_u32 report; /* 0 none, 1 a screen, 2 every bit */
};

/* CPUID's registers of feature bits; in core_host_info they lack what the kernel turned off. */
enum host_feature_word {
    HOST_FEATURES_1_ECX,
    HOST_FEATURES_1_EDX,
    HOST_FEATURES_7_EBX,
    HOST_FEATURES_7_ECX,
    HOST_FEATURES_7_EDX,
    HOST_FEATURES_7_1_EAX,
    HOST_FEATURES_D_1_EAX,
    HOST_FEATURES_80000001_ECX,
    HOST_FEATURES_80000001_EDX,
    HOST_FEATURES_80000008_EBX,
    HOST_FEATURE_WORDS,
};

/* What guests learn from IA32_ARCH_CAPABILITIES, and the CPU's own MSR may not say: bits of
 * core_host_info.bugs. */
enum host_bug {
    HOST_BUG_MELTDOWN = 1u << 0,
    HOST_BUG_SPEC_STORE_BYPASS = 1u << 1,
    HOST_BUG_MDS = 1u << 2,
    HOST_BUG_TAA = 1u << 3,
    HOST_BUG_RFDS = 1u << 4,
    HOST_BUG_ITS = 1u << 5,
    HOST_BUG_GDS = 1u << 6,     /* and the microcode doesn't mitigate it */
    HOST_BUG_MONITOR = 1u << 7, /* MONITOR may miss writes: MWAIT isn't for guests */
    /* VM entries don't flush the L1 data cache: a nested hypervisor has to. */
    HOST_BUG_L1D_NOT_FLUSHED = 1u << 8,
};

/* What the core must know of the host's CPU and kernel, beyond MSRs and CPUID. */
struct core_host_info {
    host_u32 family, model, stepping;
    bool has_sgx;
    bool has_arat;
    bool uses_vmx; /* the kernel's opinion of CPUID's VMX and IA32_FEATURE_CONTROL: VMXON works */
    /* No executable large EPT pages: iTLB multihit could machine-check the host. */
    bool nx_huge_pages;
    bool hyperv_evmcs; /* the host runs on Hyper-V with an enlightened VMCS */
    host_u32 tsc_khz;
    host_u32 maxphyaddr;
    host_u64 xcr0; /* what the host enabled */
    host_u64 xss;
    host_u64 efer;
    host_u64 cr4; /* bits that never change after boot, as MCE */
    host_u32 features[HOST_FEATURE_WORDS];
    host_u32 bugs;
    char cpu_name[64];
};

/*
 * hardware_setup(): negotiates every control on the CPU this runs on, fixes params up, prints the
 * report. params stay where they are until core_hardware_unsetup(): dump_invalid_vmcs may change
 * meanwhile. -EOPNOTSUPP: no VMX, or off in firmware, as kvm_intel answers; -EIO: a required
 * control is missing or inconsistent. The reason is logged. [sleep]
 */
int core_hardware_setup(struct core_params *params, const struct core_host_info *info);
void core_hardware_unsetup(void);
/* Whether this CPU offers what core_hardware_setup() found on its CPU; logs the differing bits by
 * name: -EIO. [atomic], on the CPU to be checked */
int core_check_processor_compatibility(void);
/* VMXON/VMXOFF on this CPU with a region of its own (one page, kept by the host); -EIO: VMXON
 * failed. CR4.VMXE is the host's: it found it clear (else VMX belongs to somebody else), set it
 * before VMXON and clears it after VMXOFF. VMXOFF clears what is loaded first. [irqoff] */
int core_cpu_vmxon(void *region);
void core_cpu_vmxoff(void);
/* The same in an emergency (panic, kexec): VMCLEARs what this CPU has loaded, then VMXOFF, only if
 * we turned it on. [any] */
void core_cpu_emergency_off(void);
/* Fills a VMXON region or VMCS with the revision identifier. [any] */
void core_init_vmx_region(void *page);

/* ---- Host -> core: KVM's ioctls. Arguments are kernel copies, errno values are KVM's. [sleep]  */

/* KVM_CHECK_EXTENSION; vm is NULL on the device itself. */
int core_check_extension(const struct core_vm *vm, host_u64 extension);
/* KVM_GET_SUPPORTED_CPUID: fills at most *count entries, sets *count; -E2BIG when they don't fit.
 */
int core_get_supported_cpuid(struct kvm_cpuid_entry2 *entries, host_u32 *count);

int core_vm_create(struct host_vm *host, struct core_vm **vm);
/* Before the first vCPU is destroyed: nothing of the VM interrupts one any more. [sleep] */
void core_vm_stop_timers(struct core_vm *vm);
/* After the last vCPU is destroyed and the mmu notifier is gone. */
void core_vm_destroy(struct core_vm *vm);
/* The VM's slots mutex is held by the host. */
int core_set_memory_region(struct core_vm *vm, const struct kvm_userspace_memory_region *region);
/* What goes to, or comes from, user space's bitmap: valid as long as the slots mutex is held. */
struct core_dirty_log {
    void *bitmap;
    size_t size;
};
/* KVM_GET_DIRTY_LOG: -EINVAL, or -ENOENT for a slot that isn't logged. The slots mutex is held. */
int core_get_dirty_log(struct core_vm *vm, host_u32 slot, struct core_dirty_log *log);
/* KVM_CLEAR_DIRTY_LOG: checks the request and says where the bits to be cleared shall be put; then
 * clears them. The slots mutex is held from the one to the other. */
int core_prepare_clear_dirty_log(struct core_vm *vm, const struct kvm_clear_dirty_log *clear,
                                 struct core_dirty_log *log);
void core_clear_dirty_log(struct core_vm *vm, const struct kvm_clear_dirty_log *clear);
int core_set_tss_addr(struct core_vm *vm, host_u64 address);
int core_set_identity_map_addr(struct core_vm *vm, host_u64 address);
int core_set_boot_cpu_id(struct core_vm *vm, host_u64 id);
int core_vm_enable_cap(struct core_vm *vm, const struct kvm_enable_cap *cap);
/* mmu notifier: user space's mapping of [start, end) goes away: drop guest translations. Returns
 * whether vCPUs need VCPU_REQUEST_TLB_FLUSH. The mmu lock is held. [atomic] */
bool core_mmu_unmap_hva_range(struct core_vm *vm, host_u64 start, host_u64 end);
/* mmu notifier: was [start, end) accessed by the guest since the last call? clear: forget that it
 * was. The mmu lock is held. [atomic] */
bool core_mmu_age_hva_range(struct core_vm *vm, host_u64 start, host_u64 end, bool clear);
/* The owner's mm is gone: drop every translation. The mmu lock is held. [atomic] */
void core_mmu_zap_all(struct core_vm *vm);
/* KVM_SET_NR_MMU_PAGES, KVM_GET_NR_MMU_PAGES: how many shadow pages the VM may have; -EINVAL: too
 * few. The slots mutex is held. */
int core_set_nr_mmu_pages(struct core_vm *vm, host_u64 pages);
host_u64 core_get_nr_mmu_pages(const struct core_vm *vm);
/* How many shadow pages the VM has. [any] */
host_u64 core_mmu_shadow_pages(const struct core_vm *vm);
/* The kernel is short of memory: gives back up to `pages` shadow pages, those unused for longest
 * first, and returns how many. Takes the mmu lock; allocates nothing. [sleep], on any thread */
host_u64 core_mmu_shrink(struct core_vm *vm, host_u64 pages);

/* Interrupt controllers and devices. The VM's mutex is held by core_create_irqchip(),
 * core_create_pit() and core_set_pit(); core_set_irq() and core_irq_line() are [any but NMI]. */
int core_create_irqchip(struct core_vm *vm);
int core_get_irqchip(struct core_vm *vm, struct kvm_irqchip *chip);
int core_set_irqchip(struct core_vm *vm, const struct kvm_irqchip *chip);
/* Whether there is an interrupt controller in the module at all. [any] */
bool core_irqchip_ready(const struct core_vm *vm);
bool core_irqchip_in_kernel(const struct core_vm *vm); /* with PIC and IOAPIC */
/* On whose behalf a line is driven. */
enum host_irq_source { HOST_IRQ_USER, HOST_IRQ_RESAMPLE };
/* Drives a GSI: how many vCPUs took it; 0: merged with one before; -1: masked, or it goes nowhere.
 */
int core_set_irq(struct core_vm *vm, enum host_irq_source source, host_u32 gsi, bool level,
                 bool line_status);
int core_irq_line(struct core_vm *vm, struct kvm_irq_level *line, bool line_status);
int core_set_gsi_routing(struct core_vm *vm, const struct kvm_irq_routing_entry *entries,
                         host_u32 count);
int core_signal_msi(struct core_vm *vm, const struct kvm_msi *msi);
int core_create_pit(struct core_vm *vm, host_u32 flags);
int core_get_pit(struct core_vm *vm, struct kvm_pit_state2 *state);
int core_set_pit(struct core_vm *vm, const struct kvm_pit_state2 *state);
int core_reinject_control(struct core_vm *vm, bool reinject);
/* The slots mutex is held. A successful assignment takes over the reference; what can be refused
 * without the descriptor is refused by core_check_ioeventfd(). */
int core_check_ioeventfd(const struct kvm_ioeventfd *args);
int core_assign_ioeventfd(struct core_vm *vm, const struct kvm_ioeventfd *args,
                          struct host_eventfd *eventfd);
int core_deassign_ioeventfd(struct core_vm *vm, const struct kvm_ioeventfd *args,
                            const struct host_eventfd *eventfd);
int core_register_coalesced(struct core_vm *vm, const struct kvm_coalesced_mmio_zone *zone);
int core_unregister_coalesced(struct core_vm *vm, const struct kvm_coalesced_mmio_zone *zone);
/* The page of coalesced writes, mapped behind every vCPU's kvm_run; lives as long as the VM. */
void *core_coalesced_ring(struct core_vm *vm); /* NULL: no memory [sleep] */

/* Before a vCPU of this id is created: -EINVAL, if the VM may not have one. The VM's mutex is held.
 */
int core_check_vcpu_id(struct core_vm *vm, host_u32 id);
/* How many vCPUs a VM has is the host's to count; the id was checked. */
int core_vcpu_create(struct core_vm *vm, struct host_vcpu *host, struct vcpu_area *area,
                     host_u32 id, struct core_vcpu **vcpu);
void core_vcpu_destroy(struct core_vcpu *vcpu);
/* vmx_vcpu_load(): makes this vCPU's VMCS current on this CPU. [atomic] */
void core_vcpu_load(struct core_vcpu *vcpu, host_u32 cpu);
/* The vCPU's thread is scheduled out or leaves the ioctl. [atomic] */
void core_vcpu_put(struct core_vcpu *vcpu);
/* The calls below run with the vCPU's mutex held and the vCPU loaded. */
int core_vcpu_run(struct core_vcpu *vcpu); /* [atomic], until it calls host_let_sleep() */
int core_get_regs(struct core_vcpu *vcpu, struct kvm_regs *regs);
int core_set_regs(struct core_vcpu *vcpu, const struct kvm_regs *regs);
int core_get_sregs(struct core_vcpu *vcpu, struct kvm_sregs *sregs);
int core_set_sregs(struct core_vcpu *vcpu, const struct kvm_sregs *sregs);
int core_set_cpuid2(struct core_vcpu *vcpu, const struct kvm_cpuid_entry2 *entries, host_u32 count);
int core_get_cpuid2(struct core_vcpu *vcpu, struct kvm_cpuid_entry2 *entries, host_u32 *count);
int core_interrupt(struct core_vcpu *vcpu, host_u32 vector);
int core_nmi(struct core_vcpu *vcpu);
/* The local APIC's; those of the APIC itself answer -EINVAL where user space has it. Of the states
 * of KVM_MP_STATE_* only "runnable" is one then. */
bool core_has_lapic(const struct core_vcpu *vcpu); /* [any] */
int core_get_mp_state(struct core_vcpu *vcpu, host_u32 *state);
int core_set_mp_state(struct core_vcpu *vcpu, host_u32 state);
int core_get_lapic(struct core_vcpu *vcpu, struct kvm_lapic_state *state);
int core_set_lapic(struct core_vcpu *vcpu, const struct kvm_lapic_state *state);
int core_set_vapic_addr(struct core_vcpu *vcpu, host_u64 address);
int core_set_tpr_access_reporting(struct core_vcpu *vcpu, host_u32 enabled, host_u32 flags);
/* The state of a vCPU beyond registers: src/core/state. */
int core_get_sregs2(struct core_vcpu *vcpu, struct kvm_sregs2 *sregs);
int core_set_sregs2(struct core_vcpu *vcpu, const struct kvm_sregs2 *sregs);
int core_get_xcrs(struct core_vcpu *vcpu, struct kvm_xcrs *xcrs);
int core_set_xcrs(struct core_vcpu *vcpu, const struct kvm_xcrs *xcrs);
host_u64 core_supported_xcr0(void); /* that any guest can have; that this one can: */
host_u64 core_guest_xcr0(const struct core_vcpu *vcpu);
int core_get_debugregs(struct core_vcpu *vcpu, struct kvm_debugregs *regs);
int core_set_debugregs(struct core_vcpu *vcpu, const struct kvm_debugregs *regs);
int core_get_vcpu_events(struct core_vcpu *vcpu, struct kvm_vcpu_events *events);
int core_set_vcpu_events(struct core_vcpu *vcpu, const struct kvm_vcpu_events *events);
int core_set_guest_debug(struct core_vcpu *vcpu, const struct kvm_guest_debug *debug);
int core_translate(struct core_vcpu *vcpu, struct kvm_translation *translation);
int core_setup_mce(struct core_vcpu *vcpu, host_u64 capability);
int core_set_mce(struct core_vcpu *vcpu, const struct kvm_x86_mce *mce);
host_u64 core_mce_capability(void);
int core_set_tsc_khz(struct core_vcpu *vcpu, host_u32 khz);
host_u32 core_get_tsc_khz(struct core_vcpu *vcpu);
int core_kvmclock_ctrl(struct core_vcpu *vcpu);
/* MINIVMX_GET_ENTRY_AUDIT: out->count says how many findings there is room for; -ENOENT, -E2BIG. */
int core_get_entry_audit(struct core_vcpu *vcpu, struct minivmx_entry_audit *out,
                         struct minivmx_audit_finding *findings);
/* MINIVMX_SET_INTERCEPTS: the ranges are kernel copies of as many as *asked says, of which there
 * are MINIVMX_MAX_INTERCEPT_RANGES at most. -EINVAL, -EOPNOTSUPP, -ENOMEM: nothing has changed. */
int core_set_intercepts(struct core_vcpu *vcpu, const struct minivmx_intercepts *asked,
                        const struct minivmx_port_range *ports,
                        const struct minivmx_msr_range *msrs);
/* MINIVMX_GET_CONTROLS: controls->count says how many steps there is room for; -E2BIG. */
int core_get_controls(struct core_vcpu *vcpu, struct minivmx_controls *controls,
                      struct minivmx_control_step *steps);
int core_vcpu_enable_cap(struct core_vcpu *vcpu, const struct kvm_enable_cap *cap);
/* The same of the VM: its mutex is held by core_vm_set_tsc_khz(). */
int core_vm_set_tsc_khz(struct core_vm *vm, host_u32 khz);
host_u32 core_vm_get_tsc_khz(const struct core_vm *vm);
int core_get_clock(struct core_vm *vm, struct kvm_clock_data *data);
int core_set_clock(struct core_vm *vm, const struct kvm_clock_data *data);
/* bitmaps[i] has the bits of range i, (nmsrs + 7) / 8 bytes, in kernel memory. */
int core_set_msr_filter(struct core_vm *vm, const struct kvm_msr_filter *filter,
                        const host_u8 *const *bitmaps);
/* KVM_GET_MSRS, KVM_SET_MSRS: how many of the entries were read or written, up to the first that
 * can't be. vcpu is NULL for the features of KVM_GET_MSRS on the device. */
int core_get_msrs(struct core_vcpu *vcpu, struct kvm_msr_entry *entries, host_u32 count);
int core_set_msrs(struct core_vcpu *vcpu, const struct kvm_msr_entry *entries, host_u32 count);
/* The numbers for KVM_GET_MSR_INDEX_LIST or its sibling of features: writes up to limit of them,
 * returns how many there are. */
host_u32 core_msr_index_list(bool features, host_u32 *indices, host_u32 limit);
/* KVM_GET_EMULATED_CPUID */
int core_get_emulated_cpuid(struct kvm_cpuid_entry2 *entries, host_u32 *count);

/* What debugfs shows, line by line; a line is valid only during the call. Neither sleeps, nor needs
 * the vCPU's mutex: only that the objects stay. */
typedef void (*host_line_function)(void *context, const char *line);
/* Every bit of the vCPU's control words, with the steps that made it what it is. */
void core_vcpu_print_controls(const struct core_vcpu *vcpu, host_line_function line, void *context);
/* "CPUID 1234": exits by their reason, of a vCPU or of all vCPUs of a VM. */
void core_vcpu_print_exits(const struct core_vcpu *vcpu, host_line_function line, void *context);
void core_vm_print_exits(const struct core_vm *vm, host_line_function line, void *context);
/* "halts 3": what else is counted. */
void core_vcpu_print_events(const struct core_vcpu *vcpu, host_line_function line, void *context);
void core_vm_print_events(const struct core_vm *vm, host_line_function line, void *context);
/* "shadow_pages 12": how many of its tables are shadowed, and how many may be. */
void core_vm_print_memory(const struct core_vm *vm, host_line_function line, void *context);

/* Whether a vCPU that sleeps has a reason to go on. Called by host_vcpu_block() on the vCPU's
 * thread when that is about to sleep, so it may not. */
bool core_vcpu_runnable(struct core_vcpu *vcpu);

#ifdef __cplusplus
}
#endif
#endif
