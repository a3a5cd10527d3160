// SPDX-License-Identifier: GPL-2.0-only
//
// What the files of ioctl_test share. Every errno expected is the one that kvm_intel of Linux 6.1
// gives; where minivmx has to differ, the test says why.
#pragma once

#include "../common/guest.hpp"

DECLARE_GUEST(out_then_hlt);
DECLARE_GUEST(hlt_forever);

// An address no process of ours has mapped, and one of the kernel.
inline void *const kUnmapped = reinterpret_cast<void *>(0x10000);
constexpr uint64_t kKernelAddress = 0xffff888000000000;

// Runs a small guest in a VM that may already have slots (none below 2 MiB or with this number):
// whatever was refused before must have left the VM usable.
inline void expect_usable(kvm::Device &device, kvm::Vm &vm, uint32_t slot = 100,
                          unsigned long vcpu_id = 7)
{
    kvm::Memory memory(0x20000);
    memcpy(memory.base + G_CODE, guest_out_then_hlt, guest_out_then_hlt_end - guest_out_then_hlt);
    REQUIRE_OK(vm.set_slot(slot, 0, 0x20000, memory.base));
    {
        kvm::Vcpu vcpu(device, vm, vcpu_id);
        kvm_sregs s = vcpu.sregs();
        s.cs.base = s.cs.selector = 0;
        vcpu.set(s);
        kvm_regs r = {};
        r.rip = G_CODE;
        r.rflags = 2;
        vcpu.set(r);
        REQUIRE_OK(vcpu.enter());
        EXPECT_EQ(vcpu.run->exit_reason, KVM_EXIT_IO);
        EXPECT_EQ(vcpu.run->io.port, PORT_OUT);
        EXPECT_EQ(*vcpu.io_data(), 0x5a);
        REQUIRE_OK(vcpu.enter());
        EXPECT_EQ(vcpu.run->exit_reason, KVM_EXIT_HLT);
    }
    EXPECT_ERRNO(vm.set_slot(slot, 0, 0, nullptr), 0);
}
