// SPDX-License-Identifier: GPL-2.0-only
// Time in a virtual machine: the guest's TSC, and kvmclock, the paravirtual clock whose pages the
// guest reads without exits.
//
// A vCPU's TSC is the host's, scaled where the CPU can, plus an offset. kvmclock says at which TSC
// value it was what time, and how fast the TSC counts. While the host's own clock counts the TSC
// and all vCPUs have the same one, every vCPU gets the same such pair (the master clock), so that
// what they read agrees; else each gets its own, anew after each move to another CPU.
#pragma once

#include <minivmx/types.hpp>

struct host_lock;

namespace minivmx {

struct kvm_vm;
struct vcpu_vmx;

struct VcpuTime {
    u64 multiplier;      // guest ticks in a host tick: fixed point, 48 bits of fraction
    u32 khz;             // of the guest's TSC
    u64 last_host_tsc;   // when the vCPU was put
    u64 system_time_msr; // MSR_KVM_SYSTEM_TIME: where the page is; bit 0: enabled
    bool update_due;     // the page is to be written before the next entry
    bool guest_stopped;  // the page shall say that the guest was stopped
};

// Under `lock`, but for default_khz, which is set before there are vCPUs.
struct VmTime {
    host_lock *lock;
    u32 default_khz;    // KVM_SET_TSC_KHZ on the VM; 0: the host's
    u64 clock_offset;   // kvmclock is the host's clock plus this
    u64 wall_clock_msr; // MSR_KVM_WALL_CLOCK
    // The master clock; valid is false when it has to be looked at again.
    bool valid, master;
    u64 master_ns, master_tsc;
    // The last write to a TSC by the VMM: when, what, and which offset that made.
    u64 write_ns, write_value, write_offset;
    u32 write_khz;
};

// -ENOMEM. [sleep]
int time_create(kvm_vm &kvm);
void time_destroy(kvm_vm &kvm);

// ----- TSC (src/core/state/msr_tsc.cc)
// ---------------------------------------------------------------

// A fresh vCPU's TSC goes on from where the VM's other vCPUs' are, or starts at 0. The vCPU is
// loaded.
void start_guest_tsc(vcpu_vmx &vmx);
// The VMM's write: vCPUs that are set to about the same value at about the same time are meant to
// have the same.
void synchronize_tsc(vcpu_vmx &vmx, u64 value);
// This vCPU's thread comes to a CPU, or leaves it. [atomic]
void time_vcpu_load(vcpu_vmx &vmx, bool moved);
void time_vcpu_put(vcpu_vmx &vmx);

// False: a rate this CPU can't make, or not as KVM_SET_TSC_KHZ allows. 0: the host's.
[[nodiscard]] bool set_tsc_khz(vcpu_vmx &vmx, u32 khz);
u64 max_tsc_khz(); // a guest's has to be below
// How fast the guest's TSC counts; time.khz is what was asked for, which may be a little off.
u32 running_tsc_khz(const vcpu_vmx &vmx);

// a * b >> shift, where the result fits.
u64 multiply_shift(u64 a, u64 b, unsigned shift);

// ----- kvmclock (src/core/state/kvmclock.cc) -----------------------------------------------------

// TSC offsets or rates, or the clock itself, have changed: every vCPU's page is written anew.
void clock_changed(kvm_vm &kvm);
// The next page tells the guest that it didn't run for a while. False: it has no kvmclock.
bool tell_guest_it_stopped(vcpu_vmx &vmx);
// Writes this vCPU's page if that is due. [sleep]
void update_guest_clock(vcpu_vmx &vmx);
// SYSTEM_TIME and WALL_CLOCK MSRs.
void write_system_time(vcpu_vmx &vmx, u64 value);
void write_wall_clock(vcpu_vmx &vmx, u64 value);

} // namespace minivmx
