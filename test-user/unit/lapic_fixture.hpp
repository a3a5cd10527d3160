// SPDX-License-Identifier: GPL-2.0-only
//
// VMs with their interrupt controllers in the kernel, and local APICs as guests use them.
#pragma once

#include <minivmx/lapic.hpp>
#include <minivmx/run.hpp>
#include <minivmx/state.hpp>

#include "lapic_vectors.hpp"
#include "support.hpp"
#include "vcpu_fixture.hpp"

#include <gtest/gtest.h>

#include <cstring>

namespace minivmx::test {

class LapicTest : public testing::Test {
  protected:
    explicit LapicTest(unsigned vcpus = 1, Parameters params = quiet(), u32 tsc_khz = 1'000'000,
                       Irqchip irqchip = Irqchip::kKernel)
        : guest(haswell(tsc_khz), params)
    {
        kvm_enable_cap split{};
        split.cap = KVM_CAP_SPLIT_IRQCHIP;
        split.args[0] = 24;
        if (irqchip == Irqchip::kSplit ? core_vm_enable_cap(guest.vm.core, &split)
                                       : core_create_irqchip(guest.vm.core))
            throw std::runtime_error("no interrupt controllers");
        for (unsigned i = 0; i < vcpus; i++)
            add_vcpu();
        guest.machine.on_vmenter = [this](host_vcpu &vcpu) { return play(vcpu); };
        load(0);
    }
    static HostDesc haswell(u32 tsc_khz)
    {
        HostDesc host = sim::cpu("corei7_haswell_4770");
        host.tsc_khz = tsc_khz;
        return host;
    }
    static Parameters quiet()
    {
        Parameters params = default_parameters();
        params.report = 0;
        return params;
    }

    void add_vcpu()
    {
        host_vcpu &vcpu = guest.create_vcpu();
        // x2APIC and TSC deadline, as every client of ours asks for them.
        kvm_cpuid_entry2 entry{};
        entry.function = 1;
        entry.ecx = 1u << 21 | 1u << 24;
        core_vcpu_load(vcpu.core, 0);
        ASSERT_EQ(core_set_cpuid2(vcpu.core, &entry, 1), 0);
        core_vcpu_put(vcpu.core);
    }
    /// Makes this vCPU the one whose VMCS is loaded.
    void load(unsigned n) { core_vcpu_load(guest.vm.vcpus[n]->core, 0); }
    host_vcpu &host(unsigned n = 0) { return *guest.vm.vcpus[n]; }
    vcpu_vmx &vmx(unsigned n = 0) { return to_vmx(host(n).core); }
    Lapic &apic(unsigned n = 0) { return *vmx(n).apic; }

    // The guest's accesses.
    u32 read(u32 offset, unsigned n = 0)
    {
        u32 value = 0xdeadbeef;
        EXPECT_TRUE(lapic_mmio(vmx(n), 0xfee00000 + offset, false, &value, 4));
        return value;
    }
    void write(u32 offset, u32 value, unsigned n = 0)
    {
        EXPECT_TRUE(lapic_mmio(vmx(n), 0xfee00000 + offset, true, &value, 4));
    }
    void icr(u32 low, u32 destination = 0, unsigned n = 0)
    {
        write(kApicIcrHigh, destination << 24, n);
        write(kApicIcr, low, n);
    }
    void enable(unsigned n) { write(kApicSvr, 0x1ff, n); }
    void enable_all()
    {
        for (unsigned n = 0; n < guest.vm.vcpus.size(); n++)
            enable(n);
    }
    void x2apic(unsigned n = 0)
    {
        load(n);
        write_apic_base(vmx(n), vmx(n).apic_base | bit64(10));
    }
    u64 msr(u32 index, unsigned n = 0)
    {
        u64 value = 0;
        EXPECT_TRUE(lapic_read_msr(vmx(n), index, value)) << std::hex << index;
        return value;
    }
    /// As the vCPU's thread does before an entry; -1: no interrupt may come in.
    int take_next()
    {
        const int next = next_interrupt(vmx());
        return next == kNoInterrupt ? -1 : take_interrupt(vmx(), next);
    }
    /// Which vCPUs have the vector, as a bitmap; takes it back.
    unsigned receivers(u8 vector)
    {
        unsigned found = 0;
        for (unsigned n = 0; n < guest.vm.vcpus.size(); n++)
            found |= static_cast<unsigned>(take_arrived(apic(n), vector)) << n;
        return found;
    }

    // KVM_RUN: the guest's exits in turn; the last one is told to user space (port I/O would do as
    // well).
    struct Entered {
        u32 event;   ///< VM-entry interruption information
        u32 primary; ///< primary controls
        u32 threshold;
        u32 timer;
    };
    u32 play(host_vcpu &)
    {
        auto &fields = guest.machine.current_vmcs().fields;
        entered.push_back({static_cast<u32>(fields[VM_ENTRY_INTR_INFO_FIELD.encoding]),
                           static_cast<u32>(fields[CPU_BASED_VM_EXEC_CONTROL.encoding]),
                           static_cast<u32>(fields[TPR_THRESHOLD.encoding]),
                           static_cast<u32>(fields[VMX_PREEMPTION_TIMER_VALUE.encoding])});
        fields[VM_ENTRY_INTR_INFO_FIELD.encoding] &= ~u64{INTR_INFO_VALID};
        const usize at = entered.size() - 1;
        fields[VM_EXIT_REASON.encoding] =
            at < script.size() ? script[at] : u32{EXIT_REASON_TRIPLE_FAULT};
        fields[IDT_VECTORING_INFO_FIELD.encoding] = 0;
        fields[VM_EXIT_INSTRUCTION_LEN.encoding] = 1;
        fields[EXIT_QUALIFICATION.encoding] = qualification;
        if (during)
            during(at);
        return 0;
    }
    int run(std::vector<u32> exits, unsigned n = 0)
    {
        script = std::move(exits);
        entered.clear();
        const int result = guest.run(host(n));
        core_vcpu_load(host(n).core, 0);
        return result;
    }
    void interrupts(bool on, unsigned n = 0)
    {
        load(n);
        write_rflags(vmx(n), X86_EFLAGS_FIXED | (on ? X86_EFLAGS_IF : 0));
        guest.vmcs_of(host(n)).fields[GUEST_RFLAGS.encoding] = read_rflags(vmx(n));
    }
    static u32 event(u8 vector) { return INTR_INFO_VALID | INTR_TYPE_EXT_INTR | vector; }

    GuestMachine guest;
    std::vector<u32> script;
    std::vector<Entered> entered;
    std::function<void(usize)> during;
    u64 qualification = 0;
};

} // namespace minivmx::test
