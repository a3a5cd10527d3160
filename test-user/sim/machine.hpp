// SPDX-License-Identifier: GPL-2.0-only
//
// A simulated machine: CPUs with CPUID, MSRs and VMX as the architecture describes them, pages, the
// memory of a user process, and the host's half of host.h. The core runs on it unchanged.
//
//     sim::Machine machine(sim::cpu("corei7_haswell_4770"));
//     Parameters params = default_parameters();
//     ASSERT_EQ(core_hardware_setup(&params, &machine.host_info), 0);
//
// One machine exists at a time, in one thread. What the core must never do (use of a VMCS that is
// active elsewhere, sleeping with preemption off, unbalanced locks) is noted in `violations`.
#pragma once

#include <minivmx/arch.hpp>
#include <minivmx/host.h>
#include <minivmx/host_desc.hpp>

#include "profiles.hpp"

#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

struct host_vcpu {
    vcpu_area area{};
    core_vcpu *core = nullptr;
    host_vm *vm = nullptr;
    minivmx::u64 kernel_gs_base = 0;
    bool pinned = false; // preemption is off until host_let_sleep()
};

struct host_vm {
    core_vm *core = nullptr;
    std::vector<host_vcpu *> vcpus;
    minivmx::u64 mmu_seq = 0;
    bool mmu_locked = false;
};

struct host_timer {
    void (*fire)(void *arg) = nullptr;
    void *arg = nullptr;
    bool started = false;
    minivmx::u64 deadline = 0;
};

struct host_lock {
    bool taken = false;
};

/// An eventfd; a test makes one with a reference to give away.
struct host_eventfd {
    minivmx::u64 count = 0;
    int references = 1;
};

namespace minivmx::sim {

/// The profile's host description; throws when there is no such profile.
HostDesc cpu(const std::string &profile);

/// A VMCS: what the CPU keeps of it.
struct Vmcs {
    std::map<u32, u64> fields; ///< by encoding of the full field; absent ones read as 0
    int active_on = -1;        ///< the CPU it was loaded on and not cleared since
};

struct FieldWrite {
    u32 field;
    u64 value;
    bool operator==(const FieldWrite &) const = default;
};

struct Cpu {
    bool online = true;
    bool in_vmx = false;
    u64 vmxon_region = 0;
    u64 current = ~u64{0}; ///< physical address of the current VMCS
};

struct LogLine {
    host_log_level level;
    std::string text;
};

/// Memory of the simulated user process; the guest's memory is made of it.
struct UserRange {
    u64 start;
    u64 size;
    bool writable;
    u32 order = 0; ///< log2 of the pages that the process maps as one: see map_contiguous()
};

/// A page that the core took by host_fault_in() and gave back.
struct FramePut {
    u64 pfn;
    bool dirty;
};

class Machine {
  public:
    explicit Machine(const HostDesc &host, unsigned cpu_count = 1);
    ~Machine();
    Machine(const Machine &) = delete;
    Machine &operator=(const Machine &) = delete;

    /// The machine that exists now; aborts when there is none.
    static Machine &current();

    // CPU
    std::map<std::pair<u32, u32>, arch::CpuidResult> cpuid; ///< absent leaves are 0
    std::map<u32, u64> msr;                                 ///< absent ones raise #GP
    std::vector<std::pair<u32, u64>> wrmsr_log;
    u64 tsc = 0;
    bool clock_counts_tsc = true;                ///< see host_clock
    u64 realtime_ns = 1'700'000'000'000'000'000; ///< when time_ns was 0
    u64 xcr0 = 0;                                ///< what XSETBV wrote last
    u64 random_number = 0x0123456789abcdef;      ///< what RDRAND and RDSEED give ...
    bool random_ready = true;                    ///< ... if they give one
    std::vector<Cpu> cpus;
    u32 this_cpu = 0;
    VmxMsrs vmx_msrs() const; ///< of `msr`, read anew

    // VMX
    std::map<u64, Vmcs> vmcs; ///< by physical address
    std::vector<FieldWrite> vmwrites;
    u64 vmreads = 0;
    u64 invalidations = 0; ///< INVEPT and INVVPID
    u64 invvpids = 0;      ///< the latter alone
    /// Called for an INVVPID that the CPU accepts.
    std::function<void(u64 type, u64 vpid, u64 linear)> on_invvpid;
    /// The current VMCS of this CPU; aborts when there is none.
    Vmcs &current_vmcs();
    u64 field(u32 encoding) { return current_vmcs().fields[encoding]; }
    u64 count_writes(u32 encoding) const;
    /// VMX instructions that fail although nothing is wrong, for tests of error paths.
    std::map<std::string, arch::Vmx> fail;

    // Entering a guest
    /// Plays the guest: called for each VM entry with the VMCS current; sets the exit fields and
    /// returns 0 for a VM exit, 1 for a failed VMLAUNCH or VMRESUME.
    std::function<u32(host_vcpu &)> on_vmenter;
    /// Called before an entry; may raise requests or a signal.
    std::function<void(host_vcpu &)> before_entry;
    bool signal_pending = false;
    u64 entries = 0;
    std::vector<std::string> host_events; ///< "nmi", "interrupt 32", "machine check"

    // Host
    core_host_info host_info{};
    std::vector<LogLine> log;
    std::vector<std::string> violations;
    /// Hears of those that are left when a machine ends: no test has to ask.
    static inline void (*hear_violations)(const std::vector<std::string> &) = nullptr;
    std::string log_text() const;

    /// What tracepoints told while they were on (host_tracing_entry.enabled = 1 ...): sim/trace.cc.
    std::vector<std::string> traces;

    // Pages of the kernel
    std::map<void *, u64> pages;
    std::map<u64, void *> pages_by_phys;
    std::map<u64, void *> page_owners; ///< by physical address
    u64 first_page = 0x100000;         ///< from here on host_page_alloc() gives frames
    std::set<void *> allocations;
    /// When not negative: how many more allocations succeed.
    int allocations_left = -1;

    // User memory
    /// New memory, zeroed and page-aligned; lives as long as the machine. Returns its address.
    u64 add_user_memory(u64 size, bool writable = true, u64 alignment = 4096);
    /// The range that starts there is made of naturally aligned pages of 2^order frames each.
    void map_contiguous(u64 start, u32 order);
    /// The process changes its protection; the VM is told by unmap_user() if the test says so.
    void protect_user(u64 start, bool writable);
    const UserRange *find_user(u64 address, u64 size) const;
    u64 pfn_of(u64 hva);
    std::vector<UserRange> user_ranges;
    std::map<u64, u64> pfns; ///< by hva >> 12
    /// Tells the VM that its owner's mapping of this range is gone, as an mmu notifier does.
    bool unmap_user(host_vm &vm, u64 start, u64 end);
    /// After a page was found, before the core maps it; may change the frame. Its result is what
    /// host_fault_in() answers.
    std::function<int(u64 hva, bool want_write, host_frame &frame)> on_fault_in;
    /// The vCPUs' part in host_request_all(): they leave the guest.
    std::function<void(u32 requests)> on_request_all;
    /// Whoever the core waits for in host_relax() goes on here.
    std::function<void()> on_relax;
    /// Before host_cmpxchg_user() looks: another CPU may write.
    std::function<void(u64 hva)> on_cmpxchg;
    /// Before host_read_user_atomic() looks: another CPU may write, or the page be gone (false).
    std::function<bool(u64 hva)> on_read_atomic;
    std::vector<FramePut> frame_puts;
    /// Whether the process has touched the page at hva: what host_frames_at_hand() finds. Unset:
    /// no.
    std::function<bool(u64 hva)> is_populated;
    std::set<u64> clean_pages; ///< by hva >> 12: populated, but the host doesn't count as written
    u64 faults = 0;            ///< calls of host_fault_in() that found a page
    u64 flush_calls = 0;       ///< calls of host_request_all() that ask for a TLB flush

    // The guest's vector registers
    u8 ymm[16][32] = {}; ///< XMM registers are their first halves
    u64 mmx[8] = {};
    bool x87_exception = false; ///< one is pending
    u16 x87_control = 0x37f;
    u32 mxcsr = 0x1f80;

    // Time and sleeping vCPUs
    u64 time_ns = 1'000'000'000; ///< what host_time_ns() says
    std::set<host_timer *> timers;
    std::set<host_lock *> locks;
    /// Time passes; timers fire when theirs has come, in the order of their deadlines.
    void advance(u64 ns);
    /// The earliest deadline of a started timer; ~0 when there is none.
    u64 next_deadline() const;
    /// Called when a vCPU is about to sleep; what it does may make it runnable. Without it, or if
    /// that doesn't help, time passes until the next timer fires; a sleep that nothing ends is a
    /// violation, and a signal ends it.
    std::function<void(host_vcpu &)> on_block;
    u64 blocks = 0;                 ///< calls of host_vcpu_block()
    std::vector<host_vcpu *> kicks; ///< by host_vcpu_kick()
    int rcu_readers = 0;
    u64 rcu_waits = 0;

    /// GSIs that the guest has acknowledged, and what their owner does then.
    std::vector<u32> acked_gsis;
    std::function<void(u32 gsi)> on_irq_acked;

    int preempt_count = 0;
    bool irqs_off = false;
    void may_sleep(const char *function);
    void violation(const std::string &what) { violations.push_back(what); }

  private:
    std::vector<std::pair<void *, u64>> mappings_;
    u64 next_pfn_ = 0x100000;
};

} // namespace minivmx::sim
