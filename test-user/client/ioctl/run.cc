// SPDX-License-Identifier: GPL-2.0-only
//
// KVM_RUN where there is nothing to run.
#include "ioctl_test.hpp"

using namespace kvm;

TEST(run_without_memory)
{
    // The first instruction can't be fetched: an emulation failure. KVM does not get that far: it
    // sizes its page-table quota by the slots, and with none it answers -ENOSPC. minivmx has no
    // quota.
    if (test::options.reference() && !kvm::module_parameter("unrestricted_guest"))
        test::skip("what kvm_intel answers differs without EPT and without unrestricted guest");
    Device device;
    Vm vm(device);
    Vcpu vcpu(device, vm);
    Memory memory(kPage);
    if (test::options.reference()) {
        EXPECT_ERRNO(vcpu.enter(), ENOSPC);
        REQUIRE_OK(vm.set_slot(1, 0x10000000, kPage, memory.base));
    }
    REQUIRE_OK(vcpu.enter());
    EXPECT_EQ(vcpu.run->exit_reason, KVM_EXIT_INTERNAL_ERROR);
    EXPECT_EQ(vcpu.run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
    EXPECT_EQ(vcpu.regs().rip, 0xfff0);
    // #UD was queued as well. Its delivery needs the vector table, which is not there either: an
    // error again, whose kind KVM makes depend on whether it has cached that the address is MMIO.
    REQUIRE_OK(vcpu.enter());
    EXPECT_EQ(vcpu.run->exit_reason, KVM_EXIT_INTERNAL_ERROR);
    EXPECT(vcpu.run->internal.suberror == KVM_INTERNAL_ERROR_DELIVERY_EV ||
           vcpu.run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION);
    expect_usable(device, vm);
}

TEST(run_with_unmapped_slot)
{
    // A slot whose host memory is gone. KVM answers -EFAULT.
    Device device;
    Vm vm(device);
    Vcpu vcpu(device, vm);
    REQUIRE_OK(vm.set_slot(1, 0xfffff000, kPage, kUnmapped));
    if (kvm::module_parameter("unrestricted_guest")) {
        EXPECT_ERRNO(vcpu.enter(), EFAULT);
        EXPECT_ERRNO(vcpu.enter(), EFAULT);
    } else {
        // The instruction would be emulated, but there is none.
        REQUIRE_OK(vcpu.enter());
        EXPECT_EQ(vcpu.run->exit_reason, KVM_EXIT_INTERNAL_ERROR);
        EXPECT_EQ(vcpu.run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
    }
    expect_usable(device, vm);
}

TEST(run_at_unbacked_address)
{
    Device device;
    guest::Guest g(device, guest::Mode::kLong, BLOB(hlt_forever));
    kvm_regs r = g.vcpu.regs();
    r.rip = G_MMIO;
    g.vcpu.set(r);
    for (int i = 0; i < 2; i++) {
        REQUIRE_OK(g.vcpu.enter());
        EXPECT_EQ(g.vcpu.run->exit_reason, KVM_EXIT_INTERNAL_ERROR);
        EXPECT_EQ(g.vcpu.run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
        EXPECT_EQ(g.vcpu.regs().rip, G_MMIO);
        // Going on delivers #UD to the guest, whose handler returns to the same place.
        EXPECT_EQ(g.log_count(), i);
    }
    EXPECT_EQ(g.log(0).vector, 6);
    r.rip = G_CODE;
    g.vcpu.set(r);
    REQUIRE_OK(g.vcpu.enter());
    EXPECT_EQ(g.vcpu.run->exit_reason, KVM_EXIT_HLT);
}

TEST(failed_entry)
{
    // Guest state that the CPU refuses (a non-canonical FS base; Intel SDM Vol. 3C, 27.3.1.2):
    // FAIL_ENTRY with the exit reason, 33 and the failure bit, and the CPU. The vCPU is as usable
    // as before.
    Device device;
    guest::Guest g(device, guest::Mode::kLong, BLOB(hlt_forever));
    kvm_sregs s = g.vcpu.sregs();
    s.fs.base = 1ULL << 63;
    g.vcpu.set(s);
    for (int i = 0; i < 2; i++) {
        REQUIRE_OK(g.vcpu.enter());
        EXPECT_EQ(g.vcpu.run->exit_reason, KVM_EXIT_FAIL_ENTRY);
        EXPECT_EQ(g.vcpu.run->fail_entry.hardware_entry_failure_reason, 0x80000021);
        EXPECT(g.vcpu.run->fail_entry.cpu < static_cast<uint32_t>(sysconf(_SC_NPROCESSORS_ONLN)));
    }
    s.fs.base = 0;
    g.vcpu.set(s);
    REQUIRE_OK(g.vcpu.enter());
    EXPECT_EQ(g.vcpu.run->exit_reason, KVM_EXIT_HLT);
}

TEST(kvm_run_fields_after_exit)
{
    Device device;
    guest::Guest g(device, guest::Mode::kLong, BLOB(hlt_forever));
    g.vcpu.run->cr8 = 3;
    REQUIRE_OK(g.vcpu.enter());
    EXPECT_EQ(g.vcpu.run->exit_reason, KVM_EXIT_HLT);
    EXPECT_EQ(g.vcpu.run->cr8, 3);
    EXPECT_EQ(g.vcpu.run->if_flag, 0);
    EXPECT_EQ(g.vcpu.run->ready_for_interrupt_injection, 0);
    EXPECT_EQ(g.vcpu.run->apic_base, 0xfee00900);
    EXPECT_EQ(g.vcpu.run->flags, 0);
    EXPECT_EQ(g.vcpu.regs().rip, G_CODE + 1);
    g.enter_mode(g.vcpu, 0x202);
    g.vcpu.run->cr8 = 0;
    REQUIRE_OK(g.vcpu.enter());
    EXPECT_EQ(g.vcpu.run->if_flag, 1);
    EXPECT_EQ(g.vcpu.run->ready_for_interrupt_injection, 1);
    EXPECT_EQ(g.vcpu.run->cr8, 0);
}

TEST(immediate_exit)
{
    Device device;
    guest::Guest g(device, guest::Mode::kLong, BLOB(hlt_forever));
    g.vcpu.run->immediate_exit = 1;
    g.vcpu.run->exit_reason = 0xdead;
    EXPECT_ERRNO(g.vcpu.enter(), EINTR);
    EXPECT_EQ(g.vcpu.regs().rip, G_CODE);
    g.vcpu.run->immediate_exit = 0;
    REQUIRE_OK(g.vcpu.enter());
    EXPECT_EQ(g.vcpu.run->exit_reason, KVM_EXIT_HLT);
}
