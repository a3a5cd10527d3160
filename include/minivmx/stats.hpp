// SPDX-License-Identifier: GPL-2.0-only
// What a vCPU has done so far, in numbers: the files `exits` and `events` of debugfs, which
// `minivmx stat` reads. Only the vCPU's own thread counts; everybody may look.
#pragma once

#include <minivmx/exit.hpp>
#include <minivmx/text.hpp>
#include <minivmx/types.hpp>

namespace minivmx {

struct kvm_vm;
struct vcpu_vmx;

struct VcpuStats {
    u64 exits[EXIT_REASON_COUNT + 1]; // by basic exit reason; the last one is of unknown ones
    u64 failed_entries; // VMLAUNCH and VMRESUME failed, or bit 31 of the exit reason was set
    u64 exceptions, interrupts, nmis; // injected, and not taken back before the entry
    u64 halts;                        // the thread slept until the vCPU had a reason to go on
    u64 tlb_flushes;                  // before an entry
    u64 emulated; // instructions of real mode and of states that VM entry refuses
    u64 returns;  // of KVM_RUN to user space
};

inline void count_exit(VcpuStats &stats, u32 basic_reason)
{
    stats.exits[basic_reason < EXIT_REASON_COUNT ? basic_reason : EXIT_REASON_COUNT]++;
}

// An event with this VM-entry interruption information enters the guest, or (-1) doesn't after all.
void count_injection(VcpuStats &stats, u32 information, s64 by);

// A line for each exit reason that has occurred: "CPUID 1234". [any]
void print_exits(const VcpuStats &stats, const LineSink &out);
// A line for each other number, zero or not: "halts 3". [any]
void print_events(const VcpuStats &stats, const LineSink &out);
// The sums over a VM's vCPUs; those that are destroyed are not in it. [any but NMI]
VcpuStats stats_of(const kvm_vm &kvm);

} // namespace minivmx
