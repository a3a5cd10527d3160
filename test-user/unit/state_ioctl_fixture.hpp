// SPDX-License-Identifier: GPL-2.0-only
//
// One vCPU and the ioctls of its state, for the tests of them.
#pragma once

#include "state_support.hpp"

#include <minivmx/run.hpp>

#include <algorithm>

namespace minivmx::test {

class StateIoctl : public ::testing::Test {
  protected:
    StateIoctl() { guest.set_supported_cpuid(); }
    StateGuest guest;

    kvm_vcpu_events events()
    {
        kvm_vcpu_events events;
        std::memset(&events, 0xcc, sizeof(events));
        EXPECT_EQ(core_get_vcpu_events(guest.vcpu(), &events), 0);
        return events;
    }
    int set(const kvm_vcpu_events &events) { return core_set_vcpu_events(guest.vcpu(), &events); }
    int enable(u32 cap, u64 argument, u32 flags = 0)
    {
        kvm_enable_cap request{};
        request.cap = cap;
        request.flags = flags;
        request.args[0] = argument;
        return core_vm_enable_cap(guest.host().core, &request);
    }
    int set_msr_by_host(u32 index, u64 value)
    {
        kvm_msr_entry entry{};
        entry.index = index;
        entry.data = value;
        return core_set_msrs(guest.vcpu(), &entry, 1);
    }
    u64 msr_by_host(u32 index)
    {
        kvm_msr_entry entry{};
        entry.index = index;
        EXPECT_EQ(core_get_msrs(guest.vcpu(), &entry, 1), 1) << std::hex << index;
        return entry.data;
    }
    int debug(u32 control, u64 dr0 = 0, u64 dr7 = 0)
    {
        kvm_guest_debug args{};
        args.control = control;
        args.arch.debugreg[0] = dr0;
        args.arch.debugreg[7] = dr7;
        return core_set_guest_debug(guest.vcpu(), &args);
    }
    void at_instruction(u32 length)
    {
        guest.set(VM_EXIT_INSTRUCTION_LEN, length);
        guest.set_rip(0x1000);
    }
    Outcome exit(u32 reason, u64 qualification = 0, u32 interruption = 0)
    {
        guest.set(EXIT_QUALIFICATION, qualification);
        guest.set(VM_EXIT_INTR_INFO, interruption);
        guest.vmx().exit_reason = reason;
        guest.vmx().idt_vectoring_info = 0;
        return vmx_handle_exit(guest.vmx());
    }
};

constexpr u32 kDebugException = INTR_INFO_VALID | INTR_TYPE_HARD_EXCEPTION | DB_VECTOR;
constexpr u32 kBreakpoint = INTR_INFO_VALID | INTR_TYPE_SOFT_EXCEPTION | BP_VECTOR;

} // namespace minivmx::test
