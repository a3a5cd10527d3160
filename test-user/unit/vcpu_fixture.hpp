// SPDX-License-Identifier: GPL-2.0-only
//
// A simulated machine with the module loaded and one VM in it, as the host layer would do it.
#pragma once

#include <minivmx/hardware.hpp>
#include <minivmx/vcpu.hpp>

#include "sim/machine.hpp"

#include <stdexcept>
#include <string>

#include <minivmx.h>

namespace minivmx::test {

/// One VM on one simulated machine. Every call is what the kernel's host layer calls.
class GuestMachine {
  public:
    explicit GuestMachine(const HostDesc &host, Parameters params = default_parameters(),
                          unsigned cpus = 1)
        : machine(host, cpus), params(params)
    {
        must(core_hardware_setup(&this->params, &machine.host_info), "core_hardware_setup");
        for (unsigned cpu = 0; cpu < cpus; cpu++) {
            machine.this_cpu = cpu;
            regions.push_back(host_page_alloc());
            must(core_cpu_vmxon(regions.back()), "core_cpu_vmxon");
        }
        machine.this_cpu = 0;
        must(core_vm_create(&vm, &vm.core), "core_vm_create");
    }

    ~GuestMachine()
    {
        core_vm_stop_timers(vm.core);
        while (!vm.vcpus.empty())
            destroy_vcpu(*vm.vcpus.back());
        core_vm_destroy(vm.core);
        for (unsigned cpu = 0; cpu < regions.size(); cpu++) {
            machine.this_cpu = cpu;
            core_cpu_vmxoff();
            host_page_free(regions[cpu]);
        }
        core_hardware_unsetup();
    }

    host_vcpu &create_vcpu()
    {
        auto *vcpu = new host_vcpu;
        vcpu->vm = &vm;
        vcpu->area.run = static_cast<kvm_run *>(host_page_alloc());
        vcpu->area.pio_data = host_page_alloc();
        vm.vcpus.push_back(vcpu);
        const u32 id = static_cast<u32>(vm.vcpus.size() - 1);
        must(core_vcpu_create(vm.core, vcpu, &vcpu->area, id, &vcpu->core), "core_vcpu_create");
        return *vcpu;
    }

    void destroy_vcpu(host_vcpu &vcpu)
    {
        core_vcpu_destroy(vcpu.core);
        host_page_free(vcpu.area.run);
        host_page_free(vcpu.area.pio_data);
        std::erase(vm.vcpus, &vcpu);
        delete &vcpu;
    }

    /// The vCPU's VMCS as the simulated hardware holds it.
    sim::Vmcs &vmcs_of(host_vcpu &vcpu) { return machine.vmcs.at(to_vmx(vcpu.core).vmcs01.phys); }
    u64 field(host_vcpu &vcpu, u32 encoding) { return vmcs_of(vcpu).fields[encoding]; }

    int run(host_vcpu &vcpu)
    {
        core_vcpu_load(vcpu.core, machine.this_cpu);
        // What sleeps without host_let_sleep() is a violation.
        host_preempt_disable();
        vcpu.pinned = true;
        const int result = core_vcpu_run(vcpu.core);
        host_let_sleep(&vcpu);
        core_vcpu_put(vcpu.core);
        return result;
    }

    sim::Machine machine;
    Parameters params;
    host_vm vm;
    std::vector<void *> regions;

  private:
    static void must(int result, const char *what)
    {
        if (result != 0)
            throw std::runtime_error(std::string(what) + ": " + std::to_string(result) + "\n" +
                                     sim::Machine::current().log_text());
    }
};

/// Flat segments of 64-bit mode, with privilege level 0.
inline void flat_64bit_segments(kvm_sregs &sregs)
{
    for (kvm_segment *segment : {&sregs.ds, &sregs.es, &sregs.fs, &sregs.gs, &sregs.ss}) {
        *segment = {};
        segment->limit = ~0u;
        segment->selector = 0x10;
        segment->type = 3;
        segment->present = segment->db = segment->s = segment->g = 1;
    }
    sregs.cs = sregs.ds;
    sregs.cs.selector = 8;
    sregs.cs.type = 11;
    sregs.cs.db = 0;
    sregs.cs.l = 1;
}

} // namespace minivmx::test
