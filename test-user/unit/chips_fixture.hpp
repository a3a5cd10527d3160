// SPDX-License-Identifier: GPL-2.0-only
//
// A VM with interrupt controllers on a simulated machine, for tests that act as its devices, its
// guest's drivers, and its local APICs' software.
#pragma once

#include <minivmx/devices.hpp>
#include <minivmx/ioapic.hpp>
#include <minivmx/irq_routing.hpp>
#include <minivmx/irqchip.hpp>
#include <minivmx/lapic.hpp>
#include <minivmx/pic.hpp>
#include <minivmx/pit.hpp>

#include "lapic_vectors.hpp"
#include "vcpu_fixture.hpp"

#include <gtest/gtest.h>

#include <memory>

namespace minivmx::test {

enum class With { kNothing, kIrqchip, kIrqchipAndPit };

class Chips : public ::testing::Test {
  protected:
    explicit Chips(With with = With::kIrqchip, unsigned vcpus = 1)
        : guest{sim::cpu("corei7_haswell_4770")}
    {
        if (with != With::kNothing) {
            EXPECT_EQ(core_create_irqchip(guest.vm.core), 0);
        }
        if (with == With::kIrqchipAndPit) {
            EXPECT_EQ(core_create_pit(guest.vm.core, KVM_PIT_SPEAKER_DUMMY), 0);
        }
        for (unsigned i = 0; i < vcpus; i++) {
            vcpus_.push_back(&guest.create_vcpu());
            if (with != With::kNothing)
                enable_apic(i);
        }
        guest.machine.kicks.clear();
    }

    kvm_vm &vm() { return to_kvm(guest.vm.core); }
    vcpu_vmx &vcpu(unsigned i = 0) { return to_vmx(vcpus_[i]->core); }

    // The guest's ports and memory-mapped registers.
    void out(u16 port, u8 value) { EXPECT_TRUE(kernel_pio(vcpu(), port, true, &value, 1)); }
    u8 in(u16 port)
    {
        u8 value = 0xee;
        EXPECT_TRUE(kernel_pio(vcpu(), port, false, &value, 1));
        return value;
    }
    void mmio_write(u64 gpa, u32 value) { EXPECT_TRUE(kernel_mmio(vcpu(), gpa, true, &value, 4)); }
    u32 mmio_read(u64 gpa)
    {
        u32 value = 0xeeeeeeee;
        EXPECT_TRUE(kernel_mmio(vcpu(), gpa, false, &value, 4));
        return value;
    }

    // A device's line.
    int line(u32 gsi, bool level) { return set_irq(vm(), IrqSource::kUser, gsi, level, false); }
    void pulse(u32 gsi)
    {
        line(gsi, true);
        line(gsi, false);
    }

    // A local APIC's software: whether the vector has arrived since it was last taken.
    bool take(u8 vector, unsigned i = 0) { return take_arrived(*vcpu(i).apic, vector); }
    void eoi(u8 vector, bool level, unsigned i = 0) { ioapic_eoi(vcpu(i), vector, level); }

    // An eventfd without a reference yet; none is left when the VM is gone.
    host_eventfd *eventfd()
    {
        eventfds_.push_back(std::make_unique<Eventfd>());
        return eventfds_.back().get();
    }

  private:
    struct Eventfd : host_eventfd {
        Eventfd() { references = 0; }
        ~Eventfd() { EXPECT_EQ(references, 0); }
    };
    std::vector<std::unique_ptr<Eventfd>> eventfds_; // outlives the VM

  protected:
    GuestMachine guest;

  private:
    void enable_apic(unsigned i)
    {
        u32 svr = 0x1ff;
        core_vcpu_load(vcpus_[i]->core, 0);
        EXPECT_TRUE(lapic_mmio(vcpu(i), 0xfee000f0, true, &svr, 4));
        core_vcpu_put(vcpus_[i]->core);
    }

    std::vector<host_vcpu *> vcpus_;
};

} // namespace minivmx::test
