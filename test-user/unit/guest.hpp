// SPDX-License-Identifier: GPL-2.0-only
//
// One VM with one loaded vCPU on a simulated machine, for tests that act in the guest's place: they
// set its state, say which exit happened, and look at what the core made of it.
#pragma once

#include <minivmx/emulate.hpp>
#include <minivmx/ept.hpp>
#include <minivmx/guest_memory.hpp>
#include <minivmx/hardware.hpp>
#include <minivmx/memslot.hpp>
#include <minivmx/vcpu.hpp>
#include <minivmx/vm.hpp>

#include "sim/machine.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

namespace minivmx::test {

class Guest {
  public:
    using Tweak = std::function<void(sim::Machine &, Parameters &)>;

    explicit Guest(const std::string &profile = "corei7_haswell_4770", const Tweak &tweak = {},
                   bool irqchip = false)
        : machine{sim::cpu(profile)}
    {
        if (tweak)
            tweak(machine, parameters);
        EXPECT_EQ(core_hardware_setup(&parameters, &machine.host_info), 0) << machine.log_text();
        vmxon_region_ = host_page_alloc();
        core_init_vmx_region(vmxon_region_);
        machine.irqs_off = true;
        EXPECT_EQ(core_cpu_vmxon(vmxon_region_), 0);
        machine.irqs_off = false;
        EXPECT_EQ(core_vm_create(&vm_, &vm_.core), 0);
        if (irqchip) {
            EXPECT_EQ(core_create_irqchip(vm_.core), 0);
        }

        run_pages_ = std::aligned_alloc(4096, 2 * 4096);
        std::memset(run_pages_, 0, 2 * 4096);
        vcpu_.vm = &vm_;
        vcpu_.area.run = static_cast<kvm_run *>(run_pages_);
        vcpu_.area.pio_data = static_cast<char *>(run_pages_) + 4096;
        EXPECT_EQ(core_vcpu_create(vm_.core, &vcpu_, &vcpu_.area, 0, &vcpu_.core), 0);
        vm_.vcpus.push_back(&vcpu_);
        machine.preempt_count++;
        core_vcpu_load(vcpu_.core, 0);
        machine.preempt_count--;
    }

    ~Guest()
    {
        machine.preempt_count++;
        core_vcpu_put(vcpu_.core);
        machine.preempt_count--;
        vm_.vcpus.clear();
        core_vm_stop_timers(vm_.core);
        core_vcpu_destroy(vcpu_.core);
        core_vm_destroy(vm_.core);
        machine.irqs_off = true;
        core_cpu_vmxoff();
        machine.irqs_off = false;
        host_page_free(vmxon_region_);
        core_hardware_unsetup();
        EXPECT_TRUE(machine.pages.empty()) << machine.pages.size() << " pages are left";
        EXPECT_TRUE(machine.allocations.empty());
        std::free(run_pages_);
    }

    sim::Machine machine;
    Parameters parameters = default_parameters();

    host_vm &host() { return vm_; }
    vcpu_area &area() { return vcpu_.area; }
    kvm_vm &kvm() const { return to_kvm(vm_.core); }
    vcpu_vmx &vmx() const { return to_vmx(vcpu_.core); }
    kvm_run &run() const { return *vcpu_.area.run; }
    u8 *pio() const { return static_cast<u8 *>(vcpu_.area.pio_data); }
    u64 &reg(Gpr gpr) { return vcpu_.area.regs[gpr]; }

    // ---- Memory ----

    int set_region(u32 slot, u64 gpa, u64 size, u64 hva, u32 flags = 0) const
    {
        const kvm_userspace_memory_region region = {slot, flags, gpa, size, hva};
        return core_set_memory_region(vm_.core, &region);
    }
    /// New memory in a slot; returns where the owner has it.
    u64 add_ram(u32 slot, u64 gpa, u64 size, u32 flags = 0, u64 alignment = 4096)
    {
        const u64 hva = machine.add_user_memory(size, true, alignment);
        EXPECT_EQ(set_region(slot, gpa, size, hva, flags), 0);
        return hva;
    }
    /// Guest memory as the owner sees it.
    u8 *at(u64 gpa)
    {
        u32 hint = 0;
        const MemSlot *slot = kvm().slots.current->find(gpa >> 12, hint);
        if (slot == nullptr)
            throw std::runtime_error("no memory there");
        return reinterpret_cast<u8 *>(slot->hva_of_gfn(gpa >> 12) + (gpa & 0xfff));
    }
    template <class T>
    void poke(u64 gpa, T value)
    {
        std::memcpy(at(gpa), &value, sizeof(value));
    }
    void poke_bytes(u64 gpa, const std::vector<u8> &bytes)
    {
        for (const u8 byte : bytes)
            *at(gpa++) = byte;
    }
    template <class T>
    T peek(u64 gpa)
    {
        T value;
        std::memcpy(&value, at(gpa), sizeof(value));
        return value;
    }

    // ---- State, as an exit leaves it in the VMCS ----

    template <VmcsWidth width, class Value>
    void set(VmcsField<width, Value> field, u64 value)
    {
        machine.current_vmcs().fields[field.encoding] = value;
        vmx().state_available = 0;
    }
    template <VmcsWidth width, class Value>
    u64 get(VmcsField<width, Value> field)
    {
        return machine.current_vmcs().fields[field.encoding];
    }
    void set_control(u64 cr0, u64 cr3, u64 cr4, u64 efer)
    {
        vcpu_vmx &v = vmx();
        set(CR0_GUEST_HOST_MASK, 0);
        set(CR4_GUEST_HOST_MASK, 0);
        set(GUEST_CR0, cr0);
        set(GUEST_CR3, cr3);
        set(GUEST_CR4, cr4);
        set(CR0_READ_SHADOW, cr0);
        set(CR4_READ_SHADOW, cr4);
        set(GUEST_IA32_EFER, efer);
        v.cr0_guest_owned_bits = v.cr4_guest_owned_bits = ~u64{0};
        v.cr0 = cr0;
        v.cr3 = cr3;
        v.cr4 = cr4;
        v.efer = efer;
    }
    void set_segment(Segment segment, u64 base, u32 limit, u32 rights)
    {
        set(GUEST_ES_BASE + segment, base);
        set(GUEST_ES_LIMIT + segment, limit);
        set(GUEST_ES_AR_BYTES + segment, rights);
    }
    void set_segments(u64 base, u32 limit, u32 code_rights, u32 data_rights)
    {
        for (const Segment segment : {kEs, kSs, kDs, kFs, kGs})
            set_segment(segment, base, limit, data_rights);
        set_segment(kCs, base, limit, code_rights);
    }
    void set_rip(u64 rip)
    {
        set(GUEST_RIP, rip);
        vmx().state_dirty = 0;
    }
    u64 rip() { return read_rip(vmx()); }
    u64 rflags() { return read_rflags(vmx()); }

    // Modes, with flat segments.
    void real_mode(u64 ip)
    {
        set_control(X86_CR0_ET, 0, 0, 0);
        set_segments(0, 0xffff, 0x9b, 0x93);
        set(GUEST_RFLAGS, X86_EFLAGS_FIXED);
        set_rip(ip);
    }
    void protected_mode(u64 eip, u64 cr3 = 0, u64 cr4 = 0)
    {
        set_control(X86_CR0_PE | X86_CR0_ET | (cr3 ? X86_CR0_PG | X86_CR0_WP : 0), cr3, cr4, 0);
        set_segments(0, 0xffffffff, 0xc09b, 0xc093);
        set(GUEST_RFLAGS, X86_EFLAGS_FIXED);
        set_rip(eip);
    }
    void long_mode(u64 rip, u64 cr3)
    {
        set_control(X86_CR0_PE | X86_CR0_ET | X86_CR0_PG | X86_CR0_WP, cr3, X86_CR4_PAE,
                    EFER_LME | EFER_LMA | EFER_NX);
        set_segments(0, 0xffffffff, 0xa09b, 0xc093);
        set(GUEST_RFLAGS, X86_EFLAGS_FIXED);
        set_rip(rip);
    }
    void set_cpl(u32 cpl) { set(GUEST_SS_AR_BYTES, (get(GUEST_SS_AR_BYTES) & ~0x60u) | cpl << 5); }

    // ---- Exits ----

    /// An EPT violation; linear: its guest-linear address, if it has one.
    Outcome ept_violation(u64 gpa, u64 qualification, u64 linear = 0)
    {
        set(EXIT_QUALIFICATION, qualification);
        set(GUEST_LINEAR_ADDRESS, linear);
        set(GUEST_PHYSICAL_ADDRESS, gpa);
        vmx().exit_reason = EXIT_REASON_EPT_VIOLATION;
        vmx().idt_vectoring_info = 0;
        return handle_ept_violation(vmx(), gpa, EptViolationInfo::decode(qualification));
    }
    /// What the guest would be entered with; forgets it.
    ExceptionQueue take_exception()
    {
        const ExceptionQueue exception = vmx().exception;
        vmx().exception = {};
        return exception;
    }

  private:
    host_vm vm_;
    host_vcpu vcpu_;
    void *run_pages_ = nullptr;
    void *vmxon_region_ = nullptr;
};

// Exit qualifications of EPT violations.
inline constexpr u64 kEptViolationRead = 1, kEptViolationWrite = 2, kEptViolationFetch = 4,
                     kEptViolationReadable = 8, kEptViolationWritable = 16,
                     kEptViolationExecutable = 32, kEptViolationLinear = 0x180;

} // namespace minivmx::test
